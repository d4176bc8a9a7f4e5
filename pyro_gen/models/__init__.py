"""Model/guide pairs: energy models inside larger Pyro programs, mixtures."""

from pyro_gen.models.bayes_classifier import BayesClassifier
from pyro_gen.models.bayesian_rbm import BayesianRBM
from pyro_gen.models.belief_network import DeepBeliefNetwork, SigmoidBeliefNetwork
from pyro_gen.models.boltzmann import DeepBoltzmannMachine
from pyro_gen.models.discrete_vae import DiscreteVAE
from pyro_gen.models.mixture import BernoulliMixture, CategoricalMixture, EMResult, GaussianMixture, Mixture

__all__ = [
    "BayesClassifier",
    "BayesianRBM",
    "BernoulliMixture",
    "CategoricalMixture",
    "DeepBeliefNetwork",
    "DeepBoltzmannMachine",
    "DiscreteVAE",
    "EMResult",
    "GaussianMixture",
    "Mixture",
    "SigmoidBeliefNetwork",
]
