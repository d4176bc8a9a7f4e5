"""The generative models that Pyro does not have, as real Pyro distributions with
fast kernels and a bridge to ArviZ.
"""

from pyro_gen import arviz, datasets, distributions, infer, interop, models, nn, plotting, training
from pyro_gen.saving import load, save

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "arviz",
    "datasets",
    "distributions",
    "infer",
    "interop",
    "load",
    "models",
    "nn",
    "plotting",
    "save",
    "training",
]
