"""Learnable: modules that hold the weights and whose call returns a distribution over their current values."""

from pyro_gen.nn.autoregressive import FVSBN, NADE, AutoregressiveNetwork, PerConditionalMLP, TabularAR
from pyro_gen.nn.boltzmann_machine import BoltzmannMachine
from pyro_gen.nn.class_rbm import ClassRBM
from pyro_gen.nn.conditional_rbm import ConditionalRBM
from pyro_gen.nn.learning import centred
from pyro_gen.nn.rbm import RBM, Diagnostics

__all__ = [
    "FVSBN",
    "NADE",
    "RBM",
    "AutoregressiveNetwork",
    "BoltzmannMachine",
    "ClassRBM",
    "ConditionalRBM",
    "Diagnostics",
    "PerConditionalMLP",
    "TabularAR",
    "centred",
]
