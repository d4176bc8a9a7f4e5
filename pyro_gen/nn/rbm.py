"""The restricted Boltzmann machine as a module: weights, chains and the distribution over their current values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen.distributions.annealing import with_base_rates
from pyro_gen.distributions.energy import Memo
from pyro_gen.distributions.misuse import refuse_misuse
from pyro_gen.distributions.negative_phase import NegativePhase, PersistentChains, State
from pyro_gen.distributions.partition import Partition
from pyro_gen.distributions.units import BernoulliUnits, Units
from pyro_gen.distributions.units.base import UnitTypes
from pyro_gen.kernels import draw_seed
from pyro_gen.nn.learning import (
    FROZEN_AFTER,
    Gradients,
    Hooked,
    centred,
    check_chains,
    check_evaluation,
    check_states,
    check_weights,
    warn_if_frozen,
)

BERNOULLI = BernoulliUnits()
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


class RBM(nn.Module):
    """Weights, chains and settings of an RBM; calling it returns :class:`pyro_gen.distributions.RBM`.

    In training mode with gradients enabled a call advances the negative phase once and returns a distribution with a
    frozen snapshot of its particles: ``log_prob`` is a contrast with the phase's gradient. In ``eval()`` or under
    ``no_grad`` the distribution carries ``evaluation`` instead, and ``log_prob`` is a log probability in nats.

    The buffers ``chains`` (num_chains, visible), ``step`` and ``seed`` hold all that learning needs, so that
    ``state_dict`` resumes bit for bit; ``base_rates`` (visible,) is where AIS anneals from. Copies share the key: give
    each member of an ensemble a seed of its own.

    Args:
        visible: number of visible units.
        hidden: number of hidden units.
        negative_phase: how log Z is replaced in training: ``PersistentChains``, ``ContrastiveDivergence``, or a way to
            know it after all (``Exact``, ``AIS``, None), for models small enough.
        evaluation: how log Z is known in ``eval()``: ``Exact``, ``AIS`` or None (exact up to 20 units on the smaller
            side).
        num_steps: Gibbs sweeps of the distribution's ``sample`` where no exact draw is possible.
        centring: whether the gradient under a negative phase is the centred one (see :func:`pyro_gen.nn.centred`), with
            sliding means of the particles as offsets. The parameters stay what they are, W, a and b; ``.grad`` is then
            the step that the centred parametrisation would make, no longer the plain gradient.
        visible_units: type of the visible units; its parameters (``log_precision``) start at the value given and are
            learned, as ``visible_log_precision`` and ``hidden_log_precision``.
        hidden_units: type of the hidden units.

    Raises:
        ValueError: a size is below 1, ``evaluation`` is a negative phase, or units and sizes do not fit.

    References:
        Hinton (2012), A practical guide to training restricted Boltzmann machines, Section 8 (initial values).

    Example:
        >>> rbm = RBM(6, 3)
        >>> rbm().log_prob(torch.ones(2, 6)).shape, rbm.step.item()
        (torch.Size([2]), 1)
        >>> rbm.eval()().log_partition().method
        'exact'
    """

    chains: Tensor
    step: Tensor
    seed: Tensor
    base_rates: Tensor
    visible_offset: Tensor
    hidden_offset: Tensor
    base_variances: Tensor | None

    def __init__(
        self,
        visible: int,
        hidden: int,
        negative_phase: Partition | None = PersistentChains(),  # noqa: B008  # an immutable setting
        evaluation: Partition | None = None,
        num_steps: int | None = None,
        *,
        centring: bool = False,
        visible_units: Units = BERNOULLI,
        hidden_units: Units = BERNOULLI,
    ) -> None:
        super().__init__()
        if visible < 1 or hidden < 1:
            raise ValueError(f"`visible` and `hidden` must be at least 1, got {visible} and {hidden}")
        check_evaluation(evaluation)
        self.negative_phase, self.evaluation, self.num_steps = negative_phase, evaluation, num_steps
        self.weight = nn.Parameter(0.01 * torch.randn(visible, hidden))
        self.vbias = nn.Parameter(torch.zeros(visible))
        self.hbias = nn.Parameter(torch.zeros(hidden))
        num_chains = negative_phase.persistent_chains if isinstance(negative_phase, NegativePhase) else 0
        self._set_units(visible_units, hidden_units)
        self.register_buffer("chains", self._noise(num_chains))
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("seed", torch.tensor(draw_seed()))
        self.register_buffer("base_rates", self.visible_units.mean(torch.zeros(visible)))
        self.register_buffer("base_variances", None)
        if centring:
            self.register_buffer("visible_offset", self.base_rates.clone())
            self.register_buffer("hidden_offset", self.hidden_units.mean(torch.zeros(hidden)))
        self.centring = centring
        self._memo: Memo = []
        self._before: Tensor | None = None
        self._landmark: Tensor | None = None
        self._start_phase()

    def _set_units(self, visible: Units, hidden: Units) -> None:
        """Keep both types, and own their parameters."""
        self.visible_units, self.hidden_units = visible.bind("visible", self.vbias), hidden.bind("hidden", self.hbias)
        for side, units in (("visible", self.visible_units), ("hidden", self.hidden_units)):
            for name, x in units.parameters.items():
                setattr(self, f"{side}_{name}", nn.Parameter(x.detach().clone()))

    def _units(self, side: str, units: Units) -> Units:
        """The units of one side with the module's parameters."""
        return units.replace(**{name: getattr(self, f"{side}_{name}") for name in units.parameters})

    @property
    def units(self) -> UnitTypes:
        """Both unit types with the current parameters, as the distribution takes them."""
        visible, hidden = self._units("visible", self.visible_units), self._units("hidden", self.hidden_units)
        return {"visible_units": visible, "hidden_units": hidden}

    def _noise(self, num_chains: int) -> Tensor:
        """States of visible units without field."""
        fields = torch.zeros(num_chains, len(self.vbias), dtype=self.weight.dtype)
        if isinstance(self.visible_units, BernoulliUnits):
            return torch.randint(2, fields.shape).to(fields.dtype)
        return self.visible_units.conditional(fields).sample()

    @classmethod
    def from_data(cls, x: Tensor, hidden: int, **settings: Any) -> RBM:
        """Start at the data: visible biases and base rates at the pixels' rates, chains at random rows.

        Args:
            x: states of the visible units (zeros and ones unless told otherwise), shape (rows, visible).
            hidden: number of hidden units.
            **settings: ``negative_phase``, ``evaluation``, ``num_steps``, ``centring``, ``visible_units`` and
                ``hidden_units`` of the constructor. Precisions of Gaussian and ReLU units start at the data's
                variances.

        Returns:
            A module with the dtype and on the device of ``x``.

        Raises:
            ValueError: ``x`` is empty, has another number of dimensions or values outside the units' support.

        Example:
            >>> RBM.from_data(torch.eye(4), 2).base_rates
            tensor([0.3333, 0.3333, 0.3333, 0.3333])
        """
        check_states("x", x, settings.get("visible_units", BERNOULLI))
        rbm = cls(x.shape[-1], hidden, **settings).to(x.device, x.dtype if x.is_floating_point() else None)
        with torch.no_grad():
            rbm._start_at(x.to(rbm.weight))
        rbm.start_chains(x)
        return rbm

    @torch.no_grad()
    def start_chains(self, x: Tensor) -> None:
        """Start the negative phase over, and the visible offsets of centring at the base rates.

        Chains start at random rows, or in order where there are as many, unless the phase has a start of its own.

        Args:
            x: states of the visible units, (rows, visible).
        """
        count = len(self.chains)
        rows = torch.arange(count) if count == len(x) else torch.randint(len(x), (count,))
        self.chains.copy_(x[rows.to(x.device)])
        if self.centring:
            self.visible_offset.copy_(self.base_rates)
        self._start_phase()

    def _start_phase(self) -> None:
        """Give the phase the buffers that it asks for, as they are at the start."""
        if isinstance(self.negative_phase, NegativePhase):
            for name, value in self.negative_phase.initial_state(self._plain(), self.base_rates).items():
                self.register_buffer(name, value)

    def _plain(self) -> distributions.RBM:
        """The distribution without a way to know log Z."""
        return distributions.RBM(self.weight, self.vbias, self.hbias, validate_args=False, **self.units)

    def _start_at(self, x: Tensor) -> None:
        """Base and visible layer with the moments of the data."""
        if isinstance(self.visible_units, BernoulliUnits):
            self.base_rates.copy_((x.sum(0) + 1) / (len(x) + 2))
            self.vbias.copy_(self.base_rates.logit())
            return
        self.base_rates.copy_(x.mean(0))
        variances, own = x.var(0, correction=0), self.visible_units.parameters
        self.base_variances = variances if own else None
        fields, units = self.visible_units.from_moments(self.base_rates, variances, 1 / (len(x) + 2))
        self.vbias.copy_(fields)
        for name, value in units.parameters.items():
            getattr(self, f"visible_{name}").copy_(value)

    def forward(self) -> distributions.RBM:
        """The distribution over the current weights; advances the negative phase in training mode with gradients.

        Returns:
            The distribution, with the phase's snapshot or ``evaluation`` as its ``partition``.

        Raises:
            ValueError: the caller cannot work with a negative phase (HMC, traced ELBOs, importance weights, batched
                weights).
        """
        learning = self.training and torch.is_grad_enabled()
        phase = self.negative_phase if learning else check_evaluation(self.evaluation)
        if isinstance(phase, NegativePhase):
            return self.learning()
        result = distributions.RBM(self.weight, self.vbias, self.hbias, num_steps=self.num_steps, **self.units)
        if all(isinstance(p, nn.Parameter) for p in result.parameters):
            result.share(self._memo)  # one run of AIS for each version of the weights
        partition = with_base_rates(phase, self.base_rates, self.base_variances)
        result.partition = None if partition is None else partition.bind(result)
        return result

    def learning(self) -> distributions.RBM:
        """Advance the negative phase, whatever the mode, and give the distribution under it.

        Returns:
            The distribution with the phase's snapshot, and centring and the phase's own learning on the way back to the
            parameters.
        """
        phase, parameters = cast(NegativePhase, self.negative_phase), (self.weight, self.vbias, self.hbias)
        refuse_misuse(torch.broadcast_shapes(self.weight.shape[:-2], self.vbias.shape[:-1], self.hbias.shape[:-1]))
        seed, step = int(self.seed), int(self.step)
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

    def transform(self, v: Tensor) -> Tensor:
        """Means of the hidden units given v, P(h_j = 1 | v) for Bernoulli units: the features of a data point.

        Args:
            v: visible states (..., visible).

        Returns:
            Means of shape (..., hidden).
        """
        return self.units["hidden_units"].mean(v.to(self.weight.dtype) @ self.weight + self.hbias)

    @torch.no_grad()
    def reconstruction_error(self, v: Tensor) -> Tensor:
        """Mean error of one up-and-down pass with means, a rough sign of progress at most.

        Args:
            v: visible states (rows, visible).

        Returns:
            Expected wrong units (of categorical ones: sites) a row, or the squared error of the others; a scalar.
        """
        units = self.units["visible_units"]
        return units.wrong(units.mean(self.transform(v) @ self.weight.mT + self.vbias), v).mean()

    def state(self) -> State:
        """The buffers, by name: what a negative phase works on."""
        return dict(self.named_buffers(recurse=False))

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
        before, seed, step = self.chains, int(self.seed), int(self.step)
        self.keep(phase.advance(self._plain(), self.state(), seed, step))
        self.step += phase.num_steps
        self.advanced(before, step)

    @torch.no_grad()
    def advanced(self, before: Tensor, step: int) -> None:
        """Note that the chains moved from ``before``, sweep ``step`` on: offsets follow, and frozen chains are noticed.

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
            if phase.persistent_chains:
                warn_if_frozen(self._landmark, self.chains)
                self._landmark = self.chains

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

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Base variances are there from data only: the state says whether."""
        variances = state_dict.get(f"{prefix}base_variances")
        self.base_variances = None if variances is None else torch.empty_like(self.base_rates)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles find out log Z for themselves."""
        return self.__dict__ | {"_memo": [], "_before": None, "_landmark": None}

    def extra_repr(self) -> str:
        """Sizes and settings."""
        visible, hidden = self.weight.shape
        return f"visible={visible}, hidden={hidden}, negative_phase={self.negative_phase}, evaluation={self.evaluation}"
