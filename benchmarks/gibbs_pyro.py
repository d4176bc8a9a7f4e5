"""A sweep over the labels of a mixture in a plate, and a step for its means:
vectorised, one by one, marginalised.

The one-by-one loop does what a sampler that knows nothing of plates does: for
each element the log joint of the whole model in each of its states. Only some
elements are timed, as a part of a sweep. NumPyro's ``DiscreteGibbs`` does the
same, compiled. Pyro's own way sums the labels out and moves the means by a
gradient kernel; beside it stands a sweep of labels and a gradient step of the
means given them: HMC with eight steps of one length for both, since NUTS
chooses how much to do. What a draw is worth is another question, for
``benchmarks.evidence_gibbs``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import HMC, config_enumerate
from torch import Tensor

from benchmarks.timing import Contender, UnavailableError
from pyro_gen.infer import DiscreteGibbs, Gibbs

BASELINE = "naive"
CEILINGS: tuple[str, ...] = ()
GATE = ("tests/infer/mcmc/test_gibbs_transitions.py",)
SHAPES = ((10, 3, 1), (1000, 3, 1), (10_000, 3, 1), (100_000, 3, 1))
"""(elements, states, 1)"""
UNIT = "sweep"
JOB = None
SOME = 10
"""Elements that the loop updates in a call."""
WARMUP = 3
LONGEST = 10_000
"""Elements that NumPyro's sampler is timed on: its sweep is quadratic in them."""
RIVALS = {"pyro_gen, labels and HMC": "pyro, enumerated HMC", "pyro_gen": "numpyro DiscreteGibbs"}
GRADIENTS = partial(
    HMC, step_size=0.002, num_steps=8, adapt_step_size=False, adapt_mass_matrix=False
)


def work(elements: int, states: int, rows: int) -> dict[str, float]:
    """What one sweep does: an element's connection is that to its row of data."""
    return {"connection_updates": float(elements), "chain_steps": float(rows)}


def contenders(
    elements: int, states: int, rows: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""
    x, means = data(elements, states)
    labels = partial(mixture, states, means)
    yield "pyro_gen", lambda: sweep(Gibbs([(DiscreteGibbs(), ["z"])], labels), x)
    yield (
        "pyro_gen, modified",
        lambda: sweep(Gibbs([(DiscreteGibbs(modified=True), ["z"])], labels), x),
    )
    yield BASELINE, lambda: naive(labels, x, states)
    yield "numpyro DiscreteGibbs", lambda: numpyro_sweep(x, states, means)
    blocks = [(DiscreteGibbs(), ["z"]), (GRADIENTS, ["m"])]
    yield (
        "pyro_gen, labels and HMC",
        lambda: sweep(Gibbs(blocks, partial(mixture, states, None)), x),
    )
    yield "pyro, enumerated HMC", lambda: marginal(x, states)


def data(elements: int, states: int) -> tuple[Tensor, Tensor]:
    """Rows of a mixture of normals two standard deviations apart, and its means."""
    generator = torch.Generator().manual_seed(0)
    means = 2.0 * torch.arange(states)
    z = torch.randint(states, (elements,), generator=generator)
    return means[z] + torch.randn(elements, generator=generator), means


def mixture(states: int, means: Tensor | None, x: Tensor) -> None:
    """Labels in a plate, means fixed or sampled."""
    m = means
    if m is None:
        m = pyro.sample("m", dist.Normal(2.0 * torch.arange(states), 1.0).to_event(1))
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Categorical(torch.ones(states)))
        pyro.sample("x", dist.Normal(m[z], 1.0), obs=x)


def sweep(kernel: Gibbs, x: Tensor) -> Contender:
    """A draw of a kernel that has warmed up."""
    pyro.set_rng_seed(0)
    kernel.setup(WARMUP, x)
    return Contender(_stepping(kernel, kernel.initial_params))


def _stepping(kernel: Any, params: dict[str, Tensor]) -> Callable[[], object]:
    with pyro.validation_enabled(False):
        for _ in range(WARMUP):
            params = kernel.sample(params)
    state = {"params": params}

    def run() -> None:
        with pyro.validation_enabled(False):
            state["params"] = kernel.sample(state["params"])

    return run


def naive(model: Callable[[Tensor], None], x: Tensor, states: int) -> Contender:
    """Element by element, the whole log joint for every state."""
    z = torch.randint(states, (len(x),), generator=torch.Generator().manual_seed(1))
    count = min(SOME, len(x))

    @torch.no_grad()
    def run() -> None:
        with pyro.validation_enabled(False):
            for i in range(count):
                scores = []
                for k in range(states):
                    z[i] = k
                    trace = poutine.trace(poutine.condition(model, {"z": z})).get_trace(x)
                    scores.append(torch.as_tensor(trace.log_prob_sum()))
                z[i] = torch.distributions.Categorical(logits=torch.stack(scores)).sample()

    return Contender(run, units=count / len(x))


def marginal(x: Tensor, states: int) -> Contender:
    """Pyro's HMC with the labels summed out."""
    pyro.set_rng_seed(0)
    kernel = GRADIENTS(config_enumerate(partial(mixture, states, None)), max_plate_nesting=1)
    kernel.setup(WARMUP, x)
    return Contender(_stepping(kernel, kernel.initial_params))


def numpyro_sweep(x: Tensor, states: int, means: Tensor) -> Contender:
    """NumPyro's composable kernel: one coordinate after the other, compiled."""
    if len(x) > LONGEST:
        raise UnavailableError(f"a sweep over {len(x)} elements takes minutes")
    jax = import_module("jax")
    numpyro = import_module("numpyro")
    densities = import_module("numpyro.distributions")
    rows = jax.numpy.asarray(x.numpy())
    centres = jax.numpy.asarray(means.numpy())

    def model() -> None:
        with numpyro.plate("rows", len(x)):
            z = numpyro.sample("z", densities.Categorical(probs=jax.numpy.ones(states) / states))
            numpyro.sample("x", densities.Normal(centres[z], 1.0), obs=rows)

    kernel = import_module("numpyro.infer").DiscreteGibbs(model)
    state = kernel.init(jax.random.PRNGKey(0), 0, None, (), {})
    step = jax.jit(lambda state: kernel.sample(state, (), {}))
    found = {"state": step(state)}

    def run() -> None:
        found["state"] = jax.block_until_ready(step(found["state"]))

    return Contender(run)
