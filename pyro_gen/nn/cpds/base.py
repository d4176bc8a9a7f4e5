"""Base of the conditional probability distributions of a Bayesian network's nodes."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen._module import Module


class CPD(Module):
    """The distribution of a node given its parents.

    A module with parameters, whose call returns a distribution.

    Args:
        parent_states: number of states of each parent in order, None for one
            that is a real number.
        states: number of the node's own states, None where it is a real number.

    Raises:
        ValueError: a number of states is below 1.
    """

    def __init__(self, parent_states: Sequence[int | None], states: int | None) -> None:
        super().__init__()
        self.parent_states = tuple(_size("parent_states", number) for number in parent_states)
        self.states = _size("states", states)

    def extra_repr(self) -> str:
        """States of the node and of its parents; None for real numbers."""
        return f"states={self.states}, parent_states={self.parent_states}"

    @property
    def num_parameters(self) -> int:
        """Free parameters."""
        return sum(x.numel() for x in self.parameters())

    @abstractmethod
    def forward(self, *parents: Tensor) -> TorchDistribution:
        """The distribution of the node given values of its parents.

        Args:
            *parents: one tensor for each parent in order, state numbers (int64)
                or reals; they broadcast.

        Returns:
            A distribution with the parents' broadcast shape as batch shape and
            events of shape ().

        Raises:
            ValueError: there are more or fewer parents, or a state is no number
                of one.
        """

    def checked(self, parents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The parents' values, states as int64: as bool or uint8 they would be taken for masks.

        Args:
            parents: one tensor for each parent in order.

        Raises:
            ValueError: there are more or fewer, or a state is no number of one.
                Numbers beyond the states are looked for while the validation of
                distributions is on, and not inside ``torch.func`` transforms.
        """
        if len(parents) != len(self.parent_states):
            raise ValueError(
                f"the CPD must get {len(self.parent_states)} parents, got {len(parents)}"
            )
        pairs = enumerate(zip(parents, self.parent_states, strict=True))
        return tuple(_parent_states(i, x, states) for i, (x, states) in pairs)


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
                f"{type(self).__name__} takes parents with finitely many states, got "
                f"{list(parent_states)}"
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
        """The distribution of the node given its parents.

        A categorical one, which knows probability zero.
        """
        return dist.Categorical(logits=self.logits(*self.checked(parents)))

    def table(self) -> Tensor:
        """All conditional probabilities, (states of each parent, own states).

        Differentiable in the parameters.
        """
        return (
            self.logits(*self.configurations())
            .softmax(-1)
            .expand(*self.parent_states, self.states)
        )

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


def _size(name: str, number: int | None) -> int | None:
    """A number of states, checked; None for a real node."""
    if number is None:
        return None
    return whole_number(name, number)


def _parent_states(i: int, value: Tensor, states: int | None) -> Tensor:
    """Numbers of a parent's states, int64; values of a real parent as they are."""
    if states is None:
        return value
    value = torch.as_tensor(value)
    if (
        value.is_floating_point()
        or value.is_complex()
        or (value.dtype == torch.bool and states != 2)
    ):
        raise ValueError(
            f"parent {i} of the CPD must be numbers of its {states} states, integers, got "
            f"{value.dtype}"
        )
    if value.dtype != torch.int64:
        value = value.long()
    looked = (
        torch.distributions.Distribution._validate_args
        and not torch._C._are_functorch_transforms_active()
    )
    if looked and value.numel() and not torch.compiler.is_compiling():
        least, most = (int(x) for x in value.aminmax())
        if least < 0 or most >= states:
            bad = least if least < 0 else most
            raise ValueError(
                f"parent {i} of the CPD must be a number of its {states} states, got {bad}"
            )
    return value


__all__ = ["CPD", "DiscreteCPD"]
