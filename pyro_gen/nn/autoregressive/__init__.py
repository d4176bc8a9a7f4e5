"""Networks whose outputs are the conditional laws of an autoregressive density."""

from pyro_gen.nn.autoregressive.base import AutoregressiveNetwork
from pyro_gen.nn.autoregressive.linear import FVSBN, PerConditionalMLP
from pyro_gen.nn.autoregressive.pixelcnn import PixelCNN
from pyro_gen.nn.autoregressive.tabular import TabularAR

__all__ = ["FVSBN", "AutoregressiveNetwork", "PerConditionalMLP", "PixelCNN", "TabularAR"]
