"""Fixed maths: Pyro distributions, and the ways to know a partition function."""

from pyro_gen.distributions.partition import (
    AIS,
    ContrastiveDivergence,
    Exact,
    LogPartition,
    NegativePhase,
    Partition,
    PersistentChains,
)
from pyro_gen.distributions.rbm import RBM
from pyro_gen.distributions.units import BernoulliUnits, Units

__all__ = [
    "AIS",
    "RBM",
    "BernoulliUnits",
    "ContrastiveDivergence",
    "Exact",
    "LogPartition",
    "NegativePhase",
    "Partition",
    "PersistentChains",
    "Units",
]
