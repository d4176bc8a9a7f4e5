"""Unit types: what an energy model has to know of the values of one layer.

A layer with natural parameter (*field*) f and states x has the factor exp(x . f) in the joint. A unit type knows three
things about it: the energy of a bias, the cumulant log sum_x exp(x . f), and the law of x given f.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus


class Units(Protocol):
    """What an energy model asks of the units of one side."""

    @property
    def support(self) -> constraints.Constraint:
        """Values that one unit can take."""

    def energy(self, states: Tensor, bias: Tensor) -> Tensor:
        """Energy of ``states`` (..., units) under ``bias``, summed over the units."""

    def cumulant(self, field: Tensor) -> Tensor:
        """Log of the sum over all states of exp(states . field), for fields (..., units)."""

    def conditional(self, field: Tensor) -> TorchDistribution:
        """The law of a layer given its field (..., units), with the units as event."""

    def states(self, number: Tensor, units: int, like: Tensor) -> Tensor:
        """The states of a layer with the given numbers, shape (..., units) and the dtype of ``like``."""


@dataclass(frozen=True)
class BernoulliUnits:
    """Units with values 0 and 1."""

    @property
    def support(self) -> constraints.Constraint:
        """Zero and one."""
        return constraints.boolean

    def energy(self, states: Tensor, bias: Tensor) -> Tensor:
        """Minus the scalar product of states and bias."""
        return -(states * bias).sum(-1)

    def cumulant(self, field: Tensor) -> Tensor:
        """Sum over the units of log(1 + exp(field))."""
        return softplus(field).sum(-1)

    def conditional(self, field: Tensor) -> TorchDistribution:
        """Independent Bernoulli units with logits ``field``."""
        return dist.Bernoulli(logits=field).to_event(1)

    def states(self, number: Tensor, units: int, like: Tensor) -> Tensor:
        """The binary digits of the numbers, lowest first."""
        return ((number.unsqueeze(-1) >> torch.arange(units, device=like.device)) & 1).to(like.dtype)


class _Spin(constraints.Constraint):
    """Minus one and one."""

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        """Whether each number is one of the two."""
        return value.abs() == 1


@dataclass(frozen=True)
class SpinUnits:
    """Units with values -1 and +1: the log odds of +1 are twice the field."""

    @property
    def support(self) -> constraints.Constraint:
        """Minus one and one."""
        return _Spin()

    def energy(self, states: Tensor, bias: Tensor) -> Tensor:
        """Minus the scalar product of states and bias."""
        return -(states * bias).sum(-1)

    def cumulant(self, field: Tensor) -> Tensor:
        """Sum over the units of log(2 cosh(field))."""
        return torch.logaddexp(field, -field).sum(-1)

    def conditional(self, field: Tensor) -> TorchDistribution:
        """The law of a layer given its field."""
        raise NotImplementedError("spins have no distribution of their own yet")

    def states(self, number: Tensor, units: int, like: Tensor) -> Tensor:
        """The binary digits of the numbers, lowest first, with -1 for 0."""
        return 2 * BernoulliUnits().states(number, units, like) - 1
