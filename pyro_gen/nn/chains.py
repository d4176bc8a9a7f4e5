"""Base of modules that learn under a negative phase: settings, chains, and their advance by an update."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen._module import Module
from pyro_gen.distributions.energy.base import EnergyDistribution, Memo
from pyro_gen.distributions.log_z.negative_phase import Deferred, NegativePhase, Scored, State
from pyro_gen.distributions.log_z.partition import Partition
from pyro_gen.kernels import draw_seed
from pyro_gen.nn.learning import (
    FROZEN_AFTER,
    check_chains,
    check_evaluation,
    check_finite,
    refuse_ranks,
    warn_if_frozen,
)
from pyro_gen.nn.transforms import refuse_transforms


@dataclass
class Notes:
    """Things that a module notes from one update to the next, which no state needs.

    ``before`` holds the chains before the last advance, ``landmark`` those of the last look for frozen ones, and
    ``fresh`` says that visible biases that were not set wait for the gradient of the first batch.
    """

    before: Tensor | None = None
    landmark: Tensor | None = None
    fresh: bool = False


class PhaseModule(Module):
    """A module that learns under a negative phase, with its chains and the key of their draws in buffers.

    Args:
        negative_phase: how log Z is replaced in training, or a method that knows it.
        evaluation: how log Z is known in ``eval()``.
        num_steps: Gibbs sweeps of the distribution's ``sample`` where no exact draw is possible.
    """

    chains: Tensor
    step: Tensor
    seed: Tensor
    _called: PhaseModule | None = None
    """The module itself, where this is a view of it."""
    _swapped: bool = False
    """Whether the view works on buffers that were swapped in for its call, and writes into them."""

    def __init__(self, negative_phase: Partition | None, evaluation: Partition | None, num_steps: int | None) -> None:
        super().__init__()
        self.negative_phase, self.evaluation = negative_phase, evaluation
        self.num_steps = None if num_steps is None else whole_number("num_steps", num_steps)

    @property
    def num_chains(self) -> int:
        """Chains that the negative phase keeps."""
        return self.negative_phase.persistent_chains if isinstance(self.negative_phase, NegativePhase) else 0

    def _keep_chains(self, chains: Tensor) -> None:
        """Register the buffers of the chains as they are at the start, with a key of their own."""
        self.register_buffer("chains", chains)
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("seed", torch.tensor(draw_seed()))

    @property
    def partition(self) -> Partition | None:
        """Way to log Z that a call's distribution gets: the negative phase while learning, else ``evaluation``.

        Raises:
            ValueError: ``evaluation`` is a negative phase.
            NotImplementedError: the module learns under a negative phase, and there are several ranks or a transform
                of torch.func is at work.
        """
        if not (self.training and torch.is_grad_enabled()):
            return check_evaluation(self.evaluation)
        if isinstance(self.negative_phase, NegativePhase):
            refuse_ranks(type(self).__name__)
            refuse_transforms(self)
        return self.negative_phase

    @property
    def key(self) -> tuple[int, int]:
        """Key of the draws of the next sweep: seed and step."""
        return int(self.seed), int(self.step)

    def _defer(
        self, phase: NegativePhase, run: Callable[[Any, EnergyDistribution, Tensor], Scored], **values: Any
    ) -> Deferred:
        """The contrast of this call, which advances the phase when a log probability is first asked for.

        Args:
            phase: the settings.
            run: given a view of the module with what it holds now, the distribution and the value to be scored,
                advances the phase.
            **values: attributes of the view, for those that Pyro gives a module only while it is called.
        """
        check_chains(phase, self.chains)
        view = object.__new__(type(self))
        tables = {"_parameters": dict(self._parameters), "_buffers": dict(self._buffers)}
        view.__dict__.update(self.__dict__, _called=self, **tables, **values)
        return Deferred(phase, _Run(view, run))

    def _rejoin(self) -> None:
        """Let a view work on the module's present buffers, unless others were swapped in for its call.

        The counter of the sweeps is changed in place, never exchanged: it tells which is the case.
        """
        module = cast(PhaseModule, self._called)
        self.__dict__["_swapped"] = module._buffers["step"] is not self._buffers["step"]
        if not self._swapped:
            self.__dict__["_buffers"] = module._buffers

    def state(self) -> State:
        """The buffers, by name: what a negative phase works on."""
        return dict(self.named_buffers(recurse=False))

    def keep(self, state: State) -> None:
        """Put new tensors in the place of buffers, or their numbers into those that were swapped in for a call.

        Args:
            state: by name; other buffers stay.
        """
        for name, value in state.items():
            if self._swapped:
                cast(Tensor, self._buffers[name]).copy_(value)
            else:
                self._buffers[name] = value


class _Run:
    """An advance that waits, on a view of the module; a class, so that distributions can be pickled."""

    def __init__(self, view: Any, run: Callable[[Any, EnergyDistribution, Tensor], Scored]) -> None:
        self.view, self.run = view, run

    def __call__(self, distribution: EnergyDistribution, value: Tensor) -> Scored:
        self.view._rejoin()
        return self.run(self.view, distribution, value)


class ChainModule(PhaseModule):
    """A module of which one distribution a call advances all chains together, when it is first scored.

    Args:
        negative_phase: how log Z is replaced in training, or a method that knows it.
        evaluation: how log Z is known in ``eval()``.
        num_steps: Gibbs sweeps of the distribution's ``sample`` where no exact draw is possible.
    """

    def __init__(self, negative_phase: Partition | None, evaluation: Partition | None, num_steps: int | None) -> None:
        super().__init__(negative_phase, evaluation, num_steps)
        self._memo: Memo = []
        self._notes = Notes()

    @abstractmethod
    def _plain(self) -> EnergyDistribution:
        """The distribution that the chains are to follow; how it knows log Z does not matter."""

    @torch.no_grad()
    def advance(self, phase: NegativePhase, distribution: EnergyDistribution | None = None) -> None:
        """Run the sweeps of one update with the module's key, and count them.

        Args:
            phase: the settings.
            distribution: what the chains follow; None for the one over the current parameters.

        Raises:
            ValueError: the phase keeps other chains than the module, or a parameter is not finite.
            NotImplementedError: there are several ranks.
        """
        refuse_ranks(type(self).__name__)
        check_chains(phase, self.chains)
        before, (seed, step) = self.chains, self.key
        distribution = self._plain() if distribution is None else distribution
        self.check_finite([*distribution.parameters, *(self._buffers[name] for name in phase.moved_by)])
        self.keep(phase.advance(distribution, self.state(), seed, step))
        self.step += phase.num_steps
        self.advanced(before, step)

    def check_finite(self, used: Iterable[Tensor | None]) -> None:
        """Stop before chains move under parameters that are no longer finite.

        Args:
            used: the parameters that they would move under.

        Raises:
            ValueError: one holds NaN or infinite numbers.
        """
        buffers = (x for x in self._buffers.items() if x[1] is not None and x[0] not in self._exact_buffers)
        check_finite(used, chain(self.named_parameters(), cast(Iterable[tuple[str, Tensor]], buffers)))

    @property
    def _exact_buffers(self) -> tuple[str, ...]:
        """Sums of the phase that may well be infinite."""
        return self.negative_phase.exact if isinstance(self.negative_phase, NegativePhase) else ()

    def _scored(self, distribution: EnergyDistribution, value: Tensor) -> Scored:
        """Advance the phase under a call's distribution: its contrast."""
        phase, (seed, step) = cast(NegativePhase, self.negative_phase), self.key
        self.advance(phase, distribution)
        return None, phase.snapshot(self._frozen_state(), seed, step)

    def _frozen_state(self) -> State:
        """The buffers as they are now: copies of those that later updates write into."""
        state = self.state()
        return {name: x.clone() for name, x in state.items()} if self._swapped else state

    @torch.no_grad()
    def advanced(self, before: Tensor, step: int) -> None:
        """Note that the chains moved from ``before``, sweep ``step`` on: frozen chains are noticed.

        Args:
            before: the chains as they were.
            step: index of the update's first sweep.
        """
        if self.num_chains and step // cast(NegativePhase, self.negative_phase).num_steps % FROZEN_AFTER == 0:
            warn_if_frozen(self._notes.landmark, self.chains)
            self._notes.landmark = self.chains

    def _rejoin(self) -> None:
        super()._rejoin()
        if self._swapped:
            self.__dict__["_notes"] = Notes()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles find out log Z for themselves."""
        return self.__dict__ | {"_memo": [], "_notes": Notes(fresh=self._notes.fresh)}


__all__ = ["ChainModule", "PhaseModule"]
