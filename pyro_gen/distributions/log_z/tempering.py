"""Parallel tempering: chains at several inverse temperatures that exchange their states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from pyro_gen._arguments import whole_fields
from pyro_gen.distributions.log_z.energy import Energy
from pyro_gen.distributions.log_z.negative_phase import (
    NegativePhase,
    Particles,
    PersistentChains,
    State,
    bernoulli_parameters,
)
from pyro_gen.distributions.log_z.schedule import interpolate
from pyro_gen.kernels import rbm_gibbs
from pyro_gen.kernels.random import HIDDEN, SWAP, VISIBLE, source


@dataclass(frozen=True)
class TemperedChains(NegativePhase):
    r"""Persistent chains in ladders of inverse temperatures, from independent units at
    the base rates to the model.

    .. math:: p_\beta(v, h) \propto e^{-(1-\beta) E_0(v) - \beta E(v, h)}, \qquad
              E_0(v) = -c \cdot v, \qquad
              P(\text{swap } i, j) =
              \min\bigl(1, e^{(\beta_i - \beta_j) ((E - E_0)_i - (E - E_0)_j)}\bigr)

    with the *joint* energies of the states (v, h) that the sweeps left, since
    that is the distribution which the sweeps at beta keep: swaps by free
    energies would leave another. Neighbours swap in turn, even pairs and odd
    pairs. Chains at beta = 0 are redrawn in each sweep, so that every ladder
    has a source of independent states. The particles are the chains at beta =
    1.

    Args:
        num_chains: ladders, each with one chain at every inverse temperature.
        num_steps: sweeps k of every chain an update, each followed by a swap of
            every other pair of neighbours.
        num_betas: inverse temperatures of a ladder, at least 2.
        adapt: whether the inverse temperatures move towards equal swap rates
            while learning.

    References:
        Desjardins, Courville, Bengio, Vincent, Delalleau (2010), Tempered
        Markov chain Monte Carlo for training of restricted Boltzmann machines.
        Syed, Bouchard-Cote, Deligiannidis, Doucet (2022), Non-reversible
        parallel tempering: a scalable highly parallel MCMC scheme, Sections 3
        and 5 (turns of even and odd pairs, schedule).

    Example:
        >>> TemperedChains(num_chains=10, num_betas=5).persistent_chains
        50
    """

    moved_by: ClassVar[tuple[str, ...]] = ("betas", "base_rates")

    num_chains: int = 100
    num_steps: int = 1
    num_betas: int = 10
    adapt: bool = True

    def __post_init__(self) -> None:
        """Check the sizes."""
        whole_fields(self, num_chains=1, num_steps=1, num_betas=2)

    bind = PersistentChains.bind

    @property
    def persistent_chains(self) -> int:
        """Chains of all ladders."""
        return self.num_chains * self.num_betas

    def initial_state(self, distribution: Energy, base_rates: Tensor) -> State:
        """Even inverse temperatures from 0 to 1, and no swap seen yet."""
        like, _, _ = bernoulli_parameters(distribution, "TemperedChains")
        betas = torch.linspace(0, 1, self.num_betas, dtype=torch.float64, device=like.device).to(
            like.dtype
        )
        return {"betas": betas, "swap_rates": torch.full_like(betas[1:], 0.5)}

    def advance(self, distribution: Energy, state: State, seed: int, step: int) -> State:
        """Sweeps and swaps.

        The buffer holds the chains by inverse temperature, ladder after ladder.
        """
        parameters = bernoulli_parameters(distribution, "TemperedChains")
        chains = state["chains"].view(self.num_betas, self.num_chains, -1)
        betas = state["betas"]
        rates = state["swap_rates"]
        base = state["base_rates"].logit()
        for t in range(step, step + self.num_steps):
            chains, excess = tempered_sweep(chains, *parameters, base, betas, seed, t)
            uniform = source(seed, self.num_chains, 0, chains, fast=True)(
                t, SWAP, self.num_betas - 1
            )
            swaps = swap_neighbours(excess.mT, betas, uniform, t % 2)
            chains = chains.gather(0, swaps.order.mT.unsqueeze(-1).expand_as(chains))
            rates = torch.where(swaps.chance.isnan(), rates, rates.lerp(swaps.chance, SHARE))
        if self.adapt and (step // self.num_steps + 1) % ADAPT_EVERY == 0:
            betas = betas.lerp(_equalised(betas, rates), 0.5)
        return {"chains": chains.flatten(0, 1), "betas": betas, "swap_rates": rates}

    def particles(self, state: State) -> Particles:
        """The chains at beta = 1."""
        return Particles(state["chains"][-self.num_chains :])

    def diagnostics(self, state: State) -> State:
        """Inverse temperatures, and the sliding mean rate at which each pair of
        neighbours swaps.
        """
        return {"betas": state["betas"], "swap_rates": state["swap_rates"]}


SHARE = 0.02
"""Share of the present update in the sliding means of the swap rates."""
ADAPT_EVERY = 50
"""Updates between two moves of the inverse temperatures."""


def tempered_sweep(
    chains: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    base: Tensor,
    betas: Tensor,
    seed: int,
    step: int,
) -> tuple[Tensor, Tensor]:
    """A sweep of every ladder, each chain at its inverse temperature.

    Args:
        chains: visible states (betas, ladders, visible).
        weight: (visible, hidden).
        vbias: (visible,).
        hbias: (hidden,).
        base: fields of the independent units at beta 0, (visible,).
        betas: ascending inverse temperatures from 0 to 1.
        seed: 64-bit key.
        step: number of the sweep.

    Returns:
        New visible states, and E - E_0 of the joint states (v, h) that the
        sweep left, (betas, ladders).
    """
    ladders = chains.shape[1]
    v = torch.empty_like(chains)
    h = chains.new_empty((*chains.shape[:2], len(hbias)))
    uniforms = source(seed, ladders, 0, vbias, fast=True)
    h[0] = uniforms(step, HIDDEN, len(hbias)) < 0.5
    v[0] = uniforms(step, VISIBLE, len(vbias)) < base.sigmoid()
    for i, beta in enumerate(betas.tolist()):
        if i:  # beta (a + (1 / beta - 1) c + W h) is the visible field between base and model
            mixed = vbias + (1 / beta - 1) * base
            tempered = torch.full_like(chains[i, :, 0], beta)
            key = {"seed": seed, "step": step, "chain_offset": i * ladders}
            v[i], h[i] = rbm_gibbs(chains[i], weight, mixed, hbias, 1, tempered, **key)
    return v, -(v @ (vbias - base)) - h @ hbias - (v @ weight * h).sum(-1)


class Swaps(NamedTuple):
    """Exchange of replicas: the one that comes to each place, (chains, betas), and
    rates of neighbouring pairs.

    ``accepted`` is the share of swaps that were made, ``chance`` the mean
    probability of making one, both (betas - 1,) and NaN for the pairs whose
    turn it is not.
    """

    order: Tensor
    accepted: Tensor
    chance: Tensor


def swap_neighbours(energy: Tensor, betas: Tensor, uniform: Tensor, turn: int) -> Swaps:
    r"""Accept or refuse the swap of every second pair of neighbours.

    .. math:: P(\text{swap}) = \min\bigl(1, e^{(\beta - \beta')(E - E')}\bigr)

    Args:
        energy: energy of every replica at inverse temperature 1, (chains,
            betas), the one that the sweeps temper.
        betas: inverse temperatures.
        uniform: numbers in [0, 1), (chains, betas - 1).
        turn: 0 for the pairs (0, 1), (2, 3), ..., 1 for (1, 2), (3, 4), ...

    Returns:
        The replicas' new order, and how often each pair swaps.
    """
    log_ratio = (betas[:-1] - betas[1:]) * (energy[:, :-1] - energy[:, 1:])
    pairs = torch.arange(len(betas) - 1, device=betas.device) % 2 == turn
    accept = pairs & (uniform < log_ratio.exp())
    order = torch.arange(len(betas), device=betas.device).repeat(len(energy), 1)
    order[:, :-1] += accept.long()
    order[:, 1:] -= accept.long()
    rates = accept.to(energy.dtype), log_ratio.clamp(max=0).exp()
    return Swaps(order, *(x.mean(0).where(pairs, torch.nan) for x in rates))


def _equalised(betas: Tensor, rates: Tensor) -> Tensor:
    """Inverse temperatures between which the same share of swaps would be refused: the
    barrier in equal parts.
    """
    refused = (1 - rates).clamp(min=1e-3).cumsum(0)
    barrier = torch.cat((refused.new_zeros(1), refused))
    targets = (
        torch.linspace(0, 1, len(betas), device=betas.device, dtype=betas.dtype) * barrier[-1]
    )
    moved = interpolate(targets, barrier, betas)
    moved[0] = 0
    moved[-1] = 1
    return moved


__all__ = ["Swaps", "TemperedChains", "swap_neighbours", "tempered_sweep"]
