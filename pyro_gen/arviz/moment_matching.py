"""Leave-one-out cross-validation by moment matching, for rows whose Pareto k is high."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from pyro_gen._arguments import whole_number
from pyro_gen.arviz.elpd import NewRow, pareto_ks, psis_loo, threshold, with_new_rows
from pyro_gen.arviz.groups import warn
from pyro_gen.arviz.program import Program
from pyro_gen.arviz.rows import Densities, ModelRows
from pyro_gen.arviz.unconstrained import Unconstrained
from pyro_gen.infer.elbo.pareto import pareto_smooth

DRAWS_PER_PARAMETER = 10
"""Draws that a covariance needs, for each parameter."""
MIN_GAIN = 1.01
"""Factor by which a move has to raise the effective sample size."""


class Affine(NamedTuple):
    """Map u -> linear u + offset; a vector `linear` is a diagonal."""

    linear: np.ndarray
    offset: np.ndarray

    def _times(self, vectors: np.ndarray) -> np.ndarray:
        if self.linear.ndim == 1:
            return vectors * self.linear
        product: np.ndarray = vectors @ self.linear.T
        return product

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Map vectors (draw, parameters)."""
        return self._times(vectors) + self.offset

    def inverse(self, vectors: np.ndarray) -> np.ndarray:
        """Map back."""
        shifted = vectors - self.offset
        if self.linear.ndim == 1:
            return shifted / self.linear
        solved: np.ndarray = np.linalg.solve(self.linear, shifted.T).T
        return solved

    def after(self, first: Affine) -> Affine:
        """Return the map that applies `first` and then this one."""
        offset = self._times(first.offset[None])[0] + self.offset
        if self.linear.ndim == 1 and first.linear.ndim == 1:
            return Affine(self.linear * first.linear, offset)
        return Affine(_as_matrix(self.linear) @ _as_matrix(first.linear), offset)

    @property
    def log_determinant(self) -> float:
        """Logarithm of the factor by which the map changes volumes."""
        if self.linear.ndim == 1:
            return float(np.log(np.abs(self.linear)).sum())
        return float(np.linalg.slogdet(self.linear)[1])


def _as_matrix(linear: np.ndarray) -> np.ndarray:
    if linear.ndim == 1:
        return np.diag(linear)
    return linear


def match_mean(vectors: np.ndarray, weights: np.ndarray) -> Affine:
    """Shift to the weighted mean."""
    return Affine(np.ones(vectors.shape[1]), weights @ vectors - vectors.mean(0))


def match_scale(vectors: np.ndarray, weights: np.ndarray) -> Affine:
    """Shift to the weighted mean, and scale to the weighted standard deviations."""
    mean = weights @ vectors
    variance = weights @ (vectors - mean) ** 2
    scale = np.sqrt(variance / vectors.var(0))
    scale = np.where(np.isfinite(scale) & (scale > 0), scale, 1.0)
    return Affine(scale, mean - scale * vectors.mean(0))


def match_covariance(vectors: np.ndarray, weights: np.ndarray) -> Affine:
    """Shift to the weighted mean, and map the covariance to the weighted one.

    Raises:
        numpy.linalg.LinAlgError: if one of the two covariances is singular.
    """
    mean = weights @ vectors
    centred = vectors - mean
    target = np.linalg.cholesky((centred * weights[:, None]).T @ centred)
    now = np.linalg.cholesky(np.atleast_2d(np.cov(vectors.T, bias=True)))
    linear = np.linalg.solve(now.T, target.T).T
    return Affine(linear, mean - linear @ vectors.mean(0))


class Weighted(NamedTuple):
    """Smoothed log weights that sum to 1, their Pareto k, and the row's log likelihood."""

    log_weights: np.ndarray
    pareto_k: float
    log_likelihood: np.ndarray

    @property
    def elpd(self) -> float:
        """Log predictive density of the row."""
        return float(np.logaddexp.reduce(self.log_weights + self.log_likelihood))

    @property
    def effective_sample_size(self) -> float:
        """One over the sum of squared weights."""
        return float(np.exp(-np.logaddexp.reduce(2 * self.log_weights)))


def _weighted(log_ratio: np.ndarray, log_likelihood: np.ndarray) -> Weighted:
    log_ratio = np.where(np.isnan(log_ratio), -math.inf, log_ratio)
    if not np.isfinite(log_ratio.max()):
        even = np.full_like(log_ratio, -math.log(len(log_ratio)))
        return Weighted(even, math.inf, log_likelihood)
    smoothed, k = pareto_smooth(log_ratio)
    return Weighted(smoothed, k, log_likelihood)


class Target:
    """Posterior of a model over unconstrained vectors, and the likelihood of its rows.

    Args:
        rows: of the model.
        space: the map between draws and vectors.
    """

    def __init__(self, rows: ModelRows, space: Unconstrained) -> None:
        self.rows = rows
        self.space = space
        self.vectors = space.vectors(rows.draws)
        self.log_density, self.log_likelihood = self._evaluate(self.vectors)

    def _evaluate(self, vectors: np.ndarray) -> Densities:
        draws, log_jacobian = self.space.draws(vectors)
        log_joint, log_likelihood = self.rows.evaluate(draws)
        return Densities(log_joint + log_jacobian, log_likelihood)

    def __call__(self, vectors: np.ndarray) -> Densities:
        """Return the log density of vectors and the log likelihood of the rows."""
        try:
            return self._evaluate(vectors)
        except (RuntimeError, ValueError):
            # Far from the posterior a model may fail, as a Cholesky factor does: no such place.
            nowhere = np.full(len(vectors), -math.inf)
            return Densities(nowhere, np.zeros_like(self.log_likelihood))


class Move(NamedTuple):
    """A map of all draws, the moved draws, and their weights."""

    total: Affine
    vectors: np.ndarray
    weighted: Weighted


def match_row(target: Target, row: int, k_threshold: float, max_iters: int) -> Weighted:
    """Move the draws to the posterior without a row, and return its weighted likelihood.

    Pareto k guides the moves until it is low enough; then the effective sample
    size does, which says more of such weights and is less noisy.

    Args:
        target: the posterior.
        row: the row.
        k_threshold: Pareto k below which weights can be relied on.
        max_iters: the most moves.
    """
    log_likelihood = target.log_likelihood[:, row]
    original = _weighted(-log_likelihood, log_likelihood)
    size = target.vectors.shape[1]
    best = Move(Affine(np.ones(size), np.zeros(size)), target.vectors, original)
    for _ in range(max_iters):
        if best.weighted.pareto_k > k_threshold:
            better = _lower_k(target, best, row)
        else:
            better = _larger_sample(target, best, row, k_threshold)
        if better is None:
            break
        best = better
    if best.weighted is original:
        return original
    # Weights under the mixture are at most twice those of the moved draws, whose k bounds theirs.
    return _split_draws(target, best.total, row)._replace(pareto_k=best.weighted.pareto_k)


def _trials(target: Target, move: Move, row: int) -> Iterator[Move]:
    """Moves that match the mean, then also the variances, then the covariance."""
    size = target.vectors.shape[1]
    matches: list[Callable[[np.ndarray, np.ndarray], Affine]] = [match_mean, match_scale]
    if size > 1 and len(target.vectors) >= DRAWS_PER_PARAMETER * size:
        matches.append(match_covariance)
    weights = np.exp(move.weighted.log_weights)
    for match in matches:
        try:
            step = match(move.vectors, weights)
        except np.linalg.LinAlgError:
            continue
        vectors = step(move.vectors)
        yield Move(step.after(move.total), vectors, _moved(target, vectors, row))


def _lower_k(target: Target, best: Move, row: int) -> Move | None:
    """The first move after which Pareto k is lower."""
    for trial in _trials(target, best, row):
        if trial.weighted.pareto_k < best.weighted.pareto_k:
            return trial
    return None


def _larger_sample(target: Target, best: Move, row: int, k_threshold: float) -> Move | None:
    """The move after which the effective sample size is largest, Pareto k still low."""
    result = None
    least = MIN_GAIN * best.weighted.effective_sample_size
    for trial in _trials(target, best, row):
        size = trial.weighted.effective_sample_size
        if trial.weighted.pareto_k <= k_threshold and size > least:
            least = size
            result = trial
    return result


def _moved(target: Target, vectors: np.ndarray, row: int) -> Weighted:
    """Weights of moved draws: the change of volume is the same for all of them."""
    log_density, log_likelihood = target(vectors)
    row_log_likelihood = log_likelihood[:, row]
    return _weighted(log_density - row_log_likelihood - target.log_density, row_log_likelihood)


def _split_draws(target: Target, total: Affine, row: int) -> Weighted:
    """Weights of draws of which every other one is moved, under the mixture of both densities.

    The mixture covers the posterior without the row and the posterior with it,
    between which the row's likelihood moves.
    """
    moved = np.arange(len(target.vectors)) % 2 == 0
    vectors = np.where(moved[:, None], total(target.vectors), target.vectors)
    origins = np.where(moved[:, None], target.vectors, total.inverse(target.vectors))
    log_density, log_likelihood = target(vectors)
    moved_log_density = target(origins).log_joint - total.log_determinant
    mixture = np.logaddexp(log_density, moved_log_density)
    row_log_likelihood = log_likelihood[:, row]
    return _weighted(log_density - row_log_likelihood - mixture, row_log_likelihood)


def loo_moment_match(
    data: Any,
    model: Callable[..., Any],
    *args: Any,
    model_kwargs: Mapping[str, Any] | None = None,
    loo_orig: Any = None,
    var_name: str | None = None,
    k_threshold: float | None = None,
    max_iters: int = 30,
) -> Any:
    r"""Leave-one-out cross-validation in which rows of high Pareto k are moment matched.

    `arviz.loo` reweights the draws of the posterior by :math:`1 / p(y_i \mid
    \theta)`. For an influential row the weights have too heavy a tail. Here the
    unconstrained draws are moved by affine maps until weighted and plain draws
    agree in mean, then in variance, then in covariance, as long as Pareto k
    falls; below the threshold as long as the effective sample size rises. With
    the whole map T, half of the draws moved, and p the density of all
    unconstrained parameters given all rows, the weights are

    .. math:: w(u) \propto \frac{p(u) / p(y_i \mid u)}{p(u) + p(T^{-1} u) / |\det T|}.

    Nothing is fitted again. Other rows stay as they are. `data` must hold draws
    of the posterior, as of NUTS; latents that the draws lack are summed out, as
    in :func:`from_mcmc`.

    Args:
        data: of :func:`from_mcmc`, with the group ``log_likelihood``.
        model: the model of `data`.
        *args: its arguments.
        model_kwargs: its keyword arguments.
        loo_orig: a result of ``arviz.loo(..., pointwise=True)``; None computes
            it.
        var_name: the variable of ``log_likelihood``, if there is more than one.
        k_threshold: Pareto k above which a row is treated; None is
            :math:`\min(1 - 1 / \log_{10} S, 0.7)` with S draws.
        max_iters: the most moves of the draws for a row.

    Returns:
        What `arviz.loo` returns with ``pointwise=True``; ``pareto_k`` of a
        treated row is that of its moved draws. A row that stays above the
        threshold is named in a warning.

    Raises:
        ImportError: if ArviZ is not installed.
        ValueError: if groups are missing, the model is not that of `data`, its
            draws are of discrete sites, or the log likelihood is not defined.

    References:
        T. Paananen, J. Piironen, P.-C. Bürkner, A. Vehtari, Implicitly adaptive
        importance sampling, Statistics and Computing 31, 2021, algorithm 1 and
        section 2.4.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro_gen.arviz import from_svi
        >>> def model(y):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", len(y)):
        ...         pyro.sample("y", dist.Normal(mu, 1.0), obs=y)
        >>> def posterior(y):
        ...     precision = torch.tensor(len(y) + 0.01)
        ...     pyro.sample("mu", dist.Normal(y.sum() / precision, precision**-0.5))
        >>> y = torch.tensor([-0.5, 0.3, 0.1, -0.2, 6.0])
        >>> pyro.set_rng_seed(0)
        >>> data = from_svi(model, posterior, y, num_samples=500)
        >>> loo = loo_moment_match(data, model, y)
        >>> bool((loo.pareto_k <= loo.good_k).all())
        True
    """
    max_iters = whole_number("max_iters", max_iters)
    rows = ModelRows(data, Program(model, args, model_kwargs), var_name)
    space = Unconstrained(rows.first, rows.latent)
    if loo_orig is None:
        loo_orig = psis_loo(data, rows.name)
    if k_threshold is None:
        k_threshold = threshold(len(rows.recorded))
    high = np.flatnonzero(pareto_ks(loo_orig) > k_threshold)
    new = {}
    if len(high) > 0:
        target = Target(rows, space)
        for row in high:
            result = match_row(target, int(row), k_threshold, max_iters)
            new[int(row)] = NewRow(result.elpd, result.pareto_k)
    if left := {
        row: round(of.pareto_k, 2) for row, of in new.items() if of.pareto_k > k_threshold
    }:
        warn(
            f"moment matching leaves the Pareto k of {len(left)} rows of {rows.name!r} above "
            f"{k_threshold:.2f}, by row: {left}; `reloo` refits the model without each of them"
        )
    return with_new_rows(loo_orig, new, rows.recorded)
