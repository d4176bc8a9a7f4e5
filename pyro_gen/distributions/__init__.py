"""Fixed maths: Pyro distributions, and the ways to know a partition function."""

from pyro_gen.distributions.annealing import AIS
from pyro_gen.distributions.clamped import ClampedRBM
from pyro_gen.distributions.class_rbm import ClassRBM
from pyro_gen.distributions.negative_phase import ContrastiveDivergence, NegativePhase, PersistentChains
from pyro_gen.distributions.partition import Exact, LogPartition, Partition
from pyro_gen.distributions.rbm import RBM
from pyro_gen.distributions.units import BernoulliUnits, Units

__all__ = [
    "AIS",
    "RBM",
    "BernoulliUnits",
    "ClampedRBM",
    "ClassRBM",
    "ContrastiveDivergence",
    "Exact",
    "LogPartition",
    "NegativePhase",
    "Partition",
    "PersistentChains",
    "Units",
]
