"""Which implementation of an op runs: chosen by device, explained once; an impossible forced choice is refused."""

from __future__ import annotations

import logging
import os

from torch import Tensor

logger = logging.getLogger(__name__)

CHOICES = ("reference", "cpu", "triton")
_explained: set[str] = set()


def _explain_once(message: str) -> None:
    if message not in _explained:
        _explained.add(message)
        logger.debug(message)


def choose(op: str, available: tuple[str, ...], like: Tensor, batched: bool) -> str:
    """Name the implementation of ``op`` for tensors like ``like``.

    Args:
        op: name of the op, for messages.
        available: the implementations that this op has.
        like: a tensor on the device of the call.
        batched: whether the parameters have batch dimensions, which the fast paths do not take.

    Returns:
        ``"reference"``, ``"cpu"`` or ``"triton"``.

    Raises:
        ValueError: ``PYRO_GEN_BACKEND`` is unknown or asks for what cannot run here.
    """
    forced = os.environ.get("PYRO_GEN_BACKEND")
    if forced:
        return _forced(forced, op, available, like)
    if batched or like.device.type != "cpu":
        _explain_once(f"{op}: the reference runs for batched parameters or tensors on {like.device.type}")
        return "reference"
    return "cpu" if "cpu" in available else "reference"


def _forced(name: str, op: str, available: tuple[str, ...], like: Tensor) -> str:
    if name not in CHOICES:
        raise ValueError(f"PYRO_GEN_BACKEND must be one of {', '.join(CHOICES)}, got {name!r}")
    if name not in available:
        raise ValueError(f"PYRO_GEN_BACKEND={name} is impossible: {op} has only {', '.join(available)}")
    if name == "cpu" and like.device.type != "cpu":
        raise ValueError(f"PYRO_GEN_BACKEND=cpu is impossible: {op} was called with tensors on {like.device}")
    return name
