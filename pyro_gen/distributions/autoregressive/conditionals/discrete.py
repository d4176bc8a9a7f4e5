"""Conditional distributions with finitely many values.

Bernoulli, categorical, and discretised logistic mixtures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid, one_hot, softplus

from pyro_gen._arguments import is_single, whole_fields, whole_numbers
from pyro_gen.distributions.autoregressive.conditionals.base import Conditional, OfEach, smoothed

NUMBERS_AT_A_TIME = 2**18
"""Of logits that are summed without a gradient: what is made of them stays in the cache."""
FACTORS = 100
"""Of at least one half, whose product is a normal number in single precision."""


@dataclass(frozen=True)
class BernoulliConditional(Conditional):
    """Zeros and ones; the parameter is the logit.

    Example:
        >>> BernoulliConditional().log_prob(torch.zeros(3, 1), torch.tensor([0.0, 1.0, 1.0])).exp()
        tensor([0.5000, 0.5000, 0.5000])
    """

    @property
    def num_parameters(self) -> int:
        """One."""
        return 1

    def support(self, features: int) -> constraints.Constraint:
        """Zeros and ones."""
        return OfEach(constraints.boolean)

    def log_prob(self, parameters: Tensor, value: Tensor) -> Tensor:
        """The log of the sigmoid of the logit, or of minus the logit where the value is zero."""
        return logsigmoid(
            torch.where(value.bool(), parameters.squeeze(-1), -parameters.squeeze(-1))
        )

    def total_log_prob(self, parameters: Tensor, value: Tensor) -> Tensor:
        """The sum of x a - log(1 + exp a) over the features.

        One product and one sweep; logits must be finite.
        """
        logits = parameters.squeeze(-1)
        value = value.to(logits.dtype)
        # Whether there are several distributions for each value.
        many = value.dim() == logits.dim() > 1 and value.shape[-2] == 1 < logits.shape[-2]
        # Autocast would halve the digits of the product.
        if many and not torch.is_autocast_enabled(logits.device.type):
            blocks: Sequence[Tensor] = [logits]
            if not torch.is_grad_enabled():
                blocks = logits.split(_distributions_at_a_time(logits), -2)
            return torch.cat(
                [(part @ value.mT).squeeze(-1) - total_softplus(part) for part in blocks], -1
            )
        return (value * logits).sum(-1) - total_softplus(logits)

    def noise(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Uniforms."""
        return torch.rand(shape, dtype=like.dtype, device=like.device).unsqueeze(-1)

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """One where the uniform lies below the probability."""
        return (noise.squeeze(-1) < parameters.squeeze(-1).sigmoid()).to(parameters.dtype)

    def distribution(self, parameters: Tensor) -> TorchDistribution:
        """Bernoulli."""
        return dist.Bernoulli(logits=parameters.squeeze(-1))

    def num_states(self, features: int) -> tuple[int, ...]:
        """Two each."""
        return (2,) * features

    def start(self, value: Tensor) -> Tensor:
        """Logits of the shares of ones."""
        ones = value.sum(0)
        return ((ones + 1) / (len(value) - ones + 1)).log().unsqueeze(-1)


@dataclass(frozen=True)
class CategoricalConditional(Conditional):
    """Labels 0 ... k - 1, where k may differ between features; the parameters are log odds.

    Args:
        num_states: number k of values of every feature, or one number for each
            feature.

    Raises:
        ValueError: a number is below 1, or there is none.

    Example:
        >>> distribution = CategoricalConditional((2, 3))
        >>> distribution.num_parameters, distribution.count(2)
        (3, 3)
    """

    states: int | tuple[int, ...]

    def __init__(self, num_states: int | Sequence[int]) -> None:
        states = whole_numbers("num_states", num_states)
        single = is_single(num_states)
        object.__setattr__(self, "states", states[0] if single else states)

    @property
    def num_parameters(self) -> int:
        """Number of values of the feature that has the most."""
        if isinstance(self.states, int):
            return self.states
        return max(self.states)

    @property
    def width(self) -> int:
        """One-hot."""
        return self.num_parameters

    @property
    def value_dtype(self) -> torch.dtype:
        """Labels."""
        return torch.int64

    def support(self, features: int) -> constraints.Constraint:
        """Labels below each feature's number."""
        return OfEach(Labels(self.num_states(features)))

    def encode(self, value: Tensor) -> Tensor:
        """One-hot vectors."""
        return one_hot(value.long(), self.width)

    def log_prob(self, parameters: Tensor, value: Tensor) -> Tensor:
        """Log softmax at the value."""
        parameters, index = torch.broadcast_tensors(parameters, value.long().unsqueeze(-1))
        return parameters.log_softmax(-1).gather(-1, index[..., :1]).squeeze(-1)

    def noise(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Uniforms."""
        return torch.rand(shape, dtype=like.dtype, device=like.device).unsqueeze(-1)

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Inversion of the distribution function."""
        return inverted(parameters, noise.squeeze(-1))

    def distribution(self, parameters: Tensor) -> TorchDistribution:
        """Categorical."""
        return dist.Categorical(logits=parameters)

    def num_states(self, features: int) -> tuple[int, ...]:
        """As given."""
        if isinstance(self.states, int):
            return (self.states,) * features
        return self.states

    def count(self, features: int) -> int:
        """One less than the number of values, for each feature."""
        return sum(k - 1 for k in self.num_states(features))

    def valid(self, features: int) -> Tensor | None:
        """Values that a feature has; None where all have the same number."""
        states = torch.tensor(self.num_states(features))
        valid = torch.arange(self.num_parameters) < states.unsqueeze(-1)
        if valid.all():
            return None
        return valid

    def start(self, value: Tensor) -> Tensor:
        """Log shares."""
        return smoothed(self.encode(value).to(torch.get_default_dtype()).sum(0), len(value))

    def check(self, features: int) -> None:
        """One number for each feature, where there are several."""
        if not isinstance(self.states, int) and len(self.states) != features:
            raise ValueError(
                f"`num_states` must hold {features} numbers, one for each feature, got "
                f"{len(self.states)}"
            )


class Labels(constraints.Constraint):
    """Whole numbers from 0 to below each feature's number of values."""

    is_discrete = True

    def __init__(self, num_states: tuple[int, ...]) -> None:
        self.num_states = num_states

    def check(self, value: Tensor) -> Tensor:
        """Check that each value is such a number."""
        return (
            (value >= 0)
            & (value % 1 == 0)
            & (value < torch.tensor(self.num_states, device=value.device))
        )

    def __repr__(self) -> str:
        return f"Labels({self.num_states})"


@dataclass(frozen=True)
class DiscretizedLogisticConditional(Conditional):
    r"""Levels 0 ... L - 1 of brightness.

    A mixture of logistics on [-1, 1], cut into L bins, the outer ones open.

    .. math:: p(x) = \sum_k \pi_k \Big[\sigma\Big(\frac{y_x + \delta - m_k}{s_k}\Big)
              - \sigma\Big(\frac{y_x - \delta - m_k}{s_k}\Big)\Big], \qquad
              y_x = \frac{2 x}{L - 1} - 1, \quad \delta = \frac{1}{L - 1}

    Parameters are the logits of the mixture, the means m and the log scales, in
    this order.

    Args:
        num_levels: number L of levels, at least 2.
        components: logistic distributions in the mixture.

    Raises:
        ValueError: a number is too small.

    References:
        Salimans, Karpathy, Chen and Kingma (2017), PixelCNN++, equation 2.
    """

    num_levels: int = 256
    components: int = 10

    def __post_init__(self) -> None:
        whole_fields(self, num_levels=2, components=1)

    @property
    def num_parameters(self) -> int:
        """Three for each component."""
        return 3 * self.components

    def support(self, features: int) -> constraints.Constraint:
        """The levels, as whole numbers in a floating dtype."""
        return OfEach(Labels((self.num_levels,)))

    def encode(self, value: Tensor) -> Tensor:
        """The levels' places in [-1, 1]."""
        return self._place(value).unsqueeze(-1)

    def _place(self, value: Tensor) -> Tensor:
        return value * (2 / (self.num_levels - 1)) - 1

    def log_prob(self, parameters: Tensor, value: Tensor) -> Tensor:
        """Log of the mixture's mass in the value's bin."""
        logits, mean, log_scale = parameters.chunk(3, -1)
        value = value.unsqueeze(-1)
        half = 1 / (self.num_levels - 1)
        place = self._place(value)
        rate = (-log_scale).exp()
        upper = (place + half - mean) * rate
        lower = (place - half - mean) * rate
        # log(s(b) - s(a)) = log s(b) + log s(-a) + log(1 - exp(a - b)): stable in both tails.
        inside = logsigmoid(upper) + logsigmoid(-lower) + torch.log(-torch.expm1(-2 * half * rate))
        mass = torch.where(value < 0.5, logsigmoid(upper), inside)
        mass = torch.where(value > self.num_levels - 1.5, -softplus(lower), mass)
        return (logits.log_softmax(-1) + mass).logsumexp(-1)

    def noise(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Two uniforms: for the component, and for its value."""
        return torch.rand(*shape, 2, dtype=like.dtype, device=like.device)

    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """A draw of the chosen logistic distribution, to the nearest level."""
        logits, mean, log_scale = parameters.chunk(3, -1)
        index = inverted(logits, noise[..., 0]).unsqueeze(-1)
        mean, log_scale = (x.gather(-1, index).squeeze(-1) for x in (mean, log_scale))
        eps = torch.finfo(noise.dtype).tiny
        place = mean + log_scale.exp() * torch.logit(noise[..., 1].clamp(min=eps))
        return ((place + 1) * ((self.num_levels - 1) / 2)).round().clamp(
            0, self.num_levels - 1
        ) + 0.0  # no -0

    def distribution(self, parameters: Tensor) -> TorchDistribution:
        """Categorical over the levels."""
        levels = torch.arange(self.num_levels, dtype=parameters.dtype, device=parameters.device)
        return dist.Categorical(logits=self.log_prob(parameters.unsqueeze(-2), levels))

    def num_states(self, features: int) -> tuple[int, ...]:
        """The levels."""
        return (self.num_levels,) * features

    def start(self, value: Tensor) -> Tensor:
        """Equal components at quantiles of each feature."""
        logits, mean, scale = spread(self._place(value), self.components)
        scale = (scale * math.sqrt(3) / math.pi).clamp(min=1 / self.num_levels)
        return torch.cat([logits, mean, scale.log()], -1)


def spread(value: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor]:
    """Even mixture with each feature's mean and variance.

    Its logits, means and standard deviations.
    """
    shares = (torch.arange(components, dtype=value.dtype, device=value.device) + 0.5) / components
    mean = value.quantile(shares, 0).mT
    mean = mean - mean.mean(-1, keepdim=True) + value.mean(0).unsqueeze(-1)
    left = value.var(0, correction=0) - mean.var(-1, correction=0)
    scale = left.clamp(min=1e-6).sqrt().unsqueeze(-1).expand_as(mean)
    return torch.zeros_like(mean), mean, scale


def total_softplus(logits: Tensor) -> Tensor:
    r"""Sum of log(1 + exp a) over the last dimension.

    Without a gradient, on the CPU, at half the cost.

    .. math:: \sum_i \log(1 + e^{a_i}) = \sum_i \max(a_i, 0) - \log \prod_i \sigma(|a_i|)

    The factors lie between one half and one, so that many of them may be
    multiplied before a logarithm is taken.

    Args:
        logits: (..., features).
    """
    quick = logits.device.type == "cpu" and logits.dtype in (torch.float32, torch.float64)
    if not quick or (logits.requires_grad and torch.is_grad_enabled()):
        return softplus(logits).sum(-1)
    features = logits.shape[-1]
    blocks = next(
        m for m in range(math.ceil(features / FACTORS), features + 1) if features % m == 0
    )
    factors = logits.abs().sigmoid_().unflatten(-1, (blocks, features // blocks))
    return logits.relu().sum(-1) - factors.prod(-1).log_().sum(-1)


def _distributions_at_a_time(logits: Tensor) -> int:
    """Number of distributions that stay in the cache, along the last dimension but one."""
    return max(1, NUMBERS_AT_A_TIME * logits.shape[-2] // max(logits.numel(), 1))


def inverted(logits: Tensor, uniform: Tensor) -> Tensor:
    """Labels by inversion.

    How many steps of the distribution function lie at or below the uniform.
    """
    steps = logits.softmax(-1).cumsum(-1)
    return (steps[..., :-1] <= uniform.unsqueeze(-1) * steps[..., -1:]).sum(-1)


__all__ = ["BernoulliConditional", "CategoricalConditional", "DiscretizedLogisticConditional"]
