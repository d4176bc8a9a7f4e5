"""Checks of the plain numbers that callers hand in."""

from __future__ import annotations

import operator


def whole_number(name: str, value: object, least: int = 1) -> int:
    """Return a count as a plain ``int``; Python's, numpy's and torch's integers are integers.

    Args:
        name: of the argument, for the message.
        value: what came.
        least: smallest number that makes sense.

    Raises:
        ValueError: it is no whole number (2.5, NaN, True, text), or below ``least``.

    Example:
        >>> import numpy as np
        >>> whole_number("size", np.int64(3))
        3
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]  # it raises TypeError for all else
    except TypeError:
        raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}") from None
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}, got {number}")
    return number


__all__ = ["whole_number"]
