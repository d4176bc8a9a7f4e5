"""Model/guide pairs: energy models inside larger Pyro programs."""

from pyro_gen.models.bayes_classifier import BayesClassifier
from pyro_gen.models.bayesian_network import BayesianNetwork
from pyro_gen.models.bayesian_rbm import BayesianRBM
from pyro_gen.models.belief_network import DeepBeliefNetwork, SigmoidBeliefNetwork
from pyro_gen.models.boltzmann import DeepBoltzmannMachine
from pyro_gen.models.discrete_vae import DiscreteVAE

__all__ = [
    "BayesClassifier",
    "BayesianNetwork",
    "BayesianRBM",
    "DeepBeliefNetwork",
    "DeepBoltzmannMachine",
    "DiscreteVAE",
    "SigmoidBeliefNetwork",
]
