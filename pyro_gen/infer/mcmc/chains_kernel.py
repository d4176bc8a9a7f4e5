"""Adapter for ``pyro.infer.MCMC`` of samplers with a pure step and many chains."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor

from pyro_gen._arguments import whole_number

State = TypeVar("State")
Info = TypeVar("Info")


class ChainsKernel(MCMCKernel, Generic[State, Info]):
    """Kernel without a model, defined by a first state, a step, and the draws in a state.

    Args:
        num_chains: chains, the first dimension of every draw.

    Raises:
        ValueError: ``num_chains`` is below 1.
    """

    model = None

    def __init__(self, num_chains: int) -> None:
        self.num_chains = whole_number("num_chains", num_chains)
        self.transforms: dict[str, Any] = {}
        self._state: State | None = None

    @abstractmethod
    def init(self) -> State:
        """The first state."""

    @abstractmethod
    def step(self, state: State) -> tuple[State, Info]:
        """The next state and diagnostics of the step."""

    @abstractmethod
    def _draws(self, state: State) -> dict[str, Tensor]:
        """The values of all sites in a state, (num_chains, ...)."""

    @abstractmethod
    def _moved(self, state: State, draws: Mapping[str, Tensor]) -> State:
        """The state with other values."""

    def _note(self, info: Info) -> None:
        """Store the diagnostics of a draw."""

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Start the chains; there is no model that takes arguments."""
        self._state = self.init()

    @property
    def initial_params(self) -> dict[str, Tensor]:
        """The present values, at first those of :meth:`init`."""
        self._state = self._state or self.init()
        return self._draws(self._state)

    @initial_params.setter
    def initial_params(self, params: Mapping[str, Tensor]) -> None:
        self._start_at(params)

    @abstractmethod
    def _start_at(self, params: Mapping[str, Tensor]) -> None:
        """Let :meth:`init` start at these values."""

    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        """One draw: a step from the values in ``params``."""
        state = self._moved(self._state or self.init(), params)
        self._state, info = self.step(state)
        self._note(info)
        return self._draws(self._state)

    def logging(self) -> OrderedDict[str, str]:
        """Empty: nothing is shown in the progress bar."""
        return OrderedDict()

    def diagnostics(self) -> dict[str, Any]:
        """No divergences."""
        return {"divergences": {}}


__all__ = ["ChainsKernel"]
