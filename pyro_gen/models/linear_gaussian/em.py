"""Expectation maximisation for normal latent variables, with missing cells and
parameter expansion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen.models.em import FitResult
from pyro_gen.models.linear_gaussian.pca import principal_axes
from pyro_gen.models.linear_gaussian.posterior import posterior
from pyro_gen.models.rows import Rows

FLOOR = 1e-6
"""Lower bound of the noise variance, as a share of the column's variance."""
LEAP = 1000.0
"""Longest extrapolation, in steps."""

Pooling = Callable[[Tensor], Tensor]
"""Function that pools sums over rows for the features that share a variance."""


class Point(NamedTuple):
    """Means (features,), loadings (features, latent) and variances of the noise (features,)."""

    loc: Tensor
    weight: Tensor
    variance: Tensor


class Statistics(NamedTuple):
    """Expected sums over rows.

    U holds the latent variables, and a 1 behind them where the mean is learned
    too.

    Args:
        log_likelihood: of all rows, at the point that gave the expectations.
        table: sums of E[u u^T] over the rows that show a feature, (features,
            terms, terms); over all rows where every row shows all, (terms,
            terms).
        cross: sums of x E[u], (features, terms).
        squares: sums of x^2, (features,).
        shown: how many rows show a feature, (features,).
        second: mean of E[u u^T] over all rows, (terms, terms).
    """

    log_likelihood: float
    table: Tensor
    cross: Tensor
    squares: Tensor
    shown: Tensor
    second: Tensor


def maximise(
    rows: Rows, latent: int, pooled: Pooling, num_steps: int, tolerance: float
) -> tuple[FitResult, Point]:
    r"""Maximise from the principal axes until a step gains no more than ``tolerance``
    nats a row.

    The prior's mean and covariance are free in the M step and are then taken
    into means and loadings (parameter expansion), and every two steps are
    followed by a squared extrapolation, kept only where it gains; both avoid
    most of EM's many small steps and keep it monotone. Complete rows enter by a
    triangle of their QR decomposition: with it a step costs O(features^2
    latent), however many rows there are.

    References:
        Rubin and Thayer (1982), EM algorithms for ML factor analysis. Liu,
        Rubin and Wu (1998), Parameter expansion to accelerate EM, section 4.
        Varadhan and Roland (2008), Simple and globally convergent methods for
        accelerating the convergence of any EM algorithm, scheme S3.
    """
    loc, variance = rows.column_moments()
    unit = pooled(variance * _counts(rows)) / pooled(_counts(rows))
    table = (rows.x - loc) / unit.sqrt()
    if rows.mask is not None:
        table = table * rows.mask
    if rows.mask is None:
        statistics = _complete(table)
    else:
        statistics = _incomplete(Rows(table, rows.mask, table))
    shift = -(_counts(rows) * unit.log()).sum().item() / 2  # back from standardised columns
    climbed = _ascend(
        statistics, _start_point(table, latent, pooled), pooled, num_steps, tolerance * len(table)
    )
    point = climbed.point
    history = [value + shift for value in climbed.history]
    degenerate = bool((point.variance < 2 * FLOOR).any())
    rescaled = Point(
        loc + point.loc * unit.sqrt(),
        point.weight * unit.sqrt().unsqueeze(-1),
        point.variance * unit,
    )
    objective = torch.tensor(history, dtype=torch.float64)
    return FitResult(
        history[-1], objective, climbed.converged, degenerate, objective[-1:]
    ), rescaled


class _Ascent(NamedTuple):
    point: Point
    history: list[float]
    converged: bool


def _ascend(
    statistics: Callable[[Point], Statistics],
    point: Point,
    pooled: Pooling,
    num_steps: int,
    tolerance: float,
) -> _Ascent:
    """Pairs of EM steps and an extrapolation, kept if it gains more than the first step."""
    moments = statistics(point)
    history = [moments.log_likelihood]
    converged = False
    while not converged and len(history) <= num_steps:
        once = _maximised(moments, pooled)
        middle = statistics(once)
        twice = _maximised(middle, pooled)
        leap = _leap(point, once, twice)
        ahead = statistics(leap)
        if not ahead.log_likelihood >= middle.log_likelihood:
            leap = twice
            ahead = statistics(twice)
        history += [middle.log_likelihood, ahead.log_likelihood]
        converged = ahead.log_likelihood - moments.log_likelihood <= tolerance
        point = leap
        moments = ahead
    return _Ascent(point, history, converged)


def _leap(start: Point, once: Point, twice: Point) -> Point:
    """Squared extrapolation of two steps, in the logarithms of the variances."""
    first, second, third = (
        torch.cat([p.loc.unsqueeze(-1), p.weight, p.variance.log().unsqueeze(-1)], -1)
        for p in (start, once, twice)
    )
    step = second - first
    bend = third - 2 * second + first
    length = (step.norm() / bend.norm().clamp(min=1e-300)).clamp(1, LEAP)
    end = first + 2 * length * step + length.square() * bend
    return Point(end[:, 0], end[:, 1:-1], end[:, -1].exp().clamp(min=FLOOR))


def _counts(rows: Rows) -> Tensor:
    """Observed cells of every column."""
    if rows.mask is None:
        return rows.x.new_full(rows.x.shape[1:], len(rows.x))
    return rows.mask.to(rows.x).sum(0)


def _start_point(table: Tensor, latent: int, pooled: Pooling) -> Point:
    """Principal axes of the table, missing cells at their columns' means."""
    _, components, variances = principal_axes(table)
    noise = (variances[latent:].sum() / (table.shape[1] - latent)).clamp(min=0.01)
    weight = components[:latent].mT * (variances[:latent] - noise).clamp(min=0.01).sqrt()
    residual = table.square().mean(0) - weight.square().sum(-1)
    return Point(
        torch.zeros_like(table[0]),
        weight,
        (pooled(residual) / pooled(torch.ones_like(residual))).clamp(min=0.05),
    )


def _complete(table: Tensor) -> Callable[[Point], Statistics]:
    """Statistics of centred rows without missing cells; their mean is the maximum and stays."""
    triangle = torch.nn.functional.pad(torch.linalg.qr(table, mode="r").R, (0, 0, 0, 1))
    rows = len(table)
    triangle_rows = Rows(triangle, None, triangle)
    squares = triangle.square().sum(0)
    count = torch.full_like(squares, rows)

    def statistics(point: Point) -> Statistics:
        latents = posterior(triangle_rows, point.loc, point.weight, point.variance.sqrt())
        second = latents.mean.mT @ latents.mean + rows * torch.cholesky_inverse(latents.factor)
        cross = triangle.mT @ latents.mean
        constant = (rows - len(triangle)) * latents.log_likelihood[
            -1
        ]  # of a row of zeros: all but the squares
        return Statistics(
            (latents.log_likelihood.sum() + constant).item(),
            second,
            cross,
            squares,
            count,
            second / rows,
        )

    return statistics


def _incomplete(rows: Rows) -> Callable[[Point], Statistics]:
    """Statistics of rows with missing cells, a few at a time."""
    assert rows.mask is not None
    table = rows.x
    mask = rows.mask
    count = mask.to(table).sum(0)
    squares = table.square().sum(0)

    def statistics(point: Point) -> Statistics:
        terms = point.weight.shape[-1] + 1
        total = table.new_zeros(table.shape[1], terms**2)
        cross = table.new_zeros(table.shape[1], terms)
        second = table.new_zeros(terms, terms)
        value = 0.0
        for part in rows.chunks(terms**2):
            pattern_rows = Rows(table[part], mask[part], None)
            shown = mask[part].to(table)
            latents = posterior(pattern_rows, point.loc, point.weight, point.variance.sqrt())
            u = torch.nn.functional.pad(latents.mean, (0, 1), value=1.0)
            products = u.unsqueeze(-1) * u.unsqueeze(-2)
            products[:, :-1, :-1] += torch.cholesky_inverse(latents.factor)
            total += shown.mT @ products.flatten(1)
            cross += pattern_rows.x.mT @ u
            second += products.sum(0)
            value += latents.log_likelihood.sum().item()
        by_feature = total.unflatten(-1, (terms, terms))
        return Statistics(value, by_feature, cross, squares, count, second / len(table))

    return statistics


def _maximised(moments: Statistics, pooled: Pooling) -> Point:
    """Regress every feature on the latent variables, whose free prior goes into the result."""
    latent = len(moments.second) - (moments.table.dim() > 2)
    if moments.table.dim() == 2:
        slopes = torch.linalg.solve(moments.table, moments.cross.mT).mT
    else:
        slopes = torch.linalg.solve(moments.table, moments.cross.unsqueeze(-1)).squeeze(-1)
    residual = moments.squares - (slopes * moments.cross).sum(-1)
    variance = (pooled(residual) / pooled(moments.shown)).clamp(min=FLOOR)
    weight = slopes[:, :latent]
    intercept = slopes[:, latent:].sum(-1)
    mean = moments.second[:latent, latent:].sum(-1)
    covariance = moments.second[:latent, :latent] - mean.unsqueeze(-1) * mean
    return Point(intercept + weight @ mean, weight @ torch.linalg.cholesky(covariance), variance)


__all__ = ["FLOOR", "Point", "maximise"]
