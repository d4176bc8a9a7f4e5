"""The restricted Boltzmann machine as a module: weights, chains and the distribution over their current values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen._arguments import whole_number
from pyro_gen._columns import check_varied, moments
from pyro_gen._rows import as_floating
from pyro_gen.distributions.log_z.annealing import with_base_rates
from pyro_gen.distributions.log_z.negative_phase import NegativePhase, PersistentChains
from pyro_gen.distributions.log_z.partition import Partition
from pyro_gen.distributions.units import BernoulliUnits, Units
from pyro_gen.distributions.units.continuous import PreciseUnits
from pyro_gen.nn.centred import CentredRBM
from pyro_gen.nn.learning import BERNOULLI, check_evaluation, check_states
from pyro_gen.nn.rbm_learning import LearningRBM


class RBM(LearningRBM):
    """Weights, chains and settings of an RBM; calling it returns :class:`pyro_gen.distributions.RBM`.

    In training mode with gradients enabled ``log_prob`` of the distribution is a contrast with the phase's gradient:
    the first time it is asked for, the negative phase advances once, and the particles are frozen from then on. In
    ``eval()`` or under ``no_grad`` the distribution carries ``evaluation`` instead, and ``log_prob`` is a log
    probability in nats.

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
        centring: whether the parameters are those of the centred energy (above), with sliding means of the particles as
            offsets; None for wherever there is a negative phase. The biases are then relative to the offsets, and
            ``uncentred`` gives those of the plain energy, as ``rbm().vbias`` does. Visible biases and offsets that are
            as the constructor left them start at the means of the first batch.
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
        self.centring = isinstance(negative_phase, NegativePhase) if centring is None else centring
        if self.centring:
            self.register_buffer("visible_offset", self.base_rates.clone())
            self.register_buffer("hidden_offset", self.hidden_units.mean(torch.zeros(hidden)))
        self._start_phase()

    def _set_units(self, visible: Units, hidden: Units) -> None:
        """Keep both types, and own their parameters."""
        self.visible_units, self.hidden_units = visible.bind("visible", self.vbias), hidden.bind("hidden", self.hbias)
        for side, units in (("visible", self.visible_units), ("hidden", self.hidden_units)):
            for name, x in units.parameters.items():
                setattr(self, f"{side}_{name}", nn.Parameter(x.detach().clone()))

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
                variances, and their weights and the hidden biases in units of the data's deviations from the means.

        Returns:
            A module with the dtype and on the device of ``x``.

        Raises:
            ValueError: ``x`` is empty, has another number of dimensions or values outside the units' support, or a
                column of Gaussian or ReLU units is constant, in which a precision has no bound.

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

        Chains start at random rows, or in order where there are as many, unless the phase has a start of its own.

        Args:
            x: states of the visible units, (rows, visible).

        Raises:
            ValueError: ``x`` has no rows, another width, or values that the visible units cannot take.
        """
        check_states("x", x, self.visible_units, self.vbias.shape[-1])
        count = len(self.chains)
        rows = torch.arange(count) if count == len(x) else torch.randint(len(x), (count,))
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
        variances, unit_parameters = x.var(0, correction=0), self.visible_units.parameters
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
            The distribution, with ``evaluation`` as its ``partition``; in training mode with gradients the contrast of
            the negative phase, which advances when the first log probability is asked for.

        Raises:
            ValueError: the caller cannot work with a negative phase (HMC, traced ELBOs, importance weights, batched
                weights).
            NotImplementedError: a negative phase is to advance in a process group of more than one rank.
        """
        partition = self.partition
        if isinstance(partition, NegativePhase):
            return self.learning()
        result = self._evaluated()
        if self._parameters.keys() >= {"weight", "vbias", "hbias"}:
            result.share(self._memo)  # one run of AIS for each version of the weights
        partition = with_base_rates(partition, self.base_rates, self.base_variances)
        result.partition = None if partition is None else partition.bind(result)
        return result

    def _evaluated(self) -> distributions.RBM:
        """The distribution that holds the weights themselves."""
        if not self.centring:
            return distributions.RBM(*self.uncentred, num_steps=self.num_steps, **self.units)
        centred = self.vbias, self.hbias, self.visible_offset, self.hidden_offset
        return CentredRBM(self.weight, centred, num_steps=self.num_steps, **self.units)

    @torch.no_grad()
    def reconstruction_error(self, v: Tensor) -> Tensor:
        """Mean error of one up-and-down pass with means, a rough sign of progress at most.

        Args:
            v: visible states (rows, visible).

        Returns:
            Expected wrong units (of categorical ones: sites) a row, or the squared error of the others; a scalar.

        Raises:
            ValueError: ``v`` has no rows, another width, or values that the visible units cannot take.
        """
        check_states("v", v, self.visible_units, self.vbias.shape[-1])
        units = self.units["visible_units"]
        weight, vbias, _ = self.uncentred
        return units.wrong(units.mean(self._transform(v) @ weight.mT + vbias), v).mean()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Base variances are there from data only: the state says whether."""
        variances = state_dict.get(f"{prefix}base_variances")
        self.base_variances = None if variances is None else torch.empty_like(self.base_rates)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Sizes and settings."""
        visible, hidden = self.weight.shape
        return f"visible={visible}, hidden={hidden}, negative_phase={self.negative_phase}, evaluation={self.evaluation}"


__all__ = ["RBM"]
