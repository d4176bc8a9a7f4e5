"""Speed: one folder an op, with its specification in plain torch
(``reference.py``) and the fast paths beside it.
"""

from pyro_gen.kernels.ais import rbm_ais
from pyro_gen.kernels.contrastive import rbm_contrast
from pyro_gen.kernels.free_energy import rbm_free_energy
from pyro_gen.kernels.gibbs import rbm_gibbs
from pyro_gen.kernels.nade import nade_fields, nade_sample
from pyro_gen.kernels.random import draw_seed
from pyro_gen.kernels.report import report

__all__ = [
    "draw_seed",
    "nade_fields",
    "nade_sample",
    "rbm_ais",
    "rbm_contrast",
    "rbm_free_energy",
    "rbm_gibbs",
    "report",
]
