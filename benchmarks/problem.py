"""What the contenders get: parameters and states, the same for all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """Parameters and starting states of a Bernoulli RBM in float32."""

    v: Tensor
    weight: Tensor
    vbias: Tensor
    hbias: Tensor

    @classmethod
    def random(cls, visible: int, hidden: int, chains: int) -> Problem:
        """Weights of a trained RBM's scale, states of fair coins."""
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(visible, hidden, generator=generator) / visible**0.5
        biases = torch.randn(visible + hidden, generator=generator).split([visible, hidden])
        v = torch.randint(2, (chains, visible), generator=generator).float()
        return cls(v, weight, *biases)
