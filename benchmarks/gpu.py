"""``python -m benchmarks gpu``: a CUDA machine's whole run, from correctness to
one JSON and one Markdown table.

Needs torch, Triton and the package's own dependencies, no pytest. First what
``tests/kernels/triton_run.py`` holds runs compiled on the GPU (words, formulas,
odd shapes, poisoned memory, distributions, gradients, annealing, public ops,
streams) in a process of its own, and part of it under compute-sanitizer where
that is installed; nothing is timed where one fails. Then all contenders take
turns, round by round, timed by CUDA events.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_contenders as contenders
from benchmarks.gpu_gate import gate, sanitize
from benchmarks.machine import ROOT, describe
from benchmarks.timing import Contender, Spread, ratios
from pyro_gen._files import json_text, replacing
from pyro_gen.kernels.triton import missing

RESULTS = ROOT / "benchmarks" / "results"
SHAPES = {
    "gibbs": (
        (784, 500, 128),
        (784, 500, 1024),
        (784, 1024, 1024),
        (64, 64, 64),
        (4096, 4096, 4096),
    ),
    "cd": ((784, 500, 128), (784, 500, 1024), (784, 1024, 1024)),
    "ais": ((784, 500, 128), (784, 500, 1024)),
    "nade": ((784, 500, 128), (784, 500, 1024)),
    "nade_sampling": ((784, 500, 128), (784, 500, 1024)),
}
"""(visible, hidden, chains) for each op."""

Mode = Callable[[int, int, int, str], Iterator[tuple[str, Callable[[], Contender]]]]
MODES: dict[str, Mode] = {
    **{"gibbs": contenders.gibbs, "cd": contenders.cd, "ais": contenders.ais},
    **{"nade": contenders.nade, "nade_sampling": contenders.nade_sampling},
}


def why_not() -> str | None:
    """Why this machine cannot run the benchmark, or None."""
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no CUDA device"
    return missing()


def elapsed(call: Callable[[], object], calls: int, device: str) -> float:
    """Seconds of one call, averaged over ``calls`` in a row: the device's time, gaps included."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls
    first = torch.cuda.Event(enable_timing=True)
    last = torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    for _ in range(calls):
        call()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) * 1e-3 / calls


def interleave(
    built: Mapping[str, Contender], rounds: int, seconds: float, device: str
) -> dict[str, list[float]]:
    """Warm every contender up, then time each once a round, every second round in
    reverse order: seconds a unit.
    """
    calls = {}
    for name, contender in built.items():
        for _ in range(3):
            contender.run()
        calls[name] = max(1, round(seconds / max(elapsed(contender.run, 2, device), 1e-7)))
    samples: dict[str, list[float]] = {name: [] for name in built}
    for turn in range(rounds):
        for name in list(built) if turn % 2 == 0 else reversed(list(built)):
            samples[name].append(elapsed(built[name].run, calls[name], device) / built[name].units)
    return samples


def ceilings(rounds: int, device: str) -> dict[str, float]:
    """What the hardware gives: bytes a second, read and written, of a copy, and
    flops a second of large products.
    """
    side, sizes = (64, 2**10) if device == "cpu" else (8192, 2**30)
    source = torch.ones(sizes // 4, device=device)
    target = torch.zeros_like(source)
    calls: dict[str, tuple[float, Callable[[], object]]] = {
        "copy_bytes_per_second": (2.0 * sizes, lambda: target.copy_(source))
    }
    for name, dtype, tf32 in (("float16", torch.float16, False), ("tf32", torch.float32, True)):
        # random: on zeros a GPU draws less power and runs faster
        x = torch.randn(side, side, device=device).to(dtype)
        product = contenders.with_tf32(partial(torch.mm, x, x, out=torch.empty_like(x)), tf32)
        calls[f"{name}_flops_per_second"] = 2.0 * side**3, product
    found = {}
    for name, (work, call) in calls.items():
        call()
        found[name] = work / Spread.of([elapsed(call, 3, device) for _ in range(rounds)]).median
    return found


def measure(
    mode: str,
    shape: tuple[int, int, int],
    rounds: int,
    seconds: float,
    device: str,
    limits: Mapping[str, float],
) -> dict[str, Any]:
    """Time all contenders of one op at one shape.

    Args:
        mode: name of the op.
        shape: (visible, hidden, chains).
        rounds: samples of each contender, at least 2.
        seconds: length of a sample.
        device: where to run; on "cpu" only the naive contenders exist.
        limits: of :func:`ceilings`.

    Returns:
        Figures of each contender, and why others are missing.
    """
    visible, hidden, chains = shape
    built = {}
    missing = {}
    for name, make in MODES[mode](visible, hidden, chains, device):
        try:
            contender = make()
            contender.run()
        except (
            Exception
        ) as error:  # whatever stops one contender is reported in its place, the others run on
            missing[name] = f"{type(error).__name__}: {error}"
        else:
            built[name] = contender
    samples = interleave(built, rounds, seconds, device)
    quicker = ratios(samples, "naive")
    figures = {}
    for name, times in samples.items():
        median = Spread.of(times).median
        figures[name] = {
            "seconds": asdict(Spread.of(times)),
            "times_quicker_than_naive": asdict(quicker[name]),
            "connection_updates_per_second": 2.0 * visible * hidden * chains / median,
            "chain_steps_per_second": chains / median,
            "fraction_of_float16_flops": 4.0
            * visible
            * hidden
            * chains
            / median
            / limits["float16_flops_per_second"],
        }
    return {
        "op": mode,
        "shape": shape,
        "unit": contenders.UNITS[mode],
        "contenders": figures,
        "missing": missing,
    }


def table(result: dict[str, Any]) -> str:
    """The figures of one op at one shape as Markdown: medians, quartiles of the
    ratios in brackets.
    """
    lines = [
        f"\n### {result['op']}, {'x'.join(map(str, result['shape']))}: microseconds (us) a "
        f"{result['unit']}\n",
        "| contender | us | times quicker than naive (quartiles) | connection updates/s | chain "
        "steps/s "
        "| of the float16 GEMM's flops |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in result["contenders"].items():
        ratio = figures["times_quicker_than_naive"]
        cells = [
            name,
            f"{figures['seconds']['median'] * 1e6:.1f}",
            f"{ratio['median']:.2f} ({ratio['lower']:.2f}-{ratio['upper']:.2f})",
            f"{figures['connection_updates_per_second']:.3g}",
            f"{figures['chain_steps_per_second']:.3g}",
            f"{figures['fraction_of_float16_flops']:.1%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        lines + [f"| {name} | missing: {why} | | | | |" for name, why in result["missing"].items()]
    )


def machine() -> dict[str, Any]:
    """The GPU and what drives it."""
    properties = torch.cuda.get_device_properties(0)
    import triton

    return {
        "name": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
    }


def write(report: dict[str, Any], file: Path) -> None:
    """One JSON and one Markdown file, each whole or not at all."""
    gpu = report.get("gpu", {})
    ceilings = ", ".join(f"{name} {value:.3g}" for name, value in report["ceilings"].items())
    title = [
        f"# GPU benchmark: {gpu.get('name', 'none')}",
        f"\n{report['date']}, commit {report['commit']}, torch {report['versions']['torch']}, "
        f"Triton {gpu.get('triton')}, `{report['command']}`\n",
        f"Checks before the timing: {report['gate']}\n",
        *(f"compute-sanitizer, {tool}: {found}\n" for tool, found in report["sanitizer"].items()),
        f"Ceilings: {ceilings}. Flops are those "
        "of both float32 half steps, 4 x visible x hidden x chains; exact float32 weights take "
        "two float16 products.",
    ]
    with replacing(file) as part:
        part.write_text(json_text(report, indent=1) + "\n", encoding="utf-8")
    with replacing(file.with_suffix(".md")) as part:
        part.write_text(
            "\n".join(title + [table(result) for result in report["results"]]) + "\n",
            encoding="utf-8",
        )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    result.add_argument(
        "--json", type=Path, default=RESULTS / "gpu.json", help="the report; a .md lies beside it"
    )
    result.add_argument(
        "--ops", nargs="+", choices=MODES, default=list(MODES), help="default: all"
    )
    result.add_argument(
        "--rounds",
        type=int,
        default=15,
        help="samples of each contender, at least 2 (default: 15)",
    )
    help_sanitizer = "compute-sanitizer: seconds a tool may run (default: 120), 0 for none"
    result.add_argument("--sanitizer-seconds", type=float, default=120.0, help=help_sanitizer)
    result.add_argument(
        "--sample-seconds", type=float, default=0.02, help="length of a sample (default: 0.02)"
    )
    return result


def main(arguments: list[str]) -> int:
    """Check, measure, write.

    Args:
        arguments: the command line after ``gpu``.

    Returns:
        The exit status: 1 without a GPU, on a failed check, and where a
        contender could not run.
    """
    options = parser().parse_args(arguments)
    obstacle = why_not()
    if obstacle:
        print(
            f"python -m benchmarks gpu needs CUDA and Triton: {obstacle}. Nothing was measured.",
            file=sys.stderr,
        )
        return 1
    passed, summary = gate()
    found = sanitize(options.sanitizer_seconds) if passed else {}
    print(
        *(f"compute-sanitizer, {tool}: {words}" for tool, words in found.items()),
        sep="\n",
        flush=True,
    )
    if not passed or "errors" in found.values():
        print("No figure on a red gate: a check failed.", file=sys.stderr)
        return 1
    limits = ceilings(options.rounds, "cuda")
    plan = {"rounds": options.rounds, "sample_seconds": options.sample_seconds}
    results: list[dict[str, Any]] = []
    checked = {"gate": summary, "sanitizer": found, "ceilings": limits}
    report = {**checked, **describe(), "gpu": machine(), "plan": plan, "results": results}
    for mode, shape in [(op, shape) for op in options.ops for shape in SHAPES[op]]:
        results.append(
            measure(mode, shape, options.rounds, options.sample_seconds, "cuda", limits)
        )
        print(table(results[-1]), flush=True)
        # after every shape: a run that breaks off leaves what it has measured
        write(report, options.json)
        torch.cuda.empty_cache()
    return int(any(result["missing"] for result in results))
