"""Data types of rows: the one rule by which models take them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

KEPT = (torch.float32, torch.float64)
"""Data types that a model takes over from its data."""


def as_floating(x: Any, like: Tensor | None = None) -> Any:
    """Rows in a data type that models compute in.

    float32 and float64 stay. Truth values, whole numbers, float16 and bfloat16
    take the data type of the model that reads them; where a model is made of
    them, torch's default data type.

    Args:
        x: rows; what is no tensor comes back as it is, for the check that
            follows.
        like: any parameter of the model that reads the rows; None where a model
            is made.

    Raises:
        ValueError: the rows are complex, or whole numbers that would be
            rounded.

    Example:
        >>> as_floating(torch.tensor([[0, 1]]))
        tensor([[0., 1.]])
        >>> as_floating(torch.eye(2).double()).dtype
        torch.float64
    """
    if not isinstance(x, Tensor) or x.dtype in KEPT:
        return x
    if x.is_complex():
        raise ValueError(f"`x` must be real numbers, got {x.dtype}")
    dtype = torch.get_default_dtype() if like is None else like.dtype
    rows = x.to(dtype)
    if x.dtype.itemsize > 2 and not torch.equal(rows.to(x.dtype), x):
        raise ValueError(
            f"`x` must be whole numbers that {dtype} holds exactly: give float64 rows, got "
            f"{x.dtype}"
        )
    return rows


__all__ = ["as_floating"]
