"""The weights of a mixture: a Dirichlet distribution of finitely many, or a
truncated Dirichlet process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

WeightDistribution = Literal["dirichlet", "dirichlet process"]
CONDITIONALS = ("dirichlet", "dirichlet process")


def like_of(values: Sequence[object], dtype: torch.dtype | None) -> Tensor:
    """The first tensor of a prior's parameters, whose dtype and device a mixture takes."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    return tensors[0] if tensors else torch.empty(0, dtype=dtype)


def sample_weights(
    distribution: WeightDistribution, components: int, concentration: Tensor
) -> Tensor:
    """Log weights (..., components), from a sample of ``weights`` or ``sticks``, if several."""
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
    """A deterministic site in the dtype of its value: Pyro's mask gives float32 zeros."""
    distribution = dist.Delta(value, event_dim=event_dim)
    pyro.sample(name, distribution, obs=value, infer={"_deterministic": True})


def log_weights(value: Tensor, distribution: WeightDistribution) -> Tensor:
    r"""Log weights (..., components) of a value of their site, weights or sticks.

    .. math:: \log \pi_k = \log v_k + \sum_{j<k} \log(1 - v_j) \quad \text{of sticks } v
    """
    tiny = torch.finfo(value.dtype).tiny
    if distribution == "dirichlet":
        return value.clamp_min(tiny).log()
    log_remaining = torch.log1p(-value.clamp_max(1 - torch.finfo(value.dtype).eps)).cumsum(-1)
    zero = torch.zeros_like(log_remaining[..., :1])
    log_sticks = torch.cat([value.clamp_min(tiny).log(), zero], -1)
    return log_sticks + torch.cat([zero, log_remaining], -1)


def sticks_of(weights: Tensor) -> Tensor:
    """The sticks (..., components - 1) that make weights (..., components)."""
    left = weights.flip(-1).cumsum(-1).flip(-1)[..., :-1]
    return weights[..., :-1] / left.clamp_min(torch.finfo(weights.dtype).tiny)


def mode(
    counts: Tensor, distribution: WeightDistribution, concentration: Tensor, posterior: bool
) -> Tensor:
    """The weights or sticks that expected rows of every component make most probable, for EM."""
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
    """The weights or sticks given the rows of every component, (components,)."""
    if distribution == "dirichlet":
        return dist.Dirichlet(counts + concentration).sample()
    after = counts.flip(0).cumsum(0).flip(0)[1:]
    return dist.Beta(1 + counts[:-1], concentration + after).sample()


__all__ = [
    "CONDITIONALS",
    "WeightDistribution",
    "conditional_draw",
    "like_of",
    "log_weights",
    "mode",
    "record",
    "sample_weights",
    "sticks_of",
]
