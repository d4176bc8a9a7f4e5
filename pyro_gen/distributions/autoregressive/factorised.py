"""Events of independent features with distributions of one family, such as a decoder's output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints, kl_divergence, register_kl

from pyro_gen.distributions.arguments import Shape
from pyro_gen.distributions.autoregressive.conditionals import Conditional
from pyro_gen.distributions.autoregressive.feature_density import FeatureDensity
from pyro_gen.distributions.expansion import over_batch


class Factorised(FeatureDensity):
    r"""Distribution of independent features.

    .. math:: p(x) = \prod_{i=1}^D p(x_i; \theta_i)

    Unlike ``conditional.distribution(parameters).to_event(1)`` it scores
    discretised distributions without a table of all levels, lists the events of
    discrete distributions where they are few, so that Pyro can enumerate them,
    and has events of any shape.

    Args:
        conditional: the family of the distributions.
        parameters: parameters of the distributions, (..., features, parameters
            of a distribution).
        event_shape: shape of an event, of as many numbers; None for
            (features,).
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: the parameters do not fit the family or the event.

    Example:
        >>> from pyro_gen.distributions import BernoulliConditional
        >>> coins = Factorised(BernoulliConditional(), torch.zeros(3, 1))
        >>> coins.log_prob(torch.ones(3)).exp()
        tensor(0.1250)
        >>> coins.enumerate_support().shape
        torch.Size([8, 3])
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "parameters": constraints.independent(constraints.real, 2)
    }

    def __init__(
        self,
        conditional: Conditional,
        parameters: Tensor,
        event_shape: Sequence[int] | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if parameters.dim() < 2 or parameters.shape[-1] != conditional.num_parameters:
            raise ValueError(
                "`parameters` must have shape (..., features, "
                f"{conditional.num_parameters}) for {conditional}, "
                f"got {tuple(parameters.shape)}"
            )
        features = parameters.shape[-2]
        event = Size((features,) if event_shape is None else event_shape)
        if not event or event.numel() != features:
            raise ValueError(
                f"`event_shape` must hold {features} features, as `parameters` do, got "
                f"{tuple(event)}"
            )
        conditional.check(features)
        self._conditional = conditional
        self.parameters = parameters
        super().__init__(parameters.shape[:-2], event, validate_args=validate_args)

    @property
    def conditional(self) -> Conditional:
        """The family of the conditional distributions."""
        return self._conditional

    @property
    def example(self) -> Tensor:
        """The parameters."""
        return self.parameters

    @property
    def distribution(self) -> TorchDistribution:
        """The features' distributions, of batch shape (...) + (features,)."""
        return self.conditional.distribution(self.parameters)

    @property
    def mean(self) -> Tensor:
        """Means of the features; NaN for labels."""
        return self.distribution.mean.expand(*self.batch_shape, self.features).unflatten(
            -1, self.event_shape
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability (or density) in nats.

        Args:
            value: events of shape (...) + event_shape.

        Returns:
            Tensor of the broadcast shape of the value's and the distribution's
            batch.

        Raises:
            ValueError: ``value`` lies outside the support.
        """
        if self._validate_args:
            self._validate_sample(value)
        if len(self.event_shape) > 1:
            value = value.flatten(value.dim() - len(self.event_shape))
        result = self.conditional.total_log_prob(self.parameters, value)
        return over_batch(result, self.batch_shape)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008  # torch's own default
        """Independent draws.

        Args:
            sample_shape: of independent draws.

        Returns:
            Events of shape sample_shape + batch_shape + event_shape.
        """
        return self._drawn(sample_shape)

    def rsample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008  # torch's own default
        """Draws that are differentiable in the parameters, where the distributions are.

        Raises:
            NotImplementedError: the distributions cannot be reparametrised.
        """
        if not self.has_rsample:
            raise NotImplementedError(
                f"draws of {type(self.conditional).__name__} are not differentiable"
            )
        return self._drawn(sample_shape)

    def entropy(self) -> Tensor:
        """Entropy in nats, the sum of the distributions' own.

        Raises:
            NotImplementedError: the distributions have none in closed form.
        """
        return self.distribution.entropy().sum(-1).expand(self.batch_shape)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Not available: tensor shapes do not determine the event shape.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("the event shape of independent features is a separate argument")

    def _drawn(self, sample_shape: Shape) -> Tensor:
        shape = self._extended_shape(sample_shape)
        flat = (*shape[: len(shape) - len(self.event_shape)], self.features)
        parameters = self.parameters.expand(*flat, -1)
        return self.conditional.draw(parameters, self.conditional.noise(flat, parameters)).view(
            shape
        )


@register_kl(Factorised, Factorised)
def _divergence(p: Factorised, q: Factorised) -> Tensor:
    """Kullback-Leibler divergence in nats, feature by feature."""
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"`p` and `q` must have the same events, got {tuple(p.event_shape)}, "
            f"{tuple(q.event_shape)}"
        )
    batch = torch.broadcast_shapes(p.batch_shape, q.batch_shape)
    # torch's own divergences do not broadcast in every family
    distributions = (
        d.conditional.distribution(d.parameters.expand(*batch, p.features, -1)) for d in (p, q)
    )
    return kl_divergence(*distributions).sum(-1)


__all__ = ["Factorised"]
