"""Densities over strings of varying length.

Symbols, an end symbol, and padding by it up to a common length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.autoregressive.conditionals.discrete import CategoricalConditional
from pyro_gen.distributions.autoregressive.density import Autoregressive
from pyro_gen.distributions.autoregressive.feature_density import ENUMERABLE


class Strings(constraints.Constraint):
    """Rows of symbols 0 ... K - 1, in which only ends K follow an end K."""

    is_discrete = True
    event_dim = 1

    def __init__(self, num_symbols: int) -> None:
        self.num_symbols = num_symbols

    def check(self, value: Tensor) -> Tensor:
        """Check that each row is such a string."""
        labels = (value >= 0) & (value <= self.num_symbols) & (value % 1 == 0)
        ended = value == self.num_symbols
        return labels.all(-1) & (ended[..., 1:] | ~ended[..., :-1]).all(-1)


class SymbolConditional(CategoricalConditional):
    """Symbols 0 ... K - 1 and the end K of a string; the parameters are log odds.

    Args:
        num_symbols: number K of symbols without the end.

    Raises:
        ValueError: there is no symbol.
    """

    def __init__(self, num_symbols: int) -> None:
        num_symbols = whole_number("num_symbols", num_symbols)
        super().__init__(num_symbols + 1)

    @property
    def end(self) -> int:
        """The end symbol, K."""
        return self.num_parameters - 1

    def support(self, features: int) -> constraints.Constraint:
        """Strings."""
        return Strings(self.end)


class AutoregressiveStrings(Autoregressive):
    r"""A density over strings of symbols 0 ... K - 1.

    Strings are integer rows of a fixed length L, padded with the end K.

    .. math:: p(x) = \prod_{k=1}^{\min(|x| + 1, L)} p(x_k | x_1, \dots, x_{k-1}), \qquad
              x_{|x| + 1} = K

    A row with an end stands for one string of fewer than L symbols. A row
    without any stands for all strings that begin with its L symbols: together
    these rows are the tail. Rows with end and rows without have probabilities
    that sum to one. Whatever follows an end is an end, with probability one.

    ``nn.SequenceAR`` makes these; the arguments are those of
    :class:`Autoregressive`.

    Example:
        >>> from pyro_gen import nn
        >>> density = nn.SequenceAR(2, num_symbols=2, hidden_features=3)()
        >>> density.enumerate_support().tolist()
        [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 2]]
    """

    @property
    def end(self) -> int:
        """The end symbol."""
        return self.conditional.num_parameters - 1

    def lengths(self, value: Tensor) -> Tensor:
        """Symbols of each string before its end, at most L."""
        return (value != self.end).sum(-1)

    @property
    def num_states(self) -> float:
        """Strings of fewer than L symbols, and beginnings of L symbols."""
        return sum(float(self.end) ** length for length in range(self.features + 1))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All rows, the last place changing fastest.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (num_states,) + batch_shape + (L,), with ones for the batch
            where ``expand`` is False.

        Raises:
            NotImplementedError: there are more than 2^20.
        """
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"{self.num_states} strings are too many to list, the limit is {ENUMERABLE}"
            )
        rows = torch.zeros(1, 0, dtype=torch.int64, device=self.conditioner.example.device)
        for length in range(self.features):
            longer = torch.cat(
                [rows.new_full((len(rows), 1), symbol) for symbol in range(self.end)]
            )
            longer = torch.cat([longer, rows.repeat(self.end, 1)], 1)
            rows = torch.cat([longer, rows.new_full((1, length + 1), self.end)])
        return self._listed(rows, expand)


__all__ = ["AutoregressiveStrings", "Strings", "SymbolConditional"]
