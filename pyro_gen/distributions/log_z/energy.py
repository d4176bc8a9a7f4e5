"""Protocol of the distributions whose log Z the methods of this folder find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from torch import Size, Tensor

T = TypeVar("T")


class Energy(Protocol):
    """A distribution with log p(x) = -F(x) - log Z.

    See :class:`EnergyDistribution` for each member.
    """

    shares_memo: bool

    @property
    def batch_shape(self) -> Size:
        """Batch shape of the distribution, ``expand`` included."""

    @property
    def event_shape(self) -> Size:
        """(visible,)."""

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The parameter tensors."""

    @property
    def parameter_batch_shape(self) -> Size:
        """Batch shape of the parameters, without ``expand``."""

    @property
    def enumerated_units(self) -> float:
        """Binary units that an exact sum enumerates."""

    @property
    def mean_range(self) -> tuple[float, float]:
        """Range of the visible units' means."""

    def _free_energy(self, value: Tensor) -> Tensor: ...

    def _are_finite(self) -> bool: ...

    def _contrast(
        self, value: Tensor, particles: Tensor, shares: Tensor | None = None, paired: bool = False
    ) -> Tensor | None: ...

    def log_sum(self) -> Tensor:
        """Exact log Z by enumeration, with its gradient."""

    def sweep(self, value: Tensor, num_steps: int, seed: int, step: int) -> Tensor:
        """Gibbs sweeps keyed by (seed, step)."""

    def anneal(
        self, states: Tensor, base: Tensor, betas: Tensor, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Log weights and last states of chains annealed along ``betas``."""

    def base(self, mean: Tensor, variance: Tensor | None, margin: float) -> Tensor:
        """Natural parameters of independent visible units with given moments."""

    def base_log_partition(self, base: Tensor) -> Tensor:
        """Log Z of the base, in float64."""

    def base_states(self, base: Tensor, num_chains: int, seed: int) -> Tensor:
        """Draws from the base."""

    def pilot(self, num_chains: int, num_steps: int, seed: int) -> Tensor:
        """States after a few sweeps from the base rates."""

    def check_value(self, name: str, value: Tensor) -> None:
        """Check states that a user gives."""

    def remember(self, key: object, compute: Callable[[], T]) -> T:
        """The result of ``compute`` for the present parameters."""

    def share(self, memo: list[tuple[object, list[Tensor], Any]]) -> None:
        """Keep what is found out of log Z in ``memo``."""


__all__ = ["Energy"]
