"""The log probability of an RBM under a negative phase, as one node of autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.functional import softplus

from pyro_gen._transforms import wrapped

__all__ = ["can_fuse", "surrogate"]

SECOND_DERIVATIVE = (
    "AIS and negative phases give the gradient of log Z but no second derivative (no "
    "`create_graph=True`, no Laplace "
    "approximation): use Exact"
)
"""The refusal of a second derivative of a stand-in for log Z."""


def can_fuse(rows: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor) -> bool:
    """True if :func:`surrogate` serves an eager call: unbatched parameters of one
    dtype, and rows that are data.

    Args:
        rows: (..., visible); with a gradient of their own they are left to
            autograd.
        weight: (visible, hidden).
        vbias: (visible,).
        hbias: (hidden,).
    """
    if torch.compiler.is_compiling() or forward_ad._current_level >= 0 or rows.requires_grad:
        return False
    if torch.is_autocast_enabled(rows.device.type) or wrapped((rows, weight, vbias, hbias)):
        return False
    if (weight.dim(), vbias.dim(), hbias.dim()) != (2, 1, 1) or not rows.numel():
        return False
    kind = rows.dtype, rows.device
    return all((x.dtype, x.device) == kind for x in (weight, vbias, hbias))


def surrogate(
    rows: Tensor,
    particles: Tensor,
    parameters: tuple[Tensor, Tensor, Tensor],
    *,
    shares: Tensor | None = None,
    paired: bool = False,
    plain_biases: tuple[Tensor, Tensor] | None = None,
    offsets: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    r"""Contrast of rows with particles, whose gradient estimates that of the log likelihood.

    .. math:: C_i = -F(v_i) + \sum_j w_j F(\tilde v_j), \qquad
              \nabla_W \sum_i g_i C_i = \sum_r s_r\, x_r\, \sigma(b + x_r W)^\top, \quad
              s = (g,\, -w \textstyle\sum_i g_i)

    One product gives the fields of all rows and particles, and one more the
    gradient of the weight. With offsets :math:`\mu, \lambda` the gradient is
    that of the centred parameters, in which W has
    :math:`-(\nabla_a)\lambda^\top - \mu(\nabla_b)^\top` besides.

    Args:
        rows: data (..., visible).
        particles: (particles, visible), without gradient; of the shape of
            ``rows`` where ``paired``.
        parameters: weight (visible, hidden), visible bias and hidden bias that
            the gradient is for.
        shares: weights w of the particles, which sum to one; None for equal
            ones.
        paired: whether each row has a particle of its own, as in contrastive
            divergence.
        plain_biases: visible and hidden bias of the energy without offsets;
            None where there are no offsets.
        offsets: visible and hidden offsets; None where the parameters are those
            of the plain energy.

    Returns:
        Nats, of shape (...), to be differentiated once.

    References:
        Fischer and Igel (2014), Training restricted Boltzmann machines: an
        introduction, equation 28.

    Example:
        >>> zero = torch.zeros(3, 2), torch.zeros(3), torch.zeros(2)
        >>> surrogate(torch.ones(4, 3), torch.ones(5, 3), zero)
        tensor([0., 0., 0., 0.])
    """
    biases = parameters[1:] if plain_biases is None else plain_biases
    contrast: Tensor = _Surrogate.apply(
        rows, particles, shares, paired, biases, offsets, *parameters
    )
    return contrast


class _Surrogate(torch.autograd.Function):
    """One product forwards, one backwards; the hidden probabilities are kept between them."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        particles: Tensor,
        shares: Tensor | None,
        paired: bool,
        biases: tuple[Tensor, Tensor],
        offsets: tuple[Tensor, Tensor] | None,
        weight: Tensor,
        vbias: Tensor,
        hbias: Tensor,
    ) -> Tensor:
        shape = rows.shape[:-1]
        if rows.dim() != 2:
            rows = rows.reshape(-1, rows.shape[-1])
            particles = particles.reshape(-1, rows.shape[-1])
        states = torch.cat((rows, particles))
        count = len(rows)
        fields = torch.addmm(biases[1], states, weight)
        minus_free_energy = softplus(fields).sum(-1).addmv_(states, biases[0])
        data = minus_free_energy[:count]
        model = minus_free_energy[count:]
        if not paired:
            if shares is None:
                model = model.mean()
            else:
                model = torch.dot(shares, model)

        if any(ctx.needs_input_grad):
            if offsets is not None:  # which may move in place before the gradient is asked for
                offsets = (offsets[0].clone(), offsets[1].clone())
            ctx.paired = paired
            ctx.save_for_backward(states, fields.sigmoid_(), shares, *(offsets or ()))
        contrast = data - model
        if len(shape) == 1:
            return contrast
        return contrast.view(shape)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(SECOND_DERIVATIVE)
        states, probabilities, shares, *offsets = ctx.saved_tensors
        row_shares = grad_output.reshape(-1)
        if ctx.paired:
            particle_shares = -row_shares
        elif shares is None:
            count = len(states) - len(row_shares)
            particle_shares = (row_shares.sum() / -count).expand(count)
        else:
            particle_shares = shares * -row_shares.sum()
        scale = torch.cat((row_shares, particle_shares))

        hidden = probabilities * scale.unsqueeze(-1)
        visible_gradient = torch.mv(states.mT, scale)
        hidden_gradient = hidden.sum(0)
        weight_gradient = None
        if ctx.needs_input_grad[6]:
            weight_gradient = torch.mm(states.mT, hidden)
            if offsets:
                weight_gradient.addr_(visible_gradient, offsets[1], alpha=-1)
                weight_gradient.addr_(offsets[0], hidden_gradient, alpha=-1)
        return *(None,) * 6, weight_gradient, visible_gradient, hidden_gradient
