"""Annealed importance weights of an RBM in plain torch: the specification of every faster path."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gen.kernels.gibbs.reference import field, half_step
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import HIDDEN, VISIBLE, Uniforms


def rbm_ais(
    v: Tensor,
    parameters: RBMParameters,
    base: Tensor,
    betas: list[float],
    uniforms: Uniforms,
) -> tuple[Tensor, Tensor]:
    """Log weights of the path ``betas`` for chains that start at ``v`` (...,
    visible); see :func:`rbm_ais`.
    """
    weight, vbias, hbias = parameters
    log_weight = torch.zeros(v.shape[:-1], dtype=torch.float64, device=v.device)
    for t, (beta, following) in enumerate(pairwise(betas)):
        hidden_field = field(v, weight, hbias)
        log_weight += (following - beta) * (v * (vbias - base)).sum(-1, dtype=torch.float64)
        grown = softplus(following * hidden_field) - softplus(beta * hidden_field)
        log_weight += grown.sum(-1, dtype=torch.float64)
        h = half_step(following * hidden_field, None, uniforms(t, HIDDEN, hbias.shape[-1]))
        visible_field = torch.lerp(base, field(h, weight.mT, vbias), following)
        v = half_step(visible_field, None, uniforms(t, VISIBLE, vbias.shape[-1]))
    return log_weight, v
