"""Units with real values: Gaussian, and Gaussian on the half-line (ReLU)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_gen.distributions.units.base import Finite, Units
from pyro_gen.distributions.units.special import (
    HALF_LOG_TAU,
    bisect,
    half_line_mean,
    half_line_quantile,
    log_half_line,
)

LARGEST = 80.0
"""Largest absolute log precision, whose exponential is still finite in float32."""


@dataclass(frozen=True, eq=False)
class PreciseUnits(Units):
    """Units with energy gamma x^2 / 2, gamma = exp(log_precision)."""

    log_precision: Tensor | float = 0.0

    parameter_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "log_precision": constraints.independent(constraints.interval(-LARGEST, LARGEST), 1)
    }

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The log precisions, once they are a tensor."""
        log_precision = self.log_precision
        if isinstance(log_precision, Tensor):
            return {"log_precision": log_precision}
        return {}

    def replace(self, **parameters: Tensor) -> Self:
        """Units of the same type with other log precisions."""
        return replace(self, **parameters)

    def bind(self, name: str, bias: Tensor) -> Self:
        """The units with a log precision for each."""
        log_precision = self.log_precision
        if not isinstance(log_precision, Tensor):
            return self.replace(log_precision=bias.new_full(bias.shape[-1:], float(log_precision)))
        if log_precision.shape[-1:] != bias.shape[-1:]:
            raise ValueError(
                f"`log_precision` must have shape (..., {bias.shape[-1]}) to match `{name}`, "
                f"got {tuple(log_precision.shape)}"
            )
        if (log_precision.device, log_precision.dtype) != (bias.device, bias.dtype):
            raise ValueError(
                f"`log_precision` must be {bias.dtype} on {bias.device} like `{name}`, "
                f"got {log_precision.dtype} on {log_precision.device}"
            )
        return self

    def lifted(self) -> Self:
        """The log precisions with a dimension before the units."""
        log_precision = self.log_precision
        if isinstance(log_precision, Tensor):
            return self.replace(log_precision=log_precision.unsqueeze(-2))
        return self

    def gamma(self, field: Tensor) -> Tensor:
        """The precisions, with the dtype of the field."""
        return torch.as_tensor(self.log_precision, dtype=field.dtype, device=field.device).exp()

    def precision(self, like: Tensor) -> Tensor:
        """The precisions."""
        return self.gamma(like)

    def _floored(self, variance: Tensor, margin: float) -> Tensor:
        """Variances, at least a share of the units' own, as a constant has no finite precision."""
        return variance.clamp(min=margin / self.gamma(variance))

    def energy(self, states: Tensor, field: Tensor) -> Tensor:
        """Half the precision times the square, minus the field's share."""
        return (states * (self.gamma(field) * states / 2 - field)).sum(-1)

    def between(self, other: Self, share: float) -> Self:
        """Units with the precisions' weighted mean."""
        one, two = (torch.as_tensor(x.log_precision).double().exp() for x in (self, other))
        return self.replace(log_precision=torch.lerp(one, two, share).log())


@dataclass(frozen=True, eq=False)
class GaussianUnits(PreciseUnits):
    r"""Real units with energy gamma x^2 / 2.

    Given the field f they are Gaussian with mean f / gamma and variance 1 /
    gamma.

    Args:
        log_precision: log gamma, shape (..., units), or one number for all
            units.

    Example:
        >>> GaussianUnits(log_precision=0.0).conditional(torch.tensor([3.0])).mean
        tensor([3.])
    """

    @property
    def support(self) -> constraints.Constraint:
        """Vectors of finite numbers."""
        return Finite()

    def cumulant(self, field: Tensor) -> Tensor:
        """Sum over the units of f^2 / (2 gamma) + log(2 pi / gamma) / 2."""
        gamma = self.gamma(field)
        return (field.square() / (2 * gamma) + HALF_LOG_TAU - gamma.log() / 2).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        """The field over the precision."""
        return field / self.gamma(field)

    def conditional(self, field: Tensor) -> TorchDistribution:
        """Independent Gaussian units."""
        gamma = self.gamma(field)
        return dist.Normal(field / gamma, gamma.rsqrt()).to_event(1)

    def draw(self, field: Tensor, uniform: Tensor) -> Tensor:
        """The Gaussian's quantiles."""
        gamma = self.gamma(field)
        return field / gamma + torch.special.ndtri(uniform) * gamma.rsqrt()

    def from_moments(
        self, mean: Tensor, variance: Tensor | None, margin: float
    ) -> tuple[Tensor, Self]:
        """Mean and variance, at least ``margin`` of that under the units' precisions."""
        if variance is None:
            return mean * self.gamma(mean), self
        log_precision = -self._floored(variance, margin).log()
        return mean * log_precision.exp(), self.replace(log_precision=log_precision)


@dataclass(frozen=True, eq=False)
class ReLUUnits(PreciseUnits):
    r"""Units x >= 0 with energy gamma x^2 / 2.

    They are Gaussian units cut at 0, with a mean that rises like a softened ReLU.

    Args:
        log_precision: log gamma, shape (..., units), or one number for all units.

    Example:
        >>> ReLUUnits().mean(torch.tensor([-100.0, 0.0, 100.0]))
        tensor([9.9980e-03, 7.9788e-01, 1.0000e+02])
    """

    half_line: ClassVar[bool] = True

    @property
    def support(self) -> constraints.Constraint:
        """Vectors of finite numbers that are not negative."""
        return Finite(low=0.0)

    def cumulant(self, field: Tensor) -> Tensor:
        """Sum over the units of log of the integral of exp(x f - gamma x^2 / 2) over x >= 0."""
        gamma = self.gamma(field)
        return (log_half_line(field * gamma.rsqrt()) - gamma.log() / 2).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        """Mean of the cut Gaussian."""
        scale = self.gamma(field).rsqrt()
        return half_line_mean(field * scale) * scale

    def draw(self, field: Tensor, uniform: Tensor) -> Tensor:
        """The cut Gaussian's quantiles."""
        scale = self.gamma(field).rsqrt()
        return half_line_quantile(field * scale, uniform) * scale

    @property
    def mean_range(self) -> tuple[float, float]:
        """Non-negative numbers."""
        return 0.0, math.inf

    def from_moments(
        self, mean: Tensor, variance: Tensor | None, margin: float
    ) -> tuple[Tensor, Self]:
        """Mean and second moment, as far as a cut Gaussian reaches them."""
        if variance is None:
            scale = self.gamma(mean).rsqrt()
            return bisect(half_line_mean, (mean / scale).clamp(min=1e-3), -1e3, 1e6) / scale, self
        variance = self._floored(variance, margin)
        mean = mean.clamp(min=1e-3 * variance.sqrt())
        spread = variance / mean.square()
        t = bisect(_concentration, -spread, -8.0, 1e3)
        scale = mean / half_line_mean(t)
        return t / scale, self.replace(log_precision=-2 * scale.log())


def _concentration(t: Tensor) -> Tensor:
    """Minus the squared coefficient of variation of the cut Gaussian: rises from -1 to 0."""
    mean: Tensor = half_line_mean(t)
    return 1 - (1 + t * mean) / mean.square()


__all__ = ["GaussianUnits", "PreciseUnits", "ReLUUnits"]
