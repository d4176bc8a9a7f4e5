"""Recipes on few rows of many columns: what they keep is no worse than the independent model they start at."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import pyro
import pytest
import torch

from examples import autoregressive, vae
from pyro_gen.datasets import BinaryDataset
from pyro_gen.training import small_batch

ROWS, COLUMNS = 300, 500


def small_set(structure: float) -> BinaryDataset:
    """Independent columns of varied rates; with structure, a hidden switch moves all of them a little."""
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(COLUMNS, generator=generator)
    loading = structure * torch.randn(COLUMNS, generator=generator)
    switch = torch.randn(3 * ROWS, 1, generator=generator)
    x = torch.bernoulli(torch.sigmoid(logits + switch * loading), generator=generator)
    return BinaryDataset("small", *x.split(ROWS))


def independent(data: BinaryDataset) -> float:
    """Mean log likelihood of the validation rows under the product of the marginals, one count added to each state."""
    rates = (data.train.sum(0) + 1) / (len(data.train) + 2)
    return (data.valid * rates.log() + (1 - data.valid) * (-rates).log1p()).sum(1).mean().item()


def arguments(out: Path) -> argparse.Namespace:
    return argparse.Namespace(seed=0, device="cpu", out=out, smoke=True, test=False)


@pytest.mark.parametrize("structure", [0.0, 0.3])
@pytest.mark.parametrize("family", ["fvsbn", "nade", "made"])
def test_an_autoregressive_recipe_is_no_worse_than_independent(family: str, structure: float, tmp_path: Path) -> None:
    data = small_set(structure)
    recipe = autoregressive.Recipe(family, epochs=4, rate=0.05, hidden=50, batch_size=small_batch(ROWS))
    network, history = autoregressive.train(recipe, data, arguments(tmp_path))
    value = autoregressive.log_likelihoods([network], data.valid).mean().item()
    assert history[0]["epoch"] == 0
    assert value == pytest.approx(max(row["valid"] for row in history), abs=1e-3)
    assert value >= history[0]["valid"] - 1e-3
    assert value > independent(data) - 0.5  # the marginals of the start are smoothed in another way


def test_a_recipe_that_only_does_harm_keeps_the_start(tmp_path: Path) -> None:
    recipe = autoregressive.Recipe("fvsbn", epochs=2, rate=0.5, batch_size=100, average=0.01)
    network, history = autoregressive.train(recipe, small_set(0.0), arguments(tmp_path))
    assert min(row["valid"] for row in history) < history[0]["valid"] - 5
    assert autoregressive.log_likelihoods([network], small_set(0.0).valid).mean().item() == pytest.approx(
        history[0]["valid"], abs=1e-3
    )


@pytest.mark.parametrize("structure", [0.0, 0.3])
def test_an_autoencoder_is_no_worse_than_independent(structure: float, tmp_path: Path) -> None:
    """Importance sampling with 20 draws: four of its standard errors over the rows' differences are left as room."""
    data = small_set(structure)
    recipe = replace(vae.SMOKE, epochs=4, hidden=50, valid_rows=ROWS, valid_draws=20, batch_size=small_batch(ROWS))
    pyro.set_rng_seed(0)
    model, history = vae.train(recipe, data, arguments(tmp_path))
    value = model.test_log_likelihood(data.valid, 20).value
    assert history[0]["epoch"] == 0
    assert math.isfinite(value)
    assert value > history[0]["valid"] - 0.5
    assert value > independent(data) - 0.5


@pytest.mark.parametrize(
    ("rows", "most", "expected"), [(60_000, 100, 100), (1044, 100, 100), (300, 100, 30), (5, 8, 8)]
)
def test_a_small_set_has_small_batches(rows: int, most: int, expected: int) -> None:
    assert small_batch(rows, most) == expected
    with pytest.raises(ValueError, match="`rows` must be"):
        small_batch(0)
