"""What modules that learn under a negative phase have in common: settings, chains, and how an update moves them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.energy import EnergyDistribution, Memo
from pyro_gen.distributions.negative_phase import NegativePhase, State
from pyro_gen.distributions.partition import Partition
from pyro_gen.kernels import draw_seed
from pyro_gen.nn.learning import FROZEN_AFTER, check_chains, check_evaluation, warn_if_frozen
from pyro_gen.nn.transforms import refuse_transforms


class PhaseModule(nn.Module):
    """A module that learns under a negative phase, with its chains and the key of their draws in buffers.

    Args:
        negative_phase: how log Z is replaced in training, or a way to know it after all.
        evaluation: how log Z is known in ``eval()``.
        num_steps: Gibbs sweeps of the distribution's ``sample`` where no exact draw is possible.
    """

    chains: Tensor
    step: Tensor
    seed: Tensor

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
        """What the distribution of a call is given now: the negative phase while learning, else ``evaluation``.

        Raises:
            ValueError: ``evaluation`` is a negative phase.
            NotImplementedError: a transform of torch.func is at work, and the chains cannot advance.
        """
        learning = self.training and torch.is_grad_enabled()
        if learning and isinstance(self.negative_phase, NegativePhase):
            refuse_transforms(self)
        return self.negative_phase if learning else check_evaluation(self.evaluation)

    @property
    def key(self) -> tuple[int, int]:
        """What the draws of the next sweep are keyed by: seed and step."""
        return int(self.seed), int(self.step)


class ChainModule(PhaseModule):
    """A module of which one distribution a call advances all chains together.

    Args:
        negative_phase: how log Z is replaced in training, or a way to know it after all.
        evaluation: how log Z is known in ``eval()``.
        num_steps: Gibbs sweeps of the distribution's ``sample`` where no exact draw is possible.
    """

    def __init__(self, negative_phase: Partition | None, evaluation: Partition | None, num_steps: int | None) -> None:
        super().__init__(negative_phase, evaluation, num_steps)
        self._memo: Memo = []
        self._landmark: Tensor | None = None

    @abstractmethod
    def _plain(self) -> EnergyDistribution:
        """The distribution that the chains are to follow; how it knows log Z does not matter."""

    def state(self) -> State:
        """The buffers, by name: what a negative phase works on."""
        return dict(self.named_buffers(recurse=False))

    def keep(self, state: State) -> None:
        """Put new tensors in the place of buffers.

        Args:
            state: by name; other buffers stay.
        """
        for name, value in state.items():
            self._buffers[name] = value

    @torch.no_grad()
    def advance(self, phase: NegativePhase) -> None:
        """Run the sweeps of one update with the module's key, and count them.

        Args:
            phase: the settings.
        """
        check_chains(phase, self.chains)
        before, (seed, step) = self.chains, self.key
        self.keep(phase.advance(self._plain(), self.state(), seed, step))
        self.step += phase.num_steps
        self.advanced(before, step)

    @torch.no_grad()
    def advanced(self, before: Tensor, step: int) -> None:
        """Note that the chains moved from ``before``, sweep ``step`` on: frozen chains are noticed.

        Args:
            before: the chains as they were.
            step: index of the update's first sweep.
        """
        if self.num_chains and step // cast(NegativePhase, self.negative_phase).num_steps % FROZEN_AFTER == 0:
            warn_if_frozen(self._landmark, self.chains)
            self._landmark = self.chains

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles find out log Z for themselves."""
        return self.__dict__ | {"_memo": [], "_landmark": None}


__all__ = ["ChainModule", "PhaseModule"]
