"""Questions to a Bayesian network: evidence of many rows in one call and one by
one, marginals, pyAgrum and pgmpy.

A shape is nodes x edges x rows: the network of the bnlearn repository with
these numbers of nodes and edges where the data folder has it (alarm: 37x46),
else a random one with that many nodes. In each row half of the cells are
missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle

import opt_einsum
import torch
from torch import Tensor

from benchmarks.bayesian_network_peers import NETWORKS, Agrum, bif_file, pgmpy_elimination
from benchmarks.timing import Contender, UnavailableError
from pyro_gen import models
from pyro_gen.distributions import BayesianNetwork
from pyro_gen.distributions.bayesian_network.elimination import safe_log
from pyro_gen.testing import seeded
from pyro_gen.testing.networks import random_network

BASELINE = "naive"
CEILINGS: tuple[str, ...] = ()
GATE = ("tests/distributions/bayesian_network/test_bayesian_network.py",)
SHAPES = ((37, 46, 10_000), (27, 52, 2_000), (8, 8, 10_000))
"""(nodes, edges, rows): alarm, insurance, asia."""
UNIT = "question"
JOB = None
RIVALS = {
    "pyro_gen": "pyagrum",
    "pyro_gen, with gradient": "pyagrum",
    "pyro_gen, row by row": "pyagrum",
    "pyro_gen, one marginal": "pyagrum one marginal",
    "pyro_gen, all marginals": "pyagrum all marginals",
}
SINGLE = 20
"""Rows that are asked about one by one."""

Case = dict[int, int]
"""State by number of the node."""


def work(nodes: int, edges: int, rows: int) -> dict[str, float]:
    """Of one question."""
    return {"connection_updates": float(edges), "chain_steps": 1.0}


def contenders(nodes: int, edges: int, rows: int) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""
    model = network_of(nodes, edges)
    network = model._read_off()
    with seeded(0):
        data = network.sample((rows,))
        data[torch.rand(data.shape) < 0.5] = -1
    cases = [{i: k for i, k in enumerate(row) if k >= 0} for row in data[:SINGLE].tolist()]
    yield "pyro_gen", lambda: Contender(lambda: network.log_evidence(data), units=rows)
    yield "pyro_gen, with gradient", lambda: Contender(lambda: gradient(model, data), units=rows)
    yield (
        "pyro_gen, row by row",
        lambda: one_by_one(cases, lambda case: network.log_evidence(named(network, case))),
    )
    yield (
        "pyro_gen, one marginal",
        lambda: one_by_one(
            cases,
            lambda case: network.marginals(named(network, case), [network.nodes[target(case)]]),
        ),
    )
    yield (
        "pyro_gen, all marginals",
        lambda: one_by_one(cases, lambda case: network.marginals(named(network, case))),
    )
    yield "pyagrum", lambda: one_by_one(cases, Agrum(network).evidence_probability)
    yield "pyagrum one marginal", lambda: agrum_marginal(network, cases)
    yield "pyagrum all marginals", lambda: one_by_one(cases, Agrum(network).marginals)
    yield "pgmpy one marginal", lambda: pgmpy_marginal(network, cases)
    yield BASELINE, lambda: one_by_one(cases, naive(network))


def network_of(nodes: int, edges: int) -> models.BayesianNetwork:
    """The network with these numbers, from a file or a random one."""
    for name in NETWORKS:
        try:
            found = models.BayesianNetwork.from_bif(bif_file(name))
        except UnavailableError:
            continue
        if (len(found.nodes), len(found.structure.edges)) == (nodes, edges):
            return found
    network = random_network(nodes, window=5)
    return models.BayesianNetwork(
        network.structure, {node: network.table(node) for node in network.nodes}
    )


def named(network: BayesianNetwork, case: Case) -> dict[str, str]:
    """Evidence by names, as users give it."""
    return {network.nodes[i]: network.states[network.nodes[i]][k] for i, k in case.items()}


def target(case: Case) -> int:
    """The first node that is not observed, or the first of all."""
    return next((i for i in range(len(case) + 1) if i not in case), 0)


def one_by_one(cases: list[Case], ask: Callable[[Case], object]) -> Contender:
    """The cases in turn, one question a call, so that no two calls in a row are alike."""
    turn = cycle(cases)
    return Contender(lambda: ask(next(turn)))


def gradient(model: models.BayesianNetwork, data: Tensor) -> None:
    """Log evidence and its derivatives in the parameters."""
    model.log_evidence(data).sum().backward()


def agrum_marginal(network: BayesianNetwork, cases: list[Case]) -> Contender:
    """One target a question."""
    peer = Agrum(network)
    last = len(network.nodes) - 1
    return one_by_one(cases, lambda case: peer.marginal(case, min(target(case), last)))


def pgmpy_marginal(network: BayesianNetwork, cases: list[Case]) -> Contender:
    """One target a question, by variable elimination."""
    engine = pgmpy_elimination(network)
    last = len(network.nodes) - 1

    def ask(case: Case) -> object:
        node = min(target(case), last)
        evidence = {network.nodes[i]: k for i, k in case.items() if i != node}
        return engine.query([network.nodes[node]], evidence=evidence, show_progress=False)

    return one_by_one(cases, ask)


def naive(network: BayesianNetwork) -> Callable[[Case], Tensor]:
    """P(e) by one contraction of all tables and one-hot vectors, whose order
    opt_einsum finds anew for each case.
    """
    tables = [network.table(node) for node in network.nodes]
    families = network.structure.families

    def ask(case: Case) -> Tensor:
        operands = [
            part
            for table, family in zip(tables, families, strict=True)
            for part in (table, list(family))
        ]
        for i, k in case.items():
            operands += [
                torch.eye(network.structure.cardinalities[i], dtype=network.tables.dtype)[k],
                [i],
            ]
        return safe_log(opt_einsum.contract(*operands, [], optimize="greedy"))

    return ask
