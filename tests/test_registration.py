"""A second model under a name that Pyro's parameter store holds already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO
from pyro.optim import Adam
from torch import nn

from pyro_gen.models import PPCA, VAE, BernoulliMixture
from tests.models.public import PROGRAMS, TABLE

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


MODULES = [name for name in TABLE if name not in ("PCA", "BayesianRBM")]  # one has no programs, one an autoguide


def run(name: str, model: Any) -> None:
    """All programs of a model once, so that the store holds its parameters."""
    with torch.no_grad():
        for program in PROGRAMS:
            if hasattr(model, program):
                getattr(model, program)(*TABLE[name].rows(4))


def trained(name: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A model with parameters of its own, which the store holds, and their values."""
    pyro.clear_param_store()
    model = TABLE[name].make(10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    run(name, model)
    return model, {key: value.detach().clone() for key, value in model.named_parameters()}


def keeps(model: nn.Module, values: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(parameter, values[key]) for key, parameter in model.named_parameters())


def owns_the_store(model: nn.Module) -> bool:
    own = {id(parameter) for parameter in model.parameters()}
    return {id(parameter) for _, parameter in pyro.get_param_store().named_parameters()} == own


@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_a_loaded_store_reaches_the_module(name: str, look: bool, tmp_path: Path) -> None:
    pyro.set_rng_seed(0)
    model, values = trained(name)
    pyro.get_param_store().save(str(tmp_path / "store"))
    other = TABLE[name].make(10)
    for fresh in (other, model):  # another module, and the one whose parameters have moved on
        with torch.no_grad():
            for parameter in fresh.parameters():
                parameter.add_(1.0)
        pyro.clear_param_store()
        pyro.get_param_store().load(str(tmp_path / "store"))
        if look:
            assert len(list(pyro.get_param_store().items())) == len(values)
        run(name, fresh)
        assert keeps(fresh, values)
        assert owns_the_store(fresh)


@pytest.mark.parametrize("name", ["VAE", "PPCA", "BernoulliMixture"])
def test_a_state_that_is_set_reaches_the_module_and_is_not_shared(name: str) -> None:
    pyro.set_rng_seed(0)
    model, values = trained(name)
    state = pyro.get_param_store().get_state()
    pyro.clear_param_store()
    pyro.get_param_store().set_state(state)
    fresh = TABLE[name].make(10)
    run(name, fresh)
    assert keeps(fresh, values)
    assert owns_the_store(fresh)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1.0)
    assert keeps(model, values)


@pytest.mark.parametrize("alive", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_a_second_model_of_a_name_keeps_its_own_parameters(name: str, alive: bool) -> None:
    pyro.set_rng_seed(0)
    model, values = trained(name)
    pyro.get_param_store().get_state()  # a look that changes nothing
    held = [model] if alive else []
    del model
    second = TABLE[name].make(10)
    own = {key: value.detach().clone() for key, value in second.named_parameters()}
    run(name, second)
    assert keeps(second, own)
    assert owns_the_store(second)
    assert all(keeps(first, values) for first in held)


def test_loaded_parameters_of_another_shape_raise_and_change_nothing(tmp_path: Path) -> None:
    pyro.set_rng_seed(0)
    trained("PPCA")
    pyro.get_param_store().save(str(tmp_path / "store"))
    pyro.clear_param_store()
    pyro.get_param_store().load(str(tmp_path / "store"))
    wide = PPCA(4, 2, size=3)
    own = {key: value.detach().clone() for key, value in wide.named_parameters()}
    with pytest.raises(ValueError, match=r"'PPCA\$\$\$weight' in shape \(3, 1\), .* the module has shape \(4, 2\)"):
        wide.model(X)
    assert keeps(wide, own)
    assert len(pyro.get_param_store()) == 3
