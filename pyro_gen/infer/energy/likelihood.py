"""Log likelihood of a data set with both of its errors, and the free-energy gap of two sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from pyro_gen._rows import as_tensor
from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.infer.energy.bracket import Bracket
from pyro_gen.infer.standard_errors import error_of_partition, error_over_rows


class LogLikelihood(NamedTuple):
    """Mean log likelihood of some rows in nats, with its sources of uncertainty.

    ``rows`` holds the log likelihood of each row, for paired comparisons; ``partition``
    is the estimate of log Z behind it. With a ``bracket`` the statement is two-sided:
    ``lower`` to ``upper``. Without one, an inexact estimate of log Z tends to make the
    value too high, which ``print`` says.
    """

    rows: Tensor
    partition: Estimate
    bracket: Bracket | None = None

    @property
    def value(self) -> float:
        """Mean over the rows, in nats."""
        return self.rows.mean().item()

    @property
    def standard_error(self) -> float:
        """Standard error of the value, over the rows and of log Z together, in nats."""
        return math.hypot(self.row_error, self.partition_error)

    @property
    def effective_sample_size(self) -> Tensor:
        """Effective number of chains behind log Z; infinite where that is exact."""
        return self.partition.effective_sample_size

    @property
    def row_error(self) -> float:
        """Standard error of the mean over the rows, in nats; NaN for one row."""
        return error_over_rows(self.rows)

    @property
    def partition_error(self) -> float:
        """Standard error of log Z, in nats, which all rows share."""
        return error_of_partition(self.partition)

    def against(self, log_partition: Tensor) -> float:
        """The mean log likelihood at a log Z: the lower end, given an upper end of log Z.

        Args:
            log_partition: another value of log Z, a scalar.

        Returns:
            Nats.
        """
        return self.value + (self.partition.value - log_partition).item()

    @property
    def lower(self) -> float:
        """Mean log likelihood at the upper end of log Z, in nats; NaN if it is unknown."""
        return self._at(lambda bracket: bracket.upper)

    @property
    def upper(self) -> float:
        """Mean log likelihood at the lower end of log Z, in nats; NaN if it is unknown."""
        return self._at(lambda bracket: bracket.lower)

    @property
    def resolved(self) -> bool:
        """True if log Z is exact, or known within one nat by a bracket."""
        if self.bracket is not None:
            return self.bracket.resolved
        return self.partition.method == "exact"

    @property
    def summary(self) -> str:
        """The value with both standard errors, without the two-sided statement."""
        partition_error = f"log Z +/- {self.partition_error:.2f}"
        errors = f"{partition_error}, test rows +/- {self.row_error:.2f}"
        return f"{self.value:.2f} nats ({errors}, N={len(self.rows)})"

    def __str__(self) -> str:
        """The summary with the two-sided statement."""
        summary = self.summary
        if self.bracket is not None:
            interval = f"{self.lower:.2f} to {self.upper:.2f} nats"
            return f"{summary}; two-sided {interval} ({self.bracket.verdict})"
        if self.partition.method == "exact":
            return summary
        return f"{summary}; one-sided, too high where AIS missed modes"

    def _at(self, end: Callable[[Bracket], Tensor]) -> float:
        if self.bracket is not None:
            return self.against(end(self.bracket))
        if self.partition.method == "exact":
            return self.value
        return float("nan")


@torch.no_grad()
def log_likelihood(
    distribution: EnergyDistribution, x: Tensor, bracket: Bracket | None = None
) -> LogLikelihood:
    """Log likelihood of rows under an energy model whose ``partition`` knows log Z.

    Args:
        distribution: the model, unbatched.
        x: rows of states, (rows, visible).
        bracket: result of :func:`log_partition_bracket` for the same model, for a two-sided
            statement.

    Returns:
        The rows' log likelihoods, with the standard errors of their mean and of log Z.

    Raises:
        ValueError: the distribution is batched, ``x`` is empty or outside the support,
            or log Z is not known.

    Example:
        >>> from pyro_gen.distributions import RBM
        >>> rbm = RBM(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))
        >>> print(log_likelihood(rbm, torch.eye(3)))
        -2.08 nats (log Z +/- 0.00, test rows +/- 0.00, N=3)
        >>> from pyro_gen.infer import AIS, log_partition_bracket
        >>> ais = AIS(20, 10, base_rates=torch.full((30,), 0.5))
        >>> rbm = RBM(torch.zeros(30, 25), torch.zeros(30), torch.zeros(25), ais)
        >>> print(log_likelihood(rbm, torch.eye(30), log_partition_bracket(rbm, burn_in=5)))
        -20.79 nats (log Z +/- 0.00, test rows +/- 0.00, N=30);
        two-sided -20.79 to -20.79 nats (gap 0.00)
    """
    if distribution.batch_shape:
        raise ValueError(
            f"`distribution` must have no batch shape, got {tuple(distribution.batch_shape)}"
        )
    x = as_tensor(x)
    _check_rows("x", x)
    distribution.check_value("x", x)
    partition = distribution.log_partition()
    return LogLikelihood(distribution.log_prob(x), partition, bracket)


@torch.no_grad()
def free_energy_gap(
    model: EnergyDistribution | nn.Module, train: Tensor, valid: Tensor
) -> Estimate:
    r"""Gap in mean free energy of training and held-out rows: shows overfitting without log Z.

    .. math:: \frac1m \sum_j F(v^{valid}_j) - \frac1n \sum_i F(v^{train}_i)
              = \frac1n \sum_i \log p(v^{train}_i) - \frac1m \sum_j \log p(v^{valid}_j)

    It is about 0 at the start and grows with overfitting. Use the same training rows
    each time, so that values along a training run can be compared.

    Args:
        model: the distribution, or a module that returns it (its negative phase is not
            advanced).
        train: training rows, (rows, visible); as many as there are held-out rows are
            enough.
        valid: held-out rows, (rows, visible).

    Returns:
        The gap in nats with its standard error over the rows; infinite for a single row.

    Raises:
        ValueError: there are no rows, or they are outside the support.

    References:
        Hinton (2012), A practical guide to training restricted Boltzmann machines,
        Section 6.

    Example:
        >>> from pyro_gen.distributions import RBM
        >>> rbm = RBM(torch.zeros(3, 2), torch.tensor([1.0, 0.0, 0.0]), torch.zeros(2))
        >>> print(free_energy_gap(rbm, torch.ones(4, 3), torch.zeros(5, 3)))
        1 +/- 0 (difference of free energies)
    """
    if isinstance(model, nn.Module):
        model = cast(EnergyDistribution, model())
    means = []
    variances = []
    for name, rows in (("train", train), ("valid", valid)):
        table = as_tensor(rows, name)
        _check_rows(name, table)
        model.check_value(name, table)
        energy = model._free_energy(table).double()
        means.append(energy.mean())
        variance = energy.var() if len(table) > 1 else energy.new_tensor(math.inf)
        variances.append(variance / len(table))
    gap = means[1] - means[0]
    error = torch.stack(variances).sum().sqrt()
    return Estimate(gap, error, torch.full_like(gap, math.nan), "difference of free energies")


def _check_rows(name: str, x: Tensor) -> None:
    if x.dim() != 2 or not len(x):
        raise ValueError(
            f"`{name}` must have shape (rows, visible) with at least one row, got {tuple(x.shape)}"
        )


__all__ = ["LogLikelihood", "free_energy_gap", "log_likelihood"]
