"""From contenders to figures: the gate, the rounds, the ratios."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Protocol

from benchmarks import ceilings, tables
from benchmarks.machine import ROOT, describe, threads
from benchmarks.timing import Contender, Plan, Spread, UnavailableError, interleave, ratios

Shape = tuple[int, int, int]

PEERS = (
    *("naive", "preallocated", "sklearn", "learnergy", "rbms"),
    *("pytorch-generative", "nflows", "pyro", "numpyro", "zuko"),
    *("pyagrum", "pgmpy"),
)
"""Rivals by the first word of their contenders' names.

A mode has those that offer what it measures.
"""


class Mode(Protocol):
    """What a module of contenders offers."""

    BASELINE: str
    CEILINGS: tuple[str, ...]
    GATE: tuple[str, ...]
    SHAPES: tuple[Shape, ...]
    UNIT: str
    JOB: tuple[str, int] | None
    """Name and units of a whole job whose seconds are extrapolated from a unit's."""

    @staticmethod
    def work(visible: int, hidden: int, rows: int, /) -> dict[str, float]:
        """Connection updates, chain steps and, with ceilings, flops and bytes of one unit."""
        ...

    @staticmethod
    def contenders(
        visible: int, hidden: int, rows: int, /
    ) -> Iterator[tuple[str, Callable[[], Contender]]]:
        """Names and makers of the contenders.

        A maker raises ImportError or UnavailableError where it cannot run.
        """
        ...


class RedGateError(Exception):
    """The op's tests fail: there is nothing to report."""


def run_gate(tests: tuple[str, ...]) -> str:
    """Run the op's tests.

    Args:
        tests: files and folders.

    Returns:
        The last line of the test run.

    Raises:
        RedGateError: a test fails, or there is none.
    """
    command = [sys.executable, "-m", "pytest", *tests, "-q"]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise RedGateError(
            f"no figure on a red gate: {' '.join(command[1:])} "
            f"failed\n{outcome.stdout}{outcome.stderr}"
        )
    return outcome.stdout.strip().splitlines()[-1]


def preamble(tests: tuple[str, ...], gate: bool, plan: Plan) -> dict[str, Any]:
    """The head of every report: the gate's outcome, the machine, the versions, the command.

    Args:
        tests: see :func:`run_gate`.
        gate: whether to run the tests; without them the report says "ungated".
        plan: how to sample.

    Returns:
        For the report.

    Raises:
        RedGateError: the tests fail.
    """
    if gate:
        outcome = run_gate(tests)
    else:
        outcome = "ungated: development only, no figure to report"
    return {"gate": outcome, **describe(), "plan": asdict(plan)}


def build(
    makers: Iterator[tuple[str, Callable[[], Contender]]],
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Make contenders.

    Args:
        makers: names and makers.

    Returns:
        Those that can run here, and for the others the reason.
    """
    built = {}
    missing = {}
    for name, make in makers:
        try:
            built[name] = make()
        except (ImportError, UnavailableError) as error:
            missing[name] = str(error)
    return built, missing


def measure(
    mode: Mode, shape: Shape, peers: set[str] | None, plan: Plan, bandwidth: float
) -> dict[str, Any]:
    """Time all contenders at one shape.

    Args:
        mode: what is measured.
        shape: (visible, hidden, chains).
        peers: names of the peers to run, out of ``PEERS``; None for all. The
            project's own paths, the baseline and the bare products always run.
        plan: how to sample.
        bandwidth: bytes a second of a copy.

    Returns:
        Figures for each contender, and the contenders that are missing.
    """
    built, missing = build(
        pair for pair in mode.contenders(*shape) if _wanted(pair[0], mode.BASELINE, peers)
    )
    samples = interleave(built, plan)
    return {"shape": shape, "missing": missing, **_figures(mode, shape, samples, bandwidth)}


def _wanted(name: str, baseline: str, peers: set[str] | None) -> bool:
    own = name == baseline or name.startswith("pyro_gen") or name.endswith("_gemm")
    return own or peers is None or name.split(maxsplit=1)[0] in peers


def _figures(
    mode: Mode, shape: Shape, samples: dict[str, list[float]], bandwidth: float
) -> dict[str, Any]:
    baseline = mode.BASELINE if mode.BASELINE in samples else "naive"
    quicker = ratios(samples, baseline)
    work = mode.work(*shape)
    # some modes have pairs besides the one baseline
    rivals: dict[str, str] = getattr(mode, "RIVALS", {})
    # The least that the products cost with the best library at hand, round by round.
    gemms = [samples[name] for name in mode.CEILINGS if name in samples]
    ceiling = [min(times) for times in zip(*gemms, strict=True)]
    figures: dict[str, dict[str, Any]] = {}
    for name, times in samples.items():
        time = Spread.of(times)
        figures[name] = {
            "seconds": asdict(time),
            f"times_quicker_than_{baseline}": asdict(quicker[name]),
        }
        figures[name] |= {
            f"{key}_per_second": amount / time.median for key, amount in work.items()
        }
        rival = rivals.get(name)
        if rival in samples:
            figures[name]["times_quicker_than_its_rival"] = {
                "rival": rival,
                **asdict(ratios(samples, rival)[name]),
            }
        if ceiling:
            reached = [least / own for least, own in zip(ceiling, times, strict=True)]
            figures[name]["fraction_of_gemm_ceiling"] = asdict(Spread.of(reached))
        if "bytes" in work:
            figures[name]["fraction_of_copy_ceiling"] = work["bytes"] / time.median / bandwidth
        if mode.JOB:
            figures[name][f"seconds_for_{mode.JOB[0]}"] = mode.JOB[1] * time.median
    limits = {"copy_bytes_per_second": bandwidth}
    if ceiling:
        limits["gemm_flops_per_second"] = work["flops"] / Spread.of(ceiling).median
    return {"baseline": baseline, "ceilings": limits, "contenders": figures}


def run(
    mode: Mode,
    shapes: tuple[Shape, ...],
    thread_counts: list[int],
    peers: set[str] | None,
    plan: Plan,
    gate: bool,
) -> dict[str, Any]:
    """Measure every shape with every number of threads, on a green gate.

    Args:
        mode: what is measured.
        shapes: (visible, hidden, chains) of each problem.
        thread_counts: numbers of threads.
        peers: see :func:`measure`.
        plan: how to sample.
        gate: whether to run the tests; without them the report says "ungated".

    Returns:
        A report for JSON.

    Raises:
        RedGateError: the tests fail.
    """
    report = preamble(mode.GATE, gate, plan)
    results: list[dict[str, Any]] = []
    for count in thread_counts:
        with threads(count):
            bandwidth = ceilings.copy_bandwidth(plan)
            for shape in shapes:
                results.append({"threads": count, **measure(mode, shape, peers, plan, bandwidth)})
                print(
                    tables.contenders(results[-1], mode.UNIT, mode.JOB and mode.JOB[0]), flush=True
                )
    if len(thread_counts) > 1:
        print(tables.scaling(results))
    return {**report, "unit": mode.UNIT, "results": results}
