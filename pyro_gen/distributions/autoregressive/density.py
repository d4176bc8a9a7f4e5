"""Autoregressive densities.

Products of conditional distributions, each given the features before it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol, cast

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints, register_kl

from pyro_gen.distributions.arguments import Shape
from pyro_gen.distributions.autoregressive.clamped import ClampedAutoregressive
from pyro_gen.distributions.autoregressive.completion import Completion
from pyro_gen.distributions.autoregressive.conditionals import Conditional
from pyro_gen.distributions.autoregressive.feature_density import FeatureDensity
from pyro_gen.distributions.autoregressive.interfaces import Conditioner
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.expansion import over_batch
from pyro_gen.distributions.units.base import Finite


class Generation(NamedTuple):
    """Partially generated events.

    ``values`` holds the features generated so far in the order of generation,
    (..., position); ``log_prob`` their log probability in nats, (...);
    ``distribution`` is that of the next feature, or None after the last one.
    """

    values: Tensor
    log_prob: Tensor
    distribution: TorchDistribution | None
    parameters: Tensor | None
    state: Any

    @property
    def position(self) -> int:
        """Number of features generated so far."""
        return self.values.shape[-1]


class Autoregressive(FeatureDensity):
    r"""A density over many features as the product of one-dimensional distributions.

    The features are in an order :math:`\pi`.

    .. math:: p(x | c)
              = \prod_{k=1}^D p\big(x_{\pi(k)} \,\big|\, x_{\pi(1)}, \dots, x_{\pi(k-1)}, c\big)

    Exact log probabilities in nats (densities where the distributions are
    continuous), exact samples. The event shape is that of the conditioner,
    usually (features,); the batch shape that of the context, or () without one.

    Args:
        conditioner: the network that gives each distribution from the features
            before it; a module of :mod:`pyro_gen.nn` such as ``nn.NADE`` makes
            the distribution when it is called.
        context: context of all conditional distributions, (..., context); None
            for an unconditional network.
        validate_args: whether to check context and values.

    Raises:
        ValueError: ``context`` is missing, has the wrong width, or is given to
            an unconditional network.

    References:
        Larochelle and Murray (2011), The neural autoregressive distribution
        estimator, equation 1. Frey (1998), Graphical models for machine
        learning and digital communication.

    Example:
        >>> from pyro_gen import nn
        >>> density = nn.FVSBN(3)()
        >>> density.log_prob(density.enumerate_support()).exp().sum().item()
        1.0
    """

    def __init__(
        self,
        conditioner: Conditioner,
        context: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.conditioner = conditioner
        self.context = context
        _check_context(conditioner.context, context)
        batch_shape = Size() if context is None else context.shape[:-1]
        super().__init__(batch_shape, conditioner.event_shape, validate_args=validate_args)

    def __repr__(self) -> str:
        """The network, shapes and the family of the features."""
        shapes = f"batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)}"
        network = type(self.conditioner).__name__
        return f"{type(self).__name__}({network}, {shapes}, conditional={self.conditional})"

    @property
    def conditional(self) -> Conditional:
        """The family of the conditional distributions."""
        return self.conditioner.conditional

    @property
    def example(self) -> Tensor:
        """The conditioner's: of the dtype and on the device of the weights."""
        return self.conditioner.example

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """A finite context, where there is one."""
        if self.context is None:
            return {}
        return {"context": Finite()}

    def log_prob(self, value: Tensor) -> Tensor:
        """Exact log probability in nats.

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
        rows, context, shape = self._rows(value)
        result = self.conditioner.log_prob_of(rows, context).view(shape)
        return over_batch(result, self.batch_shape)

    def conditionals(self, value: Tensor) -> TorchDistribution:
        """The distribution of every feature given the values of those before it.

        Args:
            value: events of shape (...) + event_shape.

        Returns:
            A distribution of batch shape (...) + event_shape, whose
            ``log_prob(value)`` sums to that of the event.
        """
        if self._validate_args:
            self._validate_sample(value)
        rows, context, shape = self._rows(value)
        parameters = self.conditioner.parameters_of(rows, context)
        return self.conditional.distribution(
            parameters.view(*shape, *self.event_shape, parameters.shape[-1])
        )

    @torch.no_grad()
    def sample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008  # torch's own default
        """Exact draws.

        Args:
            sample_shape: of independent draws.

        Returns:
            Events of shape sample_shape + batch_shape + event_shape.
        """
        return self._generate(sample_shape)[0]

    def rsample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008  # torch's own default
        """Exact draws that are differentiable in the weights and the context.

        The conditional distributions must be reparametrised.

        Raises:
            NotImplementedError: the conditional distributions cannot be
                reparametrised.
        """
        if not self.has_rsample:
            raise NotImplementedError(
                f"draws of {type(self.conditional).__name__} are not differentiable"
            )
        return self._generate(sample_shape)[0]

    def sample_and_log_prob(
        self,
        sample_shape: Shape = Size(),  # noqa: B008  # torch's own default
    ) -> tuple[Tensor, Tensor]:
        """Draws and their log probabilities, computed in one pass.

        Returns:
            Events as :meth:`sample` gives them, and nats of shape sample_shape +
            batch_shape.
        """
        with torch.no_grad():
            return self._generate(sample_shape)

    def start(self, sample_shape: Shape = Size()) -> Generation:  # noqa: B008  # torch's default
        """Begin to generate step by step; continue with :meth:`next`.

        Args:
            sample_shape: of independent events.

        Returns:
            No values yet, and the distribution of the first feature.
        """
        shape = self._extended_shape(sample_shape)[: -len(self.event_shape)]
        context = self._context_rows(shape)
        parameters, state = self.conditioner.begin(
            shape.numel(), context, self.conditioner.example
        )
        values = parameters.new_zeros((*shape, 0), dtype=self.conditional.value_dtype)
        return Generation(
            values,
            parameters.new_zeros(shape),
            self._distribution(parameters, shape),
            parameters,
            state,
        )

    def next(self, generation: Generation, value: Tensor | None = None) -> Generation:
        """Set or draw the next feature, and compute the distribution of the one after it.

        Args:
            generation: what :meth:`start` or this method returned.
            value: values of the next feature, one for each event; None draws
                them.

        Returns:
            One feature more; ``distribution`` is None after the last one.

        Raises:
            ValueError: all features are there already, or ``value`` lies
                outside the distribution's support.
        """
        if generation.distribution is None or generation.parameters is None:
            raise ValueError(f"all {self.features} features have been generated")
        shape = generation.log_prob.shape
        parameters = generation.parameters
        if value is None:
            value = self.conditional.draw(
                parameters, self.conditional.noise((len(parameters),), parameters)
            ).view(shape)
        elif value.dim() > len(shape) or any(
            a not in (1, b) for a, b in zip(value.shape[::-1], shape[::-1], strict=False)
        ):
            raise ValueError(
                f"`value` must have shape {tuple(shape)}, one value for each event, got "
                f"{tuple(value.shape)}"
            )
        elif (
            self._validate_args
            and not cast(constraints.Constraint, generation.distribution.support)
            .check(value)
            .all()
        ):
            raise ValueError(
                f"`value` must lie in {generation.distribution.support}, the support of "
                "the next feature"
            )
        flat = value.expand(shape).reshape(-1)
        log_prob = generation.log_prob + self.conditional.log_prob(parameters, flat).view(shape)
        values = torch.cat(
            [generation.values, flat.view(*shape, 1).to(generation.values.dtype)], -1
        )
        if values.shape[-1] == self.features:
            return Generation(values, log_prob, None, None, None)
        parameters, state = self.conditioner.proceed(generation.state, flat)
        return Generation(
            values, log_prob, self._distribution(parameters, shape), parameters, state
        )

    def event_of(self, generation: Generation) -> Tensor:
        """The events of a finished generation, in the layout of the event.

        Raises:
            ValueError: features are missing.
        """
        if generation.position < self.features:
            raise ValueError(
                f"{self.features - generation.position} of {self.features} features are "
                "still missing"
            )
        return self._laid_out(generation.values).view(
            *generation.log_prob.shape, *self.event_shape
        )

    def given(
        self, observed: Tensor, mask: Tensor, completion: Completion | None = None
    ) -> ClampedAutoregressive:
        """The distribution of the missing features given the observed ones.

        The event stays the whole event.

        Without ``completion`` it is exact: where the observed features come
        first in the order, in every row, and by enumeration where few
        completions are possible. ``Importance(...)`` handles any features, by
        an estimate with its error; ``ObservedFirst()`` is exact for networks of
        any order, with a separate order for each row.

        Args:
            observed: values (...) + event_shape; values of missing features are
                ignored, NaN included.
            mask: True where a feature is observed, same shape; rows may differ.
            completion: how the missing features are summed over; None for an
                exact way.

        Returns:
            A distribution whose samples carry the observed features and whose
            ``log_prob(x)`` is log p(missing features of x | observed features),
            -inf where x contradicts them.

        Raises:
            ValueError: the evidence does not fit or cannot happen, or the
                completions are too many to be listed.
        """
        return ClampedAutoregressive(self, observed, mask, completion, self._validate_args)

    def log_evidence(
        self, observed: Tensor, mask: Tensor, completion: Completion | None = None
    ) -> Tensor:
        """Log probability of the observed features, the others summed out.

        :meth:`evidence_estimate` has its error.

        Args:
            observed: values (...) + event_shape; values of missing features are
                ignored, NaN included.
            mask: True where a feature is observed, same shape; rows may differ.
            completion: as for :meth:`given`.

        Returns:
            Nats, of the broadcast batch shape, differentiable.

        Raises:
            ValueError: as :meth:`given`.
        """
        return self.evidence_estimate(observed, mask, completion).value

    def evidence_estimate(
        self, observed: Tensor, mask: Tensor, completion: Completion | None = None
    ) -> Estimate:
        """Log probability of the observed features, the missing ones summed out.

        Args:
            observed: values (...) + event_shape; values of missing features are
                ignored, NaN included.
            mask: True where a feature is observed, same shape; rows may differ.
            completion: as for :meth:`given`.

        Returns:
            Nats, their standard error (0 where exact), the effective sample
            size and the method's name.

        Raises:
            ValueError: as :meth:`given`.
        """
        return self.given(observed, mask, completion).evidence_estimate()

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Not available: tensor shapes do not determine the event shape, the conditioner does.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "the event shape of an autoregressive density is that of its network"
        )

    def _unexpanded(self) -> Autoregressive:
        """The density over the batch of its context, which does not check values."""
        return Autoregressive(self.conditioner, self.context, validate_args=False)

    def _generate(self, sample_shape: Shape) -> tuple[Tensor, Tensor]:
        """Draws and their log probabilities.

        The noise of all features comes first, so that all samplers share it.
        """
        shape = self._extended_shape(sample_shape)[: -len(self.event_shape)]
        context = self._context_rows(shape)
        conditioner = self.conditioner
        conditional = self.conditional
        rows = shape.numel()
        noise = conditional.noise((self.features, rows), conditioner.example)
        values, log_prob = conditioner.generate(noise, context)
        return self._laid_out(values).view(*shape, *self.event_shape), log_prob.view(shape)

    def _laid_out(self, values: Tensor) -> Tensor:
        """From the order of generation to the layout of the event."""
        return values[..., self.conditioner.order.argsort()]

    def _distribution(self, parameters: Tensor, shape: Size) -> TorchDistribution:
        return self.conditional.distribution(parameters.view(*shape, parameters.shape[-1]))

    def _rows(self, value: Tensor) -> tuple[Tensor, Tensor | None, Size]:
        """Flat values and contexts, and the shape that they had.

        What only ``expand`` added is left out.
        """
        if self.context is None:
            context_shape = Size()
        else:
            context_shape = self.context.shape[:-1]
        shape = torch.broadcast_shapes(
            value.shape[: value.dim() - len(self.event_shape)], context_shape
        )
        rows = value.expand(shape + self.event_shape).reshape(shape.numel(), self.features)
        if self.conditional.value_dtype is None:
            rows = rows.to(self.conditioner.example.dtype)
        return rows, self._context_rows(shape), shape

    def _context_rows(self, shape: Size) -> Tensor | None:
        """The contexts of a batch, one a row; None where there is no context."""
        if self.context is None:
            return None
        width = self.context.shape[-1]
        return self.context.expand(*shape, width).reshape(shape.numel(), width)


def _check_context(width: int, context: Tensor | None) -> None:
    """Raise unless there is a context where one is needed, of the right width."""
    if context is None:
        if width:
            raise ValueError(f"`context` must have shape (..., {width}), got None")
    elif not isinstance(context, Tensor):
        raise ValueError(f"`context` must be a tensor, got {type(context).__name__}")
    elif not width:
        raise ValueError(
            f"`context` must be None, as this network takes no context, got {tuple(context.shape)}"
        )
    elif context.shape[-1:] != (width,):
        raise ValueError(f"`context` must have shape (..., {width}), got {tuple(context.shape)}")


class Listed(Protocol):
    """Interface that a divergence by enumeration needs of a density."""

    batch_shape: Size
    event_shape: Size
    features: int
    conditional: Conditional

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All events."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probabilities in nats."""


@register_kl(Autoregressive, Autoregressive)
def divergence_by_enumeration(p: Listed, q: Listed) -> Tensor:
    """Kullback-Leibler divergence in nats between densities of the same events.

    The mean is over all events.

    Args:
        p: under which the mean is taken.
        q: the other one.

    Returns:
        Tensor of the broadcast batch shape.

    Raises:
        ValueError: their events differ.
        NotImplementedError: there are too many to list.
    """
    states = p.conditional.num_states(p.features)
    if p.event_shape != q.event_shape or states != q.conditional.num_states(q.features):
        raise ValueError(
            f"`p` and `q` must have the same events, got {p.event_shape} and {q.event_shape}"
        )
    values = p.enumerate_support(expand=False)
    batch = torch.broadcast_shapes(p.batch_shape, q.batch_shape)
    values = values.view(-1, *(1,) * len(batch), *p.event_shape)
    log_p = p.log_prob(values)
    log_q = q.log_prob(values)
    return (
        (log_p.exp() * (log_p - log_q)).nan_to_num(nan=0.0, posinf=math.inf).sum(0).expand(batch)
    )


__all__ = ["Autoregressive", "Generation", "divergence_by_enumeration"]
