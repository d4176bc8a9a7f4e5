"""The weights of a mixture: a Dirichlet distribution of finitely many, or a
truncated Dirichlet process.
"""

from __future__ import annotations

from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

WeightDistribution = Literal["dirichlet", "dirichlet process"]
CONDITIONALS = ("dirichlet", "dirichlet process")


def sample_weights(
    distribution: WeightDistribution, components: int, concentration: Tensor
) -> Tensor:
    """Sample the site of the weights, ``weights`` or ``sticks``; log weights, (...,
    components).

    Args:
        distribution: which.
        components: their number; one needs no site.
        concentration: alpha of each weight, or of the process.

    Returns:
        Log weights; ``weights`` is a deterministic site where the sticks are
        drawn.
    """
    if components == 1:
        return concentration.new_zeros(1)
    if distribution == "dirichlet":
        return log_weights(
            pyro.sample("weights", dist.Dirichlet(concentration.expand(components))), distribution
        )
    ones = torch.ones_like(concentration).expand(components - 1)
    sticks = pyro.sample("sticks", dist.Beta(ones, concentration).to_event(1))
    weights = log_weights(sticks, distribution)
    record("weights", weights.exp(), 1)
    return weights


def record(name: str, value: Tensor, event_dim: int) -> None:
    """A deterministic site in the dtype of its value: the mask in
    `pyro.deterministic` gives float32 zeros.

    Args:
        name: of the site.
        value: what it holds.
        event_dim: dimensions of an event.
    """
    distribution = dist.Delta(value, event_dim=event_dim)
    pyro.sample(name, distribution, obs=value, infer={"_deterministic": True})


def log_weights(value: Tensor, distribution: WeightDistribution) -> Tensor:
    r"""Log weights of a value of their site, :math:`\log \pi_k = \log v_k +
    \sum_{j<k} \log(1 - v_j)` of sticks.

    Args:
        value: weights (..., components) or sticks (..., components - 1).
        distribution: which of the two.

    Returns:
        Shape (..., components).
    """
    tiny = torch.finfo(value.dtype).tiny
    if distribution == "dirichlet":
        return value.clamp_min(tiny).log()
    log_remaining = torch.log1p(-value.clamp_max(1 - torch.finfo(value.dtype).eps)).cumsum(-1)
    zero = torch.zeros_like(log_remaining[..., :1])
    log_sticks = torch.cat([value.clamp_min(tiny).log(), zero], -1)
    return log_sticks + torch.cat([zero, log_remaining], -1)


def sticks_of(weights: Tensor) -> Tensor:
    """The sticks that make given weights.

    Args:
        weights: (..., components).

    Returns:
        Shape (..., components - 1).
    """
    left = weights.flip(-1).cumsum(-1).flip(-1)[..., :-1]
    return weights[..., :-1] / left.clamp_min(torch.finfo(weights.dtype).tiny)


def mode(
    counts: Tensor, distribution: WeightDistribution, concentration: Tensor, posterior: bool
) -> Tensor:
    """The value of the site that expected counts make most probable, for EM.

    Args:
        counts: rows of every component, (components,).
        distribution: which.
        concentration: alpha.
        posterior: with the prior, or without it.

    Returns:
        Weights or sticks.
    """
    if posterior:
        extra = concentration.clamp_min(1) - 1
    else:
        extra = torch.zeros_like(concentration)
    if distribution == "dirichlet":
        return (counts + extra) / (counts + extra).sum()
    after = counts.flip(0).cumsum(0).flip(0)[1:]
    tiny = torch.finfo(counts.dtype).tiny
    return counts[:-1] / (counts[:-1] + after + extra).clamp_min(tiny)


def conditional_draw(
    counts: Tensor, distribution: WeightDistribution, concentration: Tensor
) -> Tensor:
    """The value of the site given the components of all rows.

    Args:
        counts: rows of every component, (components,).
        distribution: which.
        concentration: alpha.

    Returns:
        Weights or sticks.
    """
    if distribution == "dirichlet":
        return dist.Dirichlet(counts + concentration).sample()
    after = counts.flip(0).cumsum(0).flip(0)[1:]
    return dist.Beta(1 + counts[:-1], concentration + after).sample()


__all__ = [
    "CONDITIONALS",
    "WeightDistribution",
    "conditional_draw",
    "log_weights",
    "mode",
    "record",
    "sample_weights",
    "sticks_of",
]
