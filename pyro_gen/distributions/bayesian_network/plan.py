"""Plans of elimination: factors to multiply, their axes, and nodes to sum out, step by step.

A plan depends on the graph, the nodes observed and the nodes asked for, never
on a number; it is made once and serves every table, every row and every
semiring. All factors end in an axis of rows, of length one where they are the
same for all rows. *Static* factors come from tables alone, *moving* ones from
evidence too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from pyro_gen.distributions.bayesian_network.ordering import best_order

Scope = tuple[int, ...]
"""Nodes of a factor, in the order of its axes."""


class View(NamedTuple):
    """A factor as it is read in a step: axes permuted, ones in place of missing axes."""

    slot: int
    axes: tuple[int, ...] | None
    """None where they are in order already."""
    shape: tuple[int, ...]
    """Without the rows."""


class Family(NamedTuple):
    """The table of a node as a factor: axes of nodes seen in every row are looked up."""

    node: int
    kept: Scope
    hard: tuple[tuple[int, int], ...]
    """Pairs of a node that is looked up and its stride among the looked-up cells."""
    axes: tuple[int, ...] | None
    """None where they are in order already."""
    shape: tuple[int, ...]
    """Of the kept axes."""


class Step(NamedTuple):
    """The elimination of one node.

    Static factors multiply to a table with axes (shared, own, node), moving
    ones to (shared, node, other); the result has the axes (shared, own, other).
    """

    node: int
    target: int
    statics: tuple[View, ...]
    moving: tuple[View, ...]
    sizes: tuple[int, int, int, int]
    """Cells of shared, own, other, and states of the node."""
    shape: tuple[int, ...]
    scopes: tuple[tuple[int, Scope], ...]
    """Slot and scope of every factor that comes in."""
    result: Scope


class Plan(NamedTuple):
    """Everything that has to be done; see the module."""

    families: tuple[Family, ...]
    """Factor i is that of families[i]."""
    soft: Scope
    """Nodes with likelihood vectors; their factors come after the families'."""
    steps: tuple[Step, ...]
    free: Scope
    last: tuple[View, ...]
    """Factors that are left, as parts of the result with axes ``free``."""
    largest: int
    """Cells of the largest clique."""
    clique: Scope
    moving_cells: int
    """Cells that each row takes, all in all."""


def make_plan(
    families: Sequence[Scope],
    cardinalities: Sequence[int],
    relevant: Iterable[int],
    hard: frozenset[int],
    soft: Collection[int],
    free: Scope,
    quick: bool = False,
) -> Plan:
    """Lay out the elimination of all relevant nodes but the free and the looked-up ones.

    Args:
        families: for each node its parents and itself, the axes of its table.
        cardinalities: states of each node.
        relevant: nodes whose tables matter.
        hard: nodes observed in every row.
        soft: nodes with a likelihood vector a row.
        free: nodes that stay.
        quick: whether to be content with the first order that is good enough.
    """
    factors = [_family(i, families[i], cardinalities, hard) for i in relevant]
    likelihoods = tuple(sorted(soft))
    scopes: list[Scope] = [*(f.kept for f in factors), *((i,) for i in likelihoods)]
    remaining = {*hard, *free}
    order = best_order(
        [*scopes, free], cardinalities, [f.node for f in factors if f.node not in remaining], quick
    )
    place = {node: i for i, node in enumerate(order.nodes)}
    maker = _Maker(cardinalities, place, free)
    for slot, scope in enumerate(scopes):
        maker.enter(slot, scope, slot >= len(factors) or bool(factors[slot].hard))
    steps = tuple(maker.eliminate(node) for node in order.nodes)
    largest = max(order.largest, math.prod(cardinalities[i] for i in free))
    clique = free
    if order.largest == largest:
        clique = order.clique
    return Plan(
        tuple(factors),
        likelihoods,
        steps,
        free,
        maker.rest(),
        largest,
        clique,
        maker.moving_cells,
    )


class _Maker:
    """The factors at hand while a plan is made."""

    def __init__(self, cardinalities: Sequence[int], place: dict[int, int], free: Scope) -> None:
        self.cardinalities = cardinalities
        self.free = free
        self.rank = {node: -at for node, at in place.items()} | {
            node: -len(place) - node - 1 for node in free
        }
        self.scopes: dict[int, Scope] = {}
        self.moving: set[int] = set()
        self.holders: dict[int, set[int]] = {}
        self.slots = 0
        self.moving_cells = 0

    def enter(self, slot: int, scope: Scope, moving: bool) -> None:
        self.scopes[slot] = scope
        self.slots = max(self.slots, slot + 1)
        for node in scope:
            self.holders.setdefault(node, set()).add(slot)
        if moving:
            self.moving.add(slot)
            self.moving_cells += self.cells(scope)

    def eliminate(self, node: int) -> Step:
        bucket = sorted(self.holders.pop(node, ()))
        scopes = tuple([(slot, self.scopes.pop(slot)) for slot in bucket])
        for slot, scope in scopes:
            for other in scope:
                if other != node:
                    self.holders[other].discard(slot)
        statics = [pair for pair in scopes if pair[0] not in self.moving]
        moving = [pair for pair in scopes if pair[0] in self.moving]
        left, right = (
            {i for _, scope in pairs for i in scope if i != node} for pairs in (statics, moving)
        )
        three_scopes = [self.sorted(part) for part in (left & right, left - right, right - left)]
        shared, only_own, only_other = three_scopes
        result = shared + only_own + only_other
        target = self.slots
        step = Step(
            node,
            target,
            tuple([self.view(slot, scope, (*shared, *only_own, node)) for slot, scope in statics]),
            tuple(
                [self.view(slot, scope, (*shared, node, *only_other)) for slot, scope in moving]
            ),
            (*map(self.cells, three_scopes), self.cardinalities[node]),  # type: ignore[arg-type]  # three parts
            tuple([self.cardinalities[i] for i in result]),
            scopes,
            result,
        )
        self.enter(target, result, bool(moving))
        if len(moving) > 1:
            self.moving_cells += self.cells((*shared, node, *only_other))
        return step

    def rest(self) -> tuple[View, ...]:
        return tuple(self.view(slot, scope, self.free) for slot, scope in self.scopes.items())

    def sorted(self, nodes: Collection[int]) -> Scope:
        """Those that live longest first, so that axes seldom have to be moved."""
        return tuple(sorted(nodes, key=self.rank.__getitem__))

    def cells(self, nodes: Iterable[int]) -> int:
        return math.prod([self.cardinalities[i] for i in nodes])

    def view(self, slot: int, scope: Scope, layout: Scope) -> View:
        shape = tuple([self.cardinalities[i] if i in scope else 1 for i in layout])
        if len(layout) == len(scope) and layout == scope:
            return View(slot, None, shape)
        axes = tuple([scope.index(i) for i in layout if i in scope])
        if axes == tuple(range(len(scope))):
            return View(slot, None, shape)
        return View(slot, axes, shape)


def _family(node: int, scope: Scope, cardinalities: Sequence[int], hard: frozenset[int]) -> Family:
    if not hard or hard.isdisjoint(scope):
        return Family(node, scope, (), None, tuple([cardinalities[i] for i in scope]))
    free = tuple([i for i in scope if i not in hard])
    strides = []
    stride = 1
    for i in reversed(scope):
        if i in hard:
            strides.append((i, stride))
            stride *= cardinalities[i]
    looked_up = tuple(reversed(strides))
    layout = (*free, *[i for i, _ in looked_up])
    axes = None
    if layout != scope:
        axes = tuple([scope.index(i) for i in layout])
    return Family(node, free, looked_up, axes, tuple([cardinalities[i] for i in free]))


__all__ = ["Family", "Plan", "Scope", "Step", "View", "make_plan"]
