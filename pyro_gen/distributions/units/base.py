"""Interface of a unit type, and the distribution of a layer given its field."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self, TypedDict

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints


class Finite(constraints.Constraint):
    """Tensors of finite numbers of at least ``low``; torch's ``real`` accepts infinities."""

    def __init__(self, event_dim: int = 1, low: float = -math.inf) -> None:
        self.event_dim = event_dim
        self.low = low

    def check(self, value: Tensor) -> Tensor:
        """Check that all numbers of each value are finite and no smaller than ``low``."""
        flat = value.flatten(value.dim() - self.event_dim)
        low = flat.amin(-1)  # the minimum keeps NaN; a tenth of the time of comparing each number
        high = flat.amax(-1)
        return (low >= self.low) & (low > -math.inf) & (high < math.inf)

    def __repr__(self) -> str:
        if self.low == -math.inf:
            return "Finite()"
        return f"Finite(low={self.low})"


class Units(ABC):
    """Interface of the units of one side; fields, states and means have shape (..., units)."""

    binary: ClassVar[bool] = False
    """Whether the units have two values, so that they are Bernoulli units up to an affine map."""
    half_line: ClassVar[bool] = False
    """Whether unbounded values are never negative."""
    parameter_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    """The constraint of each parameter tensor of the units, event dimensions included."""

    @property
    @abstractmethod
    def support(self) -> constraints.Constraint:
        """Values that a layer can take, with the units as event."""

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Parameter tensors of the units by name."""
        return {}

    def replace(self, **parameters: Tensor) -> Self:
        """Units of the same type with other parameters."""
        return self

    def bind(self, name: str, bias: Tensor) -> Self:
        """The units of a layer with this bias: parameters checked, and numbers made tensors.

        Args:
            name: name of the bias, for the message.
            bias: (..., units).

        Raises:
            ValueError: the parameters or the number of units do not fit.
        """
        return self

    def lifted(self) -> Self:
        """Copy of the units for fields with one more dimension before the units."""
        return self

    @property
    def batch_shape(self) -> Size:
        """The batch shape of the parameters."""
        if not self.parameters:
            return Size()
        shapes = (
            (x, self.parameter_constraints[name].event_dim) for name, x in self.parameters.items()
        )
        return torch.broadcast_shapes((), *(x.shape[: x.dim() - dim] for x, dim in shapes))

    @abstractmethod
    def energy(self, states: Tensor, field: Tensor) -> Tensor:
        """Energy U(x) - x . f of ``states`` under a field, summed over the units."""

    @abstractmethod
    def cumulant(self, field: Tensor) -> Tensor:
        """Log of the sum (or integral) over all states of exp(x . f - U(x))."""

    @abstractmethod
    def mean(self, field: Tensor) -> Tensor:
        """Mean of the states given the field: the gradient of the cumulant."""

    @abstractmethod
    def draw(self, field: Tensor, uniform: Tensor) -> Tensor:
        """States given a float64 field, by inversion of float64 uniforms (..., num_uniforms)."""

    def num_uniforms(self, units: int) -> int:
        """Number of uniforms that a draw of a layer takes."""
        return units

    def conditional(self, field: Tensor) -> TorchDistribution:
        """The distribution of a layer given its field, with the units as event."""
        return UnitLayer(field, self, validate_args=False)

    def count_states(self, units: int) -> int | None:
        """Number of states of a layer, None if infinitely many."""
        return None

    def states(self, number: Tensor, units: int, like: Tensor) -> Tensor:
        """The states of a layer by their numbers, (..., units) and the dtype of ``like``."""
        raise NotImplementedError(f"the states of {self} cannot be listed")

    def precision(self, like: Tensor) -> Tensor | None:
        """Gamma of units whose energy grows as gamma x^2 / 2; None where values are bounded."""
        return None

    @property
    def alternatives(self) -> tuple[int, int]:
        """Neighbouring units that form a site, and how many states a site has.

        Raises:
            NotImplementedError: a single site has infinitely many states, or
                depends on the others.
        """
        raise NotImplementedError(f"a unit of {self} has no finite list of states of its own")

    def roll(self, site: Tensor, shift: int) -> Tensor:
        """State of one site ``shift`` places after the present one, (..., units of a site)."""
        raise NotImplementedError(f"a unit of {self} has no finite list of states of its own")

    @property
    def mean_range(self) -> tuple[float, float]:
        """Range of the means."""
        return -math.inf, math.inf

    @abstractmethod
    def from_moments(
        self, mean: Tensor, variance: Tensor | None, margin: float
    ) -> tuple[Tensor, Self]:
        """Field and units of a layer with given moments.

        Args:
            mean: (..., units).
            variance: (..., units), or None to keep the parameters of the units.
            margin: distance of the rates from 0 and 1.
        """

    def between(self, other: Self, share: float) -> Self:
        """Units whose energy is (1 - share) of this one's plus ``share`` of the other's."""
        return self

    def wrong(self, mean: Tensor, states: Tensor) -> Tensor:
        """Error of a prediction, summed over the units: the squared error."""
        return (mean - states).square().sum(-1)


class UnitTypes(TypedDict):
    """Both unit types of an RBM, in the form of its constructor's arguments."""

    visible_units: Units
    hidden_units: Units


class UnitLayer(TorchDistribution):
    r"""Independent units of one type given their field, an exponential family.

    The units are the event.

    .. math:: \log p(x) = x \cdot f - U(x) - A(f), \qquad A(f) = \log \sum_x e^{\,x \cdot f - U(x)}

    Args:
        field: f, the natural parameter of the exponential family, shape (...,
            units).
        units: the type of the units.
        validate_args: whether to check field and values.

    Raises:
        ValueError: the field is NaN or infinite, or the units do not fit it.

    Example:
        >>> from pyro_gen.distributions import PottsUnits
        >>> layer = UnitLayer(torch.zeros(6), PottsUnits(3))
        >>> layer.log_prob(torch.tensor([1.0, 0, 0, 0, 1, 0])).exp()
        tensor(0.1111)
        >>> layer.sample((5,)).shape
        torch.Size([5, 6])
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"field": Finite()}
    has_rsample = False
    field: Tensor
    units: Units

    def __init__(self, field: Tensor, units: Units, validate_args: bool | None = None) -> None:
        self.units = units.bind("field", field)
        self.field = field
        batch = torch.broadcast_shapes(field.shape[:-1], self.units.batch_shape)
        super().__init__(batch, field.shape[-1:], validate_args=validate_args)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Batch and event shape from the shape of the field."""
        return Size(arg_shapes["field"][:-1]), Size(arg_shapes["field"][-1:])

    @property
    def support(self) -> constraints.Constraint:
        """The support of the units."""
        return self.units.support

    @property
    def mean(self) -> Tensor:
        """Mean of every unit."""
        return self.units.mean(self.field).expand(self.batch_shape + self.event_shape)

    def expand(
        self, batch_shape: Size | list[int] | tuple[int, ...], _instance: Any = None
    ) -> UnitLayer:
        """Expand the distribution to a larger batch shape."""
        new = self._get_checked_instance(UnitLayer, _instance)
        new.field = self.field.expand(Size(batch_shape) + self.event_shape)
        new.units = self.units
        super(UnitLayer, new).__init__(Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability (of continuous units: density) in nats.

        Args:
            value: states (..., units).

        Raises:
            ValueError: ``value`` lies outside the support.
        """
        if self._validate_args and value.numel():
            self._validate_sample(value)
        energy = self.units.energy(value.to(self.field.dtype), self.field)
        result = -energy - self.units.cumulant(self.field)
        return result.expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))

    @torch.no_grad()
    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draw states by inversion of uniforms from torch's generator.

        Args:
            sample_shape: leading dimensions.
        """
        shape = self._extended_shape(Size(sample_shape))
        size = (*shape[:-1], self.units.num_uniforms(shape[-1]))
        uniform = torch.rand(size, dtype=torch.float64, device=self.field.device)
        uniform = uniform.clamp(min=2.0**-54)
        return self.units.draw(self.field.double().expand(shape), uniform).to(self.field.dtype)


__all__ = ["Finite", "UnitLayer", "UnitTypes", "Units"]
