"""Learnable: modules that hold the weights and whose call returns a distribution over their current values."""

from pyro_gen.nn.class_rbm import ClassRBM
from pyro_gen.nn.conditional_rbm import ConditionalRBM
from pyro_gen.nn.rbm import RBM

__all__ = ["RBM", "ClassRBM", "ConditionalRBM"]
