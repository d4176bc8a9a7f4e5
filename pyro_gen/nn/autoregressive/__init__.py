"""Networks whose outputs are the conditional distributions of an autoregressive density."""

from pyro_gen.nn.autoregressive.base import AutoregressiveNetwork
from pyro_gen.nn.autoregressive.deep import DeepNADE, EoNADE
from pyro_gen.nn.autoregressive.ensemble import AutoregressiveEnsemble, AutoregressivePerClass
from pyro_gen.nn.autoregressive.linear import FVSBN, PerConditionalMLP
from pyro_gen.nn.autoregressive.made import MADE
from pyro_gen.nn.autoregressive.nade import NADE
from pyro_gen.nn.autoregressive.pixelcnn import PixelCNN
from pyro_gen.nn.autoregressive.recurrent import CausalTransformer, RecurrentAR
from pyro_gen.nn.autoregressive.sequence import SequenceAR
from pyro_gen.nn.autoregressive.tabular import TabularAR

__all__ = [
    "FVSBN",
    "MADE",
    "NADE",
    "AutoregressiveEnsemble",
    "AutoregressiveNetwork",
    "AutoregressivePerClass",
    "CausalTransformer",
    "DeepNADE",
    "EoNADE",
    "PerConditionalMLP",
    "PixelCNN",
    "RecurrentAR",
    "SequenceAR",
    "TabularAR",
]
