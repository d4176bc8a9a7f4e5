"""From contenders to figures: the gate, the rounds, the ratios, the table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Protocol

from benchmarks.machine import ROOT, describe, threads
from benchmarks.timing import Contender, Plan, Spread, interleave, ratios

Shape = tuple[int, int, int]


class Mode(Protocol):
    """What a module of contenders offers."""

    BASELINE: str
    CEILINGS: tuple[str, ...]
    GATE: tuple[str, ...]
    SHAPES: tuple[Shape, ...]
    UNIT: str

    @staticmethod
    def work(visible: int, hidden: int, rows: int, /) -> dict[str, float]:
        """Connection updates and chain steps of one unit."""
        ...

    @staticmethod
    def contenders(visible: int, hidden: int, rows: int, /) -> Iterator[tuple[str, Callable[[], Contender]]]:
        """Names and makers of the contenders."""
        ...


class RedGateError(Exception):
    """The op's tests fail: there is nothing to report."""


def run_gate(mode: Mode) -> str:
    """Run the op's tests.

    Args:
        mode: what is measured.

    Returns:
        The last line of the test run.

    Raises:
        RedGateError: a test fails, or there is none.
    """
    command = [sys.executable, "-m", "pytest", *mode.GATE, "-q"]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise RedGateError(f"no figure on a red gate: {' '.join(command[1:])} failed\n{outcome.stdout}{outcome.stderr}")
    return outcome.stdout.strip().splitlines()[-1]


def measure(mode: Mode, shape: Shape, peers: set[str] | None, plan: Plan) -> dict[str, Any]:
    """Time all contenders at one shape.

    Args:
        mode: what is measured.
        shape: (visible, hidden, chains).
        peers: names of the peers to run; None for all. The project's own paths, the baseline
            and the ceilings always run.
        plan: how to sample.

    Returns:
        Figures for each contender, and the peers that are missing.
    """
    built, missing = {}, {}
    for name, make in mode.contenders(*shape):
        if peers is None or name in {mode.BASELINE, *mode.CEILINGS, *peers} or name.startswith("pyro_gen"):
            try:
                built[name] = make()
            except ImportError as error:
                missing[name] = str(error)
    samples = interleave(built, plan)
    return {"shape": shape, "missing": missing, **_figures(mode, shape, samples)}


def _figures(mode: Mode, shape: Shape, samples: dict[str, list[float]]) -> dict[str, Any]:
    baseline = mode.BASELINE if mode.BASELINE in samples else "naive"
    quicker = ratios(samples, baseline)
    # The least that both products cost with the best library at hand, round by round.
    gemms = [samples[name] for name in mode.CEILINGS if name in samples]
    ceiling = [min(times) for times in zip(*gemms, strict=True)]
    figures: dict[str, dict[str, Any]] = {}
    for name, times in samples.items():
        time = Spread.of(times)
        figures[name] = {"seconds": asdict(time), f"times_quicker_than_{baseline}": asdict(quicker[name])}
        figures[name] |= {f"{key}_per_second": amount / time.median for key, amount in mode.work(*shape).items()}
        if ceiling:
            reached = [least / own for least, own in zip(ceiling, times, strict=True)]
            figures[name]["fraction_of_gemm_ceiling"] = asdict(Spread.of(reached))
    return {"baseline": baseline, "contenders": figures}


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
    report = {"gate": run_gate(mode) if gate else "ungated: development only, no figure to report", **describe()}
    results = []
    for count in thread_counts:
        with threads(count):
            for shape in shapes:
                results.append({"threads": count, **measure(mode, shape, peers, plan)})
                print(table(results[-1], mode.UNIT), flush=True)
    return {**report, "unit": mode.UNIT, "plan": asdict(plan), "results": results}


def table(result: dict[str, Any], unit: str) -> str:
    """The figures of one shape as a Markdown table: medians, quartiles of the ratios in brackets."""
    baseline = result["baseline"]
    title = "x".join(map(str, result["shape"]))
    lines = [
        f"\n{title}, threads: {result['threads']}; microseconds (us) a {unit}; ratio > 1: quicker than {baseline}\n",
        f"| contender | us | ratio to {baseline} (quartiles) | connection updates/s | chain steps/s | of GEMM |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(name, figures, baseline) for name, figures in result["contenders"].items()]
    return "\n".join(lines + [f"| {name} | missing: {why} | | | | |" for name, why in result["missing"].items()])


def _row(name: str, figures: dict[str, Any], baseline: str) -> str:
    ratio = figures[f"times_quicker_than_{baseline}"]
    reached = figures.get("fraction_of_gemm_ceiling", {}).get("median")
    cells = [
        name,
        f"{figures['seconds']['median'] * 1e6:.1f}",
        f"{ratio['median']:.2f} ({ratio['lower']:.2f}-{ratio['upper']:.2f})",
        f"{figures['connection_updates_per_second']:.3g}",
        f"{figures['chain_steps_per_second']:.3g}",
        "" if reached is None else f"{reached:.0%}",
    ]
    return f"| {' | '.join(cells)} |"
