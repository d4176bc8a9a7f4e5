"""Rules of a search: edges that are forbidden or required, and the number of parents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import networkx as nx
import numpy as np

from pyro_gen._arguments import whole_number
from pyro_gen.infer.structure.table import CategoricalTable

Edges = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class EdgeRules:
    """Edges as matrices, row: parent, column: child.

    Args:
        allowed: bool (nodes, nodes), False where an edge is forbidden, and on
            the diagonal.
        required: bool (nodes, nodes).
        max_parents: of each node.
    """

    allowed: np.ndarray
    required: np.ndarray
    max_parents: int

    @classmethod
    def of(
        cls, table: CategoricalTable, forbidden: Edges, required: Edges, max_parents: int | None
    ) -> EdgeRules:
        """Check the rules.

        Args:
            table: the data, which name the nodes.
            forbidden: pairs (parent, child) that must not be edges.
            required: pairs (parent, child) that must be edges.
            max_parents: of each node; None for no limit.
        """
        nodes = len(table.nodes)
        most = nodes - 1
        if max_parents is not None:
            most = whole_number("max_parents", max_parents, 0)
        black = _matrix(table, "forbidden", forbidden)
        white = _matrix(table, "required", required)
        if (black & white).any():
            j, i = np.argwhere(black & white)[0]
            raise ValueError(
                f"the edge {table.nodes[j]!r} -> {table.nodes[i]!r} "
                "is both `forbidden` and `required`"
            )
        if not nx.is_directed_acyclic_graph(table.graph_of(white)):
            raise ValueError("`required` must be edges without a cycle")
        if (white.sum(0) > most).any():
            i = int(white.sum(0).argmax())
            raise ValueError(
                f"`required` gives node {table.nodes[i]!r} more parents than `max_parents`, {most}"
            )
        return cls(~black & ~np.eye(nodes, dtype=bool), white, most)


def _matrix(table: CategoricalTable, name: str, edges: Edges) -> np.ndarray:
    matrix = np.zeros((len(table.nodes), len(table.nodes)), dtype=bool)
    for edge in edges:
        if isinstance(edge, str) or len(edge) != 2 or edge[0] == edge[1]:
            raise ValueError(
                f"`{name}` must be pairs (parent, child) of different nodes, got {edge!r}"
            )
        matrix[table.number(edge[0]), table.number(edge[1])] = True
    return matrix


__all__ = ["EdgeRules", "Edges"]
