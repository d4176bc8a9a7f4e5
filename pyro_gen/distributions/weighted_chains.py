"""Weighted chains: annealed importance sampling along the very path that learning takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gen.distributions.negative_phase import Particles, PersistentChains, State
from pyro_gen.kernels import rbm_free_energy
from pyro_gen.kernels.random import SWAP, source

if TYPE_CHECKING:
    from pyro_gen.distributions.energy import EnergyDistribution

OLD = ("old_weight", "old_vbias", "old_hbias")


@dataclass(frozen=True)
class WeightedChains(PersistentChains):
    r"""Persistent chains whose importance weights make up for what every update changes under them.

    .. math:: \log w \leftarrow \log w + F_{\theta_{t-1}}(v) - F_{\theta_t}(v), \qquad v \leftarrow
              \text{Gibbs}_{\theta_t}(v), \qquad \widehat{\log Z_t} = \log Z_0 + \log \textstyle\frac1n \sum_i w_i

    The chains start as exact draws of independent units at the base rates, whose log Z is known, so that log Z is
    tracked along training: each update is one more temperature of an annealed run. The chains are drawn anew by their
    weights (systematic resampling) where the effective sample size falls below a share of them.

    Args:
        num_chains: number of chains.
        num_steps: sweeps k of every chain an update.
        resample_below: share of the chains below which the effective sample size makes them be drawn anew.

    References:
        Neal (2001), Annealed importance sampling. Carbone, Hua, Coste, Vanden-Eijnden (2023), Efficient training of
        energy-based models using Jarzynski equality, Algorithms 1 and 4.

    Example:
        >>> WeightedChains(num_chains=100, num_steps=2).resample_below
        0.5
    """

    resample_below: float = 0.5

    def __post_init__(self) -> None:
        """Check the sizes."""
        super().__post_init__()
        if not 0 <= self.resample_below <= 1:
            raise ValueError(f"`resample_below` must lie in [0, 1], got {self.resample_below}")

    def initial_state(self, distribution: EnergyDistribution, base_rates: Tensor) -> State:
        """Exact draws of independent units, no weights yet, and the independent units as the old parameters."""
        weight, _, hbias = (p.detach() for p in distribution.parameters)
        base = base_rates.logit()
        log_partition = softplus(base.double()).sum() + len(hbias) * math.log(2)
        chains = torch.bernoulli(base_rates.expand(self.num_chains, -1))
        old = weight.new_zeros(weight.shape), base, hbias.new_zeros(hbias.shape)
        start = {"chains": chains, "log_weights": chains.new_zeros(len(chains), dtype=torch.float64)}
        return start | {"log_partition": log_partition} | dict(zip(OLD, old, strict=True))

    def advance(self, distribution: EnergyDistribution, state: State, seed: int, step: int) -> State:
        """Weigh by what the last update changed, draw anew where the weights say so, then sweep."""
        v, log_weights, log_partition = state["chains"], state["log_weights"], state["log_partition"]
        old = rbm_free_energy(v, *(state[name] for name in OLD)).double()
        log_weights = log_weights + old - distribution.free_energy(v).double()
        if _effective_size(log_weights) < self.resample_below * len(v):
            index = _systematic(log_weights, seed, step)
            log_partition = log_partition + log_weights.logsumexp(0) - math.log(len(v))
            v, log_weights = v[index], torch.zeros_like(log_weights)
        v = distribution.sweep(v, self.num_steps, seed, step)
        new = {name: p.detach().clone() for name, p in zip(OLD, distribution.parameters, strict=True)}
        return {"chains": v, "log_weights": log_weights, "log_partition": log_partition} | new

    def particles(self, state: State) -> Particles:
        """The chains with their weights."""
        return Particles(state["chains"], state["log_weights"].softmax(0).to(state["chains"].dtype))

    def diagnostics(self, state: State) -> State:
        """Log Z along the path, in nats, and the effective sample size of the weights."""
        weights = state["log_weights"]
        value = state["log_partition"] + weights.logsumexp(0) - math.log(len(weights))
        return {"log_partition": value, "effective_sample_size": _effective_size(weights)}


def _effective_size(log_weights: Tensor) -> Tensor:
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()


def _systematic(log_weights: Tensor, seed: int, step: int) -> Tensor:
    """Indices drawn by one uniform and an even comb."""
    count = len(log_weights)
    first = source(seed, 1, 0, log_weights, fast=False)(step, SWAP, 1).view(())
    comb = (torch.arange(count, device=log_weights.device) + first) / count
    cumulative = log_weights.softmax(0).cumsum(0)
    return torch.searchsorted(cumulative, comb.to(cumulative)).clamp(max=count - 1)


__all__ = ["WeightedChains"]
