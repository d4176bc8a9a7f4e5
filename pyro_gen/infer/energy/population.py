"""Population annealing: approximate samples from chains that are cooled and resampled."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.distributions.log_z.resampling import effective_size, systematic
from pyro_gen.kernels import draw_seed

SEGMENTS = 50


@torch.no_grad()
def population_annealing(
    distribution: EnergyDistribution,
    base: Tensor,
    betas: Tensor,
    num_chains: int,
) -> Tensor:
    """Anneal chains from the base to the model, with resampling along the path.

    Chains are resampled (systematically) wherever their effective number has fallen
    below half, so that they end at equal weights. They reach all modes that appear on
    the path, in about the right shares, whereas Gibbs chains from one start stay in its
    mode.

    Args:
        distribution: the model.
        base: parameters of the base distribution, where the chains start.
        betas: ascending inverse temperatures from 0 to 1.
        num_chains: chains.

    Returns:
        States, shape (num_chains, ..., visible); copies of one chain are equal until
        they are moved on.

    References:
        Hukushima and Iba (2003), Population annealing and its application to a spin
        glass. Del Moral, Doucet, Jasra (2006), Sequential Monte Carlo samplers.

    Example:
        >>> from pyro_gen.distributions import RBM
        >>> rbm = RBM(torch.zeros(4, 3), torch.zeros(4), torch.zeros(3))
        >>> population_annealing(rbm, torch.zeros(4), torch.linspace(0, 1, 11), 20).shape
        torch.Size([20, 4])
    """
    num_chains = whole_number("num_chains", num_chains)
    seed = draw_seed()
    states = distribution.base_states(base, num_chains, seed)
    total = torch.zeros((), dtype=torch.float64, device=states.device)
    steps = len(betas) - 1
    cuts = torch.linspace(0, steps, min(SEGMENTS, steps) + 1).round().int().tolist()
    for number, (first, last) in enumerate(pairwise(cuts), start=1):
        path = betas[first : last + 1]
        log_weight, states = distribution.anneal(states, base, path, seed + number)
        total = total + log_weight
        if last == steps or effective_size(total).min() < num_chains / 2:
            shape = total.shape[1:]
            uniforms = torch.rand(shape, dtype=total.dtype, device=total.device)
            index = systematic(total, uniforms)
            states = states.take_along_dim(index.unsqueeze(-1), 0)
            total = torch.zeros_like(total)
    return states


__all__ = ["population_annealing"]
