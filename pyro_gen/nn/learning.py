"""What an update makes of a gradient, centring above all, and what every module that learns looks at on the way."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_gen.distributions.negative_phase import NegativePhase
from pyro_gen.distributions.partition import Partition
from pyro_gen.distributions.units import BernoulliUnits, Units

BERNOULLI = BernoulliUnits()
Gradients = tuple[Tensor, Tensor, Tensor]
"""Of weight, visible bias and hidden bias."""
FROZEN_AFTER = 256
"""Updates over which chains that have not moved count as frozen, and between two looks at the weights."""
SATURATED = 50.0
"""A weight that no other unit can outvote: the odds that it decides are exp(50)."""


def centred(
    gradients: Gradients, visible_offset: Tensor, hidden_offset: Tensor, connections: Tensor | None = None
) -> Gradients:
    r"""The step in the natural parameters that plain gradient descent makes in the centred ones.

    With :math:`E = -(v-\mu) \cdot a' - (h-\lambda) \cdot b' - (v-\mu) W (h-\lambda)`, a descent step on
    :math:`(W, a', b')` moves the natural parameters :math:`W, a = a' - W\lambda, b = b' - W^\top\mu` along

    .. math:: g'_W = g_W - g_a \lambda^\top - \mu\, g_b^\top, \quad g'_a = g_a - g'_W \lambda, \quad
              g'_b = g_b - g_W'^\top \mu

    Args:
        gradients: of weight (visible, hidden), visible and hidden bias.
        visible_offset: mu, (visible,).
        hidden_offset: lambda, (hidden,).
        connections: 1 where a coupling exists and 0 elsewhere, (visible, hidden); None where all do. Those that do not
            exist have no part in :math:`g'_W`, and so none in what the biases make up for.

    Returns:
        The centred gradients.

    References:
        Montavon and Mueller (2012), Deep Boltzmann machines and the centering trick. Melchior, Fischer and Wiskott
        (2016), How to center deep Boltzmann machines, JMLR 17, Algorithm 1.
    """
    weight, visible, hidden = gradients
    weight = weight.addr(visible, hidden_offset, alpha=-1).addr_(visible_offset, hidden, alpha=-1)
    weight = weight if connections is None else weight.mul_(connections)
    return weight, visible.addmv(weight, hidden_offset, alpha=-1), hidden.addmv(weight.mT, visible_offset, alpha=-1)


class Hooked(torch.autograd.Function):
    """The parameters as they are and a zero; backwards, ``hook(rows, gradients)`` sees the whole gradient.

    The zero goes into the contrast, so that its gradient counts the rows: minus their summed weights in the loss.
    """

    @staticmethod
    def forward(ctx: Any, hook: Callable[[Tensor, Gradients], Gradients], *parameters: Tensor) -> tuple[Tensor, ...]:
        """The same numbers, and a zero."""
        ctx.hook = hook
        return *(p.view_as(p) for p in parameters), parameters[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """What the hook makes of the gradients."""
        weight, visible, hidden, rows = gradients
        with torch.no_grad():
            return None, *ctx.hook(rows, (weight, visible, hidden))


def check_evaluation(evaluation: Partition | None) -> Partition | None:
    """The setting itself, where it knows log Z.

    Args:
        evaluation: what came.

    Raises:
        ValueError: it is a negative phase, or no partition at all.
    """
    if isinstance(evaluation, NegativePhase) or not isinstance(evaluation, Partition | None):
        raise ValueError(f"`evaluation` must know log Z: Exact(...), AIS(...) or None, got {evaluation}")
    return evaluation


def check_weights(weight: Tensor) -> None:
    """Stop where learning has lost its weights, and warn where single weights decide their units.

    Args:
        weight: the couplings.

    Raises:
        ValueError: they are no longer finite.
    """
    largest = weight.detach().abs().max().item()
    if not math.isfinite(largest):
        raise ValueError("`weight` is no longer finite: learning has diverged; use a smaller learning rate")
    if largest > SATURATED:
        warnings.warn(
            f"the largest weight is {largest:.0f}: units saturate, and chains cannot move against it; use weight "
            "decay, an L1 penalty or a smaller learning rate",
            stacklevel=3,
        )


def warn_if_frozen(before: Tensor | None, chains: Tensor) -> None:
    """Warn where at least half of the chains are what they were ``FROZEN_AFTER`` updates ago.

    Args:
        before: the chains as they were then, or None.
        chains: the chains now.
    """
    if before is None or before.shape != chains.shape:
        return
    frozen = int((before == chains).all(-1).sum())
    if frozen > 1 and 2 * frozen >= len(chains):
        warnings.warn(
            f"{frozen} of {len(chains)} persistent chains are where they were {FROZEN_AFTER} updates ago: they have "
            "frozen, and the gradient no longer knows the model; use more steps, TemperedChains, weight decay or a "
            "smaller learning rate",
            stacklevel=3,
        )


def check_chains(phase: NegativePhase, chains: Tensor) -> None:
    """Check that a phase keeps as many chains as the module was made with.

    Args:
        phase: the settings.
        chains: the module's chains, (num_chains, visible).

    Raises:
        ValueError: it does not.
    """
    if chains.dim() != 2 or chains.shape[0] != phase.persistent_chains:
        raise ValueError(
            f"`negative_phase` must keep the {len(chains)} chains that the module was made with, got {phase}"
        )


def check_states(name: str, x: Tensor, units: Units = BERNOULLI, columns: int | None = None) -> None:
    """Check a batch of rows.

    Args:
        name: the argument's name, for the message.
        x: what came.
        units: type of the units whose states they must be.
        columns: how many units there are; None takes any number.

    Raises:
        ValueError: ``x`` is not (rows, units) with at least one row of states.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"`{name}` must be a tensor, got {type(x).__name__}")
    if x.dim() != 2 or 0 in x.shape:
        raise ValueError(f"`{name}` must have shape (rows, visible) with at least one row, got {tuple(x.shape)}")
    if columns is not None and x.shape[-1] != columns:
        raise ValueError(f"`{name}` must have {columns} columns, got {x.shape[-1]}")
    if not isinstance(units, BernoulliUnits):
        if not units.support.check(x).all():
            kind = "NaN" if x.is_floating_point() and x.isnan().any() else "other values"
            raise ValueError(f"`{name}` must hold states of {type(units).__name__}, got {kind}")
    elif not torch.equal(x.ceil().clamp_(0, 1) if x.is_floating_point() else x.bool(), x):
        kind = "NaN" if x.is_floating_point() and x.isnan().any() else "other values"
        raise ValueError(f"`{name}` must hold zeros and ones only, got {kind}")
