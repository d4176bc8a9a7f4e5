"""Checkpoints of loops of a user's own, and callbacks of `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, models, training


def test_a_loop_of_your_own_goes_on_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    x = datasets.bars_and_stripes(3, 3)

    def run(stop: int | None, folder: Path) -> tuple[dict[str, Tensor], list[float]]:
        """Three epochs by SVI, checkpoint after each step, perhaps killed after some steps."""
        pyro.clear_param_store()
        pyro.set_rng_seed(1)
        torch.manual_seed(1)
        vae = models.VAE(9, 2, size=len(x), hidden=(5,))
        optimizer = pyro.optim.Adam({"lr": 0.01})
        svi = SVI(vae.model, vae.guide, optimizer, Trace_ELBO())
        batches = datasets.minibatches(x, 5)
        state = {"vae": vae, "optimizer": optimizer, "batches": batches}
        checkpoint = training.Checkpoint(folder / "run.pt", state, settings={"seed": 1})
        begin = checkpoint.restore(epoch=0, losses=[])
        losses = begin["losses"]
        for epoch in range(begin["epoch"], 3):
            for batch in batches:
                losses.append(svi.step(batch))
                checkpoint.save(epoch=epoch, losses=losses)
                if len(losses) == stop:
                    return vae.state_dict(), losses
        return vae.state_dict(), losses

    whole, losses = run(None, tmp_path / "whole")
    assert len(losses) == 9
    for stop in (1, 3, 5, 8):
        folder = tmp_path / str(stop)
        run(stop, folder)
        state, again = run(None, folder)
        assert again == losses
        assert all(torch.equal(state[name], whole[name]) for name in whole)


def test_checkpoints_of_other_runs_are_refused(tmp_path: Path) -> None:
    line = torch.nn.Linear(1, 1)
    checkpoint = training.Checkpoint(tmp_path / "run.pt", {"line": line}, settings={"seed": 1})
    checkpoint.save(step=3)
    before = {name: value.clone() for name, value in line.state_dict().items()}
    others: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
        ({"line": torch.nn.Linear(2, 1)}, {"seed": 1}, {"step": 0}, r"`line\.weight` must be"),
        ({"curve": line}, {"seed": 1}, {"step": 0}, "state objects must be"),
        ({"line": line}, {"seed": 2}, {"step": 0}, "settings must be"),
        ({"line": line}, {"seed": 1}, {"epoch": 0}, r"has the numbers \['step'\], got \['epoch'\]"),
    ]
    for state, settings, numbers, message in others:
        with pytest.raises(ValueError, match=message):
            training.Checkpoint(tmp_path / "run.pt", state, settings).restore(**numbers)
    assert all(torch.equal(before[name], value) for name, value in line.state_dict().items())
    with pytest.raises(ValueError, match=r"is not a checkpoint of pyro_gen\.training\.fit"):
        training.read_checkpoint(tmp_path / "run.pt", {"line": line})
    with pytest.raises(ValueError, match="`state` must hold objects with state_dict"):
        training.Checkpoint(tmp_path / "run.pt", {"line": 3})


def test_the_checkpoint_of_fit_is_read_last_and_best(tmp_path: Path) -> None:
    line = torch.nn.Linear(1, 1, bias=False)
    file = tmp_path / "fit.pt"

    def step(x: Tensor) -> Tensor:
        with torch.no_grad():
            line.weight.add_(x)
        return x

    values = iter([1.0, 3.0, 2.0])
    torch.nn.init.zeros_(line.weight)
    history = training.fit(
        step,
        [torch.ones(())],
        3,
        state={"line": line},
        evaluate=lambda: {"score": next(values)},
        monitor="score",
        checkpoint=file,
        progress=False,
    )
    other = torch.nn.Linear(1, 1, bias=False)
    assert training.read_checkpoint(file, {"line": other}) == history
    assert other.weight.item() == 3.0
    training.read_checkpoint(file, {"line": other}, best=True)
    assert other.weight.item() == 2.0
    with pytest.raises(ValueError, match=r"must have names among \['line'\]"):
        training.read_checkpoint(file, {"curve": other})
    with pytest.raises(FileNotFoundError):
        training.read_checkpoint(tmp_path / "none.pt", {"line": other})


def test_callbacks_see_every_step_and_epoch_and_change_nothing(tmp_path: Path) -> None:
    def run(**callbacks: Any) -> list[dict[str, float]]:
        torch.manual_seed(0)
        return training.fit(lambda x: torch.rand(()), [torch.ones(1)] * 2, 3, progress=False, **callbacks)

    steps: list[tuple[int, int, float]] = []
    rows: list[dict[str, float]] = []

    def on_epoch(row: dict[str, float]) -> None:
        torch.rand(3)
        rows.append(row)

    history = run(on_step=lambda *step: steps.append(step), on_epoch=on_epoch)
    assert history == run() == rows
    assert [step[:2] for step in steps] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]
    assert sum(float(step[2]) for step in steps[:2]) / 2 == pytest.approx(history[0]["loss"])
