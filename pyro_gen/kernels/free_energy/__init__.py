"""The op ``pyro_gen::rbm_free_energy``: what remains of the energy when the hidden units are summed out."""

from __future__ import annotations

from torch import Tensor

from pyro_gen.kernels.free_energy import reference
from pyro_gen.kernels.registry import register_formula

__all__ = ["rbm_free_energy"]

_op = register_formula(
    "rbm_free_energy(Tensor v, Tensor weight, Tensor vbias, Tensor hbias) -> Tensor", reference.rbm_free_energy
)


def rbm_free_energy(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor) -> Tensor:
    r"""Free energy of visible states of a Bernoulli RBM in nats, differentiable in all arguments.

    .. math:: F(v) = -v \cdot a - \sum_j \log\bigl(1 + e^{\,b_j + (v W)_j}\bigr)

    Args:
        v: visible states or means, shape (..., visible).
        weight: (visible, hidden), or with batch dimensions that broadcast against those of ``v``.
        vbias: (..., visible).
        hbias: (..., hidden).

    Returns:
        Tensor of shape (...).

    References:
        Fischer and Igel (2014), Training restricted Boltzmann machines: an introduction, equation 22.

    Example:
        >>> import torch
        >>> rbm_free_energy(torch.ones(2, 4), torch.zeros(4, 1), torch.ones(4), torch.zeros(1))
        tensor([-4.6931, -4.6931])
    """
    free_energy: Tensor = _op(v, weight, vbias, hbias)
    return free_energy
