"""Confidence of edges: structures learned from resampled rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import networkx as nx
import numpy as np
import torch

from pyro_gen._arguments import whole_number
from pyro_gen.infer.structure.equivalence import adjacency, complete, pattern
from pyro_gen.infer.structure.search import learn_structure
from pyro_gen.infer.structure.table import CategoricalData, CategoricalTable, States


@dataclass(frozen=True, eq=False)
class EdgeConfidence:
    """Shares of structures in which two nodes are joined, and in which direction.

    Args:
        table: nodes and states.
        directed: share of structures with the edge from row to column, float64
            (nodes, nodes); an edge whose direction its Markov class leaves open
            counts half in each.
        num_samples: number of structures.
    """

    table: CategoricalTable
    directed: np.ndarray
    num_samples: int

    @property
    def strength(self) -> np.ndarray:
        """Share of structures in which two nodes are joined, (nodes, nodes), symmetric."""
        return self.directed + self.directed.T

    def edge(self, parent: str, child: str) -> tuple[float, float]:
        """Share of structures that join two nodes, and among these the share of this direction.

        Args:
            parent: a node.
            child: another one.

        Returns:
            Strength, and direction (nan where the strength is 0).
        """
        j = self.table.number(parent)
        i = self.table.number(child)
        strength = float(self.strength[j, i])
        if not strength:
            return strength, float("nan")
        return strength, float(self.directed[j, i]) / strength

    def threshold(self) -> float:
        """Strength above which an edge is significant.

        The strengths, sorted, are compared with those of a structure without
        doubt, all 0 or 1; the share of zeros that is nearest in L1 norm gives
        the threshold.

        Returns:
            The strength; an edge must exceed it.

        References:
            Scutari and Nagarajan (2013), Identifying significant edges in
            graphical models of molecular networks, equations 10 to 12.
        """
        strengths = np.sort(self.strength[np.triu_indices(len(self.directed), 1)])
        if not strengths.size:
            return 0.5
        # The step function that is t between 0 and 1, against the distribution function
        # of the strengths.
        values = np.concatenate([[0.0], strengths, [1.0]])
        widths = np.diff(values)
        heights = np.arange(len(strengths) + 1) / len(strengths)
        candidates = np.unique(heights)
        norms = [(widths * np.abs(heights - t)).sum() for t in candidates]
        share = candidates[int(np.argmin(norms))]
        zeros = round(share * len(strengths))
        if not zeros:
            return 0.0
        return float(strengths[zeros - 1])

    def averaged_network(self, threshold: float | None = None) -> nx.DiGraph:
        """One graph of the edges that are strong enough, each in its more frequent direction.

        Edges are entered by falling strength; one that would close a cycle is
        reversed.

        Args:
            threshold: strength that an edge must exceed; by default
                :meth:`threshold`.

        Returns:
            A directed acyclic graph; edges have the attributes ``strength`` and
            ``direction``, nodes ``states``.

        Raises:
            ValueError: ``threshold`` is not between 0 and 1.

        References:
            Friedman, Goldszmidt and Wyner (1999), Data analysis with Bayesian
            networks: a bootstrap approach.
        """
        if threshold is None:
            threshold = self.threshold()
        if not 0 <= threshold <= 1:
            raise ValueError(f"`threshold` must be between 0 and 1, got {threshold}")
        strength = self.strength
        nodes = self.table.nodes
        graph = self.table.graph()
        pairs = [(int(i), int(j)) for i, j in np.argwhere(np.tril(strength, -1) > threshold)]
        for i, j in sorted(pairs, key=lambda pair: (-strength[pair], pair)):
            parent, child = j, i
            if self.directed[i, j] > self.directed[j, i]:
                parent, child = i, j
            if nx.has_path(graph, nodes[child], nodes[parent]):
                parent, child = child, parent
            graph.add_edge(
                nodes[parent],
                nodes[child],
                strength=float(strength[i, j]),
                direction=float(self.directed[parent, child] / strength[i, j]),
            )
        return graph


def bootstrap_edges(
    data: CategoricalData,
    learn: Callable[[CategoricalTable], nx.DiGraph] | None = None,
    num_samples: int = 100,
    *,
    states: States = None,
) -> EdgeConfidence:
    """Learn structures from rows drawn with replacement, and count their edges.

    A directed acyclic graph counts as its Markov class, so that an arbitrary
    direction counts half each way. Torch's generator draws the rows.

    Args:
        data: complete rows; see :meth:`CategoricalTable.of`.
        learn: makes a graph from data, for example ``lambda rows:
            tabu_search(rows, BIC())`` or :func:`pc`; :func:`learn_structure` by
            default.
        num_samples: number of structures.
        states: of the nodes, where the data do not show all of them.

    Returns:
        Strength and direction of each edge.

    Raises:
        ValueError: cells are missing, or ``num_samples`` is below 1.

    References:
        Friedman, Goldszmidt and Wyner (1999), Data analysis with Bayesian
        networks: a bootstrap approach.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> a = torch.tensor([0, 1]).repeat(50)
        >>> bootstrap_edges({"a": a, "copy": a}, num_samples=5).edge("a", "copy")
        (1.0, 0.5)
    """
    table = CategoricalTable.of(data, states)
    num_samples = whole_number("num_samples", num_samples)
    total = np.zeros((len(table.nodes), len(table.nodes)))
    for _ in range(num_samples):
        rows = torch.randint(len(table), (len(table),)).to(table.values.device)
        graph = (learn or learn_structure)(table.rows(rows))
        if set(graph) != set(table.nodes):
            raise ValueError(f"`learn` must give a graph over the nodes of the data, got {graph}")
        matrix = adjacency(graph, table.nodes)
        if not (matrix & matrix.T).any():
            matrix = complete(pattern(matrix))
        total += np.where(matrix & matrix.T, 0.5, matrix)
    return EdgeConfidence(table, total / num_samples, num_samples)


__all__ = ["EdgeConfidence", "bootstrap_edges"]
