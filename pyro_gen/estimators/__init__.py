"""Models as scikit-learn estimators: in pipelines, grid searches and wherever an
estimator goes.

This package needs scikit-learn and is therefore imported by its own name:
``from pyro_gen.estimators import GaussianMixture``.
"""

try:
    import sklearn.base as _  # noqa: F401
except ImportError as missing:
    raise ImportError(
        "pyro_gen.estimators needs scikit-learn 1.6 or later: pip install pyro-gen[sklearn] "
        f"({missing})"
    ) from missing

from pyro_gen.estimators.densities import PPCA, GaussianMixture
from pyro_gen.estimators.rbm import RBMTransformer

__all__ = ["PPCA", "GaussianMixture", "RBMTransformer"]
