"""Chow-Liu trees on the sets of the literature, and structures learned beside
pgmpy and pyAgrum.

    # smoothing chosen on the validation rows
    python -m benchmarks.evidence_structure trees
    # once; adds its rows to the test ledger
    python -m benchmarks.evidence_structure trees --split test
    # asia and sachs, 10 seeds; needs both peers
    python -m benchmarks.evidence_structure graphs

`graphs` draws 10,000 rows of a known network for each seed, hands the same rows
to every learner, and counts the pairs of nodes that its CPDAG joins otherwise
than the true one (`structural_hamming_distance`). The JSON goes to
`benchmarks/results/structure_<what>.json`.
"""

from __future__ import annotations

import argparse
import csv
import logging
import time
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.metadata import version
from statistics import mean, median
from typing import Any

import networkx as nx
import pyro
import torch
from torch import Tensor

from benchmarks.evidence_alphadigits import COLUMNS, LEDGER, RESULTS
from benchmarks.machine import describe
from pyro_gen import datasets
from pyro_gen._files import json_text
from pyro_gen.distributions import BayesianNetwork
from pyro_gen.distributions.bayesian_network.files.bif import read_bif
from pyro_gen.infer import structure

SIZES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Equivalent sample sizes to choose from."""
PUBLISHED = {
    "nltcs": -6.759,
    "plants": -16.524,
    "dna": -87.662,
    "mushrooms": -20.957,
    "adult": -18.512,
}
"""Mean test log likelihoods of Chow-Liu trees in the literature, nats a row."""
ROWS = 10_000


def tree_density(x: Tensor, size: float) -> BayesianNetwork:
    """The Chow-Liu tree of the rows and a uniform distribution of so many rows,
    with its tables.
    """
    tree = structure.chow_liu(x, equivalent_sample_size=size, states=2)
    return BayesianNetwork(
        tree, structure.conditional_tables(tree, x, equivalent_sample_size=size, states=2)
    )


def measure_tree(name: str, split: str) -> dict[str, Any]:
    """Choose the smoothing on the validation rows and judge once on the rows of a split."""
    data = datasets.load(name)
    name = data.name
    train = data.train.long()
    valid = data.valid.long()
    evaluated = getattr(data, split).long()
    start = time.perf_counter()
    densities = {size: tree_density(train, size) for size in SIZES}
    seconds = time.perf_counter() - start
    chosen = {size: density.log_prob(valid).mean().item() for size, density in densities.items()}
    best = max(chosen, key=lambda size: chosen[size])
    values = densities[best].log_prob(evaluated)
    return {
        "data": name,
        "split": split,
        "log likelihood": values.mean().item(),
        "row error": values.std().item() / len(values) ** 0.5,
        "rows": len(values),
        "equivalent sample size": best,
        "validation log likelihoods": {f"{size:g}": value for size, value in chosen.items()},
        "published": PUBLISHED.get(name),
        "milliseconds for a tree and its tables": 1000 * seconds / len(SIZES),
    }


def enter(figures: dict[str, Any], commit: str) -> None:
    """Add one evaluation of test rows to the ledger."""
    fresh = not LEDGER.exists()
    setting = f"equivalent sample size {figures['equivalent sample size']:g}"
    numbers = [f"{figures['log likelihood']:.3f}", "", f"{figures['row error']:.3f}", ""]
    with LEDGER.open("a", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if fresh:
            table.writerow(COLUMNS)
        table.writerow(
            [
                datetime.now(UTC).date(),
                commit[:7],
                figures["data"],
                "Chow-Liu tree",
                setting,
                *numbers,
            ]
        )


Learner = Callable[[structure.CategoricalTable], nx.DiGraph]


def own_learners() -> dict[str, Learner]:
    """Ours; the first is the default of the package."""
    made: dict[str, Learner] = {"learn_structure, default": structure.learn_structure}
    scores: dict[str, structure.Score] = {
        "BIC": structure.BIC(),
        "BDeu 1": structure.BDeu(1),
        "qNML": structure.QuotientNML(),
    }
    for name, score in scores.items():
        made[f"exact_search, {name}"] = partial(structure.exact_search, score=score)
        made[f"hill_climbing, {name}"] = partial(structure.hill_climbing, score=score)
        made[f"tabu_search, {name}"] = partial(structure.tabu_search, score=score)
    for alpha in (0.01, 0.05):
        made[f"pc, alpha {alpha}"] = partial(structure.pc, alpha=alpha)
    return made


def frame(table: structure.CategoricalTable) -> Any:
    """The rows as the peers take them, by names of states."""
    pd = import_module("pandas")
    columns = {}
    for i, (node, states) in enumerate(zip(table.nodes, table.states, strict=True)):
        if isinstance(states, int):
            names = list(map(str, range(states)))
        else:
            names = list(states)
        columns[node] = pd.Categorical.from_codes(table.values[:, i].tolist(), categories=names)
    return pd.DataFrame(columns)


def mixed(
    nodes: Iterable[str], arcs: Iterable[tuple[str, str]], edges: Iterable[tuple[str, str]]
) -> nx.DiGraph:
    """A partially directed graph, undirected edges both ways."""
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(arcs)
    graph.add_edges_from((a, b) for edge in edges for a, b in (edge, edge[::-1]))
    return graph


def agrum_learners(template: Any) -> dict[str, Learner]:
    """All learners of pyAgrum for complete data.

    The graphs of scores without parameters, which may be undefined.
    """
    pyagrum = import_module("pyagrum")
    names = [template.variable(i).name() for i in template.nodes()]

    def learn(
        table: structure.CategoricalTable, *settings: tuple[str, tuple[Any, ...]], kind: str
    ) -> nx.DiGraph:
        learner = pyagrum.BNLearner(frame(table).astype(str), template)
        for method, arguments in settings:
            getattr(learner, method)(*arguments)
        found = getattr(learner, kind)()
        edges = [] if kind == "learnDAG" else found.edges()
        return mixed(
            names, *([(names[a], names[b]) for a, b in pairs] for pairs in (found.arcs(), edges))
        )

    made: dict[str, Learner] = {}
    climbs = {
        "greedy": ("useGreedyHillClimbing", ()),
        "tabu": ("useLocalSearchWithTabuList", (100, 2)),
    }
    more = {
        "extended greedy": ("useExtendedGreedyHillClimbing", ()),
        "thick thinning": ("useGreedyThickThinning", ()),
    }
    for score in ("BIC", "BDeu", "AIC", "K2"):
        for name, climb in (climbs | more).items():
            settings = ((f"useScore{score}", ()), climb)
            made[f"pyAgrum {name}, {score}"] = _with(learn, settings, "learnDAG")
    for correction in ("NML", "MDL"):
        settings = (("useMIIC", ()), (f"use{correction}Correction", ()))
        made[f"pyAgrum MIIC, {correction}"] = _with(learn, settings, "learnEssentialGraph")
    for alpha in (0.01, 0.05):
        made[f"pyAgrum PC, alpha {alpha}"] = _with(
            learn, (("usePC", ()), ("setPCAlpha", (alpha,))), "learnPDAG"
        )
    return made


def _with(
    learn: Callable[..., nx.DiGraph], settings: tuple[tuple[str, tuple[Any, ...]], ...], kind: str
) -> Learner:
    return lambda table: learn(table, *settings, kind=kind)


def pgmpy_learners() -> dict[str, Learner]:
    """Hill climbing with its tabu list, greedy equivalence search and PC of pgmpy."""
    pgmpy = import_module("pgmpy.causal_discovery")

    def learn(make: Callable[[], Any], table: structure.CategoricalTable) -> nx.DiGraph:
        found = make().fit(frame(table)).causal_graph_
        return mixed(table.nodes, found.directed_edges, found.undirected_edges)

    made: dict[str, Learner] = {}
    for score in ("bic-d", "bdeu", "k2", "aic-d"):
        made[f"pgmpy hill climbing, {score}"] = partial(
            learn, partial(pgmpy.HillClimbSearch, scoring_method=score, show_progress=False)
        )
        made[f"pgmpy GES, {score}"] = partial(learn, partial(pgmpy.GES, scoring_method=score))
    for alpha in (0.01, 0.05):
        make = partial(
            pgmpy.PC,
            variant="stable",
            ci_test="chi_square",
            significance_level=alpha,
            show_progress=False,
        )
        made[f"pgmpy PC, alpha {alpha}"] = partial(learn, make)
    return made


def measure_graphs(name: str, seeds: Iterable[int]) -> dict[str, Any]:
    """Distances of all learners on the same rows."""
    pyagrum = import_module("pyagrum")
    path = datasets.data_folder() / "bif" / f"{name}.bif"
    file = read_bif(path)
    network = BayesianNetwork(file.structure, file.tables)
    truth = structure.cpdag(network.structure.graph)
    learners = own_learners() | agrum_learners(pyagrum.loadBN(str(path))) | pgmpy_learners()
    found: dict[str, dict[str, list[Any]]] = {
        label: {"distances": [], "seconds": []} for label in learners
    }
    for seed in seeds:
        pyro.set_rng_seed(seed)
        table = structure.CategoricalTable.of(network.sample(torch.Size((ROWS,))), network.states)
        for label, learn in learners.items():
            start = time.perf_counter()
            try:
                graph = learn(table)
            except Exception as error:  # a peer that fails is reported, not hidden
                found[label].setdefault("errors", []).append(
                    f"seed {seed}: {type(error).__name__}: {error}"[:200]
                )
                continue
            found[label]["seconds"].append(time.perf_counter() - start)
            found[label]["distances"].append(structure.structural_hamming_distance(graph, truth))
    return {"network": name, "rows": ROWS, **_summary(found)}


def _summary(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    for figures in found.values():
        if figures["distances"]:
            figures["median"] = median(figures["distances"])
            figures["mean"] = mean(figures["distances"])
            figures["seconds"] = median(figures["seconds"])
    peers = {
        label: own["median"]
        for label, own in found.items()
        if label.startswith(("pyAgrum", "pgmpy")) and "median" in own
    }
    best = min(peers, key=lambda label: (peers[label], found[label]["mean"]))
    ours = found["learn_structure, default"]["median"]
    return {
        "ours": ours,
        "best peer": best,
        "its median": peers[best],
        "met": ours <= peers[best],
        "learners": found,
    }


def main(args: argparse.Namespace) -> None:
    """Measure and write the JSON."""
    provenance = describe()
    if args.what == "trees":
        runs = [measure_tree(name, args.split) for name in args.sets]
        others = [run["data"] for run in runs if run["data"] not in PUBLISHED]
        file = RESULTS / f"structure_trees_{'_'.join([*others, args.split])}.json"
        asked = f" --sets {' '.join(args.sets)}" if others else ""
        command = f"python -m benchmarks.evidence_structure trees --split {args.split}{asked}"
        for run in runs:
            print(
                f"{run['data']:10}{run['log likelihood']:9.3f} +/- {run['row error']:.3f}, "
                f"published {run['published']}"
            )
            if args.split == "test":
                enter(run, str(provenance["commit"]))
    else:
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        runs = [measure_graphs(name, args.seeds) for name in args.networks]
        file = RESULTS / "structure_graphs.json"
        command = (
            "python -m benchmarks.evidence_structure graphs --seeds "
            f"{' '.join(map(str, args.seeds))}"
        )
        provenance["versions"] |= {name: version(name) for name in ("pgmpy", "pyagrum", "pandas")}
        for run in runs:
            print(
                f"{run['network']}: ours {run['ours']}, best peer {run['its median']} "
                f"({run['best peer']})"
            )
            for label, own in sorted(
                run["learners"].items(), key=lambda pair: pair[1].get("median", 99)
            ):
                print(f"  {label:40}{own.get('median', '-')!s:>6}  {own['distances']}")
    file.write_text(json_text({**provenance, "command": command, "runs": runs}, indent=2) + "\n")
    print(f"written to {file}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("trees", "graphs"))
    parser.add_argument(
        "--split",
        choices=("valid", "test"),
        default="valid",
        help="rows that trees are evaluated on",
    )
    parser.add_argument(
        "--sets",
        "--data",
        nargs="+",
        default=list(PUBLISHED),
        help="names of sets of the data folder, or .npz files, for `trees`",
    )
    parser.add_argument("--networks", nargs="+", default=["asia", "sachs"])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
