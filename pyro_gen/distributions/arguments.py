"""Checks of the RBM's arguments."""

from __future__ import annotations

import torch
from torch import Size, Tensor

from pyro_gen._transforms import wrapped
from pyro_gen.distributions.units import Units

Shape = Size | list[int] | tuple[int, ...]


def bound(side: str, units: Units, bias: Tensor) -> Units:
    """The units of one side; an error names the side."""
    if not isinstance(units, Units):
        raise ValueError(f"`{side}_units` must be a unit type such as SpinUnits(), got {units}")
    try:
        return units.bind(f"{side[0]}bias", bias)
    except ValueError as error:
        raise ValueError(f"`{side}_units` does not fit: {error}") from error


def check_parameters(weight: Tensor, vbias: Tensor, hbias: Tensor) -> None:
    """Name the parameter whose shape, device or dtype does not fit."""
    if weight.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"`weight` must be float32 or float64, got {weight.dtype}")
    if weight.dim() < 2 or 0 in weight.shape[-2:]:
        raise ValueError(
            "`weight` must have shape (..., visible, hidden) with both positive, got "
            f"{tuple(weight.shape)}"
        )
    for name, bias, size in (
        ("vbias", vbias, weight.shape[-2]),
        ("hbias", hbias, weight.shape[-1]),
    ):
        if bias.shape[-1:] != (size,):
            raise ValueError(
                f"`{name}` must have shape (..., {size}) to match `weight`, got "
                f"{tuple(bias.shape)}"
            )
        if (bias.device, bias.dtype) != (weight.device, weight.dtype):
            raise ValueError(
                f"`{name}` must be {weight.dtype} on {weight.device} like `weight`, got "
                f"{bias.dtype} on {bias.device}"
            )
    batches = [tuple(weight.shape[:-2]), tuple(vbias.shape[:-1]), tuple(hbias.shape[:-1])]
    if not any(batches):
        return
    try:
        torch.broadcast_shapes(*batches)
    except RuntimeError as error:
        message = (
            f"the batch shapes of `weight`, `vbias` and `hbias` must broadcast, got {batches}"
        )
        raise ValueError(message) from error


def check_width(name: str, states: Tensor, bias: Tensor) -> None:
    """Raise, naming the states, unless there is one for each unit of the bias."""
    if states.shape[-1:] != bias.shape[-1:]:
        raise ValueError(
            f"`{name}` must have shape (..., {bias.shape[-1]}), got {tuple(states.shape)}"
        )


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
        if v.is_floating_point() and v.isnan().any():
            kind = "NaN"
        else:
            kind = "other values"
        raise ValueError(f"`{name}` must hold zeros and ones only, got {kind}")


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
            f"`{name}` must hold numbers from 0 to {classes - 1}, got {low} to {high}"
        )
