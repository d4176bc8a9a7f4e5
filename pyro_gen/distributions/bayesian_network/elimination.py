"""Variable elimination by a plan: sums of products, in logarithms too, maxima, tracing back.

Probabilities are summed as they are, by matrix products, wherever the result
shows that nothing was lost: all factors are at most one and every term that
underflows is below the smallest normal number, so a result far above that
number is right. Rows whose result is not are done again in float64, and then in
logarithms, where nothing underflows.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor

from pyro_gen.distributions.bayesian_network.plan import Plan, Scope, Step, View

Numbers = Mapping[int, "int | Tensor"]
"""State of each node observed in every row: one number, or one a row."""
SAFE = {torch.float32: 1e-20, torch.float64: 1e-200}
"""Results above are right though fewer than 10^15 terms may have underflowed."""
BLOCK = {"cpu": 2**20}
"""Cells of moving factors at a time, by device type: on the CPU about what its caches hold."""
BLOCK_ELSEWHERE = 2**26


def safe_log(x: Tensor) -> Tensor:
    """Logarithm with -inf at 0 and the gradient 0 there, not NaN."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).log(), -torch.inf)


def log_sum_exp(x: Tensor, dim: int = 0) -> Tensor:
    """Like torch's, but where all is -inf the gradient is 0, not NaN."""
    top = x.detach().amax(dim, keepdim=True).clamp(min=torch.finfo(x.dtype).min)
    return safe_log((x - top).exp().sum(dim)) + top.squeeze(dim)


@dataclass
class Prepared:
    """Parts of a plan that depend on tables alone: sources, static products and results."""

    unit: Tensor
    """Product of no factors, (1,)."""
    slots: dict[int, Tensor] = field(default_factory=dict)
    tables: list[Tensor | None] = field(default_factory=list)


Index = Tensor | slice
"""Which rows."""


@dataclass(frozen=True)
class EvidenceRows:
    """Evidence of rows: numbers of hard nodes, vectors (states, rows or 1) of soft ones."""

    count: int
    hard: Numbers
    soft: Mapping[int, Tensor]

    def slice(self, start: int, end: int) -> EvidenceRows:
        """Some of the rows."""
        if start == 0 and end >= self.count:
            return self
        return self._of(slice(start, end), min(end, self.count) - start)

    def pick(self, index: Tensor) -> EvidenceRows:
        """The rows of an index."""
        return self._of(index, len(index))

    def _of(self, index: Index, count: int) -> EvidenceRows:
        """The rows of an index; states and vectors that all rows share stay as they are."""
        hard = dict(self.hard)
        for i, states in hard.items():
            if isinstance(states, Tensor):
                hard[i] = states[index]
        soft = dict(self.soft)
        for i, vectors in soft.items():
            if vectors.shape[1] > 1:
                soft[i] = vectors[:, index]
        return EvidenceRows(count, hard, soft)

    def to(self, dtype: torch.dtype) -> EvidenceRows:
        """Copy with vectors of another dtype."""
        return EvidenceRows(self.count, self.hard, {i: x.to(dtype) for i, x in self.soft.items()})


class Semiring:
    """Sums and products of probabilities, by matrix products."""

    def enter(self, x: Tensor) -> Tensor:
        """A table or likelihood as this semiring holds it."""
        return x

    def multiply(self, factors: Iterable[Tensor]) -> Tensor:
        """Product of broadcast factors."""
        return reduce(operator.mul, factors)

    def sum(self, x: Tensor, dim: int) -> Tensor:
        """Sum over one axis."""
        return x.sum(dim)

    def contract(self, step: Step, table: Tensor, moving: Tensor) -> Tensor:
        """Product of (shared, own, states, 1) and (shared, states, other, rows)."""
        shared, table_cells, other, states = step.sizes
        rows = moving.shape[-1]
        if shared == 1:
            result = table.reshape(table_cells, states) @ moving.reshape(states, other * rows)
        else:
            result = torch.bmm(
                table.reshape(shared, table_cells, states),
                moving.reshape(shared, states, other * rows),
            )
        return result.view(*step.shape, rows)


class LogSemiring(Semiring):
    """Sums and products in logarithms; ``peak`` in place of the sum gives maxima."""

    def __init__(self, peak: bool = False) -> None:
        self.peak = peak

    def enter(self, x: Tensor) -> Tensor:
        """Its logarithm."""
        return safe_log(x)

    def multiply(self, factors: Iterable[Tensor]) -> Tensor:
        """Sum of logarithms."""
        return reduce(operator.add, factors)

    def sum(self, x: Tensor, dim: int) -> Tensor:
        """Log of the sum of exponentials, or the maximum."""
        if self.peak:
            return x.amax(dim)
        return log_sum_exp(x, dim)

    def contract(self, step: Step, table: Tensor, moving: Tensor) -> Tensor:
        """As for probabilities, cell by cell."""
        shared, table_cells, other, states = step.sizes
        left = table.reshape(shared, table_cells, states, 1, 1)
        right = moving.reshape(shared, 1, states, other, moving.shape[-1])
        return self.sum(left + right, 2).view(*step.shape, moving.shape[-1])


LINEAR = Semiring()
LOG = LogSemiring()
PEAK = LogSemiring(peak=True)


def read(view: View, slots: Mapping[int, Tensor]) -> Tensor:
    """A factor in the layout of a step."""
    factor = slots[view.slot]
    if view.axes is not None:
        factor = factor.permute(*view.axes, len(view.axes))
    if len(view.shape) + 1 == factor.dim():
        return factor
    return factor.reshape(*view.shape, factor.shape[-1])


def prepare(plan: Plan, tables: Sequence[Tensor], ring: Semiring) -> Prepared:
    """Do what depends on tables alone, the table of each node of the network."""
    prepared = Prepared(ring.enter(tables[0].new_ones(1)))
    for slot, family in enumerate(plan.families):
        table = ring.enter(tables[family.node])
        if family.axes is not None:
            table = table.permute(family.axes)
        # looked-up cells, or one, stand where the rows will be
        prepared.slots[slot] = table.reshape(*family.shape, -1)
    for step in plan.steps:
        product = None
        if step.statics:
            product = ring.multiply(read(view, prepared.slots) for view in step.statics)
        if product is not None and not step.moving:
            prepared.slots[step.target] = ring.sum(product, -2)
        prepared.tables.append(product)
    return prepared


def forward(
    plan: Plan, prepared: Prepared, rows: EvidenceRows, ring: Semiring
) -> tuple[Tensor, dict[int, Tensor]]:
    """Eliminate, with likelihood vectors that are in the semiring already.

    Returns:
        The result, free axes and then rows, and all factors by slot.
    """
    slots = dict(prepared.slots)
    for slot, family in enumerate(plan.families):
        if family.hard:
            slots[slot] = _looked_up(prepared.slots[slot], family.hard, rows)
    for slot, node in enumerate(plan.soft, len(plan.families)):
        slots[slot] = rows.soft[node].expand(-1, rows.count)
    for step, table in zip(plan.steps, prepared.tables, strict=True):
        if not step.moving:
            continue
        moving = ring.multiply(read(view, slots) for view in step.moving)
        if table is None:
            slots[step.target] = ring.sum(moving, 0)
        else:
            slots[step.target] = ring.contract(step, table, moving)
    if not plan.last:
        return prepared.unit, slots
    return ring.multiply(read(view, slots) for view in plan.last), slots


def _looked_up(table: Tensor, hard: Sequence[tuple[int, int]], rows: EvidenceRows) -> Tensor:
    code: int | Tensor = 0
    for node, stride in hard:
        code = code + rows.hard[node] * stride
    if isinstance(code, Tensor):
        return table.index_select(-1, code)
    return table.narrow(-1, code, 1).expand(*table.shape[:-1], rows.count)


def row_blocks(plan: Plan, rows: EvidenceRows, device: torch.device) -> list[tuple[int, int]]:
    """Bounds of blocks of rows such that moving factors stay small."""
    room = BLOCK.get(device.type, BLOCK_ELSEWHERE)
    size = max(1, room // max(1, plan.moving_cells))
    return [(start, min(start + size, rows.count)) for start in range(0, max(rows.count, 1), size)]


Chooser = Callable[[Tensor], Tensor]
"""From log potentials (states, ...) to one state for each."""


def trace_back(
    plan: Plan, slots: Mapping[int, Tensor], states: dict[int, Tensor], choose: Chooser
) -> None:
    """Give every eliminated node a state, the last first, each given those before.

    Args:
        plan: the plan.
        slots: factors of :func:`forward` in logarithms, by sums or maxima.
        states: states by node, (draws, rows); filled in.
        choose: takes the log potentials of a node, (states, draws, rows).
    """
    for step in reversed(plan.steps):
        if step.scopes:
            factors = (_at(slots[slot], scope, step.node, states) for slot, scope in step.scopes)
            states[step.node] = choose(reduce(operator.add, factors))


def _at(factor: Tensor, scope: Scope, node: int, states: Mapping[int, Tensor]) -> Tensor:
    """A factor at chosen states of all its nodes but one, (states, draws, rows)."""
    table = factor.movedim(scope.index(node), 0)
    neighbours = [i for i in scope if i != node]
    shape = table.shape[1:-1]
    table = table.reshape(table.shape[0], -1, table.shape[-1])
    if not neighbours:
        return table
    code: Tensor | int = 0
    for axis, other in enumerate(neighbours):
        code = code + states[other] * math.prod(shape[axis + 1 :])
    if table.shape[-1] == 1:
        return table[:, code, 0]
    return table[:, code, torch.arange(table.shape[-1], device=table.device)]


__all__ = [
    "LINEAR",
    "LOG",
    "PEAK",
    "SAFE",
    "Chooser",
    "EvidenceRows",
    "LogSemiring",
    "Prepared",
    "Semiring",
    "forward",
    "log_sum_exp",
    "prepare",
    "row_blocks",
    "safe_log",
    "trace_back",
]
