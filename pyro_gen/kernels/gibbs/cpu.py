"""Block Gibbs sampling on a CPU, exact in float32 and float64: fused GEMM + bias +
sigmoid, in-place draws, few calls.

For float32 from about 4 million multiply-adds a half step oneDNN's fused linear
layer is used (twice MKL's speed on AMD's Zen 5, level with it on Zen 4); below
that its 10 microseconds of set-up cost more than they save. The op is private
to torch: it is looked up once, and ``torch.addmm`` serves where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import HIDDEN, VISIBLE, Uniforms

FUSED_FROM = 4_000_000
"""Multiply-adds of a half step from which oneDNN's fused layer pays."""


def _fused_linear() -> Callable[..., Tensor] | None:
    """Find oneDNN's ``sigmoid(x @ weight.T + bias)``, or None where this torch does
    not have it.
    """
    if not torch.backends.mkldnn.is_available():
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


_FUSED = _fused_linear()


def impossible(states: Tensor, weight: Tensor) -> str | None:
    """Reason why this path cannot run on these tensors; None where it can."""
    if states.is_cpu:
        return None
    return f"this path runs on a CPU, got tensors on {states.device}"


def mean_field(states: Tensor, weight: Tensor, bias: Tensor, beta: Tensor | None = None) -> Tensor:
    """``sigmoid(beta (bias + states @ weight))`` as a fresh tensor, by the fastest exact path.

    Args:
        states: (chains, this side).
        weight: (this side, other side), any strides.
        bias: (other side,).
        beta: inverse temperature of each chain, or None for 1.

    Returns:
        Probabilities of shape (chains, other side).
    """
    large = states.shape[0] * weight.numel() >= FUSED_FROM
    if beta is None and large and _FUSED is not None and states.dtype == torch.float32:
        # oneDNN silently misreads strides: it gets plain row-major or column-major operands only.
        plain = weight if weight.mT.is_contiguous() else weight.contiguous()
        return _FUSED(states.contiguous(), plain.mT, bias.contiguous(), "sigmoid", [], "")
    field = torch.addmm(bias, states, weight)
    return (field if beta is None else field.mul_(beta.unsqueeze(-1))).sigmoid_()


def rbm_gibbs(
    v: Tensor,
    parameters: RBMParameters,
    num_steps: int,
    beta: Tensor | None,
    uniforms: Uniforms,
    step: int,
) -> tuple[Tensor, Tensor]:
    """The reference's sweeps, for states (chains, visible) and unbatched parameters.

    Draws overwrite their uniforms.
    """
    weight, vbias, hbias = parameters
    h = v
    for t in range(step, step + num_steps):
        h = uniforms(t, HIDDEN, hbias.shape[-1]).lt_(mean_field(v, weight, hbias, beta))
        v = uniforms(t, VISIBLE, vbias.shape[-1]).lt_(mean_field(h, weight.mT, vbias, beta))
    return v, h
