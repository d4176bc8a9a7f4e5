"""Rows that are linear in normal latent variables: probabilistic PCA and factor analysis."""

from pyro_gen.models.linear_gaussian.base import LinearGaussian
from pyro_gen.models.linear_gaussian.factor_analysis import FactorAnalysis
from pyro_gen.models.linear_gaussian.ppca import PPCA

__all__ = ["PPCA", "FactorAnalysis", "LinearGaussian"]
