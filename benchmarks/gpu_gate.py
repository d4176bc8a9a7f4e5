"""What must pass before anything is timed on a GPU: the checks of the kernels, and
compute-sanitizer where it is.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import NamedTuple

from benchmarks.machine import ROOT

CHECKS = [sys.executable, "-m", "tests.kernels.triton_run"]
ERRORS_FOUND = 86
"""Exit status by which compute-sanitizer is told to say so."""

SANITIZED = {
    "memcheck": ("beta", "layouts", "no_chains", "contrast", "tiles"),
    "racecheck": ("tiles",),
}
"""Checks that each tool repeats, many times slower: between them they launch every
kernel in every tile.
"""


class Outcome(NamedTuple):
    """Exit status, None where it was stopped, and the last of what a command printed."""

    status: int | None
    log: list[str]


def gate() -> tuple[bool, str]:
    """Whether all checks pass on this GPU, and how many did.

    What they print is passed on line by line.
    """
    status, log = run(CHECKS)
    return status == 0, f"{sum(line.startswith('passed') for line in log)} passed"


def run(command: list[str], seconds: float | None = None, **environment: str) -> Outcome:
    """Run a command in the checkout, show what it prints, stop it after ``seconds``."""
    variables = os.environ | {"TRITON_INTERPRET": "0", "PYTHONUNBUFFERED": "1"} | environment
    log: list[str] = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=seconds is not None,  # what the sanitizer has started must go with it
    ) as process:
        timer = Timer(seconds or 0, lambda: os.killpg(process.pid, signal.SIGKILL))
        if seconds:
            timer.start()
        for line in process.stdout or ():
            print(line, end="", flush=True)
            log.append(line.rstrip())
        timer.cancel()
    return Outcome(None if process.returncode == -signal.SIGKILL else process.returncode, log)


def sanitizer() -> str | None:
    """Where compute-sanitizer is."""
    here = Path("/usr/local/cuda/bin/compute-sanitizer")
    return shutil.which("compute-sanitizer") or (str(here) if here.exists() else None)


def sanitize(seconds: float) -> dict[str, str]:
    """Repeat small checks under each tool of compute-sanitizer.

    Args:
        seconds: how long a tool may run; 0 runs none.

    Returns:
        What each tool found; ``"errors"`` is a red gate, anything else says how
        far it came.
    """
    program = sanitizer()
    if program is None or not seconds:
        return dict.fromkeys(
            SANITIZED, "not asked for" if program else "compute-sanitizer is not installed"
        )
    found = {}
    for tool, checks in SANITIZED.items():
        # One allocation a tensor: torch's own blocks are larger than tensors,
        # and would hide a step beyond their end.
        if tool == "memcheck":
            uncached = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        else:
            uncached = {}
        options = ["--tool", tool, "--error-exitcode", str(ERRORS_FOUND), "--print-limit", "20"]
        status, log = run([program, *options, *CHECKS, *checks], seconds, **uncached)
        passed = (
            f"{sum(line.startswith('passed') for line in log)} of {len(checks)} checks passed "
            "under it"
        )
        words = {
            0: f"no errors, {passed}",
            ERRORS_FOUND: "errors",
            None: f"stopped after {seconds:g} s, {passed}",
        }
        found[tool] = words.get(status, f"could not run: {log[-1] if log else status}")
    return found
