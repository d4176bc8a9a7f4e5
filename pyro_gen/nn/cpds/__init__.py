"""Conditional probability distributions of the nodes of a Bayesian network."""

from pyro_gen.nn.cpds.base import CPD, DiscreteCPD
from pyro_gen.nn.cpds.gaussian import ConditionalGaussianCPD, LinearGaussianCPD
from pyro_gen.nn.cpds.networks import LogisticCPD, NeuralCPD
from pyro_gen.nn.cpds.noisy_or import NoisyOrCPD
from pyro_gen.nn.cpds.tabular import TabularCPD

__all__ = [
    "CPD",
    "ConditionalGaussianCPD",
    "DiscreteCPD",
    "LinearGaussianCPD",
    "LogisticCPD",
    "NeuralCPD",
    "NoisyOrCPD",
    "TabularCPD",
]
