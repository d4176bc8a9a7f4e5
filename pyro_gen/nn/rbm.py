"""The restricted Boltzmann machine as a module: weights, chains and the
distribution over their current values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_gen import distributions
from pyro_gen._arguments import whole_number
from pyro_gen._columns import check_varied, moments
from pyro_gen._points import Expected, check_value
from pyro_gen._rows import as_floating, as_tensor
from pyro_gen.distributions.log_z.annealing import with_base_rates
from pyro_gen.distributions.log_z.energy import Energy
from pyro_gen.distributions.log_z.negative_phase import NegativePhase, PersistentChains, Scored
from pyro_gen.distributions.log_z.partition import Partition
from pyro_gen.distributions.units import BernoulliUnits, Units
from pyro_gen.distributions.units.base import UnitTypes
from pyro_gen.distributions.units.continuous import PreciseUnits
from pyro_gen.nn.centred import CentredRBM, plain_biases
from pyro_gen.nn.chains import FROZEN_AFTER, ChainModule, _Kept
from pyro_gen.nn.learning import (
    BERNOULLI,
    Gradients,
    Watched,
    check_evaluation,
    check_layer,
    check_states,
    check_weights,
)

ENERGY: tuple[str, ...] = ("weight", "vbias", "hbias")
"""Parameters of every RBM; units may have further ones."""
OFFSETS_EVERY = 10
"""Updates between two of the offsets, each of which costs a product with the weights."""
FIRST_ROWS = 100
"""What the first batch counts for beside one row of ones and one of zeros: a loss
may have scaled it to any number.
"""
OFFSETS_SHARE = 0.1
LEAST_SHARE = 0.01
SETTLING = 1000
"""Share of the present particles in the sliding means, which falls over so many
updates as the means settle: offsets
that go on to jump would be noise in a running average of the parameters."""


class Diagnostics(NamedTuple):
    """State of learning after an update.

    ``step`` counts sweeps; ``turnover`` is the share of the chains' units that
    the last update changed (NaN without chains); ``gradient_norm`` and
    ``weight_norm`` are Euclidean; ``phase`` holds what the negative phase adds,
    such as swap rates.
    """

    step: int
    turnover: float
    gradient_norm: float
    weight_norm: float
    phase: dict[str, Tensor]


class RBM(ChainModule):
    r"""Weights, chains and settings of an RBM.

    Calling it returns :class:`pyro_gen.distributions.RBM`.

    In training mode with gradients enabled ``log_prob`` of the distribution is
    a contrast with the phase's gradient: the first time it is asked for, the
    negative phase advances once, and the particles are frozen from then on. In
    ``eval()`` or under ``no_grad`` the distribution carries ``evaluation``
    instead, and ``log_prob`` is a log probability in nats.

    The buffers ``chains`` (num_chains, visible), ``step`` and ``seed`` hold all
    that learning needs, so that ``state_dict`` resumes bit for bit;
    ``base_rates`` (visible,) is where AIS anneals from. Copies share the key:
    give each member of an ensemble a seed of its own.

    With centring the parameters are those of the centred energy, in which a
    step for a weight moves no unit's mean field, whatever the optimiser makes
    of the single gradients:

    .. math:: E(v, h) = -(v-\mu) \cdot a - (h-\lambda) \cdot b - (v-\mu) W (h-\lambda)

    The uncentred biases of the same machine are :math:`a - W\lambda` and
    :math:`b - W^\top\mu`. The offsets follow the means of the units, and the
    biases follow the offsets, so that the machine stays the same.

    Args:
        visible: number of visible units.
        hidden: number of hidden units.
        negative_phase: how log Z is replaced in training: ``PersistentChains``,
            ``ContrastiveDivergence``, or a way to know it after all (``Exact``,
            ``AIS``, None), for models small enough.
        evaluation: how log Z is known in ``eval()``: ``Exact``, ``AIS`` or None
            (exact up to 20 units on the smaller side).
        num_steps: Gibbs sweeps of the distribution's ``sample`` where no exact
            draw is possible.
        centring: whether the parameters are those of the centred energy
            (above), with sliding means of the particles as offsets; None for
            wherever there is a negative phase. The biases are then relative to
            the offsets, and ``uncentred`` gives those of the plain energy, as
            ``rbm().vbias`` does. Visible biases and offsets that are as the
            constructor left them start at the means of the first batch.
        visible_units: type of the visible units; its parameters
            (``log_precision``) start at the value given and are learned, as
            ``visible_log_precision`` and ``hidden_log_precision``.
        hidden_units: type of the hidden units.

    Raises:
        ValueError: a size is below 1, ``evaluation`` is a negative phase, or
            units and sizes do not fit.

    References:
        Hinton (2012), A practical guide to training restricted Boltzmann
        machines, Section 8 (initial values). Montavon and Mueller (2012), Deep
        Boltzmann machines and the centering trick. Melchior, Fischer and
        Wiskott (2016), How to center deep Boltzmann machines, JMLR 17.

    Example:
        >>> rbm = RBM(6, 3)
        >>> rbm().log_prob(torch.ones(2, 6)).shape, rbm.step.item()
        (torch.Size([2]), 1)
        >>> rbm.eval()().log_partition().method
        'exact'
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
    base_variances: Tensor | None

    def __init__(
        self,
        visible: int,
        hidden: int,
        negative_phase: Partition | None = PersistentChains(),  # noqa: B008  # an immutable setting
        evaluation: Partition | None = None,
        num_steps: int | None = None,
        *,
        centring: bool | None = None,
        visible_units: Units = BERNOULLI,
        hidden_units: Units = BERNOULLI,
    ) -> None:
        super().__init__(negative_phase, evaluation, num_steps)
        visible = whole_number("visible", visible)
        hidden = whole_number("hidden", hidden)
        check_evaluation(evaluation)
        self.weight = nn.Parameter(0.01 * torch.randn(visible, hidden))
        self.vbias = nn.Parameter(torch.zeros(visible))
        self.hbias = nn.Parameter(torch.zeros(hidden))
        self._set_units(visible_units, hidden_units)
        self._keep_chains(self._noise(self.num_chains))
        self.register_buffer("base_rates", self.visible_units.mean(torch.zeros(visible)))
        self.register_buffer("base_variances", None)
        if centring is None:
            self.centring = isinstance(negative_phase, NegativePhase)
        else:
            self.centring = centring
        if self.centring:
            self.register_buffer("visible_offset", self.base_rates.clone())
            self.register_buffer("hidden_offset", self.hidden_units.mean(torch.zeros(hidden)))
        self._start_phase()

    def _set_units(self, visible: Units, hidden: Units) -> None:
        """Keep both types, and own their parameters."""
        self.visible_units = visible.bind("visible", self.vbias)
        self.hidden_units = hidden.bind("hidden", self.hbias)
        self._names = ENERGY
        for side, units in (("visible", self.visible_units), ("hidden", self.hidden_units)):
            for name, x in units.parameters.items():
                setattr(self, f"{side}_{name}", nn.Parameter(x.detach().clone()))
                self._names += (f"{side}_{name}",)

    def _noise(self, num_chains: int) -> Tensor:
        """States of visible units without field."""
        fields = torch.zeros(num_chains, len(self.vbias), dtype=self.weight.dtype)
        if isinstance(self.visible_units, BernoulliUnits):
            return torch.randint(2, fields.shape).to(fields.dtype)
        return self.visible_units.conditional(fields).sample()

    @classmethod
    def from_data(cls, x: Tensor, hidden: int, **settings: Any) -> RBM:
        """Start at the data: visible biases and base rates at the pixels' rates, chains at
        random rows.

        Args:
            x: states of the visible units (zeros and ones unless told
                otherwise), shape (rows, visible).
            hidden: number of hidden units.
            **settings: ``negative_phase``, ``evaluation``, ``num_steps``,
                ``centring``, ``visible_units`` and ``hidden_units`` of the
                constructor. Precisions of Gaussian and ReLU units start at the
                data's variances, and their weights and the hidden biases in
                units of the data's deviations from the means.

        Returns:
            A module with the dtype and on the device of ``x``.

        Raises:
            ValueError: ``x`` is empty, has another number of dimensions or
                values outside the units' support, or a column of Gaussian or
                ReLU units is constant, in which a precision has no bound.

        Example:
            >>> RBM.from_data(torch.eye(4), 2).base_rates
            tensor([0.3333, 0.3333, 0.3333, 0.3333])
        """
        x = as_floating(x)
        units = settings.get("visible_units", BERNOULLI)
        check_states("x", x, units)
        if isinstance(units, PreciseUnits):
            check_varied(*moments(x), x.dtype)
        rbm = cls(x.shape[-1], hidden, **settings).to(x)
        with torch.no_grad():
            rbm._start_at(x.to(rbm.weight))
        rbm.start_chains(x)
        return rbm

    @torch.no_grad()
    def start_chains(self, x: Tensor) -> None:
        """Start the negative phase over, and the visible offsets of centring at the base rates.

        Chains start at random rows, or in order where there are as many, unless
        the phase has a start of its own.

        Args:
            x: states of the visible units, (rows, visible).

        Raises:
            ValueError: ``x`` has no rows, another width, or values that the
                visible units cannot take.
        """
        x = as_tensor(x)
        check_states("x", x, self.visible_units, self.vbias.shape[-1])
        count = len(self.chains)
        if count == len(x):
            rows = torch.arange(count)
        else:
            rows = torch.randint(len(x), (count,))
        self.chains.copy_(x[rows.to(x.device)])
        if self.centring:
            self._set_offsets(self.base_rates.clone(), self.hidden_offset)
        self._start_phase()

    def _start_at(self, x: Tensor) -> None:
        """Base and visible layer with the moments of the data."""
        if isinstance(self.visible_units, BernoulliUnits):
            self.base_rates.copy_((x.sum(0) + 1) / (len(x) + 2))
            self.vbias.copy_(self.base_rates.logit())
            return
        self.base_rates.copy_(x.mean(0))
        variances = x.var(0, correction=0)
        unit_parameters = self.visible_units.parameters
        self.base_variances = variances if unit_parameters else None
        fields, units = self.visible_units.from_moments(
            self.base_rates, variances, 0.0 if unit_parameters else 1 / (len(x) + 2)
        )
        self.vbias.copy_(fields)
        for name, value in units.parameters.items():
            getattr(self, f"visible_{name}").copy_(value)
        if unit_parameters:  # fields of the hidden units as those of standardised columns
            self.weight.div_(variances.sqrt().unsqueeze(-1))
            if not self.centring:
                self.hbias.copy_(-self.base_rates @ self.weight)

    def forward(self) -> distributions.RBM:
        """The distribution over the current weights.

        Returns:
            The distribution, with ``evaluation`` as its ``partition``; in
            training mode with gradients the contrast of the negative phase,
            which advances when the first log probability is asked for.

        Raises:
            ValueError: the caller cannot work with a negative phase (HMC,
                traced ELBOs, importance weights, batched weights).
            NotImplementedError: a negative phase is to advance in a process
                group of more than one rank.
        """
        partition = self.partition
        if isinstance(partition, NegativePhase):
            return self.learning()
        partition = with_base_rates(partition, self.base_rates, self.base_variances)
        if self._parameters.keys() >= {"weight", "vbias", "hbias"}:
            # one run of AIS for each version of the weights
            partition = _Kept(partition, self._memo)
        return self._evaluated(partition)

    def _evaluated(self, partition: Partition | None) -> distributions.RBM:
        """The distribution that holds the weights themselves."""
        return self._present(partition)

    @torch.no_grad()
    def reconstruction_error(self, v: Tensor) -> Tensor:
        """Mean error of one up-and-down pass with means, a rough sign of progress at most.

        Args:
            v: visible states (rows, visible).

        Returns:
            Expected wrong units (of categorical ones: sites) a row, or the
            squared error of the others; a scalar.

        Raises:
            ValueError: ``v`` has no rows, another width, or values that the
                visible units cannot take.
        """
        check_states("v", v, self.visible_units, self.vbias.shape[-1])
        units = self.units["visible_units"]
        weight, vbias, _ = self.uncentred
        return units.wrong(units.mean(self._transform(v) @ weight.mT + vbias), v).mean()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Base variances are there from data only: the state says whether."""
        variances = state_dict.get(f"{prefix}base_variances")
        if variances is None:
            self.base_variances = None
        else:
            self.base_variances = torch.empty_like(self.base_rates)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _units(self, side: str, units: Units) -> Units:
        """The units of one side with the module's parameters."""
        return units.replace(
            **{name: getattr(self, f"{side}_{name}") for name in units.parameters}
        )

    @property
    def units(self) -> UnitTypes:
        """Both unit types with the current parameters, as the distribution takes them."""
        visible = self.visible_units
        hidden = self.hidden_units
        if len(self._names) > len(ENERGY):
            visible = self._units("visible", visible)
            hidden = self._units("hidden", hidden)
        return {"visible_units": visible, "hidden_units": hidden}

    @property
    def uncentred(self) -> Gradients:
        """Weight, visible and hidden bias of the energy without offsets: the
        parameters themselves unless centred.
        """
        if not self.centring:
            return self.weight, self.vbias, self.hbias
        weight = self._couplings
        return weight, *plain_biases(
            weight, self.vbias, self.hbias, self.visible_offset, self.hidden_offset
        )

    @property
    def _couplings(self) -> Tensor:
        return self.weight

    @torch.no_grad()
    def set_uncentred(self, weight: Tensor, vbias: Tensor, hbias: Tensor) -> None:
        """Become the machine of these weights and biases, whatever the offsets.

        Args:
            weight: shape (visible, hidden).
            vbias: shape (visible,).
            hbias: shape (hidden,).

        Raises:
            ValueError: one has another shape, or is not finite; nothing is set
                then.
        """
        values = {"weight": weight, "vbias": vbias, "hbias": hbias}
        for name, value in values.items():
            check_value(
                f"`{name}`", value, Expected(constraints.real, tuple(getattr(self, name).shape))
            )
        for name, value in values.items():
            getattr(self, name).copy_(value)
        if self.centring:
            self.vbias.addmv_(self._couplings, self.hidden_offset)
            self.hbias.addmv_(self._couplings.mT, self.visible_offset)

    @torch.no_grad()
    def _set_offsets(self, visible: Tensor, hidden: Tensor) -> None:
        """Move the offsets, and the biases with them, so that the machine stays the same."""
        self.vbias.addmv_(self._couplings, hidden - self.hidden_offset)
        self.hbias.addmv_(self._couplings.mT, visible - self.visible_offset)
        self.visible_offset.copy_(visible)
        self.hidden_offset.copy_(hidden)

    def _plain(self) -> distributions.RBM:
        """The distribution without a way to know log Z."""
        return distributions.RBM(*self.uncentred, validate_args=False, **self.units)

    def hidden_field(self, v: Tensor) -> Tensor:
        """Field of each hidden unit: the sum over visible units and the bias.

        Args:
            v: visible states, or of binary units their means, (..., visible).

        Returns:
            Fields of shape (..., hidden), of which the units' means are a
            function: logits for Bernoulli units.

        Raises:
            ValueError: ``v`` has another width, or values that the visible
                units cannot take.
        """
        check_layer("v", v, self.visible_units, self.vbias.shape[-1])
        return self._hidden_field(v)

    def _hidden_field(self, v: Tensor) -> Tensor:
        weight, _, hbias = self.uncentred
        return v.to(weight.dtype) @ weight + hbias

    def transform(self, v: Tensor) -> Tensor:
        """Means of the hidden units given v, P(h_j = 1 | v) for Bernoulli units: the
        features of a data point.

        Args:
            v: visible states, or of binary units their means, (..., visible).

        Returns:
            Means of shape (..., hidden).

        Raises:
            ValueError: ``v`` has another width, or values that the visible
                units cannot take.
        """
        return self.units["hidden_units"].mean(self.hidden_field(v))

    def _transform(self, v: Tensor) -> Tensor:
        """Means of the hidden units given states or means of the visible ones."""
        return self.units["hidden_units"].mean(self._hidden_field(v))

    def learning(self) -> distributions.RBM:
        """The distribution under the negative phase, whatever the mode.

        Returns:
            The distribution, whose first log probability advances the phase;
            the phase's own learning is done on the gradient's way back.
        """
        phase = cast(NegativePhase, self.negative_phase)
        # as Pyro gives them where they have priors, or effect handlers are at work
        values = {name: getattr(self, name) for name in self._names}
        return self._present(self._defer(phase, **values))

    def _present(self, partition: Partition | None) -> distributions.RBM:
        """The distribution of the present parameters and offsets."""
        if not self.centring:
            return distributions.RBM(*self.uncentred, partition, self.num_steps, **self.units)
        centred = (self.vbias, self.hbias, self.visible_offset, self.hidden_offset)
        return CentredRBM(
            self._couplings, centred, partition=partition, num_steps=self.num_steps, **self.units
        )

    def _scored(self, distribution: Energy, value: Tensor) -> Scored:
        """Advance the phase under a call's distribution: the model after it, and its contrast.

        The model is another one where it holds other offsets than the module
        has now, so that the gradient is that of the parameters as they are now,
        or where the phase learns from the gradient.
        """
        self._rejoin()
        phase = cast(NegativePhase, self.negative_phase)
        model = cast(distributions.RBM, distribution)
        replaced = False
        if isinstance(model, CentredRBM):
            visible, hidden = model.offsets
            # the module's offsets move in place
            replaced = visible is not self.visible_offset or hidden is not self.hidden_offset
        if replaced:
            model = self._present(None)
        seed, step = self._advance(phase, model)
        rows = None
        watched = self._notes.fresh or type(phase).learn is not NegativePhase.learn
        if watched:
            weight, vbias, hbias, rows = Watched.apply(self._watch, *model.uncentred)
            units: UnitTypes = {
                "visible_units": model.visible_units,
                "hidden_units": model.hidden_units,
            }
            model = distributions.RBM(weight, vbias, hbias, validate_args=False, **units)
        contrast = phase.snapshot(self._frozen_state(), seed, step, rows)
        return (model if replaced or watched else None), contrast

    def _watch(self, rows: Tensor, gradients: Gradients) -> None:
        """On the way back through a contrast that a loss weighed with ``-rows``."""
        count = rows.abs()
        if count > 0:
            self._note((gradients[0] / count, gradients[1] / count, gradients[2] / count))

    def _note(self, gradients: Gradients) -> None:
        """Update of the module's own state by the uncentred gradient of the mean contrast."""
        phase = cast(NegativePhase, self.negative_phase)
        if type(phase).learn is not NegativePhase.learn:
            self.keep(phase.learn(self.state(), gradients))
        if self._notes.fresh:
            self._notes.fresh = False
            self._start_at_gradient(gradients[1])

    @torch.no_grad()
    def learned(self, gradients: Gradients) -> Gradients:
        """Direction of an update, given the gradient of the mean contrast.

        The phase learns from it as well.

        Args:
            gradients: of the uncentred weight, visible and hidden bias.

        Returns:
            Gradients of the parameters.
        """
        if self.centring:
            offsets = (self.visible_offset, self.hidden_offset)
        else:
            offsets = None
        # the start at the first rows moves them in place
        if self._notes.fresh and offsets is not None:
            offsets = offsets[0].clone(), offsets[1].clone()
        self._note(gradients)
        if offsets is None:
            return gradients
        weight, visible, hidden = gradients
        weight = weight.addr(visible, offsets[1], alpha=-1).addr_(offsets[0], hidden, alpha=-1)
        return weight, visible, hidden

    def _start_at_gradient(self, visible: Tensor) -> None:
        """Biases, offset and base rates of the visible units at the means of the first
        rows, and chains drawn anew.

        The gradient is what their means lack of the particles'; those of
        contrastive divergence, which the module does not see, are what the
        units are without field.
        """
        phase = cast(NegativePhase, self.negative_phase)
        here, weights = (
            phase.particles(self.state())
            if phase.persistent_chains
            else (self.base_rates[None], None)
        )
        mean = (here.mean(0) if weights is None else weights @ here) - visible
        if not isinstance(self.visible_units, BernoulliUnits):
            self._set_offsets(mean, self.hidden_offset)
            return
        rates = (mean.clamp(0, 1) * FIRST_ROWS + 1) / (FIRST_ROWS + 2)
        # a penalty may have kept the old ones for its own gradient
        self.vbias.data.copy_(rates.logit())
        self.visible_offset.copy_(rates)
        self.keep({"base_rates": rates})
        self.keep({"chains": torch.bernoulli(rates.expand_as(self.chains))})
        self._start_phase()

    def _start_phase(self) -> None:
        """Give the phase the buffers that it asks for, as they are at the start."""
        if isinstance(self.negative_phase, NegativePhase):
            for name, value in self.negative_phase.initial_state(
                self._plain(), self.base_rates
            ).items():
                if name in self._buffers:
                    self.keep({name: value})
                else:
                    self.register_buffer(name, value)

    @torch.no_grad()
    def particles(self, count: int | None = None) -> Tensor:
        """States that stand for the model: the negative phase's particles, without hot
        chains and witnesses.

        Args:
            count: how many to draw, by their weights; None gives them as they
                are, or as many by their weights.

        Returns:
            Shape (particles, visible); none where the module keeps no chains.

        Raises:
            ValueError: ``count`` is no whole number of at least 1.
        """
        count = None if count is None else whole_number("count", count)
        if not isinstance(self.negative_phase, NegativePhase) or not len(self.chains):
            return self.chains
        states, weights = self.negative_phase.particles(self.state())
        if count is None and weights is None:
            return states
        if weights is None:
            rates = torch.ones(len(states), device=states.device)
        else:
            rates = weights
        return states[
            torch.multinomial(rates, len(states) if count is None else count, replacement=True)
        ]

    def advanced(self, before: Tensor, step: int) -> None:
        """Note, without gradients, that the chains moved from ``before``, sweep
        ``step`` on: offsets follow, and lost weights are noticed.

        Args:
            before: the chains as they were.
            step: index of the update's first sweep.
        """
        phase = cast(NegativePhase, self.negative_phase)
        self._notes.before = before
        update = step // phase.num_steps
        moves = self.centring and update % OFFSETS_EVERY == 0 and self._owns_its_parameters()
        if step == 0 and moves and not self.vbias.any():
            self._notes.fresh = True
        if moves:
            self._move_offsets(phase, max(LEAST_SHARE, OFFSETS_SHARE / (1 + update / SETTLING)))
        if update % FROZEN_AFTER == 0:
            check_weights(self.weight)
        super().advanced(before, step)

    def _owns_its_parameters(self) -> bool:
        """True if no others were swapped in for a call, which offsets of the module must
        not follow.
        """
        if self._called is None:
            return True
        present = self._called._parameters
        return all(present.get(name) is value for name, value in self._parameters.items())

    def _move_offsets(self, phase: NegativePhase, share: float) -> None:
        """Sliding means of the units, over the particles, or where the phase keeps none at
        the base rates.
        """
        states, weights = (
            phase.particles(self.state())
            if phase.persistent_chains
            else (self.base_rates[None], None)
        )
        means = [
            x.mean(0) if weights is None else weights @ x
            for x in (states, self._transform(states))
        ]
        offsets = self.visible_offset, self.hidden_offset
        visible, hidden = (
            offset.lerp(mean, share) for offset, mean in zip(offsets, means, strict=True)
        )
        self._set_offsets(visible, hidden)

    def diagnostics(self) -> Diagnostics:
        """Diagnostics of learning, computed when asked for and not before.

        Returns:
            Turnover of the chains in the last update, norms of weights and
            gradient, and what the phase itself knows.

        Example:
            >>> from pyro_gen.nn import RBM
            >>> rbm = RBM(6, 3)
            >>> rbm().log_prob(torch.ones(2, 6)).sum().backward()
            >>> 0 <= rbm.diagnostics().turnover <= 1
            True
        """
        phase = self.negative_phase
        if isinstance(phase, NegativePhase):
            phase_diagnostics = phase.diagnostics(self.state())
        else:
            phase_diagnostics = {}
        turnover = math.nan
        before = self._notes.before
        if before is not None and before.shape == self.chains.shape and len(self.chains):
            turnover = self.chains.ne(before).double().mean().item()
        gradients = [
            p.grad.norm() for p in (self.weight, self.vbias, self.hbias) if p.grad is not None
        ]
        norm = torch.stack(gradients).norm().item() if gradients else math.nan
        return Diagnostics(
            int(self.step), turnover, norm, self.weight.detach().norm().item(), phase_diagnostics
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves and casts, from which a phase's sums in double precision come out as they were."""
        phase = self.negative_phase
        if isinstance(phase, NegativePhase):
            exact_buffers = {name: self._buffers[name] for name in phase.exact}
        else:
            exact_buffers = {}
        result = super()._apply(fn, recurse)
        self._buffers |= {
            name: cast(Tensor, x).to(self.weight.device) for name, x in exact_buffers.items()
        }
        return result

    def extra_repr(self) -> str:
        """Sizes and settings."""
        visible, hidden = self.weight.shape
        return (
            f"visible={visible}, hidden={hidden}, negative_phase={self.negative_phase}, "
            f"evaluation={self.evaluation}"
        )


__all__ = ["RBM", "Diagnostics"]
