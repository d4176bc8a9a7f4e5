"""Conditional distributions of real numbers.

Gaussian (also of known scale) and mixtures of Gaussians (RNADE).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_gen._arguments import whole_fields
from pyro_gen._columns import LEAVE_OUT, check_varied, constant, moments
from pyro_gen._rows import as_floating
from pyro_gen.distributions.autoregressive.conditionals.base import Conditional
from pyro_gen.distributions.autoregressive.conditionals.discrete import inverted, spread
from pyro_gen.distributions.units.base import Finite


class RealConditional(Conditional):
    """Family of distributions of a real number that is closed under changes of
    location and scale.

    Networks see such numbers standardised and give the parameters of the
    standardised number, which :meth:`affine` turns into those of the number
    itself.
    """

    def support(self, features: int) -> constraints.Constraint:
        """Finite numbers."""
        return Finite()

    def location_scale(
        self, value: Tensor, event_shape: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor]:
        """Location and scale by which networks see each feature.

        Mean and standard deviation of data.

        Args:
            value: rows of data, (n, features).
            event_shape: of the rows before they were flattened, for messages.

        Returns:
            Two tensors (features,), float64.

        Raises:
            ValueError: a feature is constant, so that the likelihood has no
                maximum in its scale.
        """
        mean, variance = moments(value)
        remedy = f"{LEAVE_OUT}, or fix the scale by FixedScaleGaussianConditional"
        check_varied(mean, variance, value.dtype, event_shape, remedy)
        return mean, variance.sqrt()

    def width_at(self, scale: Tensor) -> Tensor:
        """Width of a feature's distribution given others in units of ``scale``.

        At most 1, as far as it is known.

        Args:
            scale: (features,).
        """
        return torch.ones_like(scale)

    @abstractmethod
    def affine(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and factor that turn the parameters of x into those of loc + scale * x.

        Args:
            loc: of each feature, (..., features).
            scale: of each feature, positive, likewise.

        Returns:
            Two tensors (..., features, num_parameters): parameters p become
            shift + factor * p.
        """


class NormalConditional(RealConditional):
    """Real numbers under a normal distribution, whatever its parameters.

    Draws are differentiable in them.
    """

    reparametrised: ClassVar[bool] = True

    def log_prob(self, parameters: Tensor, value: Tensor) -> Tensor:
        """Normal log density."""
        return self.distribution(parameters).log_prob(as_floating(value, parameters))

    def noise(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, dtype=like.dtype, device=like.device).unsqueeze(-1)


@dataclass(frozen=True)
class GaussianConditional(NormalConditional):
    """Real numbers; the parameters are mean and log standard deviation.

    Example:
        >>> distribution = GaussianConditional()
        >>> distribution.log_prob(torch.zeros(1, 2), torch.zeros(1))  # - log(2 pi) / 2
        tensor([-0.9189])
    """

    @property
    def num_parameters(self) -> int:
        """Two."""
        return 2

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Mean plus standard deviation times noise."""
        mean, log_scale = parameters.unbind(-1)
        return mean + log_scale.exp() * noise.squeeze(-1)

    def distribution(self, parameters: Tensor) -> TorchDistribution:
        """Normal."""
        mean, log_scale = parameters.unbind(-1)
        return dist.Normal(mean, log_scale.exp(), validate_args=False)

    def affine(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Means are moved and scaled, log standard deviations are moved."""
        return torch.stack([loc, scale.log()], -1), torch.stack(
            [scale, torch.ones_like(scale)], -1
        )

    def start(self, value: Tensor) -> Tensor:
        """Mean and log standard deviation."""
        scale = value.std(0, correction=0).clamp(min=1e-3)
        return torch.stack([value.mean(0), scale.log()], -1)


@dataclass(frozen=True)
class FixedScaleGaussianConditional(NormalConditional):
    """Real numbers with a known standard deviation; the parameter is the mean.

    Args:
        scale: standard deviation of every feature.

    Raises:
        ValueError: it is not positive.

    Example:
        >>> conditional, mean = FixedScaleGaussianConditional(), torch.zeros(1, 1)
        >>> conditional.log_prob(mean, torch.ones(1)) - conditional.log_prob(mean, torch.zeros(1))
        tensor([-0.5000])
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"`scale` must be positive, got {self.scale}")

    @property
    def num_parameters(self) -> int:
        """One."""
        return 1

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Mean plus standard deviation times noise."""
        return (parameters + self.scale * noise).squeeze(-1)

    def distribution(self, parameters: Tensor) -> TorchDistribution:
        """Normal."""
        return dist.Normal(parameters.squeeze(-1), self.scale, validate_args=False)

    def location_scale(
        self, value: Tensor, event_shape: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor]:
        """Means of the features, and one scale for all: the root of their mean variance.

        Where nothing varies it is the known standard deviation.
        """
        mean, variance = moments(value)
        varied = ~constant(mean, variance, value.dtype)
        pooled = torch.where(varied, variance, 0).mean().sqrt()
        scale = torch.where(varied.any(), pooled, self.scale)
        return mean, scale.expand_as(mean)

    def width_at(self, scale: Tensor) -> Tensor:
        """The known standard deviation in units of ``scale``, at most 1."""
        return (self.scale / scale).clamp(max=1)

    def affine(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The mean is moved and scaled; the standard deviation stays as it is known."""
        return loc.unsqueeze(-1), scale.unsqueeze(-1)

    def start(self, value: Tensor) -> Tensor:
        """The mean."""
        return value.mean(0).unsqueeze(-1)


@dataclass(frozen=True)
class GaussianMixtureConditional(RealConditional):
    """Real numbers under a mixture of Gaussians.

    Parameters are its logits, means and log standard deviations.

    Args:
        components: Gaussians in the mixture.

    Raises:
        ValueError: ``components`` is below 1.

    References:
        Uria, Murray and Larochelle (2013), RNADE: the real-valued neural
        autoregressive density-estimator, equation 6.
    """

    components: int = 10

    def __post_init__(self) -> None:
        whole_fields(self, components=1)

    @property
    def num_parameters(self) -> int:
        """Three for each component."""
        return 3 * self.components

    def affine(self, loc: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Logits stay, means are moved and scaled, log standard deviations are moved."""
        still = torch.zeros_like(loc)
        one = torch.ones_like(scale)
        shift = torch.stack([still, loc, scale.log()], -1)
        factor = torch.stack([one, scale, one], -1)
        return shift.repeat_interleave(self.components, -1), factor.repeat_interleave(
            self.components, -1
        )

    def log_prob(self, parameters: Tensor, value: Tensor) -> Tensor:
        """Log density of the mixture."""
        logits, mean, log_scale = parameters.chunk(3, -1)
        value = as_floating(value, parameters).unsqueeze(-1)
        components = dist.Normal(mean, log_scale.exp(), validate_args=False).log_prob(value)
        return (logits.log_softmax(-1) + components).logsumexp(-1)

    def noise(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """A uniform for the component, and a normal number for its value."""
        uniform = torch.rand(shape, dtype=like.dtype, device=like.device)
        return torch.stack([uniform, torch.randn_like(uniform)], -1)

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """A draw of the chosen Gaussian."""
        logits, mean, log_scale = parameters.chunk(3, -1)
        index = inverted(logits, noise[..., 0]).unsqueeze(-1)
        mean, log_scale = (x.gather(-1, index).squeeze(-1) for x in (mean, log_scale))
        return mean + log_scale.exp() * noise[..., 1]

    def distribution(self, parameters: Tensor) -> TorchDistribution:
        """A mixture of normal distributions."""
        logits, mean, log_scale = parameters.chunk(3, -1)
        components = dist.Normal(mean, log_scale.exp(), validate_args=False)
        return dist.MixtureSameFamily(
            dist.Categorical(logits=logits), components, validate_args=False
        )

    def start(self, value: Tensor) -> Tensor:
        """Equal components at quantiles of each feature."""
        logits, mean, scale = spread(value, self.components)
        return torch.cat([logits, mean, scale.log()], -1)


__all__ = [
    "FixedScaleGaussianConditional",
    "GaussianConditional",
    "GaussianMixtureConditional",
    "RealConditional",
]
