"""Learnable: modules that hold the weights and whose call returns a distribution
over their current values.
"""

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
from pyro_gen.nn.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
from pyro_gen.nn.corruption import GaussianNoise, MaskingNoise, SaltAndPepperNoise
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
from pyro_gen.nn.dense import Dense
from pyro_gen.nn.latent_priors import IndependentPrior, StandardNormal, VampPrior
from pyro_gen.nn.rbm import RBM, Diagnostics

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
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "DeepNADE",
    "Dense",
    "Diagnostics",
    "DiscreteCPD",
    "EoNADE",
    "GaussianNoise",
    "IndependentPrior",
    "LinearGaussianCPD",
    "LogisticCPD",
    "MaskingNoise",
    "NeuralCPD",
    "NoisyOrCPD",
    "PerConditionalMLP",
    "PixelCNN",
    "RecurrentAR",
    "SaltAndPepperNoise",
    "SequenceAR",
    "StandardNormal",
    "TabularAR",
    "TabularCPD",
    "VampPrior",
]
