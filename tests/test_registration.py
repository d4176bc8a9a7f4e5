"""A second model under a name that Pyro's parameter store holds already."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.optim import Adam

from pyro_gen.models import PPCA, VAE, BernoulliMixture

X = torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
Pair = VAE | BernoulliMixture | PPCA
PAIRS: dict[str, Callable[[], Pair]] = {
    "VAE": lambda: VAE(4, 2, size=3),
    "BernoulliMixture": lambda: BernoulliMixture(2, 4, 3),
    "PPCA": lambda: PPCA(4, 2, size=3),
}


def step(pair: Pair, svi: dict[Pair, SVI]) -> bool:
    """One step; whether every parameter of the pair has moved."""
    before = [p.detach().clone() for p in pair.parameters()]
    svi[pair].step(X)
    return all(not torch.equal(old, new) for old, new in zip(before, pair.parameters(), strict=True))


@pytest.mark.parametrize("name", PAIRS)
def test_of_two_models_in_turn_each_learns_by_itself(name: str) -> None:
    pyro.set_rng_seed(0)
    loss = TraceEnum_ELBO(max_plate_nesting=1) if name == "BernoulliMixture" else Trace_ELBO()
    pairs = [PAIRS[name](), PAIRS[name]()]
    svi = {pair: SVI(pair.model, pair.guide, Adam({"lr": 0.01}), loss) for pair in pairs}
    for pair in pairs * 2:
        idle = [p.detach().clone() for other in pairs if other is not pair for p in other.parameters()]
        assert step(pair, svi)
        after = [p for other in pairs if other is not pair for p in other.parameters()]
        assert all(torch.equal(old, new) for old, new in zip(idle, after, strict=True))
