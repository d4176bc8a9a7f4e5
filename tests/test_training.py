"""The training loop: what it asks for, what an epoch does, what a run records and shows."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

from pyro_gen.datasets import minibatches
from pyro_gen.training import History, use_average
from tests.runs import Line, quiet, rows_of, same, scores


def test_a_row_is_the_mean_loss_of_its_epoch() -> None:
    losses: Iterator[Any] = iter([1.0, 2.0, 6.0, torch.tensor(0.5), np.float32(0.5), 2])
    assert quiet(lambda batch: next(losses), [0, 0, 0], 2) == [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 1.0}]


@pytest.mark.parametrize(
    ("batch", "arguments"),
    [((1, 2), (1, 2)), ([1, 2], (1, 2)), ({"x": 1}, ({"x": 1},)), (3, (3,)), ((), ())],
)
def test_a_tuple_or_list_becomes_the_arguments(batch: Any, arguments: tuple[Any, ...]) -> None:
    seen = []

    def step(*args: Any) -> float:
        seen.append(args)
        return 0.0

    quiet(step, [batch], 1)
    assert seen == [arguments]


def test_batches_may_be_a_function_of_the_epoch() -> None:
    assert [row["loss"] for row in quiet(float, lambda epoch: [epoch, 2 * epoch], 3)] == [1.5, 3.0, 4.5]


def test_a_data_loader_gives_a_data_set_by_its_tensors() -> None:
    loader = DataLoader(TensorDataset(torch.ones(4), torch.full((4,), 2.0)), batch_size=2)
    assert quiet(lambda x, y: (x + y).mean(), loader, 1)[0]["loss"] == 3.0


def test_no_epochs_no_history() -> None:
    assert quiet(float, [1], 0) == []


def test_an_average_takes_the_place_of_the_parameters_and_leaves_the_buffers() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = AveragedModel(net)
    states = []
    for _ in range(3):
        net(torch.randn(5, 2))
        for p in net.parameters():
            nn.init.normal_(p)
        average.update_parameters(net)
        states.append([p.detach().clone() for p in net.parameters()])
    buffers = [b.clone() for b in net.buffers()]
    use_average(net, average)
    for p, *each in zip(net.parameters(), *states, strict=True):
        torch.testing.assert_close(p.detach(), torch.stack(each).mean(0))
    assert all(map(torch.equal, net.buffers(), buffers))


def test_svi_step_is_a_step() -> None:
    def model(x: Tensor) -> None:
        pyro.sample("x", dist.Normal(pyro.param("loc", torch.zeros(())), 1.0).expand([3]).to_event(1), obs=x)

    svi = SVI(model, lambda x: None, pyro.optim.Adam({"lr": 0.3}), Trace_ELBO())
    history = quiet(svi.step, [torch.full((3,), 2.0)], 60)
    assert history[-1]["loss"] < history[0]["loss"]
    assert pyro.param("loc").item() == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("empty", [[], iter([]), lambda epoch: []])
def test_empty_batches_are_an_error(empty: Any) -> None:
    with pytest.raises(ValueError, match=r"`batches` must give at least one batch .* epoch 1"):
        quiet(float, empty, 1)


def test_batches_that_run_out_are_an_error() -> None:
    rest = iter([[1], [1], []])
    with pytest.raises(ValueError, match="none in epoch 3"):
        quiet(float, lambda epoch: next(rest), 3)


class Sized:
    """Rows as a pandas frame or an xarray offers them."""

    def __array__(self) -> Any:
        return np.zeros((3, 2))


X = torch.zeros(14, 9)
NO_BATCHES: dict[str, Any] = {
    "tensor": X,
    "array": X.numpy(),
    "frame": pd.DataFrame(X.numpy()),
    "series": pd.Series([1.0, 2.0]),
    "array-like": Sized(),
    "data set": TensorDataset(X),
    "text": "batches",
    "path": Path("batches"),
    "bytes": b"batches",
    "mapping": {"x": X},
    "number": 3,
    "none": None,
    "images and labels": (X, torch.zeros(14)),
    "the same in a list": [X, torch.zeros(14)],
}


@pytest.mark.parametrize("through", ["itself", "function"])
@pytest.mark.parametrize("name", NO_BATCHES)
def test_rows_are_no_batches(name: str, through: str) -> None:
    batches = NO_BATCHES[name]
    calls: list[Any] = []

    def step(*batch: Any) -> float:
        calls.append(batch)
        return 0.0

    with pytest.raises(ValueError, match=r"`batches` must .*datasets\.minibatches"):
        quiet(step, (lambda epoch: batches) if through == "function" else batches, 2)
    assert not calls


@pytest.mark.parametrize(
    "batches",
    [
        [X],
        (X, X),
        X.split(4),
        DataLoader(TensorDataset(X), 4),
        minibatches(X, 4),
        [(X, X[:, 0])],
        lambda epoch: iter([X]),
    ],
)
def test_these_are_batches(batches: Any) -> None:
    assert len(quiet(lambda *batch: 0.0, batches, 2)) == 2


@pytest.mark.parametrize(
    "once", [iter([X]), (x for x in [X]), map(abs, [X]), zip([X], [X], strict=True), enumerate([X])]
)
def test_what_can_be_iterated_once_is_refused_before_the_first_step(once: Any) -> None:
    calls: list[Any] = []
    with pytest.raises(ValueError, match="which gives none in epoch 2"):
        quiet(lambda *batch: calls.append(batch) or 0.0, once, 2)  # type: ignore[func-returns-value]
    assert not calls
    assert len(quiet(lambda *batch: 0.0, once, 1)) == 1


def learned(**settings: Any) -> tuple[History, Line]:
    """A run whose evaluation draws random numbers and tells how far the weight has moved."""
    line = Line()
    start = line.values()

    def evaluate() -> dict[str, float]:
        torch.rand(5)
        return {"far": sum((a - b).abs().sum().item() for a, b in zip(line.values(), start, strict=True))}

    return line.fit(3, evaluate=evaluate, **settings), line


def test_the_start_is_epoch_0_and_leaves_the_training_as_it_was() -> None:
    plain, line = learned()
    history, other = learned(evaluate_start=True)
    assert history == [{"epoch": 0, "far": 0.0}, *plain]
    assert same(line.values(), other.values())


def test_the_best_is_never_worse_than_the_start(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"monitor": "far", "mode": "min", "evaluate_start": True}
    history, line = learned(checkpoint=tmp_path / "run.pt", **settings)
    assert same(line.values(), Line().values())
    again, other = learned(checkpoint=tmp_path / "run.pt", **settings)
    assert (again, other.calls) == (history, 0)
    assert same(other.values(), line.values())
    short, _ = learned(patience=1, **settings)
    assert [row["epoch"] for row in short] == [0, 1]


def test_a_run_with_a_start_goes_on(tmp_path: Path) -> None:
    whole = Line()
    settings: dict[str, Any] = {"evaluate_start": True, "monitor": "score"}
    history = whole.fit(4, evaluate=scores(0, 1, 3, 2, 1), **settings)
    Line().fit(2, evaluate=scores(0, 1, 3), checkpoint=tmp_path / "run.pt", **settings)
    rest = Line()
    assert rest.fit(4, evaluate=scores(2, 1), checkpoint=tmp_path / "run.pt", **settings) == history
    assert same(rest.values(), whole.values())


def test_a_start_needs_an_evaluation() -> None:
    with pytest.raises(ValueError, match="`evaluate_start` needs `evaluate`"):
        quiet(float, [1], 1, evaluate_start=True)


@pytest.mark.parametrize("loss", [None, torch.zeros(2), "x"])
def test_a_loss_must_be_a_number(loss: Any) -> None:
    with pytest.raises(ValueError, match="`step` must return a float"):
        quiet(lambda batch: loss, [0], 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(value: float, tmp_path: Path) -> None:
    file, line = tmp_path / "run.pt", Line()
    line.fit(2, checkpoint=file)
    before = file.read_bytes()
    losses: Iterator[Any] = iter([1.0, 1.0, 1.0, 1.0, torch.tensor(value)])
    with pytest.raises(FloatingPointError, match=rf"{value} in epoch 4, batch 2"):
        quiet(lambda x: next(losses), line.batches, 5, state=line.state, checkpoint=file, checkpoint_every=5)
    assert file.read_bytes() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_is_read_once_an_epoch_and_its_generator_resumes(tmp_path: Path) -> None:
    def train(folder: str, *epochs: int) -> History:
        pyro.set_rng_seed(1)
        weight = nn.Linear(1, 1, device="cuda")
        for n in epochs:
            file = tmp_path / folder
            history = quiet(lambda x: torch.rand((), device="cuda"), [0, 0], n, state={"w": weight}, checkpoint=file)
            torch.cuda.manual_seed_all(9)
        return history

    assert train("whole", 4) == train("halves", 2, 4)
    with pytest.raises(FloatingPointError, match="epoch 1, batch 2"):
        quiet(lambda x: torch.tensor(x, device="cuda"), [0.0, float("nan"), 0.0], 1)


# Evaluation, the best state, early stopping, schedule.


def test_evaluation_every_few_epochs_and_at_the_last() -> None:
    history = Line().fit(5, evaluate=scores(1, 2, 3), evaluate_every=2)
    assert [row.get("score") for row in history] == [None, 1.0, None, 2.0, 3.0]


@pytest.mark.parametrize(("mode", "best"), [("max", 2), ("min", 3)])
def test_the_best_state_is_put_back(mode: str, best: int) -> None:
    line, states = Line(), []
    values = scores(1, 5, 0, 5, float("nan"))

    def evaluate() -> dict[str, float]:
        states.append(line.values())
        return values()

    line.fit(5, evaluate=evaluate, monitor="score", mode=mode)
    assert same(line.values(), states[best - 1])
    assert not same(line.values(), states[-1])


def test_patience_counts_evaluations_without_a_better_value() -> None:
    history = Line().fit(99, evaluate=scores(1, 3, 3, 2, 9), evaluate_every=2, monitor="score", patience=2)
    assert len(history) == 8


def test_nan_is_never_the_best_and_exhausts_patience() -> None:
    line = Line()
    assert len(line.fit(99, evaluate=lambda: {"score": float("nan")}, monitor="score", patience=3)) == 3


def test_the_loss_may_be_monitored() -> None:
    losses = iter([3.0, 2.0, 2.5, 2.2, 2.1])
    assert len(quiet(lambda x: next(losses), [0], 9, monitor="loss", mode="min", patience=3)) == 5


@pytest.mark.parametrize("reserved", ["epoch", "loss"])
def test_metrics_do_not_hide_the_columns_of_the_loop(reserved: str) -> None:
    with pytest.raises(ValueError, match=f"`evaluate` must not return .*{reserved}"):
        Line().fit(1, evaluate=lambda: {reserved: 1.0})


def test_the_monitored_metric_must_be_there() -> None:
    with pytest.raises(ValueError, match=r"monitored 'score', got \['accuracy'\]"):
        Line().fit(1, evaluate=lambda: {"accuracy": 1.0}, monitor="score")


def test_a_torch_scheduler_steps_once_an_epoch() -> None:
    line = Line()
    line.fit(3, scheduler=torch.optim.lr_scheduler.ExponentialLR(line.optimizer, 0.5))
    assert line.optimizer.param_groups[0]["lr"] == pytest.approx(0.05 / 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_epochs": -1}, "`num_epochs` must be at least 0, got -1"),
        ({"evaluate_every": 0}, "`evaluate_every` must be at least 1, got 0"),
        ({"checkpoint_every": 0}, "`checkpoint_every` must be at least 1, got 0"),
        ({"mode": "best"}, "`mode` must be 'max' or 'min', got 'best'"),
        ({"patience": 3}, "needs `monitor`"),
        ({"patience": 0, "monitor": "loss"}, "`patience` must be at least 1"),
        ({"monitor": "score"}, "where there is no `evaluate`, got 'score'"),
        ({"checkpoint": "run.pt"}, "`checkpoint` needs `state`"),
        ({"state": {"step": float}}, "got type as 'step'"),
        ({"state": {"scheduler": nn.Linear(1, 1)}, "scheduler": nn.Linear(1, 1)}, "another object 'scheduler'"),
    ],
)
def test_arguments_out_of_place(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quiet(float, [1], **({"num_epochs": 1} | settings))


# The table of metrics.


def test_the_table_is_the_history(tmp_path: Path) -> None:
    history = Line().fit(3, evaluate=scores(0.1, 1 / 3, 2), metrics=tmp_path / "new" / "run.csv")
    assert [
        {name: float(text) for name, text in row.items()} for row in rows_of(tmp_path / "new" / "run.csv")
    ] == history


def test_every_row_is_on_disk_at_once(tmp_path: Path) -> None:
    lengths: list[int] = []
    line, file = Line(), tmp_path / "run.csv"

    def evaluate() -> dict[str, float]:
        lengths.append(len(rows_of(file)))
        return {"rows": 0.0}

    line.fit(3, evaluate=evaluate, metrics=file)
    assert lengths == [0, 1, 2]


def test_a_later_metric_becomes_a_further_column(tmp_path: Path) -> None:
    Line().fit(3, evaluate=scores(7, 8), evaluate_every=2, metrics=tmp_path / "run.csv")
    rows = rows_of(tmp_path / "run.csv")
    assert [list(row) for row in rows] == [["epoch", "loss", "score"]] * 3
    assert [row["score"] for row in rows] == ["", "7.0", "8.0"]


def test_a_fresh_run_overwrites_the_table(tmp_path: Path) -> None:
    for num_epochs in (3, 2):
        Line().fit(num_epochs, metrics=tmp_path / "run.csv")
    assert len(rows_of(tmp_path / "run.csv")) == 2


# Progress.


def test_no_bar_where_the_output_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    Line().fit(1, progress=True)
    assert capfd.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("progress", [True, False])
def test_the_bar_shows_loss_and_last_metrics(progress: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    Line().fit(3, progress=progress, evaluate=scores(7.5, 8), evaluate_every=2)
    text = terminal.getvalue()
    assert ("3/3" in text and "loss=" in text and "score=8" in text) if progress else text == ""
