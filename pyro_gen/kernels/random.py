"""Counter-based uniforms: every number is a pure function of (seed, step, stream, chain, unit).

Results therefore depend neither on tile shapes nor on the number of threads nor
on how chains are split into calls. Philox is the stream that every device
shares; SFC64 is faster in plain Python on a CPU (``docs/kernels.md``,
Randomness).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from torch import Tensor

HIDDEN = 0
VISIBLE = 1
INITIAL = 2
SWAP = 3
"""Streams: the half step to the hidden units, to the visible units, initial
states, exchanges and choices of chains.
"""

Uniforms = Callable[[int, int, int], Tensor]
"""``uniforms(step, stream, units)`` gives a fresh tensor of shape (chains, units) in [0, 1)."""

BLOCK = 64
"""Chains that share one SFC64 generator."""


class Key(NamedTuple):
    """Start of a call's random numbers: a 64-bit seed, the number of the first sweep
    and the global index of the first chain.
    """

    seed: int
    step: int = 0
    chain_offset: int = 0


_MANY = 8192
_LEAST = np.float32(2.0**-24)
_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF
_ROUND_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)


def draw_seed() -> int:
    """Take one 64-bit key from torch's default generator, so that
    ``pyro.set_rng_seed`` fixes every draw.

    Returns:
        An integer in [-2**63, 2**63).
    """
    return int(torch.randint(-(2**63), 2**63 - 1, ()))


def _multiply_high_low(x: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """The upper and the lower 32 bits of ``x * multiplier`` for 32-bit words held in int64."""
    low_product = (x & 0xFFFF) * multiplier
    high_product = (x >> 16) * multiplier
    high = (high_product + (low_product >> 16)) >> 16
    return high, (x * multiplier) & _MASK32


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> Tensor:
    """Philox4x32-10, four 32-bit words for each counter.

    Args:
        counter: four broadcastable int64 tensors of 32-bit words.
        key: two 32-bit words.

    Returns:
        int64 words of shape (..., 4).

    References:
        Salmon, Moraes, Dror, Shaw (2011), Parallel random numbers: as easy as
        1, 2, 3. Section 3.3.
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply_high_low(c0, _ROUND_MULTIPLIERS[0])
        high1, low1 = _multiply_high_low(c2, _ROUND_MULTIPLIERS[1])
        c0 = high1 ^ c1 ^ k0
        c1 = low1
        c2 = high0 ^ c3 ^ k1
        c3 = low0
        k0 = (k0 + _KEY_INCREMENTS[0]) & _MASK32
        k1 = (k1 + _KEY_INCREMENTS[1]) & _MASK32
    return torch.stack((c0, c1, c2, c3), -1)


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """``dtype``, or float32 where its numbers are too coarse for uniforms below 1."""
    if dtype in (torch.float32, torch.float64):
        return dtype
    return torch.float32


def philox_uniforms(seed: int, chains: int, chain_offset: int, like: Tensor) -> Uniforms:
    """Uniforms of 24 bits from Philox: counter (unit // 4, chain, step, stream), word unit % 4.

    Args:
        seed: 64-bit key.
        chains: rows of every tensor.
        chain_offset: global index of the first row.
        like: gives the device, and the dtype where it is float32 or float64;
            else uniforms are float32.

    Returns:
        The source of uniforms.
    """
    key = (seed & _MASK32, (seed >> 32) & _MASK32)
    dtype = at_least_single(like.dtype)
    chain = (
        torch.arange(chain_offset, chain_offset + chains, device=like.device).unsqueeze(-1)
        & _MASK32
    )

    def uniforms(step: int, stream: int, units: int) -> Tensor:
        quad = torch.arange((units + 3) // 4, device=like.device)
        low = torch.tensor(step & _MASK32, device=like.device)
        # a step has up to 56 bits
        high = torch.tensor(stream | (step >> 32) << 8 & _MASK32, device=like.device)
        words = philox((quad, chain, low, high), key).flatten(-2)[:, :units]
        return (words >> 8).to(dtype) * 2.0**-24

    return uniforms


class _Words(ISeedSequence):
    """Three words that SFC64 takes as they are: its own twelve rounds mix them (a
    ``SeedSequence`` costs 8x).
    """

    def __init__(self, *words: int) -> None:
        self.words = np.array(words, dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: object = np.uint64) -> np.ndarray:
        """The words."""
        return self.words


def _generator(seed: int, step: int, stream: int, block: int) -> np.random.SFC64:
    """The start of the stream named by (seed, step, stream, block)."""
    # numpy's stubs do not know ISeedSequence
    key: Any = _Words(seed & _MASK64, step & _MASK64, stream << 48 | block)
    return np.random.SFC64(key)


def _fill(out: np.ndarray, generator: np.random.SFC64) -> None:
    """Fill ``out`` with the numbers of ``numpy.random.Generator.random``.

    Its float32 are the upper 24 bits of 32-bit words, lower half of a 64-bit
    word first; from some thousand on they take 60 % of its own loop's time when
    made from whole arrays.
    """
    if out.dtype != np.float32 or out.size < _MANY:
        np.random.Generator(generator).random(out=out, dtype=out.dtype.type)
        return
    raw = generator.random_raw((out.size + 1) // 2).view(np.uint32)[: out.size].reshape(out.shape)
    np.right_shift(raw, 8, out=raw)
    # signed integers are the faster ones to convert
    np.copyto(out, raw.view(np.int32), casting="unsafe")
    np.multiply(out, _LEAST, out=out)


def sfc64_uniforms(seed: int, chains: int, chain_offset: int, like: Tensor) -> Uniforms:
    """Uniforms from numpy's SFC64, one stream for each (seed, step, stream, global
    block of 64 chains); CPU only.

    Args:
        seed: 64-bit key.
        chains: rows of every tensor.
        chain_offset: global index of the first row.
        like: gives the dtype, float32 or float64.

    Returns:
        The source of uniforms.
    """
    dtype = np.float64 if like.dtype == torch.float64 else np.float32
    first = chain_offset // BLOCK * BLOCK
    skipped = chain_offset - first

    def uniforms(step: int, stream: int, units: int) -> Tensor:
        out = np.empty((skipped + chains, units), dtype)
        for row in range(0, len(out), BLOCK):
            _fill(out[row : row + BLOCK], _generator(seed, step, stream, (first + row) // BLOCK))
        return torch.from_numpy(out[skipped:].copy() if skipped else out)

    return uniforms


def source(seed: int, chains: int, chain_offset: int, like: Tensor, fast: bool) -> Uniforms:
    """The uniforms that an op on ``like`` draws: SFC64 where ``fast`` and possible,
    else Philox.

    ``PYRO_GEN_RNG=philox`` makes every backend draw the one stream that all
    devices share.

    Args:
        seed: 64-bit key.
        chains: rows of every tensor.
        chain_offset: global index of the first row.
        like: gives device and dtype.
        fast: whether the caller's path may use the CPU's faster stream.

    Returns:
        The source of uniforms.

    Raises:
        ValueError: ``PYRO_GEN_RNG`` names no stream.
    """
    stream = os.environ.get("PYRO_GEN_RNG", "fast")
    if stream not in ("fast", "philox"):
        raise ValueError(f"PYRO_GEN_RNG must be fast or philox, got {stream!r}")
    quick = fast and like.device.type == "cpu" and like.dtype in (torch.float32, torch.float64)
    if quick and stream == "fast":
        return sfc64_uniforms(seed, chains, chain_offset, like)
    return philox_uniforms(seed, chains, chain_offset, like)
