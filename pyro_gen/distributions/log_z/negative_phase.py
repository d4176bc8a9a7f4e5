"""Negative phases: contrasts with particles that stand in for log Z while learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, cast

import torch
from torch import Size, Tensor

from pyro_gen._arguments import whole_fields
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.log_z.energy import Energy
from pyro_gen.distributions.log_z.misuse import FirstOrder, check_phase_use
from pyro_gen.distributions.log_z.partition import Partition
from pyro_gen.distributions.units import BernoulliUnits
from pyro_gen.kernels import draw_seed

State = dict[str, Tensor]
"""What a module keeps for a phase, by the names of its buffers: ``chains`` and
whatever the phase adds.
"""


Scored = tuple[Energy | None, Partition]
"""The model that is scored after an advance, None where it is the call's own
distribution, and its contrast.
"""


class Particles(NamedTuple):
    """States that stand for the model, (particles, visible).

    Their normalised weights, or None where all are alike.
    """

    states: Tensor
    weights: Tensor | None = None


class NegativePhase(Partition):
    """Settings of a stand-in for log Z: the mean of -F over particles, whose gradient
    estimates that of log Z.

    The *value* of ``log_prob`` is then only a contrast between data and
    particles. Settings hold no state: the module keeps it in buffers, and a
    phase is a set of pure functions of it.
    """

    num_steps: int
    exact: ClassVar[tuple[str, ...]] = ()
    """Buffers in double precision, which a cast of the module leaves as they are."""
    starts_at_data: ClassVar[bool] = False
    """Whether the particles start at the value itself, so that it serves observed values only."""
    moved_by: ClassVar[tuple[str, ...]] = ()
    """Buffers that the chains move under besides the parameters, which must be
    finite like them.
    """

    @property
    def persistent_chains(self) -> int:
        """Number of chains that the module has to keep."""
        return 0

    def initial_state(self, distribution: Energy, base_rates: Tensor) -> State:
        """Buffers that the module keeps for this phase besides its chains.

        Args:
            distribution: the model at its start.
            base_rates: means of the visible units, (visible,).

        Returns:
            Tensors by name, none of a name that the module has.
        """
        return {}

    def advance(self, distribution: Energy, state: State, seed: int, step: int) -> State:
        """Run the sweeps of one update.

        Args:
            distribution: the model as it is now.
            state: the module's buffers.
            seed: 64-bit key.
            step: index of the first sweep.

        Returns:
            The buffers that change, as new tensors.
        """
        return {"chains": distribution.sweep(state["chains"], self.num_steps, seed, step)}

    def particles(self, state: State) -> Particles:
        """The particles among the chains, after ``advance``."""
        return Particles(state["chains"])

    def learn(self, state: State, gradients: tuple[Tensor, Tensor, Tensor]) -> State:
        """Change of the phase's own state by an update's gradient.

        Args:
            state: the module's buffers.
            gradients: of the mean contrast, for weight, visible and hidden bias.

        Returns:
            The buffers that change, as new tensors.
        """
        return {}

    def diagnostics(self, state: State) -> State:
        """Diagnostics of the phase by name, such as swap rates."""
        return {}

    def snapshot(
        self, state: State, seed: int, step: int, rows: Tensor | None = None
    ) -> Partition:
        """Snapshot for the distribution of one call.

        Args:
            state: the module's buffers after ``advance``.
            seed: 64-bit key.
            step: index of the first sweep of this call.
            rows: a zero whose gradient is to be minus the number of rows that a
                loss weighs the contrast with, or None.

        Returns:
            The particles, or the key to run them, as a partition.
        """
        return _Particles(*self.particles(state), rows)

    def log_normalizer(self, distribution: Energy, value: Tensor) -> Tensor:
        """Raises: a setting has no particles."""
        raise ValueError(f"{self} has no particles: call the module that holds its chains")

    def log_partition(self, distribution: Energy) -> Estimate:
        """Raises: a contrast is no estimate of log Z."""
        raise ValueError(f"`log_partition` needs log Z, and {self.contrast}")

    @property
    def contrast(self) -> str:
        """Description of a negative phase, and what to do instead."""
        return _without_module(f"negative phase {self}")


@dataclass(frozen=True)
class ContrastiveDivergence(NegativePhase):
    """CD-k: the particles of each row start at the row itself and run ``num_steps``
    Gibbs sweeps.

    Args:
        num_steps: sweeps k.

    References:
        Hinton (2002), Training products of experts by minimizing contrastive
        divergence, Neural Computation 14.

    Example:
        >>> ContrastiveDivergence(5)
        ContrastiveDivergence(num_steps=5)
    """

    starts_at_data: ClassVar[bool] = True

    num_steps: int = 1

    def __post_init__(self) -> None:
        """Check the size."""
        whole_fields(self, num_steps=1)

    def bind(self, distribution: Energy) -> Partition | None:
        """A contrast with a key of its own."""
        return self.snapshot({}, draw_seed(), 0).bind(distribution)

    def advance(self, distribution: Energy, state: State, seed: int, step: int) -> State:
        """Empty state: the particles are run from the value inside ``log_prob``."""
        return {}

    def snapshot(
        self, state: State, seed: int, step: int, rows: Tensor | None = None
    ) -> Partition:
        """The key of the particles."""
        return _DataParticles(self.num_steps, seed, step, rows)


@dataclass(frozen=True)
class PersistentChains(NegativePhase):
    """PCD-k: the particles are chains that go on from update to update (also known as
    stochastic maximum likelihood).

    Args:
        num_chains: number of chains.
        num_steps: sweeps k of every chain an update.

    References:
        Tieleman (2008), Training restricted Boltzmann machines using
        approximations to the likelihood gradient.

    Example:
        >>> PersistentChains(num_chains=200, num_steps=5).persistent_chains
        200
    """

    num_chains: int = 100
    num_steps: int = 1

    def __post_init__(self) -> None:
        """Check the sizes."""
        whole_fields(self, num_chains=1, num_steps=1)

    @property
    def persistent_chains(self) -> int:
        """The number of chains."""
        return self.num_chains

    def bind(self, distribution: Energy) -> Partition:
        """Raises: chains belong to a module."""
        name = type(self).__name__
        raise ValueError(
            f"`partition` {name} needs chains that go on from call to call, which a module holds: "
            f"use pyro_gen.nn.RBM(..., negative_phase={name}(...))"
        )


def check_plain_phase(phase: Partition | None) -> None:
    """Check that a module which runs plain chains only is given no phase that would need more.

    Args:
        phase: its ``negative_phase``.

    Raises:
        ValueError: it is a negative phase other than CD and PCD, such as one
            that inherits from PCD.
    """
    if isinstance(phase, NegativePhase) and type(phase) not in (
        ContrastiveDivergence,
        PersistentChains,
    ):
        raise ValueError(
            "`negative_phase` must be ContrastiveDivergence(...), PersistentChains(...) or a way "
            "to know log Z: others "
            f"work on the two layers of an RBM; got {phase}"
        )


class _Contrast(Partition):
    """The bound form of a negative phase: refuses every caller that would read its
    value as a log probability.
    """

    starts_at_data: ClassVar[bool] = False

    def bind(self, distribution: Energy) -> Partition:
        check_phase_use(distribution.parameter_batch_shape)
        return self

    def log_partition(self, distribution: Energy) -> Estimate:
        raise ValueError(f"`log_partition` needs log Z, and {self.contrast}")

    @property
    def contrast(self) -> str:
        return _without_module(str(self))


class Deferred(_Contrast):
    """The contrast of one call of a module in training mode, whose chains move when a
    log probability is asked for.

    Expanded and masked copies of the call's distribution share it, and so the
    one advance; a deep copy or a pickle has a copy of the module that it
    advances instead.

    Args:
        phase: the module's negative phase.
        run: given the distribution and the value to be scored, checks both and
            advances the phase; gives the model that is scored, or None for the
            distribution itself, and the particles' contrast.
        batched: whether the distribution may be batched, as where each row of
            data has biases of its own.
    """

    checks_parameters: ClassVar[bool] = True

    def __init__(
        self,
        phase: NegativePhase,
        run: Callable[[Energy, Tensor], Scored],
        batched: bool = False,
    ) -> None:
        self.phase = phase
        self.batched = batched
        self._run: Callable[[Energy, Tensor], Scored] | None = run
        self._scored: Scored | None = None

    def bind(self, distribution: Energy) -> Partition:
        """Itself.

        Raises:
            ValueError: the distribution is batched and may not be, or the
                caller cannot work with a negative phase.
        """
        check_phase_use(Size() if self.batched else distribution.parameter_batch_shape)
        return self

    @property
    def starts_at_data(self) -> bool:  # type: ignore[override]  # of the phase here
        """True if the particles start at the value itself."""
        return self.phase.starts_at_data

    def scored(self, distribution: Energy, value: Tensor) -> tuple[Energy, Partition]:
        """The model and the contrast after this call's advance, which is made now
        if it has not been made.
        """
        if self._run is not None:
            if torch.is_grad_enabled():  # and so not in inference mode
                self._scored = self._run(distribution, value)
            else:  # chains and graph serve later calls
                with torch.inference_mode(False), torch.enable_grad():
                    self._scored = self._run(distribution, value)
            self._run = None
        model, contrast = cast(Scored, self._scored)
        return distribution if model is None else model, contrast

    def log_normalizer(self, distribution: Energy, value: Tensor) -> Tensor:
        """Estimate of log Z from the particles.

        The distribution must be the one that :meth:`scored` gives.
        """
        model, contrast = self.scored(distribution, value)
        return contrast.log_normalizer(model, value)

    @property
    def particles(self) -> Tensor | None:
        """Frozen particles of this call.

        None before a log probability was asked for, or where they start at
        data.
        """
        if self._scored is None:
            return None
        return getattr(self._scored[1], "particles", None)

    @property
    def contrast(self) -> str:
        """Description of the module's training mode, and what to do instead."""
        return (
            "this distribution knows no log Z: its module was in training mode, where "
            f"`log_prob` is a {self}. Call "
            ".eval() on the module first, or make a distribution with Exact or AIS as its "
            "`partition`"
        )

    def __repr__(self) -> str:
        return f"contrast under the negative phase {self.phase}"


@dataclass(frozen=True, eq=False, repr=False)
class _Particles(_Contrast):
    """Frozen particles of shape (chains, visible), with weights that sum to one, or
    None for the mean.
    """

    particles: Tensor
    weights: Tensor | None = None
    rows: Tensor | None = None

    def __repr__(self) -> str:
        return f"contrast with {len(self.particles)} particles"

    def log_prob(self, distribution: Energy, value: Tensor) -> Tensor:
        result = distribution._contrast(value, self.particles, self.weights)
        if result is None:
            return super().log_prob(distribution, value)
        if self.rows is None:
            return result
        return result - self.rows

    def log_normalizer(self, distribution: Energy, value: Tensor) -> Tensor:
        free_energy = distribution._free_energy(self.particles)
        if self.weights is None:
            mean = free_energy.mean(0)
        else:
            mean = torch.tensordot(self.weights, free_energy, 1)
        return FirstOrder.apply(-mean if self.rows is None else self.rows - mean)


@dataclass(frozen=True, repr=False)
class _DataParticles(_Contrast):
    """Particles that start at the value, keyed by (seed, step): one a row."""

    starts_at_data: ClassVar[bool] = True

    num_steps: int
    seed: int
    step: int
    rows: Tensor | None = None

    def __repr__(self) -> str:
        return f"contrast under the negative phase {ContrastiveDivergence(self.num_steps)}"

    def log_prob(self, distribution: Energy, value: Tensor) -> Tensor:
        particles = self._particles(distribution, value)
        result = distribution._contrast(value, particles, paired=True)
        if result is None:
            return -distribution._free_energy(value) - self._log_normalizer(
                distribution, particles
            )
        if self.rows is None:
            return result
        return result - self.rows

    def log_normalizer(self, distribution: Energy, value: Tensor) -> Tensor:
        return self._log_normalizer(distribution, self._particles(distribution, value))

    def _particles(self, distribution: Energy, value: Tensor) -> Tensor:
        with torch.no_grad():
            return distribution.sweep(value, self.num_steps, self.seed, self.step)

    def _log_normalizer(self, distribution: Energy, particles: Tensor) -> Tensor:
        free_energy = distribution._free_energy(particles)
        return FirstOrder.apply(-free_energy if self.rows is None else self.rows - free_energy)


def starts_at_data(partition: Partition | None) -> bool:
    """True if the particles of a contrast start at the value itself, so that it
    serves observed values only.
    """
    return isinstance(partition, _Contrast) and partition.starts_at_data


def bernoulli_parameters(distribution: Energy, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and biases of an RBM of Bernoulli units, for phases that temper or weigh them.

    Args:
        distribution: the model.
        name: the phase, for the message.

    Raises:
        ValueError: the model has other units.
    """
    units = [getattr(distribution, f"{side}_units", None) for side in ("visible", "hidden")]
    if not all(isinstance(u, BernoulliUnits) for u in units):
        kinds = " and ".join(type(u).__name__ for u in units)
        raise ValueError(
            f"{name} expects Bernoulli units on both sides, got {kinds}: use PersistentChains"
        )
    weight, vbias, hbias = distribution.parameters
    return weight.detach(), vbias.detach(), hbias.detach()


def _without_module(phase: str) -> str:
    return f"this distribution knows no log Z, but a {phase}: use Exact or AIS as its `partition`"
