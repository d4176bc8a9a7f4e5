"""The log likelihood of rows by importance sampling, with what it owes to chance."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen.distributions.partition import LogPartition
from pyro_gen.infer.standard_errors import error_of_partition, error_over_rows


class ImportanceLogLikelihood(NamedTuple):
    r"""Log likelihoods of rows from K weighted draws each, in nats, and where their uncertainty comes from.

    .. math:: \log \hat p(x_n) = \log \frac1K \sum_k w_{nk}, \qquad
              \hat\sigma_n^2 = \sum_k \tilde w_{nk}^2 - \frac1K, \qquad \mathrm{ESS}_n = 1 \big/ \sum_k \tilde w_{nk}^2

    with normalised weights. The estimate lies below the truth on average, by about half its variance, for a row whose
    effective sample size is near 1 by much more.

    Args:
        rows: the estimate of each row.
        errors: its standard error from the draws (delta method).
        effective_sample_size: of each row, between 1 and K.
        num_samples: draws K a row.
        partition: log Z behind an energy prior, or None where the model is normalised by itself.
    """

    rows: Tensor
    errors: Tensor
    effective_sample_size: Tensor
    num_samples: int
    partition: LogPartition | None = None

    @property
    def value(self) -> float:
        """Mean over the rows."""
        return self.rows.mean().item()

    @property
    def row_error(self) -> float:
        """Standard error of the mean over the rows; NaN for one row."""
        return error_over_rows(self.rows)

    @property
    def sampling_error(self) -> float:
        """Standard error of the mean over the draws alone."""
        return self.errors.square().sum().sqrt().item() / len(self.rows)

    @property
    def partition_error(self) -> float:
        """Standard error of log Z, which all rows share; 0 without log Z."""
        return error_of_partition(self.partition)

    def __str__(self) -> str:
        """The value with all its errors."""
        size = self.effective_sample_size.median().item()
        log_z = "" if self.partition is None else f"log Z +/- {self.partition_error:.2f}, "
        return (
            f"{self.value:.2f} nats ({log_z}rows +/- {self.row_error:.2f}, draws +/- {self.sampling_error:.3f}, "
            f"K={self.num_samples}, median ESS {size:.0f}, N={len(self.rows)})"
        )


def summed(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Log sums of the weights and of their squares, from log weights that come in parts.

    Args:
        parts: log weights, (rows, samples of the part) each.

    Returns:
        Two tensors of shape (rows,), in double precision.
    """
    sums: list[Tensor] = []
    squares: list[Tensor] = []
    for part in parts:
        log_weight = part.double()
        sums.append(log_weight.logsumexp(-1))
        squares.append((2 * log_weight).logsumexp(-1))
    return torch.stack(sums).logsumexp(0), torch.stack(squares).logsumexp(0)


def estimate(
    log_sum: Tensor, log_squares: Tensor, num_samples: int, partition: LogPartition | None = None
) -> ImportanceLogLikelihood:
    """What the log sums of weights say.

    Args:
        log_sum: of the weights of each row.
        log_squares: of their squares.
        num_samples: how many there were for each row.
        partition: log Z behind them, for the record.
    """
    size = (2 * log_sum - log_squares).exp()
    errors = (1 / size - 1 / num_samples).clamp(min=0).sqrt()
    return ImportanceLogLikelihood(log_sum - math.log(num_samples), errors, size, num_samples, partition)


__all__ = ["ImportanceLogLikelihood", "estimate", "summed"]
