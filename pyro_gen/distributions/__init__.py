"""Pyro distributions, and ways to compute or estimate a partition function."""

from pyro_gen.distributions.annealing import AIS
from pyro_gen.distributions.autoregressive import Autoregressive, Generation
from pyro_gen.distributions.autoregressive_ensemble import AutoregressiveEnsemble
from pyro_gen.distributions.bayesian_network import BayesianNetwork, Likelihood, NetworkStructure
from pyro_gen.distributions.boltzmann_machine import BoltzmannMachine
from pyro_gen.distributions.clamped import ClampedRBM
from pyro_gen.distributions.clamped_autoregressive import ClampedAutoregressive
from pyro_gen.distributions.class_rbm import ClassRBM
from pyro_gen.distributions.completion import Completion, Enumeration, Importance, LogEvidence, ObservedFirst
from pyro_gen.distributions.conditionals import (
    BernoulliConditional,
    CategoricalConditional,
    Conditional,
    DiscretizedLogisticConditional,
    FixedScaleGaussianConditional,
    GaussianConditional,
    GaussianMixtureConditional,
    RealConditional,
)
from pyro_gen.distributions.coupling_graph import CouplingGraph
from pyro_gen.distributions.factorised import Factorised
from pyro_gen.distributions.fast_weights import FastPersistentChains
from pyro_gen.distributions.inverse_wishart import CovarianceTransform, InverseWishart, covariance
from pyro_gen.distributions.lattices import ising_lattice, lattice_edges
from pyro_gen.distributions.negative_phase import ContrastiveDivergence, NegativePhase, PersistentChains
from pyro_gen.distributions.partition import Exact, LogPartition, Partition
from pyro_gen.distributions.rbm import RBM
from pyro_gen.distributions.strings import AutoregressiveStrings, SymbolConditional
from pyro_gen.distributions.tempering import TemperedChains
from pyro_gen.distributions.units import (
    BernoulliUnits,
    GaussianUnits,
    MultinomialUnits,
    NReLUUnits,
    PottsUnits,
    ReLUUnits,
    SpinUnits,
    UnitLayer,
    Units,
)
from pyro_gen.distributions.weighted_chains import WeightedChains

__all__ = [
    "AIS",
    "RBM",
    "Autoregressive",
    "AutoregressiveEnsemble",
    "AutoregressiveStrings",
    "BayesianNetwork",
    "BernoulliConditional",
    "BernoulliUnits",
    "BoltzmannMachine",
    "CategoricalConditional",
    "ClampedAutoregressive",
    "ClampedRBM",
    "ClassRBM",
    "Completion",
    "Conditional",
    "ContrastiveDivergence",
    "CouplingGraph",
    "CovarianceTransform",
    "DiscretizedLogisticConditional",
    "Enumeration",
    "Exact",
    "Factorised",
    "FastPersistentChains",
    "FixedScaleGaussianConditional",
    "GaussianConditional",
    "GaussianMixtureConditional",
    "GaussianUnits",
    "Generation",
    "Importance",
    "InverseWishart",
    "Likelihood",
    "LogEvidence",
    "LogPartition",
    "MultinomialUnits",
    "NReLUUnits",
    "NegativePhase",
    "NetworkStructure",
    "ObservedFirst",
    "Partition",
    "PersistentChains",
    "PottsUnits",
    "ReLUUnits",
    "RealConditional",
    "SpinUnits",
    "SymbolConditional",
    "TemperedChains",
    "UnitLayer",
    "Units",
    "WeightedChains",
    "covariance",
    "ising_lattice",
    "lattice_edges",
]
