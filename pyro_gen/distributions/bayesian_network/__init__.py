"""Bayesian networks over discrete nodes, and exact inference in them."""

from pyro_gen.distributions.bayesian_network.evidence import Evidence
from pyro_gen.distributions.bayesian_network.gaussian import (
    ConditionalGaussianNetwork,
    GaussianNode,
)
from pyro_gen.distributions.bayesian_network.network import MAX_CELLS, BayesianNetwork
from pyro_gen.distributions.bayesian_network.observation import Likelihood
from pyro_gen.distributions.bayesian_network.structure import NetworkStructure

__all__ = [
    "MAX_CELLS",
    "BayesianNetwork",
    "ConditionalGaussianNetwork",
    "Evidence",
    "GaussianNode",
    "Likelihood",
    "NetworkStructure",
]
