"""The uniforms: known answers, layout, invariance to how chains are split, and no correlation along any axis."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor

from pyro_gen.kernels import draw_seed
from pyro_gen.kernels.random import BLOCK, Uniforms, philox, philox_uniforms, sfc64_uniforms, source
from tests.kernels.oracle import DEVICES, Z_LIMIT, philox4x32, philox_uniform

Factory = Callable[[int, int, int, Tensor], Uniforms]
FACTORIES: list[Factory] = [philox_uniforms, sfc64_uniforms]
LIKE = torch.zeros((), dtype=torch.float64)

KNOWN_ANSWERS = [  # Random123's kat_vectors, philox 4x32 with 10 rounds: counter, key, words
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(counter: str, key: str, answer: str, device: str) -> None:
    c0, c1, c2, c3 = (torch.tensor(word, device=device) for word in words(counter))
    k0, k1 = words(key)
    assert philox((c0, c1, c2, c3), (k0, k1)).tolist() == words(answer)
    assert list(philox4x32((int(c0), int(c1), int(c2), int(c3)), (k0, k1))) == words(answer)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", [0, 1, -1, -(2**63), 2**63 - 1, 0x1234567890ABCDEF])
def test_philox_uniforms_follow_the_layout(seed: int, device: str) -> None:
    for dtype in (torch.float32, torch.float64):
        like = torch.zeros((), dtype=dtype, device=device)
        drawn = philox_uniforms(seed, 3, 2**20, like)(7, 2, 9)
        expected = [[philox_uniform(seed, 7, 2, 2**20 + chain, unit) for unit in range(9)] for chain in range(3)]
        assert (drawn.dtype, drawn.device.type) == (dtype, device)
        assert drawn.tolist() == expected


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniforms_lie_in_the_half_open_unit_interval(factory: Factory, dtype: torch.dtype) -> None:
    drawn = factory(5, 300, 0, torch.zeros((), dtype=dtype))(0, 0, 1000)
    assert drawn.dtype == dtype
    assert drawn.shape == (300, 1000)
    assert drawn.min() >= 0
    assert drawn.max() < 1


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("units", [1, 4, 7])
def test_splitting_the_chains_changes_nothing(factory: Factory, dtype: torch.dtype, units: int) -> None:
    like = torch.zeros((), dtype=dtype)
    whole = factory(11, 300, 0, like)(3, 1, units)
    cuts = [0, 1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 200, 300]
    parts = [factory(11, stop - start, start, like)(3, 1, units) for start, stop in itertools.pairwise(cuts)]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("units", [1, 3, 64, 501])
def test_sfc64_uniforms_are_those_of_numpy_for_every_block(dtype: type, units: int) -> None:
    drawn = sfc64_uniforms(-7, 70, 5 * BLOCK, torch.from_numpy(np.zeros((), dtype)))(2**40, 1, units)
    for block, rows in ((5, slice(0, BLOCK)), (6, slice(BLOCK, 70))):
        bits = np.random.SFC64()
        fresh = bits.state
        fresh["state"]["state"] = np.array([2**64 - 7, 2**40, 2**48 | block, 1], np.uint64)
        bits.state = fresh | {"has_uint32": 0, "uinteger": 0}
        bits.random_raw(12)  # the rounds that mix the key
        expected = np.random.Generator(bits).random(drawn[rows].shape, dtype)
        np.testing.assert_array_equal(drawn[rows].numpy(), expected)


@pytest.mark.parametrize("factory", FACTORIES)
def test_uniforms_are_fresh_and_repeat(factory: Factory) -> None:
    uniforms = factory(1, 3, 0, LIKE)
    first = uniforms(0, 0, 5)
    kept = first.clone()
    first.fill_(2.0)
    assert torch.equal(uniforms(0, 0, 5), kept)


def sheet(factory: Factory, seed: int, stream: int, steps: range = range(20)) -> Tensor:
    """Uniforms of shape (steps, chains, units)."""
    uniforms = factory(seed, 130, 0, LIKE)
    return torch.stack([uniforms(step, stream, 64) for step in steps])


def correlation_z(x: Tensor, y: Tensor) -> float:
    """z-score of the correlation of two independent sets of uniforms, whose variance is 1/12 each."""
    return float(((x - 0.5) * (y - 0.5)).mean() * 12 * x.numel() ** 0.5)


@pytest.mark.parametrize("factory", FACTORIES)
def test_no_correlation_along_any_axis(factory: Factory) -> None:
    u = sheet(factory, 3, 0)
    lags = [(axis, lag) for axis in range(3) for lag in (1, 2, 3, 4, 5, 8, 16)] + [(1, 64), (1, 65), (2, 32)]
    for axis, lag in lags:
        length = u.shape[axis] - lag
        z = correlation_z(u.narrow(axis, 0, length), u.narrow(axis, lag, length))
        assert abs(z) < Z_LIMIT, (axis, lag, z)


@pytest.mark.parametrize("factory", FACTORIES)
def test_no_correlation_between_streams_seeds_and_far_steps(factory: Factory) -> None:
    u = sheet(factory, 3, 0)
    others = {
        "stream 1": sheet(factory, 3, 1),
        "stream 2": sheet(factory, 3, 2),
        "seed 2": sheet(factory, 2, 0),
        "seed -4, the complement": sheet(factory, -4, 0),
        "seed + 2**32": sheet(factory, 3 + 2**32, 0),
        "seed + 2**62": sheet(factory, 3 + 2**62, 0),
        "step + 2**31": sheet(factory, 3, 0, range(2**31, 2**31 + 20)),
    }
    for name, other in others.items():
        assert abs(correlation_z(u, other)) < Z_LIMIT, name
        assert abs(correlation_z(u, 1 - other.flip(-1))) < Z_LIMIT, name


@pytest.mark.parametrize("factory", FACTORIES)
def test_steps_beyond_32_bits_are_streams_of_their_own(factory: Factory) -> None:
    uniforms = factory(3, 4, 0, LIKE)
    for step in (0, 1, 12345):
        assert not torch.equal(uniforms(step, 0, 8), uniforms(step + 2**32, 0, 8))


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("power", [1, 2**8, 2**16])
def test_upper_middle_and_lower_bits_are_uniform(factory: Factory, power: int) -> None:
    u = sheet(factory, 9, 1).flatten() * power
    counts = torch.bincount(((u - u.floor()) * 256).long(), minlength=256).double()
    expected = u.numel() / 256
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_square - 255) < 7 * (2 * 255) ** 0.5  # chi-square of 255 degrees: beyond 7 sigma with rate 2e-9


@pytest.mark.parametrize("factory", FACTORIES)
def test_all_words_of_a_sheet_are_distinct_draws(factory: Factory) -> None:
    """No two of 33 000 triples of neighbouring uniforms agree, as they would if a counter word were dropped."""
    u = torch.cat([sheet(factory, 3, stream, range(2)).flatten(0, 1) for stream in (0, 1)])
    triples = u.unfold(-1, 3, 1).reshape(-1, 3)
    assert len(torch.unique(triples, dim=0)) == len(triples)


def test_draw_seed_takes_one_key_from_the_default_generator() -> None:
    pyro.set_rng_seed(4)
    first, second = draw_seed(), draw_seed()
    pyro.set_rng_seed(4)
    assert (draw_seed(), draw_seed()) == (first, second)
    assert first != second
    seeds = np.array([draw_seed() for _ in range(4000)])
    for bit in range(64):  # every bit of the key is a fair coin
        assert abs(((seeds >> bit) & 1).sum() - 2000) < Z_LIMIT * 1000**0.5, bit


def test_the_environment_forces_the_stream_that_all_devices_share(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = philox_uniforms(2, 5, 3, LIKE)(1, 0, 6)
    quick = sfc64_uniforms(2, 5, 3, LIKE)(1, 0, 6)
    monkeypatch.delenv("PYRO_GEN_RNG", raising=False)
    assert torch.equal(source(2, 5, 3, LIKE, fast=True)(1, 0, 6), quick)
    assert torch.equal(source(2, 5, 3, LIKE, fast=False)(1, 0, 6), shared)
    monkeypatch.setenv("PYRO_GEN_RNG", "philox")
    assert torch.equal(source(2, 5, 3, LIKE, fast=True)(1, 0, 6), shared)


def test_an_unknown_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_GEN_RNG", "mersenne")
    with pytest.raises(ValueError, match="PYRO_GEN_RNG"):
        source(2, 5, 3, LIKE, fast=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_uniforms_stay_below_one(dtype: torch.dtype) -> None:
    drawn = philox_uniforms(0, 100, 0, torch.zeros((), dtype=dtype))(0, 0, 1000)
    assert drawn.isfinite().all()
    assert drawn.max() < 1
