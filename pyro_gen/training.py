"""The training loop: epochs over batches, with evaluation, schedule, early
stopping, metrics, checkpoint and resume.

A run that is killed and started again with the same script goes on from its
checkpoint bit for bit, because the checkpoint holds whatever learning changes,
the history and the random number generators, and is only replaced whole.
"""

from __future__ import annotations

import csv
import math
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset, IterableDataset
from tqdm.auto import tqdm

from pyro_gen._archives import load_tensors
from pyro_gen._arguments import whole_number
from pyro_gen._files import replacing
from pyro_gen._state import (
    Steps,
    capture,
    collect,
    get_random,
    kinds,
    learners,
    load,
    missing,
    set_random,
    warn_of,
)

History: TypeAlias = list[dict[str, float]]
Module = TypeVar("Module", bound=nn.Module)

SMALL_SET = 1000
"""Training rows below which batches and rate are smaller, and the best state on
the validation rows is kept.
"""

_FORMAT = "pyro_gen.training.fit, version 1"
_OWN_FORMAT = "pyro_gen.training.Checkpoint, version 1"
_LOST = (
    "a resumed run is not this run, as its checkpoint lacks what learns here: {}; give it in "
    "`state`"
)
_AFRESH = (
    "the checkpoint `{}` lacks {}, which the run started afresh; begin anew with `resume=False` "
    "or another file"
)


class Scheduler(Protocol):
    """Schedule of the learning rate, stepped once an epoch: a torch scheduler, or
    one of Pyro's.
    """

    def step(self) -> object:
        """Advance by one epoch."""


def fit(
    step: Callable[..., float | Tensor],
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    num_epochs: int,
    *,
    state: Mapping[str, Any] | None = None,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    evaluate_every: int = 1,
    evaluate_start: bool = False,
    monitor: str | None = None,
    mode: Literal["max", "min"] = "max",
    patience: int | None = None,
    scheduler: Scheduler | None = None,
    metrics: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1,
    resume: bool = True,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
    on_step: Callable[[int, int, float | Tensor], object] | None = None,
    on_epoch: Callable[[dict[str, float]], object] | None = None,
) -> History:
    """Train for `num_epochs` epochs, or go on from the checkpoint of the same run.

    An epoch calls `step` on every batch, then `scheduler.step()`, then
    `evaluate()`, and appends a row to the history: `epoch` (counted from 1),
    `loss` (mean over the batches, each with the same weight) and what
    `evaluate` returned.

    What makes its parameters at its first call (an autoguide, `pyro.param`
    inside a function) must have been called once before `fit`, so that there is
    something to load into: `guide(batch)` is enough. Modules need nothing.

    Args:
        step: one gradient step, returning the loss: `svi.step`, or a function
            of your own. A loss on an accelerator is read once an epoch, so the
            device need not wait.
        batches: an iterable that restarts each epoch, as
            ``datasets.minibatches(x, 100)`` or ``[x]`` for all rows at once, or
            a function of the epoch that returns an iterable. A batch that is a
            tuple or a list becomes the arguments of `step`, everything else its
            one argument.
        num_epochs: total number of epochs, those before a resume included.
        state: by name, everything that learning changes: modules, torch
            optimisers, `PyroOptim`, `pyro.get_param_store()`,
            `torch.Generator`, and what else has `state_dict` and
            `load_state_dict`, or `get_state` and `set_state`, made of tensors
            and plain Python values. Where `state` is given, what learns behind
            `step` (optimisers, schedulers, averages, modules; torch generators
            behind `batches` too) joins it under the names of its variables.
        evaluate: returns metrics by name. It also looks after `eval()` and
            `train()` of the modules.
        evaluate_every: number of epochs between evaluations; the last epoch is
            always evaluated.
        evaluate_start: evaluate before the first epoch too, as epoch 0 of the
            history, so that the best state is never worse than the start; the
            random numbers of the training are those without it.
        monitor: the metric (or `"loss"`) whose best value decides: `state` is
            put back to that epoch in the end.
        mode: whether the best value of `monitor` is the largest or the
            smallest; NaN is never the best.
        patience: stop after so many evaluations without a better value of
            `monitor`.
        scheduler: its `step()` is called once an epoch; its state is kept along
            with `state`.
        metrics: CSV file of the history, one row an epoch. A fresh run
            overwrites it, a resumed one cuts it back to the epoch of the
            checkpoint.
        checkpoint: file for `state`, best state, history and the states of the
            random number generators of torch (CPU and CUDA), numpy and Python.
            It is read with `weights_only=True`: loading it runs no code.
        checkpoint_every: number of epochs between checkpoints; the last epoch
            always writes one.
        settings: what makes this run what it is (recipe, data, seed), of plain
            Python values. A checkpoint of other settings is refused.
        resume: go on from `checkpoint` where that file exists; without, it is
            overwritten.
        progress: show a progress bar, in a terminal or a notebook.
        on_step: called after each step with the epoch, the number of the batch,
            both counted from 1, and the loss as `step` returned it.
        on_epoch: called after each epoch with its row of the history, for
            TensorBoard, Weights & Biases or a picture; the checkpoint is
            written by then. What it draws at random does not change the
            training.

    Returns:
        The history, a list with one dictionary an epoch, epoch 0 without a
        loss. A run that had finished already returns the history of its
        checkpoint, with `state` as it was in the end.

    Raises:
        ValueError: An argument is out of place, `batches` is empty or is rows
            instead of batches, or the checkpoint is corrupt or belongs to other
            objects; the file and `state` are then as they were.
        FloatingPointError: A loss is infinite or not a number; the last
            checkpoint stays as it was.

    Warns:
        UserWarning: Something learns and no checkpoint can hold it; the message
        names it.

    Example:
        >>> line = torch.nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(line.parameters(), lr=0.1)
        >>> def step(x, y):
        ...     optimizer.zero_grad()
        ...     loss = (line(x) - y).square().mean()
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss
        >>> x = torch.linspace(-1, 1, 8)[:, None]
        >>> history = fit(step, [(x, 2 * x)], 50, state={"line": line,
        ...     "optimizer": optimizer}, progress=False)
        >>> len(history), history[-1]["loss"] < 0.01
        (50, True)
    """
    _check_counts(num_epochs, evaluate_every, checkpoint_every)
    _check_batches(batches, num_epochs)
    watch = _Monitor(monitor or "", mode, patience)
    watch.check(evaluate)
    if evaluate_start and evaluate is None:
        raise ValueError("`evaluate_start` needs `evaluate`, got none")
    if checkpoint is not None and not state:
        raise ValueError(
            "`checkpoint` needs `state`, the modules and optimisers that learning changes, got "
            "none"
        )
    entries = collect(state or {}, scheduler)
    roots = {"step": step, "scheduler": scheduler, "batches": batches} if state else {}
    unnamed, stateless = learners(roots, entries)
    header = _header(entries, watch, settings)
    file = None if checkpoint is None else Path(checkpoint)
    history, best = (
        _resume(file, entries, unnamed, header) if file is not None and resume else ([], None)
    )
    entries |= unnamed
    header = _header(entries, watch, settings)
    if evaluate_start and evaluate is not None and not history:
        history.append(_start(evaluate, watch.name))
        best = deepcopy(capture(entries)) if watch.best_epoch(history) == 0 else None
    table = None if metrics is None else _Table(Path(metrics), history)
    shown: dict[str, float] = {}
    unwatched = file is not None
    with tqdm(
        total=num_epochs, initial=_done(history), unit="epoch", disable=None if progress else True
    ) as bar:
        while _done(history) < num_epochs and not watch.exhausted(history):
            epoch = _done(history) + 1
            with Steps() if unwatched else nullcontext() as steps:
                row = _train(step, batches, epoch, on_step)
            if steps is not None:
                warn_of(missing(steps, entries, stateless), _LOST.format)
                unwatched = False
            if scheduler is not None:
                scheduler.step()
            if evaluate is not None and (epoch % evaluate_every == 0 or epoch == num_epochs):
                row |= _evaluate(evaluate, watch.name)
            history.append(row)
            if watch.best_epoch(history) == epoch:
                best = deepcopy(capture(entries))
            if table is not None:
                table.add(history)
            last = epoch == num_epochs or watch.exhausted(history)
            if file is not None and (last or epoch % checkpoint_every == 0):
                _save(file, entries, header, history, best)
            _report(on_epoch, row)
            shown |= row
            bar.set_postfix(
                {name: value for name, value in shown.items() if name != "epoch"}, refresh=False
            )
            bar.update()
    if best is not None:
        load(entries, best)
    return history


class Checkpoint:
    """Everything that a training loop of your own changes, in one file.

    A run that is killed and started again with the same script goes on bit for
    bit from the last `save`. The file holds the state of the objects, the random
    number generators of torch (CPU and CUDA), numpy and Python, and the numbers
    that you give. Put `datasets.minibatches` among the objects to go on in the
    middle of an epoch.

    Args:
        path: the file; it is replaced whole.
        state: by name, everything that learning changes, as for :func:`fit`.
        settings: what makes this run what it is (recipe, data, seed), of plain
            Python values. A file of other settings is refused.

    Raises:
        ValueError: an object has no state that could be saved.

    Example:
        >>> line = torch.nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(line.parameters(), lr=0.1)
        >>> checkpoint = Checkpoint(getfixture("tmp_path") / "run.pt",
        ...     {"line": line, "optimizer": optimizer})
        >>> start = checkpoint.restore(step=0)["step"]
        >>> for step in range(start, 10):
        ...     loss = line(torch.ones(1, 1)).square().sum()
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        ...     checkpoint.save(step=step + 1)
        >>> checkpoint.restore(step=0)
        {'step': 10}
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        state: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.state = collect(state, None)
        self.settings = dict(settings or {})

    def save(self, **numbers: Any) -> None:
        """Write the file.

        Args:
            **numbers: where the loop is, of plain Python values.

        Raises:
            ValueError: something is not made of tensors and plain values; the
                file stays as it was.
        """
        _write(
            self.path,
            self._header()
            | {
                "state": capture(self.state),
                "numbers": numbers,
                "random": get_random(),
            },
        )

    def restore(self, **numbers: Any) -> dict[str, Any]:
        """Load the file into the objects, where there is one.

        Args:
            **numbers: those of a run that starts.

        Returns:
            The numbers that were saved, or those given.

        Raises:
            ValueError: the file is corrupt or of another run; nothing is loaded
                then.
        """
        if not self.path.exists():
            return numbers
        payload = load_tensors(self.path, "checkpoint")
        if not isinstance(payload, dict) or payload.get("format") != _OWN_FORMAT:
            raise ValueError(f"`{self.path}` is not a file of pyro_gen.training.Checkpoint")
        if payload["numbers"].keys() != numbers.keys():
            raise ValueError(
                f"the checkpoint `{self.path}` has the numbers {sorted(payload['numbers'])}, got "
                f"{sorted(numbers)}"
            )
        _load(self.path, self.state, payload, self._header())
        set_random(payload["random"])
        return dict(payload["numbers"])

    def _header(self) -> dict[str, Any]:
        """Header on which the script and its file must agree."""
        return {
            "format": _OWN_FORMAT,
            "state objects": kinds(self.state),
            "settings": self.settings,
        }


def read_checkpoint(
    path: str | os.PathLike[str], state: Mapping[str, Any], *, best: bool = False
) -> History:
    """Load objects from a checkpoint of :func:`fit`, without training.

    Args:
        path: the file.
        state: by the names under which `fit` had them, some or all of the
            objects.
        best: the state of the best epoch of `monitor` in place of the last one.

    Returns:
        The history.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is corrupt, of other objects, or has no best state;
            nothing is loaded then.

    Example:
        >>> line = torch.nn.Linear(1, 1)
        >>> def step(x):
        ...     return line(x).square().mean()
        >>> file = getfixture("tmp_path") / "run.pt"
        >>> history = fit(step, [torch.ones(2, 1)], 3, state={"line": line},
        ...     checkpoint=file, progress=False)
        >>> read_checkpoint(file, {"line": torch.nn.Linear(1, 1)}) == history
        True
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    payload = _read(path)
    entries = collect(state, None)
    saved = payload["state objects"]
    if unknown := sorted(entries.keys() - saved.keys()):
        raise ValueError(
            f"`state` must have names among {sorted(saved)}, those of `{path}`, got {unknown}"
        )
    if best and payload["best"] is None:
        raise ValueError(f"`{path}` has no best state: `fit` had no `monitor`")
    header = {"state objects": {name: saved[name] for name in entries}}
    states = payload["best"] if best else payload["state"]
    expected = {"state objects": kinds(entries)}
    _load(path, entries, header | {"state": states}, expected)
    history: History = payload["history"]
    return history


def small_batch(rows: int, most: int = 100) -> int:
    """Rows of a batch for a data set: `most`, and fewer where an epoch would be less
    than ten steps.

    Args:
        rows: of the training set.
        most: rows of a batch for a set that is not small.

    Returns:
        A tenth of the rows, at least 10 and at most `most`.

    Raises:
        ValueError: An argument is no whole number of at least 1.

    Example:
        >>> small_batch(60_000), small_batch(1044), small_batch(300), small_batch(20)
        (100, 100, 30, 10)
    """
    return min(whole_number("most", most), max(10, whole_number("rows", rows) // 10))


def keep_best(
    score: Callable[[], float | Tensor], rows: int, num_epochs: int, monitor: str = "valid"
) -> dict[str, Any]:
    """Settings of :func:`fit` that keep the best state of a small set, the start included.

    None for a larger set.

    Args:
        score: larger where the model is better, such as the log likelihood of
            validation rows; no gradients flow.
        rows: of the training set.
        num_epochs: of the training, in which the score is computed about twenty
            times.
        monitor: name of the score in the history.

    Returns:
        Keyword arguments: ``evaluate``, ``evaluate_every``, ``evaluate_start``
        and ``monitor`` below `SMALL_SET` rows.

    Raises:
        ValueError: A count is no whole number.

    Example:
        >>> keep_best(lambda: 0.0, rows=50_000, num_epochs=100)
        {}
        >>> keep_best(lambda: 0.0, rows=300, num_epochs=100)["evaluate_every"]
        5
    """
    num_epochs = whole_number("num_epochs", num_epochs, 0)
    if whole_number("rows", rows) >= SMALL_SET:
        return {}

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        return {monitor: float(score())}

    every = max(1, num_epochs // 20)
    return {
        "evaluate": evaluate,
        "evaluate_every": every,
        "evaluate_start": True,
        "monitor": monitor,
    }


def running_average(module: Module, decay: float) -> tuple[AveragedModel, Module]:
    """A running average of a module's parameters, and the copy of the module that
    holds them, with its own type.

    Args:
        module: the module that learns; call
            ``average.update_parameters(module)`` after every step.
        decay: what is kept of the average in a step.

    Returns:
        The average, to be kept in the ``state`` of :func:`fit`, and its module,
        to be evaluated.

    Example:
        >>> average, averaged = running_average(torch.nn.Linear(1, 1), 0.99)
        >>> averaged
        Linear(in_features=1, out_features=1, bias=True)
    """
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))
    return average, cast(Module, average.module)


@torch.no_grad()
def use_average(module: nn.Module, average: AveragedModel) -> None:
    """Put the averaged parameters in the place of a module's own; its buffers stay as they are.

    Args:
        module: the module that learned.
        average: the running average of its parameters.

    Example:
        >>> line = torch.nn.Linear(1, 1)
        >>> average, _ = running_average(line, 0.5)
        >>> for weight in (0.0, 4.0):
        ...     _ = torch.nn.init.constant_(line.weight, weight)
        ...     average.update_parameters(line)
        >>> use_average(line, average)
        >>> line.weight.item()
        2.0
    """
    for parameter, averaged in zip(module.parameters(), average.parameters(), strict=True):
        parameter.copy_(averaged)


def _check_counts(num_epochs: int, evaluate_every: int, checkpoint_every: int) -> None:
    whole_number("num_epochs", num_epochs, 0)
    whole_number("evaluate_every", evaluate_every)
    whole_number("checkpoint_every", checkpoint_every)


def _check_batches(batches: Any, num_epochs: int) -> None:
    """Refuse rows in the place of batches, and what can be iterated only once."""
    if (
        isinstance(batches, Iterator)
        and type(batches).__module__ in {"builtins", "itertools"}
        and num_epochs > 1
    ):
        kind = type(batches).__name__
        raise ValueError(
            f"`batches` must give at least one batch each time it is iterated, got a {kind}, "
            "which gives none in "
            "epoch 2: pass a list, `datasets.minibatches(x, 100)`, or a function of the epoch "
            "that returns the iterator"
        )
    if not callable(batches) or isinstance(batches, Iterable):
        _check_not_rows(batches)


def _check_not_rows(batches: Any) -> None:
    rows = hasattr(batches, "__array__") or isinstance(
        batches, str | bytes | os.PathLike | Mapping
    )
    data = isinstance(batches, Dataset) and not isinstance(batches, IterableDataset)
    if rows or data or not (isinstance(batches, Iterable) or hasattr(batches, "__getitem__")):
        raise ValueError(
            f"`batches` must be an iterable of batches, got {_described(batches)}: pass "
            "`datasets.minibatches(x, 100)`, a `DataLoader`, or `[x]` for all rows at once"
        )
    if isinstance(batches, list | tuple):
        dims = {part.dim() for part in batches if isinstance(part, Tensor)}
        if len(dims) > 1:
            shapes = ", ".join(str(tuple(part.shape)) for part in batches[:3])
            raise ValueError(
                "`batches` must hold batches with as many dimensions as each other, got tensors "
                f"of shapes {shapes}: "
                "pass `[(x, y)]` for one batch of two tensors, or `datasets.minibatches` of the "
                "rows' numbers"
            )


def _described(batches: Any) -> str:
    shape = getattr(batches, "shape", None)
    kind = type(batches).__name__
    if shape is None:
        return f"a {kind}"
    return f"a {kind} of shape {tuple(shape)}, whose rows are no batches"


def _done(history: History) -> int:
    if history:
        return int(history[-1]["epoch"])
    return 0


def _start(evaluate: Callable[[], Mapping[str, float]], monitor: str) -> dict[str, float]:
    """The row of epoch 0.

    The random number generators are put back, so that the training is as
    without it.
    """
    random = get_random()
    values = _evaluate(evaluate, monitor)
    set_random(random)
    return {"epoch": 0, **values}


def _train(
    step: Callable[..., float | Tensor],
    batches: Any,
    epoch: int,
    on_step: Callable[[int, int, float | Tensor], object] | None,
) -> dict[str, float]:
    """Take the steps of an epoch and begin its row of the history."""
    losses: list[float | Tensor] = []
    if callable(batches):
        batches = batches(epoch)
        _check_not_rows(batches)
    for number, batch in enumerate(batches, start=1):
        loss = step(*batch) if isinstance(batch, tuple | list) else step(batch)
        if isinstance(loss, Tensor) and loss.device.type != "cpu":
            # to be read after the epoch: reading it here makes the device wait
            losses.append(loss.detach().clone())
        else:
            losses.append(_finite(loss, epoch, number))
        if on_step is not None:
            on_step(epoch, number, loss)
    if not losses:
        raise ValueError(
            "`batches` must give at least one batch each time it is iterated, got none in epoch "
            f"{epoch}"
        )
    total = math.fsum(_finite(loss, epoch, number) for number, loss in enumerate(losses, start=1))
    return {"epoch": epoch, "loss": total / len(losses)}


def _report(on_epoch: Callable[[dict[str, float]], object] | None, row: dict[str, float]) -> None:
    """Call a function of the user's without an effect on the random numbers."""
    if on_epoch is None:
        return
    random = get_random()
    on_epoch(dict(row))
    set_random(random)


def _finite(loss: float | Tensor, epoch: int, batch: int) -> float:
    try:
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"`step` must return a float or a tensor with one element, got {loss!r}"
        ) from error
    if not math.isfinite(value):
        raise FloatingPointError(
            f"`step` must return a finite loss, got {value} in epoch {epoch}, batch {batch}"
        )
    return value


def _evaluate(evaluate: Callable[[], Mapping[str, float]], monitor: str) -> dict[str, float]:
    values = {name: float(value) for name, value in evaluate().items()}
    if reserved := values.keys() & {"epoch", "loss"}:
        raise ValueError(
            f"`evaluate` must not return {sorted(reserved)}, which are columns of the loop itself"
        )
    if monitor not in {"", "loss", *values}:
        raise ValueError(f"`evaluate` must return the monitored {monitor!r}, got {sorted(values)}")
    return values


@dataclass(frozen=True)
class _Monitor:
    """Choice of the best epoch and of when to stop, read off the history alone: a
    resumed run decides alike.
    """

    name: str
    mode: str
    patience: int | None

    def check(self, evaluate: object) -> None:
        if self.mode not in {"max", "min"}:
            raise ValueError(f"`mode` must be 'max' or 'min', got {self.mode!r}")
        if self.patience is not None and not self.name:
            raise ValueError(f"`patience` needs `monitor`, got {self.patience} and {self.name!r}")
        if self.patience is not None:
            whole_number("patience", self.patience)
        if self.name not in {"", "loss"} and evaluate is None:
            raise ValueError(
                f"`monitor` must be 'loss' where there is no `evaluate`, got {self.name!r}"
            )

    def best_epoch(self, history: History) -> int | None:
        """Return the first epoch with the best value, None where there is none."""
        values = {int(row["epoch"]): row[self.name] for row in history if self.name in row}
        finite = [epoch for epoch, value in values.items() if not math.isnan(value)]
        best = max if self.mode == "max" else min
        return best(finite, key=values.__getitem__, default=None)

    def exhausted(self, history: History) -> bool:
        if self.patience is None:
            return False
        best = self.best_epoch(history)
        later = [row for row in history if best is None or row["epoch"] > best]
        return sum(self.name in row for row in later) >= self.patience


class _Table:
    """The history as a CSV file that grows by one row an epoch.

    A new metric rewrites it with one more column.
    """

    def __init__(self, path: Path, history: History) -> None:
        self.path = path
        self._rewrite(history)

    def add(self, history: History) -> None:
        if not history[-1].keys() <= set(self.columns):
            return self._rewrite(history)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            self._writer(file).writerow(history[-1])

    def _rewrite(self, history: History) -> None:
        self.columns = list(dict.fromkeys(name for row in history for name in row))
        with replacing(self.path) as part, part.open("w", newline="", encoding="utf-8") as file:
            if history:
                self._writer(file).writeheader()
                self._writer(file).writerows(history)

    def _writer(self, file: TextIO) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self.columns, lineterminator="\n")


def _save(
    path: Path, entries: dict[str, Any], header: dict[str, Any], history: History, best: Any
) -> None:
    _write(
        path,
        header
        | {
            "history": history,
            "state": capture(entries),
            "best": best,
            "random": get_random(),
        },
    )


def _write(path: Path, payload: dict[str, Any]) -> None:
    with replacing(path) as part, part.open("wb") as file:
        # what could not be read back must not replace what can; with mmap the
        # tensors themselves are not read
        try:
            torch.save(payload, file)
            file.flush()
            torch.load(part, weights_only=True, mmap=True)
        except (pickle.PickleError, AttributeError, TypeError) as error:
            raise ValueError(
                f"`state` must be made of tensors and plain Python values: {error}"
            ) from error
        os.fsync(file.fileno())


def _header(
    entries: dict[str, Any], watch: _Monitor, settings: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Header on which the script and its checkpoint must agree."""
    objects = {"state objects": kinds(entries), "monitor": watch.name, "mode": watch.mode}
    return {"format": _FORMAT, **objects, "settings": dict(settings or {})}


def _resume(
    path: Path, entries: dict[str, Any], unnamed: dict[str, Any], header: dict[str, Any]
) -> tuple[History, Any]:
    """Load what `path` holds, where it exists, into the entries, what was found
    besides, and the random numbers.

    What was found behind the step may be missing from a file; what the user
    named may not.
    """
    if not path.exists():
        return [], None
    payload = _read(path)
    saved = payload.get("state objects", {})
    shared = {name: thing for name, thing in unnamed.items() if name in saved}
    header = header | {"state objects": kinds(entries | shared)}
    _load(path, entries | shared, payload, header)
    set_random(payload["random"])
    absent = {name: thing for name, thing in unnamed.items() if name not in saved}
    warn_of(
        (f"{kind} `{name}`" for name, kind in kinds(absent).items()), partial(_AFRESH.format, path)
    )
    best = payload["best"]
    return payload["history"], best if best is None else best | {
        n: capture({n: t})[n] for n, t in absent.items()
    }


def _load(
    path: Path, entries: dict[str, Any], payload: Mapping[str, Any], header: Mapping[str, Any]
) -> None:
    """Load the entries, or raise and leave them as they were."""
    try:
        for what, expected in header.items():
            if payload.get(what) != expected:
                raise ValueError(f"{what} must be {expected!r}, got {payload.get(what)!r}")
        load(entries, payload["state"])
    except ValueError as error:
        raise ValueError(
            f"the checkpoint `{path}` is not of this run, nothing was loaded: {error}"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    payload = load_tensors(path, "checkpoint")
    if not isinstance(payload, dict) or payload.get("format") in (None, _OWN_FORMAT):
        raise ValueError(
            f"`{path}` is not a checkpoint of pyro_gen.training.fit; it is left as it is"
        )
    return payload


__all__ = [
    "SMALL_SET",
    "Checkpoint",
    "History",
    "Scheduler",
    "fit",
    "keep_best",
    "read_checkpoint",
    "running_average",
    "small_batch",
    "use_average",
]
