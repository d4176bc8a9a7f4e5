"""Learnable: modules that hold the weights and whose call returns a distribution over their current values."""

from pyro_gen.nn.autoregressive import (
    FVSBN,
    MADE,
    NADE,
    AutoregressiveEnsemble,
    AutoregressiveNetwork,
    AutoregressivePerClass,
    CausalTransformer,
    DeepNADE,
    EoNADE,
    PerConditionalMLP,
    PixelCNN,
    RecurrentAR,
    SequenceAR,
    TabularAR,
)
from pyro_gen.nn.boltzmann_machine import BoltzmannMachine
from pyro_gen.nn.class_rbm import ClassRBM
from pyro_gen.nn.conditional_rbm import ConditionalRBM
from pyro_gen.nn.cpds import (
    CPD,
    ConditionalGaussianCPD,
    DiscreteCPD,
    LinearGaussianCPD,
    LogisticCPD,
    NeuralCPD,
    NoisyOrCPD,
    TabularCPD,
)
from pyro_gen.nn.rbm import RBM
from pyro_gen.nn.rbm_learning import Diagnostics

__all__ = [
    "CPD",
    "FVSBN",
    "MADE",
    "NADE",
    "RBM",
    "AutoregressiveEnsemble",
    "AutoregressiveNetwork",
    "AutoregressivePerClass",
    "BoltzmannMachine",
    "CausalTransformer",
    "ClassRBM",
    "ConditionalGaussianCPD",
    "ConditionalRBM",
    "DeepNADE",
    "Diagnostics",
    "DiscreteCPD",
    "EoNADE",
    "LinearGaussianCPD",
    "LogisticCPD",
    "NeuralCPD",
    "NoisyOrCPD",
    "PerConditionalMLP",
    "PixelCNN",
    "RecurrentAR",
    "SequenceAR",
    "TabularAR",
    "TabularCPD",
]
