"""The restricted Boltzmann machine as a module: weights, chains and the distribution over their current values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen.distributions.annealing import with_base_rates
from pyro_gen.distributions.energy import Memo
from pyro_gen.distributions.misuse import refuse_misuse
from pyro_gen.distributions.negative_phase import NegativePhase, PersistentChains
from pyro_gen.distributions.partition import Partition
from pyro_gen.distributions.units import BernoulliUnits, Units
from pyro_gen.distributions.units.base import UnitTypes
from pyro_gen.kernels import draw_seed, rbm_gibbs

BERNOULLI = BernoulliUnits()


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
    base_variances: Tensor | None

    def __init__(
        self,
        visible: int,
        hidden: int,
        negative_phase: Partition | None = PersistentChains(),  # noqa: B008  # an immutable setting
        evaluation: Partition | None = None,
        num_steps: int | None = None,
        visible_units: Units = BERNOULLI,
        hidden_units: Units = BERNOULLI,
    ) -> None:
        super().__init__()
        if visible < 1 or hidden < 1:
            raise ValueError(f"`visible` and `hidden` must be at least 1, got {visible} and {hidden}")
        _check_evaluation(evaluation)
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
        self._memo: Memo = []

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
            **settings: ``negative_phase``, ``evaluation``, ``num_steps``, ``visible_units`` and ``hidden_units`` of the
                constructor. Precisions of Gaussian and ReLU units start at the data's variances.

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
            rows = torch.randint(len(x), (len(rbm.chains),))
            rbm.chains.copy_(x[rows.to(x.device)])
        return rbm

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
        parameters = self.weight, self.vbias, self.hbias
        learning = self.training and torch.is_grad_enabled()
        phase = self.negative_phase if learning else _check_evaluation(self.evaluation)
        if isinstance(phase, NegativePhase):
            refuse_misuse(torch.broadcast_shapes(self.weight.shape[:-2], self.vbias.shape[:-1], self.hbias.shape[:-1]))
            partition: Partition | None = self._snapshot(phase)
        else:
            partition = with_base_rates(phase, self.base_rates, self.base_variances)
        result = distributions.RBM(*parameters, num_steps=self.num_steps, **self.units)
        if all(isinstance(p, nn.Parameter) for p in result.parameters):
            result.share(self._memo)  # one run of AIS for each version of the weights
        result.partition = None if partition is None else partition.bind(result)
        return result

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

    def _snapshot(self, phase: NegativePhase) -> Partition:
        """The phase's particles of this call, or the key to run them."""
        seed, step = int(self.seed), int(self.step)
        return phase.snapshot(self.advance(phase, self.chains), seed, step)

    @torch.no_grad()
    def advance(self, phase: NegativePhase, start: Tensor) -> Tensor:
        """Run the phase's sweeps from ``start`` with the module's key, and count them; persistent chains are kept.

        Args:
            phase: the settings.
            start: states (rows, visible); nothing is run where there are none.

        Returns:
            The particles, shape (rows, visible).
        """
        check_chains(phase, self.chains)
        seed, step = int(self.seed), int(self.step)
        self.step += phase.num_steps
        if not len(start):
            return start
        if isinstance(self.visible_units, BernoulliUnits) and isinstance(self.hidden_units, BernoulliUnits):
            particles, _ = rbm_gibbs(start, self.weight, self.vbias, self.hbias, phase.num_steps, seed=seed, step=step)
        else:
            model = distributions.RBM(self.weight, self.vbias, self.hbias, **self.units)
            particles = model.sweep(start, phase.num_steps, seed, step)
        if phase.persistent_chains:
            self.chains = particles
        return particles

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles find out log Z for themselves."""
        return self.__dict__ | {"_memo": []}

    def extra_repr(self) -> str:
        """Sizes and settings."""
        visible, hidden = self.weight.shape
        return f"visible={visible}, hidden={hidden}, negative_phase={self.negative_phase}, evaluation={self.evaluation}"


def _check_evaluation(evaluation: Partition | None) -> Partition | None:
    if isinstance(evaluation, NegativePhase) or not isinstance(evaluation, Partition | None):
        raise ValueError(f"`evaluation` must know log Z: Exact(...), AIS(...) or None, got {evaluation}")
    return evaluation


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
            f"`negative_phase` must keep the {len(chains)} chains that the module was made with, got {phase}"
        )


def check_states(name: str, x: Tensor, units: Units = BERNOULLI) -> None:
    """Check a batch of rows.

    Args:
        name: the argument's name, for the message.
        x: what came.
        units: type of the units whose states they must be.

    Raises:
        ValueError: ``x`` is not (rows, units) with at least one row of states.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"`{name}` must be a tensor, got {type(x).__name__}")
    if x.dim() != 2 or 0 in x.shape:
        raise ValueError(f"`{name}` must have shape (rows, visible) with at least one row, got {tuple(x.shape)}")
    if not isinstance(units, BernoulliUnits):
        if not units.support.check(x).all():
            kind = "NaN" if x.is_floating_point() and x.isnan().any() else "other values"
            raise ValueError(f"`{name}` must hold states of {type(units).__name__}, got {kind}")
    elif not torch.equal(x.ceil().clamp_(0, 1) if x.is_floating_point() else x.bool(), x):
        kind = "NaN" if x.is_floating_point() and x.isnan().any() else "other values"
        raise ValueError(f"`{name}` must hold zeros and ones only, got {kind}")
