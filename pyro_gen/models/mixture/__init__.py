"""Finite mixtures and truncated Dirichlet process mixtures, of Gaussian, binary
and categorical rows.
"""

from pyro_gen.models.em import FitResult
from pyro_gen.models.mixture.base import Mixture
from pyro_gen.models.mixture.discrete import BernoulliMixture, CategoricalMixture
from pyro_gen.models.mixture.gaussian import GaussianMixture

__all__ = ["BernoulliMixture", "CategoricalMixture", "FitResult", "GaussianMixture", "Mixture"]
