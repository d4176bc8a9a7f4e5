"""Evaluations of many draws for many rows, in blocks that fit the cache."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLOATS_AT_A_TIME = 2**20
"""Size of the decoder's output in an evaluation: 4 MiB, which fits the cache."""


def let_malloc_reuse_blocks() -> None:
    """Have glibc serve blocks of an evaluation from its heap from now on.

    Freeing a larger array raises the size above which glibc maps fresh pages
    for every array; without it each block would pay for page faults. Other
    allocators lose nothing but this one call.
    """
    torch.empty(4 * FLOATS_AT_A_TIME)


def row_batches(x: Tensor, num_samples: int, features: int) -> tuple[Tensor, ...]:
    """Rows, as many at a time as fit with all their draws, at least one."""
    return x.split(max(1, FLOATS_AT_A_TIME // (num_samples * features)))


def draws_at_a_time(rows: int, num_samples: int, features: int) -> list[int]:
    """Numbers of draws that fit for a block of rows; they sum to ``num_samples``."""
    most = max(1, FLOATS_AT_A_TIME // (rows * features))
    return [min(most, num_samples - start) for start in range(0, num_samples, most)]


def log_standard_normal(z: Tensor) -> Tensor:
    """Log density of independent standard normal numbers, (..., latent), in one sweep."""
    return -0.5 * (
        torch.linalg.vector_norm(z, dim=-1).square() + z.shape[-1] * math.log(2 * math.pi)
    )


__all__ = ["draws_at_a_time", "let_malloc_reuse_blocks", "log_standard_normal", "row_batches"]
