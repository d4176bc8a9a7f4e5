"""Draws from NADE: by one call, step by step with the activations kept, and by a
whole pass for each feature.

Of the passes a few, spread over the order, are timed, and the seconds of all
features follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.autoregressive_sampling import passes
from benchmarks.nade import GATE, work
from benchmarks.paths import every_path, on_path
from benchmarks.timing import Contender
from pyro_gen.nn import NADE
from pyro_gen.nn.autoregressive import AutoregressiveNetwork

__all__ = ["BASELINE", "CEILINGS", "GATE", "JOB", "SHAPES", "UNIT", "contenders", "work"]

BASELINE = "naive"
CEILINGS: tuple[str, ...] = ()
SHAPES = ((784, 500, 128), (64, 64, 128))
"""(features, hidden, rows)"""
UNIT = "draw of all rows"
JOB = None


class Stepwise(NADE):
    """One that keeps its activations, and takes every step by itself."""

    generate = AutoregressiveNetwork.generate


def contenders(
    visible: int, hidden: int, rows: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""

    def draws(kind: type[NADE]) -> Contender:
        torch.manual_seed(0)
        return Contender(partial(kind(visible, hidden)().sample, (rows,)))

    yield from every_path(lambda: draws(NADE))
    yield "pyro_gen, step by step", lambda: on_path(None, draws(Stepwise))
    yield BASELINE, lambda: on_path(None, passes(NADE, visible, hidden, rows))
