"""Base of modules that learn under a negative phase: settings, chains, and their
advance by an update.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen._module import Module
from pyro_gen._transforms import active, differentiating, refusal, wrapped
from pyro_gen.distributions.energy.base import EnergyDistribution, Memo
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.log_z.energy import Energy
from pyro_gen.distributions.log_z.negative_phase import Deferred, NegativePhase, Scored, State
from pyro_gen.distributions.log_z.partition import Partition
from pyro_gen.kernels import draw_seed
from pyro_gen.nn.learning import check_evaluation

GROUPS = torch.distributed.is_available()
"""Whether this torch knows process groups at all."""
FROZEN_AFTER = 256
"""Updates over which chains that have not moved count as frozen, and between two
looks at the weights.
"""


@dataclass
class Notes:
    """Things that a module notes from one update to the next, which no state needs.

    ``before`` holds the chains before the last advance, ``landmark`` those of
    the last look for frozen ones, and ``fresh`` says that visible biases that
    were not set wait for the gradient of the first batch.
    """

    before: Tensor | None = None
    landmark: Tensor | None = None
    fresh: bool = False


class PhaseModule(Module):
    """A module that learns under a negative phase, with its chains and the key of
    their draws in buffers.

    Args:
        negative_phase: how log Z is replaced in training, or a method that
            knows it.
        evaluation: how log Z is known in ``eval()``.
        num_steps: Gibbs sweeps of the distribution's ``sample`` where no exact
            draw is possible.
    """

    chains: Tensor
    step: Tensor
    seed: Tensor
    _called: PhaseModule | None = None
    """The module itself, where this is a view of it."""
    _swapped: bool = False
    """Whether the view works on buffers that were swapped in for its call, and
    writes into them.
    """

    def __init__(
        self, negative_phase: Partition | None, evaluation: Partition | None, num_steps: int | None
    ) -> None:
        super().__init__()
        self.negative_phase = negative_phase
        self.evaluation = evaluation
        if num_steps is None:
            self.num_steps = None
        else:
            self.num_steps = whole_number("num_steps", num_steps)

    @property
    def num_chains(self) -> int:
        """Chains that the negative phase keeps."""
        if isinstance(self.negative_phase, NegativePhase):
            return self.negative_phase.persistent_chains
        return 0

    def _keep_chains(self, chains: Tensor) -> None:
        """Register the buffers of the chains as they are at the start, with a key of their own."""
        self.register_buffer("chains", chains)
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("seed", torch.tensor(draw_seed()))

    @property
    def partition(self) -> Partition | None:
        """Way to log Z that a call's distribution gets: the negative phase while learning,
        else ``evaluation``.

        Raises:
            ValueError: ``evaluation`` is a negative phase.
            NotImplementedError: the module learns under a negative phase, and
                there are several ranks or a transform of torch.func is at work.
        """
        if not (self.training and torch.is_grad_enabled()):
            return check_evaluation(self.evaluation)
        if isinstance(self.negative_phase, NegativePhase):
            refuse_ranks(type(self).__name__)
            if active():
                refuse_transforms(self)
        return self.negative_phase

    @property
    def key(self) -> tuple[int, int]:
        """Key of the draws of the next sweep: seed and step."""
        return int(self.seed), int(self.step)

    def _defer(self, phase: NegativePhase, batched: bool = False, **values: Any) -> Deferred:
        """The contrast of this call, which advances the phase when a log probability is
        first asked for: ``_scored`` of a view of the module with what it holds
        now.

        Args:
            phase: the settings.
            batched: whether the distribution may be batched.
            **values: further attributes of the view, such as those that Pyro
                gives a module only while it is called.
        """
        check_chains(phase, self.chains)
        view = object.__new__(type(self))
        tables = {"_parameters": dict(self._parameters), "_buffers": dict(self._buffers)}
        view.__dict__.update(self.__dict__, _called=self, **tables, **values)
        return Deferred(phase, view._scored, batched)

    @abstractmethod
    def _scored(self, distribution: Energy, value: Tensor) -> Scored:
        """On a view that ``_defer`` made: advance the phase for the value to be scored."""

    def _rejoin(self) -> None:
        """Let a view work on the module's present buffers, unless others were swapped in
        for its call.

        The counter of the sweeps is changed in place, never exchanged: it tells
        which is the case.
        """
        module = cast(PhaseModule, self._called)
        self.__dict__["_swapped"] = module._buffers["step"] is not self._buffers["step"]
        if not self._swapped:
            self.__dict__["_buffers"] = module._buffers

    def state(self) -> State:
        """The buffers, by name: what a negative phase works on."""
        return {name: x for name, x in self._buffers.items() if x is not None}

    def keep(self, state: State) -> None:
        """Put new tensors in the place of buffers, or their numbers into those that were
        swapped in for a call.

        Args:
            state: by name; other buffers stay.
        """
        for name, value in state.items():
            if self._swapped:
                cast(Tensor, self._buffers[name]).copy_(value)
            else:
                self._buffers[name] = value


class _Kept(Partition):
    """A way to know log Z under which all that a distribution finds out is kept in a
    module's memo.

    Args:
        setting: the way; None for exactly, if there are few enough states.
        memo: of the module, which outlives the distribution.
    """

    def __init__(self, setting: Partition | None, memo: Memo) -> None:
        self.setting = setting
        self.memo = memo

    def bind(self, distribution: Energy) -> Partition | None:
        """The form of the setting that the distribution keeps, which shares the
        memo from now on.
        """
        distribution.share(self.memo)
        if self.setting is None:
            return None
        return self.setting.bind(distribution)

    def log_normalizer(self, distribution: Energy, value: Tensor) -> Tensor:
        """Raises: a distribution keeps the bound form of the setting."""
        raise NotImplementedError("`_Kept` is bound before it is used")

    def log_partition(self, distribution: Energy) -> Estimate:
        """Raises: a distribution keeps the bound form of the setting."""
        raise NotImplementedError("`_Kept` is bound before it is used")


class ChainModule(PhaseModule):
    """A module of which one distribution a call advances all chains together, when it
    is first scored.

    Args:
        negative_phase: how log Z is replaced in training, or a method that
            knows it.
        evaluation: how log Z is known in ``eval()``.
        num_steps: Gibbs sweeps of the distribution's ``sample`` where no exact
            draw is possible.
    """

    def __init__(
        self, negative_phase: Partition | None, evaluation: Partition | None, num_steps: int | None
    ) -> None:
        super().__init__(negative_phase, evaluation, num_steps)
        self._memo: Memo = []
        self._notes = Notes()

    @abstractmethod
    def _plain(self) -> EnergyDistribution:
        """The distribution that the chains are to follow; how it knows log Z does not matter."""

    @torch.no_grad()
    def advance(self, phase: NegativePhase, distribution: Energy | None = None) -> tuple[int, int]:
        """Run the sweeps of one update with the module's key, and count them.

        Args:
            phase: the settings.
            distribution: what the chains follow; None for the one over the
                current parameters.

        Returns:
            The key: the seed, and the index of the first sweep.

        Raises:
            ValueError: the phase keeps other chains than the module, or a
                parameter is not finite.
            NotImplementedError: there are several ranks.
        """
        refuse_ranks(type(self).__name__)
        check_chains(phase, self.chains)
        if distribution is None:
            distribution = self._plain()
        return self._advance(phase, distribution)

    @torch.no_grad()
    def _advance(self, phase: NegativePhase, distribution: Energy) -> tuple[int, int]:
        """Advance chains that were checked before."""
        before = self.chains
        (seed, step) = self.key
        if phase.moved_by or not distribution._are_finite():
            self.check_finite(
                [*distribution.parameters, *(self._buffers[name] for name in phase.moved_by)]
            )
        self.keep(phase.advance(distribution, cast(State, self._buffers), seed, step))
        self.step.add_(phase.num_steps)
        self.advanced(before, step)
        return seed, step

    def check_finite(self, used: Iterable[Tensor | None]) -> None:
        """Stop before chains move under parameters that are no longer finite.

        Args:
            used: the parameters that they would move under.

        Raises:
            ValueError: one holds NaN or infinite numbers.
        """
        buffers = (
            x
            for x in self._buffers.items()
            if x[1] is not None and x[0] not in self._exact_buffers
        )
        check_finite(
            used, chain(self.named_parameters(), cast(Iterable[tuple[str, Tensor]], buffers))
        )

    @property
    def _exact_buffers(self) -> tuple[str, ...]:
        """Sums of the phase that may well be infinite."""
        if isinstance(self.negative_phase, NegativePhase):
            return self.negative_phase.exact
        return ()

    def _scored(self, distribution: Energy, value: Tensor) -> Scored:
        """Advance the phase under a call's distribution: its contrast."""
        self._rejoin()
        phase = cast(NegativePhase, self.negative_phase)
        seed, step = self._advance(phase, distribution)
        return None, phase.snapshot(self._frozen_state(), seed, step)

    def _frozen_state(self) -> State:
        """The buffers as they are now: copies of those that later updates write into."""
        if self._swapped:
            return {name: x.clone() for name, x in self.state().items()}
        return cast(State, self._buffers)

    def advanced(self, before: Tensor, step: int) -> None:
        """Note, without gradients, that the chains moved from ``before``, sweep
        ``step`` on: frozen chains are noticed.

        Args:
            before: the chains as they were.
            step: index of the update's first sweep.
        """
        phase = cast(NegativePhase, self.negative_phase)
        if step // phase.num_steps % FROZEN_AFTER == 0 and phase.persistent_chains:
            warn_if_frozen(self._notes.landmark, self.chains)
            self._notes.landmark = self.chains

    def _rejoin(self) -> None:
        super()._rejoin()
        if self._swapped:
            self.__dict__["_notes"] = Notes()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles find out log Z for themselves."""
        return self.__dict__ | {"_memo": [], "_notes": Notes(fresh=self._notes.fresh)}


def check_finite(used: Iterable[Tensor | None], named: Iterable[tuple[str, Tensor]]) -> None:
    """Stop before chains move under parameters that are no longer finite.

    Args:
        used: what the chains would move under; one sum of all its numbers
            tells, a pass over each tensor.
        named: parameters and offsets behind it, by name, looked through only
            then.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    first, *totals = [x.sum() for x in used if x is not None]
    for total in totals:
        first = first + total
    if math.isfinite(first.item()):
        return
    for name, x in named:
        if x.is_floating_point() and not x.isfinite().all():
            raise ValueError(
                f"`{name}` is no longer finite: learning has diverged; start again with a "
                "smaller learning rate"
            )


def warn_if_frozen(before: Tensor | None, chains: Tensor) -> None:
    """Warn where at least half of the chains are what they were ``FROZEN_AFTER`` updates ago.

    Args:
        before: the chains as they were then, or None.
        chains: the chains now.
    """
    if before is None or before.shape != chains.shape:
        return
    frozen = int((before == chains).all(-1).sum())
    if frozen > 1 and 2 * frozen >= len(chains):
        warnings.warn(
            f"{frozen} of {len(chains)} persistent chains are where they were {FROZEN_AFTER} "
            "updates ago: they have "
            "frozen, and the gradient no longer knows the model; use more steps, TemperedChains, "
            "weight decay or a "
            "smaller learning rate",
            stacklevel=3,
        )


def refuse_ranks(name: str) -> None:
    """Raise where a process group has several ranks, whose chains and offsets
    nothing keeps together.

    Args:
        name: what learns under a negative phase, for the message.

    Raises:
        NotImplementedError: it has.
    """
    if (
        GROUPS
        and torch.distributed.is_initialized()
        and (ranks := torch.distributed.get_world_size()) > 1
    ):
        raise NotImplementedError(
            f"{name} cannot learn under a negative phase in a process group of {ranks} ranks: "
            "neither "
            "DistributedDataParallel nor `contrastive_gradient` brings the ranks' chains, "
            "offsets and gradients "
            "together, so every rank would learn another model; train in one process and use the "
            "ranks in .eval()"
        )


def check_chains(phase: NegativePhase, chains: Tensor) -> None:
    """Check that a phase keeps as many chains as the module was made with.

    Args:
        phase: the settings.
        chains: the module's chains, (num_chains, visible).

    Raises:
        ValueError: it does not.
    """
    if chains.dim() != 2 or chains.shape[0] != phase.persistent_chains:
        raise ValueError(
            f"`negative_phase` must keep the {len(chains)} chains that the module was made with, "
            f"got {phase}"
        )


def refuse_transforms(module: nn.Module) -> None:
    """Raise where a call would advance the chains of a module by weights that a
    transform of torch.func at work holds.

    Args:
        module: in training mode, with a negative phase.

    Raises:
        NotImplementedError: weights or chains are batched by vmap, or grad or
            jvp is at work.
    """
    if differentiating() or wrapped([*module.parameters(), *module.buffers()]):
        raise refusal(
            f"{type(module).__name__} in training mode",
            "a call advances one set of chains in place",
            "put it in eval(), where log Z is that of `evaluation`, or call one module after the "
            "other; gradients of "
            "the negative phase are those of backward()",
        )


__all__ = [
    "FROZEN_AFTER",
    "ChainModule",
    "PhaseModule",
    "check_chains",
    "check_finite",
    "refuse_ranks",
]
