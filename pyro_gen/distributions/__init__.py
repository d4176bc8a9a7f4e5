"""Pyro distributions, and ways to compute or estimate a partition function."""

from pyro_gen.distributions.autoregressive.clamped import ClampedAutoregressive
from pyro_gen.distributions.autoregressive.completion import (
    Completion,
    Enumeration,
    Importance,
    ObservedFirst,
)
from pyro_gen.distributions.autoregressive.conditionals import (
    BernoulliConditional,
    CategoricalConditional,
    Conditional,
    DiscretizedLogisticConditional,
    FixedScaleGaussianConditional,
    GaussianConditional,
    GaussianMixtureConditional,
    RealConditional,
)
from pyro_gen.distributions.autoregressive.density import Autoregressive, Generation
from pyro_gen.distributions.autoregressive.ensemble import AutoregressiveEnsemble
from pyro_gen.distributions.autoregressive.factorised import Factorised
from pyro_gen.distributions.autoregressive.strings import AutoregressiveStrings, SymbolConditional
from pyro_gen.distributions.bayesian_network import BayesianNetwork, Likelihood, NetworkStructure
from pyro_gen.distributions.energy.boltzmann_machine import BoltzmannMachine
from pyro_gen.distributions.energy.clamped import ClampedRBM
from pyro_gen.distributions.energy.class_rbm import ClassRBM
from pyro_gen.distributions.energy.coupling_graph import CouplingGraph
from pyro_gen.distributions.energy.lattices import ising_lattice, lattice_edges
from pyro_gen.distributions.energy.rbm import RBM
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.inverse_wishart import CovarianceTransform, InverseWishart, covariance
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

__all__ = [
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
    "CouplingGraph",
    "CovarianceTransform",
    "DiscretizedLogisticConditional",
    "Enumeration",
    "Estimate",
    "Factorised",
    "FixedScaleGaussianConditional",
    "GaussianConditional",
    "GaussianMixtureConditional",
    "GaussianUnits",
    "Generation",
    "Importance",
    "InverseWishart",
    "Likelihood",
    "MultinomialUnits",
    "NReLUUnits",
    "NetworkStructure",
    "ObservedFirst",
    "PottsUnits",
    "ReLUUnits",
    "RealConditional",
    "SpinUnits",
    "SymbolConditional",
    "UnitLayer",
    "Units",
    "covariance",
    "ising_lattice",
    "lattice_edges",
]
