"""The arithmetic behind the published figures of the autoregressive families."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.evidence_autoregressive import SPACE, best_recipes, mixed_families, mixture, recipe, summary
from examples import autoregressive
from examples.autoregressive import FAMILIES, Recipe, build, log_likelihoods, scan, train, unseen, views
from pyro_gen import datasets
from pyro_gen.datasets import BinaryDataset
from pyro_gen.training import History, fit

X = torch.tensor([[0.0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]])
BITS = BinaryDataset("bits", X.repeat(8, 1), X, X)
STATES = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"pixelcnn"}))
def test_the_mixture_of_all_views_of_two_members_sums_to_one(family: str) -> None:
    torch.manual_seed(0)
    made = Recipe(family, hidden=4, masks=2, orders=3, order="random")
    networks = [view for member in range(2) for view in views(build(made, BITS, member).eval(), made)]
    nats = log_likelihoods(networks, STATES)
    assert nats.logsumexp(0).item() == pytest.approx(0, abs=1e-5)
    apart = mixture([log_likelihoods([network], STATES) for network in networks])
    torch.testing.assert_close(nats, apart, rtol=0, atol=1e-5)


def test_an_image_is_read_from_all_corners_by_rows_and_by_columns() -> None:
    scans = {tuple(scan((2, 3), member).tolist()) for member in range(8)}
    rows, columns = [[0, 1, 2], [3, 4, 5]], [[0, 3], [1, 4], [2, 5]]
    expected = {(*first[::step], *second[::step]) for step in (1, -1) for first, second in (rows, rows[::-1])} | {
        (*first[::step], *second[::step], *third[::step])
        for step in (1, -1)
        for first, second, third in (columns, columns[::-1])
    }
    assert scans == expected
    assert scan((2, 3), 0).tolist() == list(range(6))


def test_images_are_moved_less_and_less_and_other_sets_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[float] = []

    def shifted(x: torch.Tensor, shape: tuple[int, int], share: float) -> torch.Tensor:
        moved.append(share)
        return x

    monkeypatch.setattr(datasets, "shifted", shifted)
    args = argparse.Namespace(out=tmp_path, seed=0, device="cpu")
    made = Recipe("fvsbn", epochs=5, batch_size=32, shift=0.5)
    train(made, replace(BITS, shape=(2, 2)), args)
    assert moved == pytest.approx([0.375, 0.25, 0.125])
    args.out = tmp_path / "refused"
    for one in (made, Recipe("fvsbn", order="scans")):
        with pytest.raises(ValueError, match="need images of rows and columns, and `bits` holds none"):
            train(one, BITS, args)


def test_rows_of_the_training_set_are_no_news() -> None:
    test = torch.tensor([[0.0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    assert unseen(test, X).tolist() == [False, True, True]
    figures = summary(torch.tensor([-1.0, -5.0, -3.0]), unseen(test, X))
    assert (figures["all rows"], figures["unseen rows"]) == (-3, -4)


@pytest.mark.parametrize("family", ["made", "deepnade"])
def test_a_run_that_was_stopped_goes_on_with_the_same_masks_and_orders(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Recipe(family, hidden=5, masks=3, dropout=0.3, epochs=4, batch_size=4, average=0.5)
    rows = []
    for out, stops in ((tmp_path / "whole", (4,)), (tmp_path / "twice", (2, 4))):
        out.mkdir()
        for stop in stops:
            until = partial(stopped, stop)
            monkeypatch.setattr(autoregressive, "fit", until)
            network, _ = train(made, BITS, argparse.Namespace(out=out, seed=3, device="cpu"))
        rows.append(log_likelihoods(views(network, made), STATES))
    assert torch.equal(*rows)


def stopped(stop: int, step: Any, batches: Any, epochs: int, **settings: Any) -> History:
    """The training loop, ended early."""
    return fit(step, batches, min(stop, epochs), **settings)


def test_recipes_of_the_space_take_at_most_about_a_hundred_steps_an_epoch() -> None:
    for rows, steps in ((1600, 16), (2000, 20), (5000, 50), (17_412, 101)):
        made = [recipe(family, settings, rows) for family, grid in SPACE.items() for settings in grid]
        assert {math.ceil(rows / one.batch_size) for one in made} == {steps}


def test_the_best_recipe_of_each_family_and_the_best_number_of_families_are_chosen() -> None:
    one, two, random = SPACE["fvsbn"][:3]
    runs = [("fvsbn", one, -3.0), ("fvsbn", random, -1.0), ("fvsbn", two, -2.0), ("fvsbn", {}, 0.0)]
    best = best_recipes([{"family": f, "settings": own, "valid": nats} for f, own, nats in runs])
    assert {name: run["settings"] for name, run in best.items()} == {"fvsbn": two, "fvsbn, random orders": random}
    good, other, bad = torch.tensor([-1.0, -3.0]), torch.tensor([-3.0, -1.0]), torch.tensor([-9.0, -9.0])
    assert mixed_families({"bad": [bad], "good": [good], "other": [other]}) == ["good", "other"]
