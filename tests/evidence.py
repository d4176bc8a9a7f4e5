"""Figures that a slow test stands for, kept as JSON beside the benchmarks' results."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "evidence"


def evidence(name: str, **figures: float | int | str | list[float]) -> None:
    """Write the figures of one test to ``benchmarks/results/evidence/NAME.json`` where ``PYRO_GEN_EVIDENCE`` is set.

    Args:
        name: the file's stem.
        **figures: what was measured, by name.
    """
    if not os.environ.get("PYRO_GEN_EVIDENCE"):
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"torch": torch.__version__, **figures}, indent=2, sort_keys=True)
    partial = FOLDER / f"{name}.json.part"
    partial.write_text(content + "\n", encoding="utf-8")
    partial.replace(FOLDER / f"{name}.json")
