"""Complete rows of categorical columns, and counts of their combinations of states."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from pyro_gen._rows import RowsLike
from pyro_gen.distributions.bayesian_network.evidence import by_name
from pyro_gen.distributions.bayesian_network.messages import some
from pyro_gen.distributions.bayesian_network.observation import factorized, holds_names, plain

States = Mapping[str, int | Sequence[str]] | Sequence[int] | int | None
"""Names of each node's states, or how many there are, by node or for all; None as data show."""

DENSE = 1 << 16
"""Cells up to which a table of counts is laid out whole, however few rows there are."""


@dataclass(frozen=True, eq=False)
class CategoricalTable:
    """Complete rows of categorical columns: the common form of ``data`` in this package.

    Args:
        nodes: name of each column.
        states: names of each column's states, or how many there are.
        values: state numbers (rows, nodes), int64.

    Example:
        >>> rain, wet = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2])
        >>> table = CategoricalTable.of({"rain": rain, "wet": wet})
        >>> table.nodes, table.arities, len(table)
        (('rain', 'wet'), (2, 3), 3)
    """

    nodes: tuple[str, ...]
    states: tuple[int | tuple[str, ...], ...]
    values: Tensor

    @classmethod
    def of(cls, data: CategoricalData, states: States = None) -> CategoricalTable:
        """Check data and name its columns and states.

        Args:
            data: complete columns, in a data frame (pandas, polars) or a
                mapping of nodes to columns: names of states (text, categories)
                or state numbers from 0. Or state numbers in one tensor (rows,
                nodes), whose columns are named by ``states``, otherwise ``x0``,
                ``x1``, ...
            states: names of each node's states, or how many there are, by node
                or for all; by default the categories of a column, its names in
                alphabetical order, or as many as the data show.

        Returns:
            The table; ``data`` itself where it is one.

        Raises:
            ValueError: there are no rows or no nodes, columns differ in length,
                a value is no integer, missing (-1), or beyond the states.
        """
        if isinstance(data, CategoricalTable):
            if states is not None:
                raise ValueError(
                    "`states` must be None where `data` is a CategoricalTable, which knows them"
                )
            return data
        if hasattr(data, "columns"):
            data = by_name((), data, "data")
        if isinstance(data, Mapping):
            data, states = _encoded_columns(data, states)
            nodes, values = _from_columns(data)
        else:
            nodes, values = _from_matrix(data, states)
        if not values.numel():
            raise ValueError(
                "`data` must have at least one row and one node, "
                f"got {len(values)} rows of {len(nodes)}"
            )
        _refuse_missing(nodes, values)
        most = (values.amax(0) + 1).tolist()
        state_names = [_states_of(node, i, states, most[i]) for i, node in enumerate(nodes)]
        table = cls(nodes, tuple(state_names), values)
        _refuse_beyond(table, most)
        return table

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.values)

    @cached_property
    def arities(self) -> tuple[int, ...]:
        """Number of states of each node."""
        return tuple(k if isinstance(k, int) else len(k) for k in self.states)

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of each node among the columns."""
        return {node: i for i, node in enumerate(self.nodes)}

    def number(self, node: str) -> int:
        """A node's place among the columns.

        Args:
            node: its name.

        Raises:
            ValueError: there is no such node.
        """
        if node not in self.index:
            raise ValueError(f"the data have no node {node!r}; theirs are {some(self.nodes)}")
        return self.index[node]

    def rows(self, index: Tensor) -> CategoricalTable:
        """Some rows, or the same rows several times; the states stay as they are.

        Args:
            index: numbers of the rows.
        """
        return CategoricalTable(self.nodes, self.states, self.values[index])

    def graph(self, edges: Iterable[tuple[int, int]] = ()) -> nx.DiGraph:
        """A graph over the nodes, which carry their ``states``.

        Args:
            edges: pairs of numbers (parent, child).
        """
        graph = nx.DiGraph()
        for node, names in zip(self.nodes, self.states, strict=True):
            graph.add_node(node, states=names)
        graph.add_edges_from((self.nodes[j], self.nodes[i]) for j, i in edges)
        return graph

    def graph_of(self, adjacency: np.ndarray) -> nx.DiGraph:
        """A graph over the nodes from its adjacency matrix.

        Args:
            adjacency: bool (nodes, nodes), row: parent, column: child.
        """
        return self.graph((int(j), int(i)) for j, i in np.argwhere(adjacency))


CategoricalData = CategoricalTable | Mapping[str, Any] | RowsLike
"""Complete rows, as :meth:`CategoricalTable.of` takes them."""


class Counts:
    """Counts of combinations of states, for any subset of the nodes.

    Rows that are equal in all nodes are counted once, with a weight. A subset
    of more combinations than can be laid out is renumbered by those that occur,
    so that the cost is bounded by the rows.
    """

    def __init__(self, table: CategoricalTable) -> None:
        self.table = table
        self.columns = list(table.values.T.contiguous())
        self.weights: Tensor | None = None
        codes, _ = self.codes(range(len(table.nodes)))
        _, inverse, counts = torch.unique(codes, return_inverse=True, return_counts=True)
        if 2 * len(counts) <= len(table):
            first = torch.empty_like(counts).scatter_(
                0, inverse, torch.arange(len(table), device=inverse.device)
            )
            self.columns = [column[first] for column in self.columns]
            self.weights = counts.double()

    def codes(self, subset: Iterable[int]) -> tuple[Tensor, int]:
        """A number for the combination of states of each (distinct) row, and its bound.

        The state of the last node of the subset changes fastest.
        """
        codes = None
        cells = 1
        for i in subset:
            states = self.table.arities[i]
            if codes is not None and cells * states > 1 << 62:
                used, codes = torch.unique(codes, return_inverse=True)
                cells = len(used)
            if codes is None:
                codes = self.columns[i]
            else:
                codes = torch.add(self.columns[i], codes, alpha=states)
            cells *= states
        if codes is None:
            codes = torch.zeros_like(self.columns[0])
        return codes, cells

    def tally(self, codes: Tensor, cells: int) -> tuple[Tensor, Tensor]:
        """The codes that occur, in increasing order, and how often each does, float64."""
        if cells > max(DENSE, 4 * len(codes)):
            used, codes = torch.unique(codes, return_inverse=True)
            return used, torch.bincount(codes, self.weights).double()
        counts = torch.bincount(codes, self.weights, minlength=cells)
        used = counts.nonzero().squeeze(-1)
        return used, counts[used].double()

    def occurring(self, subset: Iterable[int]) -> Tensor:
        """Counts of the combinations of states of nodes that occur, float64."""
        return self.tally(*self.codes(subset))[1]


def _encoded_columns(
    data: Mapping[str, Any], states: States
) -> tuple[dict[str, Any], States | dict[str, Any]]:
    """Columns of names as state numbers, and ``states`` with the names that columns bring."""
    columns: dict[str, Any] = {}
    known = {node: _known_states(node, i, states) for i, node in enumerate(data)}
    named = False
    for node, column in data.items():
        columns[node] = column
        if holds_names(column):
            columns[node], names = _encoded(node, column, known[node])
            if names is not None:
                known[node] = names
                named = True
        elif hasattr(column, "to_numpy"):
            columns[node] = plain(column)
    return columns, known if named else states


def _known_states(node: str, i: int, states: States) -> int | tuple[str, ...] | None:
    """States of a node that the user names or counts."""
    if states is None or (isinstance(states, Mapping) and states.get(node) is None):
        return None
    return _states_of(node, i, states, 0)


def _encoded(
    node: str, column: Any, known: int | tuple[str, ...] | None
) -> tuple[Tensor, tuple[str, ...] | None]:
    """State numbers of a column, -1 where missing, and the names where it holds names.

    Integers are state numbers, as in evidence, also where they are categories.
    """
    numbers, distinct = factorized(column)
    is_name = [isinstance(value, str) for value in distinct]
    if not any(is_name):
        codes = [_state_number(node, value) for value in distinct]
        return torch.tensor([*codes, -1])[numbers], None
    if not all(is_name):
        number = next(value for value in distinct if not isinstance(value, str))
        raise ValueError(
            f"`data` of node {node!r} must be all names or all numbers of states, "
            f"got {number!r} among names"
        )
    if isinstance(known, tuple):
        names = known
    else:
        names = _declared(column) or tuple(sorted(distinct))
    if unknown := [name for name in distinct if name not in names]:
        raise ValueError(
            f"`data` of node {node!r} must be one of its states, {some(names)}, got {unknown[0]!r}"
        )
    if isinstance(known, int) and len(names) > known:
        raise ValueError(f"`data` of node {node!r} must have {known} states, got {some(names)}")
    place = torch.tensor([*(names.index(name) for name in distinct), -1])
    return place[numbers], names


def _declared(column: Any) -> tuple[str, ...]:
    """Categories that a column declares, in their order; none if it declares none."""
    dtype: Any = getattr(column, "dtype", None)
    if hasattr(dtype, "ordered") or type(dtype).__name__ == "Enum":  # of pandas, of polars
        return tuple(dtype.categories)
    return ()


def _state_number(node: str, value: Any) -> int:
    """A number of a state, as evidence takes it."""
    try:
        return operator.index(bool(value) if isinstance(value, np.bool_) else value)
    except TypeError:
        raise ValueError(
            f"`data` of node {node!r} must be names or whole numbers of states, got {value!r}"
        ) from None


def _from_columns(data: Mapping[str, Tensor]) -> tuple[tuple[str, ...], Tensor]:
    columns = {}
    for node, column in data.items():
        columns[node] = _integers(f"`data` of node {node!r}", column, 1)
    for node in columns:
        if not isinstance(node, str) or not node:
            raise ValueError(f"the nodes of `data` must be non-empty strings, got {node!r}")
    lengths = {node: len(column) for node, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"all columns of `data` must have the same number of rows, got {lengths}")
    if not columns:
        return (), torch.empty(0, 0)
    return tuple(columns), torch.stack(list(columns.values()), -1)


def _from_matrix(data: Any, states: States) -> tuple[tuple[str, ...], Tensor]:
    values = _integers("`data`", data, 2)
    width = values.shape[1]
    if isinstance(states, Mapping):
        if len(states) != width:
            raise ValueError(
                f"`states` must name the {width} columns of `data`, got {len(states)} nodes"
            )
        return tuple(states), values
    return tuple(f"x{i}" for i in range(width)), values


def _integers(name: str, values: Any, dimensions: int) -> Tensor:
    if isinstance(values, np.ndarray | list | tuple):
        array = np.asarray(values)
        # A mask would be lost.
        if np.ma.is_masked(values) or array.dtype.kind not in "iubfc":
            raise ValueError(
                f"{name} must hold state numbers, none missing, got {array.dtype} or masked cells"
            )
        values = torch.as_tensor(array)
    if not isinstance(values, Tensor):
        raise ValueError(f"{name} must be an integer tensor, got {type(values).__name__}")
    if values.is_floating_point() or values.is_complex():
        raise ValueError(
            f"{name} must hold state numbers of an integer dtype (see Tensor.long), "
            f"got {values.dtype}"
        )
    if values.dim() != dimensions:
        expected = "(rows,)" if dimensions == 1 else "(rows, nodes)"
        raise ValueError(f"{name} must have shape {expected}, got {tuple(values.shape)}")
    return values.long()


def _refuse_missing(nodes: Sequence[str], values: Tensor) -> None:
    if values.min() < 0:
        row, column = (values < 0).nonzero()[0].tolist()
        raise ValueError(
            "`data` must be complete, state numbers from 0: "
            "structures are not learned from missing cells (-1); got "
            f"{int(values[row, column])} for node {nodes[column]!r} in row {row}"
        )


def _states_of(node: str, i: int, states: States, most: int) -> int | tuple[str, ...]:
    """The states of a node, as many as the data show if nothing is said."""
    node_states: Any = states
    if isinstance(states, Mapping):
        if node not in states:
            raise ValueError(f"`states` has no entry for node {node!r}")
        node_states = states[node]
    elif isinstance(states, Sequence):
        if len(states) <= i:
            raise ValueError(f"`states` must have a number for each node, got {states!r}")
        node_states = states[i]
    if node_states is None:
        return most
    if isinstance(node_states, int | np.integer):
        return int(node_states)
    is_text = isinstance(node_states, str)
    if is_text or not all(isinstance(name, str) for name in node_states):
        raise ValueError(
            f"`states` of node {node!r} must be a number or a list of names, got {node_states!r}"
        )
    return tuple(node_states)


def _refuse_beyond(table: CategoricalTable, most: Sequence[int]) -> None:
    for i, (node, states) in enumerate(zip(table.nodes, table.arities, strict=True)):
        if most[i] > states:
            row = int(table.values[:, i].argmax())
            raise ValueError(
                f"`data` of node {node!r} must be below its {states} states, "
                f"got {most[i] - 1} in row {row}"
            )


__all__ = ["CategoricalTable", "Counts"]
