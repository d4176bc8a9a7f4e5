"""Densities over many features: support, and the list of their events where there are few."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from pyro_gen.distributions.autoregressive.conditionals import Conditional
from pyro_gen.distributions.expansion import Expandable

ENUMERABLE = 2**20
"""Largest number of states that is listed."""


class FeatureDensity(Expandable):
    """A density over events of many features.

    Their distributions are of one family, a :class:`Conditional`.
    """

    @property
    @abstractmethod
    def conditional(self) -> Conditional:
        """The family of the conditional distributions."""

    @property
    @abstractmethod
    def example(self) -> Tensor:
        """Any tensor of the dtype and on the device of what is drawn."""

    @property
    def features(self) -> int:
        """Number of features of an event."""
        return self.event_shape.numel()

    @property
    def support(self) -> constraints.Constraint:
        """Constraint of the conditional distributions, over the event."""
        flat = self.conditional.support(self.features)
        if len(self.event_shape) == 1:
            return flat
        return OverEvent(flat, self.event_shape)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]  # a class attribute in torch
        """True if samples are differentiable in the parameters."""
        return self.conditional.reparametrised

    @property
    def num_states(self) -> float:
        """Number of values that an event can take; may be infinite."""
        states = self.conditional.num_states(self.features)
        if states is None:
            return math.inf
        return math.prod(states)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # a class attribute in torch
        """True if the states are few enough to be listed."""
        return self.num_states <= ENUMERABLE

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All events, the last feature changing fastest.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (num_states,) + batch_shape + event_shape, with ones for the
            batch where ``expand`` is False.

        Raises:
            NotImplementedError: there are more than 2^20.
        """
        states = self.conditional.num_states(self.features)
        if states is None or not self.has_enumerate_support:
            number = "infinitely many"
            if states is not None:
                number = f"2^{math.log2(self.num_states):.1f}"
            raise NotImplementedError(
                f"{number} states are too many to list, the limit is {ENUMERABLE}"
            )
        dtype = self.conditional.value_dtype or self.example.dtype
        axes = [torch.arange(k, dtype=dtype, device=self.example.device) for k in states]
        values = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)
        return self._listed(values, expand)

    def entropy(self) -> Tensor:
        """Entropy in nats, by enumeration.

        Raises:
            NotImplementedError: there are too many states to list.
        """
        log_prob = self.log_prob(self.enumerate_support())
        return -torch.special.xlogy(log_prob.exp(), log_prob.exp()).sum(0)


class OverEvent(constraints.Constraint):
    """Constraint on a row of features, applied to an event of another shape."""

    def __init__(self, base: constraints.Constraint, event_shape: Size) -> None:
        self.base = base
        self.event_dim = len(event_shape)
        self.is_discrete = base.is_discrete

    def check(self, value: Tensor) -> Tensor:
        """Check that each event's features fit."""
        checked: Tensor = self.base.check(value.flatten(value.dim() - self.event_dim))
        return checked

    def __repr__(self) -> str:
        return f"{self.base} over an event"


__all__ = ["ENUMERABLE", "FeatureDensity", "OverEvent"]
