"""Checks of the plain numbers that callers hand in."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import cast

import torch


def whole_number(name: str, value: object, least: int = 1) -> int:
    """Return a count as a plain ``int``; Python's, numpy's and torch's integers are integers.

    Args:
        name: of the argument, for the message.
        value: the value to check.
        least: smallest number that makes sense.

    Raises:
        ValueError: it is no whole number (2.5, NaN, True, text), or below
            ``least``.

    Example:
        >>> import numpy as np
        >>> whole_number("size", np.int64(3))
        3
    """
    try:
        if isinstance(value, bool) or getattr(value, "dtype", None) == torch.bool:
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # it raises TypeError for all else
    except TypeError:
        raise ValueError(
            f"`{name}` must be a whole number of at least {least}, got {value!r}"
        ) from None
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}, got {number}")
    return number


def whole_fields(settings: object, **least: int) -> None:
    """Turn fields of a frozen dataclass into plain ``int``.

    Args:
        settings: the dataclass.
        **least: by field, the smallest number that makes sense.

    Raises:
        ValueError: a field is no whole number, or too small.
    """
    for name, smallest in least.items():
        object.__setattr__(settings, name, whole_number(name, getattr(settings, name), smallest))


def is_single(value: object) -> bool:
    """True for a value that stands for itself: a number, a tensor without dimensions, or text.

    Args:
        value: the value to check.
    """
    return (
        isinstance(value, str) or not hasattr(value, "__iter__") or getattr(value, "ndim", 1) == 0
    )


def whole_numbers(name: str, value: object, least: int = 1) -> tuple[int, ...]:
    """Return counts as a tuple of plain ``int``, of which there is at least one.

    Args:
        name: of the argument, for the message.
        value: a count, or a sequence of counts.
        least: smallest number that makes sense.

    Raises:
        ValueError: there is none, or one is no whole number of at least
            ``least``.

    Example:
        >>> whole_numbers("hidden", [3, 4]), whole_numbers("features", 5)
        ((3, 4), (5,))
    """
    counts: Iterable[object] = (value,) if is_single(value) else cast("Iterable[object]", value)
    numbers = tuple(whole_number(name, count, least) for count in counts)
    if not numbers:
        raise ValueError(f"`{name}` must be at least one whole number, got none")
    return numbers


__all__ = ["is_single", "whole_fields", "whole_number", "whole_numbers"]
