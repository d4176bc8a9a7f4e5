"""Model/guide pairs: energy models inside larger Pyro programs, and models with latent variables."""

from pyro_gen.models.bayes_classifier import BayesClassifier
from pyro_gen.models.bayesian_rbm import BayesianRBM
from pyro_gen.models.belief_network import DeepBeliefNetwork, SigmoidBeliefNetwork
from pyro_gen.models.boltzmann import DeepBoltzmannMachine
from pyro_gen.models.discrete_vae import DiscreteVAE
from pyro_gen.models.latent_use import LatentUse, warm_up
from pyro_gen.models.semi_supervised_vae import SemiSupervisedVAE
from pyro_gen.models.vae import VAE

__all__ = [
    "VAE",
    "BayesClassifier",
    "BayesianRBM",
    "DeepBeliefNetwork",
    "DeepBoltzmannMachine",
    "DiscreteVAE",
    "LatentUse",
    "SemiSupervisedVAE",
    "SigmoidBeliefNetwork",
    "warm_up",
]
