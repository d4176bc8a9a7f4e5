"""A negative phase of every kind, for tests that run over all of them, and the gradients that they leave."""

from __future__ import annotations

from torch import Tensor

from pyro_gen import nn
from pyro_gen.infer import (
    ContrastiveDivergence,
    FastPersistentChains,
    NegativePhase,
    PersistentChains,
    TemperedChains,
    WeightedChains,
)

PHASES: list[NegativePhase] = [
    PersistentChains(20, 2),
    ContrastiveDivergence(2),
    FastPersistentChains(20, 2),
    TemperedChains(5, 2, num_betas=4),
    WeightedChains(20, 2, 10),
]
LAYERED = PHASES[2:]
"""Those that work on the two layers of an RBM and need its module."""


def gradients(rbm: nn.RBM) -> list[Tensor]:
    """Of weight, visible and hidden bias, all of which must be there."""
    found = [rbm.weight.grad, rbm.vbias.grad, rbm.hbias.grad]
    assert all(g is not None for g in found)
    return [g for g in found if g is not None]
