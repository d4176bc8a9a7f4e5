"""Replica exchange (parallel tempering) of Boltzmann machines, with statistics of the swaps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.boltzmann_machine import BoltzmannMachine
from pyro_gen.distributions.tempering import swap_neighbours
from pyro_gen.infer.block_gibbs import GibbsState
from pyro_gen.kernels import draw_seed
from pyro_gen.kernels.random import SWAP, source


class ReplicaInfo(NamedTuple):
    """Energies at beta 1 (chains, betas) in nats, and the share of accepted swaps of each pair of neighbours."""

    energy: Tensor
    swap_rate: Tensor


class ReplicaExchange:
    r"""Chains at several inverse temperatures that exchange their states.

    Every replica runs chromatic Gibbs sampling of exp(-beta E(x)); then neighbours swap, even and odd pairs in turn.
    The swap must take the energy that the sweeps temper: here the energy of the units themselves, no unit being hidden.

    .. math:: P(\text{swap}) = \min\bigl(1, e^{(\beta - \beta')(E(x) - E(x'))}\bigr)

    ``init`` and ``step`` are pure functions of their state.

    Args:
        distribution: a Boltzmann machine with unbatched parameters.
        betas: inverse temperatures, the first of them 1.
        num_steps: sweeps between swaps.
        num_chains: independent sets of replicas.

    Raises:
        ValueError: a size is below 1, the distribution is batched, or the betas do not fall from 1.

    References:
        Swendsen and Wang (1986), Replica Monte Carlo simulation of spin glasses, Physical Review Letters 57. Hukushima
        and Nemoto (1996), Exchange Monte Carlo method and application to spin glass simulations.

    Example:
        >>> from pyro_gen.distributions import ising_lattice
        >>> kernel = ReplicaExchange(ising_lattice(8, 8, 0.6), betas=[1.0, 0.8, 0.6], num_chains=10)
        >>> state, info = kernel.step(kernel.init())
        >>> state.value.shape, info.swap_rate.shape  # the replica at beta 1 is state.value[:, 0]
        (torch.Size([10, 3, 64]), torch.Size([2]))
    """

    def __init__(
        self, distribution: BoltzmannMachine, betas: Sequence[float], num_steps: int = 1, num_chains: int = 4
    ) -> None:
        num_steps = whole_number("num_steps", num_steps)
        num_chains = whole_number("num_chains", num_chains)
        if distribution.batch_shape:
            raise ValueError(f"`distribution` must have no batch shape, got {tuple(distribution.batch_shape)}")
        falls = all(high > low >= 0 for high, low in pairwise(betas))
        if len(betas) < 2 or betas[0] != 1 or not falls:
            raise ValueError(f"`betas` must fall from 1 and stay at or above 0, at least two of them, got {betas}")
        self.distribution, self.num_steps, self.num_chains = distribution, num_steps, num_chains
        self.betas = torch.tensor(betas, dtype=distribution.bias.dtype, device=distribution.bias.device)

    def init(self, seed: int | None = None) -> GibbsState:
        """Replicas at uniform noise.

        Args:
            seed: 64-bit key; None takes one from torch's generator.

        Returns:
            States of shape (num_chains, betas, n).
        """
        seed = draw_seed() if seed is None else seed
        number = self.num_chains * len(self.betas)
        noise = self.distribution.base_states(torch.zeros_like(self.distribution.bias), number, seed)
        return GibbsState(noise.view(self.num_chains, len(self.betas), -1), seed, 0)

    @torch.no_grad()
    def step(self, state: GibbsState) -> tuple[GibbsState, ReplicaInfo]:
        """Run ``num_steps`` sweeps of every replica, then swap even pairs of neighbours and odd ones in turn.

        Args:
            state: where the replicas are.

        Returns:
            The new state; energies after the swaps and swap rates, NaN for the pairs whose turn it was not.
        """
        betas = self.betas.expand(state.value.shape[:-1])
        value = self.distribution.sweep(state.value, self.num_steps, state.seed, state.step, betas)
        uniform = source(state.seed, self.num_chains, 0, value, fast=True)(state.step, SWAP, len(self.betas) - 1)
        turn = state.step // self.num_steps % 2
        swaps = swap_neighbours(self.distribution._energy(value), self.betas, uniform, turn)
        value = value.gather(1, swaps.order.unsqueeze(-1).expand_as(value))
        info = ReplicaInfo(self.distribution._energy(value), swaps.accepted)
        return GibbsState(value, state.seed, state.step + self.num_steps), info


__all__ = ["ReplicaExchange", "ReplicaInfo"]
