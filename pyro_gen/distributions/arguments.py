"""Checks of arguments: states of binary units, and class numbers."""

from __future__ import annotations

import torch
from torch import Size, Tensor

from pyro_gen._rows import unfit
from pyro_gen._transforms import wrapped

Shape = Size | list[int] | tuple[int, ...]


def check_bits(name: str, v: Tensor, width: int) -> None:
    """Raise, naming the argument, unless it holds zeros and ones.

    There must be ``width`` of them in the last dimension.

    Args:
        name: the argument's name, for the message.
        v: the value to check.
        width: how many units there are.
    """
    if not isinstance(v, Tensor):
        raise ValueError(f"`{name}` must be a tensor, got {type(v).__name__}")
    if v.shape[-1:] != (width,):
        raise ValueError(f"`{name}` must have shape (..., {width}), got {tuple(v.shape)}")
    if not wrapped([v]) and not ((v == 0) | (v == 1)).all():
        raise ValueError(f"`{name}` must hold zeros and ones only, got {unfit(v)}")


def check_classes(name: str, y: Tensor, classes: int) -> None:
    """Raise, naming the argument, unless it holds class numbers from 0 to ``classes`` - 1.

    Args:
        name: the argument's name, for the message.
        y: the value to check.
        classes: how many there are.
    """
    if not isinstance(y, Tensor):
        raise ValueError(
            f"`{name}` must be a tensor of whole class numbers, got {type(y).__name__}"
        )
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"`{name}` must be a tensor of whole class numbers, got {y.dtype}")
    if not y.numel() or wrapped([y]):
        return
    low = int(y.min())
    high = int(y.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"`{name}` must hold classes from 0 to {classes - 1}, got {low} to {high}"
        )
