"""Entropy and Kullback-Leibler divergence of energy models whose states can be listed."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.distributions.log_z.partition import Exact
from pyro_gen.distributions.units import Units

Model = TypeVar("Model", bound=EnergyDistribution)


def check_exact(distribution: EnergyDistribution) -> None:
    """Check that log Z is exact.

    Args:
        distribution: the model.

    Raises:
        NotImplementedError: it is estimated, or replaced by a contrast.
    """
    partition = distribution._resolve_partition()
    if partition.contrast is not None:
        raise NotImplementedError(f"this needs the exact log Z, and {partition.contrast}")
    if not isinstance(partition, Exact):
        raise NotImplementedError(
            f"this needs the exact log Z, and `partition` is {distribution.partition}"
        )


def entropy(distribution: EnergyDistribution) -> Tensor:
    """Entropy in nats, by enumeration of the states.

    Args:
        distribution: the model.

    Raises:
        NotImplementedError: there are too many states, or log Z is not exact.
    """
    check_exact(distribution)
    log_prob = distribution.log_prob(distribution.enumerate_support())
    return -(log_prob.exp() * log_prob).sum(0)


def divergence(p: Model, q: Model, units: tuple[Units, Units]) -> Tensor:
    """Kullback-Leibler divergence in nats by enumeration of the states.

    Args:
        p: the distribution under which the mean is taken.
        q: the other.
        units: types of the units of both.

    Raises:
        ValueError: their states are not the same.
        NotImplementedError: there are too many states, or a log Z is not exact.
    """
    sizes = p.event_shape[0], q.event_shape[0]
    message = (
        f"`p` and `q` must have as many units of one kind, got {sizes[0]} {units[0]} and "
        f"{sizes[1]} {units[1]}"
    )
    if sizes[0] != sizes[1] or type(units[0]) is not type(units[1]):
        raise ValueError(message)
    check_exact(p)
    check_exact(q)
    batch = torch.broadcast_shapes(p.batch_shape, q.batch_shape)
    p = p.expand(batch)
    q = q.expand(batch)
    values = p.enumerate_support(expand=False)
    q_values = q.enumerate_support(expand=False)
    if values.shape != q_values.shape or not torch.equal(values, q_values.to(values)):
        raise ValueError(message)
    log_p = p.log_prob(values)
    log_q = q.log_prob(values)
    return (log_p.exp() * (log_p - log_q)).sum(0)


__all__ = ["check_exact", "divergence", "entropy"]
