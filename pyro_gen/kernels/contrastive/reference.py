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
    r"""Gradient of mean F over ``batch`` minus mean F over particles, ``num_steps`` sweeps after ``start``.

    .. math:: \nabla_W = \sum_r s_r\, x_r\, \sigma(b + x_r W)^\top, \quad
              s = (-1/n, \dots, -1/n, 1/m, \dots, 1/m), \quad x = (\text{batch}, \text{particles})

    Data and particles are stacked, so that one product of K = n + m serves both phases. To be called under ``no_grad``.

    Args:
        batch: rows of data in {0, 1}, (n, visible).
        start: where the particles start, (m, visible).
        weight: (visible, hidden).
        vbias: (visible,).
        hbias: (hidden,).
        num_steps: sweeps.
        seed: 64-bit key.
        step: index of the first sweep.
        value: whether to compute the mean contrast too.

    Returns:
        Gradients of the three parameters, the particles, the mean contrast in nats or None.
    """
    particles, _ = sweep(start, weight, vbias, hbias, num_steps, None, seed, step, 0)
    states, share = torch.cat((batch, particles)), _shares(len(batch), len(particles), batch.dtype, batch.device)
    field = torch.addmm(hbias, states, weight)
    moments = torch.mm(share.mT, states).squeeze(0)
    contrast = moments @ vbias + (share.mT @ softplus(field)).sum() if value else None
    hidden = field.sigmoid_().mul_(share)
    return Contrast(torch.mm(states.mT, hidden), moments, hidden.sum(0), particles, contrast)


@lru_cache(maxsize=16)
def _shares(rows: int, particles: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A column of -1/n for the rows of the data and 1/m for the particles: the signs and weights of -F."""
    with torch.inference_mode(False):
        negative = torch.full((rows, 1), -1 / rows, dtype=dtype, device=device)
        return torch.cat((negative, torch.full((particles, 1), 1 / particles, dtype=dtype, device=device)))
