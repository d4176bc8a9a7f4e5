"""Priors over latent variables: modules whose call returns a distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import linear

from pyro_gen._arguments import whole_number, whole_numbers
from pyro_gen._module import Module
from pyro_gen._points import Expected, check_value
from pyro_gen._transforms import batched
from pyro_gen.distributions.autoregressive.conditionals import Conditional
from pyro_gen.distributions.autoregressive.factorised import Factorised
from pyro_gen.distributions.expansion import over_batch

NUMBERS_AT_A_TIME = 2**17
"""Of densities, a component each, that stay in the cache without a gradient."""
NEGLIGIBLE = -80.0
"""Nats below the largest term, whose exponential is lost in a sum.

MKL takes ten times as long where it underflows.
"""


class StandardNormal(Module):
    """Independent standard normal numbers.

    Args:
        features: how many.

    Example:
        >>> StandardNormal(2)().log_prob(torch.zeros(2))  # - log(2 pi)
        tensor(-1.8379)
    """

    zero: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        zero = torch.zeros(whole_number("features", features))
        self.register_buffer("zero", zero, persistent=False)

    def forward(self) -> TorchDistribution:
        """The distribution, of the module's dtype and on its device."""
        return dist.Normal(self.zero, torch.ones_like(self.zero)).to_event(1)


class IndependentPrior(Module):
    """Independent features with learned distributions, all equal at first.

    Args:
        features: how many.
        conditional: the family of the distributions.

    Example:
        >>> from pyro_gen.distributions import BernoulliConditional
        >>> IndependentPrior(3, BernoulliConditional())().log_prob(torch.ones(3)).exp().item()
        0.125
    """

    def __init__(self, features: int, conditional: Conditional) -> None:
        super().__init__()
        features = whole_number("features", features)
        self.conditional = conditional
        start = torch.zeros(features, conditional.num_parameters)
        self.parameters_of_distributions = nn.Parameter(start)

    def forward(self) -> Factorised:
        """The distribution over the current parameters."""
        return Factorised(self.conditional, self.parameters_of_distributions)


class VampPrior(Module):
    r"""An even mixture of the posteriors that the encoder finds for learned pseudo-inputs.

    .. math:: p(z) = \frac1K \sum_{k=1}^K q(z | u_k)

    The pseudo-inputs live where the encoder's inputs do: ``squash`` brings free
    numbers there, by default to between 0 and 1; real rows, which the encoder
    sees standardised, want ``torch.nn.Identity()``. The encoder is not part of
    the module: :class:`pyro_gen.models.VAE` hands its own over with every call.

    Args:
        components: pseudo-inputs K.
        shape: of what the encoder is given for a row.
        squash: from free numbers to inputs.

    Raises:
        ValueError: a number is below 1.

    References:
        Tomczak and Welling (2018), VAE with a VampPrior, equation 9.
    """

    def __init__(
        self,
        components: int,
        shape: int | Sequence[int],
        squash: Callable[[Tensor], Tensor] = torch.sigmoid,
    ) -> None:
        super().__init__()
        components = whole_number("components", components)
        shape = whole_numbers("shape", shape)
        self.squash = squash
        self.free = nn.Parameter(torch.randn(components, *shape))

    @property
    def pseudo_inputs(self) -> Tensor:
        """Inputs of the encoder, (components,) + shape."""
        return self.squash(self.free)

    @torch.no_grad()
    def start_at(self, x: Tensor, mean: float = 0.5, *, real: bool = False) -> None:
        """Start the pseudo-inputs at rows of data.

        They are drawn towards the middle so that they can still move.

        Args:
            x: the encoder's inputs, at least one row, each zero or one; drawn
                with replacement.
            mean: half the range from which the free numbers start, in units in
                which 4 is a probability of 0.98.
            real: whether the inputs are real numbers, at which the free numbers
                then start themselves.
        """
        x = x.to(self.free)
        check_value("`x`", x, Expected(constraints.real, tuple(self.free.shape[1:])), batched=True)
        rows = x[torch.randint(len(x), (len(self.free),), device=x.device)]
        self.free.copy_(rows if real else (2 * rows - 1) * 4 * mean)

    def forward(self, posterior: Callable[[Tensor], tuple[Tensor, Tensor]]) -> MixtureOfPosteriors:
        """The mixture.

        Args:
            posterior: from inputs to means and standard deviations, each
                (components, latent).
        """
        return MixtureOfPosteriors(*posterior(self.pseudo_inputs))


class MixtureOfPosteriors(dist.MixtureOfDiagNormals):
    """An even mixture of diagonal normal distributions.

    Its density costs one product with all components.

    Args:
        mean: (components, latent).
        scale: standard deviations, (components, latent).
    """

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__(mean, scale, mean.new_zeros(len(mean)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, by the square written out.

        Within about 1e-3 in float32 even far from the components.

        Args:
            value: (..., latent).

        Returns:
            Nats, (...), of the broadcast batch shape.
        """
        # Squares that nearly cancel need all their digits.
        with torch.autocast(value.device.type, enabled=False):
            terms = torch.cat([value.square(), value], -1)
            if torch.is_grad_enabled():
                result = linear(terms, *self._coefficients()).logsumexp(-1)
            else:
                rows = max(1, NUMBERS_AT_A_TIME // self.locs.shape[-2])
                blocks = terms.reshape(-1, terms.shape[-1]).split(rows)
                fields = (linear(part, *self._fixed_coefficients) for part in blocks)
                sums = [log_sum_in_place(part) for part in fields]
                result = torch.cat(sums).view(value.shape[:-1])
        return over_batch(result, self.batch_shape)

    def _coefficients(self) -> tuple[Tensor, Tensor]:
        """Coefficients of squares and values, (components, 2 latent), and the constant."""
        mean = self.locs
        scale = self.coord_scale
        while mean.dim() > 2:  # what `expand` added: all the same
            mean = mean[0]
            scale = scale[0]
        precision = scale.reciprocal().square()
        volume = 2 * scale.log().sum(-1) + mean.shape[-1] * math.log(2 * math.pi)
        constant = -0.5 * ((mean.square() * precision).sum(-1) + volume) - math.log(len(mean))
        return torch.cat([-0.5 * precision, mean * precision], -1), constant

    @cached_property
    def _fixed_coefficients(self) -> tuple[Tensor, Tensor]:
        """Coefficients without a gradient, for evaluations in many parts."""
        with torch.no_grad():
            return self._coefficients()

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> MixtureOfPosteriors:
        """Expand the distribution to a larger batch shape."""
        new = self._get_checked_instance(MixtureOfPosteriors, _instance)
        return super().expand(batch_shape, new)


def log_sum_in_place(terms: Tensor) -> Tensor:
    """The log of the summed exponentials over the last dimension.

    Computed in the terms' own memory, without a gradient.
    """
    top = terms.amax(-1, keepdim=True)
    terms.sub_(top)
    if batched([terms]):  # torch has no rule of vmap for clamp_
        terms = terms.clamp(min=NEGLIGIBLE)
    else:
        terms.clamp_(min=NEGLIGIBLE)
    return terms.exp_().sum(-1).log_().add_(top.squeeze(-1))


__all__ = ["IndependentPrior", "MixtureOfPosteriors", "StandardNormal", "VampPrior"]
