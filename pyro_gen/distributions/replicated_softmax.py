"""The replicated softmax: an RBM over the word counts of documents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from pyro_gen.distributions.partition import Partition
from pyro_gen.distributions.rbm import RBM
from pyro_gen.distributions.units import MultinomialUnits


class ReplicatedSoftmax(RBM):
    r"""Undirected topic model: an RBM over the counts of the words of a document of known length N.

    .. math:: E(v, h) = -\log \frac{N!}{\prod_k v_k!} - a \cdot v - N\, b \cdot h - v W h, \qquad \sum_k v_k = N

    The hidden bias counts N times, so that its influence grows with the number of words.
    Probabilities are those of the vector of counts; those of one order of the words are smaller by
    the multinomial coefficient.

    Args:
        weight: couplings W, shape (..., words, hidden).
        vbias: bias a of the words, shape (..., words).
        hbias: hidden bias b of one word, shape (..., hidden).
        total_count: N, words of a document: a number, or a tensor with one for each document of a batch.
        partition: how log Z is known, as for :class:`RBM`.
        num_steps: Gibbs sweeps of ``sample`` where no exact draw is possible.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: as for :class:`RBM`; or a ``total_count`` is below 1.

    References:
        Salakhutdinov and Hinton (2009), Replicated softmax: an undirected topic model, equations 3-6.

    Example:
        >>> topics = ReplicatedSoftmax(torch.zeros(4, 2), torch.zeros(4), torch.zeros(2), total_count=3)
        >>> topics.enumerate_support().shape  # 20 ways to share 3 words out among 4
        torch.Size([20, 4])
        >>> lengths = torch.tensor([3, 5])
        >>> ReplicatedSoftmax(torch.zeros(4, 2), torch.zeros(4), torch.zeros(2), lengths).sample().sum(-1)
        tensor([3., 5.])
    """

    def __init__(
        self,
        weight: Tensor,
        vbias: Tensor,
        hbias: Tensor,
        total_count: int | Tensor,
        partition: Partition | None = None,
        num_steps: int | None = None,
        validate_args: bool | None = None,
    ) -> None:
        units = MultinomialUnits(total_count)
        super().__init__(weight, vbias, hbias, partition, num_steps, validate_args, visible_units=units)

    @property
    def total_count(self) -> int | Tensor:
        """Words of each document."""
        total: int | Tensor = self.visible_units.total_count  # type: ignore[attr-defined]  # the type set above
        return total

    @property
    def uncentred(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight and biases of the energy; the hidden bias is multiplied by the number of words."""
        total = self.total_count
        scale = total.unsqueeze(-1) if isinstance(total, Tensor) else total
        return self.weight, self.vbias, self.hbias * scale

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """Constraints of weight, biases and, where it is a tensor, ``total_count``."""
        return {name.removeprefix("visible_"): x for name, x in super().arg_constraints.items()}

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Batch and event shape from the shapes of the parameters."""
        count = arg_shapes.pop("total_count", Size())
        batch, event = super().infer_shapes(**arg_shapes)
        return torch.broadcast_shapes(batch, count), event


__all__ = ["ReplicatedSoftmax"]
