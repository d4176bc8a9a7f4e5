"""DeepNADE: one network for the distribution of any feature given any others.

It serves every order at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pyro_gen._arguments import is_single, whole_number, whole_numbers
from pyro_gen.distributions.autoregressive.conditionals import Conditional
from pyro_gen.distributions.autoregressive.density import Autoregressive
from pyro_gen.distributions.autoregressive.order_agnostic import OrderAgnostic
from pyro_gen.nn.autoregressive.base import (
    BERNOULLI,
    AutoregressiveNetwork,
    checked_order,
    context_map,
)
from pyro_gen.nn.autoregressive.ensemble import AutoregressiveEnsemble
from pyro_gen.nn.autoregressive.snapshot import snapshot, twin

BLOCK = 2**22
"""Hidden activations that are held at once."""


class DeepNADE(AutoregressiveNetwork):
    r"""A feed-forward network for the distributions of all features that it is not given.

    It sees some features and a mask of which.

    .. math:: h^1 = g\big(c + (x \odot m) A + m B + u C\big), \quad
              h^l = g(c^l + h^{l-1} W^l), \quad
              p(x_i | x_m, u) = \text{distribution}\big(b_i + h^L V_i\big)

    with O(D H) parameters for D features (and H^2 for every further hidden
    layer); m is 1 at the features that are known, and u the context. For an
    order, the k-th distribution is that of its k-th feature given those before,
    so that a log probability is exact and takes D passes of the layers after
    the first, in blocks of bounded memory.

    One set of weights serves all orders. ``deep(context, order=order)`` and
    ``deep.with_order(order)`` are the density in that order, ``deep(context)``
    in ``eval()`` or under ``no_grad`` in the network's own. In training mode
    ``deep(context)`` is an ``OrderAgnostic``, whose ``log_prob`` is an estimate
    of the mean log probability over all orders, for one pass:
    ``pyro.sample("x", deep(context), obs=x)`` trains all of them.

    Args:
        features: number of features D, or the shape of an event.
        hidden_features: units of each hidden layer.
        context: width of the context.
        order: features in the order of generation; None for 0, 1, 2, ...
        conditional: the family of the conditional distributions.
        activation: of the hidden units.
        order_agnostic: whether a call in training mode gives the estimate for
            all orders; if not, the density.

    Raises:
        ValueError: a size is below 1, or there is no hidden layer.

    References:
        Uria, Murray and Larochelle (2014), A deep and tractable density
        estimator, ICML.

    Example:
        >>> deep = DeepNADE(5, [8, 8]).eval()
        >>> density = deep(order=(4, 3, 2, 1, 0))
        >>> f"{density.log_prob(density.enumerate_support()).exp().sum().item():.4f}"
        '1.0000'
    """

    def __init__(
        self,
        features: int | Sequence[int],
        hidden_features: int | Sequence[int],
        context: int = 0,
        order: Sequence[int] | Tensor | None = None,
        conditional: Conditional = BERNOULLI,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        *,
        order_agnostic: bool = True,
    ) -> None:
        # Biases here belong to features, not to places.
        super().__init__(features, 0, order, conditional, bias=False)
        sizes = whole_numbers("hidden_features", hidden_features)
        context = whole_number("context", context, 0)
        self.hidden_features = sizes
        self.context = context
        self.activation = activation
        self.order_agnostic = order_agnostic
        width = conditional.width
        parameters = conditional.num_parameters
        scale = (
            2 / (self.features + context)
        ) ** 0.5  # half of the features are known, each by itself and its mask
        self.weight = nn.Parameter(scale * torch.randn(self.features, width, sizes[0]))
        self.mask_weight = nn.Parameter(scale * torch.randn(self.features, sizes[0]))
        self.hidden_bias = nn.Parameter(torch.zeros(sizes[0]))
        self.hidden_from_context = context_map(context, sizes[0])
        self.layers = nn.ModuleList(_layer(a, b) for a, b in itertools.pairwise(sizes))
        self.output = nn.Parameter(
            torch.randn(self.features, sizes[-1], parameters) / sizes[-1] ** 0.5
        )
        self.output_bias = nn.Parameter(torch.zeros(self.features, parameters))

    def forward(
        self, context: Tensor | None = None, order: Sequence[int] | Tensor | None = None
    ) -> Autoregressive:
        """The density in an order; in training mode without one, the estimate for all orders.

        Args:
            context: (..., context) where the network takes one; its batch shape
                is that of the density.
            order: features in the order of generation; None for the network's
                own, or for all of them in training.

        Returns:
            A density, or the estimate for all orders.

        Raises:
            ValueError: ``order`` is no permutation, the context does not fit,
                or the caller needs log probabilities and there is only the
                estimate.
        """
        if order is not None:
            return self.with_order(order)(context)
        if self.order_agnostic and self.training and torch.is_grad_enabled():
            return OrderAgnostic(snapshot(self), context)
        return Autoregressive(snapshot(self), context)

    def with_order(self, order: Sequence[int] | Tensor) -> Self:
        """View of the weights in another order; a call gives the density, in training too.

        Args:
            order: features in the order of generation.

        Raises:
            ValueError: ``order`` is no permutation.
        """
        new = self.in_orders(checked_order(order, self.features).to(self.order.device))
        new.order_agnostic = False
        return new

    def in_orders(self, orders: Tensor) -> Self:
        """View of the weights in another order, or in another for each row.

        Args:
            orders: permutations, (features,) or (rows, features); not checked.
        """
        new = twin(self)
        new._buffers = self._buffers | {
            "order": orders
        }  # weights stay where they are: one dictionary for both
        return new

    def readout(self) -> Sequence[Tensor]:
        """Output weights V."""
        return (self.output,)

    def _start_biases(self, parameters: Tensor) -> None:
        """Biases here belong to features, not to places."""
        self.output_bias.copy_(parameters)

    @property
    def log_scales(self) -> Tensor | None:
        """Log scales of real features, (features,), in units of which the network sees them."""
        if self.standard is None:
            return None
        return self.standard.scale.log()

    def parameters_given(self, value: Tensor, mask: Tensor, context: Tensor | None) -> Tensor:
        """Parameters of the distributions of all features given those under a mask.

        One pass of the network.

        Args:
            value: rows (n, features); values where ``mask`` is False are
                ignored.
            mask: True where a feature is known, (n, features).
            context: (n, context), or None.

        Returns:
            (n, features, parameters); those of known features mean nothing.
        """
        frame = None if self.standard is None else self.standard()
        value = torch.where(mask, value, 0)
        if frame is not None:
            value = frame.seen(value)
        x = self.encode(value) * mask.unsqueeze(-1)
        fields = (
            x.flatten(1) @ self.weight.flatten(0, 1)
            + mask.to(x.dtype) @ self.mask_weight
            + self._start(context)
        )
        hidden = self._hidden(fields)
        parameters = (hidden @ self.output.transpose(0, 1).flatten(1)).unflatten(
            -1, (self.features, -1)
        )
        parameters = self._valid(parameters + self.output_bias, slice(None))
        if frame is None:
            return parameters
        return frame.raw(parameters)

    def parameters_of(self, value: Tensor, context: Tensor | None) -> Tensor:
        """Parameters (n, features, parameters) in the layout of the event."""
        place = self.order
        back = self.order.argsort(-1)
        if place.dim() == 1:
            return self.parameters_in_order(value[:, place], context)[:, back]
        parameters = self.parameters_in_order(value.gather(1, place), context)
        return parameters.gather(1, back.unsqueeze(-1).expand_as(parameters))

    def log_prob_of(self, value: Tensor, context: Tensor | None) -> Tensor:
        """Log probability of each row, in nats; each may have an order of its own."""
        return self.conditional.log_prob(self.parameters_of(value, context), value).sum(-1)

    def network(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Parameters of all distributions in the order of generation.

        One block of places after the other.
        """
        size = max(self.weight.shape[-1] * (self.conditional.width + 2), *self.hidden_features)
        if self.order.dim() > 1:
            size *= self.conditional.num_parameters + 1
        step = max(1, BLOCK // max(1, len(x) * size))
        fields = self._start(context).expand(len(x), -1)
        blocks = []
        for start in range(0, self.features, step):
            block = x[:, start : start + step], self.order[..., start : start + step], fields
            # What a block keeps for its gradient is rather computed twice.
            again = torch.is_grad_enabled() and step < self.features
            new, fields = (
                checkpoint(self._block, *block, use_reentrant=False, preserve_rng_state=False)
                if again
                else self._block(*block)
            )
            blocks.append(new)
        return torch.cat(blocks, 1)

    def _block(self, x: Tensor, features: Tensor, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters at some places, and the fields after them, from the fields before."""
        sums = self._shares(x, features).cumsum(1) + fields.unsqueeze(1)
        before = torch.cat([fields.unsqueeze(1), sums[:, :-1]], 1)
        return self._distributions(self._hidden(before), features), sums[:, -1]

    def _shares(self, x: Tensor, features: Tensor) -> Tensor:
        """Contribution (n, k, hidden) of features to the first hidden layer.

        The features are (k,) or (n, k), seen as (n, k, width).
        """
        path = "nkw,kwh->nkh" if features.dim() == 1 else "nkw,nkwh->nkh"
        return torch.einsum(path, x, self.weight[features]) + self.mask_weight[features]

    def first(self, rows: int, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The state is what context and features so far add to the first hidden layer."""
        fields = self._start(context).expand(rows, -1)
        return self._at(fields, 0), fields

    def after(self, state: Tensor, value: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Add one feature to the first hidden layer."""
        last = self.order[..., position - 1 : position]
        fields = state + self._shares(self.encode(value).unsqueeze(1), last).squeeze(1)
        return self._at(fields, position), fields

    def _at(self, fields: Tensor, position: int) -> Tensor:
        """Parameters (n, parameters) of the distribution at one place."""
        return self._distributions(
            self._hidden(fields).unsqueeze(1), self.order[..., position : position + 1]
        ).squeeze(1)

    def _distributions(self, hidden: Tensor, features: Tensor) -> Tensor:
        """Parameters (n, k, parameters) of conditionals from their hidden layers.

        The features are (k,) or (n, k).
        """
        path = "nkh,khp->nkp" if features.dim() == 1 else "nkh,nkhp->nkp"
        return self._valid(
            torch.einsum(path, hidden, self.output[features]) + self.output_bias[features],
            features,
        )

    def _valid(self, parameters: Tensor, features: Tensor | slice) -> Tensor:
        """Without what a feature does not have."""
        if self.valid is None:
            return parameters
        return parameters.masked_fill(~self.valid[features], -math.inf)

    def _finished(self, parameters: Tensor, shift: Tensor | None, position: int | slice) -> Tensor:
        """As they are: the network has added all."""
        return parameters

    def _hidden(self, fields: Tensor) -> Tensor:
        """The last hidden layer from the fields of the first."""
        hidden = self.activation(fields)
        for layer in self.layers:
            hidden = self.activation(layer(hidden))
        return hidden

    def _start(self, context: Tensor | None) -> Tensor:
        """Fields of the first hidden layer before any feature is known."""
        field = self._mapped(self.hidden_from_context, context)
        if field is None:
            return self.hidden_bias
        return self.hidden_bias + field


def _layer(inputs: int, outputs: int) -> nn.Linear:
    """A hidden layer that keeps the size of rectified activations."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class EoNADE(AutoregressiveEnsemble):
    r"""One DeepNADE in several orders, their probabilities averaged.

    A better density than any of them.

    .. math:: p(x | u) = \frac1K \sum_k p_{\pi_k}(x | u)

    The weights are those of ``deep``, shared and not copied: train that,
    order-agnostically, and evaluate the ensemble.

    Args:
        deep: the network.
        orders: permutations, (orders, features), or how many to draw from
            torch's generator.

    Raises:
        ValueError: there is no order, or one is no permutation.

    References:
        Uria, Murray and Larochelle (2014), A deep and tractable density
        estimator, ICML.

    Example:
        >>> deep = DeepNADE(5, [8])
        >>> density = EoNADE(deep, 4)()
        >>> f"{density.log_prob(density.enumerate_support()).exp().sum().item():.4f}"
        '1.0000'
    """

    def __init__(self, deep: DeepNADE, orders: int | Sequence[Sequence[int]] | Tensor) -> None:
        if is_single(orders):
            orders = torch.stack(
                [torch.randperm(deep.features) for _ in range(whole_number("orders", orders))]
            )
        super().__init__(
            [deep.with_order(order) for order in cast("Sequence[Sequence[int]]", orders)]
        )


__all__ = ["DeepNADE", "EoNADE"]
