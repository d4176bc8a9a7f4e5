"""Coupled units of a Boltzmann machine: an edge list, its colouring, and sums over the edges."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number

DENSE_SHARE = 1 / 16
"""Share of all pairs above which a matrix is faster than a list of edges."""


class Neighbours(NamedTuple):
    """The neighbours of some units: ``sources[offsets[k]:offsets[k + 1]]`` are those
    of the k-th unit.

    ``edges`` are the numbers of the edges that lead there. Units are counted in
    the order of their colours.
    """

    sources: Tensor
    edges: Tensor
    offsets: Tensor


class CouplingGraph:
    """The pairs of units that have a coupling, each once, with a colouring in which no
    two neighbours share a colour.

    Units of one colour are independent given all others, so one block of Gibbs
    sampling updates them together. Two colours are found where two are enough
    (square lattices with even sides, the graph of an RBM); elsewhere greedily,
    the smallest last, at most one more than the graph's degeneracy.

    Args:
        num_units: number n of units.
        edges: pairs of units, integers of shape (m, 2).

    Raises:
        ValueError: an edge joins a unit to itself or to one that does not
            exist, or comes twice.

    References:
        Matula and Beck (1983), Smallest-last ordering and clustering and graph
        coloring algorithms, Journal of the ACM 30.

    Example:
        >>> square = CouplingGraph(4, torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]]))
        >>> square.colors
        tensor([0, 1, 0, 1])
    """

    def __init__(self, num_units: int, edges: Tensor) -> None:
        num_units = whole_number("num_units", num_units)
        _check_edges(num_units, edges)
        self.num_units = num_units
        self.edges = edges.detach().clone().long()

    @classmethod
    def complete(cls, num_units: int) -> CouplingGraph:
        """Every pair of units.

        Args:
            num_units: number of units.

        Returns:
            A graph whose edges are in the order of
            ``torch.triu_indices(num_units, num_units, 1)``.
        """
        num_units = whole_number("num_units", num_units)
        return cls(num_units, torch.triu_indices(num_units, num_units, 1).mT)

    @classmethod
    def of_matrix(cls, nonzero: Tensor) -> CouplingGraph:
        """The pairs that a symmetric boolean matrix marks."""
        return cls(nonzero.shape[-1], nonzero.triu(1).nonzero())

    @property
    def num_edges(self) -> int:
        """Number m of edges."""
        return len(self.edges)

    @property
    def is_dense(self) -> bool:
        """True if sums over neighbours are faster as products with a matrix."""
        return self.num_edges > DENSE_SHARE * self.num_units * (self.num_units - 1) / 2

    def to(self, device: torch.device | str) -> CouplingGraph:
        """Copy of the graph on another device, with its colouring."""
        if self.edges.device == torch.device(device):
            return self
        new = object.__new__(CouplingGraph)
        new.num_units, new.edges = self.num_units, self.edges.to(device)
        new.__dict__["colors"] = self.colors.to(device)
        for name in ("blocks", "order", "rest", "free"):
            value = getattr(self, name)
            new.__dict__[name] = value.to(device) if isinstance(value, Tensor) else value
        return new

    @cached_property
    def colors(self) -> Tensor:
        """The colour of every unit, 0, 1, ..."""
        if self.num_edges == self.num_units * (self.num_units - 1) // 2:
            return torch.arange(self.num_units, device=self.edges.device)
        color_of = _color(self.num_units, self.edges.tolist())
        return torch.tensor([color_of[i] for i in range(self.num_units)], device=self.edges.device)

    @cached_property
    def order(self) -> Tensor:
        """The units sorted by colour."""
        return self.colors.argsort(stable=True)

    @cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """First and last position (exclusive) in ``order`` of every colour."""
        stops = [0, *torch.bincount(self.colors).cumsum(0).tolist()]
        return list(pairwise(stops))

    @cached_property
    def free(self) -> Tensor:
        """The units of the largest colour, which are independent given ``rest``."""
        start, stop = max(self.blocks, key=lambda block: block[1] - block[0])
        return self.order[start:stop]

    @cached_property
    def rest(self) -> Tensor:
        """The units that are not ``free``, in their order: an exact sum enumerates their
        states only.
        """
        enumerated = torch.ones(self.num_units, dtype=torch.bool, device=self.edges.device)
        enumerated[self.free] = False
        return enumerated.nonzero().squeeze(-1)

    @cached_property
    def neighbours(self) -> dict[tuple[int, int], Neighbours]:
        """The neighbours of the units of every block, and of all units."""
        place = self.order.argsort()
        targets, neighbours = place[torch.cat([self.edges, self.edges.flip(-1)])].unbind(-1)
        by_end = targets.argsort(stable=True)
        sources = neighbours[by_end]
        numbers = torch.arange(self.num_edges, device=targets.device).repeat(2)[by_end]
        first = torch.cat(
            [targets.new_zeros(1), torch.bincount(targets, minlength=self.num_units).cumsum(0)]
        )
        result = {}
        for start, stop in [*self.blocks, (0, self.num_units)]:
            part = slice(int(first[start]), int(first[stop]))
            result[start, stop] = Neighbours(
                sources[part], numbers[part], first[start:stop] - first[start]
            )
        return result

    def matrix(self, values: Tensor) -> Tensor:
        """The symmetric matrix (..., n, n) with zero diagonal whose pairs have the given
        values (..., m).
        """
        i, j = self.edges.unbind(-1)
        cells = torch.cat([i * self.num_units + j, j * self.num_units + i])
        empty = values.new_zeros((*values.shape[:-1], self.num_units**2))
        full = empty.index_copy(-1, cells, torch.cat([values, values], -1))
        return full.unflatten(-1, (self.num_units, self.num_units))

    def pair_products(self, states: Tensor) -> Tensor:
        """x_i x_j of every edge, shape (..., m)."""
        i, j = self.edges.unbind(-1)
        return states[..., i] * states[..., j]

    def product(self, states: Tensor, values: Tensor) -> Tensor:
        """Sum over the neighbours of every unit of coupling times state, shape (..., n)."""
        i, j = self.edges.unbind(-1)
        to_i = values * states[..., j]
        to_j = values * states[..., i]
        empty = to_i.new_zeros((*to_i.shape[:-1], self.num_units))
        return empty.index_add(-1, i, to_i).index_add(-1, j, to_j)


def _color(num_units: int, edges: Iterable[tuple[int, int]]) -> dict[int, int]:
    import networkx as nx

    graph = nx.empty_graph(num_units)
    graph.add_edges_from(edges)
    if nx.is_bipartite(graph):
        color_of = nx.bipartite.color(graph)
        return {unit: color ^ color_of[0] for unit, color in color_of.items()}
    return nx.greedy_color(graph, "smallest_last")


def _check_edges(num_units: int, edges: Tensor) -> None:
    if (
        edges.dim() != 2
        or edges.shape[-1] != 2
        or edges.is_floating_point()
        or edges.dtype == torch.bool
    ):
        raise ValueError(
            f"`edges` must be integers of shape (m, 2), got {edges.dtype} of shape "
            f"{tuple(edges.shape)}"
        )
    if not len(edges):
        return
    if edges.min() < 0 or edges.max() >= num_units:
        raise ValueError(
            f"`edges` must join units 0 to {num_units - 1}, got {edges.min()} to {edges.max()}"
        )
    low, high = edges.long().aminmax(dim=-1)
    if (low == high).any():
        raise ValueError(
            f"`edges` must join different units, got unit {low[low == high][0]} with itself"
        )
    pairs, count = (low * num_units + high).unique(return_counts=True)
    if (count > 1).any():
        pair = int(pairs[count > 1][0])
        raise ValueError(
            f"`edges` must hold every pair once, got {divmod(pair, num_units)} more than once"
        )


__all__ = ["CouplingGraph"]
