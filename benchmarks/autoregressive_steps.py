"""Generation step by step, ``start`` and ``next``, as a caller in real time does
it: the time of a step of each family.

A step settles a drawn feature and gives the next one's distribution as a
distribution. Beside each family the same with nothing kept; the baseline is
NADE's step in bare torch, without a distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.autoregressive import FAMILIES, GATE
from benchmarks.autoregressive_sampling import PASSES, RIVALS, forgetful, loop
from benchmarks.nade import work
from benchmarks.timing import Contender
from pyro_gen.distributions import Autoregressive
from pyro_gen.nn import AutoregressiveNetwork

__all__ = ["BASELINE", "CEILINGS", "GATE", "JOB", "RIVALS", "SHAPES", "UNIT", "contenders", "work"]

BASELINE = "naive"
CEILINGS: tuple[str, ...] = ()
SHAPES = ((784, 500, 1), (64, 64, 1))
"""(features, hidden, rows)"""
UNIT = "step"
JOB = None


def contenders(
    visible: int, hidden: int, rows: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""
    for name, make in FAMILIES.items():
        yield f"pyro_gen {name}", partial(_steps, make, visible, hidden, rows, visible)
        yield f"naive {name}", partial(_naive, make, visible, hidden, rows)
    yield BASELINE, lambda: Contender(partial(loop, visible, hidden, rows), visible)


def _steps(
    make: Callable[[int, int], AutoregressiveNetwork],
    features: int,
    hidden: int,
    rows: int,
    steps: int,
) -> Contender:
    torch.manual_seed(0)
    return Contender(partial(walk, make(features, hidden)(), rows, steps), steps)


def _naive(
    make: Callable[[int, int], AutoregressiveNetwork], features: int, hidden: int, rows: int
) -> Contender:
    def forgetting(*sizes: int) -> AutoregressiveNetwork:
        return forgetful(make(*sizes))

    return _steps(forgetting, features, hidden, rows, min(PASSES, features))


@torch.no_grad()
def walk(density: Autoregressive, rows: int, steps: int) -> None:
    """The first features of some events."""
    generation = density.start((rows,))
    for _ in range(steps):
        generation = density.next(generation)
