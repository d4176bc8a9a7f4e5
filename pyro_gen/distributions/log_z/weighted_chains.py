"""Weighted chains: annealed importance sampling along the path of the parameters
during learning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gen._arguments import whole_fields
from pyro_gen.distributions.log_z.energy import Energy
from pyro_gen.distributions.log_z.negative_phase import (
    Particles,
    PersistentChains,
    State,
    bernoulli_parameters,
)
from pyro_gen.distributions.log_z.resampling import effective_size, systematic
from pyro_gen.kernels import rbm_free_energy
from pyro_gen.kernels.random import SWAP, source

OLD = ("old_weight", "old_vbias", "old_hbias")


@dataclass(frozen=True)
class WeightedChains(PersistentChains):
    r"""Persistent chains with importance weights that correct for each change of the parameters.

    .. math:: \log w \leftarrow \log w + F_{\theta_{t-1}}(v) - F_{\theta_t}(v), \qquad
              v \leftarrow \text{Gibbs}_{\theta_t}(v), \qquad
              \widehat{\log Z_t} = \log Z_0 + \log \textstyle\frac1n \sum_i w_i

    The chains start as exact draws of independent units at the base rates,
    whose log Z is known, so that log Z is tracked along training: each update
    is one more temperature of an annealed run. They are resampled
    (systematically) if the effective sample size falls below a share of the
    chains.

    Chains that contribute to the gradient give a biased log Z: an update raises
    F just where they are, so their weights fall and log Z is too small. Log Z
    is therefore estimated from *witnesses*, further chains that do not
    contribute to the gradient: given the path, their mean weight is unbiased
    for Z.

    Args:
        num_chains: chains that the gradient is computed from.
        num_steps: sweeps k of every chain an update.
        num_witnesses: further chains, for log Z; none where 0.
        resample_below: resample if the effective sample size is below this
            share of the chains.

    References:
        Neal (2001), Annealed importance sampling. Carbone, Hua, Coste,
        Vanden-Eijnden (2023), Efficient training of energy-based models using
        Jarzynski equality, Algorithms 1 and 4 (without witnesses).

    Example:
        >>> WeightedChains(num_chains=100, num_steps=2).persistent_chains
        200
    """

    exact: ClassVar[tuple[str, ...]] = ("log_weights", "log_partition")
    moved_by: ClassVar[tuple[str, ...]] = OLD

    num_witnesses: int = 100
    resample_below: float = 0.5

    def __post_init__(self) -> None:
        """Check the sizes."""
        super().__post_init__()
        whole_fields(self, num_witnesses=0)
        if not 0 <= self.resample_below <= 1:
            raise ValueError(f"`resample_below` must lie in [0, 1], got {self.resample_below}")

    @property
    def persistent_chains(self) -> int:
        """Chains of both groups."""
        return self.num_chains + self.num_witnesses

    def initial_state(self, distribution: Energy, base_rates: Tensor) -> State:
        """Exact draws of independent units, no weights yet, and the independent
        units as the old parameters.
        """
        weight, _, hbias = bernoulli_parameters(distribution, "WeightedChains")
        base = base_rates.logit()
        log_partition = softplus(base.double()).sum() + len(hbias) * math.log(2)
        chains = torch.bernoulli(base_rates.expand(self.persistent_chains, -1))
        old = weight.new_zeros(weight.shape), base, hbias.new_zeros(hbias.shape)
        start = {
            "chains": chains,
            "log_weights": chains.new_zeros(len(chains), dtype=torch.float64),
        }
        return start | {"log_partition": log_partition} | dict(zip(OLD, old, strict=True))

    def advance(self, distribution: Energy, state: State, seed: int, step: int) -> State:
        """Reweight for the last update, resample if necessary, then sweep."""
        v = state["chains"]
        old = rbm_free_energy(v, *(state[name] for name in OLD)).double()
        log_weights = state["log_weights"] + old - distribution._free_energy(v).double()
        index, log_weights, gain = self._drawn_anew(log_weights, seed, step)
        v = distribution.sweep(v[index], self.num_steps, seed, step)
        parameters = bernoulli_parameters(distribution, "WeightedChains")
        new = {name: p.clone() for name, p in zip(OLD, parameters, strict=True)}
        return {
            "chains": v,
            "log_weights": log_weights,
            "log_partition": state["log_partition"] + gain,
        } | new

    def _drawn_anew(
        self, log_weights: Tensor, seed: int, step: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Indices of the chains that go on, their weights, and what the witnesses' weights
        hand over to log Z.
        """
        index = torch.arange(len(log_weights), device=log_weights.device)
        gain = log_weights.new_zeros(())
        uniforms = source(seed, 2, 0, log_weights, fast=False)(step, SWAP, 1)
        for group, first in enumerate((0, self.num_chains)):
            if group:
                members = slice(first, None)
            else:
                members = slice(0, self.num_chains)
            weights = log_weights[members]
            if effective_size(weights) < self.resample_below * len(weights):
                if group:
                    gain = _log_mean(weights)
                index[members] = first + systematic(weights, uniforms[group])
                log_weights = log_weights.clone()
                log_weights[members] = 0
        return index, log_weights, gain

    def particles(self, state: State) -> Particles:
        """The chains without the witnesses, with their weights."""
        weights = state["log_weights"][: self.num_chains].softmax(0)
        return Particles(state["chains"][: self.num_chains], weights.to(state["chains"].dtype))

    def diagnostics(self, state: State) -> State:
        """Log Z along the path in nats (of the parameters at the last advance), and
        effective sample sizes.
        """
        result = {"effective_sample_size": effective_size(state["log_weights"][: self.num_chains])}
        if self.num_witnesses:
            weights = state["log_weights"][self.num_chains :]
            result["log_partition"] = state["log_partition"] + _log_mean(weights)
            result["log_partition_sample_size"] = effective_size(weights)
        return result


def _log_mean(log_weights: Tensor) -> Tensor:
    return log_weights.logsumexp(0) - math.log(len(log_weights))


__all__ = ["WeightedChains"]
