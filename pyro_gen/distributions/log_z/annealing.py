"""Estimates of log Z by annealed importance sampling."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pyro_gen._arguments import whole_fields
from pyro_gen._transforms import refusal, wrapped
from pyro_gen._weights import level_of_the_user
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.log_z.energy import Energy
from pyro_gen.distributions.log_z.misuse import FirstOrder, refuse_callers, refuse_tracing
from pyro_gen.distributions.log_z.partition import Partition, wants_gradient
from pyro_gen.distributions.log_z.resampling import effective_size
from pyro_gen.distributions.log_z.schedule import adaptive_betas, linear_betas
from pyro_gen.kernels import draw_seed

SCHEDULE = 1 << 40
"""Bits that turn a run's key into that of its pilot, so that they share no random numbers."""


class AnnealedRun(NamedTuple):
    """Result of a run of AIS: the estimate, the final particles, their normalised
    weights, log Z of each chain.

    The mean of exp(``log_weights``) (num_chains, ...) is the estimate of Z.
    """

    estimate: Estimate
    particles: Tensor
    weights: Tensor
    log_weights: Tensor


@dataclass(frozen=True, eq=False)
class AIS(Partition):
    r"""Annealed importance sampling from independent units with the data's base rates.

    Run once for each distribution object (for a module: each version of its
    parameters), at the first use. The gradient of ``log_prob`` is the
    self-normalised mean of the gradient of -F over the final particles.

    .. math:: \widehat{\log Z} = \log Z_0 + \log \frac1n \sum_i w_i

    Args:
        num_chains: independent chains n.
        num_betas: intermediate distributions.
        base_rates: mean of the visible units in the base distribution, P(v_i =
            1) for Bernoulli units, shape (visible,) or with the parameters'
            batch shape; None takes the module's, or the mean of short pilot
            chains.
        schedule: ``"adaptive"`` spaces the inverse temperatures by the friction
            that a pilot run measures, for a fortieth of the cost with 500
            chains (from 200 temperatures on); ``"linear"`` spaces them evenly.
        base_variances: variances of the base distribution, for units that have
            a variance (Gaussian, ReLU); None takes the model's precisions, or
            with ``base_rates=None`` those of the pilot chains.

    References:
        Neal (2001), Annealed importance sampling, Statistics and Computing 11.
        Salakhutdinov and Murray (2008). Sivak and Crooks (2012), Thermodynamic
        metrics and optimal paths (the schedule).

    Example:
        >>> from pyro_gen.distributions import RBM
        >>> ais = AIS(10, 5, base_rates=torch.full((30,), 0.5))
        >>> # 55 log 2
        >>> RBM(torch.zeros(30, 25), torch.zeros(30), torch.zeros(25), ais).log_partition().value
        tensor(38.1231)
    """

    num_chains: int = 500
    num_betas: int = 2000
    base_rates: Tensor | None = field(default=None, repr=False)
    schedule: Literal["adaptive", "linear"] = "adaptive"
    base_variances: Tensor | None = field(default=None, repr=False, kw_only=True)
    # kept by `replace`: one run each
    identity: object = field(default_factory=object, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        """Check the sizes."""
        whole_fields(self, num_chains=1, num_betas=1)
        if self.schedule not in ("adaptive", "linear"):
            raise ValueError(f"`schedule` must be 'adaptive' or 'linear', got {self.schedule!r}")

    def bind(self, distribution: Energy) -> Partition:
        """Copy with a fixed key, so that evaluating ``log_prob`` draws no random numbers.

        Raises:
            ValueError: ``base_rates`` has another size, or values that no mean
                of the units can have; or the distribution is made anew at every
                step of HMC or NUTS (with sampled parameters, say), or the ELBO
                is traced: both need a log Z that does not change.
            NotImplementedError: the parameters are those of a transform of
                torch.func.
        """
        if wrapped(distribution.parameters):
            raise refusal(
                "AIS",
                "it runs once for the numbers themselves",
                "use Exact(), or one model after the other",
            )
        visible = distribution.event_shape[-1]
        if self.base_rates is not None and self.base_rates.shape[-1:] != (visible,):
            raise ValueError(
                f"`base_rates` must have shape (..., {visible}), got "
                f"{tuple(self.base_rates.shape)}"
            )
        _check_rates(self.base_rates, distribution.mean_range)
        if any(p.requires_grad for p in distribution.parameters):
            refuse_tracing("AIS")
        if not distribution.shares_memo:
            refuse_callers("AIS in a distribution that the model makes anew", ("pyro.infer.mcmc",))
        settings = self.num_chains, self.num_betas, self.base_rates, self.schedule
        return _KeyedAIS(
            *settings, draw_seed(), base_variances=self.base_variances, identity=self.identity
        )

    def log_normalizer(self, distribution: Energy, value: Tensor) -> Tensor:
        """The estimate; it does not depend on the value."""
        return self._log_z(distribution)

    def _log_z(self, distribution: Energy) -> Tensor:
        """The estimate, with the particles' gradient."""
        run = self.run(distribution)
        if not wants_gradient(distribution):
            return run.estimate.value
        surrogate = FirstOrder.apply(
            (run.weights * -distribution._free_energy(run.particles)).sum(0)
        )
        return run.estimate.value + (surrogate - surrogate.detach())

    def log_partition(self, distribution: Energy) -> Estimate:
        """The estimate of the (remembered) run, its value with the particles' gradient."""
        return self.run(distribution).estimate._replace(value=self._log_z(distribution))

    def reverse(self, distribution: Energy, states: Tensor) -> Estimate:
        r"""Estimate log Z from above, annealing from samples of the model down to the base.

        With exact samples the mean of the estimate is at least log Z; its
        quality is that of the samples. Take them from chains that are
        independent of the forward run.

        .. math:: \widehat{\log Z} = \log Z_0 - \log \frac1n \sum_i w_i

        Args:
            distribution: the model.
            states: samples of it, shape (num_chains, visible).

        Returns:
            The estimate, its standard error and effective sample size.

        References:
            Burda, Grosse, Salakhutdinov (2015), Accurate and conservative
            estimates of MRF log-likelihood using reverse annealing. Grosse,
            Ghahramani, Adams (2015), Sandwiching the marginal likelihood using
            bidirectional Monte Carlo.
        """
        log_weights = self.reverse_log_weights(distribution, states)
        estimate = reverse_estimate(log_weights)
        _warn_if_poor(estimate, len(states), self.num_betas)
        return estimate._replace(value=estimate.value.to(distribution.parameters[0].dtype))

    @torch.no_grad()
    def reverse_log_weights(self, distribution: Energy, states: Tensor) -> Tensor:
        """Log weights of the chains of :meth:`reverse`, to be compared with
        ``log_weights`` of a forward run.

        Args:
            distribution: the model.
            states: samples of it, shape (num_chains, visible), or with the
                batch shape in between.

        Returns:
            Nats in float64, one for each chain, along the path of the
            distribution's forward run in reverse.
        """
        states = shared_rows(distribution, "states", states)
        base, betas = self.path(distribution)
        log_weight, _ = distribution.anneal(states, base, betas.flip(0), draw_seed())
        return distribution.base_log_partition(base) - log_weight

    def path(self, distribution: Energy) -> tuple[Tensor, Tensor]:
        """Base parameters and ascending inverse temperatures.

        The same at every call once bound to a distribution.
        """
        return self._path(distribution, draw_seed())

    def run(self, distribution: Energy) -> AnnealedRun:
        """The forward run, made at the first call and remembered.

        Raises unless bound to a distribution.
        """
        raise ValueError(
            f"{self} is a setting: give it to a distribution as `partition`, or to a module as "
            "`evaluation`"
        )

    @torch.no_grad()
    def _forward(self, distribution: Energy, seed: int) -> AnnealedRun:
        base, betas = self._path(distribution, seed)
        start = distribution.base_states(base, self.num_chains, seed)
        log_weight, particles = distribution.anneal(start, base, betas, seed)
        log_base = distribution.base_log_partition(base)
        estimate = _estimate(log_base, log_weight, "AIS")
        _warn_if_poor(estimate, self.num_chains, self.num_betas)
        weights = log_weight.softmax(0).to(particles.dtype)
        estimate = estimate._replace(value=estimate.value.to(particles.dtype))
        return AnnealedRun(estimate, particles, weights, log_base + log_weight)

    def _path(self, distribution: Energy, seed: int) -> tuple[Tensor, Tensor]:
        base = self._base(distribution, seed ^ 1)
        if self.schedule == "linear":
            return base, linear_betas(self.num_betas)
        return base, adaptive_betas(distribution, base, self.num_betas, seed ^ SCHEDULE)

    def _base(self, distribution: Energy, seed: int) -> Tensor:
        """Natural parameters of the base, kept away from certainty."""
        rates = self.base_rates
        variances = self.base_variances
        like = distribution.parameters[0]
        if rates is None:
            pilot = distribution.pilot(self.num_chains, 50, seed)
            rates = pilot.mean(0)
            variances = pilot.var(0, correction=0)
        variances = None if variances is None else variances.to(like)
        return distribution.base(rates.to(like), variances, 1 / (self.num_chains + 2))


@dataclass(frozen=True, eq=False, repr=False)
class _KeyedAIS(AIS):
    """AIS with the key of its run, which prints as the setting."""

    seed: int = 0

    def __repr__(self) -> str:
        return "AIS" + super().__repr__().removeprefix(type(self).__qualname__)

    def bind(self, distribution: Energy) -> Partition:
        return self

    def path(self, distribution: Energy) -> tuple[Tensor, Tensor]:
        return self._path(distribution, self.seed)

    def run(self, distribution: Energy) -> AnnealedRun:
        return distribution.remember(self.identity, lambda: self._forward(distribution, self.seed))


def _estimate(log_base: Tensor, log_weight: Tensor, method: str) -> Estimate:
    """Log of the mean weight over the first dimension, by the delta method."""
    count = log_weight.shape[0]
    total = log_weight.logsumexp(0)
    size = effective_size(log_weight)
    relative_variance = (count / size - 1).clamp(min=0)
    if count > 1:
        error = (relative_variance / (count - 1)).sqrt()
    else:
        error = torch.full_like(total, math.inf)
    return Estimate(log_base + total - math.log(count), error, size, method)


def shared_rows(distribution: Energy, name: str, rows: Tensor) -> Tensor:
    """Checked states in the parameters' dtype.

    Those without batch dimensions are for all elements of the batch.
    """
    missing = len(distribution.parameter_batch_shape) + 2 - rows.dim()
    rows = rows[(slice(None), *(None,) * missing)]
    distribution.check_value(name, rows)
    return rows.to(distribution.parameters[0]).expand(
        torch.broadcast_shapes(rows.shape[:-1], distribution.parameter_batch_shape)
        + rows.shape[-1:]
    )


def forward_estimate(log_weights: Tensor) -> Estimate:
    """Log of the mean of exp(log_weights) over the first dimension, in float64."""
    return _estimate(torch.zeros_like(log_weights[0]), log_weights, "AIS")


def reverse_estimate(log_weights: Tensor) -> Estimate:
    """Minus the log of the mean of exp(-log_weights) over the first dimension, in float64."""
    down = _estimate(torch.zeros_like(log_weights[0]), -log_weights, "reverse AIS")
    return down._replace(value=-down.value)


def _warn_if_poor(estimate: Estimate, count: int, num_betas: int) -> None:
    size = estimate.effective_sample_size.min().item()
    if not math.isfinite(estimate.value.sum().item()):
        raise ValueError("AIS gave a log Z that is not finite: the parameters are infinite or NaN")
    if size < max(0.1 * count, min(20.0, 0.5 * count)) or count == 1:
        warnings.warn(
            f"{estimate.method} cannot be trusted: effective sample size {size:.1f} of {count} "
            "chains (standard error "
            f"{estimate.standard_error.max().item():.2f} nats); raise `num_betas`, now "
            f"{num_betas}, or `num_chains`",
            stacklevel=level_of_the_user(),
        )


def _check_rates(rates: Tensor | None, mean_range: tuple[float, float]) -> None:
    low, high = mean_range
    if rates is not None and not (rates.isfinite() & (rates >= low) & (rates <= high)).all():
        raise ValueError(f"`base_rates` must lie between {low:g} and {high:g}, got {rates}")


def with_base_rates(
    partition: Partition | None, base_rates: Tensor, base_variances: Tensor | None = None
) -> Partition | None:
    """``partition``, with the given base rates if it is an AIS without base rates."""
    if isinstance(partition, AIS) and partition.base_rates is None:
        return replace(partition, base_rates=base_rates, base_variances=base_variances)
    return partition
