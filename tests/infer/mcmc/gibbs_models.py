"""Small models with discrete sites, all their states, and their distribution by Pyro's own log probability."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_gen.infer import DiscreteGibbs

Model = Callable[[], Any]
States = dict[str, Tensor]

torch.manual_seed(0)
TABLE = torch.randn(3, 4).double()
COUPLING = torch.randn(3, 3).double()
X = torch.tensor([0.3, -1.2, 2.0]).double()
NUMBERS = torch.tensor([0.2, 0.3, 0.5]).double()


def mixture() -> None:
    with pyro.plate("rows", 3):
        z = pyro.sample("z", dist.Categorical(NUMBERS))
        pyro.sample("x", dist.Normal(torch.tensor([-1.0, 0.5, 2.0]).double()[z], 1.0), obs=X)


def nested() -> None:
    with pyro.plate("columns", 2, dim=-1):
        a = pyro.sample("a", dist.Bernoulli(torch.tensor([0.3, 0.6]).double()))
        with pyro.plate("rows", 2, dim=-2):
            b = pyro.sample("b", dist.Bernoulli(torch.sigmoid(TABLE[:2, :2] + a)))
            pyro.sample("x", dist.Normal(a + 2 * b, 1.0), obs=X[:2, None] + TABLE[:2, :2])


def ising_chain() -> None:
    with pyro.plate("spins", 6):
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.4).double()))
    with pyro.plate("bonds", 5):
        pyro.factor("energy", 0.8 * (2 * z[1:] - 1) * (2 * z[:-1] - 1))


def ring_inside_the_plate() -> None:
    with pyro.plate("spins", 5):
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.4).double()))
        pyro.factor("energy", 0.8 * (2 * z - 1) * (2 * z.roll(1) - 1))


def sum_over_the_plate() -> None:
    with pyro.plate("coins", 5):
        z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]).double()))
    pyro.sample("x", dist.Normal(z.sum(), 0.5), obs=torch.tensor(2.0).double())


def half_coupled() -> None:
    with pyro.plate("columns", 2, dim=-1):
        with pyro.plate("rows", 3, dim=-2):
            z = pyro.sample("z", dist.Bernoulli(torch.sigmoid(TABLE[:, :2])))
        pyro.sample("x", dist.Normal(z.sum(-2), 0.7), obs=torch.tensor([1.0, 2.5]).double())


def parents() -> None:
    first = pyro.sample("z1", dist.Categorical(NUMBERS))
    second = pyro.sample("z2", dist.Categorical(logits=TABLE[first]))
    third = pyro.sample("z3", dist.Binomial(2, torch.sigmoid(COUPLING.flatten()[second])))
    pyro.sample("x", dist.Normal(third + first, 1.0), obs=torch.tensor(2.0).double())


def unequal_counts() -> None:
    with pyro.plate("rows", 3):
        z = pyro.sample("z", dist.Binomial(torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor(0.4).double()))
        pyro.sample("x", dist.Normal(z, 1.0), obs=X)


def masked_counts() -> None:
    mask = cast(torch.BoolTensor, torch.tensor([True, False, True]))
    with pyro.plate("rows", 3):
        with poutine.mask(mask=mask):  # no preference in the second row, but no more than its count either
            z = pyro.sample("z", dist.Binomial(torch.tensor([3.0, 1.0, 2.0]).double(), torch.tensor(0.4).double()))
        pyro.sample("x", dist.Normal(z, 1.0), obs=X)


def undefined_outside() -> None:
    counts = torch.tensor([1.0, 2.0, 3.0]).double()
    with pyro.plate("rows", 3):
        z = pyro.sample("z", dist.Binomial(counts, torch.tensor(0.4).double()))
        pyro.sample("x", dist.Normal(0.0, (counts - z + 0.5).sqrt()), obs=X)  # NaN where z is above its count


def moving_count() -> None:
    n = pyro.sample("n", dist.Categorical(torch.ones(5).double()))
    z = pyro.sample("z", dist.Binomial(n.double() + 1, torch.tensor(0.4).double()))
    pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.5).double())


def one_hot() -> None:
    with pyro.plate("rows", 2):
        z = pyro.sample("z", dist.OneHotCategorical(logits=TABLE[:2, :3]))
        pyro.sample("x", dist.Normal(z @ X, 1.0), obs=X[:2])


def event() -> None:
    with pyro.plate("rows", 2):
        z = pyro.sample("z", dist.Bernoulli(torch.sigmoid(TABLE[:2, :3])).to_event(1))
        pyro.sample("x", dist.Normal((z @ COUPLING[:3, 0]).exp(), 1.0), obs=X[:2])


def unplated() -> None:
    z = pyro.sample("z", dist.Bernoulli(torch.sigmoid(X)))
    pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=torch.tensor(2.0).double())


def scaled_and_masked() -> None:
    mask = cast(torch.BoolTensor, torch.tensor([True, False, True]))
    with pyro.plate("rows", 3):
        with poutine.scale(scale=0.5):
            z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.3).double()))
        with poutine.mask(mask=mask), poutine.scale(scale=2.0):
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor([0.5, torch.nan, 1.0]).double())
        pyro.deterministic("twice", 2 * z)


def changed_point() -> None:
    t = pyro.sample("t", dist.Categorical(torch.ones(6).double()))
    rate = torch.where(torch.arange(6) < t, 1.0, 4.0).double()
    with pyro.plate("years", 6):
        pyro.sample("x", dist.Poisson(rate), obs=torch.tensor([0.0, 2, 1, 5, 3, 4]).double())


def stops_provenance() -> None:
    with pyro.plate("coins", 4):
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.4).double()))
        pyro.factor("parity", torch.tensor(1.5 * (int(z.sum()) % 2)).double().expand(4))


MODELS: dict[str, tuple[Model, tuple[int, ...] | None]] = {
    # Each with the free dimensions that the plan of its last site must find.
    "mixture": (mixture, (-1,)),
    "nested plates": (nested, (-2, -1)),
    "Ising chain": (ising_chain, ()),
    "ring inside the plate": (ring_inside_the_plate, ()),
    "sum over the plate": (sum_over_the_plate, ()),
    "one of two plates coupled": (half_coupled, (-1,)),
    "parents": (parents, ()),
    "unequal counts": (unequal_counts, (-1,)),
    "masked counts": (masked_counts, (-1,)),
    "undefined outside of the support": (undefined_outside, (-1,)),
    "moving count": (moving_count, ()),
    "one-hot": (one_hot, (-1,)),
    "event": (event, (-1,)),
    "batch without a plate": (unplated, ()),
    "scaled and masked": (scaled_and_masked, (-1,)),
    "change point": (changed_point, ()),
    "provenance lost": (stops_provenance, ()),
}


def latents(model: Model) -> dict[str, Mapping[str, Any]]:
    sites = poutine.trace(model).get_trace().nodes
    return {
        name: site
        for name, site in sites.items()
        if site["type"] == "sample"
        and not site["is_observed"]
        and name not in ("rows", "columns", "spins", "bonds", "coins", "years")
    }


def cells(site: Mapping[str, Any], model: Model) -> list[Tensor]:
    """All values of a site, every cell through its states, by what the test knows of the distributions."""
    distribution = site["fn"].base_dist if isinstance(site["fn"], dist.Independent) else site["fn"]
    value = site["value"]
    if isinstance(distribution, dist.OneHotCategorical):
        rows = torch.eye(value.shape[-1]).double()
        return [torch.stack(choice) for choice in itertools.product(rows, repeat=len(value))]
    if isinstance(distribution, dist.Categorical):
        numbers = range(distribution.probs.shape[-1])
    elif isinstance(distribution, dist.Binomial):
        numbers = range(6 if model is moving_count else int(vars(site["fn"])["total_count"].max()) + 1)
    else:
        numbers = range(2)
    return [torch.tensor(c).to(value).view(value.shape) for c in itertools.product(numbers, repeat=value.numel())]


def enumerate_distribution(model: Model) -> tuple[list[States], Tensor]:
    """Every state of positive probability and its probability: Pyro's own log_prob_sum, nothing of pyro_gen."""
    sites = latents(model)
    found, scores = [], []
    with pyro.validation_enabled(False):
        for choice in itertools.product(*(cells(site, model) for site in sites.values())):
            state = dict(zip(sites, choice, strict=True))
            trace = poutine.trace(poutine.condition(model, data=state)).get_trace()
            counts = [s for s in trace.nodes.values() if isinstance(s.get("fn"), dist.Binomial)]
            if all((s["value"] <= vars(s["fn"])["total_count"]).all() for s in counts):
                found.append(state)
                scores.append(trace.log_prob_sum())
    distribution = torch.stack([torch.as_tensor(score).double() for score in scores]).softmax(0)
    return found, distribution


def code(state: Mapping[str, Tensor]) -> tuple[float, ...]:
    return tuple(float(v) for name in sorted(state) for v in state[name].flatten())


KERNELS = {
    "Gibbs": partial(DiscreteGibbs),
    "modified": partial(DiscreteGibbs, modified=True),
    "random walk": partial(DiscreteGibbs, random_walk=True),
    "modified random walk": partial(DiscreteGibbs, random_walk=True, modified=True),
}
