"""The Triton kernels in Triton's interpreter, on CPU tensors: the checks of ``triton_run.py``, in another process.

Triton reads TRITON_INTERPRET while it decorates, so one process cannot both interpret and compile.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest

from tests.house import ROOT

CHECKS = (
    "words",
    "one_sweep",
    "beta",
    "dtypes",
    "layouts",
    "weights_of_every_magnitude",
    "int8",
    "splits",
    "tiles",
    "no_chains",
    "no_unwritten_memory_is_read",
    "contrast",
    "free_energy",
    "annealing",
    "few_sizes",
    "distribution",
    "mistakes",
    "refusals",
    "ops",
    "module",
    "nade",
    "nade_dtypes",
    "nade_draws",
    "nade_ops",
)

LONG = (
    *("one_sweep", "splits", "tiles", "no_unwritten_memory_is_read"),
    *("contrast", "free_energy", "annealing", "distribution", "nade"),
)
"""Checks of many sizes, 10 to 60 s each; the others run every kernel on a few."""

QUICK = tuple(name for name in CHECKS if name not in LONG)


def why_not() -> str | None:
    """Why the interpreter cannot run here, or None."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    minor = tuple(int(part) for part in version("triton").split(".")[:2])
    if minor < (3, 6):
        return "the kernels need Triton 3.6"
    if minor < (3, 7) and np.lib.NumpyVersion(np.__version__) >= "2.4.0":
        return "the interpreter of Triton before 3.7 needs NumPy before 2.4"
    return None


pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Warnings there are the interpreter's own: it turns arrays of one element into numbers, exponentials overflow.
    command = [sys.executable, "-W", "ignore", "-m", "tests.kernels.triton_run", *arguments]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def passed(outcome: subprocess.CompletedProcess[str]) -> list[str]:
    """The checks that passed, where all did."""
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return re.findall(r"^passed (\w+)", outcome.stdout, re.MULTILINE)


def test_the_interpreted_kernels_pass_and_no_check_is_left_out() -> None:
    outcome = run("--list", *QUICK)  # in one process: each start costs as much as a check
    assert passed(outcome) == list(QUICK)
    assert outcome.stdout.splitlines()[0].split() == list(CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_the_interpreted_kernels_pass_at_many_sizes(name: str) -> None:
    assert passed(run(name)) == [name]
