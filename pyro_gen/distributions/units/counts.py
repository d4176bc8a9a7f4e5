"""Units with counts or categories: Potts sites, stepped sigmoids (NReLU), word counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import one_hot

from pyro_gen._arguments import whole_fields
from pyro_gen.distributions.units.base import Units
from pyro_gen.distributions.units.special import (
    indices_by_inversion,
    stepped_cumulant,
    stepped_energy,
    stepped_mean,
    stepped_quantile,
)


class _OneHotSites(constraints.Constraint):
    """Concatenated one-hot vectors of length ``num_states``."""

    is_discrete = True
    event_dim = 1

    def __init__(self, num_states: int) -> None:
        self.num_states = num_states

    def check(self, value: Tensor) -> Tensor:
        sites = value.unflatten(-1, (-1, self.num_states))
        ones = (sites == 1).sum(-1) == 1
        return (ones & ((sites == 0).sum(-1) == self.num_states - 1)).all(-1)


@dataclass(frozen=True)
class PottsUnits(Units):
    """Categorical sites as one-hot vectors, one after the other.

    A layer has sites x ``num_states`` units.

    Args:
        num_states: states of a site, at least 2.

    Raises:
        ValueError: ``num_states`` is below 2.

    Example:
        >>> potts = PottsUnits(3)
        >>> potts.encode(torch.tensor([2, 0]))
        tensor([0., 0., 1., 1., 0., 0.])
        >>> potts.decode(torch.tensor([0.0, 0, 1, 1, 0, 0]))
        tensor([2, 0])
    """

    num_states: int

    def __post_init__(self) -> None:
        """Check the number."""
        whole_fields(self, num_states=2)

    def bind(self, name: str, bias: Tensor) -> Self:
        """Itself, where the layer holds whole sites."""
        if bias.shape[-1] % self.num_states:
            raise ValueError(
                f"`{name}` must have a multiple of {self.num_states} units, "
                f"one for each state of a site, got {bias.shape[-1]}"
            )
        return self

    def encode(self, labels: Tensor) -> Tensor:
        """One-hot states (..., sites x num_states) in float32 of labels (..., sites)."""
        return one_hot(labels.long(), self.num_states).flatten(-2).to(torch.get_default_dtype())

    def decode(self, states: Tensor) -> Tensor:
        """Labels (..., sites) of one-hot states (or of fields: the largest)."""
        return self._sites(states).argmax(-1)

    def _sites(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (-1, self.num_states))

    @property
    def support(self) -> constraints.Constraint:
        """One-hot vectors, one after the other."""
        return _OneHotSites(self.num_states)

    def energy(self, states: Tensor, field: Tensor) -> Tensor:
        """Minus the scalar product of states and field."""
        return -(states * field).sum(-1)

    def cumulant(self, field: Tensor) -> Tensor:
        """Sum over the sites of the log of the sum of exp(field)."""
        return self._sites(field).logsumexp(-1).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        """Probabilities of the states of each site."""
        return self._sites(field).softmax(-1).flatten(-2)

    def num_uniforms(self, units: int) -> int:
        """One uniform for each site."""
        return units // self.num_states

    def draw(self, field: Tensor, uniform: Tensor) -> Tensor:
        """One state for each site."""
        labels = indices_by_inversion(self._sites(field).softmax(-1), uniform)
        return one_hot(labels, self.num_states).flatten(-2).to(field.dtype)

    def count_states(self, units: int) -> int:
        """States of a site to the power of the sites."""
        states: int = self.num_states ** (units // self.num_states)
        return states

    def states(self, number: Tensor, units: int, like: Tensor) -> Tensor:
        """The digits of the numbers to the base of a site's states, lowest first."""
        q = self.num_states
        powers = torch.tensor([q**i for i in range(units // q)], device=like.device)
        labels = number.unsqueeze(-1).div(powers, rounding_mode="floor") % q
        return one_hot(labels, q).flatten(-2).to(like.dtype)

    @property
    def alternatives(self) -> tuple[int, int]:
        """A site is ``num_states`` units with as many states."""
        return self.num_states, self.num_states

    def roll(self, site: Tensor, shift: int) -> Tensor:
        """The state ``shift`` places after the present one."""
        return site.roll(shift, -1)

    @property
    def mean_range(self) -> tuple[float, float]:
        """Zero to one."""
        return 0.0, 1.0

    def from_moments(
        self, mean: Tensor, variance: Tensor | None, margin: float
    ) -> tuple[Tensor, Self]:
        """The log rates, kept from zero by ``margin``."""
        return self._sites(mean.clamp(min=margin)).log().log_softmax(-1).flatten(-2), self

    def wrong(self, mean: Tensor, states: Tensor) -> Tensor:
        """Expected number of wrong sites."""
        return (mean - states).abs().sum(-1) / 2


class _WholeNumbers(constraints.Constraint):
    """Vectors of 0, 1, 2, ..."""

    is_discrete = True
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return ((value >= 0) & (value % 1 == 0)).all(-1)


@dataclass(frozen=True)
class NReLUUnits(Units):
    r"""Stepped sigmoid units: active copies of a binary unit with fields f - 1/2, f - 3/2, ...

    Counts 0, 1, 2, ... with mean near log(1 + exp(f)) and variance near
    sigmoid(f), whose Gaussian approximation is the noisy rectified linear unit.
    Kept as counts their distribution is exact, by Euler's identity:

    .. math:: \prod_{i \ge 1} \bigl(1 + e^{f - i + 1/2}\bigr)
              = \sum_n \frac{e^{n f - n^2/2}}{(q; q)_n}, \quad q = e^{-1}, \quad
              U(n) = \frac{n^2}{2} + \log (q; q)_n

    References:
        Nair and Hinton (2010), Rectified linear units improve restricted
        Boltzmann machines, Section 2.

    Example:
        >>> NReLUUnits().mean(torch.tensor([-2.0, 0.0, 10.0])).round(decimals=2)
        tensor([ 0.1200,  0.6800, 10.0000])
    """

    half_line: ClassVar[bool] = True

    @property
    def support(self) -> constraints.Constraint:
        """Vectors of counts."""
        return _WholeNumbers()

    def energy(self, states: Tensor, field: Tensor) -> Tensor:
        """U(n) - n f, summed over the units."""
        return (stepped_energy(states) - states * field).sum(-1)

    def cumulant(self, field: Tensor) -> Tensor:
        """Sum over units and copies of log(1 + exp(f - i + 1/2))."""
        return stepped_cumulant(field).sum(-1)

    def mean(self, field: Tensor) -> Tensor:
        """Sum over the copies of sigmoid(f - i + 1/2)."""
        return stepped_mean(field)

    def draw(self, field: Tensor, uniform: Tensor) -> Tensor:
        """The counts' quantiles."""
        return stepped_quantile(field, uniform)

    def precision(self, like: Tensor) -> Tensor:
        """One: the energy is n^2 / 2 up to a bounded term."""
        return like.new_ones(like.shape[-1:])

    @property
    def mean_range(self) -> tuple[float, float]:
        """Non-negative numbers."""
        return 0.0, math.inf

    def from_moments(
        self, mean: Tensor, variance: Tensor | None, margin: float
    ) -> tuple[Tensor, Self]:
        """The inverse of softplus, kept from zero by ``margin``."""
        mean = mean.clamp(min=margin)
        return mean + (-(-mean).expm1()).log(), self


class _Counts(constraints.Constraint):
    """Vectors of counts with a given sum."""

    is_discrete = True
    event_dim = 1

    def __init__(self, total_count: int | Tensor) -> None:
        self.total_count = total_count

    def check(self, value: Tensor) -> Tensor:
        is_count = ((value >= 0) & (value % 1 == 0)).all(-1)
        return is_count & (value.sum(-1) == self.total_count)


@dataclass(frozen=True, eq=False)
class MultinomialUnits(Units):
    r"""Counts of the words of a document of known length.

    The whole layer is one draw of ``total_count`` words.

    A vector of counts stands for all documents with these counts, so that U(x)
    is minus the log of their number.

    .. math:: \sum_x \frac{N!}{\prod_k x_k!} e^{x \cdot f} = \Bigl(\sum_k e^{f_k}\Bigr)^N

    Args:
        total_count: N, words of each document: a number, or a tensor with a
            batch shape.

    Raises:
        ValueError: a ``total_count`` is below 1.

    References:
        Salakhutdinov and Hinton (2009), Replicated softmax: an undirected topic
        model.

    Example:
        >>> MultinomialUnits(10).mean(torch.zeros(4))
        tensor([2.5000, 2.5000, 2.5000, 2.5000])
    """

    total_count: int | Tensor

    parameter_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "total_count": constraints.positive_integer
    }

    def __post_init__(self) -> None:
        """Check the number."""
        if not isinstance(self.total_count, Tensor):
            whole_fields(self, total_count=1)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The numbers of words where they are a tensor."""
        if isinstance(self.total_count, Tensor):
            return {"total_count": self.total_count}
        return {}

    def replace(self, **parameters: Tensor) -> Self:
        """Units with other numbers of words."""
        return replace(self, **parameters)

    def bind(self, name: str, bias: Tensor) -> Self:
        """Itself, where the numbers of words are on the device of the bias."""
        total_count = self.total_count
        if isinstance(total_count, Tensor) and total_count.device != bias.device:
            raise ValueError(
                f"`total_count` must be on {bias.device} like `{name}`, got {total_count.device}"
            )
        return self

    def lifted(self) -> Self:
        """The numbers of words with a new last dimension."""
        total_count = self.total_count
        if isinstance(total_count, Tensor):
            return self.replace(total_count=total_count.unsqueeze(-1))
        return self

    def _total(self, field: Tensor) -> Tensor:
        return torch.as_tensor(self.total_count, dtype=field.dtype, device=field.device)

    @property
    def support(self) -> constraints.Constraint:
        """Vectors of counts with the sum ``total_count``."""
        return _Counts(self.total_count)

    def energy(self, states: Tensor, field: Tensor) -> Tensor:
        """Minus the log of the multinomial coefficient, minus the field's share."""
        terms = torch.lgamma(states + 1) - states * field
        return terms.sum(-1) - torch.lgamma(self._total(field) + 1)

    def cumulant(self, field: Tensor) -> Tensor:
        """The number of words times the log of the sum of exp(field)."""
        return self._total(field) * field.logsumexp(-1)

    def mean(self, field: Tensor) -> Tensor:
        """The number of words times the words' probabilities."""
        return self._total(field).unsqueeze(-1) * field.softmax(-1)

    def num_uniforms(self, units: int) -> int:
        """One uniform for each word of the longest document."""
        total = self.total_count
        if isinstance(total, int):
            return total
        if total.is_meta:
            return 1
        return int(total.max())

    def draw(self, field: Tensor, uniform: Tensor) -> Tensor:
        """The words' counts."""
        cumulative = field.softmax(-1).cumsum(-1)[..., :-1].contiguous()
        words = torch.searchsorted(cumulative, uniform, right=True)
        places = torch.arange(uniform.shape[-1], device=field.device)
        spoken = (places < self._total(field).unsqueeze(-1)).to(field.dtype)
        return torch.zeros_like(field).scatter_add(-1, words, spoken.expand(words.shape))

    def count_states(self, units: int) -> int | None:
        """Number of vectors of counts, if all documents have the same length."""
        total = self.total_count
        if isinstance(total, int):
            return math.comb(total + units - 1, units - 1)
        return None

    def states(self, number: Tensor, units: int, like: Tensor) -> Tensor:
        """The shares with the given numbers, in lexicographic order."""
        if not isinstance(self.total_count, int):
            return super().states(number, units, like)
        remainder = torch.full_like(number, self.total_count)
        columns = []
        totals = range(self.total_count + 1)
        amounts = torch.tensor(totals, device=like.device)
        for left in range(units - 1, 0, -1):  # units that come after this one
            ways = torch.tensor(
                [math.comb(n + left - 1, left - 1) for n in range(self.total_count + 1)],
                device=like.device,
            )
            remaining = remainder.unsqueeze(-1) - amounts
            upto = (ways[remaining.clamp(min=0)] * (remaining >= 0)).cumsum(-1)
            amount = (upto <= number.unsqueeze(-1)).sum(-1)
            before = upto.gather(-1, (amount - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
            number = number - before * (amount > 0)
            remainder = remainder - amount
            columns.append(amount)
        return torch.stack([*columns, remainder], -1).to(like.dtype)

    @property
    def mean_range(self) -> tuple[float, float]:
        """Non-negative numbers."""
        return 0.0, math.inf

    def from_moments(
        self, mean: Tensor, variance: Tensor | None, margin: float
    ) -> tuple[Tensor, Self]:
        """The log shares of the words, kept off zero by ``margin`` words."""
        return mean.clamp(min=margin).log().log_softmax(-1), self


__all__ = ["MultinomialUnits", "NReLUUnits", "PottsUnits"]
