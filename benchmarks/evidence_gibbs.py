"""Gibbs kernels against exact posteriors, beside NumPyro's on the same models:
estimates, error bars, ESS a second.

    python -m benchmarks.evidence_gibbs --json benchmarks/results/evidence/gibbs_pyro.json

Three models: a mixture of two normals (labels, means, scale; exact by a grid
with the labels summed out), a change point in Poisson counts (exact: the rates
integrate out) and an Ising ring (exact by its 2^10 states). NumPyro's lines are
left out where it is not installed. Times are of the processor, after set-up and
compilation.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS, config_enumerate
from torch import Tensor

from benchmarks.machine import describe
from pyro_gen._files import json_text, replacing
from pyro_gen.infer import CustomGibbs, DiscreteGibbs, Gibbs, expectation

Draws = Mapping[str, Tensor]
Run = Callable[[int, int], tuple[Draws, float]]

generator = torch.Generator().manual_seed(0)
ROWS = torch.cat(
    [torch.randn(12, generator=generator) - 1, torch.randn(18, generator=generator) + 1.5]
)
COUNTS = torch.cat(
    [
        torch.poisson(torch.full((25,), 3.0), generator),
        torch.poisson(torch.full((35,), 1.2), generator),
    ]
)
SPINS = 10
BETA = 0.4
FIELD = 0.2


def mixture(x: Tensor) -> None:
    """Ordered by the priors: means of -1 and 1.5, one scale."""
    m = pyro.sample("m", dist.Normal(torch.tensor([-1.0, 1.5]), 1.0).to_event(1))
    s = pyro.sample("s", dist.LogNormal(0.0, 0.3))
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.4, 0.6])))
        pyro.sample("x", dist.Normal(m[z], s), obs=x)


def mixture_exact() -> dict[str, float]:
    """E[m_0], E[m_1], E[s] on a grid."""
    axes = [
        torch.linspace(a, b, n).double()
        for a, b, n in ((-3, 1, 160), (0, 3, 160), (0.4, 2.2, 120))
    ]
    first, second, scale = torch.meshgrid(*axes, indexing="ij")
    log_distribution = dist.Normal(-1.0, 1.0).log_prob(first) + dist.Normal(1.5, 1.0).log_prob(
        second
    )
    log_distribution = log_distribution + dist.LogNormal(0.0, 0.3).log_prob(scale)
    for value in ROWS.double():
        left = math.log(0.4) + dist.Normal(first, scale).log_prob(value)
        log_distribution = log_distribution + torch.logaddexp(
            left, math.log(0.6) + dist.Normal(second, scale).log_prob(value)
        )
    weight = log_distribution.flatten().softmax(0).view(log_distribution.shape)
    return {
        n: float((weight * v).sum()) for n, v in (("m[0]", first), ("m[1]", second), ("s", scale))
    }


def change_point(x: Tensor) -> None:
    """Rates before and after an unknown year."""
    rates = pyro.sample("rates", dist.Gamma(torch.tensor([2.0, 2.0]), 1.0).to_event(1))
    t = pyro.sample("t", dist.Categorical(torch.ones(len(x))))
    late = (torch.arange(len(x)) >= t).long()
    with pyro.plate("years", len(x)):
        pyro.sample("x", dist.Poisson(rates[late]), obs=x)


def draw_rates(values: Draws, x: Tensor) -> Tensor:
    """The conjugate full conditional."""
    late = torch.arange(len(x)) >= values["t"]
    total = torch.stack([x[~late].sum(), x[late].sum()])
    years = torch.stack([(~late).sum(), late.sum()])
    return dist.Gamma(2 + total, 1.0 + years).sample()


def change_point_exact() -> dict[str, float]:
    """E[t], and P(t = 25): the rates integrate out to gamma functions."""
    scores = []
    for t in range(len(COUNTS)):
        parts = (COUNTS[:t].double(), COUNTS[t:].double())
        scores.append(
            sum(
                float(torch.lgamma(2 + p.sum()) - (2 + p.sum()) * math.log1p(len(p)))
                for p in parts
            )
        )
    distribution = torch.tensor(scores).double().softmax(0)
    return {
        "t": float((distribution * torch.arange(len(COUNTS))).sum()),
        "t is 25": float(distribution[25]),
    }


def ring() -> None:
    """Spins on a ring, coupled inside of one plate."""
    with pyro.plate("spins", SPINS):
        z = pyro.sample("z", dist.Bernoulli(logits=torch.tensor(2 * FIELD)))
        spins = 2 * z - 1
        pyro.factor("energy", BETA * spins * spins.roll(1, -1))


def ring_exact() -> dict[str, float]:
    """Mean spin and mean product of neighbours from all states."""
    spins = 2 * (torch.arange(2**SPINS).unsqueeze(-1) >> torch.arange(SPINS) & 1).double() - 1
    pairs = (spins * spins.roll(1, -1)).mean(-1)
    distribution = (FIELD * spins.sum(-1) + BETA * SPINS * pairs).softmax(0)
    return {
        "spin": float((distribution * spins.mean(-1)).sum()),
        "pair": float((distribution * pairs).sum()),
    }


def ours(kernel: Gibbs, *args: Tensor) -> Run:
    """Draws of a kernel of this project, (chain, draw, ...), and seconds."""

    def run(warmup: int, draws: int) -> tuple[Draws, float]:
        start = [0.0]

        def hook(_kernel: Any, _params: Any, stage: str, i: int) -> None:
            if stage.startswith("Warmup") and i == warmup - 1:
                start[0] = time.process_time()

        mcmc = MCMC(kernel, draws, warmup, hook_fn=hook, disable_progbar=True)
        mcmc.run(*args)
        seconds = time.process_time() - start[0]
        found = mcmc.get_samples(group_by_chain=True)
        return {
            name: v[0].transpose(0, 1) if kernel.num_chains else v for name, v in found.items()
        }, seconds

    return run


def enumerated(x: Tensor) -> Run:
    """Pyro's NUTS with the labels summed out."""

    def run(warmup: int, draws: int) -> tuple[Draws, float]:
        kernel = NUTS(config_enumerate(mixture), max_plate_nesting=1)
        pyro.set_rng_seed(1)
        start = [0.0]

        def hook(_kernel: Any, _params: Any, stage: str, i: int) -> None:
            if stage.startswith("Warmup") and i == warmup - 1:
                start[0] = time.process_time()

        mcmc = MCMC(kernel, draws, warmup, hook_fn=hook, disable_progbar=True)
        mcmc.run(x)
        return mcmc.get_samples(group_by_chain=True), time.process_time() - start[0]

    return run


def theirs(name: str) -> Run:
    """NumPyro's ``Gibbs`` on the same model; its draws are warmed up and compiled
    before the clock starts.
    """
    import_module("numpyro")

    def run(warmup: int, draws: int) -> tuple[Draws, float]:
        jax = import_module("jax")
        infer = import_module("numpyro.infer")
        model, arguments = THEIRS[name]()
        if name == "mixture":
            kernel = infer.Gibbs(
                [(infer.DiscreteGibbs(model), ["z"]), (infer.NUTS(model), ["m", "s"])]
            )
        elif name == "change point":
            kernel = infer.Gibbs(
                [(infer.DiscreteGibbs(model), ["t"]), (infer.NUTS(model), ["rates"])]
            )
        else:
            kernel = infer.DiscreteGibbs(model)
        mcmc = infer.MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)
        mcmc.warmup(jax.random.PRNGKey(0), *arguments)
        mcmc.run(jax.random.PRNGKey(1), *arguments)  # compiles
        start = time.process_time()
        mcmc.run(jax.random.PRNGKey(2), *arguments)
        seconds = time.process_time() - start
        found = mcmc.get_samples(group_by_chain=True)
        return {
            site: torch.tensor(jax.device_get(value).tolist()) for site, value in found.items()
        }, seconds

    return run


def _their_mixture() -> tuple[Callable[..., None], tuple[Any, ...]]:
    numpyro = import_module("numpyro")
    densities = import_module("numpyro.distributions")
    jnp = import_module("jax.numpy")

    def model(x: Any) -> None:
        m = numpyro.sample("m", densities.Normal(jnp.array([-1.0, 1.5]), 1.0).to_event(1))
        s = numpyro.sample("s", densities.LogNormal(0.0, 0.3))
        with numpyro.plate("rows", len(ROWS)):
            z = numpyro.sample("z", densities.Categorical(probs=jnp.array([0.4, 0.6])))
            numpyro.sample("x", densities.Normal(m[z], s), obs=x)

    return model, (jnp.asarray(ROWS.numpy()),)


def _their_change_point() -> tuple[Callable[..., None], tuple[Any, ...]]:
    numpyro = import_module("numpyro")
    densities = import_module("numpyro.distributions")
    jnp = import_module("jax.numpy")

    def model(x: Any) -> None:
        rates = numpyro.sample("rates", densities.Gamma(jnp.array([2.0, 2.0]), 1.0).to_event(1))
        t = numpyro.sample("t", densities.Categorical(probs=jnp.ones(len(COUNTS)) / len(COUNTS)))
        late = (jnp.arange(len(COUNTS)) >= t).astype(int)
        with numpyro.plate("years", len(COUNTS)):
            numpyro.sample("x", densities.Poisson(rates[late]), obs=x)

    return model, (jnp.asarray(COUNTS.numpy()),)


def _their_ring() -> tuple[Callable[..., None], tuple[Any, ...]]:
    numpyro = import_module("numpyro")
    densities = import_module("numpyro.distributions")
    jnp = import_module("jax.numpy")

    def model() -> None:
        with numpyro.plate("spins", SPINS):
            z = numpyro.sample("z", densities.Bernoulli(logits=2 * FIELD))
            spins = 2 * z - 1
            numpyro.factor("energy", BETA * spins * jnp.roll(spins, 1))

    return model, ()


THEIRS = {"mixture": _their_mixture, "change point": _their_change_point, "ring": _their_ring}


def quantities(name: str, draws: Draws) -> dict[str, Tensor]:
    """What is estimated, (chain, draw)."""
    if name == "mixture":
        return {"m[0]": draws["m"][..., 0], "m[1]": draws["m"][..., 1], "s": draws["s"]}
    if name == "change point":
        return {"t": draws["t"].double(), "t is 25": (draws["t"] == 25).double()}
    spins = 2 * draws["z"].double() - 1
    return {"spin": spins.mean(-1), "pair": (spins * spins.roll(1, -1)).mean(-1)}


def contenders() -> Iterator[tuple[str, str, Callable[[], Run]]]:
    """Model, sampler, and what makes it."""
    labels = (DiscreteGibbs(), ["z"])
    yield (
        "mixture",
        "pyro_gen: DiscreteGibbs + NUTS",
        lambda: ours(Gibbs([labels, (NUTS, ["m", "s"])], mixture), ROWS),
    )
    yield "mixture", "pyro: NUTS, labels summed out", lambda: enumerated(ROWS)
    yield "mixture", "numpyro: DiscreteGibbs + NUTS", lambda: theirs("mixture")
    conjugate = [(DiscreteGibbs(), ["t"]), (CustomGibbs(draw_rates), ["rates"])]
    yield (
        "change point",
        "pyro_gen: DiscreteGibbs + CustomGibbs",
        lambda: ours(Gibbs(conjugate, change_point), COUNTS),
    )
    yield "change point", "numpyro: DiscreteGibbs + NUTS", lambda: theirs("change point")
    for modified in (False, True):
        name = f"pyro_gen: 16 chains{', modified' if modified else ''}"
        kernel = Gibbs([(DiscreteGibbs(modified=modified), ["z"])], ring, num_chains=16)
        yield "ring", name, partial(ours, kernel)
    yield "ring", "numpyro: DiscreteGibbs", lambda: theirs("ring")


def main(arguments: argparse.Namespace) -> None:
    """Run all contenders, print a table, write the figures."""
    torch.set_num_threads(1)
    exact = {
        "mixture": mixture_exact(),
        "change point": change_point_exact(),
        "ring": ring_exact(),
    }
    rows: list[dict[str, Any]] = []
    for name, sampler, make in contenders():
        pyro.set_rng_seed(arguments.seed)
        try:
            draws, seconds = make()(arguments.warmup, arguments.draws)
        except ImportError as error:
            rows.append({"model": name, "sampler": sampler, "missing": str(error)})
            continue
        for quantity, values in quantities(name, draws).items():
            mean, bar, size = (float(part) for part in expectation(lambda v: v, values)[:3])
            truth = exact[name][quantity]
            row = {
                "model": name,
                "sampler": sampler,
                "quantity": quantity,
                "exact": truth,
                "mean": mean,
                "mcse": bar,
            }
            rows.append(
                row | {"z": (mean - truth) / bar, "ess": size, "ess_per_second": size / seconds}
            )
            print(
                f"{name:13}{sampler:40}{quantity:9}{truth:9.4f}{mean:9.4f} +/- {bar:.4f} z "
                f"{rows[-1]['z']:5.2f}"
                f"  ESS {size:7.0f}  ESS/s {size / seconds:8.1f}",
                flush=True,
            )
    if arguments.json:
        report = {
            **describe(),
            "warmup": arguments.warmup,
            "draws": arguments.draws,
            "seed": arguments.seed,
        }
        with replacing(arguments.json) as part:
            part.write_text(json_text(report | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
