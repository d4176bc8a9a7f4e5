"""Inverse temperatures of annealed importance sampling: even, or denser where a
pilot run measures high friction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen.distributions.log_z.energy import Energy

SEGMENTS = 16
PILOT_CHAINS = 50
PILOT_SHARE = 4  # the pilot has a quarter of the temperatures: 2.5 % of the cost of 500 chains
SHORTEST = 200  # with fewer temperatures a pilot sees nothing worth its cost
EVEN = (
    0.1  # share of the temperatures that stay evenly spaced, against a pilot that missed something
)


def linear_betas(num_betas: int) -> Tensor:
    """Evenly spaced inverse temperatures from 0 to 1, (num_betas + 1,)."""
    return torch.linspace(0, 1, num_betas + 1, dtype=torch.float64)


@torch.no_grad()
def adaptive_betas(distribution: Energy, base: Tensor, num_betas: int, seed: int) -> Tensor:
    r"""Inverse temperatures at equal distances in thermodynamic length, as short pilot
    chains measure it.

    .. math:: \rho(\beta) \propto \sqrt{\zeta(\beta)}, \qquad \zeta_s = \frac{m_s}{L_s^2}
              \sum_{|r - s| \le 1} \mathrm{Cov}(\log w_s, \log w_r)

    with the log weights of 16 segments of length L and m sweeps. Beside the
    variance at equilibrium the friction holds the chains' autocorrelation,
    which is what rises towards :math:`\beta = 1`. The pilot shares nothing with
    the run, so the estimate stays unbiased.

    Args:
        distribution: the model.
        base: parameters of the base distribution.
        num_betas: how many.
        seed: key of the pilot.

    Returns:
        Shape (num_betas + 1,), ascending from 0 to 1, in float64 on the CPU.

    References:
        Sivak and Crooks (2012), Thermodynamic metrics and optimal paths,
        equations 9-12. Grosse, Maddison, Salakhutdinov (2013), Annealing
        between distributions by averaging moments.
    """
    even = linear_betas(num_betas)
    if num_betas < SHORTEST:
        return even
    nodes = linear_betas(SEGMENTS)
    length = _friction(_pilot(distribution, base, nodes, num_betas, seed)).sqrt()
    if not length.isfinite().all() or not length.sum() > 0:
        return even
    density = (1 - EVEN) * length / length.sum() + EVEN * nodes.diff()
    reached = torch.cat([density.new_zeros(1), density.cumsum(0)])
    betas = interpolate(even * reached[-1], reached, nodes)
    betas[0] = 0.0
    betas[-1] = 1.0
    return betas


def _pilot(distribution: Energy, base: Tensor, nodes: Tensor, num_betas: int, seed: int) -> Tensor:
    """Log weights of each segment, (segments, chains, ...)."""
    sweeps = num_betas // PILOT_SHARE // SEGMENTS
    states = distribution.base_states(base, PILOT_CHAINS, seed)
    log_weights = []
    for segment in range(SEGMENTS):
        betas = nodes[segment] + (nodes[segment + 1] - nodes[segment]) * linear_betas(sweeps)
        log_weight, states = distribution.anneal(states, base, betas, seed + 1 + segment)
        log_weights.append(log_weight)
    return torch.stack(log_weights).cpu()


def _friction(log_weights: Tensor) -> Tensor:
    """Variance of each segment's log weight with its neighbours' share, averaged
    over the batch: (segments,).
    """
    centred = (log_weights - log_weights.mean(1, keepdim=True)).flatten(1)
    variance = centred.square().mean(1)
    shared = (centred[1:] * centred[:-1]).mean(1)
    friction = variance.clone()
    friction[1:] += shared
    friction[:-1] += shared
    return torch.maximum(friction, variance / 4)


def interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear interpolation at ``x`` of ``values`` given at ascending ``known``."""
    right = torch.searchsorted(knots, x).clamp(1, len(knots) - 1)
    share = (x - knots[right - 1]) / (knots[right] - knots[right - 1])
    return torch.lerp(values[right - 1], values[right], share)


__all__ = ["adaptive_betas", "interpolate", "linear_betas"]
