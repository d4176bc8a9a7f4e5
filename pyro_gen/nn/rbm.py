"""The restricted Boltzmann machine as a module: weights, chains and the distribution over their current values."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen.distributions.annealing import with_base_rates
from pyro_gen.distributions.energy import Memo
from pyro_gen.distributions.misuse import refuse_misuse
from pyro_gen.distributions.negative_phase import NegativePhase, PersistentChains, State
from pyro_gen.distributions.partition import Partition
from pyro_gen.kernels import draw_seed
from pyro_gen.nn.learning import Gradients, Hooked, centred

OFFSETS_EVERY = 10
"""Updates between two of the offsets, each of which costs a product with the weights."""
OFFSETS_SHARE = 0.1
"""Share of the present particles in the sliding means."""
FROZEN_AFTER = 256
"""Updates over which chains that have not moved count as frozen."""


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
    """Weights, chains and settings of a Bernoulli RBM; calling it returns :class:`pyro_gen.distributions.RBM`.

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

    Raises:
        ValueError: a size is below 1, or ``evaluation`` is a negative phase.

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

    def __init__(
        self,
        visible: int,
        hidden: int,
        negative_phase: Partition | None = PersistentChains(),  # noqa: B008  # an immutable setting
        evaluation: Partition | None = None,
        num_steps: int | None = None,
        *,
        centring: bool = False,
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
        self.register_buffer("chains", torch.randint(2, (num_chains, visible)).to(self.weight.dtype))
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("seed", torch.tensor(draw_seed()))
        self.register_buffer("base_rates", torch.full((visible,), 0.5))
        if centring:
            self.register_buffer("visible_offset", torch.full((visible,), 0.5))
            self.register_buffer("hidden_offset", torch.full((hidden,), 0.5))
        self.centring = centring
        self._memo: Memo = []
        self._before: Tensor | None = None
        self._landmark: Tensor | None = None
        self._start_phase()

    @classmethod
    def from_data(cls, x: Tensor, hidden: int, **settings: Any) -> RBM:
        """Start at the data: visible biases and base rates at the pixels' rates, chains at random rows.

        Args:
            x: states in {0, 1}, shape (rows, visible).
            hidden: number of hidden units.
            **settings: ``negative_phase``, ``evaluation``, ``num_steps`` and ``centring`` of the constructor.

        Returns:
            A module with the dtype and on the device of ``x``.

        Raises:
            ValueError: ``x`` is empty, has another number of dimensions or values outside {0, 1}.

        Example:
            >>> RBM.from_data(torch.eye(4), 2).base_rates
            tensor([0.3333, 0.3333, 0.3333, 0.3333])
        """
        check_states("x", x)
        rbm = cls(x.shape[-1], hidden, **settings).to(x.device, x.dtype if x.is_floating_point() else None)
        with torch.no_grad():
            rbm.base_rates.copy_((x.sum(0) + 1) / (len(x) + 2))
            rbm.vbias.copy_(rbm.base_rates.logit())
            rows = torch.randint(len(x), (len(rbm.chains),))
            rbm.chains.copy_(x[rows.to(x.device)])
            if rbm.centring:
                rbm.visible_offset.copy_(rbm.base_rates)
            rbm._start_phase()
        return rbm

    @torch.no_grad()
    def _start_phase(self) -> None:
        """Give the phase the buffers that it asks for, as they are at the start."""
        if isinstance(self.negative_phase, NegativePhase):
            plain = distributions.RBM(self.weight, self.vbias, self.hbias, validate_args=False)
            for name, value in self.negative_phase.initial_state(plain, self.base_rates).items():
                self.register_buffer(name, value)

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
            return self._learning(phase, parameters)
        result = distributions.RBM(*parameters, num_steps=self.num_steps)
        if all(isinstance(p, nn.Parameter) for p in parameters):
            result.share(self._memo)  # one run of AIS for each version of the weights
        partition = with_base_rates(phase, self.base_rates)
        result.partition = None if partition is None else partition.bind(result)
        return result

    def _learning(self, phase: NegativePhase, parameters: Gradients) -> distributions.RBM:
        """The distribution under a phase that has advanced, with the hook on the way back to the parameters."""
        refuse_misuse(
            torch.broadcast_shapes(*(p.shape[:-event] for p, event in zip(parameters, (2, 1, 1), strict=True)))
        )
        seed, step = int(self.seed), int(self.step)
        self.advance(phase)
        rows = None
        if self.centring or type(phase).learn is not NegativePhase.learn:
            *hooked, rows = Hooked.apply(self._hook, *parameters)
            parameters = (hooked[0], hooked[1], hooked[2])
        result = distributions.RBM(*parameters, num_steps=self.num_steps)
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
        if self.centring:
            gradients = centred(gradients, self.visible_offset, self.hidden_offset)
        weight, visible, hidden = gradients
        return gradients if rows == 1.0 else (weight * rows, visible * rows, hidden * rows)

    def transform(self, v: Tensor) -> Tensor:
        """Hidden probabilities P(h_j = 1 | v): the features of a data point.

        Args:
            v: visible states (..., visible).

        Returns:
            Probabilities of shape (..., hidden).
        """
        return torch.sigmoid(v.to(self.weight.dtype) @ self.weight + self.hbias)

    @torch.no_grad()
    def reconstruction_error(self, v: Tensor) -> Tensor:
        """Mean number of wrong bits of one up-and-down pass with probabilities, a rough sign of progress at most.

        Args:
            v: visible states (rows, visible).

        Returns:
            Expected wrong bits a row, a scalar.
        """
        probs = torch.sigmoid(self.transform(v) @ self.weight.mT + self.vbias)
        return (probs - v).abs().sum(-1).mean()

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
        before, seed, step = self.chains, int(self.seed), int(self.step)
        plain = distributions.RBM(self.weight, self.vbias, self.hbias, validate_args=False)
        self.keep(phase.advance(plain, self.state(), seed, step))
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
        if update % FROZEN_AFTER == 0 and phase.persistent_chains:
            _warn_if_frozen(self._landmark, self.chains)
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

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles find out log Z for themselves."""
        return self.__dict__ | {"_memo": [], "_before": None, "_landmark": None}

    def extra_repr(self) -> str:
        """Sizes and settings."""
        visible, hidden = self.weight.shape
        return f"visible={visible}, hidden={hidden}, negative_phase={self.negative_phase}, evaluation={self.evaluation}"


def _check_evaluation(evaluation: Partition | None) -> Partition | None:
    if isinstance(evaluation, NegativePhase) or not isinstance(evaluation, Partition | None):
        raise ValueError(f"`evaluation` must know log Z: Exact(...), AIS(...) or None, got {evaluation}")
    return evaluation


def _warn_if_frozen(before: Tensor | None, chains: Tensor) -> None:
    """Warn where at least half of the chains are what they were ``FROZEN_AFTER`` updates ago."""
    if before is None or before.shape != chains.shape:
        return
    frozen = int((before == chains).all(-1).sum())
    if frozen > 1 and 2 * frozen >= len(chains):
        warnings.warn(
            f"{frozen} of {len(chains)} persistent chains are where they were {FROZEN_AFTER} updates ago: they have "
            "frozen, and the gradient no longer knows the model; use more steps, TemperedChains, weight decay or a "
            "smaller learning rate",
            stacklevel=3,
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
            f"`negative_phase` must keep the {len(chains)} chains that the module was made with, got {phase}"
        )


def check_states(name: str, x: Tensor) -> None:
    """Check a batch of binary rows.

    Args:
        name: the argument's name, for the message.
        x: what came.

    Raises:
        ValueError: ``x`` is not (rows, units) with at least one row of zeros and ones.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"`{name}` must be a tensor, got {type(x).__name__}")
    if x.dim() != 2 or 0 in x.shape:
        raise ValueError(f"`{name}` must have shape (rows, visible) with at least one row, got {tuple(x.shape)}")
    if not torch.equal(x.ceil().clamp_(0, 1) if x.is_floating_point() else x.bool(), x):
        kind = "NaN" if x.is_floating_point() and x.isnan().any() else "other values"
        raise ValueError(f"`{name}` must hold zeros and ones only, got {kind}")
