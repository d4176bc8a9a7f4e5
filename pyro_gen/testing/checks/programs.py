"""Checks inside Pyro programs: masks, plates, particles, enumeration, prediction, inspection."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from typing import Any, Literal, cast

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO, TraceEnum_ELBO, infer_discrete
from pyro.infer.inspect import get_dependencies, get_model_relations
from torch import Tensor

from pyro_gen.testing.case import Case, Inapplicable, check, require, require_close, support_of
from pyro_gen.testing.checks.distributions import trailing_batch
from pyro_gen.testing.checks.sampling import reject
from pyro_gen.testing.checks.shapes import build_at
from pyro_gen.testing.enumeration import state_index

UNIFORM = dist.Categorical(logits=torch.zeros(3, dtype=torch.float64))


def joint_log_prob(program: Callable[[], object]) -> Tensor:
    """Run a program and sum its scaled and masked log probabilities."""
    return torch.as_tensor(poutine.trace(program).get_trace().log_prob_sum())


def no_guide(*args: object) -> None:
    """A guide without latent variables."""


def potential(value: Tensor, event_dim: int) -> Tensor:
    """Map each event to a number, no two alike, to make other variables depend on it."""
    flat = value.reshape(*value.shape[: value.dim() - event_dim], -1).double()
    powers = 1.7 ** torch.arange(flat.shape[-1], dtype=torch.float64)
    return (flat * powers).sum(-1) - 1


@check
def check_mask(case: Case) -> None:
    """Masked batch elements count nothing, by `.mask`, by `poutine.mask` and by `obs_mask`."""
    mask = cast(torch.BoolTensor, torch.tensor([True, False, True]))
    for d in (case.distribution((3,)), case.distribution()):
        value = case.distribution((3,)).sample()
        expected = d.log_prob(value) * mask
        require_close(d.mask(mask).log_prob(value), expected, "log_prob after .mask")

        def program(
            d: dist.TorchDistribution = d,
            value: Tensor = value,
            obs_mask: torch.BoolTensor | None = None,
        ) -> Tensor:
            with pyro.plate("data", 3):
                return pyro.sample("v", d, obs=value, obs_mask=obs_mask)

        masked = joint_log_prob(poutine.mask(program, mask=mask))
        require_close(masked, expected.sum(), "poutine.mask")
        partial = program(obs_mask=mask)
        require(
            torch.equal(partial[mask], value[mask]),
            "obs_mask does not keep what is observed",
        )
        require(support_of(d).check(partial).all(), "obs_mask draws outside the support")


@check
def check_plates(case: Case) -> None:
    """Subsampled and nested plates scale and broadcast."""
    d = case.distribution()
    index = torch.tensor([1, 4])
    data = d.sample((6,))
    grid = d.sample((3, 2))

    def subsampled() -> None:
        with pyro.plate("data", 6, subsample=index):
            pyro.sample("v", d, obs=data[index])

    def nested() -> None:
        columns = pyro.plate("columns", 4, dim=-1, subsample=index[:1])
        with columns, pyro.plate("rows", 3, dim=-2):
            require(
                pyro.sample("drawn", d).shape == (3, 1, *d.event_shape),
                "a draw in nested plates has another shape",
            )
            pyro.sample("v", d, obs=grid[:, :1])

    expected = 3 * d.log_prob(data[index]).sum()
    require_close(joint_log_prob(subsampled), expected, "a subsampled plate")
    trace = poutine.trace(nested).get_trace()
    trace.compute_log_prob()
    expected = 4 * d.log_prob(grid[:, 0]).sum()
    require_close(trace.nodes["v"]["log_prob_sum"], expected, "nested plates")


def mixture_components(case: Case) -> list[dist.TorchDistribution]:
    """Build the three components of `mixture` and `classifier` one by one, without a batch."""
    parameters = case.tensors((3,))
    return [build_at(case, parameters, i) for i in range(3)]


def data_log_probs(case: Case, data: Tensor) -> Tensor:
    """Compute the log probability of data under each component of `mixture`, (3,)."""
    return torch.stack([d.log_prob(data).sum() for d in mixture_components(case)])


def mixture(
    case: Case,
    data: Tensor,
    enumerate_z: Literal["parallel", "sequential"] | None,
) -> Callable[[], Tensor]:
    """Write a program that draws one of three components, and data from it."""
    parameters = case.tensors((3,))

    def program() -> Tensor:
        z = pyro.sample("z", UNIFORM, infer={"enumerate": enumerate_z} if enumerate_z else None)
        with pyro.plate("data", len(data)):
            pyro.sample("v", build_at(case, parameters, z), obs=data)
        return z

    return program


@check
def check_particles(case: Case) -> None:
    """Parameters that depend on a latent variable serve vectorised particles."""
    data = case.distribution().sample((5,))
    draws = []

    def guide() -> None:
        draws.append(pyro.sample("z", UNIFORM))

    elbo = Trace_ELBO(num_particles=7, vectorize_particles=True, max_plate_nesting=1)
    loss = elbo.loss(mixture(case, data, None), guide)
    require(draws[-1].numel() == 7, "the particles were not vectorised")
    require_close(
        torch.tensor(loss, dtype=torch.float64),
        -data_log_probs(case, data)[draws[-1]].mean(),
        "the loss of vectorised particles",
    )


@check
def check_mixture(case: Case) -> None:
    """Parameters that depend on an enumerated latent variable give the exact marginal."""
    data = case.distribution().sample((5,))
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    loss = elbo.loss(mixture(case, data, "parallel"), no_guide)
    require_close(
        torch.tensor(loss, dtype=torch.float64),
        -(data_log_probs(case, data).logsumexp(0) - math.log(3)),
        "the loss",
    )


def noisy(d: dist.TorchDistribution, size: int) -> Callable[[], Tensor]:
    """Write a program with an enumerated site in a plate, seen through one coin each."""

    def program() -> Tensor:
        with pyro.plate("data", size):
            v = pyro.sample("v", d, infer={"enumerate": "parallel"})
            coin = dist.Bernoulli(logits=potential(v, d.event_dim))
            pyro.sample("y", coin, obs=torch.ones(size, dtype=torch.float64))
        return v

    return program


def require_enumerable(case: Case) -> None:
    """Raise `Inapplicable` for a distribution that cannot be enumerated."""
    if not case.distribution().has_enumerate_support:
        raise Inapplicable(f"{case.name} has no enumerate_support")


@check
def check_enumeration(case: Case) -> None:
    """An enumerated site gives the exact marginal likelihood of what depends on it."""
    require_enumerable(case)
    for d in (case.distribution(), case.distribution((3,))):
        loss = TraceEnum_ELBO(max_plate_nesting=1).loss(noisy(d, 3), no_guide)
        exact = noisy_posterior(case, d).logsumexp(0).expand(3).sum()
        value = torch.tensor(loss, dtype=torch.float64)
        require_close(value, -exact, "the loss under enumeration")


def noisy_posterior(case: Case, d: dist.TorchDistribution) -> Tensor:
    """Compute log p(v, y = 1) for all states v, (n,) + batch_shape, in the program `noisy`."""
    states = trailing_batch(case.states(), d.batch_shape)
    logits = potential(states, d.event_dim)
    return case.log_probs(d) + torch.nn.functional.logsigmoid(logits)


def classifier(case: Case, data: Tensor) -> Callable[[], Tensor]:
    """Write a program that draws for each row one of three components, and the row from it."""
    parameters = case.tensors((3,))

    def program() -> Tensor:
        with pyro.plate("data", len(data)):
            z = pyro.sample("z", UNIFORM, infer={"enumerate": "parallel"})
            pyro.sample("v", build_at(case, parameters, z), obs=data)
        return z

    return program


def check_posterior(
    program: Callable[[int], Callable[[], Tensor]], log_joint: Tensor, num_samples: int
) -> None:
    """Compare `infer_discrete` on rows that are all alike with the posterior of one row."""
    best = infer_discrete(program(2), first_available_dim=-2, temperature=0)()
    require((best == log_joint.argmax()).all(), "infer_discrete misses the most probable state")
    draws = infer_discrete(program(num_samples), first_available_dim=-2)()
    reject(
        [
            (
                "infer_discrete",
                torch.bincount(draws, minlength=len(log_joint)),
                log_joint.detach().softmax(0),
            )
        ]
    )


@check
def check_infer_discrete(case: Case, num_samples: int = 5_000) -> None:
    """`infer_discrete` draws from the exact posterior, and finds its maximum at temperature 0.

    The posterior is that of a component given what the component generated and, for
    scalar events, also that of the distribution's own value: Pyro's `infer_discrete`
    (1.9.2) cannot gather enumerated values with event dimensions.
    """
    value = case.distribution().sample()
    rows = value.expand(num_samples, *value.shape)
    by_component = torch.stack([d.log_prob(value) for d in mixture_components(case)])
    check_posterior(lambda n: classifier(case, rows[:n]), by_component, num_samples)
    d = case.distribution()
    if d.has_enumerate_support and not d.event_dim:
        states = case.states()
        check_posterior(
            lambda n: lambda: state_index(noisy(d, n)(), states),
            noisy_posterior(case, d),
            num_samples,
        )


@check
def check_predictive(case: Case) -> None:
    """`Predictive` draws samples of the right shape, in parallel and one by one."""
    for d in case.distributions():
        for parallel in (False, True):

            def model(d: dist.TorchDistribution = d) -> Tensor:
                return pyro.sample("v", d.to_event())

            v = Predictive(model, num_samples=40, parallel=parallel)()["v"]
            require(
                v.shape == (40, *d.batch_shape, *d.event_shape),
                f"Predictive gives shape {tuple(v.shape)}",
            )
            require((v != v[:1]).any(), "Predictive gives the same sample every time")


def chain(case: Case) -> Callable[[], None]:
    """Write a program in which z decides v, and v decides y, which is observed."""
    parameters = case.tensors()

    def program() -> None:
        zero = torch.zeros((), dtype=torch.float64)
        z = pyro.sample("z", dist.Normal(zero, 1.0))
        shifted = dict(parameters)
        for name, x in parameters.items():
            if x.is_floating_point():
                shifted[name] = x + 0 * z
        v = pyro.sample("v", case.build(**shifted, validate_args=True))
        loc = potential(v, case.distribution().event_dim)
        pyro.sample("y", dist.Normal(loc, 1.0), obs=torch.zeros(()))

    return program


@check
def check_inspect(case: Case) -> None:
    """`pyro.infer.inspect` sees what depends on what."""
    prior: Any = get_dependencies(chain(case))["prior_dependencies"]
    require(
        set(prior["v"]) == {"v", "z"},
        f"v is found to depend on {sorted(prior['v'])}, not on v and z",
    )
    require(
        set(prior["y"]) == {"v", "y"},
        f"y is found to depend on {sorted(prior['y'])}, not on v and y",
    )
    relations: dict[str, Any] = get_model_relations(chain(case))
    require(
        relations["sample_sample"] == {"z": [], "v": ["z"], "y": ["v"]},
        f"found {relations['sample_sample']}",
    )
    name = type(case.distribution()).__name__
    require(
        relations["sample_dist"]["v"] == name,
        f"the site's distribution is {relations['sample_dist']['v']}",
    )


@check
def check_render_model(case: Case) -> None:
    """`pyro.render_model` draws the program, where the `graphviz` package is installed."""
    if importlib.util.find_spec("graphviz") is None:
        raise Inapplicable("the `graphviz` package is not installed")
    source = pyro.render_model(chain(case), render_distributions=True).source
    for part in ("z -> v", "v -> y", type(case.distribution()).__name__):
        require(part in source, f"the drawing lacks {part!r}")
