"""Orders of elimination: greedy on fill-in or size of the clique, the best of several."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

EASY = 2**9
"""Cells of a largest clique that is not worth another order."""
QUICK = 2**10
"""Cells of a largest clique that is small for a single case."""
SECONDS_PER_CELL, SECONDS = 3e-8, 3.0
"""Time to look for better orders: about that of elimination of one case, limited."""
TRIES = 60
"""How many orders are drawn at most."""
ROWS = 30
"""How many cases a plan for rows is thought to serve."""


class Order(NamedTuple):
    """An order, the cells of its largest clique, that clique, and the cells of all."""

    nodes: tuple[int, ...]
    largest: int
    clique: tuple[int, ...]
    total: int


def best_order(
    scopes: Iterable[Collection[int]],
    cardinalities: Sequence[int],
    eliminate: Collection[int],
    quick: bool = False,
) -> Order:
    """The best order that the heuristics find: the fewest cells in all cliques together.

    Min-fill comes first; where its largest clique is not small, min-weight,
    weighted min-fill and draws among almost equal candidates compete for about
    as long as the elimination itself takes, for one case or for some rows.

    Args:
        scopes: sets of nodes that share a factor.
        cardinalities: states of each node.
        eliminate: the nodes to be eliminated; the others of the scopes stay.
        quick: whether the cheapest heuristic, min-weight, will do where its
            cliques are small.

    References:
        Kjaerulff (1990), Triangulation of graphs. Fishelson and Geiger (2003),
        Optimizing exact genetic linkage computations (random choice among the
        best).
    """
    neighbours = interaction_graph(scopes)
    logs = [math.log2(k) for k in cardinalities]

    def attempt(rule: Rule, choose: random.Random | None = None) -> Order:
        return _measured(_greedy(dict(neighbours), logs, eliminate, rule, choose), cardinalities)

    if quick and (first := attempt(weight)).largest <= QUICK:
        return first
    best = attempt(fill)
    if best.largest <= EASY:
        return best
    start = perf_counter()
    rules = (weighted_fill, weight, fill)
    rate = SECONDS_PER_CELL
    if not quick:
        rate *= ROWS
    for rule in rules[:2]:
        best = min(best, attempt(rule), key=_cost)
    # its own: the order found for a network is always the same, but for the clock
    dice = random.Random(0)
    tries = 0
    while perf_counter() - start < min(SECONDS, rate * best.total) and tries < TRIES:
        best = min(best, attempt(rules[tries % 3], dice), key=_cost)
        tries += 1
    return best


def interaction_graph(scopes: Iterable[Collection[int]]) -> dict[int, int]:
    """For each node the others that share a factor with it, as the bits of an integer."""
    neighbours: dict[int, int] = {}
    for scope in scopes:
        mask = 0
        for i in scope:
            mask |= 1 << i
        for i in scope:
            neighbours[i] = neighbours.get(i, 0) | mask
    return {i: mask & ~(1 << i) for i, mask in neighbours.items()}


def bits(mask: int) -> Iterator[int]:
    """Numbers of the bits that are set."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


Rule = Callable[[int, Mapping[int, int], Sequence[float]], tuple[float, float]]


def weight(i: int, neighbours: Mapping[int, int], logs: Sequence[float]) -> tuple[float, float]:
    """Min-weight: the logarithm of the clique's cells."""
    cells = logs[i]
    around = neighbours[i]
    while around:  # as in `bits`, without its generator
        low = around & -around
        cells += logs[low.bit_length() - 1]
        around ^= low
    return cells, 0.0


def fill(i: int, neighbours: Mapping[int, int], logs: Sequence[float]) -> tuple[float, float]:
    """Min-fill: the edges that elimination adds; among equals the smaller clique."""
    around = neighbours[i]
    missing = sum((around & ~neighbours[j]).bit_count() - 1 for j in bits(around))
    return missing, weight(i, neighbours, logs)[0]


def weighted_fill(
    i: int, neighbours: Mapping[int, int], logs: Sequence[float]
) -> tuple[float, float]:
    """Weighted min-fill: an added edge counts the sum of its ends' log numbers of states."""
    around = neighbours[i]
    missing = 0.0
    for j in bits(around):
        lacking = around & ~neighbours[j] & ~(1 << j)
        missing += sum(2.0 ** (logs[j] + logs[k]) for k in bits(lacking))
    return missing, weight(i, neighbours, logs)[0]


def _greedy(
    neighbours: dict[int, int],
    logs: Sequence[float],
    eliminate: Collection[int],
    rule: Rule,
    dice: random.Random | None,
) -> list[tuple[int, int]]:
    """Pairs of a node and the set of its neighbours at the time of its elimination."""
    left = {i for i in eliminate if i in neighbours}
    scores = {i: rule(i, neighbours, logs) for i in sorted(left)}
    order = [(i, 0) for i in eliminate if i not in neighbours]
    while scores:
        i = min(scores, key=scores.__getitem__)
        if dice is not None and scores[i][0] > 0:
            limit = scores[i][0] * 1.1
            i = dice.choice([j for j, score in scores.items() if score[0] <= limit])
        around = neighbours.pop(i)
        order.append((i, around))
        del scores[i]
        changed = around
        for j in bits(around):
            new = (neighbours[j] | around) & ~(1 << i) & ~(1 << j)
            if rule is not weight and new & ~neighbours[j]:
                changed |= new
            neighbours[j] = new
        for j in bits(changed):
            if j in scores:
                scores[j] = rule(j, neighbours, logs)
    return order


def _measured(order: list[tuple[int, int]], cardinalities: Sequence[int]) -> Order:
    largest = 1
    total = 0
    clique: tuple[int, ...] = ()
    for i, around in order:
        members = (i, *bits(around))
        cells = math.prod(cardinalities[j] for j in members)
        total += cells
        if cells > largest:
            largest = cells
            clique = members
    return Order(tuple(i for i, _ in order), largest, clique, total)


def _cost(order: Order) -> tuple[int, int]:
    return order.total, order.largest


__all__ = ["Order", "best_order", "bits", "interaction_graph"]
