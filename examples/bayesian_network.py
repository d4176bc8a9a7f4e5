"""A Bayesian network: what it believes, how it is learned from a half of its
cells, and how sure one can be.

The network comes from a BIF file, by default alarm (37 nodes, patients under
anaesthesia; Beinlich and others, 1989) of the data folder; `--network asia` is
the chest clinic, which stands below. The script

1. asks what the network believes given what was observed, exactly, and draws
   it: a box a node, a bar a state;
2. compares the approximate methods with those answers and with their own
   diagnostics;
3. draws rows, hides half of the cells, and learns all tables anew: by EM, which
   uses every cell, and by counting the rows in which a node and its parents
   were all seen; complete rows there are none;
4. shows the trap: in asia bronchitis is recorded mostly where there is no
   dyspnoea. Counting complete rows says P(bronchitis | smoker) = 0.39, EM says
   0.60, which is right;
5. draws tables from their posterior, hands them to ArviZ with the names of
   nodes and states, and writes NetCDF.

    # five minutes on one core
    python examples/bayesian_network.py
    python examples/bayesian_network.py --network asia --evidence xray=yes dysp=yes
    python examples/bayesian_network.py --network my.bif --rows 100 1000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arviz as az
import networkx as nx
import pyro
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from pyro_gen import datasets, plotting
from pyro_gen._files import json_text
from pyro_gen.arviz import from_cpds, to_netcdf
from pyro_gen.infer import (
    AmortisedPosterior,
    belief_propagation,
    gibbs_marginals,
    likelihood_weighting,
)
from pyro_gen.models import BayesianNetwork

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, RED, GREEN, _, _, GREY = plotting.COLORS
OBSERVED = {
    "alarm": {"HRBP": "HIGH", "CO": "LOW", "PRESS": "HIGH", "EXPCO2": "LOW"},
    "asia": {"dysp": "yes", "xray": "yes"},
}


def asia() -> BayesianNetwork:
    """The chest clinic of Lauritzen and Spiegelhalter (1988): for each node P(yes)
    given the states of its parents.
    """
    edges = (
        "asia-tub smoke-lung smoke-bronc lung-either tub-either either-xray bronc-dysp either-dysp"
    )
    graph = nx.DiGraph(edge.split("-") for edge in edges.split())
    yes = {
        **{
            "asia": [0.01],
            "tub": [0.05, 0.01],
            "smoke": [0.5],
            "lung": [0.1, 0.01],
            "bronc": [0.6, 0.3],
        },
        **{"either": [1.0, 1.0, 1.0, 0.0], "xray": [0.98, 0.05], "dysp": [0.9, 0.8, 0.7, 0.1]},
    }
    tables = {}
    for node, given in yes.items():
        p = torch.tensor(given, dtype=torch.float64)
        tables[node] = torch.stack((p, 1 - p), -1).view([2] * (graph.in_degree(node) + 1))
    return BayesianNetwork(graph, tables, states=("yes", "no"))


def load(name: str) -> BayesianNetwork:
    """Asia, a BIF file, or one of the data folder."""
    if name == "asia":
        return asia()
    if name.endswith(".bif"):
        path = Path(name)
    else:
        path = datasets.data_folder() / "bif" / f"{name}.bif"
    return BayesianNetwork.from_bif(path)


def hidden(rows: Tensor, share: float) -> Tensor:
    """Rows with cells hidden at random."""
    return rows.masked_fill(torch.rand(rows.shape) < share, -1)


# --- 1. and 2.: beliefs
# ------------------------------------------------------------------------------


def approximations(
    network: BayesianNetwork, evidence: Mapping[str, str], args: argparse.Namespace
) -> dict[str, Any]:
    """Largest error of a probability by each method, beside the method's own
    diagnostic, and seconds.
    """
    exact = network.marginals(evidence)
    guide = AmortisedPosterior(network, (64,))
    start = time.perf_counter()
    guide.learn(args.steps, 128, 5e-3)
    print(f"the amortised guide learned for {time.perf_counter() - start:.1f} s")
    methods = {
        "likelihood weighting": lambda: likelihood_weighting(network, evidence, args.draws),
        "amortised guide": lambda: guide.marginals(evidence, args.draws),
        "Gibbs": lambda: gibbs_marginals(network, evidence, max(args.draws // 40, 4), 40, 50),
        "loopy belief propagation": lambda: belief_propagation(network, evidence, damping=0.2),
    }
    report: dict[str, Any] = {}
    for name, method in methods.items():
        start = time.perf_counter()
        found: Any = method()
        seconds = time.perf_counter() - start
        error = max(
            float((found.marginals[node] - distribution).abs().max())
            for node, distribution in exact.items()
        )
        report[name] = {"largest error": error, "seconds": seconds} | diagnostics(found)
    return report


def diagnostics(found: Any) -> dict[str, float]:
    """What a method says of itself."""
    if hasattr(found, "pareto_k"):
        return {"ESS": float(found.effective_sample_size), "k-hat": float(found.pareto_k)}
    if hasattr(found, "r_hat"):
        sizes = found.effective_sample_size.values()
        return {"ESS": min(map(float, sizes)), "R-hat": max(map(float, found.r_hat.values()))}
    return {"residual": float(found.residual), "rounds": found.num_iterations}


def layers_of(graph: nx.DiGraph) -> list[list[str]]:
    """Each node after its parents.

    Those with children as late as these allow, which shortens the arrows.
    """
    depth = {
        node: i for i, layer in enumerate(nx.topological_generations(graph)) for node in layer
    }
    for node in reversed(list(nx.topological_sort(graph))):
        depth[node] = min(
            (depth[child] - 1 for child in graph.successors(node)), default=depth[node]
        )
    return [
        sorted(node for node in graph if depth[node] == i) for i in range(max(depth.values()) + 1)
    ]


def places(graph: nx.DiGraph) -> dict[str, tuple[float, float]]:
    """Layers from left to right, and in its layer each node near to what it is connected with."""
    layers = layers_of(graph)
    across = {node: (i + 0.5) / len(layer) for layer in layers for i, node in enumerate(layer)}
    for _ in range(20):
        for layer in (*layers, *reversed(layers)):
            pull = {
                node: average([across[other] for other in nx.all_neighbors(graph, node)])
                for node in layer
            }
            ordered = sorted(layer, key=pull.__getitem__)
            across |= {node: (i + 0.5) / len(layer) for i, node in enumerate(ordered)}
    most = max(map(len, layers))
    return {
        node: (1.6 * i, -1.1 * most * across[node])
        for i, layer in enumerate(layers)
        for node in layer
    }


def average(values: Sequence[float]) -> float:
    """Their mean; the middle for none."""
    if values:
        return sum(values) / len(values)
    return 0.5


def draw_network(network: BayesianNetwork, evidence: Mapping[str, str], path: Path) -> None:
    """The graph with posterior bars: a box a node, a bar a state.

    Observed nodes in red, prior as a thin line.
    """
    prior = network.marginals()
    posterior = network.marginals(evidence)
    at = places(network.graph)
    wide = max(x for x, _ in at.values()) + 1.3
    low = min(y - height(network, node) for node, (_, y) in at.items())
    high = max(y for _, y in at.values()) + 0.2
    figure = Figure(figsize=(0.95 * wide, 0.95 * (high - low) + 0.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for parent, child in network.graph.edges:
        (x0, y0) = at[parent]
        (x1, y1) = at[child]
        ends = (
            (x1 - 0.55, y1 - height(network, child) / 2 + 0.08),
            (x0 + 0.55, y0 - height(network, parent) / 2 + 0.08),
        )
        arrow = {
            "arrowstyle": "-|>",
            "color": GREY,
            "alpha": 0.55,
            "linewidth": 0.8,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        axes.annotate("", *ends, arrowprops=arrow, zorder=0)
    for node, spot in at.items():
        box(axes, network, node, spot, (prior[node], posterior[node]), node in evidence)
    axes.set(xlim=(-0.65, wide - 0.65), ylim=(low - 0.05, high), aspect="equal")
    axes.axis("off")
    plotting.save(figure, path, dpi=85)


def height(network: BayesianNetwork, node: str) -> float:
    """How far the box of a node reaches below its middle line."""
    return 0.04 + 0.17 * len(network.states[node])


def box(
    axes: Axes,
    network: BayesianNetwork,
    node: str,
    spot: tuple[float, float],
    distributions: tuple[Tensor, Tensor],
    observed: bool,
) -> None:
    """One node: its name, and for each state a bar as long as it is probable."""
    (x, y) = spot
    color = RED if observed else BLUE
    x = x - 0.55
    low = y - height(network, node)
    frame = FancyBboxPatch(
        (x, low), 1.1, y + 0.16 - low, "round,pad=0,rounding_size=0.04", fc="white", ec=color
    )
    axes.add_patch(frame)
    axes.text(
        x + 0.55,
        y + 0.07,
        node,
        ha="center",
        va="center",
        fontsize=7.5,
        weight="bold",
        color=color,
    )
    for i, (state, before, after) in enumerate(
        zip(network.states[node], *map(Tensor.tolist, distributions), strict=True)
    ):
        level = y - 0.17 * (i + 1)
        axes.add_patch(
            Rectangle(
                (x + 0.5, level + 0.02), 0.55 * after, 0.12, color=color, alpha=0.75, linewidth=0
            )
        )
        axes.plot(
            [x + 0.5 + 0.55 * before] * 2, [level + 0.01, level + 0.15], color=GREY, linewidth=0.9
        )
        axes.text(x + 0.46, level + 0.08, state[:7], ha="right", va="center", fontsize=6.5)


# --- 3. and 4.: learning
# ------------------------------------------------------------------------------


def kl(truth: BayesianNetwork, learned: BayesianNetwork) -> float:
    """KL(truth | learned) in nats, by the chain rule a sum over the tables, weighed by
    the truth's own marginals.
    """
    total = 0.0
    for node, mass in truth.expected_counts().items():
        p = truth().table(node).detach()
        q = learned().table(node).detach()
        total += float(torch.where(mass > 0, mass * (p / q).log(), 0.0).sum())
    return total


def available(data: Tensor, network: BayesianNetwork) -> BayesianNetwork:
    """Each table from the rows in which its whole family was seen."""
    structure = network.structure
    tables = {}
    for node, family in zip(structure.nodes, structure.families, strict=True):
        rows = data[:, list(family)]
        own = nx.DiGraph()
        own.add_nodes_from(structure.nodes[i] for i in family)
        own.add_edges_from((structure.nodes[i], node) for i in family[:-1])
        small = BayesianNetwork(own, states={name: structure.states[name] for name in own})
        if len(rows := rows[(rows >= 0).all(1)]):
            small.fit(rows, pseudo_count=1.0)
        tables[node] = small().table(node).detach()
    return BayesianNetwork(structure, tables)


def curves(truth: BayesianNetwork, args: argparse.Namespace) -> list[dict[str, float]]:
    """How far learned tables are from the truth, for growing numbers of rows."""
    every = truth.sample(max(args.rows))
    result = []
    data = hidden(every, args.missing)
    for rows in args.rows:
        row: dict[str, float] = {
            "rows": rows,
            "complete rows": int((data[:rows] >= 0).all(1).sum()),
        }
        start = time.perf_counter()
        learned = BayesianNetwork(truth.structure)
        found = learned.fit(data[:rows], pseudo_count=1.0, tolerance=1e-5)
        row |= {
            "EM": kl(truth, learned),
            "EM steps": len(found.objective) - 1,
            "EM s": time.perf_counter() - start,
        }
        row["families seen whole"] = kl(truth, available(data[:rows], truth))
        learned = BayesianNetwork(truth.structure)
        learned.fit(every[:rows], pseudo_count=1.0)
        row["nothing hidden"] = kl(truth, learned)
        result.append(row)
        print(", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    return result


def trap(rows: int, seeds: int) -> dict[str, list[float]]:
    """P(bronchitis | smoker) where bronchitis is recorded with 80 % without
    dyspnoea, 17.5 % with it.
    """
    truth = asia()
    bronc, dysp = (truth.nodes.index(node) for node in ("bronc", "dysp"))
    found: dict[str, list[float]] = {"complete rows": [], "EM": []}
    for _ in range(seeds):
        data = truth.sample(rows)
        recorded = torch.rand(rows) < torch.where(data[:, dysp] == 0, 0.175, 0.8)
        data[~recorded, bronc] = -1
        for name, chosen in {"complete rows": data[recorded], "EM": data}.items():
            learned = BayesianNetwork(truth.structure)
            learned.fit(chosen, pseudo_count=0.5)
            found[name].append(learned().table("bronc")[0, 0].item())
    return found


def draw_learning(
    curve: Sequence[Mapping[str, float]],
    found: Mapping[str, Sequence[float]],
    share: float,
    path: Path,
) -> None:
    """Distance from the truth by rows, and the trap."""
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for name, color in (("families seen whole", RED), ("EM", BLUE), ("nothing hidden", GREY)):
        label = {
            "EM": "EM, all cells seen",
            "families seen whole": "rows with the whole family seen",
        }.get(name, name)
        left.loglog(
            [x["rows"] for x in curve],
            [x[name] for x in curve],
            "o-",
            color=color,
            label=label,
            markersize=4,
        )
    left.set(
        xlabel="rows",
        ylabel="KL(truth | learned) [nats]",
        title=f"{share:.0%} of the cells hidden",
    )
    left.set_xticks([x["rows"] for x in curve], [f"{x['rows']:g}" for x in curve])
    left.minorticks_off()
    left.legend(frameon=False, fontsize=8)
    right.axhline(0.6, color=GREY, linestyle="--", linewidth=1)
    right.text(1.4, 0.605, "truth 0.60", ha="right", va="bottom", fontsize=8, color=GREY)
    for i, (name, color) in enumerate((("complete rows", RED), ("EM", BLUE))):
        spread = torch.linspace(-0.12, 0.12, len(found[name]))
        right.plot(i + spread, found[name], "o", color=color, markersize=4, alpha=0.8)
    right.set_xticks([0, 1], ["complete rows", "EM"])
    right.set(xlim=(-0.5, 1.5), ylim=(0.3, 0.7), title="P(bronchitis | smoker)")
    right.set_xlabel("recorded mostly without dyspnoea")
    plotting.save(figure, path, dpi=110)


# --- 5.: how sure?
# ------------------------------------------------------------------------------


def posterior(truth: BayesianNetwork, args: argparse.Namespace) -> dict[str, Any]:
    """Draws of all tables given rows with holes, in ArviZ and in a file."""
    data = hidden(truth.sample(args.posterior_rows), args.missing)
    start = time.perf_counter()
    draws = BayesianNetwork(truth.structure).sample_cpds(
        data,
        0.5,
        num_samples=args.posterior_draws,
        num_chains=2,
        warmup_steps=args.posterior_draws // 5,
    )
    inference = from_cpds(draws, {"seed": args.seed})
    to_netcdf(inference, args.out / "cpds.nc")
    shown = list(inference["posterior"].data_vars)[:4]
    print(az.summary(inference, var_names=shown, kind="stats"))
    inside = []
    mass = truth.expected_counts()
    for node, table in draws.tables.items():
        often = (mass[node].sum(-1, keepdim=True) * args.posterior_rows >= 20).expand_as(
            mass[node]
        )
        low, high = torch.quantile(
            table.flatten(0, 1), torch.tensor([0.05, 0.95], dtype=table.dtype), dim=0
        )
        true = truth().table(node)
        inside.append(((low <= true) & (true <= high))[often])
    size = az.ess(inference)
    return {
        "seconds": time.perf_counter() - start,
        "numbers in rows used 20 times or more": len(torch.cat(inside)),
        "share of true values in 90 % intervals": float(torch.cat(inside).double().mean()),
        "smallest ESS": min(float(size[name].min()) for name in size.data_vars),
    }


def main(args: argparse.Namespace) -> None:
    """Believe, approximate, learn, be unsure."""
    pyro.set_rng_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    network = load(args.network)
    given = dict(pair.split("=", 1) for pair in args.evidence)
    evidence = given or OBSERVED.get(args.network, {})
    print(
        f"{args.network}: {len(network.nodes)} nodes, {network.num_parameters} parameters; given "
        f"{evidence}"
    )
    print(f"log P(evidence) = {network.log_evidence(evidence).item():.4f}")
    draw_network(network, evidence, args.out / "bayesian_network.png")
    report: dict[str, Any] = {"approximations": approximations(network, evidence, args)}
    for name, figures in report["approximations"].items():
        print(f"{name:26}" + ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))
    report["learning"] = curves(network, args)
    report["trap"] = trap(args.trap_rows, args.seeds)
    for name, values in report["trap"].items():
        x = torch.tensor(values)
        print(
            f"P(bronchitis | smoker) by {name}: {x.mean():.3f} +/- {x.std():.3f} over {len(x)} "
            "data sets"
        )
    draw_learning(
        report["learning"],
        report["trap"],
        args.missing,
        args.out / "bayesian_network_learning.png",
    )
    report["posterior"] = posterior(network, args)
    print(
        "posterior of the tables: "
        + ", ".join(f"{key} {value:.3g}" for key, value in report["posterior"].items())
    )
    (args.out / "bayesian_network.json").write_text(json_text(report, indent=1) + "\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--network",
        "--data",
        help="asia, a BIF file, or the name of one in the data folder (default: alarm, or asia "
        "where that is not there)",
    )
    parser.add_argument("--evidence", nargs="*", default=[], help="node=state ...")
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 300, 1000, 3000])
    parser.add_argument(
        "--missing", type=float, default=0.5, help="share of the cells that are hidden"
    )
    parser.add_argument("--draws", type=int, default=10_000, help="of the approximate methods")
    parser.add_argument("--steps", type=int, default=1000, help="of the amortised guide")
    parser.add_argument("--trap-rows", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=10, help="data sets of the trap")
    parser.add_argument("--posterior-rows", type=int, default=300)
    parser.add_argument("--posterior-draws", type=int, default=250, help="of each of two chains")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/bayesian_network"),
        help="folder of everything written",
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    args = parser.parse_args()
    if args.smoke:  # what the command line gives stands
        parser.set_defaults(
            network="asia",
            rows=[30, 100],
            draws=400,
            steps=5,
            seeds=2,
            trap_rows=300,
            posterior_rows=30,
            posterior_draws=10,
        )
        args = parser.parse_args()
    has_alarm = (datasets.data_folder() / "bif" / "alarm.bif").is_file()
    args.network = args.network or ("alarm" if has_alarm else "asia")
    return args


if __name__ == "__main__":
    main(parse())
