"""How log Z is known: exactly, by annealed importance sampling, or not at all but for a contrast with particles."""

from __future__ import annotations

import math
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pyro_gen.kernels import draw_seed

if TYPE_CHECKING:
    from pyro_gen.distributions.energy import EnergyDistribution

EXACT_UNITS = 20
"""Units of the smaller side up to which ``partition=None`` means :class:`Exact`."""

Sweep = Callable[[Tensor, int, int, int], Tensor]
"""``sweep(states, num_steps, seed, step)`` runs block Gibbs sweeps and gives the new visible states."""


class LogPartition(NamedTuple):
    """An estimate of log Z (nats), its standard error (nats), its effective sample size and the method's name."""

    value: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor
    method: str

    def expand(self, batch_shape: torch.Size) -> LogPartition:
        """The same estimate for every element of a larger batch."""
        value, error, size = (x.expand(batch_shape) for x in self[:3])
        return LogPartition(value, error, size, self.method)


class Partition(ABC):
    """How the log normaliser of an energy distribution is known."""

    def bind(self, distribution: EnergyDistribution) -> Partition:
        """The form of this setting that ``distribution`` keeps; raises where the setting cannot serve it."""
        return self

    @abstractmethod
    def log_normalizer(self, distribution: EnergyDistribution, value: Tensor) -> Tensor:
        """What ``log_prob(value)`` subtracts from the unnormalised log probability."""

    @abstractmethod
    def log_partition(self, distribution: EnergyDistribution) -> LogPartition:
        """The estimate of log Z, or an error where there is none."""


@dataclass(frozen=True)
class Exact(Partition):
    r"""Enumerate the smaller side, in blocks of bounded memory and with the exact gradient.

    .. math:: \log Z = \log \sum_{h} e^{\,b \cdot h} \prod_i \bigl(1 + e^{a_i + (W h)_i}\bigr)

    Args:
        max_units: largest smaller side that may be enumerated; time doubles with every unit.

    Example:
        >>> from pyro_gen.distributions import RBM
        >>> RBM(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2), Exact()).log_partition().value  # 5 log 2
        tensor(3.4657)
    """

    max_units: int = 25

    def bind(self, distribution: EnergyDistribution) -> Partition:
        """Itself, where the smaller side can be enumerated.

        Raises:
            ValueError: the smaller side has more than ``max_units`` units.
        """
        units = distribution.smaller_side
        if units > self.max_units:
            raise ValueError(
                f"`partition` Exact(max_units={self.max_units}) expects at most that many units on the smaller side, "
                f"got {units}: use AIS(...), or raise `max_units` and wait 2**{units} states"
            )
        return self

    def log_normalizer(self, distribution: EnergyDistribution, value: Tensor) -> Tensor:
        """Exact log Z with its gradient; remembered where no gradient is asked for."""
        if _wants_gradient(distribution):
            return distribution.log_sum()
        return distribution.remember(Exact, distribution.log_sum)

    def log_partition(self, distribution: EnergyDistribution) -> LogPartition:
        """Exact log Z: no standard error, infinite effective sample size."""
        value = self.log_normalizer(distribution, distribution.parameters[0])
        zero = torch.zeros_like(value)
        return LogPartition(value, zero, zero + math.inf, "exact")


class AnnealedRun(NamedTuple):
    """What a run of AIS leaves: the estimate, the final particles and their normalised weights."""

    estimate: LogPartition
    particles: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class AIS(Partition):
    r"""Annealed importance sampling from independent units with the data's base rates.

    Run once for each distribution object (for a module: each version of its parameters), at the first use. The gradient
    of ``log_prob`` is the self-normalised mean of the gradient of -F over the final particles.

    .. math:: \widehat{\log Z} = \log Z_0 + \log \frac1n \sum_i w_i

    Args:
        num_chains: independent chains n.
        num_betas: intermediate distributions, evenly spaced in inverse temperature.
        base_rates: P(v_i = 1) of the base distribution, shape (visible,) or with the parameters' batch shape; None
            takes the module's base rates, or the mean of short pilot chains.

    References:
        Neal (2001), Annealed importance sampling, Statistics and Computing 11. Salakhutdinov and Murray (2008).

    Example:
        >>> from pyro_gen.distributions import RBM
        >>> ais = AIS(10, 5, base_rates=torch.full((30,), 0.5))
        >>> RBM(torch.zeros(30, 25), torch.zeros(30), torch.zeros(25), ais).log_partition().value  # 55 log 2
        tensor(38.1231)
    """

    num_chains: int = 500
    num_betas: int = 2000
    base_rates: Tensor | None = field(default=None, repr=False)
    identity: object = field(default_factory=object, repr=False, kw_only=True)  # kept by `replace`: one run each

    def __post_init__(self) -> None:
        """Check the sizes and the rates."""
        _check_positive(num_chains=self.num_chains, num_betas=self.num_betas)
        rates = self.base_rates
        if rates is not None and not ((rates >= 0) & (rates <= 1)).all():
            raise ValueError(f"`base_rates` must lie between 0 and 1, got {rates}")

    def bind(self, distribution: EnergyDistribution) -> Partition:
        """Itself with a key of its own, so that evaluating ``log_prob`` draws nothing.

        Raises:
            ValueError: ``base_rates`` has another size; or the distribution is made anew at every step of HMC or NUTS
                (with sampled parameters, say), or the ELBO is traced: both need a log Z that stays as it is.
        """
        visible = distribution.event_shape[-1]
        if self.base_rates is not None and self.base_rates.shape[-1:] != (visible,):
            raise ValueError(f"`base_rates` must have shape (..., {visible}), got {tuple(self.base_rates.shape)}")
        if any(p.requires_grad for p in distribution.parameters):
            _refuse_tracing("AIS")
        if not distribution.shares_memo:
            _refuse_callers("AIS in a distribution that the model makes anew", ("pyro.infer.mcmc",))
        return _KeyedAIS(self.num_chains, self.num_betas, self.base_rates, draw_seed(), identity=self.identity)

    def log_normalizer(self, distribution: EnergyDistribution, value: Tensor) -> Tensor:
        """The estimate, with the particles' gradient."""
        run = self._run(distribution)
        if not _wants_gradient(distribution):
            return run.estimate.value
        surrogate = _FirstOrder.apply((run.weights * -distribution.free_energy(run.particles)).sum(0))
        return run.estimate.value + (surrogate - surrogate.detach())

    def log_partition(self, distribution: EnergyDistribution) -> LogPartition:
        """The estimate of the (remembered) run, its value with the particles' gradient."""
        value = self.log_normalizer(distribution, distribution.parameters[0])
        return self._run(distribution).estimate._replace(value=value)

    def reverse(self, distribution: EnergyDistribution, states: Tensor) -> LogPartition:
        r"""Estimate log Z from above, annealing from samples of the model down to the base.

        With exact samples the estimate's mean is at least log Z; with approximate ones it is as good as they are. Take
        them from chains that share nothing with the forward run.

        .. math:: \widehat{\log Z} = \log Z_0 - \log \frac1n \sum_i w_i

        Args:
            distribution: the model.
            states: samples of it, shape (num_chains, visible).

        Returns:
            The estimate, its standard error and effective sample size.

        References:
            Burda, Grosse, Salakhutdinov (2015), Accurate and conservative estimates of MRF log-likelihood using reverse
            annealing. Grosse, Ghahramani, Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte
            Carlo.
        """
        distribution.check_value("states", states)
        base = self._base(distribution, draw_seed())
        betas = torch.linspace(1, 0, self.num_betas + 1, dtype=torch.float64)
        log_weight, _ = distribution.anneal(states.to(base), base, betas, draw_seed())
        down = _estimate(torch.zeros_like(log_weight[0]), log_weight, "reverse AIS")
        value = distribution.base_log_partition(base) - down.value
        estimate = down._replace(value=value.to(base.dtype))
        _warn_if_poor(estimate, len(states), self.num_betas)
        return estimate

    def _run(self, distribution: EnergyDistribution) -> AnnealedRun:
        raise ValueError(
            f"{self} is a setting: give it to a distribution as `partition`, or to a module as `evaluation`"
        )

    @torch.no_grad()
    def _forward(self, distribution: EnergyDistribution, seed: int) -> AnnealedRun:
        base = self._base(distribution, seed ^ 1)
        start = distribution.base_states(base, self.num_chains, seed)
        betas = torch.linspace(0, 1, self.num_betas + 1, dtype=torch.float64)
        log_weight, particles = distribution.anneal(start, base, betas, seed)
        estimate = _estimate(distribution.base_log_partition(base), log_weight, "AIS")
        _warn_if_poor(estimate, self.num_chains, self.num_betas)
        weights = log_weight.softmax(0).to(base.dtype)
        return AnnealedRun(estimate._replace(value=estimate.value.to(base.dtype)), particles, weights)

    def _base(self, distribution: EnergyDistribution, seed: int) -> Tensor:
        """Logits of the base, kept away from certainty."""
        rates = self.base_rates
        if rates is None:
            rates = distribution.pilot(self.num_chains, 50, seed).mean(0)
        margin = 1 / (self.num_chains + 2)
        return rates.to(distribution.parameters[0]).clamp(margin, 1 - margin).logit()


@dataclass(frozen=True, eq=False)
class _KeyedAIS(AIS):
    """AIS with the key of its run."""

    seed: int = 0

    def bind(self, distribution: EnergyDistribution) -> Partition:
        return self

    def _run(self, distribution: EnergyDistribution) -> AnnealedRun:
        return distribution.remember(self.identity, lambda: self._forward(distribution, self.seed))


class NegativePhase(Partition):
    """Settings of a stand-in for log Z: the mean of -F over particles, whose gradient estimates that of log Z.

    The *value* of ``log_prob`` is then only a contrast between data and particles. Settings hold no state: chains, key
    and step belong to the module.
    """

    num_steps: int

    @property
    def persistent_chains(self) -> int:
        """How many chains the module has to keep."""
        return 0

    def snapshot(self, particles: Tensor, seed: int, step: int) -> Partition:
        """What the distribution of one call keeps: the particles, or the key to run them."""
        return _Particles(particles)

    def log_normalizer(self, distribution: EnergyDistribution, value: Tensor) -> Tensor:
        """Nothing: a setting has no particles."""
        raise ValueError(f"{self} has no particles: call the module that holds its chains")

    def log_partition(self, distribution: EnergyDistribution) -> LogPartition:
        """Nothing: a contrast is no estimate of log Z."""
        raise _no_log_partition()


@dataclass(frozen=True)
class ContrastiveDivergence(NegativePhase):
    """CD-k: the particles of each row start at the row itself and run ``num_steps`` Gibbs sweeps.

    Args:
        num_steps: sweeps k.

    References:
        Hinton (2002), Training products of experts by minimizing contrastive divergence, Neural Computation 14.

    Example:
        >>> ContrastiveDivergence(5)
        ContrastiveDivergence(num_steps=5)
    """

    num_steps: int = 1

    def __post_init__(self) -> None:
        """Check the size."""
        _check_positive(num_steps=self.num_steps)

    def bind(self, distribution: EnergyDistribution) -> Partition:
        """A contrast with a key of its own."""
        return self.snapshot(distribution.parameters[0], draw_seed(), 0).bind(distribution)

    def snapshot(self, particles: Tensor, seed: int, step: int) -> Partition:
        """The key: the particles are run from the value inside ``log_prob``."""
        return _DataParticles(self.num_steps, seed, step)


@dataclass(frozen=True)
class PersistentChains(NegativePhase):
    """PCD-k: the particles are chains that go on from update to update (also known as stochastic maximum likelihood).

    Args:
        num_chains: number of chains.
        num_steps: sweeps k of every chain an update.

    References:
        Tieleman (2008), Training restricted Boltzmann machines using approximations to the likelihood gradient.

    Example:
        >>> PersistentChains(num_chains=200, num_steps=5).persistent_chains
        200
    """

    num_chains: int = 100
    num_steps: int = 1

    def __post_init__(self) -> None:
        """Check the sizes."""
        _check_positive(num_chains=self.num_chains, num_steps=self.num_steps)

    @property
    def persistent_chains(self) -> int:
        """The number of chains."""
        return self.num_chains

    def bind(self, distribution: EnergyDistribution) -> Partition:
        """Nothing: chains belong to a module."""
        raise ValueError(
            "`partition` PersistentChains needs chains that go on from call to call, which a module holds: "
            "use pyro_gen.nn.RBM(..., negative_phase=PersistentChains(...))"
        )


class _Contrast(Partition):
    """The bound form of a negative phase: refuses every caller that would read its value as a log probability."""

    def bind(self, distribution: EnergyDistribution) -> Partition:
        refuse_misuse(distribution.parameter_batch_shape)
        return self

    def log_partition(self, distribution: EnergyDistribution) -> LogPartition:
        raise _no_log_partition()


@dataclass(frozen=True, eq=False)
class _Particles(_Contrast):
    """Frozen particles of shape (chains, visible)."""

    particles: Tensor = field(repr=False)

    def log_normalizer(self, distribution: EnergyDistribution, value: Tensor) -> Tensor:
        return _FirstOrder.apply(-distribution.free_energy(self.particles).mean(0))


@dataclass(frozen=True)
class _DataParticles(_Contrast):
    """Particles that start at the value, keyed by (seed, step): one a row."""

    num_steps: int
    seed: int
    step: int

    def log_normalizer(self, distribution: EnergyDistribution, value: Tensor) -> Tensor:
        particles = distribution.sweep(value, self.num_steps, self.seed, self.step)
        return _FirstOrder.apply(-distribution.free_energy(particles))


def refuse_misuse(parameter_batch_shape: torch.Size) -> None:
    """Raise where a contrast with particles would be taken for a log probability.

    Args:
        parameter_batch_shape: batch shape of the parameters, which must be empty.

    Raises:
        ValueError: the parameters are batched, the ELBO is being traced, or the caller is MCMC or forms importance
            weights.
    """
    if parameter_batch_shape:
        raise ValueError(
            "under a negative phase the parameters must have no batch dimensions, got batch shape "
            f"{tuple(parameter_batch_shape)}: components would be weighed by contrasts; use Exact or AIS"
        )
    _refuse_tracing("a negative phase")
    _refuse_callers("a negative phase", _NEEDS_DENSITY)


def starts_at_data(partition: Partition | None) -> bool:
    """Whether the particles of a contrast start at the value itself, so that it serves observed values only."""
    return isinstance(partition, _DataParticles)


_NEEDS_DENSITY = tuple(
    f"pyro.infer.{module}"
    for module in (
        "mcmc",
        "renyi_elbo",
        "rws",
        "importance",
        "csis",
        "smcfilter",
        "resampler",
        "tracetmc_elbo",
        "trace_tail_adaptive_elbo",
    )
)
"""Modules of Pyro that form ratios or weights of log probabilities, or accept by them."""


def _caller(modules: tuple[str, ...]) -> str | None:
    """The innermost of ``modules`` on the call stack, or None."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        for name in _names(frame):
            if name.startswith(modules):
                return name
        frame = frame.f_back
    return None


def _names(frame: FrameType) -> tuple[str, ...]:
    """The module of a frame's code, and of the class whose method it runs, which may inherit the code."""
    code = str(frame.f_globals.get("__name__", ""))
    if frame.f_code.co_varnames[:1] != ("self",):
        return (code,)
    return code, type(frame.f_locals.get("self")).__module__


def _refuse_callers(name: str, modules: tuple[str, ...]) -> None:
    if caller := _caller(modules):
        raise ValueError(
            f"{caller} needs log probabilities, and {name} gives only a stochastic stand-in for log Z: "
            "put the module in eval() with `evaluation=Exact()`, or use Exact"
        )


def _refuse_tracing(name: str) -> None:
    if torch._C._get_tracing_state() is not None or _caller(("pyro.ops.jit",)):
        raise ValueError(f"a traced (JIT) ELBO would freeze the particles of {name}: use the untraced ELBO")


def _no_log_partition() -> ValueError:
    return ValueError("a negative phase knows no log Z: use Exact or AIS as `partition` (of a module: as `evaluation`)")


class _FirstOrder(torch.autograd.Function):
    """The identity, but a second derivative raises: a stand-in for log Z has a right gradient and no right Hessian."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "AIS and negative phases give the gradient of log Z but no second derivative (no `create_graph=True`, "
                "no Laplace approximation): use Exact"
            )
        return grad_output


def _wants_gradient(distribution: EnergyDistribution) -> bool:
    return torch.is_grad_enabled() and any(p.requires_grad for p in distribution.parameters)


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"`{name}` must be at least 1, got {size}")


def _estimate(log_base: Tensor, log_weight: Tensor, method: str) -> LogPartition:
    """Log of the mean weight over the first dimension, by the delta method."""
    count = log_weight.shape[0]
    total = log_weight.logsumexp(0)
    size = (2 * total - (2 * log_weight).logsumexp(0)).exp()
    relative_variance = (count / size - 1).clamp(min=0)
    error = (relative_variance / (count - 1)).sqrt() if count > 1 else torch.full_like(total, math.inf)
    return LogPartition(log_base + total - math.log(count), error, size, method)


def _warn_if_poor(estimate: LogPartition, count: int, num_betas: int) -> None:
    size = estimate.effective_sample_size.min().item()
    if not math.isfinite(estimate.value.sum().item()):
        raise ValueError("AIS gave a log Z that is not finite: the parameters are infinite or NaN")
    if size < max(0.1 * count, min(20.0, 0.5 * count)) or count == 1:
        warnings.warn(
            f"{estimate.method} cannot be trusted: effective sample size {size:.1f} of {count} chains (standard error "
            f"{estimate.standard_error.max().item():.2f} nats); raise `num_betas`, now {num_betas}, or `num_chains`",
            stacklevel=2,
        )


def with_base_rates(partition: Partition | None, base_rates: Tensor) -> Partition | None:
    """``partition`` with the given base rates where it is an AIS that has none of its own."""
    if isinstance(partition, AIS) and partition.base_rates is None:
        return replace(partition, base_rates=base_rates)
    return partition
