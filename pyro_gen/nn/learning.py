"""Checks of a learning module: its gradient, its weights, its chains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_gen._rows import unfit
from pyro_gen._transforms import wrapped
from pyro_gen.distributions.log_z.negative_phase import NegativePhase
from pyro_gen.distributions.log_z.partition import Partition
from pyro_gen.distributions.units import BernoulliUnits, Units

BERNOULLI = BernoulliUnits()
Gradients = tuple[Tensor, Tensor, Tensor]
"""Of weight, visible bias and hidden bias."""
SATURATED = 50.0
"""A weight that no other unit can outvote: the odds that it decides are exp(50)."""


class Watched(torch.autograd.Function):
    """The parameters as they are and a zero.

    Backwards, ``watch(rows, gradients)`` sees the whole gradient.

    The zero goes into the contrast, so that its gradient counts the rows: minus
    their summed weights in the loss.
    """

    @staticmethod
    def forward(
        ctx: Any, watch: Callable[[Tensor, Gradients], None], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        """Pass the numbers through, and a zero."""
        ctx.watch = watch
        return *(p.view_as(p) for p in parameters), parameters[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients as they are."""
        weight, visible, hidden, rows = gradients
        with torch.no_grad():
            ctx.watch(rows, (weight, visible, hidden))
        return None, weight, visible, hidden


def check_evaluation(evaluation: Partition | None) -> Partition | None:
    """The setting itself, where it knows log Z.

    Args:
        evaluation: the value to check.

    Raises:
        ValueError: it is a negative phase, or no partition at all.
    """
    if isinstance(evaluation, NegativePhase) or not isinstance(evaluation, Partition | None):
        raise ValueError(
            f"`evaluation` must know log Z: Exact(...), AIS(...) or None, got {evaluation}"
        )
    return evaluation


def check_weights(weight: Tensor) -> None:
    """Stop where learning has lost its weights, and warn where single weights decide
    their units.

    Args:
        weight: the couplings.

    Raises:
        ValueError: they are no longer finite.
    """
    largest = weight.detach().abs().max().item()
    if not math.isfinite(largest):
        raise ValueError(
            "`weight` is no longer finite: learning has diverged; use a smaller learning rate"
        )
    if largest > SATURATED:
        warnings.warn(
            f"the largest weight is {largest:.0f}: units saturate, and chains cannot move "
            "against it; use weight "
            "decay, an L1 penalty or a smaller learning rate",
            stacklevel=3,
        )


def check_states(
    name: str, x: Tensor, units: Units = BERNOULLI, columns: int | None = None
) -> None:
    """Check a batch of rows.

    Args:
        name: the argument's name, for the message.
        x: the value to check.
        units: type of the units whose states they must be.
        columns: how many units there are; None takes any number.

    Raises:
        ValueError: ``x`` is not (rows, units) with at least one row of states.
    """
    check_rows(name, x, columns)
    check_support(name, x, units)


def check_rows(name: str, x: Tensor, columns: int | None = None) -> None:
    """Check the shape of a batch of rows, and no numbers.

    Args:
        name: the argument's name, for the message.
        x: the value to check.
        columns: how many units there are; None takes any number.

    Raises:
        ValueError: ``x`` is not (rows, units) with at least one row.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"`{name}` must be a tensor, got {type(x).__name__}")
    if x.dim() != 2 or 0 in x.shape:
        raise ValueError(
            f"`{name}` must have shape (rows, visible) with at least one row, got {tuple(x.shape)}"
        )
    if columns is not None and x.shape[-1] != columns:
        raise ValueError(f"`{name}` must have {columns} columns, got {x.shape[-1]}")


def check_layer(name: str, x: Tensor, units: Units, width: int) -> None:
    """Check states of one layer, or means of binary ones, with any dimensions before it.

    Args:
        name: the argument's name, for the message.
        x: the value to check.
        units: type of the units whose states, or of binary ones whose means
            they must be.
        width: how many units there are.

    Raises:
        ValueError: ``x`` is no tensor, has another width or other values.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"`{name}` must be a tensor, got {type(x).__name__}")
    if x.shape[-1:] != (width,):
        raise ValueError(f"`{name}` must have shape (..., {width}), got {tuple(x.shape)}")
    if wrapped([x]):
        return
    if not units.binary:
        check_support(name, x, units)
        return
    low, high = units.mean_range
    if not ((x >= low) & (x <= high)).all():
        raise ValueError(f"`{name}` must hold numbers from {low:g} to {high:g}, got {unfit(x)}")


def check_support(name: str, x: Tensor, units: Units = BERNOULLI) -> None:
    """Check that numbers are states of the units.

    Args:
        name: the argument's name, for the message.
        x: the value to check.
        units: type of the units.

    Raises:
        ValueError: one is not.
    """
    if not isinstance(units, BernoulliUnits):
        if not units.support.check(x).all():
            raise ValueError(
                f"`{name}` must hold states of {type(units).__name__}, got {unfit(x)}"
            )
    elif not _are_bits(x):
        raise ValueError(f"`{name}` must hold zeros and ones only, got {unfit(x)}")


def _are_bits(x: Tensor) -> bool:
    """True if numbers or truth values are zeros and ones, which NaN and infinity are not."""
    bits = x.ceil().clamp_(0, 1) if x.is_floating_point() else x.bool()
    return torch.equal(bits, x)
