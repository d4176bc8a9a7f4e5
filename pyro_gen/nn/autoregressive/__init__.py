"""Networks whose outputs are the conditional laws of an autoregressive density."""

from pyro_gen.nn.autoregressive.base import AutoregressiveNetwork
from pyro_gen.nn.autoregressive.linear import FVSBN, PerConditionalMLP
from pyro_gen.nn.autoregressive.nade import NADE
from pyro_gen.nn.autoregressive.tabular import TabularAR

__all__ = ["FVSBN", "NADE", "AutoregressiveNetwork", "PerConditionalMLP", "TabularAR"]
