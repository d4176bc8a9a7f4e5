"""Interfaces of networks and of their densities, which keep the modules of this folder apart."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Size, Tensor
from torch.distributions import constraints

from pyro_gen.distributions.autoregressive.conditionals import Conditional


class Conditioner(Protocol):
    """Interface of a network that gives each feature's conditional parameters.

    A module of :mod:`pyro_gen.nn`.

    Rows are flat: values (n, features) in the layout of the event, contexts (n,
    context) or None.
    """

    event_shape: Size
    conditional: Conditional
    order: Tensor
    """Features in the order in which they are generated, (features,)."""
    context: int
    """Width of a context, 0 for none."""

    def parameters_of(self, value: Tensor, context: Tensor | None) -> Tensor:
        """Parameters of all distributions, (n, features, parameters)."""

    def log_prob_of(self, value: Tensor, context: Tensor | None) -> Tensor:
        """Log probability of each row, (n,)."""

    def begin(self, rows: int, context: Tensor | None, like: Tensor) -> tuple[Tensor, Any]:
        """Parameters of the first feature's distribution, and a state to go on from.

        Parameters are (rows, parameters).
        """

    def proceed(self, state: Any, value: Tensor) -> tuple[Tensor, Any]:
        """Parameters of the next feature's distribution, and the next state.

        The present feature has values (rows,).
        """

    def generate(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows in the order of generation, (rows, features), and their log probabilities,
        (rows,).

        ``noise`` is what the distribution turns into values, (features, rows,
        ...).
        """

    @property
    def example(self) -> Tensor:
        """Any tensor of the dtype and on the device of the weights."""


@runtime_checkable
class AnyOrder(Conditioner, Protocol):
    """A network that knows the distribution of every feature given any others.

    It has a density for every order.
    """

    def parameters_given(self, value: Tensor, mask: Tensor, context: Tensor | None) -> Tensor:
        """Parameters of all distributions given the features under ``mask`` alone.

        Of shape (n, features, parameters).
        """

    def in_orders(self, orders: Tensor) -> Conditioner:
        """View of the weights in another order of generation.

        One order (features,), or one for each row, (n, features).
        """


@runtime_checkable
class NetworkDensity(Protocol):
    """A density whose features can be summed out.

    What a completion needs of :class:`Autoregressive`.
    """

    conditioner: Conditioner
    context: Tensor | None

    @property
    def conditional(self) -> Conditional:
        """The family of the conditional distributions."""

    @property
    def batch_shape(self) -> Size:
        """Batch shape, that of the context unless the density is expanded."""

    @property
    def event_shape(self) -> Size:
        """Event shape."""

    @property
    def features(self) -> int:
        """Number of features of an event."""

    @property
    def support(self) -> constraints.Constraint:
        """Constraint of the events."""

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """Constraints of the arguments."""

    @property
    def num_states(self) -> float:
        """Number of events; may be infinite."""

    @property
    def has_enumerate_support(self) -> bool:
        """True if the events are few enough to be listed."""

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All events."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability in nats."""

    def _context_rows(self, shape: Size) -> Tensor | None:
        """The contexts of a batch, one a row; None where there is no context."""

    def _unexpanded(self) -> NetworkDensity:
        """The density over the batch of its context, which does not check values."""


__all__ = ["AnyOrder", "Conditioner", "NetworkDensity"]
