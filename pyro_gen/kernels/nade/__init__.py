"""The neural autoregressive density estimator: its fields with their own
derivative, and its draws.
"""

from pyro_gen.kernels.nade.fields import PATHS, nade_fields
from pyro_gen.kernels.nade.sample import nade_sample

__all__ = ["PATHS", "nade_fields", "nade_sample"]
