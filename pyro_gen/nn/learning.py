"""What an update makes of a gradient: centring, and what a negative phase itself learns from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor]
"""Of weight, visible bias and hidden bias."""


def centred(gradients: Gradients, visible_offset: Tensor, hidden_offset: Tensor) -> Gradients:
    r"""The step in the natural parameters that plain gradient descent makes in the centred ones.

    With :math:`E = -(v-\mu) \cdot a' - (h-\lambda) \cdot b' - (v-\mu) W (h-\lambda)`, a descent step on
    :math:`(W, a', b')` moves the natural parameters :math:`W, a = a' - W\lambda, b = b' - W^\top\mu` along

    .. math:: g'_W = g_W - g_a \lambda^\top - \mu\, g_b^\top, \quad g'_a = g_a - g'_W \lambda, \quad
              g'_b = g_b - g_W'^\top \mu

    Args:
        gradients: of weight (visible, hidden), visible and hidden bias.
        visible_offset: mu, (visible,).
        hidden_offset: lambda, (hidden,).

    Returns:
        The centred gradients.

    References:
        Montavon and Mueller (2012), Deep Boltzmann machines and the centering trick. Melchior, Fischer and Wiskott
        (2016), How to center deep Boltzmann machines, JMLR 17, Algorithm 1.
    """
    weight, visible, hidden = gradients
    weight = weight.addr(visible, hidden_offset, alpha=-1).addr_(visible_offset, hidden, alpha=-1)
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
