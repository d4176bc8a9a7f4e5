"""Units with two values, 0 and 1 or -1 and +1, and the change of parameters between them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

from pyro_gen.distributions.units.base import Units


class BinaryUnits(Units):
    """Units with two values and without a unit energy."""

    binary: ClassVar[bool] = True

    @abstractmethod
    def bits(self, states: Tensor) -> Tensor:
        """The states as zeros and ones."""

    @abstractmethod
    def from_bits(self, bits: Tensor) -> Tensor:
        """States from zeros and ones."""

    @abstractmethod
    def logits(self, field: Tensor) -> Tensor:
        """Log odds of the larger value."""

    def energy(self, states: Tensor, field: Tensor) -> Tensor:
        """Minus the scalar product of states and field."""
        return -(states * field).sum(-1)

    def draw(self, field: Tensor, uniform: Tensor) -> Tensor:
        """The larger value where the uniform lies below its probability."""
        return self.from_bits((uniform < self.logits(field).sigmoid()).to(field.dtype))

    def count_states(self, units: int) -> int:
        """Two to the number of units."""
        return 1 << units

    def states(self, number: Tensor, units: int, like: Tensor) -> Tensor:
        """The binary digits of the numbers, lowest first."""
        digits = number.unsqueeze(-1) >> torch.arange(units, device=like.device)
        return self.from_bits((digits & 1).to(like.dtype))

    @property
    def alternatives(self) -> tuple[int, int]:
        """Every unit is a site with two states."""
        return 1, 2

    def roll(self, site: Tensor, shift: int) -> Tensor:
        """The other value."""
        return self.from_bits(1 - self.bits(site))

    def wrong(self, mean: Tensor, states: Tensor) -> Tensor:
        """Expected number of wrong units."""
        return (self.bits(mean) - self.bits(states)).abs().sum(-1)


@dataclass(frozen=True)
class BernoulliUnits(BinaryUnits):
    """Units with values 0 and 1.

    Example:
        >>> BernoulliUnits().cumulant(torch.zeros(2))  # log 4
        tensor(1.3863)
    """

    @property
    def support(self) -> constraints.Constraint:
        """Vectors of zeros and ones."""
        return constraints.independent(constraints.boolean, 1)

    def bits(self, states: Tensor) -> Tensor:
        """The states themselves."""
        return states

    def from_bits(self, bits: Tensor) -> Tensor:
        """The states themselves."""
        return bits

    def logits(self, field: Tensor) -> Tensor:
        """The field itself."""
        return field

    def cumulant(self, field: Tensor) -> Tensor:
        """Sum over the units of log(1 + exp(field))."""
        return softplus(field).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        """The logistic function of the field."""
        return field.sigmoid()

    def conditional(self, field: Tensor) -> TorchDistribution:
        """Independent Bernoulli units with logits ``field``."""
        return dist.Bernoulli(logits=field).to_event(1)

    @property
    def mean_range(self) -> tuple[float, float]:
        """Zero to one."""
        return 0.0, 1.0

    def from_moments(
        self, mean: Tensor, variance: Tensor | None, margin: float
    ) -> tuple[Tensor, Self]:
        """The log odds of the mean, kept from 0 and 1 by ``margin``."""
        return mean.clamp(margin, 1 - margin).logit(), self


class _Spins(constraints.Constraint):
    """Vectors of -1 and +1."""

    is_discrete = True
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value.abs() == 1).all(-1)


@dataclass(frozen=True)
class SpinUnits(BinaryUnits):
    """Units with values -1 and +1: a field has twice the effect of one on zeros and ones.

    Example:
        >>> SpinUnits().mean(torch.tensor([0.5]))  # tanh, not the logistic function
        tensor([0.4621])
    """

    @property
    def support(self) -> constraints.Constraint:
        """Vectors of -1 and +1."""
        return _Spins()

    def bits(self, states: Tensor) -> Tensor:
        """(x + 1) / 2."""
        return (states + 1) / 2

    def from_bits(self, bits: Tensor) -> Tensor:
        """2 x - 1."""
        return 2 * bits - 1

    def logits(self, field: Tensor) -> Tensor:
        """Twice the field: the two energies differ by 2 f."""
        return 2 * field

    def cumulant(self, field: Tensor) -> Tensor:
        """Sum over the units of log(2 cosh(field))."""
        return (softplus(2 * field) - field).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        """The hyperbolic tangent of the field."""
        return field.tanh()

    @property
    def mean_range(self) -> tuple[float, float]:
        """Minus one to one."""
        return -1.0, 1.0

    def from_moments(
        self, mean: Tensor, variance: Tensor | None, margin: float
    ) -> tuple[Tensor, Self]:
        """Half the log odds of +1, kept from 0 and 1 by ``margin``."""
        return self.bits(mean).clamp(margin, 1 - margin).logit() / 2, self


def bernoulli_parameters(
    weight: Tensor, vbias: Tensor, hbias: Tensor, visible: Units, hidden: Units
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Parameters of the Bernoulli RBM over (x + 1) / 2, and the constant that its energy omits.

    .. math:: x = 2 y - 1: \quad a \cdot x + b \cdot h + x W h
              = 2 a \cdot y + (b - \textstyle\sum_i W_i) \cdot h + y (2 W) h - \sum_i a_i

    Args:
        weight: (..., visible, hidden).
        vbias: (..., visible).
        hbias: (..., hidden).
        visible: Bernoulli or spin units.
        hidden: Bernoulli or spin units.

    Returns:
        Weight, visible bias and hidden bias of the Bernoulli RBM, and the
        constant c of -E(x, h) = -E_Bernoulli(y, h) + c, with the batch shape of
        the parameters.
    """
    constant = torch.zeros((), dtype=weight.dtype, device=weight.device)
    if isinstance(visible, SpinUnits):
        constant = constant - vbias.sum(-1)
        hbias = hbias - weight.sum(-2)
        vbias = 2 * vbias
        weight = 2 * weight
    if isinstance(hidden, SpinUnits):
        constant = constant - hbias.sum(-1)
        vbias = vbias - weight.sum(-1)
        hbias = 2 * hbias
        weight = 2 * weight
    return weight, vbias, hbias, constant


__all__ = ["BernoulliUnits", "BinaryUnits", "SpinUnits", "bernoulli_parameters"]
