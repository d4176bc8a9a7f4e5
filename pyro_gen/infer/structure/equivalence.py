"""Markov equivalence: DAG to CPDAG and back, and the distance of two graphs."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np


def cpdag(graph: nx.DiGraph) -> nx.DiGraph:
    """The completed partially directed graph, for all graphs with the same independences.

    An edge that has one direction in all of them keeps it, any other becomes a
    pair of edges, one each way. Two directed acyclic graphs imply the same
    independences if and only if their CPDAGs are equal.

    Args:
        graph: directed and acyclic.

    Returns:
        The CPDAG, node attributes as in ``graph``.

    Raises:
        ValueError: ``graph`` is not directed or has a cycle.

    References:
        Verma and Pearl (1990), Equivalence and synthesis of causal models. Meek
        (1995), Causal inference and causal explanation with background
        knowledge, rules 1 to 3.

    Example:
        >>> sorted(cpdag(nx.DiGraph([("a", "b"), ("b", "c")])).edges)
        [('a', 'b'), ('b', 'a'), ('b', 'c'), ('c', 'b')]
        >>> sorted(cpdag(nx.DiGraph([("a", "b"), ("c", "b")])).edges)
        [('a', 'b'), ('c', 'b')]
    """
    _check_directed(graph)
    if not nx.is_directed_acyclic_graph(graph):
        raise ValueError(
            "`graph` must have no cycle: it is a CPDAG of directed acyclic graphs that is wanted"
        )
    matrix = adjacency(graph, list(graph))
    return with_edges(graph, complete(pattern(matrix)))


def pattern(dag: np.ndarray) -> np.ndarray:
    """The skeleton of a DAG, directed only where two parents that are not adjacent
    share a child.

    Of adjacency matrices, row: parent, column: child; an undirected edge is
    there both ways.
    """
    apart = ~(dag | dag.T)
    np.fill_diagonal(apart, False)
    # An edge u -> v is part of a v-structure if v has another parent that is not
    # adjacent to u.
    collides = dag & (path_counts(apart, dag) > 0)
    return dag | (dag.T & ~collides.T)


def complete(graph: np.ndarray) -> np.ndarray:
    """Direct the edges whose other direction gives a cycle or a new v-structure.

    The closure under Meek's rules 1 to 3. Where both directions follow, as can
    be only if no graph fits, the edge stays undirected.
    """
    graph = graph.copy()
    while True:
        undirected = graph & graph.T
        directed = graph & ~graph.T
        apart = ~(graph | graph.T)
        np.fill_diagonal(apart, False)
        # a -> b - c, a and c apart: b -> c
        rule1 = path_counts(directed.T, apart) > 0
        # a -> b -> c, a - c: a -> c
        rule2 = path_counts(directed, directed) > 0
        compelled = undirected & (rule1 | rule2)
        # a - c -> b, a - d -> b, c and d apart, a - b: a -> b
        for a, b in np.argwhere(undirected & ~compelled):
            between = np.flatnonzero(undirected[a] & directed[:, b])
            compelled[a, b] = apart[np.ix_(between, between)].any()
        compelled &= ~compelled.T
        if not compelled.any():
            return graph
        graph &= ~compelled.T


def dag_extension(graph: nx.DiGraph) -> nx.DiGraph:
    """A directed acyclic graph of the class that a partially directed graph stands for.

    Args:
        graph: a partially directed graph, such as :func:`cpdag` or :func:`pc`
            give; an undirected edge is there both ways.

    Returns:
        A graph with the same edges, all directed, without a cycle or a
        v-structure that ``graph`` does not have; node attributes as in
        ``graph``.

    Raises:
        ValueError: there is no such graph.

    References:
        Dor and Tarsi (1992), A simple algorithm to construct a consistent
        extension of a partially oriented graph.

    Example:
        >>> chain = nx.DiGraph([("a", "b"), ("b", "c")])
        >>> cpdag(dag_extension(cpdag(chain))).edges == cpdag(chain).edges
        True
    """
    _check_directed(graph)
    matrix, violations = extend(adjacency(graph, list(graph)))
    if violations:
        raise ValueError(
            "`graph` must have a consistent extension: "
            "every choice of directions has a new v-structure"
        )
    return with_edges(graph, matrix)


def extend(graph: np.ndarray) -> tuple[np.ndarray, int]:
    """Direct all undirected edges without a cycle and, if possible, without a new v-structure.

    Sinks are taken away one by one: nodes without an edge out of them, whose
    undirected neighbours are adjacent to all their other neighbours. Where no
    node is such a sink, the one that is nearest to it is taken.

    Returns:
        The directed graph, and how many pairs of parents became a new
        v-structure.
    """
    result = graph & ~graph.T
    remaining = graph.copy()
    left = list(range(len(graph)))
    violations = 0
    while left:
        sinks = [i for i in left if not (remaining[i] & ~remaining[:, i]).any()]
        if not sinks:
            raise ValueError("`graph` must have no cycle of directed edges")
        costs = {i: _new_v_structures(remaining, i) for i in sinks}
        sink = min(sinks, key=costs.__getitem__)
        violations += costs[sink]
        result[:, sink] |= remaining[:, sink]
        remaining[sink] = False
        remaining[:, sink] = False
        left.remove(sink)
    return result, violations


def _new_v_structures(graph: np.ndarray, sink: int) -> int:
    """Pairs of neighbours, one or both undirected, that are not adjacent."""
    undirected = np.flatnonzero(graph[sink] & graph[:, sink])
    neighbours = np.flatnonzero(graph[sink] | graph[:, sink])
    apart = ~(graph | graph.T)[np.ix_(undirected, neighbours)]
    apart &= undirected[:, None] != neighbours
    twice = apart[:, np.isin(neighbours, undirected)].sum() // 2
    return int(apart.sum() - twice)


def structural_hamming_distance(
    first: nx.DiGraph, second: nx.DiGraph, equivalence: bool = True
) -> int:
    """Pairs of nodes that two graphs join differently: not, undirected, or in one direction.

    Args:
        first: a graph; an undirected edge is there both ways.
        second: a graph over the same nodes.
        equivalence: whether a directed acyclic graph stands for its class, so
            that CPDAGs are compared.

    Returns:
        The number of pairs.

    Raises:
        ValueError: the graphs are not directed or have different nodes, or
            ``equivalence`` is wanted of a cycle.

    References:
        Tsamardinos, Brown and Aliferis (2006), The max-min hill-climbing
        Bayesian network structure learning algorithm, algorithm 4.

    Example:
        >>> chain = nx.DiGraph([("a", "b"), ("b", "c")])
        >>> fork = nx.DiGraph([("b", "a"), ("b", "c")])
        >>> apart = structural_hamming_distance(chain, fork, equivalence=False)
        >>> structural_hamming_distance(chain, fork), apart
        (0, 1)
    """
    for graph in (first, second):
        _check_directed(graph)
    if set(first) != set(second):
        strangers = sorted(map(str, set(first) ^ set(second)))
        raise ValueError(
            "`first` and `second` must have the same nodes; "
            f"only one of them has {', '.join(strangers)}"
        )

    def matrix_of(graph: nx.DiGraph) -> np.ndarray:
        undirected = any(graph.has_edge(v, u) for u, v in graph.edges)
        if equivalence and not undirected:
            graph = cpdag(graph)
        return adjacency(graph, list(first))

    differs = matrix_of(first) != matrix_of(second)
    return int(np.triu(differs | differs.T, 1).sum())


def adjacency(graph: nx.DiGraph, nodes: Sequence[str]) -> np.ndarray:
    """The matrix of a graph, bool, row: parent, column: child, in the order of ``nodes``."""
    index = {node: i for i, node in enumerate(nodes)}
    matrix = np.zeros((len(nodes), len(nodes)), dtype=bool)
    for u, v in graph.edges:
        matrix[index[u], index[v]] = True
    return matrix


def with_edges(graph: nx.DiGraph, matrix: np.ndarray) -> nx.DiGraph:
    """The nodes of a graph, with their attributes, under the edges of a matrix."""
    nodes = list(graph)
    result = nx.DiGraph()
    result.add_nodes_from(graph.nodes(data=True))
    result.add_edges_from((nodes[j], nodes[i]) for j, i in np.argwhere(matrix))
    return result


def path_counts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Paths of two steps; in float32, which numpy multiplies fast and which counts to 2^24."""
    return np.asarray(first.astype(np.float32) @ second.astype(np.float32))


def _check_directed(graph: nx.DiGraph) -> None:
    if not isinstance(graph, nx.DiGraph) or graph.is_multigraph():
        raise ValueError(f"the graph must be a networkx.DiGraph, got {type(graph).__name__}")


__all__ = ["cpdag", "dag_extension", "structural_hamming_distance"]
