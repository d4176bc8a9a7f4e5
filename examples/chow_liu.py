"""Chow-Liu trees: the best distribution in which each variable has one parent,
from all pairs of variables at once.

The tree that maximises the likelihood is a maximum spanning tree of the mutual
information, so it takes one matrix product and no iterations: the first density
to try on any table of categories, and a yardstick for every other. Rows of a
uniform distribution are added to the data; how many is chosen on validation
rows. The table lists the mean log likelihood of each data set beside that of
independent variables; `--test` looks at the test rows. The picture shows the
tree of one set: on images each edge joins two pixels, and draws of the tree
stand beside it. Dark nodes are one in most rows.

    # nltcs, plants, dna, mushrooms, adult: validation rows
    python examples/chow_liu.py
    python examples/chow_liu.py --sets alphadigits --draw alphadigits
    python examples/chow_liu.py --test
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import NamedTuple

import networkx as nx
import numpy as np
import pyro
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pyro_gen import datasets, plotting
from pyro_gen.distributions import BayesianNetwork
from pyro_gen.infer.structure import chow_liu, conditional_tables

SETS = ("nltcs", "plants", "dna", "mushrooms", "adult")
SIZES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Rows of the uniform distribution, to choose from."""


class Result(NamedTuple):
    """Mean log likelihoods of the rows of a data set in nats, and their standard error."""

    data: str
    split: str
    variables: int
    independent: float
    tree: float
    error: float
    size: float
    seconds: float


def density(graph: nx.DiGraph, x: Tensor, size: float) -> BayesianNetwork:
    """A Bayesian network of the graph, its tables from the rows and so many rows of a
    uniform distribution.
    """
    return BayesianNetwork(
        graph, conditional_tables(graph, x, equivalent_sample_size=size, states=2)
    )


def learn(train: Tensor, valid: Tensor) -> tuple[BayesianNetwork, float]:
    """The tree whose smoothing serves the validation rows best, and that smoothing."""
    trees = {
        size: density(chow_liu(train, equivalent_sample_size=size, states=2), train, size)
        for size in SIZES
    }
    best = max(trees, key=lambda size: trees[size].log_prob(valid).mean().item())
    return trees[best], best


def compare(data: datasets.BinaryDataset, split: str) -> Result:
    """Learn a tree and judge it on the rows of a split."""
    train = data.train.long()
    valid = data.valid.long()
    evaluated = getattr(data, split).long()
    start = time.perf_counter()
    tree, size = learn(train, valid)
    seconds = (time.perf_counter() - start) / len(SIZES)
    edgeless = nx.create_empty_copy(tree.structure.graph)
    independent = density(edgeless, train, size).log_prob(evaluated).mean().item()
    values = tree.log_prob(evaluated)
    error = values.std().item() / len(values) ** 0.5
    return Result(
        data.name, split, train.shape[1], independent, values.mean().item(), error, size, seconds
    )


def positions(graph: nx.DiGraph, shape: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    """Where to draw each variable: a pixel at its place, any other so that neighbours are near."""
    if len(shape) == 2:
        return {node: (i % shape[1], -(i // shape[1])) for i, node in enumerate(graph)}
    found: dict[str, tuple[float, float]] = nx.kamada_kawai_layout(
        graph.to_undirected(), weight=None
    )
    return found


def draw(data: datasets.BinaryDataset, path: Path) -> None:
    """The tree of a set, edges as thick as they carry information.

    Of images also rows drawn from it.
    """
    train = data.train.long()
    tree = chow_liu(train, equivalent_sample_size=0.1, states=2)
    shape = data.shape or ()
    places = positions(tree, shape)
    image = len(shape) == 2
    figure = Figure(figsize=(9.5, 5) if image else (6, 6))
    axes = [figure.add_subplot(1, 1 + image, k + 1) for k in range(1 + image)]
    bits = np.array([information for *_, information in tree.edges.data("information")]) / np.log(
        2
    )
    widths = 0.3 + 3.5 * bits / bits.max() if bits.size else bits
    shade = [
        plotting.COLORS[0] if ink else plotting.LINE
        for ink in (train.double().mean(0) >= 0.5).tolist()
    ]
    nx.draw_networkx_nodes(
        tree, places, node_size=6 if image else 260, node_color=shade, ax=axes[0]
    )
    nx.draw_networkx_edges(
        tree, places, width=widths, edge_color=plotting.COLORS[1], arrows=False, ax=axes[0]
    )
    if len(tree) <= 20:
        names = {node: node.removeprefix("x") for node in tree}
        nx.draw_networkx_labels(tree, places, names, font_size=8, ax=axes[0])
    axes[0].set_title(
        f"{data.name}: {tree.number_of_edges()} edges, up to {bits.max():.2f} bits",
        loc="left",
        fontsize=10,
    )
    if image:
        drawn = density(tree, train, 0.1).sample(torch.Size((6, 8)))
        tiles = np.pad(drawn.numpy().reshape(6, 8, *shape), ((0, 0), (0, 0), (1, 1), (1, 1)))
        axes[1].imshow(
            np.concatenate(np.concatenate(tiles, 1), 1), cmap="Greys", interpolation="nearest"
        )
        axes[1].set_title("drawn from the tree", loc="left", fontsize=10)
    for own in axes:
        own.set_axis_off()
    plotting.save(figure, path)


def main(args: argparse.Namespace) -> None:
    """Learn, compare, and draw."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    split = "test" if args.test else "valid"
    results = []
    print(f"mean log likelihood of the {split} rows in nats, +/- standard error")
    print(
        f"{'data':20}{'variables':>9}{'independent':>13}{'tree':>10}            smoothing  a "
        "tree takes"
    )
    for name in args.sets:
        r = compare(datasets.load(name), split)
        results.append(r)
        figures = f"{r.variables:9}{r.independent:13.3f}{r.tree:10.3f} +/- {r.error:.3f}"
        print(f"{r.data:20}{figures}{r.size:9g}{1000 * r.seconds:10.0f} ms")
    with (args.out / f"chow_liu_{split}.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([Result._fields, *results])
    shown = datasets.load(args.draw)
    draw(shown, args.out / f"chow_liu_{shown.name}.png")
    print(f"written to {args.out}")


def default_sets() -> list[str]:
    """The sets of the literature that are there."""
    sets = [datasets.available(name, instead="alphadigits") for name in SETS]
    return list(dict.fromkeys(sets))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sets",
        "--data",
        nargs="+",
        help="public sets, or .npz files (default: nltcs, plants, dna, mushrooms and adult)",
    )
    parser.add_argument(
        "--draw", default="alphadigits", help="the set, or the .npz file, whose tree is drawn"
    )
    parser.add_argument("--test", action="store_true", help="judge on the test rows")
    parser.add_argument("--seed", type=int, default=0, help="of the draws in the picture")
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="folder of table and picture"
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(sets=["alphadigits"])
        args = parser.parse_args()
    args.sets = args.sets or default_sets()
    return args


if __name__ == "__main__":
    main(parse())
