"""Exact inference in Bayesian networks equals pyAgrum's: eight networks of
bnlearn, random ones, large ones.

    python -m benchmarks.evidence_bayesian_network            # everything; needs pyagrum
    python -m benchmarks.evidence_bayesian_network files random --seeds 40

Evidence is a share of the nodes of a row drawn from the network, so that it is
possible. Marginals are compared by the largest absolute difference, P(e) by the
relative one. pyAgrum gets the very tables that we use; what it makes of the
files itself, where it can read them, is compared too, but its reader (3.3)
rounds the numbers to float32. The JSON is
`benchmarks/results/bayesian_network_exact.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.bayesian_network_peers import NETWORKS, Agrum, bif_file
from benchmarks.machine import describe
from pyro_gen import models
from pyro_gen._files import json_text, replacing
from pyro_gen.distributions import BayesianNetwork
from pyro_gen.distributions.bayesian_network.structure import Query
from pyro_gen.testing import seeded
from pyro_gen.testing.networks import random_network

RESULTS = Path(__file__).parent / "results"
LARGE: dict[str, dict[str, Any]] = {
    "70 nodes, 2-4 states": {"num_nodes": 70, "max_parents": 4, "window": 9, "states": (2, 3, 4)},
    "76 nodes, 2 states, any parents": {"num_nodes": 76, "max_parents": 3, "states": (2,)},
    "220 nodes, 2-3 states": {"num_nodes": 220, "max_parents": 3, "window": 8, "states": (2, 3)},
    "724 nodes, 2-4 states": {
        "num_nodes": 724,
        "max_parents": 2,
        "window": 12,
        "states": (2, 3, 4),
    },
    "1041 nodes, 2-21 states": {
        "num_nodes": 1041,
        "max_parents": 2,
        "window": 6,
        "states": (2, 4, 5, 7, 21),
    },
}
"""Like hepar2, win95pts, andes, link and munin in size."""


def evidence_sets(network: BayesianNetwork, count: int, seed: int) -> list[dict[int, int]]:
    """Possible evidence on a random third of the nodes or fewer, by number of the node."""
    with seeded(seed):
        rows = network.sample((count,))
        shares = torch.rand(count, 1) / 3
        seen = torch.rand(rows.shape) < shares
        seen[torch.arange(count), torch.randint(len(network.nodes), (count,))] = True
    return [
        {i: int(row[i]) for i in range(len(row)) if chosen[i]}
        for row, chosen in zip(rows, seen, strict=True)
    ]


def named(network: BayesianNetwork, evidence: dict[int, int]) -> dict[str, str]:
    """Evidence by names."""
    return {network.nodes[i]: network.states[network.nodes[i]][k] for i, k in evidence.items()}


def table(network: BayesianNetwork, sets: list[dict[int, int]]) -> Tensor:
    """The same as rows."""
    rows = torch.full((len(sets), len(network.nodes)), -1)
    for row, evidence in zip(rows, sets, strict=True):
        row[list(evidence)] = torch.tensor(list(evidence.values()))
    return rows


def timed(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """What a function returns for some arguments, and the seconds of the call."""
    start = time.perf_counter()
    result = function(*args)
    return result, time.perf_counter() - start


def each(function: Callable[[Any], Any], arguments: list[Any]) -> list[Any]:
    """What a function returns for one argument after another."""
    return [function(argument) for argument in arguments]


def compare(
    network: BayesianNetwork, count: int, seed: int, peer: Agrum | None = None
) -> dict[str, Any]:
    """Largest differences from pyAgrum over some evidence sets, one by one and as
    rows of one call.
    """
    if peer is None:
        peer = Agrum(network)
    sets = evidence_sets(network, count, seed)
    rows_log, of_log = timed(network.log_evidence, table(network, sets))
    rows_distributions, of_distributions = timed(network.marginals, table(network, sets))
    worst = {"marginals": 0.0, "P(e)": 0.0, "marginals as rows": 0.0, "P(e) as rows": 0.0}
    own = []
    other = []
    least = 1.0
    for row, evidence in enumerate(sets):
        distributions, seconds = timed(network.marginals, named(network, evidence))
        own.append(seconds)
        log = network.log_evidence(named(network, evidence))
        expected, seconds = timed(peer.marginals, evidence)
        other.append(seconds)
        probability = peer.evidence_probability(evidence)
        least = min(least, probability)
        for i, node in enumerate(network.nodes):
            worst["marginals"] = max(
                worst["marginals"], (distributions[node] - expected[i]).abs().max().item()
            )
            difference = (rows_distributions[node][row] - expected[i]).abs().max().item()
            worst["marginals as rows"] = max(worst["marginals as rows"], difference)
        for name, value in (("P(e)", log), ("P(e) as rows", rows_log.value[row])):
            worst[name] = max(worst[name], abs(value.exp().item() / probability - 1))
    return {
        "nodes": len(network.nodes),
        "evidence sets": count,
        "largest difference": worst,
        "smallest P(e)": least,
        "seconds for all marginals, one set after another": sum(own),
        "pyAgrum's": sum(other),
        "seconds as rows": of_log + of_distributions,
    }


def of_files(count: int) -> dict[str, Any]:
    """The networks of the bnlearn repository."""
    result = {}
    for name in NETWORKS:
        network = models.BayesianNetwork.from_bif(bif_file(name))._read_off()
        result[name] = compare(network, count, 0)
        result[name]["as pyAgrum reads the file"] = by_its_own_reading(name, network, count)
        print(name, json_text(result[name]["largest difference"]), flush=True)
    return result


def by_its_own_reading(name: str, network: BayesianNetwork, count: int) -> Any:
    """Largest differences where pyAgrum reads the file itself, or why it does not."""
    peer = Agrum(network)
    try:
        bn = peer.gum.loadBN(str(bif_file(name)))
    except peer.gum.GumException as error:
        return (
            "pyAgrum does not read it: "
            f"{str(error).splitlines()[0].replace(str(bif_file(name)), name)}"
        )
    engine = peer.gum.LazyPropagation(bn)
    worst = 0.0
    for evidence in evidence_sets(network, count, 1):
        by_name = named(network, evidence)
        engine.setEvidence(by_name)
        engine.makeInference()
        distributions = network.marginals(by_name)
        for node in network.nodes:
            labels = bn.variable(node).labels()
            distribution = dict(zip(labels, engine.posterior(node).tolist(), strict=True))
            mine = dict(zip(network.states[node], distributions[node].tolist(), strict=True))
            worst = max(worst, *(abs(distribution[state] - p) for state, p in mine.items()))
    return worst


def of_random(seeds: int, count: int) -> dict[str, Any]:
    """Random networks of 10 to 60 nodes, every second with zeros in its tables."""
    worst: dict[str, float] = {}
    for seed in range(seeds):
        nodes = 10 + seed % 6 * 10
        window = 4 + seed % 4
        network = random_network(nodes, 3, window, (2, 3, 4), 0.4 * (seed % 2), seed)
        found = compare(network, count, seed)["largest difference"]
        worst = {name: max(worst.get(name, 0.0), value) for name, value in found.items()}
    print(f"{seeds} random networks", json_text(worst), flush=True)
    return {"networks": seeds, "evidence sets each": count, "largest difference": worst}


def of_large(count: int) -> dict[str, Any]:
    """Networks of hundreds of nodes."""
    result = {}
    for name, settings in LARGE.items():
        network = random_network(**settings, zeros=0.2, seed=7)
        plan, seconds = timed(
            network.structure.plan, Query(frozenset(), frozenset(range(len(network.nodes))))
        )
        result[name] = {
            "largest clique": plan.largest,
            "seconds to plan": seconds,
            **compare(network, count, 0),
        }
        print(name, json_text(result[name]), flush=True)
    return result


def of_alarm(rows: int, one_by_one: int) -> dict[str, Any]:
    """Alarm with each cell missing with probability one half: one call, row by row,
    pyAgrum's loop, gradients.
    """
    model = models.BayesianNetwork.from_bif(bif_file("alarm"))
    network = model._read_off()
    with seeded(0):
        data = network.sample((rows,))
        data[torch.rand(data.shape) < 0.5] = -1
    network.log_evidence(data[:2])
    evidence, seconds = timed(network.log_evidence, data)
    log = evidence.value
    sets = [{i: int(k) for i, k in enumerate(row) if k >= 0} for row in data[:one_by_one].tolist()]
    by_name = [named(network, evidence) for evidence in sets]
    estimates, single_seconds = timed(each, network.log_evidence, by_name)
    single = [estimate.value for estimate in estimates]
    peer = Agrum(network)
    theirs, peer_seconds = timed(each, peer.evidence_probability, sets)
    return {
        "rows": rows,
        "seconds in one call": seconds,
        "microseconds a row": 1e6 * seconds / rows,
        "rows one by one": one_by_one,
        "microseconds a row, one by one": 1e6 * single_seconds / one_by_one,
        "microseconds a row, pyAgrum's loop": 1e6 * peer_seconds / one_by_one,
        "times quicker than pyAgrum's loop": peer_seconds / one_by_one / (seconds / rows),
        "largest difference from row by row, nats": (log[:one_by_one] - torch.stack(single))
        .abs()
        .max()
        .item(),
        "largest difference from pyAgrum, nats": (
            log[:one_by_one] - torch.tensor(theirs, dtype=torch.float64).log()
        )
        .abs()
        .max()
        .item(),
        "gradient": alarm_gradient(model, data),
    }


def of_queries(count: int) -> dict[str, Any]:
    """Single questions to a model, each pattern of evidence for the first time and
    again, beside pyAgrum's.
    """
    result: dict[str, Any] = {}
    for name in ("alarm", "insurance", "asia"):
        network = models.BayesianNetwork.from_bif(bif_file(name))._read_off()
        sets = evidence_sets(network, count, 2)
        targets = [
            next(i for i in range(len(network.nodes)) if i not in evidence) for evidence in sets
        ]
        result[name] = {
            "evidence": of_kind(
                name, sets, lambda model, e, _: model.log_evidence(e), Agrum.evidence_probability
            ),
            "one marginal": of_kind(
                name,
                sets,
                lambda model, e, i: model.marginals(e, [model.nodes[i]]),
                Agrum.marginal,
                targets,
            ),
            "all marginals": of_kind(
                name, sets, lambda model, e, _: model.marginals(e), Agrum.marginals
            ),
        }
        print(name, json_text(result[name]), flush=True)
    return result


def of_kind(
    name: str,
    sets: list[dict[int, int]],
    ask: Callable[[models.BayesianNetwork, dict[str, str], int], Any],
    ask_peer: Callable[..., Any],
    targets: list[int] | None = None,
) -> dict[str, float]:
    """Median milliseconds of a question, and the median of the ratios to pyAgrum's,
    asked in turn with it.
    """
    model = models.BayesianNetwork.from_bif(bif_file(name))  # a new one, which has no plans yet
    network = model._read_off()
    peer = Agrum(network)
    ask(model, {}, 0)
    times = torch.zeros(3, len(sets), dtype=torch.float64)
    for again in (0, 1):
        for k, evidence in enumerate(sets):
            target = targets[k] if targets else 0
            times[again, k] = timed(ask, model, named(network, evidence), target)[1]
            times[2, k] = timed(ask_peer, peer, evidence, *([target] if targets else []))[1]
    first, second, theirs = times
    return {
        "milliseconds, new pattern": 1e3 * first.median().item(),
        "milliseconds, known pattern": 1e3 * second.median().item(),
        "milliseconds, pyAgrum": 1e3 * theirs.median().item(),
        "times pyAgrum's, new pattern": (first / theirs).median().item(),
        "times pyAgrum's, known pattern": (second / theirs).median().item(),
    }


def alarm_gradient(
    model: models.BayesianNetwork, data: Tensor, cells: int = 60, step: float = 1e-5
) -> dict[str, Any]:
    """Derivatives in some of the parameters beside central differences."""
    evidence, seconds = timed(model.log_evidence, data)
    log = evidence.value
    _, backward = timed(log.sum().backward)
    worst = 0.0
    largest = 0.0
    generator = torch.Generator().manual_seed(0)
    for _ in range(cells):
        cpd = model.cpd(model.nodes[int(torch.randint(len(model.nodes), (), generator=generator))])
        weight = next(cpd.parameters())
        cell = int(torch.randint(weight.numel(), (), generator=generator))
        if not weight.detach().flatten()[cell].isfinite():
            continue
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.view(-1)[cell] += sign * step
                values.append(model.log_evidence(data[:2000]).sum().item())
                weight.view(-1)[cell] -= sign * step
        model.zero_grad()
        model.log_evidence(data[:2000]).sum().backward()
        if weight.grad is None:
            slope = torch.zeros(())
        else:
            slope = weight.grad.flatten()[cell]
        worst = max(worst, abs(slope.item() - (values[0] - values[1]) / (2 * step)))
        largest = max(largest, abs(slope.item()))
    return {
        "largest difference": worst,
        "largest slope": largest,
        "seconds forward": seconds,
        "backward": backward,
    }


PARTS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "files": lambda args: of_files(args.sets),
    "random": lambda args: of_random(args.seeds, args.sets),
    "large": lambda args: of_large(args.large_sets),
    "alarm": lambda args: of_alarm(args.rows, args.one_by_one),
    "queries": lambda args: of_queries(args.queries),
}


def main(args: argparse.Namespace) -> None:
    """Run the parts and write the JSON, which keeps other parts that are there."""
    torch.set_num_threads(1)
    about = describe()  # before the file is written, which would be a change
    file = RESULTS / "bayesian_network_exact.json"
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for part in args.parts or PARTS:
        result, seconds = timed(PARTS[part], args)
        report[part] = about | {
            "command": f"python -m benchmarks.evidence_bayesian_network {part}"
        }
        report[part] |= {"threads": 1, "minutes": seconds / 60, "result": result}
        with replacing(file) as temporary:
            temporary.write_text(json_text(report, indent=1) + "\n", encoding="utf-8")
        print(part, json_text(result, indent=1), f"{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--large-sets", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--one-by-one", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=100)
    main(parser.parse_args())
