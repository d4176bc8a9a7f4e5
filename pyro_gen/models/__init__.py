"""Model/guide pairs: energy models inside larger Pyro programs, models with latent
variables, mixtures.
"""

from pyro_gen.models.autoencoder.autoencoder import Autoencoder, DenoisingAutoencoder
from pyro_gen.models.autoencoder.discrete_vae import DiscreteVAE
from pyro_gen.models.autoencoder.latent_use import LatentUse, warm_up
from pyro_gen.models.autoencoder.semi_supervised_vae import SemiSupervisedVAE
from pyro_gen.models.autoencoder.vae import VAE
from pyro_gen.models.bayes_classifier import BayesClassifier
from pyro_gen.models.bayesian_network.learning import CPDDraws
from pyro_gen.models.bayesian_network.network import BayesianNetwork
from pyro_gen.models.bayesian_rbm import BayesianRBM
from pyro_gen.models.deep.belief_network import DeepBeliefNetwork, SigmoidBeliefNetwork
from pyro_gen.models.deep.boltzmann import DeepBoltzmannMachine
from pyro_gen.models.em import FitResult
from pyro_gen.models.linear_gaussian import PPCA, FactorAnalysis, LinearGaussian
from pyro_gen.models.linear_gaussian.pca import PCA
from pyro_gen.models.mixture import BernoulliMixture, CategoricalMixture, GaussianMixture, Mixture

__all__ = [
    "PCA",
    "PPCA",
    "VAE",
    "Autoencoder",
    "BayesClassifier",
    "BayesianNetwork",
    "BayesianRBM",
    "BernoulliMixture",
    "CPDDraws",
    "CategoricalMixture",
    "DeepBeliefNetwork",
    "DeepBoltzmannMachine",
    "DenoisingAutoencoder",
    "DiscreteVAE",
    "FactorAnalysis",
    "FitResult",
    "GaussianMixture",
    "LatentUse",
    "LinearGaussian",
    "Mixture",
    "SemiSupervisedVAE",
    "SigmoidBeliefNetwork",
    "warm_up",
]
