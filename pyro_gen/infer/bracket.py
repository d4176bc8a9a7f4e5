"""Log Z from two sides: annealed importance sampling forwards, and backwards from chains of their own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen.distributions.annealing import AIS
from pyro_gen.distributions.energy import EnergyDistribution
from pyro_gen.distributions.partition import LogPartition


class Bracket(NamedTuple):
    """Two estimates of log Z: ``forward`` errs to below, ``reverse`` to above where its chains have mixed."""

    forward: LogPartition
    reverse: LogPartition

    @property
    def gap(self) -> Tensor:
        """Reverse minus forward estimate, in nats."""
        return self.reverse.value - self.forward.value

    @property
    def upper(self) -> Tensor:
        """The larger of both estimates: the one that makes a log likelihood smallest."""
        return torch.maximum(self.forward.value, self.reverse.value)

    @property
    def resolved(self) -> bool:
        """Whether both agree within one nat."""
        return bool((self.gap.abs() < 1).all())


@torch.no_grad()
def log_partition_bracket(distribution: EnergyDistribution, start: Tensor, burn_in: int = 1000) -> Bracket:
    """Estimate log Z by AIS and, independently, by reverse AIS.

    The reverse run starts at ``start`` after ``burn_in`` sweeps with a key of their own: nothing of it is shared with
    the forward run. Far from equilibrium the two ends can lie on one side of log Z; a wide gap is the sign of trouble,
    a narrow one is no proof.

    Args:
        distribution: the model, with ``AIS(...)`` as its partition.
        start: states to start the reverse run's chains from, for instance training rows, (num_chains, visible).
        burn_in: Gibbs sweeps before the reverse run.

    Returns:
        Both estimates.

    Raises:
        ValueError: the distribution's ``partition`` is not an AIS.

    References:
        Grosse, Ghahramani, Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte Carlo.

    Example:
        >>> from pyro_gen.distributions import RBM
        >>> rbm = RBM(torch.zeros(30, 25), torch.zeros(30), torch.zeros(25), AIS(20, 10))
        >>> log_partition_bracket(rbm, torch.ones(20, 30), burn_in=5).resolved
        True
    """
    partition = distribution.partition
    if not isinstance(partition, AIS):
        raise ValueError(f"`distribution` must have an AIS as its partition, got {partition}")
    forward = distribution.log_partition()
    samples = distribution.gibbs(start, burn_in)
    return Bracket(forward, partition.reverse(distribution, samples))


__all__ = ["Bracket", "log_partition_bracket"]
