"""An autoregressive density given some of its features: a distribution over the others."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from pyro_gen.distributions.arguments import Shape
from pyro_gen.distributions.autoregressive.completion import Completion, Evidence, chosen
from pyro_gen.distributions.autoregressive.conditionals import Conditional
from pyro_gen.distributions.autoregressive.interfaces import Conditioner, NetworkDensity
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.expansion import Expandable, over_batch


class ClampedAutoregressive(Expandable):
    r"""The missing features given the observed ones.

    Made by :meth:`pyro_gen.distributions.Autoregressive.given`.

    .. math:: p(x_M | x_O) = \frac{p(x)}{\sum_{u_M} p(u_M, x_O)}

    The event is that of the density: samples carry the observed features, and
    ``log_prob`` is -inf where a value contradicts them. Rows of a batch may be
    observed at different features. Unless ``is_exact`` says otherwise (under
    ``Importance``), log probabilities and draws are exact.

    Args:
        density: what is conditioned.
        observed: values (...) + event_shape; values where ``mask`` is False are
            ignored, NaN included.
        mask: True where a feature is observed, same shape.
        completion: how the missing features are summed over; None for an exact
            way.
        validate_args: whether to check evidence and values.

    Raises:
        ValueError: ``density`` is none, ``mask`` is not boolean, shapes or
            devices do not fit, an observed feature has a value outside the
            support, or ``completion`` cannot serve.

    Example:
        >>> from pyro_gen import nn
        >>> density, nan = nn.FVSBN(3)(), float("nan")
        >>> given = density.given(torch.tensor([1.0, nan, 0.0]), torch.tensor([True, False, True]))
        >>> given.log_prob(torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])).exp()
        tensor([0.5000, 0.5000, 0.0000], grad_fn=<ExpBackward0>)
        >>> given.evidence_estimate().method
        'enumeration'
    """

    has_rsample = False

    def __init__(
        self,
        density: NetworkDensity,
        observed: Tensor,
        mask: Tensor,
        completion: Completion | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(density, NetworkDensity):
            raise ValueError(
                f"`density` must be an autoregressive density, got {type(density).__name__}"
            )
        _check_observed(observed, mask, density)
        dims = len(density.event_shape)
        self.context = density.context
        self.observed = torch.where(mask, observed, 0)
        self.is_observed = mask
        self._plain = density._unexpanded()
        batches = (
            density.batch_shape,
            observed.shape[: observed.dim() - dims],
            mask.shape[: mask.dim() - dims],
        )
        super().__init__(
            torch.broadcast_shapes(*batches), density.event_shape, validate_args=validate_args
        )
        dtype = density.conditional.value_dtype or density.conditioner.example.dtype
        flat = Evidence(self.observed.to(dtype).flatten(-dims), mask.flatten(-dims))
        if completion is None:
            self._completer = chosen(self._plain, flat)
        else:
            self._completer = completion.bind(self._plain, flat)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """A finite context, where there is one, and observed values in the support."""
        return self._plain.arg_constraints | {"observed": self.support}

    @property
    def support(self) -> constraints.Constraint:
        """Constraint of the density.

        It includes values that contradict the evidence (log probability -inf).
        """
        return self._plain.support

    @property
    def conditioner(self) -> Conditioner:
        """The network."""
        return self._plain.conditioner

    @property
    def conditional(self) -> Conditional:
        """The family of the conditional distributions."""
        return self._plain.conditional

    @property
    def is_exact(self) -> bool:
        """True if log probabilities and draws are exact, not estimates by importance."""
        return self._completer.exact

    def log_evidence(self) -> Tensor:
        """Log probability of the observed features under the density.

        :meth:`evidence_estimate` has its error.

        Returns:
            Nats, of the batch shape, differentiable.
        """
        return self.evidence_estimate().value

    def evidence_estimate(self) -> Estimate:
        """Log probability of the observed features under the density.

        Returns:
            Nats, their standard error (0 where exact), the effective sample
            size and the method's name; tensors of the batch shape, the first
            one differentiable.
        """
        estimate = self._completer.evidence_estimate()
        value, error, size = (x.expand(self.batch_shape) for x in estimate[:3])
        return Estimate(value, error, size, estimate.method)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of the missing features given the observed ones, in nats.

        Args:
            value: events of shape (...) + event_shape.

        Returns:
            Tensor of the broadcast batch shape; -inf where a value contradicts
            the evidence.

        Raises:
            ValueError: ``value`` lies outside the support.
        """
        if self._validate_args:
            self._validate_sample(value)
        contradicts = (
            ((value != self.observed) & self.is_observed).flatten(-len(self.event_shape)).any(-1)
        )
        result = self._completer.log_prob(
            torch.where(self.is_observed, self.observed.to(value.dtype), value)
        )
        result = result.masked_fill(contradicts, -math.inf)
        return over_batch(result, self.batch_shape)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008  # torch's own default
        """Draw events: exactly where ``is_exact``, else by picking particles.

        Args:
            sample_shape: of the draws; independent ones where they are exact.

        Returns:
            Events of shape sample_shape + batch_shape + event_shape, with the
            observed features in their places.
        """
        return self.sample_and_log_prob(sample_shape)[0]

    @torch.no_grad()
    def sample_and_log_prob(
        self,
        sample_shape: Shape = Size(),  # noqa: B008  # torch's own default
    ) -> tuple[Tensor, Tensor]:
        """Draws and their log probabilities.

        Returns:
            Events as :meth:`sample` gives them, and nats of shape sample_shape +
            batch_shape.
        """
        shape = self._extended_shape(sample_shape)[: -len(self.event_shape)]
        value, log_prob = self._completer.sample(shape)
        return value.reshape(*shape, *self.event_shape), log_prob

    @property
    def num_states(self) -> float:
        """Number of values of an event, those included that contradict the evidence.

        May be infinite.
        """
        return self._plain.num_states

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # a class attribute in torch
        """True if the states are few enough to be listed, and their probabilities exact."""
        return self.is_exact and self._plain.has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All events, those that contradict the evidence (of log probability -inf) included.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (num_states,) + batch_shape + event_shape, with ones for the
            batch where ``expand`` is False.

        Raises:
            NotImplementedError: there are more than 2^20, or log probabilities
                are estimates.
        """
        if not self.is_exact:
            raise NotImplementedError(
                "states are listed where their probabilities are exact, not under Importance"
            )
        return self._listed(self._plain.enumerate_support(expand=False), expand)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Not available: tensor shapes do not determine the event shape, the network does.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "the event shape of an autoregressive density is that of its network"
        )


def _check_observed(observed: Tensor, mask: Tensor, density: NetworkDensity) -> None:
    """Name what does not fit."""
    event_shape = density.event_shape
    device = density.conditioner.example.device
    form = ", ".join(("...", *map(str, event_shape)))
    for name, x in (("observed", observed), ("mask", mask)):
        if x.shape[-len(event_shape) :] != event_shape:
            raise ValueError(f"`{name}` must have shape ({form}), got {tuple(x.shape)}")
        if x.device != device:
            raise ValueError(f"`{name}` must be on {device} like the network, got {x.device}")
    if mask.dtype != torch.bool:
        raise ValueError(
            f"`mask` must be boolean, True where a feature is observed, got {mask.dtype}"
        )
    batches = [tuple(x.shape[: x.dim() - len(event_shape)]) for x in (observed, mask)]
    try:
        torch.broadcast_shapes(*batches, density.batch_shape)
    except RuntimeError as error:
        raise ValueError(
            "the batch shapes of `observed`, `mask` and the density must broadcast, got "
            f"{batches[0]}, {batches[1]} "
            f"and {tuple(density.batch_shape)}"
        ) from error


__all__ = ["ClampedAutoregressive"]
