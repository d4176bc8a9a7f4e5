"""Sums over all states of the smaller side of a two-layer energy model, streamed
in blocks of bounded memory.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Size, Tensor

from pyro_gen.distributions.energy.normalisable import gaussian_draw, gaussian_log_sum
from pyro_gen.distributions.energy.products import fits, log_sum_by_products
from pyro_gen.distributions.streaming import Blocks, blocks, draw_index, streamed_log_sum
from pyro_gen.distributions.units import BernoulliUnits, GaussianUnits, Units
from pyro_gen.kernels.gibbs.reference import field

Parameters = tuple[Tensor, Tensor, Tensor]
Sides = tuple[Units, Units]


class Side(NamedTuple):
    """The unit types of the enumerated (smaller) side and of the other, how many
    units the first has, which it is.
    """

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
        """Copy with other parameters of the same types of units."""
        names = tuple(self.small.parameters)
        small = self.small.replace(**dict(zip(names, parameters, strict=False)))
        large_parameters = dict(zip(self.large.parameters, parameters[len(names) :], strict=True))
        return self._replace(small=small, large=self.large.replace(**large_parameters))


def _block_log_terms(
    side: Side, start: int, stop: int, weight: Tensor, small: Tensor, large: Tensor
) -> Tensor:
    """Log of the joint summed over the larger side, for the smaller side's states
    ``start`` to ``stop - 1``.
    """
    states = side.small.states(
        torch.arange(start, stop, device=weight.device), side.num_units, weight
    )
    terms = side.large.lifted().cumulant(states @ weight + large.unsqueeze(-2))
    return terms - side.small.lifted().energy(states, small.unsqueeze(-2))


def _blocks(side: Side, weight: Tensor, small: Tensor, large: Tensor) -> Blocks:
    unit_batches = side.small.batch_shape, side.large.batch_shape
    batch = torch.broadcast_shapes(
        weight.shape[:-2], small.shape[:-1], large.shape[:-1], *unit_batches
    ).numel()
    return blocks(side.num_states, weight.element_size() * max(weight.shape[-2:]) * batch)


def log_sum(side: Side, weight: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Log of the sum of exp(-energy) over all states of both sides.

    One block is left to autograd (so that it can be differentiated twice); more
    have their own backward pass.

    Args:
        side: the unit types and the number of enumerated units.
        weight: (..., small, large).
        small: bias of the smaller side, (..., small).
        large: bias of the larger side, (..., large).

    Returns:
        Tensor with the batch shape of the parameters.
    """

    def terms(
        start: int,
        stop: int,
        weight: Tensor,
        small: Tensor,
        large: Tensor,
        *unit_parameters: Tensor,
    ) -> Tensor:
        return _block_log_terms(side.replace(*unit_parameters), start, stop, weight, small, large)

    def value(
        weight: Tensor, small: Tensor, large: Tensor, *unit_parameters: Tensor
    ) -> Tensor | None:
        if type(side.small) is type(side.large) is BernoulliUnits and fits(weight, small, large):
            return log_sum_by_products(weight, small, large).to(weight.dtype)
        return None

    ranges = _blocks(side, weight, small, large)
    return streamed_log_sum(terms, ranges, weight, small, large, *side.parameters, value=value)


@torch.no_grad()
def log_terms(side: Side, weight: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Log of the unnormalised marginal of each state of the smaller side, shape (..., states).

    No gradient.
    """
    ranges = _blocks(side, weight, small, large)
    return torch.cat(
        [_block_log_terms(side, *block, weight, small, large) for block in ranges], -1
    )


def numbers_of_states(energy_parameters: Parameters, units: Sides) -> tuple[float, float]:
    """States of the visible and of the hidden side.

    Args:
        energy_parameters: weight, visible bias and hidden bias.
        units: bound types of the visible and of the hidden units.
    """
    counts = [
        side.count_states(bias.shape[-1])
        for side, bias in zip(units, energy_parameters[1:], strict=True)
    ]
    visible, hidden = (math.inf if count is None else count for count in counts)
    return visible, hidden


def smaller_first(
    energy_parameters: Parameters, units: Sides
) -> tuple[Side, Tensor, Tensor, Tensor]:
    """Unit types, weight and biases with the side that has fewer states (of
    Gaussian units: units) first.

    Args:
        energy_parameters: weight, visible bias and hidden bias.
        units: bound types of the visible and of the hidden units.
    """
    weight, vbias, hbias = energy_parameters
    numbers = numbers_of_states(energy_parameters, units)
    (visible, hidden) = weight.shape[-2:]
    sizes = numbers if min(numbers) < math.inf else (visible, hidden)
    if sizes[0] <= sizes[1]:
        return Side(*units, visible, True), weight, vbias, hbias
    return Side(units[1], units[0], hidden, False), weight.mT, hbias, vbias


def two_layer_log_sum(energy_parameters: Parameters, units: Sides) -> Tensor:
    """Exact log Z over the smaller side, or the Gaussian integral.

    Args:
        energy_parameters: weight, visible bias and hidden bias.
        units: bound types of the visible and of the hidden units.
    """
    side, weight, small, large = smaller_first(energy_parameters, units)
    if isinstance(side.small, GaussianUnits) and isinstance(side.large, GaussianUnits):
        return gaussian_log_sum(weight, small, large, side.small, side.large)
    return log_sum(side, weight, small, large)


def two_layer_draw(
    energy_parameters: Parameters, units: Sides, shape: Size
) -> tuple[Tensor, Tensor]:
    """Exact visible and hidden states: the smaller side from its marginal, then the
    larger side given it.

    Args:
        energy_parameters: weight, visible bias and hidden bias.
        units: bound types of the visible and of the hidden units.
        shape: sample shape and batch shape.
    """
    side, weight, small, large = smaller_first(energy_parameters, units)
    if isinstance(side.small, GaussianUnits) and isinstance(side.large, GaussianUnits):
        states = gaussian_draw(weight, small, large, side.small, side.large, shape)
    else:
        index = draw_index(log_terms(side, weight, small, large), shape)
        states = side.small.states(index, side.num_units, weight)
    other = side.large.conditional(field(states, weight, large)).sample()
    if side.visible_first:
        return (states, other)
    return (other, states)


__all__ = [
    "Side",
    "log_sum",
    "log_terms",
    "numbers_of_states",
    "smaller_first",
    "two_layer_draw",
    "two_layer_log_sum",
]
