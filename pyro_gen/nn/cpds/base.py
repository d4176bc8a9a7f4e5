"""What all conditional probability distributions of a Bayesian network's nodes have in common."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pyro_gen._arguments import whole_number


class CPD(nn.Module):
    """The law of a node given its parents: a module with parameters, whose call returns a distribution.

    Args:
        parent_states: number of states of each parent in order, None for one that is a real number.
        states: number of the node's own states, None where it is a real number.

    Raises:
        ValueError: a number of states is below 1.
    """

    def __init__(self, parent_states: Sequence[int | None], states: int | None) -> None:
        super().__init__()
        self.parent_states = tuple(None if k is None else whole_number("parent_states", k) for k in parent_states)
        self.states = None if states is None else whole_number("states", states)

    @property
    def num_parameters(self) -> int:
        """Free parameters."""
        return sum(x.numel() for x in self.parameters())

    @abstractmethod
    def forward(self, *parents: Tensor) -> TorchDistribution:
        """The law of the node given values of its parents.

        Args:
            *parents: one tensor for each parent in order, state numbers (int64) or reals; they broadcast.

        Returns:
            A distribution with the parents' broadcast shape as batch shape and events of shape ().
        """


class DiscreteCPD(CPD):
    """A CPD over finitely many states, whose parents have finitely many states too.

    Args:
        parent_states: number of states of each parent in order.
        states: number of the node's own states.
    """

    states: int
    parent_states: tuple[int, ...]

    def __init__(self, parent_states: Sequence[int], states: int) -> None:
        super().__init__(parent_states, states)
        if any(k is None for k in (*parent_states, states)):
            raise ValueError(
                f"{type(self).__name__} takes parents with finitely many states, got {list(parent_states)}"
            )

    @abstractmethod
    def logits(self, *parents: Tensor) -> Tensor:
        """Log probabilities of the states given the parents', up to a constant in each row.

        Args:
            *parents: state numbers; they broadcast.

        Returns:
            Their broadcast shape + (states,).
        """

    def forward(self, *parents: Tensor) -> dist.Categorical:
        """The law of the node given its parents: a categorical one, which knows probability zero."""
        return dist.Categorical(logits=self.logits(*parents))

    def table(self) -> Tensor:
        """All conditional probabilities, (states of each parent, own states); differentiable in the parameters."""
        return self.logits(*self.configurations()).softmax(-1).expand(*self.parent_states, self.states)

    def configurations(self) -> tuple[Tensor, ...]:
        """States of all parents in all configurations, as tensors that broadcast."""
        sizes = self.parent_states
        return tuple(
            torch.arange(k, device=self.example.device).view(k, *(1,) * (len(sizes) - i - 1))
            for i, k in enumerate(sizes)
        )

    @property
    def example(self) -> Tensor:
        """Any tensor of the dtype and on the device of the parameters."""
        return next(itertools.chain(self.parameters(), self.buffers()), torch.empty(0))

    @property
    def rows(self) -> int:
        """Configurations of the parents."""
        return math.prod(self.parent_states)


__all__ = ["CPD", "DiscreteCPD"]
