"""Distributions of single features, from which an autoregressive density is put together."""

from pyro_gen.distributions.autoregressive.conditionals.base import Conditional
from pyro_gen.distributions.autoregressive.conditionals.continuous import (
    FixedScaleGaussianConditional,
    GaussianConditional,
    GaussianMixtureConditional,
    RealConditional,
)
from pyro_gen.distributions.autoregressive.conditionals.discrete import (
    BernoulliConditional,
    CategoricalConditional,
    DiscretizedLogisticConditional,
)

__all__ = [
    "BernoulliConditional",
    "CategoricalConditional",
    "Conditional",
    "DiscretizedLogisticConditional",
    "FixedScaleGaussianConditional",
    "GaussianConditional",
    "GaussianMixtureConditional",
    "RealConditional",
]
