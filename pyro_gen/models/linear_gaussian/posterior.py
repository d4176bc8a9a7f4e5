"""Exact posterior of the latent variables, with the log likelihood."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen.models.rows import Rows


class Posterior(NamedTuple):
    """Normal distributions of the latent variables given rows, and the log densities
    of the rows.

    Args:
        mean: (rows, latent).
        factor: lower Cholesky factor of the precision, (latent, latent), or one
            for each row where cells are missing.
        log_likelihood: log density of the observed cells, (rows,), in nats.
    """

    mean: Tensor
    factor: Tensor
    log_likelihood: Tensor


def posterior(rows: Rows, loc: Tensor, weight: Tensor, scale: Tensor) -> Posterior:
    r"""Condition :math:`z \sim N(0, I),\ x = W z + \mu + \epsilon,\ \epsilon_i \sim
    N(0, \psi_i)` on x.

    .. math:: M = I + W^T \Psi^{-1} W, \quad m = M^{-1} W^T \Psi^{-1} (x - \mu), \quad
              -2 \log p(x) = |\Psi^{-1/2} (x - \mu - W m)|^2 + |m|^2 + \log |M| + \log |2 \pi \Psi|

    with loadings W, ``weight``. The quadratic form is a sum of squares, the
    least over z, rather than Woodbury's difference of two large numbers. A
    missing cell drops out of every sum. Costs O(features latent^2) once, or for
    each row where cells are missing.
    """
    loadings = weight / scale.unsqueeze(-1)
    white = (rows.x - loc) / scale
    if rows.mask is None:
        gram = loadings.mT @ loadings
        constant = scale.log().sum() + len(scale) * math.log(2 * math.pi) / 2
    else:
        observed = rows.mask.to(white)
        white = white * observed
        outer = (loadings.unsqueeze(-1) * loadings.unsqueeze(-2)).flatten(1)
        gram = (observed @ outer).unflatten(-1, (weight.shape[-1],) * 2)
        constant = observed @ (scale.log() + math.log(2 * math.pi) / 2)
    factor = torch.linalg.cholesky(gram + torch.eye(weight.shape[-1]).to(gram))
    mean = _solved(white @ loadings, factor)
    residual = white - mean @ loadings.mT
    if rows.mask is not None:
        residual = residual * observed
    distance = residual.square().sum(-1) + mean.square().sum(-1)
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return Posterior(mean, factor, -(distance + log_determinant) / 2 - constant)


def _solved(right: Tensor, factor: Tensor) -> Tensor:
    """The precision's inverse times each row of ``right``."""
    if factor.dim() == 2:
        return torch.cholesky_solve(right.mT, factor).mT
    return torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)


__all__ = ["Posterior", "posterior"]
