"""Choice of an op's implementation: the first that can and pays.

An impossible forced choice is refused.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

logger = logging.getLogger(__name__)

CHOICES = ("reference", "cpu", "native", "triton")
_explained: set[str] = set()

Reason = Callable[[Tensor, Tensor], str | None]
"""``reason(states, weight)``: why not, as part of a sentence, or None."""


class Path(NamedTuple):
    """One implementation of an op: whether it can run on given tensors, and whether it
    pays there.
    """

    name: str
    impossible: Reason
    slower: Reason | None = None

    def why_not(self, states: Tensor, weight: Tensor) -> str | None:
        """Reason why this path is not taken by default; None where it is."""
        return self.impossible(states, weight) or (
            self.slower(states, weight) if self.slower else None
        )


def anywhere(states: Tensor, weight: Tensor) -> None:
    """The reason of a path that runs on whatever torch runs on: none."""


def _explain_once(message: str) -> None:
    if message not in _explained:
        _explained.add(message)
        logger.debug(message)


def choose(
    op: str, paths: Sequence[Path], states: Tensor, weight: Tensor, batched: bool = False
) -> str:
    """Name the implementation of ``op`` for these tensors.

    Args:
        op: name of the op, for messages.
        paths: the fast paths that this op has, the fastest first; the reference
            comes after them.
        states: states of the call.
        weight: weights of the call.
        batched: whether a parameter has batch dimensions, which only the
            reference takes.

    Returns:
        The name of a path, or ``"reference"``.

    Raises:
        ValueError: ``PYRO_GEN_BACKEND`` is unknown or asks for what cannot run
            here.
    """
    forced = os.environ.get("PYRO_GEN_BACKEND")
    if forced:
        return _forced(forced, op, paths, states, weight, batched)
    for path in () if batched else paths:
        why = path.why_not(states, weight)
        if not why:
            return path.name
        _explain_once(f"{op}: not by {path.name}: {why}")
    return "reference"


def _forced(
    name: str, op: str, paths: Sequence[Path], states: Tensor, weight: Tensor, batched: bool
) -> str:
    if name not in CHOICES:
        raise ValueError(f"PYRO_GEN_BACKEND must be one of {', '.join(CHOICES)}, got {name!r}")
    if name == "reference":
        return name
    for path in paths:
        if path.name == name:
            why = (
                "the parameters have batch dimensions"
                if batched
                else path.impossible(states, weight)
            )
            if why:
                raise ValueError(f"PYRO_GEN_BACKEND={name} is impossible for {op}: {why}")
            return name
    names = ", ".join(["reference", *(path.name for path in paths)])
    raise ValueError(f"PYRO_GEN_BACKEND={name} is impossible: {op} has only {names}")
