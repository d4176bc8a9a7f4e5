"""The log likelihood of a data set with both of its errors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen.distributions.energy import EnergyDistribution
from pyro_gen.distributions.partition import LogPartition


class LogLikelihood(NamedTuple):
    """Mean log likelihood of some rows in nats, and where its uncertainty comes from.

    ``rows`` holds the log likelihood of each row, for paired comparisons; ``partition`` is the estimate of log Z behind
    it.
    """

    rows: Tensor
    partition: LogPartition

    @property
    def value(self) -> float:
        """Mean over the rows, in nats."""
        return self.rows.mean().item()

    @property
    def row_error(self) -> float:
        """Standard error of the mean over the rows, in nats; NaN for one row."""
        return (self.rows.std() / len(self.rows) ** 0.5).item() if len(self.rows) > 1 else float("nan")

    @property
    def partition_error(self) -> float:
        """Standard error of log Z, in nats, which all rows share."""
        return self.partition.standard_error.item()

    def against(self, log_partition: Tensor) -> float:
        """The mean log likelihood if log Z were ``log_partition``: the lower end, given an upper end of log Z.

        Args:
            log_partition: another value of log Z, a scalar.

        Returns:
            Nats.
        """
        return self.value + (self.partition.value - log_partition).item()

    def __str__(self) -> str:
        """The figure with both standard errors."""
        errors = f"log Z +/- {self.partition_error:.2f}, test rows +/- {self.row_error:.2f}"
        return f"{self.value:.2f} nats ({errors}, N={len(self.rows)})"


@torch.no_grad()
def log_likelihood(distribution: EnergyDistribution, x: Tensor) -> LogLikelihood:
    """Log likelihood of rows under an energy model whose ``partition`` knows log Z.

    Args:
        distribution: the model, unbatched.
        x: rows of states, (rows, visible).

    Returns:
        The rows' log likelihoods, with the standard errors of their mean and of log Z.

    Raises:
        ValueError: the distribution is batched, ``x`` is empty or outside the support, or log Z is not known.

    Example:
        >>> from pyro_gen.distributions import RBM
        >>> rbm = RBM(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))
        >>> print(log_likelihood(rbm, torch.eye(3)))
        -2.08 nats (log Z +/- 0.00, test rows +/- 0.00, N=3)
    """
    if distribution.batch_shape:
        raise ValueError(f"`distribution` must have no batch shape, got {tuple(distribution.batch_shape)}")
    if x.dim() != 2 or not len(x):
        raise ValueError(f"`x` must have shape (rows, visible) with at least one row, got {tuple(x.shape)}")
    return LogLikelihood(distribution.log_prob(x), distribution.log_partition())


__all__ = ["LogLikelihood", "log_likelihood"]
