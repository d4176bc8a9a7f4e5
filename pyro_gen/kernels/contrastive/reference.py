"""The contrastive gradient of an RBM in plain torch: the specification of every faster path."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gen.kernels.gibbs import sweep


class Contrast(NamedTuple):
    """Gradient of the mean contrast, the particles it was taken at, and the contrast itself where asked for."""

    weight: Tensor
    vbias: Tensor
    hbias: Tensor
    particles: Tensor
    value: Tensor | None


def rbm_contrast(
    batch: Tensor,
    start: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    num_steps: int,
    seed: int,
    step: int,
    value: bool = False,
) -> Contrast:
    """See :func:`pyro_gen.kernels.contrastive.rbm_contrast`; one product of K = n + m rows serves both phases."""
    particles, _ = sweep(start, weight, vbias, hbias, num_steps, None, seed, step, 0)
    states, share = torch.cat((batch, particles)), _shares(len(batch), len(particles), batch.dtype, batch.device)
    field = torch.addmm(hbias, states, weight)
    moments = torch.mm(share.mT, states).squeeze(0)
    contrast = moments @ vbias + (share.mT @ softplus(field)).sum() if value else None
    hidden = field.sigmoid_().mul_(share)
    return Contrast(torch.mm(states.mT, hidden), moments, hidden.sum(0), particles, contrast)


def contrast(batch: Tensor, particles: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor) -> Tensor:
    """Mean F over ``batch`` minus mean F over ``particles``, a scalar in nats."""
    states, share = torch.cat((batch, particles)), _shares(len(batch), len(particles), batch.dtype, batch.device)
    free = states @ vbias + softplus(torch.addmm(hbias, states, weight)).sum(-1)
    return torch.dot(share.squeeze(-1), free)


@lru_cache(maxsize=16)
def _shares(rows: int, particles: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A column of -1/n for the rows of the data and 1/m for the particles: the signs and weights of -F."""
    with torch.inference_mode(False):
        negative = torch.full((rows, 1), -1 / rows, dtype=dtype, device=device)
        return torch.cat((negative, torch.full((particles, 1), 1 / particles, dtype=dtype, device=device)))
