"""Strings of varying length: a recurrent network that ends each string by itself."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import torch
from torch import Size, Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.autoregressive.strings import AutoregressiveStrings, SymbolConditional
from pyro_gen.nn.autoregressive.recurrent import Recurrence, StepwiseNetwork
from pyro_gen.nn.autoregressive.snapshot import snapshot, twin


class SequenceAR(StepwiseNetwork):
    r"""A recurrent network over symbols 0 ... K - 1 and an end symbol K.

    A distribution of strings of any length.

    .. math:: h_k = \text{cell}(e_k + E_{x_{k-1}} + C c, h_{k-1}), \qquad
              p(x_k | x_{<k}) = \text{softmax}(V h_k + b)_{x_k}, \qquad p(K | x_{k-1} = K) = 1

    No weight depends on the place, so that the same weights serve any length;
    calling the network returns
    :class:`pyro_gen.distributions.AutoregressiveStrings` over rows of the
    length given here, or of another one given to :meth:`of_length`. Strings as
    long as a row or longer are its tail.

    Long strings make gradients explode: clip them, as with
    ``pyro.optim.Adam({"lr": 1e-3}, {"clip_norm": 1.0})``.

    Args:
        length: places L of a row.
        num_symbols: number K of symbols without the end.
        hidden_features: units of each layer of cells.
        num_layers: layers of cells.
        context: width of the context, which every step sees.
        cell: ``"gru"`` or ``"lstm"``.

    Raises:
        ValueError: a number is too small, or there is no such cell.

    References:
        Graves (2013), Generating sequences with recurrent neural networks,
        section 2. Pascanu, Mikolov and Bengio (2013), On the difficulty of
        training recurrent neural networks, algorithm 1 (clipping).

    Example:
        >>> letters = SequenceAR(4, num_symbols=2, hidden_features=3)
        >>> letters.padded([[0, 1], []]).tolist()
        [[0, 1, 2, 2], [2, 2, 2, 2]]
        >>> letters().log_prob(letters.padded([[0, 1], []])).shape
        torch.Size([2])
    """

    def __init__(
        self,
        length: int,
        num_symbols: int,
        hidden_features: int,
        num_layers: int = 1,
        context: int = 0,
        cell: Literal["gru", "lstm"] = "gru",
    ) -> None:
        hidden_features = whole_number("hidden_features", hidden_features)
        core = Recurrence(hidden_features, hidden_features, num_layers, cell)
        symbols = SymbolConditional(num_symbols)
        # Two places have every weight that more of them have.
        super().__init__(
            2,
            core,
            hidden_features,
            hidden_features,
            context,
            None,
            symbols,
            shared=True,
            bias=False,
        )
        self.end = symbols.end
        self.from_context = None  # it would depend on the place; the cells see the context
        self.symbol_bias = nn.Parameter(torch.zeros(num_symbols + 1))
        self.register_buffer("order", self.order, persistent=False)
        self._resize(length)

    def _resize(self, length: int) -> None:
        length = whole_number("length", length)
        self.event_shape = Size((length,))
        self._buffers["order"] = torch.arange(length, device=self.example.device)

    def of_length(self, length: int) -> Self:
        """A view of the network for rows of another length, which shares all weights.

        Args:
            length: places of a row.

        Raises:
            ValueError: there is no place.
        """
        view = twin(self)
        view._buffers = dict(self._buffers)
        view._resize(length)
        return view

    def forward(self, context: Tensor | None = None) -> AutoregressiveStrings:
        """The density over the weights' present values.

        Args:
            context: (..., context) where the network takes one; its batch shape
                is that of the density.
        """
        return AutoregressiveStrings(snapshot(self), context)

    def padded(self, strings: Iterable[Sequence[int]]) -> Tensor:
        """Strings as rows of symbols, padded with the end.

        Args:
            strings: of symbols 0 ... K - 1; the first L symbols stand for a
                string of more.

        Returns:
            Integers of shape (n, L).

        Raises:
            ValueError: a symbol is no whole number from 0 to K - 1.
        """
        rows = [[self._symbol(symbol) for symbol in string] for string in strings]
        rows = [row[: self.features] for row in rows]
        paddings = [[self.end] * (self.features - len(row)) for row in rows]
        padded = torch.tensor(
            [row + end for row, end in zip(rows, paddings, strict=True)], dtype=torch.int64
        )
        return padded.view(-1, self.features).to(self.example.device)

    def _symbol(self, symbol: Any) -> int:
        """A symbol as a number of Python."""
        try:
            number = operator.index(symbol)
        except TypeError:
            number = -1
        if isinstance(symbol, bool) or not 0 <= number < self.end:
            raise ValueError(
                f"`strings` must hold symbols from 0 to {self.end - 1}, got the symbol {symbol!r}"
            )
        return number

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        """Set the biases to the shares of the symbols, and of the end among them.

        Args:
            x: rows of data, (n, L).
        """
        ended = x == self.end
        x = x[torch.cat([torch.zeros_like(ended[:, :1]), ended[:, :-1]], 1).logical_not()].long()
        counts = torch.bincount(x, minlength=self.end + 1).to(self.symbol_bias)
        self.symbol_bias.copy_((counts + 1).log() - math.log(len(x) + self.end + 1))

    def network(self, x: Tensor, context: Tensor | None) -> Tensor:
        """All steps at once; what follows an end is settled."""
        ended = torch.cat([torch.zeros_like(x[:, :1, 0]), x[:, :-1, self.end]], 1).bool()
        return self._settled(super().network(x, context), ended)

    def first(self, rows: int, context: Tensor | None) -> tuple[Tensor, Any]:
        """The state is that of the cells; a string may be empty."""
        parameters, state = super().first(rows, context)
        return parameters + self.symbol_bias, state

    def after(self, state: Any, value: Tensor, position: int) -> tuple[Tensor, Any]:
        """One step of the cells."""
        parameters, state = super().after(state, value, position)
        return self._settled(parameters, value == self.end), state

    def _settled(self, parameters: Tensor, ended: Tensor) -> Tensor:
        symbols = torch.arange(self.end + 1, device=parameters.device) < self.end
        return (parameters + self.symbol_bias).masked_fill(
            ended.unsqueeze(-1) & symbols, -math.inf
        )


__all__ = ["SequenceAR"]
