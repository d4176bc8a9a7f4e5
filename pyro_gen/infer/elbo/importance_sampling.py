"""Log likelihoods of rows by importance sampling: lower bounds, with diagnostics
of their tightness.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen._weights import ENOUGH_FOR_K, too_heavy, too_small, warn_of_weights
from pyro_gen.distributions.estimate import ERRORS, Estimate
from pyro_gen.infer.elbo.pareto import k_of_largest, tail_length
from pyro_gen.infer.standard_errors import error_of_partition, error_over_rows

SIZE_FOR_ERROR = 50.0
"""Smallest effective sample size of a row for which an error bar of the draws is given."""
K_FOR_ERROR = 0.5
"""Shape of the tail beyond which the weights have no variance, so that no error bar is given."""
DRAWS_FOR_ERROR = 1000
"""Smallest number of draws for which the shape of the tail is known well enough
for an error bar.
"""


class ImportanceLogLikelihood(NamedTuple):
    r"""Lower bounds of log likelihoods of rows, in nats, from K weighted draws each,
    with diagnostics.

    .. math:: \log \hat p(x_n) = \log \frac1K \sum_k w_{nk}, \qquad
              \hat\sigma_n^2 = \sum_k \tilde w_{nk}^2 - \frac1K,
              \qquad \mathrm{ESS}_n = 1 \big/ \sum_k \tilde w_{nk}^2

    with normalised weights. Each value lies below the log likelihood on
    average, by :math:`\sigma_n^2 / 2` where the weights are even, and by an
    unknown amount for a row whose effective sample size is near 1. Such rows,
    and those whose largest weights have a tail with :math:`\hat k > 0.7`, are
    ``unreliable``. An error bar of the draws is stated only from 1000 draws on,
    where every row has an effective sample size of at least 50 and :math:`\hat
    k \le 0.5`, since otherwise the weights have no variance.

    Args:
        rows: the estimate of each row.
        errors: its standard error from the draws (delta method), which holds
            for reliable rows only.
        effective_sample_size: of each row, between 1 and K.
        num_samples: draws K a row; of annealed importance sampling, chains.
        partition: log Z behind an energy prior, or None where the model is
            normalised.
        pareto_k: shape of the tail of each row's weights; None for fewer than
            100 draws.
        acceptance: share of the Hamiltonian proposals of each row that were
            accepted; None without such.

    References:
        Burda, Grosse and Salakhutdinov (2016), Importance weighted
        autoencoders, theorem 1 (the bound). Vehtari et al. (2024), Pareto
        smoothed importance sampling.
    """

    rows: Tensor
    errors: Tensor
    effective_sample_size: Tensor
    num_samples: int
    partition: Estimate | None = None
    pareto_k: Tensor | None = None
    acceptance: Tensor | None = None

    @property
    def value(self) -> float:
        """Mean over the rows, a lower bound of the mean log likelihood on average
        over the draws.
        """
        return self.rows.mean().item()

    @property
    def standard_error(self) -> float:
        """Standard error of ``value``, over the rows and of log Z together.

        The noise of the draws is part of the spread over the rows; how far the bound lies
        below the log likelihood is not.
        """
        return math.hypot(self.row_error, self.partition_error)

    @property
    def lower(self) -> float:
        """``value`` less two standard errors."""
        return self.value - ERRORS * self.standard_error

    @property
    def upper(self) -> float:
        """Infinite: a lower bound says nothing from above."""
        return math.inf

    @property
    def row_error(self) -> float:
        """Standard error of the mean over the rows; NaN for one row."""
        return error_over_rows(self.rows)

    @property
    def small(self) -> Tensor:
        """Rows whose effective sample size is below 10, or below half of fewer draws than 20."""
        return too_small(self.effective_sample_size, self.num_samples)

    @property
    def heavy(self) -> Tensor:
        """Rows whose weights have too heavy a tail."""
        return too_heavy(self.pareto_k, self.effective_sample_size, self.num_samples)

    @property
    def unreliable(self) -> Tensor:
        """Rows whose value may lie far below the log likelihood."""
        return self.small | self.heavy

    @property
    def shortfall(self) -> float:
        """Expected distance of ``value`` below the log likelihood, to first order; NaN
        where it is unknown.
        """
        k = self.pareto_k
        if k is None or self.num_samples < DRAWS_FOR_ERROR:
            return math.nan
        tells = (self.effective_sample_size >= SIZE_FOR_ERROR) & (k <= K_FOR_ERROR)
        if tells.all():
            return self.errors.square().mean().item() / 2
        return math.nan

    @property
    def sampling_error(self) -> float:
        """Root mean square error from the draws, variance and bias together.

        NaN where it is unknown.
        """
        chance = self.errors.square().sum().sqrt().item() / len(self.rows)
        return math.hypot(chance, self.shortfall)

    def warn(self) -> None:
        """Warn where rows have few effective draws, or more than 5 % of them too heavy a tail."""
        consequence = (
            "the value is a lower bound that may lie nats below the log likelihood. Take more "
            "draws, or annealed "
            "importance sampling with more temperatures"
        )
        warn_of_weights(self.effective_sample_size, self.num_samples, self.pareto_k, consequence)

    def __str__(self) -> str:
        """The bound with all its errors."""
        size = self.effective_sample_size.median().item()
        if self.partition is None:
            log_z = ""
        else:
            log_z = f"log Z +/- {self.partition_error:.2f}, "
        bad = int(self.unreliable.sum())
        if self.sampling_error >= 0:
            draws = f"draws +/- {self.sampling_error:.2g}"
        else:
            draws = "no error bar of the draws"
        draws += f", unreliable rows {bad}" if bad else ""
        if self.acceptance is None:
            accepted = ""
        else:
            accepted = f"acceptance {self.acceptance.mean().item():.2f}, "
        return (
            f"{self.value:.2f} nats, a lower bound ({log_z}rows +/- {self.row_error:.2f}, "
            f"{draws}, {accepted}"
            f"K={self.num_samples}, median ESS {size:.{0 if size >= 10 else 1}f}, "
            f"N={len(self.rows)})"
        )

    @property
    def partition_error(self) -> float:
        """Standard error of log Z, which all rows share; 0 without log Z."""
        return error_of_partition(self.partition)


class WeightSums(NamedTuple):
    """Log sums of the weights and of their squares, and the largest log weights, a row
    each, in double precision.
    """

    log_sum: Tensor
    log_squares: Tensor
    largest: Tensor


def summed(blocks: Iterable[Tensor], num_samples: int) -> WeightSums:
    """Sums over log weights that come in parts; only the largest weights are kept.

    Args:
        blocks: log weights, (rows, samples of the part) each.
        num_samples: of all parts together.

    Returns:
        Tensors of shape (rows,) twice and (rows, weights of the tail).
    """
    sums: list[Tensor] = []
    squares: list[Tensor] = []
    tail = tail_length(num_samples) + 1 if num_samples >= ENOUGH_FOR_K else 0
    largest = torch.empty(0)
    for part in blocks:
        log_weight = part.double()
        sums.append(log_weight.logsumexp(-1))
        squares.append((2 * log_weight).logsumexp(-1))
        if tail:
            if largest.numel():
                candidates = torch.cat([largest, log_weight], -1)
            else:
                candidates = log_weight
            largest = candidates.topk(min(tail, candidates.shape[-1]), -1, sorted=False).values
    return WeightSums(torch.stack(sums).logsumexp(0), torch.stack(squares).logsumexp(0), largest)


def estimate(
    sums: Iterable[WeightSums],
    num_samples: int,
    partition: Estimate | None = None,
    acceptance: Tensor | None = None,
) -> ImportanceLogLikelihood:
    """Log likelihoods from sums of weights, with a warning if they are unreliable.

    Args:
        sums: of some rows each.
        num_samples: number of weights of each row.
        partition: log Z behind them, for the result.
        acceptance: share of accepted proposals, for the result.

    Returns:
        The estimate of all rows.
    """
    log_sum, log_squares, largest = (torch.cat(column) for column in zip(*sums, strict=True))
    size = (2 * log_sum - log_squares).exp()
    errors = (1 / size - 1 / num_samples).clamp(min=0).sqrt()
    k = k_of_largest(largest) if num_samples >= ENOUGH_FOR_K else None
    rows = log_sum - math.log(num_samples)
    result = ImportanceLogLikelihood(rows, errors, size, num_samples, partition, k, acceptance)
    result.warn()
    return result


__all__ = ["ImportanceLogLikelihood", "WeightSums", "estimate", "summed"]
