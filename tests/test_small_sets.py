"""Recipes on few rows of many columns: what they keep is no worse than the independent model they start at.

Seeds are fixed and nothing here is a statistical test: each bound is on the validation rows that the epoch is chosen
on, by exact log likelihoods or, for the autoencoder, by the estimates that were maximised.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

from benchmarks import evidence_family
from benchmarks.evidence_family import Rows, held_out
from examples import (
    autoregressive,
    dbm_mnist,
    dbn_mnist,
    rbm_alphadigits,
    rbm_features,
    rbm_hidden_sweep,
    rbm_inpainting,
    rbm_recommendation,
    vae,
)
from pyro_gen import datasets, nn, training
from pyro_gen.datasets import BinaryDataset
from pyro_gen.infer import AIS, PersistentChains
from pyro_gen.models import DeepBoltzmannMachine
from pyro_gen.training import SMALL_SET, History, fit, keep_best, small_batch

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


@pytest.mark.parametrize(
    ("family", "structure"),
    [
        ("fvsbn", 0.0),
        ("nade", 0.0),
        ("made", 0.3),
        pytest.param("fvsbn", 0.3, marks=pytest.mark.slow),
        pytest.param("nade", 0.3, marks=pytest.mark.slow),
        pytest.param("made", 0.0, marks=pytest.mark.slow),
    ],
)
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


@pytest.mark.filterwarnings("ignore:the importance weights")  # of 20 draws, as the recipe chooses its epoch
@pytest.mark.parametrize("structure", [0.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_an_autoencoder_is_no_worse_than_independent(structure: float, tmp_path: Path) -> None:
    """Importance sampling with 20 draws a row, drawn anew for `value`: a lower bound in expectation.

    Over 20 seeds of the draws the mean of the 300 rows has a standard deviation of 0.006 nats: a tenth of a nat is
    sixteen of these, where a false alarm is practically impossible.
    """
    data = small_set(structure)
    recipe = replace(vae.SMOKE, epochs=4, hidden=50, valid_rows=ROWS, valid_draws=20, batch_size=small_batch(ROWS))
    pyro.set_rng_seed(0)
    model, history = vae.train(recipe, data, arguments(tmp_path))
    value = model.test_log_likelihood(data.valid, 20).value
    assert history[0]["epoch"] == 0
    assert math.isfinite(value)
    assert value > history[0]["valid"] - 0.1
    assert value > independent(data) - 0.1


def followed(monkeypatch: pytest.MonkeyPatch, script: ModuleType = evidence_family) -> list[History]:
    """The histories of the runs of a script from here on."""
    histories: list[History] = []

    def fit(*arguments: Any, **options: Any) -> History:
        histories.append(training.fit(*arguments, **options | {"progress": False}))
        return histories[-1]

    monkeypatch.setattr(script, "fit", fit)
    return histories


@pytest.mark.parametrize("structure", [0.0, 0.3])
def test_a_boltzmann_machine_is_no_worse_than_independent(
    structure: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exact log Z. On independent columns the last epoch is worse than the start, and is not what is kept."""
    histories = followed(monkeypatch)
    data = small_set(structure)
    pyro.set_rng_seed(0)
    recipe = evidence_family.adapted(evidence_family.Recipe("small", hidden=8, epochs=30, rate=1.0), ROWS)
    rbm = evidence_family.train(recipe, Rows(data.train, data.valid, None, data.valid), "small", tmp_path)
    values = [row["valid"] for row in histories[0] if "valid" in row]
    kept = held_out(rbm, data.valid)
    assert histories[0][0]["epoch"] == 0
    assert values[0] == pytest.approx(independent(data), abs=0.01)
    assert kept == pytest.approx(max(values), abs=1e-3)
    assert kept >= independent(data) - 0.01
    if structure:
        assert kept > independent(data) + 1
    else:
        assert values[-1] < values[0] - 0.3


def test_a_wide_boltzmann_machine_is_watched_by_its_pseudo_likelihood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    histories = followed(monkeypatch)
    data = small_set(0.0)
    pyro.set_rng_seed(0)
    recipe = evidence_family.adapted(evidence_family.Recipe("small", hidden=21, epochs=3, rate=20.0), ROWS)
    rbm = evidence_family.train(recipe, Rows(data.train, data.valid, None, data.valid), "wide", tmp_path)
    values = [row["valid"] for row in histories[0]]
    assert min(values) < values[0] - 5
    assert rbm().pseudo_log_likelihood(data.valid).mean().item() == pytest.approx(max(values), abs=1e-3)
    assert max(values) >= independent(data) - 0.1  # of independent units it is the log likelihood


def test_only_small_sets_change_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = evidence_family.Recipe("small", hidden=8, epochs=1, rate=0.1)
    assert evidence_family.adapted(recipe, 1000) == recipe
    few = evidence_family.adapted(recipe, 300)
    assert few.batch_size == 30
    assert few.rate == pytest.approx(0.03)
    histories = followed(monkeypatch)
    x = torch.bernoulli(torch.full((1000, 4), 0.5))
    evidence_family.train(recipe, Rows(x, x, None, x), "large", tmp_path)
    assert histories[0] == [{"epoch": 1, "loss": 0.0}]


def test_the_demo_keeps_the_best_on_few_images(tmp_path: Path) -> None:
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    data = datasets.alphadigits("AB")
    recipe = replace(rbm_alphadigits.SMOKE, rate=50.0)
    rbm, history = rbm_alphadigits.train(recipe, data, tmp_path, "few")
    values = [row["valid pseudo log likelihood"] for row in history if "valid pseudo log likelihood" in row]
    assert history[0]["epoch"] == 0
    assert values[-1] < values[0]
    assert rbm().pseudo_log_likelihood(data.valid).mean().item() == pytest.approx(values[0], abs=1e-2)


def image_options(out: Path) -> argparse.Namespace:
    """Options of the examples of images, and of films."""
    settings = {"hidden": 30, "epochs": 4, "sparsity": 0.002, "sweeps": 2, "steps": 1, "rate": 5.0, "decay": 0.0}
    return argparse.Namespace(**settings, seed=0, betas=5, out=out, data="small", smoke=False)


def swept(data: BinaryDataset, args: argparse.Namespace) -> None:
    rbm_hidden_sweep.train(data, 30, args)


Trained = Callable[[Any, argparse.Namespace], Any]
EXAMPLES: dict[str, tuple[ModuleType, Trained]] = {
    "features": (rbm_features, rbm_features.train),
    "hidden sweep": (rbm_hidden_sweep, swept),
    "inpainting": (rbm_inpainting, rbm_inpainting.train),
    "recommendation": (rbm_recommendation, rbm_recommendation.train),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_an_rbm_keeps_the_best_on_few_rows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns without structure, moved by a pixel or learned at a wild rate: training does harm, the start is kept."""
    script, train = EXAMPLES[name]
    histories, batch_sizes, plain = followed(monkeypatch, script), list[int](), datasets.minibatches

    def minibatches(x: Tensor, size: int) -> Any:
        batch_sizes.append(size)
        return plain(x, size)

    monkeypatch.setattr(datasets, "minibatches", minibatches)
    data = replace(small_set(0.0), shape=(20, 25))
    pyro.set_rng_seed(0)
    rbm = train(data, image_options(tmp_path))
    values = [row["valid pseudo log likelihood"] for row in histories[0]]
    assert batch_sizes == [30]
    assert histories[0][0]["epoch"] == 0
    assert values[0] == pytest.approx(independent(data), abs=0.1)  # of independent units it is the log likelihood
    assert values[-1] < values[0]
    if rbm is not None:
        distribution = rbm() if isinstance(rbm, nn.RBM) else rbm
        with torch.no_grad():
            kept = distribution.pseudo_log_likelihood(data.valid).mean().item()
        assert kept == pytest.approx(max(values), abs=1e-2)


@pytest.mark.parametrize("name", ["features", "inpainting", "hidden sweep", "recommendation"])
def test_an_example_of_an_rbm_is_as_it_was_on_many_rows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No evaluation but its own, and rows in hundreds: the recorded figures hold."""
    script, train = EXAMPLES[name]
    histories = followed(monkeypatch, script)
    x = torch.bernoulli(torch.full((1000, 6), 0.5))
    args = argparse.Namespace(**vars(image_options(tmp_path)) | {"epochs": 1})
    train(BinaryDataset("large", x, x[:20], x[:20], shape=(2, 3)), args)
    assert [row["epoch"] for row in histories[0]] == [1]
    assert "valid pseudo log likelihood" not in histories[0][0]


def test_a_belief_network_keeps_the_best_on_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer at a rate that only does harm: both are as they started, and so is the stack."""
    histories = followed(monkeypatch, dbn_mnist)
    data = small_set(0.0)
    layer = dbn_mnist.Layer(hidden=20, epochs=2, rate=50.0, num_steps=1, sparsity=0.0)
    recipe = replace(dbn_mnist.SMOKE, first=layer, second=replace(layer, hidden=510))
    pyro.set_rng_seed(0)
    network = dbn_mnist.stack(recipe, data.train, data.valid, tmp_path, False)
    for history in histories:
        values = [row["valid pseudo log likelihood"] for row in history]
        assert history[0]["epoch"] == 0
        assert min(values) < values[0] - 5
        assert max(values) == values[0]
    values = [row["valid pseudo log likelihood"] for row in histories[0]]
    assert values[0] == pytest.approx(independent(data), abs=0.1)
    assert network.state_dict()["down.0.weight"].abs().max() < 0.1  # the first weights, of deviation 0.01


def test_the_deep_boltzmann_machine_takes_the_best_of_a_first_layer_and_no_damaged_file(tmp_path: Path) -> None:
    data = small_set(0.0)
    layer = dbn_mnist.Layer(hidden=20, epochs=2, rate=50.0, num_steps=1, sparsity=0.0)
    recipe = replace(dbn_mnist.SMOKE, first=layer)
    file = tmp_path / "first.pt"
    trained = nn.RBM.from_data(data.train, 20, negative_phase=PersistentChains(100, 1), centring=True)
    dbn_mnist.train(trained, data.train, data.valid, layer, recipe, file, False)
    args = argparse.Namespace(hidden=[20, 5], first=file, first_epochs=2, out=tmp_path, smoke=True)
    taken = dbm_mnist.first_layer(data, args)
    for own, other in zip(taken.uncentred, trained.uncentred, strict=True):
        torch.testing.assert_close(own, other)
    content = bytearray(file.read_bytes())
    place = content.index(trained.weight.detach().numpy().tobytes()[:16])
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"the checkpoint `.*first\.pt` is corrupt or truncated"):
        dbm_mnist.first_layer(data, args)


@pytest.mark.filterwarnings("ignore:AIS cannot be trusted")  # of the state after a wild step
def test_a_deep_boltzmann_machine_keeps_the_best_on_few_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = followed(monkeypatch, dbm_mnist)
    data = small_set(0.0)
    options = {"hidden": [10, 5], "first": None, "first_epochs": 2, "epochs": 2, "rate": 50.0, "num_chains": 20}
    args = argparse.Namespace(**options, betas=50, out=tmp_path, smoke=True)
    pyro.set_rng_seed(0)
    first = dbm_mnist.first_layer(data, args)
    settings: dict[str, Any] = {"negative_phase": PersistentChains(20, 1), "evaluation": AIS(20, 50), "centring": True}
    machine = DeepBoltzmannMachine.from_rbm(first, args.hidden[1:], data.train, **settings)
    start = [parameter.detach().clone() for parameter in machine.parameters()]
    dbm_mnist.train(machine, data, args)
    assert [history[0]["epoch"] for history in histories] == [0, 0]
    assert histories[0][0]["valid"] == pytest.approx(independent(data), abs=0.1)
    assert first().pseudo_log_likelihood(data.valid).mean().item() == pytest.approx(
        max(row["valid"] for row in histories[0]), abs=1e-2
    )
    assert histories[1][-1]["valid"] < histories[1][0]["valid"] - 5
    assert all(torch.equal(one, other) for one, other in zip(start, machine.parameters(), strict=True))


@pytest.mark.parametrize(
    ("rows", "most", "expected"), [(60_000, 100, 100), (1044, 100, 100), (300, 100, 30), (5, 8, 8)]
)
def test_a_small_set_has_small_batches(rows: int, most: int, expected: int) -> None:
    assert small_batch(rows, most) == expected
    with pytest.raises(ValueError, match="`rows` must be"):
        small_batch(0)


def test_the_best_of_a_small_set_is_kept_and_a_large_set_is_left_alone() -> None:
    line = torch.nn.Linear(1, 1)

    def step(x: Tensor) -> Tensor:
        with torch.no_grad():
            line.weight.add_(1.0)
        return x.sum()

    def score() -> Tensor:
        assert not torch.is_grad_enabled()
        return -(line.weight - start - 2).square().sum()

    start = line.weight.detach().clone()
    assert keep_best(score, SMALL_SET, 5) == {}
    best = keep_best(score, SMALL_SET - 1, 5, "nearness")
    history = fit(step, [torch.zeros(1)], 5, state={"line": line}, progress=False, **best)
    assert [row["nearness"] for row in history] == pytest.approx([-4, -1, 0, -1, -4, -9], abs=1e-5)
    torch.testing.assert_close(line.weight, start + 2)
    with pytest.raises(ValueError, match="`rows` must be"):
        keep_best(score, 0, 5)
    with pytest.raises(ValueError, match="`num_epochs` must be"):
        keep_best(score, 10, 2.5)  # type: ignore[arg-type]
