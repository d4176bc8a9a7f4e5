"""Fully visible networks.

Logistic regressions on all features before, or a small network for each
conditional.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.autoregressive.conditionals import Conditional
from pyro_gen.nn.autoregressive.base import BERNOULLI, AutoregressiveNetwork, context_map


def before(features: int) -> Tensor:
    """Mask of the features (rows) that come before others (columns) in the order of generation."""
    return torch.ones(features, features, dtype=torch.bool).triu(1)


class FVSBN(AutoregressiveNetwork):
    r"""Fully visible sigmoid belief network.

    Every distribution is linear in the features before it.

    .. math:: f_k = b_k + \sum_{j < k} x_j W_{jk}, \qquad p(x_k = 1 | x_{<k}) = \sigma(f_k)

    with O(D^2) parameters; for other distributions than Bernoulli f is the
    vector of their parameters.

    Args:
        features: number of features D, or the shape of an event.
        context: width of the context.
        order: features in the order of generation.
        conditional: the family of the conditional distributions.

    References:
        Neal (1992), Connectionist learning of belief networks. Frey, Hinton and
        Dayan (1996), Does the wake-sleep algorithm produce good density
        estimators?

    Example:
        >>> FVSBN(4).num_parameters  # 4 * 5 / 2
        10
    """

    mask: Tensor

    def __init__(
        self,
        features: int | Sequence[int],
        context: int = 0,
        order: Sequence[int] | Tensor | None = None,
        conditional: Conditional = BERNOULLI,
    ) -> None:
        super().__init__(features, context, order, conditional)
        count = self.features
        self.weight = nn.Parameter(
            torch.zeros(count, conditional.width, count, conditional.num_parameters)
        )
        self.register_buffer("mask", before(count)[:, None, :, None], persistent=False)

    @property
    def num_parameters(self) -> int:
        """Weights from earlier features, biases, and what the context takes."""
        features, width, _, parameters = self.weight.shape
        return super().num_parameters - width * parameters * features * (features + 1) // 2

    def readout(self) -> Sequence[Tensor]:
        """The weights."""
        return (self.weight,)

    def _matrix(self) -> Tensor:
        return torch.where(self.mask, self.weight, 0).flatten(2).flatten(0, 1)

    def network(self, x: Tensor, context: Tensor | None) -> Tensor:
        """One product with the masked weights."""
        return (x.flatten(1) @ self._matrix()).unflatten(-1, (self.features, -1))

    def first(self, rows: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The state is what the features so far add to each later distribution."""
        sums = self.weight.new_zeros(rows, self.features, self.conditional.num_parameters)
        return sums[:, 0], sums

    def after(self, state: Tensor, value: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Add one feature to all distributions after it."""
        new = self.encode(value) @ self.weight[position - 1, :, position:].flatten(1)
        sums = state[:, 1:] + new.unflatten(-1, (self.features - position, -1))
        return sums[:, 0], sums


class PerConditionalMLP(AutoregressiveNetwork):
    r"""A network of its own, with one hidden layer, for every conditional distribution.

    .. math:: h_k = \sigma\Big(c_k + \sum_{j < k} x_j A_{jk}\Big), \qquad f_k = b_k + V_k h_k

    with O(D^2 H) parameters.

    Args:
        features: number of features D, or the shape of an event.
        hidden_features: hidden units H of each distribution.
        context: width of the context, which the hidden units see too.
        order: features in the order of generation.
        conditional: the family of the conditional distributions.
        activation: of the hidden units.

    Raises:
        ValueError: there are no hidden units.

    References:
        Bengio and Bengio (2000), Modeling high-dimensional discrete data with
        multi-layer neural networks.

    Example:
        >>> PerConditionalMLP(3, 2).num_parameters  # weights 2 * (0 + 1 + 2), and 3 * (2 + 2 + 1)
        21
    """

    mask: Tensor

    def __init__(
        self,
        features: int | Sequence[int],
        hidden_features: int,
        context: int = 0,
        order: Sequence[int] | Tensor | None = None,
        conditional: Conditional = BERNOULLI,
        activation: Callable[[Tensor], Tensor] = torch.sigmoid,
    ) -> None:
        super().__init__(features, context, order, conditional)
        hidden_features = whole_number("hidden_features", hidden_features)
        self.hidden_features = hidden_features
        self.activation = activation
        count = self.features
        width = conditional.width
        parameters = conditional.num_parameters
        inputs = (torch.arange(count) * width + context).clamp(min=1)
        self.weight = nn.Parameter(
            torch.randn(count, width, count, hidden_features) / inputs.sqrt().unsqueeze(-1)
        )
        self.hidden_bias = nn.Parameter(torch.zeros(count, hidden_features))
        self.output = nn.Parameter(
            torch.randn(count, hidden_features, parameters) / hidden_features**0.5
        )
        self.hidden_from_context = context_map(context, count * hidden_features)
        self.register_buffer("mask", before(count)[:, None, :, None], persistent=False)

    @property
    def num_parameters(self) -> int:
        """Weights from earlier features, biases, output weights, and what the context takes."""
        features, width, _, hidden = self.weight.shape
        return super().num_parameters - width * hidden * features * (features + 1) // 2

    def readout(self) -> Sequence[Tensor]:
        """Output weights."""
        return (self.output,)

    def network(self, x: Tensor, context: Tensor | None) -> Tensor:
        """All hidden layers by one product with the masked weights."""
        matrix = torch.where(self.mask, self.weight, 0).flatten(2).flatten(0, 1)
        fields = (x.flatten(1) @ matrix).unflatten(-1, (self.features, -1)) + self._start(context)
        return torch.einsum("nkh,khp->nkp", self.activation(fields), self.output)

    def first(self, rows: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The state is what the features so far add to each later distribution's hidden units."""
        fields = self._start(context).expand(rows, -1, -1)
        return self.activation(fields[:, 0]) @ self.output[0], fields

    def after(self, state: Tensor, value: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Add one feature to the hidden units of all distributions after it."""
        new = self.encode(value) @ self.weight[position - 1, :, position:].flatten(1)
        fields = state[:, 1:] + new.unflatten(-1, (self.features - position, -1))
        return self.activation(fields[:, 0]) @ self.output[position], fields

    def _start(self, context: Tensor | None) -> Tensor:
        """Hidden fields before any feature is known."""
        field = self._mapped(self.hidden_from_context, context)
        if field is None:
            return self.hidden_bias
        return self.hidden_bias + field.unflatten(-1, (self.features, -1))


__all__ = ["FVSBN", "PerConditionalMLP", "before"]
