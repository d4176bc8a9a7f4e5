"""Base of the autoregressive networks.

Order, conditionals, context, generation feature after feature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Size, Tensor, nn

from pyro_gen._arguments import whole_number, whole_numbers
from pyro_gen._module import Module
from pyro_gen._rows import as_floating
from pyro_gen.distributions.autoregressive.conditionals import BernoulliConditional, Conditional
from pyro_gen.distributions.autoregressive.density import Autoregressive
from pyro_gen.nn.autoregressive.snapshot import snapshot
from pyro_gen.nn.standardisation import Frame, Standardisation, standardisation

BERNOULLI = BernoulliConditional()


class Place(NamedTuple):
    """Place in the order of generation, and what is needed to go on.

    ``shift`` is the context's share of all parameters, ``state`` the network's,
    ``frame`` has location and scale of real features in the order of generation.
    """

    position: int
    shift: Tensor | None
    state: Any
    frame: Frame | None = None


class AutoregressiveNetwork(Module):
    """Base of the networks; calling one returns :class:`pyro_gen.distributions.Autoregressive`.

    A network works in the order of generation only: it is given the features in
    that order and returns their distributions' parameters in that order, the
    k-th from those before it. A subclass defines :meth:`network`; and
    :meth:`first` and :meth:`after` where generation can go on from what it has
    computed, instead of running the whole network once a feature. Real features
    reach it standardised, and its parameters are those of standardised
    features: ``standard`` has their location and scale, which :meth:`from_data`
    learns, and is None for other features.

    Args:
        features: number of features, or the shape of an event.
        context: width of the context that the distributions depend on; 0 for
            none. What it adds to the parameters is linear; subclasses let it
            reach their hidden units too.
        order: features in the order in which they are generated; None for 0, 1,
            2, ...
        conditional: the family of the conditional distributions.
        bias: whether the network has a bias of its own for every parameter.

    Raises:
        ValueError: a number is too small, ``order`` is no permutation, or
            ``conditional`` does not fit.
    """

    order: Tensor
    valid: Tensor | None
    like: Tensor
    standard: Standardisation | None

    def __init__(
        self,
        features: int | Sequence[int],
        context: int = 0,
        order: Sequence[int] | Tensor | None = None,
        conditional: Conditional = BERNOULLI,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.event_shape = Size(whole_numbers("features", features))
        context = whole_number("context", context, 0)
        if not isinstance(conditional, Conditional):
            raise ValueError(
                "`conditional` must be a distribution such as BernoulliConditional(), got "
                f"{conditional!r}"
            )
        conditional.check(self.features)
        self.context = context
        self.conditional = conditional
        order = checked_order(order, self.features)
        valid = conditional.valid(self.features)
        self.register_buffer("order", order)
        self.register_buffer("valid", valid, persistent=False)
        self.register_buffer("like", torch.empty(0), persistent=False)
        self.standard = standardisation(conditional, self.features)
        shape = self.features, conditional.num_parameters
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None
        self.from_context = context_map(context, math.prod(shape))
        if self.from_context is not None:
            nn.init.zeros_(self.from_context.weight)

    @property
    def features(self) -> int:
        """Number of features of an event."""
        return self.event_shape.numel()

    @property
    def example(self) -> Tensor:
        """Any of the weights: their dtype, and where they are."""
        return next(self.parameters(), self.like)  # weights with priors are no parameters

    @property
    def num_parameters(self) -> int:
        """Numbers that are learned; weights that the order rules out are not counted."""
        return sum(p.numel() for p in self.parameters())

    def forward(self, context: Tensor | None = None) -> Autoregressive:
        """The density over the weights' present values.

        Args:
            context: (..., context) where the network takes one; its batch shape
                is that of the density.
        """
        return Autoregressive(snapshot(self), context)

    @classmethod
    def from_data(cls, x: Tensor, *args: Any, **settings: Any) -> Self:
        """A network whose biases start at the marginal distributions of the features.

        Real features are standardised by location and scale of the data, and a
        network of real features starts at the marginal distributions
        themselves, for its readout is small. One of discrete features keeps its
        random readout, which adds to the biases.

        Args:
            x: rows of data, (n,) + event shape.
            *args: what the constructor takes after ``features``.
            **settings: likewise.

        Raises:
            ValueError: there are no rows, one lies outside the support, or a
                column is constant whose scale is learned.
        """
        x = as_floating(x)
        if len(x) < 1 or x.dim() < 2:
            raise ValueError(
                "`x` must hold rows of data, of shape (n, ...) with n at least 1, got "
                f"{tuple(x.shape)}"
            )
        network = cls(x.shape[1] if x.dim() == 2 else tuple(x.shape[1:]), *args, **settings)
        support = network.conditional.support(network.features)
        if not support.check(x.flatten(1)).all():
            raise ValueError(
                f"`x` must lie in the support of the distributions, {support}, in every row"
            )
        network.to(x)
        network.start_at(x)
        return network

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        """Set the biases to the marginal distributions of data.

        Of real features also location and scale.

        Args:
            x: rows of data, (n,) + event shape.

        Raises:
            ValueError: a column is constant whose scale is learned.
        """
        rows = x.flatten(1).to(self.example)
        if self.standard is None:
            return self._start_biases(self.conditional.start(rows))
        self._start_biases(self.conditional.start(self.standard.start_at(rows, self.event_shape)))
        for weight in self.readout():
            weight.mul_(self.standard.readout_share)

    def _start_biases(self, parameters: Tensor) -> None:
        """Take parameters (features, parameters), in the layout of the event, as biases."""
        if self.bias is not None:
            self.bias.copy_(parameters[self.order])

    def readout(self) -> Sequence[Tensor]:
        """Weights by which the network adds to the biases.

        Where they are small, the biases make the density.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say which weights add to its biases"
        )

    def network(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Parameters of all distributions, in the order of generation.

        Args:
            x: features as the conditional encodes them, in the order of
                generation, (n, features, width).
            context: (n, context), or None.

        Returns:
            (n, features, parameters), without what bias and context add.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no network")

    def first(self, rows: int, context: Tensor | None) -> tuple[Tensor, Any]:
        """Parameters of the first distribution, (rows, parameters), and the state to go on
        from.

        Unless a subclass knows better, the state is all that has been
        generated, and every step a full pass.
        """
        x = self.example.new_zeros(rows, self.features, self.conditional.width)
        return self.network(x, context)[:, 0], (x, context)

    def after(self, state: Any, value: Tensor, position: int) -> tuple[Tensor, Any]:
        """Parameters of the distribution at ``position``, and the next state.

        The feature before it has values (rows,).
        """
        x, context = state
        x = x.clone()
        x[:, position - 1] = self.encode(value)
        return self.network(x, context)[:, position], (x, context)

    def encode(self, value: Tensor) -> Tensor:
        """Encoding of values for the network."""
        return self.conditional.encode(value).to(self.example.dtype)

    def parameters_of(self, value: Tensor, context: Tensor | None) -> Tensor:
        """Parameters (n, features, parameters) in the layout of the event."""
        return self.parameters_in_order(value[:, self.order], context)[:, self.order.argsort()]

    def parameters_in_order(self, value: Tensor, context: Tensor | None) -> Tensor:
        """Parameters of all distributions in the order of generation.

        Values are in that order too.
        """
        frame = self._frame()
        if frame is not None:
            value = frame.seen(value)
        parameters = self.network(self.encode(value), context)
        parameters = self._finished(parameters, self._shift(context), slice(None))
        if frame is None:
            return parameters
        return frame.raw(parameters)

    def log_prob_of(self, value: Tensor, context: Tensor | None) -> Tensor:
        """Log probability of each row, in nats.

        Nothing but the values is brought into another order.
        """
        value = value[:, self.order]
        return self.conditional.log_prob(self.parameters_in_order(value, context), value).sum(-1)

    def begin(self, rows: int, context: Tensor | None, like: Tensor) -> tuple[Tensor, Place]:
        """Parameters of the first feature's distribution, and where generation stands."""
        parameters, state = self.first(rows, context)
        place = Place(0, self._shift(context), state, self._frame())
        return self._parameters_at(place, parameters), place

    def proceed(self, place: Place, value: Tensor) -> tuple[Tensor, Place]:
        """Parameters of the next feature's distribution, and where generation stands.

        The present feature has values (rows,).
        """
        position = place.position + 1
        frame = place.frame
        if frame is not None:
            value = frame.at(place.position).seen(value)
        parameters, state = self.after(place.state, value, position)
        place = Place(position, place.shift, state, frame)
        return self._parameters_at(place, parameters), place

    def generate(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows (rows, features) in the order of generation, and log probabilities.

        The noise is (features, rows).
        """
        parameters, place = self.begin(noise.shape[1], context, self.example)
        values = [self.conditional.draw(parameters, noise[0])]
        log_prob = self.conditional.log_prob(parameters, values[0])
        for feature_noise in noise[1:]:
            parameters, place = self.proceed(place, values[-1])
            values.append(self.conditional.draw(parameters, feature_noise))
            log_prob = log_prob + self.conditional.log_prob(parameters, values[-1])
        return torch.stack(values, -1), log_prob

    def extra_repr(self) -> str:
        """Shape of an event, width of the context, and the family of the distributions."""
        return (
            f"event_shape={tuple(self.event_shape)}, context={self.context}, "
            f"conditional={self.conditional}"
        )

    def _mapped(self, layer: nn.Linear | None, context: Tensor | None) -> Tensor | None:
        """Contribution of the context by a layer; None where there is none."""
        if layer is None or context is None:
            return None
        contribution: Tensor = layer(context.to(self.example.dtype))
        return contribution

    def _shift(self, context: Tensor | None) -> Tensor | None:
        """Contribution of the context to all parameters."""
        shift = self._mapped(self.from_context, context)
        if shift is None:
            return None
        return shift.unflatten(-1, (self.features, -1))

    def _frame(self) -> Frame | None:
        """Location and scale of real features, in the order of generation."""
        if self.standard is None:
            return None
        return self.standard(self.order)

    def _parameters_at(self, place: Place, parameters: Tensor) -> Tensor:
        """Parameters of the distribution at a place, of the feature in its own units."""
        parameters = self._finished(parameters, place.shift, place.position)
        if place.frame is None:
            return parameters
        return place.frame.at(place.position).raw(parameters)

    def _finished(self, parameters: Tensor, shift: Tensor | None, position: int | slice) -> Tensor:
        """With bias and context, and without what a feature does not have."""
        if self.bias is not None:
            parameters = parameters + self.bias[position]
        if shift is not None:
            parameters = parameters + shift[:, position]
        if self.valid is not None:
            parameters = parameters.masked_fill(~self.valid[self.order][position], -math.inf)
        return parameters


def context_map(context: int, outputs: int) -> nn.Linear | None:
    """Linear map of a context; None where the network takes none.

    Args:
        context: width of the context, 0 for none.
        outputs: numbers that it adds to.
    """
    if context:
        return nn.Linear(context, outputs, bias=False)
    return None


def checked_order(order: Sequence[int] | Tensor | None, features: int) -> Tensor:
    """An order as a tensor of its own, 0, 1, 2, ... for None.

    Raises unless it holds every feature once.
    """
    if order is None:
        return torch.arange(features)
    numbers_in_order = torch.as_tensor(order).detach()
    permutation = numbers_in_order.clone().long()
    numbers = torch.arange(features, device=permutation.device)
    if (
        numbers_in_order.is_floating_point()
        or permutation.shape != (features,)
        or not torch.equal(permutation.sort().values, numbers)
    ):
        raise ValueError(
            f"`order` must hold each of 0 ... {features - 1} once, got {numbers_in_order.tolist()}"
        )
    return permutation


__all__ = ["AutoregressiveNetwork", "Place", "checked_order", "context_map"]
