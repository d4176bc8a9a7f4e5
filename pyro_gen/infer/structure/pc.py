"""The PC algorithm: edges that no test removes, colliders, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import networkx as nx
import numpy as np

from pyro_gen._arguments import whole_number
from pyro_gen.infer.structure.equivalence import complete, extend, pattern
from pyro_gen.infer.structure.independence import Statistic, tested
from pyro_gen.infer.structure.table import CategoricalData, CategoricalTable, Counts, States

PValue = Callable[[str, str, tuple[str, ...]], float]


def pc(
    data: CategoricalData,
    alpha: float = 0.01,
    *,
    statistic: Statistic = "g2",
    max_given: int | None = None,
    states: States = None,
) -> nx.DiGraph:
    """Learn a CPDAG by tests of conditional independence: the stable PC algorithm.

    A condition under which nothing can vary, such as the parents of a node that
    is a function of them, tells nothing, and no edge is removed by it.

    Args:
        data: complete rows; see :meth:`CategoricalTable.of`.
        alpha: two nodes are joined unless a test gives a p-value above it.
        statistic: ``"g2"`` or ``"chi2"``; see :func:`independence_test`.
        max_given: nodes to condition on at most.
        states: of the nodes, where the data do not show all of them.

    Returns:
        The CPDAG, as :func:`pc_from_tests` describes it, its nodes with the
        attribute ``states``; :func:`dag_extension` directs all its edges.

    Raises:
        ValueError: cells are missing, ``alpha`` is no probability,
            ``max_given`` is negative, or ``statistic`` unknown.

    References:
        Spirtes, Glymour and Scheines (2000), Causation, prediction, and search,
        section 5.4.2. Colombo and Maathuis (2014), Order-independent
        constraint-based causal structure learning.

    Example:
        >>> import torch
        >>> a, b = torch.tensor([0, 0, 1, 1] * 9), torch.tensor([0, 1, 0, 1] * 9)
        >>> sorted(pc({"a": a, "b": b, "either": a | b}).edges)
        [('a', 'either'), ('b', 'either')]
    """
    table = CategoricalTable.of(data, states)
    counts = Counts(table)

    def p_value(first: str, second: str, conditions: tuple[str, ...]) -> float:
        x, y, *numbers = (table.index[node] for node in (first, second, *conditions))
        result = tested(counts, x, y, numbers, statistic)
        if conditions and not result.degrees_of_freedom:
            return 0.0
        return result.p_value

    graph = pc_from_tests(table.nodes, p_value, alpha, max_given=max_given)
    state_names = dict(zip(table.nodes, table.states, strict=True))
    nx.set_node_attributes(graph, state_names, "states")
    return graph


def pc_from_tests(
    nodes: Sequence[str], p_value: PValue, alpha: float = 0.01, *, max_given: int | None = None
) -> nx.DiGraph:
    """The PC algorithm with a test of your own: for other data, or d-separation in a
    known graph.

    The skeleton is that of the stable variant: what is removed at a level
    counts from the next one on, so that the order of the nodes changes nothing.
    Of a node between two that are not adjacent, the separating set of the
    largest p-value decides whether it is a collider. Where colliders would
    direct an edge both ways or close a cycle, the one whose set has the larger
    p-value is kept. The result is the CPDAG of a directed acyclic graph in any
    case: where the tests fit none, of one that has their skeleton and nearly
    their colliders.

    Args:
        nodes: names.
        p_value: ``p_value(first, second, given)``, of the hypothesis that two
            nodes are independent given others.
        alpha: two nodes are joined unless a p-value is above it.
        max_given: nodes to condition on at most.

    Returns:
        The CPDAG, an undirected edge both ways. Its attribute
        ``separating_sets`` tells which nodes separate two that are not
        adjacent; ``conflicts`` lists colliders (parent, child, parent) that
        were found but are not in the graph, and ones that are in the graph but
        were not found.

    Raises:
        ValueError: ``alpha`` is no probability, ``max_given`` is negative, or a
            node comes twice.

    Example:
        >>> graph = nx.DiGraph([("a", "c"), ("b", "c"), ("c", "d")])
        >>> oracle = lambda x, y, given: float(nx.is_d_separator(graph, {x}, {y}, set(given)))
        >>> sorted(pc_from_tests("abcd", oracle).edges)
        [('a', 'c'), ('b', 'c'), ('c', 'd')]
    """
    nodes = tuple(nodes)
    if not 0 <= alpha < 1:
        raise ValueError(f"`alpha` must be at least 0 and below 1, got {alpha}")
    if len(set(nodes)) < len(nodes) or not nodes:
        raise ValueError(f"`nodes` must be different names, at least one, got {nodes}")
    if max_given is None:
        max_given = len(nodes)
    max_given = whole_number("max_given", max_given, 0)
    skeleton, separators = _skeleton(nodes, p_value, alpha, max_given)
    colliders = _colliders(skeleton, separators, nodes)
    graph = skeleton.copy()
    for collider in colliders:
        _direct(graph, collider)
    completed = complete(graph)
    if _acyclic(completed):
        graph = completed
    dag, _ = extend(graph)
    result = nx.DiGraph()
    result.add_nodes_from(nodes)
    edges = np.argwhere(complete(pattern(dag)))
    result.add_edges_from((nodes[j], nodes[i]) for j, i in edges)
    result.graph["separating_sets"] = {
        (nodes[x], nodes[y]): tuple(nodes[k] for k in separator.nodes)
        for (x, y), separator in separators.items()
    }
    result.graph["conflicts"] = [
        (nodes[x], nodes[z], nodes[y])
        for x, z, y in sorted(set(colliders) ^ set(_v_structures(dag)))
    ]
    return result


class _Separator(NamedTuple):
    """Nodes that separate two others, and the p-value with which they do."""

    nodes: tuple[int, ...]
    p_value: float


Separators = dict[tuple[int, int], _Separator]
Triple = tuple[int, int, int]


def _skeleton(
    nodes: Sequence[str], p_value: PValue, alpha: float, max_given: int
) -> tuple[np.ndarray, Separators]:
    """Undirected edges that no test removes; separators of other pairs, of largest p-value."""
    graph = ~np.eye(len(nodes), dtype=bool)
    separators: Separators = {}
    for size in range(max_given + 1):
        if graph.sum(1).max() <= size:
            break
        # The neighbours of the level: later removals change nothing.
        neighbours = [np.flatnonzero(row).tolist() for row in graph]
        for x, y in np.argwhere(np.triu(graph)).tolist():
            tried = []
            for numbers in _candidates(neighbours, x, y, size):
                names = tuple(nodes[k] for k in numbers)
                tried.append(_Separator(numbers, p_value(nodes[x], nodes[y], names)))
            best = max(tried, key=lambda separator: separator.p_value, default=None)
            if best is not None and best.p_value > alpha:
                graph[x, y] = graph[y, x] = False
                separators[x, y] = best
    return graph, separators


def _candidates(
    neighbours: list[list[int]], x: int, y: int, size: int
) -> Iterable[tuple[int, ...]]:
    """Sets of neighbours of one node or the other, each once."""
    of_x = combinations([k for k in neighbours[x] if k != y], size)
    of_y = combinations([k for k in neighbours[y] if k != x], size)
    return dict.fromkeys((*of_x, *of_y))


def _colliders(skeleton: np.ndarray, separators: Separators, nodes: Sequence[str]) -> list[Triple]:
    """Nodes between two that are not adjacent and whose separator omits them; clearest first."""
    colliders = [
        (-separator.p_value, sorted((nodes[x], nodes[y])), nodes[z], (x, z, y))
        for (x, y), separator in separators.items()
        for z in np.flatnonzero(skeleton[x] & skeleton[y]).tolist()
        if z not in separator.nodes
    ]
    return [triple for *_, triple in sorted(colliders)]


def _direct(graph: np.ndarray, collider: Triple) -> None:
    """Direct both edges into the middle, unless one points away or a cycle would close."""
    x, z, y = collider
    changed = graph.copy()
    changed[z, x] = changed[z, y] = False
    if graph[x, z] and graph[y, z] and _acyclic(changed):
        graph[:] = changed


def _acyclic(graph: np.ndarray) -> bool:
    """True if the directed edges close no cycle."""
    directed = nx.from_numpy_array(graph & ~graph.T, create_using=nx.DiGraph)
    return bool(nx.is_directed_acyclic_graph(directed))


def _v_structures(dag: np.ndarray) -> list[Triple]:
    """Pairs of parents that are not adjacent, and their child between them."""
    triples = []
    for z in range(len(dag)):
        for x, y in combinations(np.flatnonzero(dag[:, z]).tolist(), 2):
            if not (dag[x, y] or dag[y, x]):
                triples.append((x, z, y))
    return triples


__all__ = ["pc", "pc_from_tests"]
