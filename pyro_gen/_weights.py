"""Importance weights that cannot be relied on: which they are, and the one warning
that says so.
"""

from __future__ import annotations

import sys
import warnings

import torch
from torch import Tensor

LEAST_SIZE = 10.0
"""Effective sample size below which the weights of a row are a reason to warn."""
GOOD_K = 0.7
"""Shape of the tail from which on no estimate from the weights, and no error bar
of one, can be relied on.
"""
ENOUGH_FOR_K = 100
"""Draws from which on the shape of the tail, a fifth of them, says something."""
EVEN = 0.9
"""Share of the draws that are effective from which on no tail matters, as where a
few weights differ by rounding.
"""
SHARE = 0.05
"""Of the rows whose tail may be too heavy by chance before there is a warning."""
PASSED_OVER = ("pyro_gen", "torch", "pyro")
"""Packages between the warning and the line of the user."""


def too_small(size: Tensor, count: int) -> Tensor:
    """Rows whose effective sample size is below 10, or below half of fewer draws than 20.

    All rows of one draw.

    Args:
        size: effective sample sizes.
        count: draws a row.
    """
    return ~(size >= min(LEAST_SIZE, 0.5 * count)) | (count == 1)


def too_heavy(pareto_k: Tensor | None, size: Tensor, count: int) -> Tensor:
    """Rows whose tail of weights is too heavy.

    None where the weights are even or the draws too few to tell.

    Args:
        pareto_k: shape of the tail of each row's weights, or None.
        size: effective sample sizes.
        count: draws a row.
    """
    if pareto_k is None or count < ENOUGH_FOR_K:
        return torch.zeros_like(size, dtype=torch.bool)
    return ~(pareto_k <= GOOD_K) & ~(size >= EVEN * count)


def warn_of_weights(size: Tensor, count: int, pareto_k: Tensor | None, consequence: str) -> None:
    """Warn where rows have few effective draws, or more than 5 % of them too heavy a tail.

    Args:
        size: effective sample size of each row, (rows,) or () for one.
        count: draws a row.
        pareto_k: shape of the tail of each row's weights, or None.
        consequence: of such weights, and what to do, a clause.
    """
    size = size.detach().reshape(-1)
    small = too_small(size, count)
    heavy = too_heavy(None if pareto_k is None else pareto_k.reshape(-1), size, count)
    if not small.any() and heavy.sum() <= SHARE * len(size):
        return
    if pareto_k is None or count < ENOUGH_FOR_K:
        tail = ""
    else:
        tail = f", Pareto k-hat above {GOOD_K} in {int(heavy.sum())}"
    places = (small | heavy).nonzero()[:, 0].tolist()
    shown = ", ".join(map(str, places[:8])) + (", ..." if len(places) > 8 else "")
    warnings.warn(
        f"the importance weights of {len(places)} of {len(size)} rows cannot be relied on "
        "(median effective sample "
        f"size {size.median().item():.1f} of {count} draws, too small in {int(small.sum())} "
        f"rows{tail}; rows {shown}): "
        f"{consequence}",
        stacklevel=level_of_the_user(),
    )


def level_of_the_user() -> int:
    """Stack level, for the caller's `warnings.warn`, of the innermost line outside of
    Pyro, torch and this package.
    """
    level = 1
    frame = sys._getframe(1)
    while (
        frame.f_back is not None
        and str(frame.f_globals.get("__name__")).split(".")[0] in PASSED_OVER
    ):
        frame = frame.f_back
        level += 1
    return level


__all__ = [
    "ENOUGH_FOR_K",
    "GOOD_K",
    "level_of_the_user",
    "too_heavy",
    "too_small",
    "warn_of_weights",
]
