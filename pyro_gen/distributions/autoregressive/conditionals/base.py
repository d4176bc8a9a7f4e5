"""Families of conditional distributions: the interface that an autoregressive density needs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class OfEach(constraints.Constraint):
    """Constraint on every number of a row.

    Unlike torch's ``independent`` it accepts an empty batch.
    """

    event_dim = 1

    def __init__(self, base: constraints.Constraint) -> None:
        self.base = base
        self.is_discrete = base.is_discrete

    def check(self, value: Tensor) -> Tensor:
        """Check that all numbers of each row fit."""
        checked: Tensor = self.base.check(value).all(-1)
        return checked

    def __repr__(self) -> str:
        return f"OfEach({self.base})"


class Conditional(ABC):
    """Family of distributions of one number.

    Its parameters, log probability, draws and encoding for a network.

    Parameters have shape (..., features, num_parameters), values and scores
    (..., features); the methods work for any number of features, all together
    or one after the other.
    """

    reparametrised: ClassVar[bool] = False
    """Whether ``draw`` is differentiable in the parameters."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Parameters of the distribution of one feature."""

    @property
    def width(self) -> int:
        """Number of inputs of a network for one feature."""
        return 1

    @property
    def value_dtype(self) -> torch.dtype | None:
        """Dtype of drawn values; None is that of the parameters."""
        return None

    @abstractmethod
    def support(self, features: int) -> constraints.Constraint:
        """Values of all features, with the features as event."""

    def encode(self, value: Tensor) -> Tensor:
        """Encoding of values for a network: (..., features, width)."""
        return value.unsqueeze(-1)

    @abstractmethod
    def log_prob(self, parameters: Tensor, value: Tensor) -> Tensor:
        """Log probability (or density) of each feature's value, in nats."""

    def total_log_prob(self, parameters: Tensor, value: Tensor) -> Tensor:
        """The features' log probabilities together, (...), in nats.

        Parameters and values broadcast.
        """
        return self.log_prob(parameters, value).sum(-1)

    @abstractmethod
    def noise(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Noise that :meth:`draw` turns into values of this shape.

        It has the dtype and device of ``like``.
        """

    @abstractmethod
    def draw(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Values that depend on parameters and noise alone."""

    @abstractmethod
    def distribution(self, parameters: Tensor) -> TorchDistribution:
        """The distributions as a Pyro distribution.

        The features are its last batch dimension.
        """

    def num_states(self, features: int) -> tuple[int, ...] | None:
        """Number of values of each feature, None if there are infinitely many."""
        return None

    def count(self, features: int) -> int:
        """Free parameters of the distributions of that many features."""
        return features * self.num_parameters

    def valid(self, features: int) -> Tensor | None:
        """Boolean mask of the parameters that are used, (features, num_parameters).

        None if all are.
        """
        return None

    def start(self, value: Tensor) -> Tensor:
        """Parameters of the data's marginal distributions, as initial values.

        Of shape (features, num_parameters).

        Args:
            value: rows of data, (n, features).
        """
        raise NotImplementedError(f"{self} has no marginal distributions to start from")

    def check(self, features: int) -> None:  # noqa: B027  # most fit any number
        """Raise, naming the argument, unless that many features fit."""


def smoothed(counts: Tensor, total: int) -> Tensor:
    """Logarithms of shares, with one more observation of each kind."""
    return (counts + 1).log() - math.log(total + counts.shape[-1])


__all__ = ["Conditional", "OfEach"]
