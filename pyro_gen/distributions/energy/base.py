"""Distributions known by their energy: log p(x) = -F(x) - log Z, with log Z known
as ``partition`` says.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Size, Tensor

from pyro_gen._arguments import whole_number
from pyro_gen._transforms import wrapped
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.expansion import Expandable, over_batch
from pyro_gen.distributions.log_z.partition import EXACT_UNITS, Exact, Partition
from pyro_gen.kernels import draw_seed

T = TypeVar("T")
Memo = list[tuple[object, list[Tensor], Any]]
"""At most one entry: what was computed, for which values of the parameters, and the result."""


class EnergyDistribution(Expandable):
    """Base of the energy models: everything that follows from a free energy and a way
    to know log Z.

    Subclass it for an energy model of your own: define the abstract methods,
    set the parameters, and then call this constructor.

    Args:
        batch_shape: of the parameters.
        event_shape: (visible,).
        partition: how log Z is known; None for exactly, if there are few enough
            states.
        num_steps: Gibbs sweeps of ``sample`` where no exact draw is possible.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: ``partition`` or ``num_steps`` is neither of these, or
            ``partition`` cannot serve the distribution.
    """

    shares_memo: bool = False
    """Whether what is known of log Z outlives this object, because a module keeps it."""

    def __init__(
        self,
        batch_shape: Size,
        event_shape: Size,
        partition: Partition | None = None,
        num_steps: int | None = None,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(partition, Partition | None):
            raise ValueError(
                "`partition` must be Exact(...), AIS(...), a negative phase or None, got "
                f"{partition}"
            )
        self._memo: Memo = []
        if num_steps is None:
            self.num_steps = None
        else:
            self.num_steps = whole_number("num_steps", num_steps)
        self.partition: Partition | None = None
        if validate_args is None:
            validates = self._validate_args
        else:
            validates = validate_args
        checked = partition is not None and partition.checks_parameters
        if validates and not checked:
            with torch.no_grad():
                checked = self._are_finite()
        if validates and checked:
            super().__init__(batch_shape, event_shape, validate_args=False)
            if validate_args is None:
                del self._validate_args  # what is in force for all distributions holds
            else:
                self._validate_args = True
        else:
            super().__init__(batch_shape, event_shape, validate_args=validate_args)
        if partition is not None:
            self.partition = partition.bind(self)

    @property
    @abstractmethod
    def parameters(self) -> tuple[Tensor, ...]:
        """The parameter tensors, in the constructor's order."""

    @property
    def _like(self) -> Tensor:
        """A tensor with the dtype and device of all of them."""
        return self.parameters[0]

    @property
    @abstractmethod
    def parameter_batch_shape(self) -> Size:
        """The batch shape that the parameters themselves have, without ``expand``."""

    @property
    def enumerated_units(self) -> float:
        """Binary units that an exact sum enumerates, or as many as have that many states.

        May be infinite.
        """
        return self.event_shape.numel()

    @abstractmethod
    def free_energy(self, value: Tensor) -> Tensor:
        """F(v) = -log sum_h exp(-E(v, h)), of checked states."""

    def _free_energy(self, value: Tensor) -> Tensor:
        """F(v) of states that were checked before, or drawn."""
        return self.free_energy(value)

    def _contrast(
        self, value: Tensor, particles: Tensor, shares: Tensor | None = None, paired: bool = False
    ) -> Tensor | None:
        """Minus F(value) and plus the mean F of particles as one op, see
        ``surrogate``; None where there is none.
        """
        return None

    @abstractmethod
    def log_sum(self) -> Tensor:
        """Exact log Z by enumeration, with its gradient."""

    @abstractmethod
    def sweep(self, value: Tensor, num_steps: int, seed: int, step: int) -> Tensor:
        """Gibbs sweeps from ``value`` with randomness keyed by (seed, step); no gradient."""

    @abstractmethod
    def anneal(
        self, states: Tensor, base: Tensor, betas: Tensor, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Log weights and last states of chains annealed along ``betas``."""

    @abstractmethod
    def base_log_partition(self, base: Tensor) -> Tensor:
        """Log Z in float64 at inverse temperature 0, where the visible units are
        independent, as ``base`` says.
        """

    @abstractmethod
    def base_states(self, base: Tensor, num_chains: int, seed: int) -> Tensor:
        """``num_chains`` draws from independent units with natural parameters ``base``."""

    @abstractmethod
    def pilot(self, num_chains: int, num_steps: int, seed: int) -> Tensor:
        """States after ``num_steps`` sweeps from the base rates of the biases."""

    @property
    def mean_range(self) -> tuple[float, float]:
        """Between which numbers the mean of a visible unit lies."""
        return 0.0, 1.0

    def base(self, mean: Tensor, variance: Tensor | None, margin: float) -> Tensor:
        """Natural parameters of independent visible units with given moments: the logits
        of rates.

        Args:
            mean: (..., visible).
            variance: (..., visible), for units that have one of their own; None
                if not known.
            margin: how far rates are kept from certainty.
        """
        return mean.clamp(margin, 1 - margin).logit()

    def _resolve_partition(self) -> Partition:
        """The partition in force; raises, naming the choices, where there is none."""
        if self.partition is not None:
            return self.partition
        if self.enumerated_units <= EXACT_UNITS:
            return Exact(EXACT_UNITS)
        raise ValueError(
            f"log Z is not known: the smaller side has {self.enumerated_units} units and "
            "`partition=None` enumerates "
            f"at most {EXACT_UNITS}. Choose `partition` (of a module: `evaluation`, which counts "
            "after .eval(), or "
            "`negative_phase` in training mode): AIS(...) for an estimate with a standard error, "
            "Exact(max_units=...) "
            "to enumerate all the same, or train under a negative phase"
        )

    def _instead(self, helps: bool = True) -> str:
        """The end of a message: what to do of a contrast, where that helps."""
        contrast = None if self.partition is None else self.partition.contrast
        if helps and contrast is not None:
            return f"; {contrast}"
        return ""

    def _no_exact_draw(self, start: str) -> ValueError:
        """The error of ``sample`` where it has neither an exact draw nor sweeps to run
        from ``start``.
        """
        fix = f"give the constructor `num_steps`, the Gibbs sweeps to run from the {start}"
        return ValueError(
            f"`sample` has no exact draw here ({self.enumerated_units} units to enumerate, "
            "partition "
            f"{self.partition}): {fix}, or use `gibbs` from states of your own{self._instead()}"
        )

    def __repr__(self) -> str:
        """The parameters, and what is subtracted from minus the free energy."""
        return f"{super().__repr__().removesuffix(')')}, partition: {self.partition})"

    @property
    def samples_exactly(self) -> bool:
        """True if ``sample`` draws exactly: log Z is exact, or would be by default."""
        return isinstance(self.partition, Exact) or (
            self.partition is None and self.enumerated_units <= EXACT_UNITS
        )

    def unnormalized_log_prob(self, value: Tensor) -> Tensor:
        """Minus the free energy: log p(value) up to log Z.

        Args:
            value: states of shape (..., visible).

        Returns:
            Nats, of shape (...).

        Raises:
            ValueError: ``value`` lies outside the support.
        """
        return -self.free_energy(value)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability in nats.

        Under a negative phase a contrast whose gradient is the phase's.

        The chains of a module advance when it is first asked for, once for this
        object and its expansions.

        Args:
            value: states of shape (..., visible).

        Returns:
            Tensor of the broadcast shape of the value's and the distribution's
            batch.

        Raises:
            ValueError: ``value`` lies outside the support, or log Z is not
                known.
        """
        if self._validate_args:
            self._validate_sample(value)
        elif value.shape[-1:] != self.event_shape:
            raise ValueError(
                f"`value` must have shape (..., {self.event_shape[-1]}), got {tuple(value.shape)}"
            )
        value = value.to(self._like.dtype)
        model, partition = self._resolve_partition().scored(self, value)
        return over_batch(partition.log_prob(model, value), self.batch_shape)

    @torch.no_grad()
    def gibbs(self, value: Tensor, num_steps: int) -> Tensor:
        """Run sweeps of Gibbs sampling from given states: layer after layer, or colour
        after colour of a graph.

        Args:
            value: states (..., visible), each a chain.
            num_steps: sweeps; 0 returns ``value``.

        Returns:
            New states, shape (..., visible) broadcast with the batch.

        Raises:
            ValueError: ``num_steps`` is negative, or ``value`` is outside the
                support.
        """
        num_steps = whole_number("num_steps", num_steps, 0)
        self.check_value("value", value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape) + self.event_shape
        value = value.to(self._like).expand(shape)
        if num_steps:
            return self.sweep(value, num_steps, draw_seed(), 0)
        return value

    def log_partition(self) -> Estimate:
        """Log Z as ``partition`` knows it.

        Returns:
            (value, standard_error, effective_sample_size, method), the first
            three of the batch shape.

        Raises:
            ValueError: log Z is not known, or ``partition`` is a negative
                phase.
        """
        return self._resolve_partition().log_partition(self).expand(self.batch_shape)

    def remember(self, key: object, compute: Callable[[], T]) -> T:
        """The result of ``compute`` for the parameters' present values, shared by
        all expansions of this object.
        """
        if wrapped(self.parameters):
            return compute()
        kept_key, values, result = self._memo[0] if self._memo else (None, (), None)
        same = kept_key is key and all(
            torch.equal(p, x) for p, x in zip(self.parameters, values, strict=True)
        )
        if not same or any(p.is_meta for p in self.parameters):
            with torch.inference_mode(False):
                result = compute()
                self._memo[:] = [(key, [p.detach().clone() for p in self.parameters], result)]
        return cast(T, result)

    def share(self, memo: Memo) -> None:
        """Keep what is found out of log Z in ``memo``, which outlives this object."""
        self._memo = memo
        self.shares_memo = True

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles find out for themselves."""
        return self.__dict__ | {"_memo": []}

    def check_value(self, name: str, value: Tensor) -> None:
        """Check states that a user gives, where arguments are validated at all.

        Args:
            name: the argument's name, for the message.
            value: states, (..., visible).

        Raises:
            ValueError: they have another event shape, or lie outside the support.
        """
        if self._validate_args and not (isinstance(value, Tensor) and wrapped([value])):
            try:
                self._validate_sample(value)
            except ValueError as error:
                raise ValueError(f"`{name}` is no state of this distribution: {error}") from error

    def _are_finite(self) -> bool:
        """True if a quick look shows that all parameters are.

        False where the checks of each must say so.
        """
        return False

    def _are_states(self, value: Tensor) -> bool:
        """True if a quick look shows that floating-point rows are states.

        False where the full checks must say so.
        """
        return False

    def _validate_sample(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise ValueError(f"`value` must be a tensor, got {type(value).__name__}")
        shape = self.batch_shape + self.event_shape
        if value.shape[-len(shape) :] == shape and self._are_states(value):
            return
        if value.device != self._like.device:
            raise ValueError(
                f"`value` must be on {self._like.device} like the parameters, got {value.device}"
            )
        if value.is_floating_point() and value.isnan().any():
            raise ValueError(
                "`value` holds NaN, which no distribution of pyro_gen accepts: a mask cannot be "
                "seen here, so fill "
                "masked cells with any value of the support, such as 0"
            )
        if not value.numel() and value.shape[-1:] == self.event_shape:
            return  # torch's check cannot reshape what is empty
        super()._validate_sample(value)


__all__ = ["EnergyDistribution"]
