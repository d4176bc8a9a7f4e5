"""The free energy of an RBM in plain torch: the specification of every faster path."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from pyro_gen.kernels.gibbs.reference import field


def rbm_free_energy(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor) -> Tensor:
    """Free energy of ``v`` (..., visible); see :func:`pyro_gen.kernels.rbm_free_energy`."""
    return -(v * vbias).sum(-1) - softplus(field(v, weight, hbias)).sum(-1)
