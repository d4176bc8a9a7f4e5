"""Contenders timed in turn, round by round, so that a busy moment of the machine
hits all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass


class UnavailableError(Exception):
    """A contender cannot run on this machine; the message says why."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Args:
        run: the call to time.
        units: how many units of work (steps, epochs) one call does; may be a
            part of one.
        overhead: a call whose time is not part of the work, timed beside each
            ``run`` and subtracted; None for nothing.
        around: makes the context that the calls run in, entered and left
            outside of what is timed.
    """

    run: Callable[[], object]
    units: float = 1
    overhead: Callable[[], object] | None = None
    around: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class Spread:
    """Minimum, quartiles and maximum over the rounds."""

    minimum: float
    lower: float
    median: float
    upper: float
    maximum: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Summarise at least two values."""
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
        return cls(min(values), lower, median, upper, max(values))


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
"""``cpu`` counts what the process was given: for one thread on a busy machine,
where ``wall`` counts the others too.
"""


def seconds(
    call: Callable[[], object], calls: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Time one call, averaged over ``calls`` in a row."""
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls


def _sample(contender: Contender, calls: int, clock: Callable[[], float]) -> float:
    """Seconds a unit of work."""
    with contender.around():
        whole = seconds(contender.run, calls, clock)
        if contender.overhead:
            idle = seconds(contender.overhead, calls, clock)
        else:
            idle = 0.0
    return max(whole - idle, 1e-9) / contender.units


@dataclass(frozen=True)
class Plan:
    """How to sample.

    Args:
        rounds: samples of each contender, at least 2.
        sample_seconds: a sample repeats its call until it lasts about this long.
        clock: a name in ``CLOCKS``.
    """

    rounds: int = 25
    sample_seconds: float = 0.03
    clock: str = "wall"


def interleave(contenders: Mapping[str, Contender], plan: Plan) -> dict[str, list[float]]:
    """Warm every contender up, then time each once a round.

    Every second round runs in reverse order.

    Args:
        contenders: what competes.
        plan: how many samples, how long.

    Returns:
        Seconds a unit of work, one a round, for each contender.
    """
    calls = {}
    for name, contender in contenders.items():
        with contender.around():
            contender.run()
            calls[name] = max(1, round(plan.sample_seconds / max(seconds(contender.run, 2), 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(plan.rounds):
        names = list(contenders)
        for name in names if turn % 2 == 0 else reversed(names):
            samples[name].append(_sample(contenders[name], calls[name], CLOCKS[plan.clock]))
    return samples


def ratios(samples: Mapping[str, list[float]], baseline: str) -> dict[str, Spread]:
    """How many times quicker than ``baseline`` each contender was, paired within the rounds."""
    pairs = {name: zip(samples[baseline], times, strict=True) for name, times in samples.items()}
    return {name: Spread.of([base / own for base, own in pair]) for name, pair in pairs.items()}
