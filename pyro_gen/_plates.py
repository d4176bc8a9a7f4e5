"""The plate of the rows that every model of rows has."""

from __future__ import annotations

from typing import Any

import pyro
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor


class AnyRows(Messenger):
    """Handler under which programs take any number of rows: estimates that read a
    row by itself, and dreams.
    """


def rows_plate(size: int, rows: Tensor | None) -> Any:
    """The plate ``rows`` of a data set, of which a minibatch may be given.

    Args:
        size: rows of the whole data set.
        rows: the rows that are given, first dimension; None for all, to be drawn.

    Returns:
        A ``pyro.plate``.

    Raises:
        ValueError: there are more rows than ``size``.
    """
    check_rows(size, 0 if rows is None else len(rows))
    return pyro.plate("rows", size, subsample=rows)


def counted_plate(size: int | None, count: int) -> Any:
    """The plate ``rows`` where only the number of rows is known beforehand.

    Args:
        size: rows of the whole data set; None for those given.
        count: rows that are given.

    Returns:
        A ``pyro.plate``.

    Raises:
        ValueError: there are more rows than ``size``.
    """
    check_rows(size, count)
    return pyro.plate("rows", max(size or count, count), subsample_size=count)


def check_rows(size: int | None, count: int) -> None:
    """Raise where there are more rows than the whole data set has, which would weigh
    each row by less than one.

    Args:
        size: rows of the whole data set; None for those given.
        count: rows that are given.

    Raises:
        ValueError: there are more rows than ``size``, and no :class:`AnyRows`
            is at work.
    """
    if size is None or count <= size:
        return
    if not any(isinstance(handler, AnyRows) for handler in _PYRO_STACK):
        raise ValueError(
            "`size` must be at least the number of rows, as it counts those of the whole data "
            "set, got "
            f"size={size} and {count} rows"
        )


__all__ = ["AnyRows", "check_rows", "counted_plate", "rows_plate"]
