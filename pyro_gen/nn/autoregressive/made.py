"""MADE: a network whose masks let each output see only the features before it."""

from __future__ import annotations

import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.autoregressive.conditionals import Conditional
from pyro_gen.distributions.autoregressive.density import Autoregressive
from pyro_gen.nn.autoregressive.base import BERNOULLI, AutoregressiveNetwork, context_map
from pyro_gen.nn.autoregressive.snapshot import twin

Degrees = tuple[tuple[int, ...], ...]


def even_degrees(features: int, hidden_features: Sequence[int], lowest: int) -> Degrees:
    """Degrees of the units of each layer, each about equally often.

    They run from the lowest that is of use to D - 1.
    """
    layers: list[tuple[int, ...]] = []
    for width in hidden_features:
        choices = max(features - lowest, 1)
        layers.append(
            tuple(lowest + (2 * unit + 1) * choices // (2 * width) for unit in range(width))
        )
        lowest = layers[-1][0]
    return tuple(layers)


def random_degrees(
    features: int, hidden_features: Sequence[int], lowest: int, seed: int
) -> Degrees:
    """Degrees drawn uniformly for each unit, none lower than the lowest of the layer before."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[tuple[int, ...]] = []
    for width in hidden_features:
        degrees = torch.randint(lowest, max(features, lowest + 1), (width,), generator=generator)
        layers.append(tuple(degrees.tolist()))
        lowest = min(layers[-1])
    return tuple(layers)


def features_unseen(features: int, degrees: Degrees) -> list[int]:
    """Number of features before each place that its distribution does not depend on.

    There is no path to them through the hidden layers.

    A path from feature i (numbered from 1) goes through degrees that never
    fall, i or more, to distributions of a place (from 0) of at least its last
    degree: the lowest degree possible in each layer reaches the most
    distributions.

    Args:
        features: number of features D.
        degrees: of the units of each hidden layer.

    Returns:
        Numbers of features, one for each place.
    """
    layers = [sorted(set(layer)) for layer in degrees]
    change = [0] * (features + 1)
    for feature in range(1, features):
        reached = feature
        for layer in layers:
            place = bisect_left(layer, reached)
            reached = layer[place] if place < len(layer) else features
        change[feature] += 1
        change[reached] -= 1
    return list(accumulate(change[:features]))


class Masks(NamedTuple):
    """Masks that have been made, and for which degrees.

    They take longer than the products of a small network.
    """

    degrees: Degrees
    masks: list[Tensor]


class Layer(NamedTuple):
    """A layer for generation.

    Its units sorted by degree, so that those known at a time stand in front.
    """

    matrix: Tensor
    """Masked weights, (inputs, units)."""
    bias: Tensor
    known: list[int]
    """How many units have a degree of at most 0, 1, 2, ..."""


class Growth(NamedTuple):
    """State of generation: every hidden unit whose features are all known."""

    layers: list[Layer]
    output: Tensor
    direct: Tensor | None
    field: Tensor | None
    """What the context adds to the first hidden layer."""
    x: Tensor
    """Features so far, (n, position * width)."""
    hidden: list[Tensor]
    """Units so far of each layer, (n, known)."""


class MADE(AutoregressiveNetwork):
    r"""Masked autoencoder.

    Layers of hidden units, each of a degree m, that see the first m features
    only.

    .. math:: h^1 = g\big(x (W^1 \circ M^1) + c^1\big), \quad
              h^l = g\big(h^{l-1} (W^l \circ M^l) + c^l\big), \quad
              f = h^L (V \circ M^V) + x (A \circ M^A) + b, \qquad
              M^l_{ij} = 1\big[m^{l-1}_i \le m^l_j\big], \quad
              M^V_{jk} = 1\big[m^L_j < k\big], \quad
              M^A_{ik} = 1[i < k]

    with features numbered from 1 in the order of generation, their number being
    their degree, and f_k the parameters of the k-th distribution. One pass
    gives all distributions; generation computes each hidden unit once, when the
    last feature that it sees is known. Degrees are spread evenly, whether there
    are more hidden units than features or fewer: a distribution sees all
    features before it through layers of D - 1 units or more (with a context D),
    and through direct weights. Where some distribution does not, a warning says
    so.

    Args:
        features: number of features D, or the shape of an event.
        hidden_features: units of each hidden layer; none at all leaves the
            direct weights A alone, an FVSBN.
        context: width of the context, which the first hidden layer sees too.
        order: features in the order of generation.
        conditional: the family of the conditional distributions.
        activation: g, applied to each unit by itself.
        skip: whether there are direct weights A from features to distributions.

    Raises:
        ValueError: a layer has no units.

    References:
        Germain, Gregor, Murray and Larochelle (2015), MADE: masked autoencoder
        for distribution estimation, equations 8 to 13 and sections 4.2
        (connectivity-agnostic training) and 4.3 (depth).

    Example:
        >>> made = MADE(3, [2], skip=True)
        >>> made.degrees
        ((1, 2),)
        >>> made.num_parameters  # 1 + 2 weights in, 2 + 1 out, 1 + 2 direct, 2 + 3 biases
        14
    """

    def __init__(
        self,
        features: int | Sequence[int],
        hidden_features: Sequence[int] = (500,),
        context: int = 0,
        order: Sequence[int] | Tensor | None = None,
        conditional: Conditional = BERNOULLI,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        *,
        skip: bool = False,
    ) -> None:
        super().__init__(features, context, order, conditional)
        self._known: Masks | None = None
        self.hidden_features = tuple(
            whole_number("hidden_features", width) for width in hidden_features
        )
        self.activation = activation
        inputs = self.features * conditional.width
        outputs = self.features * conditional.num_parameters
        sizes = [inputs, *self.hidden_features]
        self.weights = nn.ParameterList(torch.empty(size) for size in pairwise(sizes))
        self.hidden_biases = nn.ParameterList(torch.zeros(width) for width in self.hidden_features)
        self.degrees = even_degrees(self.features, self.hidden_features, self.lowest)
        self.output: nn.Parameter | None = None
        self.direct: nn.Parameter | None = None
        self.hidden_from_context: nn.Linear | None = None
        if self.hidden_features:
            self.output = nn.Parameter(torch.empty(sizes[-1], outputs))
            self.hidden_from_context = context_map(context, sizes[1])
        if skip or not self.hidden_features:
            self.direct = nn.Parameter(torch.zeros(inputs, outputs))
        self.reset_parameters()
        if self.direct is None:
            self._warn_if_narrow()

    def _warn_if_narrow(self) -> None:
        """Warn where distributions see less than the features before them."""
        unseen = features_unseen(self.features, self.degrees)
        if not any(unseen):
            return
        worst = max(range(self.features), key=unseen.__getitem__)
        warnings.warn(
            f"`hidden_features` {list(self.hidden_features)} are too narrow for "
            f"{self.features} features: "
            f"{sum(map(bool, unseen))} of the conditionals do not depend on all features "
            "before them, that at place "
            f"{worst} on {worst - unseen[worst]} of {worst}; layers of at least "
            f"{self.features - self.lowest} units, "
            "or `skip=True`, let every distribution see them all",
            stacklevel=3,
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights whose variance makes up for how many inputs a unit sees.

        Direct weights and biases are zero.
        """
        masks = self.masks()
        weights = list(self.weights)
        if self.output is not None:
            weights.append(self.output)
        for weight, mask in zip(weights, masks, strict=True):
            fan_in = mask.sum(0).clamp(min=1).to(weight.dtype)
            gain = 1 if weight is self.output else 2
            weight.copy_(torch.randn_like(weight) * (gain / fan_in).sqrt())

    @property
    def lowest(self) -> int:
        """The lowest degree of a hidden unit.

        It is 0, for units that see the context alone, only where that is of use.
        """
        if self.context or self.features == 1:
            return 0
        return 1

    @property
    def num_parameters(self) -> int:
        """Weights that the masks let through, biases, and what the context takes."""
        masks = [*self.masks()]
        if self.direct is not None:
            masks.append(self._direct_mask())
        return super().num_parameters - sum(int((~mask).sum()) for mask in masks)

    def resample(self, seed: int | None) -> Self:
        """Draw other degrees for the hidden units, and so other masks.

        Each set of masks is a density of its own.

        Going through a few seeds during training, one a step, trains all those
        densities with one set of weights; :meth:`masked` gives each back, and
        an equal mixture of them is a density too. (The mean of their logits is
        none.) The degrees are part of the state dict.

        Args:
            seed: number of the set, the same set for the same number; None for
                the even degrees.

        Returns:
            The network itself.
        """
        if seed is None:
            self.degrees = even_degrees(self.features, self.hidden_features, self.lowest)
        else:
            self.degrees = random_degrees(self.features, self.hidden_features, self.lowest, seed)
        return self

    def masked(self, seed: int | None) -> Self:
        """A view of the network under another set of masks.

        It shares all weights and keeps its own degrees.

        Args:
            seed: as :meth:`resample` takes it.

        Example:
            >>> made = MADE(3, [4])
            >>> other = made.masked(seed=1)
            >>> other.output is made.output, other.degrees == made.degrees
            (True, False)
        """
        return twin(self).resample(seed)

    def get_extra_state(self) -> Tensor:
        """The degrees, for the state dict."""
        return torch.tensor(
            [degree for layer in self.degrees for degree in layer], dtype=torch.int64
        )

    def set_extra_state(self, state: Tensor) -> None:
        """Take degrees from a state dict.

        Raises:
            ValueError: it holds another number of units, or degrees that no
                unit has.
        """
        degrees = state.tolist()
        if len(degrees) != sum(self.hidden_features) or not all(
            0 <= d < max(self.features, 1) for d in degrees
        ):
            raise ValueError(
                f"the state must hold {sum(self.hidden_features)} degrees below "
                f"{self.features}, got {degrees}"
            )
        numbers = iter(degrees)
        self.degrees = tuple(
            tuple(next(numbers) for _ in range(width)) for width in self.hidden_features
        )

    def forward(self, context: Tensor | None = None) -> Autoregressive:
        """The density over the weights' present values, under the present masks.

        Args:
            context: (..., context) where the network takes one; its batch shape
                is that of the density.
        """
        self.masks()  # made once for all densities, which keep views of this module
        return super().forward(context)

    def masks(self) -> list[Tensor]:
        """Masks (inputs, outputs) of the weights of each hidden layer and of the output.

        None without a hidden layer.

        An input feature's number, from 1, is its degree; a distribution sees
        units of a degree below its own number.
        """
        if self.output is None:
            return []
        device = self.output.device
        if (
            self._known is None
            or self._known.degrees is not self.degrees
            or self._known.masks[0].device != device
        ):
            self._known = Masks(self.degrees, self._new_masks(device))
        return self._known.masks

    def _new_masks(self, device: torch.device) -> list[Tensor]:
        numbers = torch.arange(self.features, device=device)
        layers = [numbers.repeat_interleave(self.conditional.width) + 1]
        layers += [torch.tensor(degrees, device=device) for degrees in self.degrees]
        layers.append(numbers.repeat_interleave(self.conditional.num_parameters))
        return [low.unsqueeze(1) <= high for low, high in pairwise(layers)]

    def _direct_mask(self) -> Tensor:
        numbers = torch.arange(self.features, device=self.example.device)
        inputs = numbers.repeat_interleave(self.conditional.width)
        return inputs.unsqueeze(1) < numbers.repeat_interleave(self.conditional.num_parameters)

    def _matrices(self) -> tuple[list[Tensor], Tensor | None]:
        """Masked weights of the layers and of the distributions, and direct ones."""
        weights = [] if self.output is None else [*self.weights, self.output]
        masked = [
            torch.where(mask, weight, 0)
            for mask, weight in zip(self.masks(), weights, strict=True)
        ]
        if self.direct is None:
            return masked, None
        return masked, torch.where(self._direct_mask(), self.direct, 0)

    def readout(self) -> Sequence[Tensor]:
        """Weights of the last hidden layer's units, and direct ones."""
        return tuple(weight for weight in (self.output, self.direct) if weight is not None)

    def network(self, x: Tensor, context: Tensor | None) -> Tensor:
        """One masked pass."""
        x = x.flatten(1)
        matrices, direct = self._matrices()
        result = 0 if direct is None else x @ direct
        if matrices:
            hidden = x
            field = self._field(context)
            # There is one more matrix, that of the distributions.
            for matrix, bias in zip(matrices, self.hidden_biases, strict=False):
                fields = torch.addmm(bias, hidden, matrix)
                if field is not None:
                    fields = fields + field
                    field = None
                hidden = self.activation(fields)
            result = result + hidden @ matrices[-1]
        return torch.as_tensor(result).unflatten(-1, (self.features, -1))

    def _field(self, context: Tensor | None) -> Tensor | None:
        """Contribution of the context to the first hidden layer."""
        return self._mapped(self.hidden_from_context, context)

    def first(self, rows: int, context: Tensor | None) -> tuple[Tensor, Growth]:
        """The state holds the hidden units whose features are known.

        To begin with they are those of degree 0.
        """
        matrices, direct = self._matrices()
        layers = []
        before = None
        for matrix, bias, degrees in zip(matrices, self.hidden_biases, self.degrees, strict=False):
            order = torch.tensor(degrees, device=matrix.device).argsort(stable=True)
            inputs = matrix if before is None else matrix[before]
            layers.append(Layer(inputs[:, order], bias[order], _cumulated(degrees, self.features)))
            before = order
        output = self.example.new_zeros(0, self.features * self._outputs)
        if matrices:
            output = matrices[-1]
        field = self._field(context)
        if field is not None and self.degrees:
            field = field[
                :, torch.tensor(self.degrees[0], device=field.device).argsort(stable=True)
            ]
        nothing = self.example.new_zeros(rows, 0)
        if before is not None:
            output = output[before]
        growth = Growth(layers, output, direct, field, nothing, [nothing] * len(layers))
        return self._distribution(growth, 0)

    def after(self, state: Growth, value: Tensor, position: int) -> tuple[Tensor, Growth]:
        """Compute the units whose last feature is the one before ``position``."""
        x = torch.cat([state.x, self.encode(value).flatten(1)], 1)
        return self._distribution(state._replace(x=x), position)

    @property
    def _outputs(self) -> int:
        return self.conditional.num_parameters

    def _distribution(self, state: Growth, position: int) -> tuple[Tensor, Growth]:
        below = state.x
        field = state.field
        hidden: list[Tensor] = []
        for layer, computed in zip(state.layers, state.hidden, strict=True):
            units = slice(computed.shape[1], layer.known[position])
            if units.start < units.stop:
                fields = torch.addmm(
                    layer.bias[units], below, layer.matrix[: below.shape[1], units]
                )
                if field is not None:
                    fields = fields + field[:, units]
                below = torch.cat([computed, self.activation(fields)], 1)
            else:
                below = computed
            hidden.append(below)
            field = None
        outputs = slice(position * self._outputs, (position + 1) * self._outputs)
        parameters = below.new_zeros(len(state.x), self._outputs)
        if hidden:
            parameters = below @ state.output[: below.shape[1], outputs]
        if state.direct is not None:
            parameters = torch.addmm(
                parameters, state.x, state.direct[: state.x.shape[1], outputs]
            )
        return parameters, state._replace(hidden=hidden)


def _cumulated(degrees: Sequence[int], features: int) -> list[int]:
    """Number of degrees that are at most 0, 1, ..., D - 1."""
    ascending = sorted(degrees)
    return [bisect_right(ascending, position) for position in range(features)]


__all__ = ["MADE", "even_degrees", "features_unseen", "random_degrees"]
