"""Interface of the methods for log Z, and exact enumeration."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_gen._arguments import whole_fields
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.log_z.energy import Energy

EXACT_UNITS = 20
"""Units of the smaller side up to which ``partition=None`` means :class:`Exact`."""


class Partition(ABC):
    """Method that computes, estimates or replaces the log normaliser of an energy distribution."""

    checks_parameters: ClassVar[bool] = False
    """Whether parameters that are not finite raise when a log probability is asked for."""

    def bind(self, distribution: Energy) -> Partition | None:
        """The form of this setting that ``distribution`` keeps; raises where the
        setting cannot serve it.
        """
        return self

    def scored(self, distribution: Energy, value: Tensor) -> tuple[Energy, Partition]:
        """The model whose free energy ``log_prob`` uses, and the method for its log Z.

        They are the distribution and this object, unless chains have to move
        first.
        """
        return distribution, self

    def log_prob(self, distribution: Energy, value: Tensor) -> Tensor:
        """Log probability of checked states, of the distribution that :meth:`scored` gives."""
        return -distribution._free_energy(value) - self.log_normalizer(distribution, value)

    @abstractmethod
    def log_normalizer(self, distribution: Energy, value: Tensor) -> Tensor:
        """Log normaliser that ``log_prob(value)`` subtracts from the unnormalised
        log probability.
        """

    @abstractmethod
    def log_partition(self, distribution: Energy) -> Estimate:
        """The estimate of log Z; raises if there is none."""

    @property
    def contrast(self) -> str | None:
        """Description of a surrogate for log Z and the alternative to use.

        None if log Z is known.
        """
        return None


@dataclass(frozen=True)
class Exact(Partition):
    r"""Enumerate the smaller side, in blocks of bounded memory and with the exact gradient.

    .. math:: \log Z = \log \sum_{h} e^{\,b \cdot h} \prod_i \bigl(1 + e^{a_i + (W h)_i}\bigr)

    Args:
        max_units: largest smaller side that may be enumerated, in binary units:
            2^max_units states of any unit type; time doubles with every unit.
            Gaussian units on both sides need no enumeration.

    Example:
        >>> from pyro_gen.distributions import RBM
        >>> # 5 log 2
        >>> RBM(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2), Exact()).log_partition().value
        tensor(3.4657)
    """

    max_units: int = 25

    def __post_init__(self) -> None:
        """Check the number."""
        whole_fields(self, max_units=0)

    def bind(self, distribution: Energy) -> Partition:
        """Itself, where the smaller side can be enumerated.

        Raises:
            ValueError: the smaller side has more than ``max_units`` units.
        """
        units = distribution.enumerated_units
        if units == math.inf:
            raise ValueError(
                "`partition` Exact expects finitely many states on one side, got infinitely many "
                "on both: use AIS(...)"
            )
        if units > self.max_units:
            raise ValueError(
                f"`partition` Exact(max_units={self.max_units}) expects at most that many units "
                "on the smaller side, "
                f"got {units}: use AIS(...), or raise `max_units` and wait 2**{units} states"
            )
        return self

    def log_normalizer(self, distribution: Energy, value: Tensor) -> Tensor:
        """Exact log Z; it does not depend on the value."""
        return self._log_z(distribution)

    def _log_z(self, distribution: Energy) -> Tensor:
        """Exact log Z with its gradient; cached if no gradient is needed."""
        if wants_gradient(distribution):
            return distribution.log_sum()
        return distribution.remember(Exact, distribution.log_sum)

    def log_partition(self, distribution: Energy) -> Estimate:
        """Exact log Z: no standard error, infinite effective sample size."""
        return Estimate.exact(self._log_z(distribution))


def wants_gradient(distribution: Energy) -> bool:
    """True if a gradient with respect to a parameter may be needed."""
    return torch.is_grad_enabled() and any(p.requires_grad for p in distribution.parameters)


__all__ = ["EXACT_UNITS", "Exact", "Partition"]
