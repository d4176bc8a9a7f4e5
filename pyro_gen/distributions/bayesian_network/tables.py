"""Tables of conditional probabilities as one flat tensor, and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_gen.distributions.bayesian_network.observation import one_state
from pyro_gen.distributions.bayesian_network.structure import NetworkStructure

TOLERANCE = 1e-5
"""By how much a row of a table may miss one."""
BLOCK = 2**22
"""State numbers that counting looks up at a time."""


class ConditionalTables(constraints.Constraint):
    """Tables one after another whose rows, as the structure says them, are probabilities."""

    event_dim = 1

    def __init__(self, structure: NetworkStructure) -> None:
        self.structure = structure
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Check that all entries are non-negative and all rows sum to one, up to 1e-5."""
        return (value >= 0).all(-1) & (
            (row_sums(self.structure, value) - 1).abs() <= TOLERANCE
        ).all(-1)


class NetworkStates(constraints.Constraint):
    """Rows of state numbers, one for each node."""

    is_discrete = True
    event_dim = 1

    def __init__(self, cardinalities: Sequence[int]) -> None:
        self.cardinalities = tuple(cardinalities)
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Check that each number is an integer from 0 up to the node's states."""
        sizes = torch.tensor(self.cardinalities, device=value.device)
        valid = (value >= 0) & (value < sizes)
        if value.is_floating_point():
            valid = valid & (value == value.floor())
        return valid.all(-1)


def cells_of(structure: NetworkStructure, value: Tensor) -> Tensor:
    """The cells (..., nodes) of the flattened tables that complete rows (..., nodes) read."""
    members, strides = (x.to(value.device) for x in structure.cell_indices)
    cells = (value[..., members.flatten()].unflatten(-1, members.shape) * strides).sum(-1)
    return (cells + structure.offset_tensor.to(value.device)).clamp(0, structure.cells - 1)


def flatten(structure: NetworkStructure, tables: Mapping[str, Tensor]) -> Tensor:
    """Tables (..., states of each parent, own states) by node one after another, (..., cells).

    Raises:
        ValueError: one is missing, has another shape, dtype or device than it
            should have.
    """
    if strangers := [node for node in tables if node not in structure.index]:
        raise ValueError(f"`tables` names {strangers[0]!r}, which is no node of the network")
    tables_ = [_part(structure, node, tables) for node in structure.nodes]
    if not tables_:
        raise ValueError("the network must have at least one node")
    for node, part in zip(structure.nodes, tables_, strict=True):
        if (part.dtype, part.device) != (tables_[0].dtype, tables_[0].device):
            raise ValueError(
                f"all tables must be {tables_[0].dtype} on {tables_[0].device} as that of "
                f"{structure.nodes[0]!r}, got {part.dtype} on {part.device} for {node!r}"
            )
    if all(part.dim() == 1 for part in tables_):
        return torch.cat(tables_)
    try:
        batch = torch.broadcast_shapes(*(part.shape[:-1] for part in tables_))
    except RuntimeError as error:
        raise ValueError(f"the batch shapes of `tables` must broadcast: {error}") from error
    return torch.cat([part.expand(*batch, -1) for part in tables_], -1)


def _part(structure: NetworkStructure, node: str, tables: Mapping[str, Tensor]) -> Tensor:
    shape = structure.table_shape(node)
    if node not in tables:
        raise ValueError(f"`tables` has no table for node {node!r}")
    table = torch.as_tensor(tables[node])
    if table.dim() < len(shape) or table.shape[table.dim() - len(shape) :] != shape:
        parents = ", ".join(map(repr, structure.parents[node])) or "none"
        raise ValueError(
            f"the table of node {node!r} must have shape (..., {', '.join(map(str, shape))}), the "
            f"states of its parents ({parents}) and its own, got {tuple(table.shape)}"
        )
    return table.flatten(-len(shape))


def check_flat(structure: NetworkStructure, flat: Tensor) -> None:
    """Check shape and dtype of flattened tables."""
    if flat.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"`tables` must be float32 or float64, got {flat.dtype}")
    if not structure.nodes or flat.dim() < 1 or flat.shape[-1] != structure.cells:
        raise ValueError(
            f"`tables` must have shape (..., {structure.cells}) if flat, got {tuple(flat.shape)}"
        )


def check_rows(structure: NetworkStructure, flat: Tensor) -> None:
    """Check that rows are probabilities, up to 1e-5; the error names node and row."""
    value = flat.detach()
    if ConditionalTables(structure).check(value).all():
        return
    for node, rows in named_rows(structure, value):
        bad = ~((rows >= 0).all(-1) & ((rows.sum(-1) - 1).abs() <= TOLERANCE)).reshape(
            -1, rows.shape[-2]
        )
        if bad.any():
            batch, row = bad.nonzero()[0].tolist()
            probs = rows.reshape(-1, *rows.shape[-2:])[batch, row]
            raise ValueError(
                f"row {row} of the table of node {node!r} in `tables` must be probabilities with "
                f"sum 1, got {probs.tolist()} with sum {probs.sum().item():.8g}"
            )


def named_rows(structure: NetworkStructure, flat: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Each node with its table as rows, (..., rows, states)."""
    for node, part, states in zip(
        structure.nodes, flat.split(structure.sizes, -1), structure.cardinalities, strict=True
    ):
        yield node, part.reshape(*part.shape[:-1], -1, states)


def by_node(structure: NetworkStructure, flat: Tensor) -> dict[str, Tensor]:
    """Each node's table, (..., states of each parent, own states), from flat ones (..., cells)."""
    node_tables = zip(structure.nodes, flat.split(structure.sizes, -1), strict=True)
    return {
        node: part.reshape(*part.shape[:-1], *structure.table_shape(node))
        for node, part in node_tables
    }


def counts_of(structure: NetworkStructure, rows: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weighted counts, (cells,), float64, of the cells that complete rows (rows, nodes) read."""
    size = max(1, BLOCK // max(1, structure.cell_indices[0].numel()))
    if weights is None:
        weights = torch.ones(len(rows), device=rows.device)
    weights = weights.double()
    counts = torch.zeros(structure.cells, dtype=torch.float64, device=rows.device)
    for part, weight in zip(rows.split(size), weights.split(size), strict=True):
        cells = cells_of(structure, part)
        counts += torch.bincount(
            cells.flatten(), weight.unsqueeze(1).expand_as(cells).flatten(), structure.cells
        )
    return counts


def from_counts(structure: NetworkStructure, counts: Tensor, otherwise: Tensor) -> Tensor:
    """Tables of relative frequencies, and of other rows where nothing was counted."""
    sums = row_sums(structure, counts)[..., structure.row_of_cell.to(counts.device)]
    return torch.where(sums > 0, counts / torch.where(sums > 0, sums, 1.0), otherwise)


def row_sums(structure: NetworkStructure, flat: Tensor) -> Tensor:
    """Sum of each row of each table, (..., rows)."""
    row = structure.row_of_cell.to(flat.device)
    sums = flat.new_zeros(*flat.shape[:-1], int(structure.num_rows))
    return sums.index_add(-1, row, flat)


def normalized(structure: NetworkStructure, flat: Tensor) -> Tensor:
    """Tables whose rows are divided by their sums."""
    return flat / row_sums(structure, flat)[..., structure.row_of_cell.to(flat.device)]


def point_mass(structure: NetworkStructure, node: str, state: str | int, like: Tensor) -> Tensor:
    """The table of a node that is set to a state, in the dtype and on the device of ``like``."""
    table = like.new_zeros(structure.cardinalities[structure.number(node)])
    table[one_state(structure, node, state)] = 1
    return table


def draw_states(probs: Tensor) -> Tensor:
    """States (...) with probabilities (..., states), up to a factor, by inversion.

    One of probability zero is never drawn.
    """
    cumulative = probs.cumsum(-1)
    total = cumulative[..., -1:]
    uniform = torch.rand(probs.shape[:-1], dtype=probs.dtype, device=probs.device).unsqueeze(-1)
    return ((cumulative <= uniform * total) & (cumulative < total)).sum(-1)


__all__ = [
    "TOLERANCE",
    "ConditionalTables",
    "NetworkStates",
    "by_node",
    "cells_of",
    "check_flat",
    "check_rows",
    "counts_of",
    "draw_states",
    "flatten",
    "from_counts",
    "named_rows",
    "normalized",
    "point_mass",
    "row_sums",
]
