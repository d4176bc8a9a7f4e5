"""Parts of error messages about networks: lists of names, and impossible rows."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

IMPOSSIBLE = "the evidence is impossible: its probability is zero"


def some(names: Iterable[object], most: int = 12) -> str:
    """Names or numbers for a message, cut where there are more than ``most``.

    Example:
        >>> some(["rain", "wet", "dry"], most=2)
        "'rain', 'wet', ... (3 in all)"
    """
    listed = [repr(name) for name in names]
    if len(listed) > most:
        listed[most:] = [f"... ({len(listed)} in all)"]
    return ", ".join(listed)


def refuse_rows(refused: Tensor, single: bool, why: str = IMPOSSIBLE, first: int = 0) -> None:
    """Raise where there are rows that cannot be worked on; the message names them.

    Args:
        refused: which, bool (rows,).
        single: whether it is about one case, which has no number.
        why: the message.
        first: number of the first row.
    """
    if refused.any():
        rows = [first + row for row in refused.nonzero().flatten().tolist()]
        if not single:
            why = f"{why}, in rows {some(rows, 10)}"
        raise ValueError(why)


__all__ = ["IMPOSSIBLE", "refuse_rows", "some"]
