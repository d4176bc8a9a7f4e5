"""Tables of conditional probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen.nn.cpds.base import DiscreteCPD

TOLERANCE = 1e-5
"""By how much a row may miss one."""


class TabularCPD(DiscreteCPD):
    r"""A row of probabilities for every configuration of the parents.

    .. math:: p(x | u) = \mathrm{softmax}(\theta_u)_x

    The parameter ``weight`` holds logarithms; a probability that is zero stays
    zero when the table is learned.

    Args:
        probs: conditional probabilities, (states of each parent, own states).
        normalize: divide rows by their sums, which miss one by at most 1e-5;
            False keeps them as they are, and ``weight`` then holds logarithms
            that learning would not keep normalised.

    Raises:
        ValueError: ``probs`` is no tensor of float32 or float64, or a row is
            not a probability distribution.

    Example:
        >>> cpd = TabularCPD(torch.tensor([[0.9, 0.1], [0.3, 0.7]]))
        >>> cpd(torch.tensor(1)).probs
        tensor([0.3000, 0.7000], grad_fn=<SoftmaxBackward0>)
        >>> cpd.num_parameters
        2
    """

    def __init__(self, probs: Tensor, normalize: bool = True) -> None:
        if (
            not isinstance(probs, Tensor)
            or probs.dtype not in (torch.float32, torch.float64)
            or not probs.dim()
        ):
            raise ValueError(
                f"`probs` must be a table of float32 or float64, got {type(probs).__name__}"
            )
        super().__init__(probs.shape[:-1], probs.shape[-1])
        if not (probs >= 0).all() or not ((probs.sum(-1) - 1).abs() <= TOLERANCE).all():
            raise ValueError("`probs` must have rows of probabilities that sum to 1 up to 1e-5")
        self.normalize = normalize
        probs = probs.detach()
        if normalize:
            probs = probs / probs.sum(-1, keepdim=True)
        self.weight = nn.Parameter(probs.log())

    @classmethod
    def uniform(
        cls, parent_states: Sequence[int], states: int, dtype: torch.dtype = torch.float64
    ) -> Self:
        """A table of equal probabilities.

        Args:
            parent_states: number of states of each parent.
            states: number of the node's own states.
            dtype: of the parameters.
        """
        states = whole_number("states", states)
        parent_states = [whole_number("parent_states", k) for k in parent_states]
        return cls(torch.full((*parent_states, states), 1 / states, dtype=dtype))

    @property
    def num_parameters(self) -> int:
        """Free parameters: a row of K states has K - 1."""
        return math.prod(self.parent_states) * (self.states - 1)

    def logits(self, *parents: Tensor) -> Tensor:
        """Rows of the table."""
        logs = self.weight
        if not parents:
            return logs
        return Vindex(logs)[(..., *parents, slice(None))]

    def table(self) -> Tensor:
        """All conditional probabilities."""
        if self.normalize:
            return self.weight.softmax(-1)
        return self.weight.exp()


__all__ = ["TabularCPD"]
