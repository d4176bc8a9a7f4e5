"""The one driver: ``python -m benchmarks gibbs --json benchmarks/results/gibbs.json``; ``gpu``: :mod:`.gpu`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import cast

from benchmarks import cd, driver, gibbs, gpu
from benchmarks.timing import CLOCKS, Plan
from pyro_gen._files import replacing

MODES = {"gibbs": cast(driver.Mode, gibbs), "cd": cast(driver.Mode, cd)}


def _shape(text: str) -> driver.Shape:
    sizes = [int(size) for size in text.split("x")]
    if len(sizes) != 3 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"a shape is VISIBLExHIDDENxCHAINS, for instance 784x500x128, got {text}")
    return sizes[0], sizes[1], sizes[2]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    result.add_argument("mode", choices=MODES)
    result.add_argument("--json", type=Path, help="where to write the report")
    result.add_argument("--shapes", type=_shape, nargs="+", help="VISIBLExHIDDENxCHAINS, default: the reported ones")
    result.add_argument("--threads", type=int, nargs="+", default=[1], help="numbers of threads (default: 1)")
    result.add_argument("--peers", help="comma separated, default: all; the baseline and the GEMMs always run")
    result.add_argument("--device", choices=["cpu"], default="cpu")
    result.add_argument("--rounds", type=int, default=25, help="samples of each contender, at least 2 (default: 25)")
    result.add_argument("--sample-seconds", type=float, default=0.03, help="length of a sample (default: 0.03)")
    result.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: one thread on a busy machine")
    result.add_argument("--no-gate", dest="gate", action="store_false", help="skip the tests; the report says so")
    return result


def main(arguments: list[str]) -> int:
    """Measure, print the tables, write the report.

    Args:
        arguments: the command line without the program's name.

    Returns:
        The exit status: 1 on a red gate, and where ``gpu`` finds no GPU.
    """
    if arguments[:1] == ["gpu"]:
        return gpu.main(arguments[1:])
    options = parser().parse_args(arguments)
    if options.clock == "cpu" and options.threads != [1]:
        parser().error("--clock cpu adds up the threads' time: it is for --threads 1 only")
    mode = MODES[options.mode]
    shapes = tuple(options.shapes or mode.SHAPES)
    peers = None if options.peers is None else set(options.peers.split(","))
    plan = Plan(options.rounds, options.sample_seconds, options.clock)
    try:
        report = driver.run(mode, shapes, options.threads, peers, plan, options.gate)
    except driver.RedGateError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        with replacing(options.json) as part:
            part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
