"""The conditional probability tables themselves: any distribution over a few features."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Self

import torch
from torch import Tensor, nn

from pyro_gen.distributions.autoregressive.conditionals import (
    BernoulliConditional,
    CategoricalConditional,
    Conditional,
)
from pyro_gen.nn.autoregressive.base import BERNOULLI, AutoregressiveNetwork

MAX_ROWS = 2**22
"""Rows of the largest table."""


class TabularAR(AutoregressiveNetwork):
    r"""A table of parameters for each feature.

    It has a row for every value of the features before it.

    .. math:: p(x_k = 1 | x_{<k}) = \sigma(f_{k, x_{<k}}), \qquad
              2^{k - 1} \text{ rows}, \quad 2^D - 1 \text{ in all}

    Any distribution over D binary features can be written so, which is why D is
    limited.

    Args:
        features: number of features D, or the shape of an event.
        context: width of a context whose linear function is added to the
            parameters of each feature.
        order: features in the order of generation.
        conditional: the family of the conditional distributions, with finitely
            many values.

    Raises:
        ValueError: the tables would have more than 2^22 rows, or
            ``conditional`` is neither Bernoulli nor categorical.

    Example:
        >>> TabularAR(4).num_parameters  # 2**4 - 1
        15
    """

    states: Tensor

    def __init__(
        self,
        features: int | Sequence[int],
        context: int = 0,
        order: Sequence[int] | Tensor | None = None,
        conditional: Conditional = BERNOULLI,
    ) -> None:
        super().__init__(features, context, order, conditional, bias=False)
        if not isinstance(conditional, BernoulliConditional | CategoricalConditional):
            raise ValueError(
                f"`conditional` must be Bernoulli or categorical for a table, got {conditional}"
            )
        states = conditional.num_states(self.features)
        rows = sum(
            accumulate(
                (states[feature] for feature in self.order[:-1].tolist()), operator.mul, initial=1
            )
        )
        if rows > MAX_ROWS:
            raise ValueError(
                f"`features` is too large for tables: {self.features} features with "
                f"{math.prod(states):.4g} states "
                f"take {rows:.4g} rows, the limit is {MAX_ROWS}; FVSBN and NADE need no table"
            )
        self.register_buffer("states", torch.tensor(states), persistent=False)
        self.table = nn.Parameter(torch.zeros(rows, conditional.num_parameters))

    @property
    def arities(self) -> Tensor:
        """Values of each feature, in the order of generation."""
        return self.states[self.order]

    @property
    def offsets(self) -> Tensor:
        """First row of each feature's table, in the order of generation."""
        last_rows = self.arities[:-1].cumprod(0).cumsum(0)
        return torch.cat([last_rows.new_tensor([0, 1]), 1 + last_rows])[: self.features]

    @property
    def num_parameters(self) -> int:
        """One fewer than states: 2^D - 1 for D binary features; and what the context takes."""
        free = math.prod(self.conditional.num_states(self.features) or ()) - 1
        if self.from_context is None:
            return free
        return free + self.from_context.weight.numel()

    @classmethod
    def from_data(cls, x: Tensor, *args: Any, **settings: Any) -> Self:
        """Tables of the shares in the data: no training is needed.

        Each has one more observation of every value.

        Args:
            x: rows of data, (n, features).
            *args: what the constructor takes after ``features``.
            **settings: likewise.
        """
        return super().from_data(x, *args, **settings)

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        """Set the tables to the smoothed shares of data.

        Args:
            x: rows of data, (n, features).
        """
        value = x[:, self.order].long()
        rows = self._rows(value)
        width = int(self.arities.max())
        counts = torch.bincount(
            (rows * width + value).flatten(), minlength=len(self.table) * width
        )
        logs = (counts.view(-1, width).to(self.table) + 1).log()
        bernoulli = self.conditional.num_parameters == 1
        if bernoulli:
            logs = logs[:, 1:] - logs[:, :1]
        self.table.copy_(logs)

    def _rows(self, value: Tensor) -> Tensor:
        """Rows (n, features) of the table with each feature's distribution.

        Labels are in the order of generation.
        """
        # What is no label must not read another row.
        value = torch.minimum(value.clamp(min=0), self.arities - 1)
        number = torch.zeros_like(value[:, 0])
        rows = []
        for arity, label in zip(self.arities.unbind(), value.unbind(1), strict=True):
            rows.append(number)
            number = number * arity + label
        return torch.stack(rows, 1) + self.offsets

    def parameters_in_order(self, value: Tensor, context: Tensor | None) -> Tensor:
        """A look-up of each feature's row."""
        return self._finished(
            self.table[self._rows(value.long())], self._shift(context), slice(None)
        )

    def first(self, rows: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The state is the number of what has been generated."""
        return self.table[:1].expand(rows, -1), torch.zeros(
            rows, dtype=torch.int64, device=self.table.device
        )

    def after(self, state: Tensor, value: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """One more digit of the number."""
        number = state * self.arities[position - 1] + value.long()
        return self.table[self.offsets[position] + number], number


__all__ = ["MAX_ROWS", "TabularAR"]
