"""The parameters of an RBM, as every implementation of its ops takes them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class RBMParameters(NamedTuple):
    """Parameters of a Bernoulli RBM.

    Shapes are (visible, hidden), (visible,) and (hidden,); the reference also
    takes batch dimensions in front that broadcast against those of the states.
    """

    weight: Tensor
    vbias: Tensor
    hbias: Tensor

    @property
    def batched(self) -> bool:
        """True if a parameter has batch dimensions."""
        return self.weight.dim() > 2 or self.vbias.dim() > 1 or self.hbias.dim() > 1
