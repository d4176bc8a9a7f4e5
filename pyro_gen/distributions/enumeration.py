"""Sums over all states of the smaller side of a two-layer energy model, streamed in blocks of bounded memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Size, Tensor

from pyro_gen.distributions.products import fits, log_sum_by_products
from pyro_gen.distributions.streaming import Blocks, blocks, streamed_log_sum
from pyro_gen.distributions.units import BernoulliUnits, Units


class Side(NamedTuple):
    """The unit types of the enumerated (smaller) side and of the other, how many units the first has, which it is."""

    small: Units
    large: Units
    num_units: int
    visible_first: bool

    @property
    def num_states(self) -> int:
        """States of the smaller side."""
        number = self.small.count_states(self.num_units)
        if number is None:
            raise ValueError(f"the states of {self.small} cannot be enumerated")
        return number

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The parameters of the units."""
        return *self.small.parameters.values(), *self.large.parameters.values()

    def replace(self, *parameters: Tensor) -> Side:
        """The same types of units with other parameters."""
        names = tuple(self.small.parameters)
        small = self.small.replace(**dict(zip(names, parameters, strict=False)))
        rest = dict(zip(self.large.parameters, parameters[len(names) :], strict=True))
        return self._replace(small=small, large=self.large.replace(**rest))


def _block_log_terms(side: Side, start: int, stop: int, weight: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Log of the joint summed over the larger side, for the smaller side's states ``start`` to ``stop - 1``."""
    states = side.small.states(torch.arange(start, stop, device=weight.device), side.num_units, weight)
    terms = side.large.lifted().cumulant(states @ weight + large.unsqueeze(-2))
    return terms - side.small.lifted().energy(states, small.unsqueeze(-2))


def _blocks(side: Side, weight: Tensor, small: Tensor, large: Tensor) -> Blocks:
    own = side.small.batch_shape, side.large.batch_shape
    batch = torch.broadcast_shapes(weight.shape[:-2], small.shape[:-1], large.shape[:-1], *own).numel()
    return blocks(side.num_states, weight.element_size() * max(weight.shape[-2:]) * batch)


def log_sum(side: Side, weight: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Log of the sum of exp(-energy) over all states of both sides.

    One block is left to autograd (so that it can be differentiated twice); more have their own backward pass.

    Args:
        side: the unit types and the number of enumerated units.
        weight: (..., small, large).
        small: bias of the smaller side, (..., small).
        large: bias of the larger side, (..., large).

    Returns:
        Tensor with the batch shape of the parameters.
    """

    def terms(start: int, stop: int, weight: Tensor, small: Tensor, large: Tensor, *own: Tensor) -> Tensor:
        return _block_log_terms(side.replace(*own), start, stop, weight, small, large)

    def value(weight: Tensor, small: Tensor, large: Tensor, *own: Tensor) -> Tensor | None:
        if type(side.small) is type(side.large) is BernoulliUnits and fits(weight, small, large):
            return log_sum_by_products(weight, small, large).to(weight.dtype)
        return None

    ranges = _blocks(side, weight, small, large)
    return streamed_log_sum(terms, ranges, weight, small, large, *side.parameters, value=value)


@torch.no_grad()
def log_terms(side: Side, weight: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Log of the unnormalised marginal of each state of the smaller side, shape (..., states); no gradient."""
    ranges = _blocks(side, weight, small, large)
    return torch.cat([_block_log_terms(side, *block, weight, small, large) for block in ranges], -1)


def draw_index(log_weights: Tensor, shape: Size) -> Tensor:
    """Indices of shape ``shape`` with probabilities exp(log_weights) (..., states), by inversion in float64."""
    cumulative = log_weights.double().softmax(-1).cumsum(-1)
    batch = Size(shape[len(shape) - cumulative.dim() + 1 :])
    uniform = torch.rand(shape, dtype=torch.float64, device=log_weights.device) * cumulative[..., -1]
    if Size(cumulative.shape[:-1]).numel() == 1:
        return torch.searchsorted(cumulative.flatten(), uniform, right=True)
    rows = uniform.reshape(-1, *batch).movedim(0, -1).contiguous()
    index = torch.searchsorted(cumulative.expand(*batch, -1).contiguous(), rows, right=True)
    return index.movedim(-1, 0).reshape(shape)


__all__ = ["Side", "draw_index", "log_sum", "log_terms"]
