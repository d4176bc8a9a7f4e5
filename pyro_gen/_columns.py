"""Columns of real data: their moments, and the check that each of them varies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

NAMED = 8
"""Columns that a message names at most."""
LEAVE_OUT = "leave such columns out"


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by the number of rows) of every column, in float64.

    Args:
        x: rows, (rows, features).
    """
    rows = x.double()
    return rows.mean(0), rows.var(0, correction=0)


def constant(mean: Tensor, variance: Tensor, dtype: torch.dtype) -> Tensor:
    """Columns whose variance is none but that of rounding, (features,) of bool.

    Args:
        mean: of the columns, (features,).
        variance: of the columns, (features,).
        dtype: in which the rows came.
    """
    eps = torch.finfo(dtype if dtype.is_floating_point else torch.float64).eps
    return variance <= (eps * mean.abs()).square() * 16


def check_varied(
    mean: Tensor,
    variance: Tensor,
    dtype: torch.dtype,
    event_shape: Sequence[int] = (),
    remedy: str = LEAVE_OUT,
) -> None:
    """Raise where a column is constant: a scale of its own could become infinitely small there.

    Args:
        mean: of the columns, (features,).
        variance: of the columns, (features,).
        dtype: in which the rows came.
        event_shape: of the rows, whose flattened cells are the columns; for the
            names of cells.
        remedy: for the message.

    Raises:
        ValueError: a column is constant.
    """
    marked = constant(mean, variance, dtype)
    if marked.any():
        where = places(marked, event_shape)
        raise ValueError(f"`x` must vary in every column, got one value in {where}: {remedy}")


def places(marked: Tensor, event_shape: Sequence[int] = ()) -> str:
    """Names of marked columns, for a message.

    Of the cells of an event where these are no plain row.

    Args:
        marked: (features,) of bool.
        event_shape: of the rows.

    Example:
        >>> places(torch.tensor([True, False, True, False]))
        'column 0, 2'
        >>> places(torch.tensor([True, False, True, False]), (2, 2))
        'column 0, 2 of the flattened events, the cells (0, 0), (1, 0)'
    """
    numbers = marked.nonzero()[:, 0].tolist()
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    names = f"column {', '.join(map(str, numbers[:NAMED]))}{more}"
    if len(event_shape) < 2:
        return names
    cells = ", ".join(str(_cell(number, event_shape)) for number in numbers[:NAMED])
    return f"{names} of the flattened events, the cells {cells}"


def _cell(number: int, event_shape: Sequence[int]) -> tuple[int, ...]:
    """Indices of a cell in an event from its number in the flattened one."""
    return tuple(
        number // math.prod(event_shape[i + 1 :]) % side for i, side in enumerate(event_shape)
    )


__all__ = ["LEAVE_OUT", "check_varied", "constant", "moments", "places"]
