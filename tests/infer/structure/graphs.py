"""Small graphs, all of them, and what d-separation says of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import chain, combinations, product

import networkx as nx
import torch
from torch import Tensor

from pyro_gen.infer.structure import CategoricalTable

NODES = ("a", "b", "c", "d")


@cache
def all_dags(size: int) -> tuple[nx.DiGraph, ...]:
    """Every directed acyclic graph over the first nodes: 543 for four."""
    nodes, found = NODES[:size], []
    pairs = list(combinations(nodes, 2))
    for kinds in product(range(3), repeat=len(pairs)):
        graph = nx.DiGraph()
        graph.add_nodes_from(nodes)
        graph.add_edges_from((u, v) if k == 1 else (v, u) for (u, v), k in zip(pairs, kinds, strict=True) if k)
        if nx.is_directed_acyclic_graph(graph):
            found.append(graph)
    return tuple(found)


def subsets(nodes: list[str]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(nodes, k) for k in range(len(nodes) + 1))


def independences(graph: nx.DiGraph) -> frozenset[tuple[str, ...]]:
    """All statements x, y, given that the graph implies."""
    nodes = sorted(graph)
    return frozenset(
        (x, y, *given)
        for x, y in combinations(nodes, 2)
        for given in subsets([n for n in nodes if n not in (x, y)])
        if nx.is_d_separator(graph, {x}, {y}, set(given))
    )


def random_dag(size: int, seed: int, density: float = 0.4) -> nx.DiGraph:
    """Edges at random along a random order, so that numbers of nodes tell nothing."""
    generator = torch.Generator().manual_seed(seed)
    names = [f"node {int(i)}" for i in torch.randperm(size, generator=generator)]
    graph = nx.DiGraph()
    graph.add_nodes_from(sorted(names))
    present = torch.rand(size, size, generator=generator) < density
    graph.add_edges_from((names[j], names[i]) for i in range(size) for j in range(i) if present[j, i])
    return graph


def sampled(size: int = 4, rows: int = 60, seed: int = 0) -> CategoricalTable:
    """Rows of dependent columns of 2, 3, 2, ... states, few enough that some combinations never occur."""
    generator = torch.Generator().manual_seed(seed)
    columns: list[Tensor] = []
    for i in range(size):
        states = 2 + i % 2
        noise = torch.randint(states, (rows,), generator=generator)
        copies = torch.rand(rows, generator=generator) < 0.6
        parent = columns[int(torch.randint(i, (), generator=generator))] if i else noise
        columns.append(torch.where(copies, parent % states, noise))
    states_of = {NODES[i]: 2 + i % 2 for i in range(size)}
    return CategoricalTable.of(dict(zip(NODES, columns, strict=False)), states_of)
