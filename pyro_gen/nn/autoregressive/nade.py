"""The neural autoregressive density estimator.

One hidden layer that the features enter one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.autoregressive.conditionals import BernoulliConditional, Conditional
from pyro_gen.kernels import nade_fields, nade_sample
from pyro_gen.nn.autoregressive.base import BERNOULLI, AutoregressiveNetwork, context_map


class NADE(AutoregressiveNetwork):
    r"""Neural autoregressive density estimator.

    One hidden layer to which each feature is added in turn.

    .. math:: a_1 = c, \qquad h_k = \sigma(a_k), \qquad f_k = b_k + V_k h_k, \qquad
              a_{k+1} = a_k + x_k W_k

    with O(D H) parameters, and O(D H) operations a row for the log probability,
    its gradient and a sample. For other distributions than Bernoulli f is the
    vector of their parameters, and a feature enters as its distribution encodes
    it: labels one-hot (then W holds an embedding of each label), real numbers
    standardised by :meth:`from_data` (RNADE).

    Args:
        features: number of features D, or the shape of an event.
        hidden_features: hidden units H.
        context: width of the context, which the hidden units see too.
        order: features in the order of generation.
        conditional: the family of the conditional distributions.

    Raises:
        ValueError: there are no hidden units.

    References:
        Larochelle and Murray (2011), The neural autoregressive distribution
        estimator, equations 9 to 12 and Algorithm 1. Uria, Murray and
        Larochelle (2013), RNADE: the real-valued neural autoregressive
        density-estimator.

    Example:
        >>> nade = NADE(4, 3)
        >>> nade.num_parameters  # W 3 * 3, V 4 * 3, b 4, c 3
        28
        >>> nade().sample((2,)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        features: int | Sequence[int],
        hidden_features: int,
        context: int = 0,
        order: Sequence[int] | Tensor | None = None,
        conditional: Conditional = BERNOULLI,
    ) -> None:
        super().__init__(features, context, order, conditional)
        hidden_features = whole_number("hidden_features", hidden_features)
        self.hidden_features = hidden_features
        width = conditional.width
        parameters = conditional.num_parameters
        # The last feature's weights are there for the shape alone.
        self.weight = nn.Parameter(
            torch.randn(self.features, width, hidden_features) / self.features**0.5
        )
        self.output = nn.Parameter(
            torch.randn(self.features, parameters, hidden_features) / hidden_features**0.5
        )
        self.hidden_bias = nn.Parameter(torch.zeros(hidden_features))
        self.hidden_from_context = context_map(context, hidden_features)

    @property
    def num_parameters(self) -> int:
        """Weights but the last feature's, biases, and what the context takes."""
        return super().num_parameters - self.weight[0].numel()

    def readout(self) -> Sequence[Tensor]:
        """Output weights V."""
        return (self.output,)

    def network(self, x: Tensor, context: Tensor | None) -> Tensor:
        """All fields by one call of the kernel."""
        return nade_fields(x, self.weight, self._start(len(x), context), self.output)

    def first(self, rows: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The state is the activations of the hidden units."""
        a = self._start(rows, context)
        return a.sigmoid() @ self.output[0].mT, a

    def after(self, state: Tensor, value: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Add one feature to the activations."""
        a = torch.addmm(state, self.encode(value), self.weight[position - 1])
        return a.sigmoid() @ self.output[position].mT, a

    def generate(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Binary rows by one call of the kernel, others step by step."""
        if not isinstance(self.conditional, BernoulliConditional):
            return super().generate(noise, context)
        start = self._start(noise.shape[1], context)
        shift = self._shift(context)
        bias = self._finished(
            self.output.new_zeros(noise.shape[1], self.features, 1), shift, slice(None)
        )
        values, logits = nade_sample(
            noise.squeeze(-1), self.weight, start, self.output, bias.squeeze(-1)
        )
        return values, self.conditional.log_prob(logits.unsqueeze(-1), values).sum(-1)

    def _start(self, rows: int, context: Tensor | None) -> Tensor:
        """Activations before any feature is known."""
        field = self._mapped(self.hidden_from_context, context)
        if field is None:
            return self.hidden_bias.expand(rows, -1)
        return self.hidden_bias + field


__all__ = ["NADE"]
