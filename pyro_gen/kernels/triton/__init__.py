"""Shared parts of the ops' Triton kernels: device functions, padded and split
operands, CUDA graphs.

This file imports no Triton, so that :func:`refusal` can be asked anywhere; its
neighbours do.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch
from torch import Tensor

__all__ = ["LARGEST", "OLDEST", "capability", "interpreted", "missing", "refusal"]

LARGEST = 65_536
"""Units of a side: up to here int8 planes cannot overflow int32."""

OLDEST = (3, 6)
"""Version of Triton."""

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
"""Of states and parameters."""


def interpreted() -> bool:
    """True if Triton's interpreter runs the kernels, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@lru_cache(maxsize=1)
def missing() -> str | None:
    """Reason why Triton cannot be used, or None: before 3.6 it neither interprets
    nor compiles these kernels.
    """
    if find_spec("triton") is None:
        return "Triton is not installed"
    try:
        installed = version("triton")
    except PackageNotFoundError:
        return "Triton's version is not known"
    numbers = installed.split(".")[:2]
    if not all(part.isdigit() for part in numbers) or tuple(map(int, numbers)) < OLDEST:
        return f"the kernels need Triton {'.'.join(map(str, OLDEST))} or later, got {installed}"
    return None


@lru_cache(maxsize=16)
def capability(device: torch.device) -> tuple[int, int]:
    """Of a CUDA device, looked up once."""
    return torch.cuda.get_device_capability(device)


def refusal(v: Tensor, weight: Tensor, *biases: Tensor) -> str | None:
    """Reason why the Triton kernels cannot serve a call with these tensors, or None
    where they can.

    Args:
        v: states, (chains, visible) after flattening; only device and dtype
            matter.
        weight: (visible, hidden).
        biases: (visible,), (hidden,) and whatever else is a parameter with one
            dimension.

    Returns:
        The reason as the end of a sentence, or None.
    """
    why = missing()
    if why:
        return why
    if v.device.type == "cuda" and capability(v.device) < (8, 0):
        return "the Triton kernels need compute capability 8.0"
    obstacles = {
        f"Triton needs CUDA tensors, got {v.device.type}": v.device.type != "cuda"
        and not interpreted(),
        "states and parameters are on different devices": any(
            x.device != v.device for x in (weight, *biases)
        ),
        "the Triton kernels take float16, bfloat16 and float32": any(
            x.dtype not in DTYPES for x in (v, weight, *biases)
        ),
        "the Triton kernels take no batched parameters": weight.dim() != 2
        or any(x.dim() != 1 for x in biases),
        f"the Triton kernels take 1 to {LARGEST} units a side": not all(
            0 < side <= LARGEST for side in weight.shape
        ),
    }
    return next((reason for reason, true in obstacles.items() if true), None)
