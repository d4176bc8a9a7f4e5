"""What a figure has to carry with it: machine, versions, date, commit, command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    *("torch", "numpy", "pyro-ppl", "scikit-learn", "scipy", "threadpoolctl"),
    *("learnergy", "rbms", "nflows", "zuko", "pytorch-generative"),
    *("numpyro", "jax", "pyagrum", "pgmpy"),
)
FLAGS = {
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "sve",
}


def describe() -> dict[str, Any]:
    """The machine, the versions, the commit and the command of this run.

    Files under ``benchmarks/results`` may differ from the commit: runs write
    them.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([_module(), *sys.argv[1:]]),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(
            _git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")
        ),
        "machine": _machine(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
    }


def _module() -> str:
    """What was started: `python -m benchmarks` or one of its modules, which are evidence."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        name = "benchmarks"
    else:
        name = spec.name.removesuffix(".__main__")
    return f"python -m {name}"


def _machine() -> dict[str, Any]:
    info = _cpuinfo()
    flags = set(info.get("flags", info.get("Features", "")).split())
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cpu_family_and_model": f"{info.get('cpu family', '?')}/{info.get('model', '?')}",
        "flags": sorted(flags & FLAGS),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "load_average_at_start": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo, empty where there is none."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """What git answers, or None where this is no repository or git is missing."""
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Give torch (MKL, oneDNN) and the BLAS of numpy and SciPy ``count`` threads
    inside the block.
    """
    before = torch.get_num_threads()
    with ExitStack() as stack:
        if find_spec("threadpoolctl"):  # it comes with scikit-learn, the peer that needs it
            stack.enter_context(import_module("threadpoolctl").threadpool_limits(count))
        torch.set_num_threads(count)
        stack.callback(torch.set_num_threads, before)
        yield
