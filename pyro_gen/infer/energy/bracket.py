"""Brackets of log Z: annealed importance sampling forwards, backwards from other chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.log_z.annealing import (
    AIS,
    forward_estimate,
    reverse_estimate,
    shared_rows,
)
from pyro_gen.distributions.log_z.schedule import linear_betas
from pyro_gen.infer.energy.population import population_annealing

ERRORS = 3.0
"""Standard errors by which both ends are moved outwards.

With normal errors a false end has a chance of 0.1 %. In the worst case, where one chain
holds all the weight, the standard error is 1 and Markov's inequality takes over: an
unbiased estimate of Z (forwards) or 1/Z (backwards) is above exp(3) times the truth in
at most 5 % of the runs.
"""
ROUNDING = 0.001
"""Rounding error of a log weight in float32, in nats."""


class Bracket(NamedTuple):
    """An interval for log Z from AIS and from reverse AIS; tensors have the batch shape.

    ``lower`` to ``upper`` should contain log Z. If it is wider than one nat, or if the
    two runs contradict each other, the bracket is UNRESOLVED, which ``print`` shows.

    ``forward`` tends to be too low. ``reverse`` tends to be too high if its chains
    cover each important mode: it is the highest of the estimates in ``starts``, one for
    each kind of start. ``forward_log_weights`` and ``reverse_log_weights`` (chains,
    ...) are those of single chains, see :func:`pyro_gen.plotting.log_weights`.
    """

    forward: Estimate
    reverse: Estimate
    starts: Mapping[str, Estimate]
    forward_log_weights: Tensor
    reverse_log_weights: Tensor

    @property
    def value(self) -> Tensor:
        """Value of the ``combined`` estimate, in nats."""
        return self.combined.value

    @property
    def standard_error(self) -> Tensor:
        """Standard error of the ``combined`` estimate, in nats."""
        return self.combined.standard_error

    @property
    def effective_sample_size(self) -> Tensor:
        """Effective number of forward chains."""
        return self.forward.effective_sample_size

    @property
    def lower(self) -> Tensor:
        """Lower end: the forward estimate less three standard errors, in nats."""
        return self.forward.value - ERRORS * self.forward.standard_error

    @property
    def upper(self) -> Tensor:
        """Upper end: the larger estimate and three standard errors, in nats."""
        highest = self.reverse.value + ERRORS * self.reverse.standard_error
        return torch.maximum(self.forward.value + ERRORS * self.forward.standard_error, highest)

    @property
    def gap(self) -> Tensor:
        """Upper minus lower end, in nats."""
        return self.upper - self.lower

    @property
    def consistent(self) -> bool:
        """True unless the reverse run lies below the forward run by more than their errors."""
        highest = self.reverse.value + ERRORS * self.reverse.standard_error
        return bool((highest >= self.lower - ROUNDING).all())

    @property
    def resolved(self) -> bool:
        """True if the ends lie within one nat and do not contradict each other."""
        return self.consistent and bool((self.gap < 1).all())

    @property
    def combined(self) -> Estimate:
        r"""Acceptance ratio estimate from all chains: more precise than either if they overlap.

        .. math:: \sum_i \sigma(w_i - c) = \sum_j \sigma(c - w'_j), \qquad
                  c = \log Z + \log\frac{n}{n'}

        for log weights w of the n forward and w' of the n' reverse chains. Its standard
        error is valid for chains that have mixed; the ends do not depend on it.

        References:
            Bennett (1976), Efficient estimation of free energy differences from Monte
            Carlo data, equations 12 and 10.
        """
        return _acceptance_ratio(self.forward_log_weights, self.reverse_log_weights)

    @property
    def summary(self) -> str:
        """Both estimates with errors, and the effective number of forward chains; no gap."""
        count = len(self.forward_log_weights)
        columns = [*self.forward[:3], *self.reverse[:2]]
        rows = zip(*(x.flatten().tolist() for x in columns), strict=True)
        return "; ".join(
            f"AIS {ahead:.2f} +/- {error:.2f} (effective sample size {size:.0f} of {count}), "
            f"reverse AIS {back:.2f} +/- {back_error:.2f}"
            for ahead, error, size, back, back_error in rows
        )

    def __str__(self) -> str:
        """The interval, and whether it is resolved."""
        limits = self.lower.flatten().tolist(), self.upper.flatten().tolist()
        intervals = [f"{low:.2f} to {high:.2f}" for low, high in zip(*limits, strict=True)]
        return f"log Z from {', '.join(intervals)} nats ({self.verdict})"

    @property
    def verdict(self) -> str:
        """The gap in words, with UNRESOLVED before it if the bracket is unreliable."""
        gap = f"gap {self.gap.max().item():.2f}"
        if self.resolved:
            return gap
        if self.consistent:
            return f"UNRESOLVED, {gap}"
        return f"UNRESOLVED, the reverse run misses modes, {gap}"


@torch.no_grad()
def log_partition_bracket(
    distribution: EnergyDistribution,
    start: Tensor | None = None,
    burn_in: int = 1000,
) -> Bracket:
    """Enclose log Z by AIS and, independently, by reverse AIS.

    The reverse run needs samples. Gibbs chains that start at the data stay in the
    data's modes and can leave it dozens of nats too low, so its chains come from
    population annealing, a third each from the base of the AIS, from uniform noise and
    from the visible biases, followed by ``burn_in`` sweeps; they share no draws with
    the forward run. The highest estimate is used. A mode that the forward run misses
    raises the upper end if one kind of start finds it; a mode that no run finds is
    missing from both ends. The cost is three times that of the forward run.

    Args:
        distribution: the model, with ``AIS(...)`` as its ``partition`` (of a module in
            ``eval()``: ``evaluation``). None, the default of both, is a run of
            ``AIS()`` with its default settings for the bracket alone.
        start: further start states where probability mass may be missed, such as
            training rows or persistent chains, (rows, visible); they can only raise the
            upper end.
        burn_in: Gibbs sweeps before the reverse run.

    Returns:
        The bracket.

    Raises:
        ValueError: the distribution is that of a module in training mode, or log Z is
            exact.
        NotImplementedError: the model takes no AIS.

    References:
        Grosse, Ghahramani, Adams (2015), Sandwiching the marginal likelihood using
        bidirectional Monte Carlo.

    Example:
        >>> from pyro_gen.distributions import RBM
        >>> ais = AIS(20, 10, base_rates=torch.full((30,), 0.5))
        >>> rbm = RBM(torch.zeros(30, 25), torch.zeros(30), torch.zeros(25), ais)
        >>> print(log_partition_bracket(rbm, burn_in=5))
        log Z from 38.12 to 38.12 nats (gap 0.00)
    """
    burn_in = whole_number("burn_in", burn_in, 0)
    partition = _annealing(distribution)
    forward = partition.run(distribution).log_weights
    states = _starts(distribution, partition)
    if start is not None:
        states["given"] = shared_rows(distribution, "start", start)
    mixed = [distribution.gibbs(value, burn_in) for value in states.values()]
    reverse = partition.reverse_log_weights(distribution, torch.cat(mixed))
    groups = reverse.split([len(value) for value in mixed])
    starts = dict(zip(states, map(reverse_estimate, groups), strict=True))
    return Bracket(
        forward=forward_estimate(forward),
        reverse=_highest(list(starts.values())),
        starts=starts,
        forward_log_weights=forward,
        reverse_log_weights=reverse,
    )


def _annealing(distribution: EnergyDistribution) -> AIS:
    """The AIS of a distribution, or one with default settings."""
    partition = distribution.partition
    if partition is not None and partition.contrast is not None:
        raise ValueError(f"`log_partition_bracket` needs log Z, and {partition.contrast}")
    if partition is None:
        return cast(AIS, AIS().bind(distribution))
    if not isinstance(partition, AIS):
        raise ValueError(
            "`distribution` must have an AIS as its partition, or None, "
            f"got {partition}, which already knows log Z"
        )
    return partition


def _starts(distribution: EnergyDistribution, partition: AIS) -> dict[str, Tensor]:
    """Population annealing of a third of the chains from each of three bases."""
    base, betas = partition.path(distribution)
    count = max(2, partition.num_chains // 3)
    even = linear_betas(partition.num_betas)
    # Precisions may follow the fields; without them the model's own hold.
    fields = base[..., : distribution.event_shape[-1]]
    biases, fields = torch.broadcast_tensors(distribution.parameters[1], fields)
    noise = torch.zeros_like(fields)
    return {
        "base": population_annealing(distribution, base, betas, count),
        "uniform": population_annealing(distribution, noise, even, count),
        "biases": population_annealing(distribution, biases, even, count),
    }


def _highest(estimates: list[Estimate]) -> Estimate:
    """The estimate with the highest upper end, for each element of the batch."""
    values, errors, sizes = map(torch.stack, list(zip(*estimates, strict=True))[:3])
    best = (values + ERRORS * errors).argmax(0, keepdim=True)
    value, error, size = (x.gather(0, best).squeeze(0) for x in (values, errors, sizes))
    return Estimate(value, error, size, "reverse AIS")


def _acceptance_ratio(forward: Tensor, reverse: Tensor) -> Estimate:
    """Bennett's estimate of log Z by bisection, over the first dimension of both."""
    shift = torch.tensor(len(forward) / len(reverse), dtype=torch.float64).log()
    low = torch.minimum(forward.amin(0), reverse.amin(0)) - shift.abs()
    high = torch.maximum(forward.amax(0), reverse.amax(0)) + shift.abs()
    for _ in range(100):
        middle = (low + high) / 2
        ahead = (forward - middle - shift).sigmoid().sum(0)
        back = (middle + shift - reverse).sigmoid().sum(0)
        rising = ahead > back
        low = torch.where(rising, middle, low)
        high = torch.where(rising, high, middle)
    value = (low + high) / 2
    variance = torch.zeros_like(low)
    size = torch.zeros_like(low)
    for logits in (forward - value - shift, value + shift - reverse):
        share = logits.sigmoid()
        effective = share.sum(0).square() / share.square().sum(0)
        variance = variance + 1 / effective - 1 / len(share)
        size = size + effective
    error = variance.clamp(min=0).sqrt()
    return Estimate(value, error, size, "acceptance ratio")


__all__ = ["Bracket", "log_partition_bracket"]
