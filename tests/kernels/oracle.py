"""Oracle of the kernels, from the formulas: scalar Philox, and distributions by sums over all states in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_gen.kernels import native
from pyro_gen.kernels.parameters import RBMParameters

Array = NDArray[np.float64]

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

BACKENDS = ["reference", "cpu", *(["native"] if native.library() else [])]
"""The backends of a CPU that this installation has."""

Z_LIMIT = 6.0
"""|z| above which a test fails: false-alarm rate 2e-9 an entry, below 1e-5 for all entries of all tests here."""

P_LIMIT = 1e-7
"""Goodness-of-fit p-value below which a test fails; some hundred are taken, so below 1e-4 for the family."""


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox4x32 in Python's integers (Salmon et al. 2011, Section 3.3)."""
    (x0, x1, x2, x3), (k0, k1) = counter, key
    for _ in range(10):
        first, second = 0xD2511F53 * x0, 0xCD9E8D57 * x2
        x0, x1, x2, x3 = (
            (second >> 32) ^ x1 ^ k0,
            second % 2**32,
            (first >> 32) ^ x3 ^ k1,
            first % 2**32,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return x0, x1, x2, x3


def philox_uniform(seed: int, step: int, stream: int, chain: int, unit: int) -> float:
    """The uniform that the project's layout gives one unit."""
    key = (seed % 2**32, (seed >> 32) % 2**32)
    return (philox4x32((unit // 4, chain, step, stream), key)[unit % 4] >> 8) * 2.0**-24


class Weights(NamedTuple):
    """Parameters of a small RBM in float64."""

    weight: Array
    vbias: Array
    hbias: Array

    @classmethod
    def normal(cls, visible: int, hidden: int, scale: float = 1.0, seed: int = 0) -> Weights:
        """Independent normal parameters."""
        rng = np.random.default_rng(seed)
        return cls(*(scale * rng.normal(size=shape) for shape in ((visible, hidden), visible, hidden)))

    def tensors(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> RBMParameters:
        """Weight, visible bias and hidden bias as tensors."""
        weight, vbias, hbias = (torch.tensor(x, dtype=dtype, device=device) for x in self)
        return RBMParameters(weight, vbias, hbias)


def bits(units: int) -> Array:
    """All 2^units states; state s has unit i on where bit i of s is set."""
    return np.array([[(s >> i) & 1 for i in range(units)] for s in range(2**units)], dtype=float)


def code(states: Tensor) -> NDArray[np.int64]:
    """The numbers of states (..., units) in the order of :func:`bits`."""
    array = states.cpu().numpy().astype(np.int64)
    return array @ (1 << np.arange(array.shape[-1]))


def log_joint(weights: Weights) -> Array:
    """Minus the energy of every pair of states, (2^visible, 2^hidden), one pair after the other."""
    visible, hidden = bits(len(weights.vbias)), bits(len(weights.hbias))
    table = np.empty((len(visible), len(hidden)))
    for s, v in enumerate(visible):
        for t, h in enumerate(hidden):
            table[s, t] = weights.vbias @ v + weights.hbias @ h + v @ weights.weight @ h
    return table


def joint(weights: Weights) -> Array:
    """Probability of every pair of states, (2^visible, 2^hidden)."""
    table = log_joint(weights)
    probs = np.exp(table - table.max())
    return probs / probs.sum()


def log_z(weights: Weights) -> float:
    """Log of the sum over all pairs of states."""
    return float(np.logaddexp.reduce(log_joint(weights), axis=None))


def end_distribution(weights: Weights, start: int, sweeps: int, beta: float = 1.0) -> Array:
    """Distribution of (visible, hidden) after sweeps from one visible state, by the enumerated conditionals."""
    distribution = joint(Weights(*(beta * x for x in weights)))
    hidden_given = distribution / distribution.sum(1, keepdims=True)
    visible_given = distribution / distribution.sum(0, keepdims=True)
    now = np.eye(len(distribution))[start]
    for _ in range(sweeps):
        pairs = visible_given * (now @ hidden_given)
        now = pairs.sum(1)
    return pairs


def sigmoid(x: Array) -> Array:
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def fixed_uniforms(chains: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Callable[[int, int, int], Tensor]:
    """Uniforms from numpy's own generator, keyed by (seed, step, stream): fresh tensors of (chains, units)."""

    def uniforms(step: int, stream: int, units: int) -> Tensor:
        drawn = np.random.default_rng((seed, step, stream)).random((chains, units), np.float32)
        return torch.from_numpy(drawn).to(dtype)

    return uniforms
