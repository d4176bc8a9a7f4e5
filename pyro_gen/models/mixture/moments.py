"""Sums over rows, weighted by responsibilities, that the M step of Gaussian components needs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen.models.rows import Pattern, Rows


class Moments(NamedTuple):
    """Expected sums of the rows of every component.

    Args:
        counts: rows, (components, 1); (components, features) where each column
            counts its observed cells.
        mean: (components, features).
        scatter: sum of squares about ``mean``, (components, features, features)
            or (components, features).
    """

    counts: Tensor
    mean: Tensor
    scatter: Tensor


def columnwise(rows: Rows, responsibilities: Tensor, locs: Tensor) -> Moments:
    """Sums over the observed cells of each column: exact for components whose columns
    are independent.

    Deviations are added up about ``locs``, (components, features), where they
    are small.
    """
    weight = responsibilities.mT
    first = torch.zeros_like(locs)
    second = torch.zeros_like(locs)
    for chunk in rows.chunks(locs.numel()):
        off = rows.x[chunk] - locs.unsqueeze(1)
        if rows.mask is not None:
            off = off * rows.mask[chunk]
        weights = weight[:, None, chunk]
        first += (weights @ off).squeeze(1)
        second += (weights @ off.square_()).squeeze(1)
    if rows.mask is None:
        count = weight.sum(1, keepdim=True).expand_as(locs)
    else:
        count = weight @ rows.mask.to(weight)
    return _centred(count, locs, first, second, first.square())


def crosswise(rows: Rows, responsibilities: Tensor, locs: Tensor, covariances: Tensor) -> Moments:
    """Sums of products of columns.

    A missing cell counts by its conditional distribution under the present means
    (components, features) and covariances (components or 1, features, features).

    References:
        Ghahramani and Jordan (1994), Supervised learning from incomplete data
        via an EM approach, section 3.
    """
    first = torch.zeros_like(locs)
    second = torch.zeros_like(covariances.expand(len(locs), -1, -1))
    for pattern in rows.patterns:
        gain = conditional_gain(pattern, covariances)
        if rows.mask is None:
            pattern_rows = rows
        else:
            pattern_rows = Rows(rows.x[pattern.rows], None, None)
        if rows.mask is None:
            weight = responsibilities
        else:
            weight = responsibilities[pattern.rows]
        for chunk in pattern_rows.chunks(locs.numel()):
            off = _completed(pattern_rows.x[chunk] - locs.unsqueeze(1), pattern, gain)
            weighted = off * weight[chunk].mT.unsqueeze(-1)
            first += weighted.sum(1)
            second += weighted.mT @ off
        if len(pattern.missing):
            second += weight.sum(0)[:, None, None] * _conditional_covariance(
                pattern, covariances, gain
            )
    count = responsibilities.sum(0).unsqueeze(-1)
    return _centred(count, locs, first, second, first.unsqueeze(-1) * first.unsqueeze(-2))


def conditional_gain(pattern: Pattern, covariances: Tensor) -> Tensor:
    """The regression of missing cells on observed ones, (components, missing, observed)."""
    observed = pattern.observed
    missing = pattern.missing
    cross = covariances[:, missing[:, None], observed]
    if not cross.numel():
        return cross
    return torch.cholesky_solve(
        cross.mT, torch.linalg.cholesky(covariances[:, observed[:, None], observed])
    ).mT


def _completed(off: Tensor, pattern: Pattern, gain: Tensor) -> Tensor:
    """Deviations with the conditional mean of missing cells, (components, rows, features)."""
    if len(pattern.missing):
        off[..., pattern.missing] = off[..., pattern.observed] @ gain.mT
    return off


def _conditional_covariance(pattern: Pattern, covariances: Tensor, gain: Tensor) -> Tensor:
    """Covariance of the cells given the observed ones, zero but for missing ones."""
    missing = pattern.missing
    result = torch.zeros_like(covariances)
    block = covariances[:, missing[:, None], missing]
    result[:, missing[:, None], missing] = (
        block - gain @ covariances[:, pattern.observed[:, None], missing]
    )
    return result


def _centred(
    count: Tensor, locs: Tensor, first: Tensor, second: Tensor, square: Tensor
) -> Moments:
    """From sums about the old means to sums about the new ones; an empty component stays."""
    positive_count = count.clamp_min(torch.finfo(count.dtype).tiny)
    mean = locs + first / positive_count
    if second.dim() > first.dim():
        divisor = positive_count.unsqueeze(-1)
    else:
        divisor = positive_count
    return Moments(count, mean, second - square / divisor)


__all__ = ["Moments", "columnwise", "conditional_gain", "crosswise"]
