"""Block Gibbs sampling of an RBM in plain torch: the specification of every faster path."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import HIDDEN, VISIBLE, Uniforms


def field(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Total input ``bias + states @ weight`` of the other side, batched parameters included.

    Args:
        states: (..., this side).
        weight: (..., this side, other side).
        bias: (..., other side).

    Returns:
        Tensor of shape (..., other side).
    """
    if weight.dim() == 2:
        return states @ weight + bias
    return torch.einsum("...i,...ij->...j", states, weight) + bias


def half_step(field: Tensor, beta: Tensor | None, uniform: Tensor) -> Tensor:
    """Bernoulli units drawn from P(x = 1) = sigmoid(beta field): on where the uniform
    lies below.

    Args:
        field: (..., units).
        beta: inverse temperature of each chain, or None for 1.
        uniform: as many numbers in [0, 1) as ``field`` has, in chain order.

    Returns:
        Zeros and ones with the shape and dtype of ``field``.
    """
    probs = torch.sigmoid(field if beta is None else beta.unsqueeze(-1) * field)
    return (uniform.view(field.shape) < probs).to(field.dtype)


def rbm_gibbs(
    v: Tensor,
    parameters: RBMParameters,
    num_steps: int,
    beta: Tensor | None,
    uniforms: Uniforms,
    step: int,
) -> tuple[Tensor, Tensor]:
    """Sweep ``num_steps`` times, h ~ p(h | v) and v ~ p(v | h), from ``v`` (...,
    visible); see :func:`rbm_gibbs`.
    """
    weight, vbias, hbias = parameters
    h = v
    for t in range(step, step + num_steps):
        h = half_step(field(v, weight, hbias), beta, uniforms(t, HIDDEN, hbias.shape[-1]))
        v = half_step(field(h, weight.mT, vbias), beta, uniforms(t, VISIBLE, vbias.shape[-1]))
    return v, h
