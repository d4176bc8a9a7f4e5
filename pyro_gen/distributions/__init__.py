"""Fixed maths: Pyro distributions, and the ways to know a partition function."""

from pyro_gen.distributions.annealing import AIS
from pyro_gen.distributions.fast_weights import FastPersistentChains
from pyro_gen.distributions.negative_phase import ContrastiveDivergence, NegativePhase, PersistentChains
from pyro_gen.distributions.partition import Exact, LogPartition, Partition
from pyro_gen.distributions.rbm import RBM
from pyro_gen.distributions.tempering import TemperedChains
from pyro_gen.distributions.units import BernoulliUnits, Units
from pyro_gen.distributions.weighted_chains import WeightedChains

__all__ = [
    "AIS",
    "RBM",
    "BernoulliUnits",
    "ContrastiveDivergence",
    "Exact",
    "FastPersistentChains",
    "LogPartition",
    "NegativePhase",
    "Partition",
    "PersistentChains",
    "TemperedChains",
    "Units",
    "WeightedChains",
]
