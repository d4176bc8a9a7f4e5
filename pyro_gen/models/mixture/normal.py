"""Log densities of rows under normal components, and bounds of their covariances."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen.models.rows import Rows


class Update(NamedTuple):
    """A normal-inverse-Wishart distribution (inverse gamma for variances) after rows
    have been counted.

    Args:
        locs: centres of the means, (components, features).
        kappa: rows that each mean is worth, (components, 1) or (components,
            features).
        scale: of the distribution of the covariances, in the shape of their
            site.
        df: its degrees of freedom, which broadcast to ``scale``.
    """

    locs: Tensor
    kappa: Tensor
    scale: Tensor
    df: Tensor


def parts(rows: Rows, locs: Tensor) -> list[Rows]:
    """Slices of rows whose deviations from all means fit the cache; one under gradients."""
    if torch.is_grad_enabled() and locs.requires_grad:
        return [rows]
    chunks = list(rows.chunks(locs.numel()))
    if len(chunks) == 1:
        return [rows]
    masks = [None if rows.mask is None else rows.mask[chunk] for chunk in chunks]
    return [
        Rows(rows.x[..., chunk, :], mask, None) for chunk, mask in zip(chunks, masks, strict=True)
    ]


def block(x: Tensor, locs: Tensor, factor: Tensor) -> Tensor:
    """Log density of complete rows, (..., components, rows)."""
    features = x.shape[-1]
    identity = torch.eye(features, dtype=x.dtype, device=x.device)
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
    if factor.shape[-3] == 1 < locs.shape[-2]:
        # One matrix for all components: rows and means go through it once, from
        # a point amidst them, for precision.
        amid = locs.mean(-2, keepdim=True)
        whitened = (x - amid) @ inverse.squeeze(-3).mT
        inverse = inverse.squeeze(-3)
        solved = whitened.unsqueeze(-3) - ((locs - amid) @ inverse.mT).unsqueeze(-2)
    else:
        solved = (x.unsqueeze(-3) - locs.unsqueeze(-2)) @ inverse.mT
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
    return -solved.square().sum(-1) / 2 - log_det - features / 2 * math.log(2 * math.pi)


def columns(rows: Rows, locs: Tensor, deviations: Tensor) -> Tensor:
    """Log density of the observed cells where columns are independent, (..., components, rows)."""
    deviations = deviations.expand(locs.shape)
    # Features before rows: rows lie side by side in memory, and the sum over
    # features is one product.
    square = (rows.x.mT.contiguous().unsqueeze(-3) - locs.unsqueeze(-1)).square()
    half = (-deviations.square().reciprocal() / 2).unsqueeze(-2)
    unit = deviations.log() + math.log(2 * math.pi) / 2
    if rows.mask is None:
        return (half @ square).squeeze(-2) - unit.sum(-1, keepdim=True)
    return (half @ (square * rows.mask.mT)).squeeze(-2) - unit @ rows.mask.to(unit).mT


def outer(x: Tensor) -> Tensor:
    """Products of all pairs of the last dimension."""
    return x.unsqueeze(-1) * x.unsqueeze(-2)


def floored(covariances: Tensor, floor: Tensor) -> Tensor:
    """The likeliest matrices at least as wide as ``floor`` in every direction."""
    deviation = floor.sqrt()
    unit = deviation.unsqueeze(-1) * deviation
    values, vectors = torch.linalg.eigh(covariances / unit)
    if (values >= 1).all():
        return covariances
    return (vectors * values.clamp_min(1).unsqueeze(-2)) @ vectors.mT * unit


__all__ = ["Update", "block", "columns", "floored", "outer", "parts"]
