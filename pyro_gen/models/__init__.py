"""Model/guide pairs: energy models inside larger Pyro programs, models with latent variables, mixtures."""

from pyro_gen.models.bayes_classifier import BayesClassifier
from pyro_gen.models.bayesian_network import BayesianNetwork
from pyro_gen.models.bayesian_rbm import BayesianRBM
from pyro_gen.models.belief_network import DeepBeliefNetwork, SigmoidBeliefNetwork
from pyro_gen.models.boltzmann import DeepBoltzmannMachine
from pyro_gen.models.discrete_vae import DiscreteVAE
from pyro_gen.models.latent_use import LatentUse, warm_up
from pyro_gen.models.mixture import BernoulliMixture, CategoricalMixture, EMResult, GaussianMixture, Mixture
from pyro_gen.models.network_learning import CPDDraws, NetworkFit
from pyro_gen.models.semi_supervised_vae import SemiSupervisedVAE
from pyro_gen.models.vae import VAE

__all__ = [
    "VAE",
    "BayesClassifier",
    "BayesianNetwork",
    "BayesianRBM",
    "BernoulliMixture",
    "CPDDraws",
    "CategoricalMixture",
    "DeepBeliefNetwork",
    "DeepBoltzmannMachine",
    "DiscreteVAE",
    "EMResult",
    "GaussianMixture",
    "LatentUse",
    "Mixture",
    "NetworkFit",
    "SemiSupervisedVAE",
    "SigmoidBeliefNetwork",
    "warm_up",
]
