"""A Monte Carlo expectation under a Gibbs chain: from uniform numbers to an error
bar that can be trusted.

First the prelude, the inverse transform: uniform numbers pushed through the
inverse of a cumulative distribution function are draws of its distribution; a
histogram lies on the density, of a continuous distribution and of a discrete
one. Then the algorithm. Casella and George's pair, x given y binomial and y
given x beta, is sampled by nothing but its two full conditionals. The mean of
f(x, y) over the draws estimates E[f], which is known here; the draws of a chain
are dependent, so the error bar divides the variance by the *effective* number
of draws (ESS), and the error falls as 1 / sqrt(ESS). At last the draws go to
ArviZ, whose summary says the same.

    # half a minute
    python examples/gibbs_expectation.py
    # more trials hold the pair tighter together: a slower chain
    python examples/gibbs_expectation.py --trials 60
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import arviz
import pyro
import pyro.distributions as dist
import torch
from matplotlib.axes import Axes
from torch import Tensor

from pyro_gen import plotting
from pyro_gen.arviz import from_chains, to_netcdf
from pyro_gen.distributions import Estimate
from pyro_gen.infer import GibbsSampler, expectation, inverse_transform

A = 2.0
B = 4.0
"""Of the beta distribution that y has before x is seen."""


def f(x: Tensor, y: Tensor) -> Tensor:
    """Whose mean is wanted: the product of count and rate."""
    return x * y


def exact_mean(trials: int) -> float:
    """E[x y] = n E[y^2], as E[x | y] = n y."""
    return trials * A * (A + 1) / ((A + B) * (A + B + 1))


def conditionals(trials: int) -> GibbsSampler:
    """The pair: binomial given beta given binomial."""
    return GibbsSampler(
        {"x": lambda y: dist.Binomial(trials, y), "y": lambda x: dist.Beta(x + A, trials - x + B)},
        start={"y": dist.Uniform(0.0, 1.0)},
        num_chains=4,
    )


def errors_by_length(trials: int, lengths: list[int], repeats: int) -> list[dict[str, float]]:
    """For chains of each length: root mean square error over repeats, mean error
    bar and mean ESS.
    """
    sampler = conditionals(trials)
    exact = exact_mean(trials)
    rows = []
    sampler.num_chains = 4 * repeats  # all repeats at once: four chains for each
    draws = sampler.run(max(lengths), warmup_steps=100)
    for length in lengths:
        parts = [
            {name: v[4 * i : 4 * i + 4, :length] for name, v in draws.items()}
            for i in range(repeats)
        ]
        found = [expectation(f, part) for part in parts]
        within = [abs(run.value - exact) < 2 * run.standard_error for run in found]
        error = torch.stack([run.value - exact for run in found])
        rows.append(
            {
                "draws": 4.0 * length,
                "ess": float(torch.stack([run.effective_sample_size for run in found]).mean()),
                "error": float(error.square().mean().sqrt()),
                "mcse": float(
                    torch.stack([run.standard_error for run in found]).square().mean().sqrt()
                ),
                "covered": float(torch.stack(within).double().mean()),
            }
        )
    return rows


def show(rows: list[dict[str, float]], repeats: int) -> None:
    """A table."""
    print(
        f"{'draws':>8}{'ESS':>9}{'error bar':>11}{'true error':>12}{'within two':>12}   "
        f"({repeats} repeats)"
    )
    for row in rows:
        numbers = "{draws:8.0f}{ess:9.0f}{mcse:11.4f}{error:12.4f}{covered:12.2f}"
        print(numbers.format_map(row))


def draw(args: argparse.Namespace, draws: dict[str, Tensor], rows: list[dict[str, float]]) -> None:
    """Four panels: two inverse transforms, the chain's marginal, and the error against ESS."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2)
    uniforms = torch.rand(args.draws)
    _continuous(panels[0, 0], inverse_transform(dist.Gumbel(0.0, 1.0), uniforms))
    _counts(
        panels[0, 1],
        inverse_transform(dist.Poisson(4.0), uniforms),
        dist.Poisson(4.0),
        14,
        "Inverse transform: Poisson, mean 4",
    )
    distribution = dist.BetaBinomial(A, B, args.trials)
    _counts(
        panels[1, 0],
        draws["x"].flatten(),
        distribution,
        args.trials + 1,
        "Gibbs: x, beta-binomial",
    )
    _errors(panels[1, 1], rows)
    for axes in panels.flat:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(plotting.LINE)
        axes.tick_params(which="both", color=plotting.LINE, labelcolor=plotting.TEXT, left=False)
        axes.title.set(color=plotting.TEXT, fontsize=11)
        axes.legend(frameon=False, fontsize=9, labelcolor=plotting.TEXT)
    plotting.save(figure, args.out / "gibbs_expectation.png", dpi=110)


def _continuous(axes: Axes, drawn: Tensor) -> None:
    grid = torch.linspace(-3, 8, 400)
    axes.hist(
        drawn.tolist(),
        80,
        range=(-3, 8),
        density=True,
        color=plotting.COLORS[0],
        alpha=0.5,
        label="inverse transform",
    )
    density = dist.Gumbel(0.0, 1.0).log_prob(grid).exp()
    axes.plot(grid.tolist(), density.tolist(), color=plotting.COLORS[1], label="density")
    axes.set_title("Inverse transform: Gumbel", loc="left")


def _counts(
    axes: Axes, drawn: Tensor, distribution: dist.TorchDistribution, states: int, title: str
) -> None:
    share = torch.bincount(drawn.long(), minlength=states)[:states] / len(drawn)
    numbers = torch.arange(float(states))
    axes.bar(numbers.tolist(), share.tolist(), color=plotting.COLORS[0], alpha=0.5, label="draws")
    exact = distribution.log_prob(numbers).exp().tolist()
    axes.plot(
        numbers.tolist(), exact, "o", color=plotting.COLORS[1], markersize=4, label="probabilities"
    )
    axes.set_title(title, loc="left")


def _errors(axes: Axes, rows: list[dict[str, float]]) -> None:
    size = [row["ess"] for row in rows]
    axes.loglog(
        size,
        [row["error"] for row in rows],
        "o",
        color=plotting.COLORS[0],
        label="true error (rms)",
    )
    axes.loglog(
        size, [row["mcse"] for row in rows], "x", color=plotting.COLORS[1], label="error bar"
    )
    scale = rows[-1]["mcse"] * math.sqrt(size[-1])
    axes.loglog(
        size, [scale / math.sqrt(s) for s in size], color=plotting.LINE, label="1 / sqrt(ESS)"
    )
    axes.set_title("Gibbs: error of the mean of x y, against ESS", loc="left")


def main(args: argparse.Namespace) -> None:
    """Sample, compare with the exact mean, hand over to ArviZ, draw."""
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.set_rng_seed(args.seed)
    draws = conditionals(args.trials).run(args.draws // 4, warmup_steps=100)
    estimate: Estimate = expectation(f, draws)
    print(f"E[x y] = {estimate} from {args.draws} draws")
    print(f"exact  = {exact_mean(args.trials):.4f}")
    lengths = [args.draws // 4 // 2**i for i in range(args.lengths)][::-1]
    rows = errors_by_length(args.trials, lengths, args.repeats)
    show(rows, args.repeats)
    posterior = from_chains(draws | {"xy": f(**draws)}, attrs={"sampler": "Gibbs"})
    print(arviz.summary(posterior).to_string())
    to_netcdf(posterior, args.out / "gibbs_expectation.nc")
    draw(args, draws, rows)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=16, help="of the binomial distribution")
    parser.add_argument("--draws", type=int, default=16_384, help="of four chains together")
    parser.add_argument(
        "--lengths", type=int, default=7, help="lengths of chains, each half of the next"
    )
    parser.add_argument(
        "--repeats", type=int, default=200, help="independent runs behind each true error"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of picture and draws"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(draws=400, lengths=3, repeats=5)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
