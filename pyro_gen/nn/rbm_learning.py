"""How a restricted Boltzmann machine learns: what an update makes of chains, gradients, offsets and fast weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen.distributions.misuse import refuse_misuse
from pyro_gen.distributions.negative_phase import NegativePhase
from pyro_gen.distributions.partition import Partition
from pyro_gen.distributions.units import Units
from pyro_gen.distributions.units.base import UnitTypes
from pyro_gen.nn.chains import ChainModule
from pyro_gen.nn.learning import FROZEN_AFTER, Gradients, Hooked, centred, check_weights

OFFSETS_EVERY = 10
"""Updates between two of the offsets, each of which costs a product with the weights."""
OFFSETS_SHARE = 0.1
"""Share of the present particles in the sliding means."""


class Diagnostics(NamedTuple):
    """State of learning after an update.

    ``step`` counts sweeps; ``turnover`` is the share of the chains' units that the last update changed (NaN without
    chains); ``gradient_norm`` and ``weight_norm`` are Euclidean; ``phase`` holds what the negative phase adds, such as
    swap rates.
    """

    step: int
    turnover: float
    gradient_norm: float
    weight_norm: float
    phase: dict[str, Tensor]


class LearningRBM(ChainModule):
    """Weights of an RBM under a negative phase, and the gradient that an update follows.

    Args:
        negative_phase: how log Z is replaced in training, or a way to know it after all.
        evaluation: how log Z is known in ``eval()``.
        num_steps: Gibbs sweeps of the distribution's ``sample`` where no exact draw is possible.
    """

    weight: nn.Parameter
    vbias: nn.Parameter
    hbias: nn.Parameter
    visible_units: Units
    hidden_units: Units
    centring: bool
    base_rates: Tensor
    visible_offset: Tensor
    hidden_offset: Tensor

    def __init__(self, negative_phase: Partition | None, evaluation: Partition | None, num_steps: int | None) -> None:
        super().__init__(negative_phase, evaluation, num_steps)
        self._before: Tensor | None = None

    def _units(self, side: str, units: Units) -> Units:
        """The units of one side with the module's parameters."""
        return units.replace(**{name: getattr(self, f"{side}_{name}") for name in units.parameters})

    @property
    def units(self) -> UnitTypes:
        """Both unit types with the current parameters, as the distribution takes them."""
        visible, hidden = self._units("visible", self.visible_units), self._units("hidden", self.hidden_units)
        return {"visible_units": visible, "hidden_units": hidden}

    def _plain(self) -> distributions.RBM:
        """The distribution without a way to know log Z."""
        return distributions.RBM(self.weight, self.vbias, self.hbias, validate_args=False, **self.units)

    def transform(self, v: Tensor) -> Tensor:
        """Means of the hidden units given v, P(h_j = 1 | v) for Bernoulli units: the features of a data point.

        Args:
            v: visible states (..., visible).

        Returns:
            Means of shape (..., hidden).
        """
        return self.units["hidden_units"].mean(v.to(self.weight.dtype) @ self.weight + self.hbias)

    def learning(self) -> distributions.RBM:
        """Advance the negative phase, whatever the mode, and give the distribution under it.

        Returns:
            The distribution with the phase's snapshot, and centring and the phase's own learning on the way back to the
            parameters.
        """
        phase, parameters = cast(NegativePhase, self.negative_phase), (self.weight, self.vbias, self.hbias)
        refuse_misuse(torch.broadcast_shapes(self.weight.shape[:-2], self.vbias.shape[:-1], self.hbias.shape[:-1]))
        seed, step = self.key
        self.advance(phase)
        rows = None
        if self.centring or type(phase).learn is not NegativePhase.learn:
            *hooked, rows = Hooked.apply(self._hook, *parameters)
            parameters = (hooked[0], hooked[1], hooked[2])
        result = distributions.RBM(*parameters, num_steps=self.num_steps, **self.units)
        result.partition = phase.snapshot(self.state(), seed, step, rows).bind(result)
        return result

    def _hook(self, rows: Tensor, gradients: Gradients) -> Gradients:
        """Backwards through a contrast that a loss weighed with ``-rows``."""
        count = rows.abs()
        if count > 0:
            mean = gradients[0] / count, gradients[1] / count, gradients[2] / count
            return self.learned(mean, float(count))
        return gradients

    @torch.no_grad()
    def learned(self, gradients: Gradients, rows: float = 1.0) -> Gradients:
        """What an update is to follow, given the gradient of the mean contrast; the phase learns from it as well.

        Args:
            gradients: of weight, visible and hidden bias.
            rows: factor of the result.

        Returns:
            The gradients, centred where the module says so.
        """
        phase = cast(NegativePhase, self.negative_phase)
        self.keep(phase.learn(self.state(), gradients))
        weight, visible, hidden = self._centred(gradients) if self.centring else gradients
        return (weight, visible, hidden) if rows == 1.0 else (weight * rows, visible * rows, hidden * rows)

    def _centred(self, gradients: Gradients) -> Gradients:
        """The centred gradients, with the module's offsets."""
        return centred(gradients, self.visible_offset, self.hidden_offset)

    @torch.no_grad()
    def particles(self, count: int | None = None) -> Tensor:
        """States that stand for the model: the negative phase's particles, without hot chains and witnesses.

        Args:
            count: how many to draw, by their weights; None gives them as they are, or as many by their weights.

        Returns:
            Shape (particles, visible); none where the module keeps no chains.
        """
        if not isinstance(self.negative_phase, NegativePhase) or not len(self.chains):
            return self.chains
        states, weights = self.negative_phase.particles(self.state())
        if count is None and weights is None:
            return states
        rates = torch.ones(len(states), device=states.device) if weights is None else weights
        return states[torch.multinomial(rates, len(states) if count is None else count, replacement=True)]

    @torch.no_grad()
    def advanced(self, before: Tensor, step: int) -> None:
        """Note that the chains moved from ``before``, sweep ``step`` on: offsets follow, and lost weights are noticed.

        Args:
            before: the chains as they were.
            step: index of the update's first sweep.
        """
        phase = cast(NegativePhase, self.negative_phase)
        self._before = before
        update = step // phase.num_steps
        if self.centring and update % OFFSETS_EVERY == 0:
            self._move_offsets(phase)
        if update % FROZEN_AFTER == 0:
            check_weights(self.weight)
        super().advanced(before, step)

    def _move_offsets(self, phase: NegativePhase) -> None:
        """Sliding means of the units, over the particles, or where the phase keeps none at the base rates."""
        states, weights = phase.particles(self.state()) if phase.persistent_chains else (self.base_rates[None], None)
        for offset, units in ((self.visible_offset, states), (self.hidden_offset, self.transform(states))):
            mean = units.mean(0) if weights is None else weights @ units
            offset.lerp_(mean, OFFSETS_SHARE)

    def diagnostics(self) -> Diagnostics:
        """How learning goes, computed when asked for and not before.

        Returns:
            Turnover of the chains in the last update, norms of weights and gradient, and what the phase itself knows.

        Example:
            >>> from pyro_gen.nn import RBM
            >>> rbm = RBM(6, 3)
            >>> rbm().log_prob(torch.ones(2, 6)).sum().backward()
            >>> 0 <= rbm.diagnostics().turnover <= 1
            True
        """
        phase = self.negative_phase
        own = phase.diagnostics(self.state()) if isinstance(phase, NegativePhase) else {}
        turnover = math.nan
        if self._before is not None and self._before.shape == self.chains.shape and len(self.chains):
            turnover = self.chains.ne(self._before).double().mean().item()
        gradients = [p.grad.norm() for p in (self.weight, self.vbias, self.hbias) if p.grad is not None]
        norm = torch.stack(gradients).norm().item() if gradients else math.nan
        return Diagnostics(int(self.step), turnover, norm, self.weight.detach().norm().item(), own)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves and casts, from which a phase's sums in double precision come out as they were."""
        phase = self.negative_phase
        kept = {name: self._buffers[name] for name in phase.exact} if isinstance(phase, NegativePhase) else {}
        result = super()._apply(fn, recurse)
        self._buffers |= {name: cast(Tensor, x).to(self.weight.device) for name, x in kept.items()}
        return result

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles find out log Z for themselves."""
        return super().__getstate__() | {"_before": None}


__all__ = ["Diagnostics", "LearningRBM"]
