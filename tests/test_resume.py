"""Checkpoints: after any interruption a run goes on bit for bit, and a bad or foreign file costs nothing."""

from __future__ import annotations

import math
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pyro_gen import training
from pyro_gen._state import get_random
from pyro_gen.datasets import minibatches
from pyro_gen.infer import PersistentChains, contrastive_gradient
from pyro_gen.nn import RBM
from pyro_gen.training import History
from tests import forked
from tests.runs import RUNS, Line, Program, quiet, rows_of, run, same, scores


def states_of(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry.state_dict() for name, entry in state.items()}


def payload_of(path: Path) -> dict[str, Any]:
    payload: dict[str, Any] = torch.load(path, weights_only=True)
    return payload


def in_new_process(name: str, folder: Path, kill: int = 0) -> int:
    return forked.run(["-m", "tests.runs", name, str(folder), str(kill)]).returncode


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(name, whole)
    assert in_new_process(name, broken, kill=15) == -signal.SIGKILL  # the third of four batches of epoch 4
    assert len(payload_of(broken / "run.pt")["history"]) == 2
    assert len(rows_of(broken / "run.csv")) == 3
    assert in_new_process(name, broken) == 0
    assert same(payload_of(whole / "run.pt"), payload_of(broken / "run.pt"))
    assert same(torch.load(whole / "end.pt"), torch.load(broken / "end.pt"))
    assert (whole / "run.csv").read_bytes() == (broken / "run.csv").read_bytes()


@pytest.mark.parametrize("first", range(5))
@pytest.mark.smoke
def test_a_run_in_two_parts_is_the_run(first: int, tmp_path: Path) -> None:
    whole = Line()
    history = whole.fit(4)
    Line().fit(first, checkpoint=tmp_path / "run.pt")
    rest = Line()
    assert rest.fit(4, checkpoint=tmp_path / "run.pt") == history
    assert same(rest.values(), whole.values())
    assert rest.calls == 3 * (4 - first)


def test_a_finished_run_returns_its_history_and_best_state(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"checkpoint": tmp_path / "run.pt", "monitor": "score", "patience": 2}
    line, again = Line(), Line()
    history = line.fit(9, evaluate=scores(1, 2, 0, 0), **settings)
    assert again.fit(9, evaluate=scores(), metrics=tmp_path / "run.csv", **settings) == history
    assert len(rows_of(tmp_path / "run.csv")) == len(history)
    assert again.calls == 0
    assert same(again.values(), line.values())


def test_the_last_epoch_always_writes_a_checkpoint(tmp_path: Path) -> None:
    Line().fit(5, checkpoint=tmp_path / "run.pt", checkpoint_every=3)
    assert len(payload_of(tmp_path / "run.pt")["history"]) == 5


def test_without_resume_a_run_starts_anew(tmp_path: Path) -> None:
    history = Line().fit(2, checkpoint=tmp_path / "run.pt")
    again = Line()
    assert again.fit(2, checkpoint=tmp_path / "run.pt", resume=False) == history
    assert again.calls == 6


def test_writing_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    assert Line().fit(3) == Line().fit(3, checkpoint=tmp_path / "run.pt")


def test_only_the_checkpoint_lies_in_its_folder(tmp_path: Path) -> None:
    Line().fit(2, checkpoint=tmp_path / "deep" / "run.pt")
    assert os.listdir(tmp_path / "deep") == ["run.pt"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_gets_through_and_the_run_goes_on(interruption: type[BaseException], tmp_path: Path) -> None:
    line, file = Line(), tmp_path / "run.pt"

    def step(x: Tensor) -> Tensor:
        if line.calls == 7:
            raise interruption
        return line.step(x)

    with pytest.raises(interruption):
        quiet(step, line.batches, 5, state=line.state, checkpoint=file)
    assert len(payload_of(file)["history"]) == 2
    rest = Line()
    history = rest.fit(5, checkpoint=file)
    whole = Line()
    assert whole.fit(5) == history
    assert same(rest.values(), whole.values())


def test_a_failing_write_spares_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line, file = Line(), tmp_path / "run.pt"
    line.fit(1, checkpoint=file)
    before = file.read_bytes()

    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        line.fit(2, checkpoint=file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.pt"]


class Odd:
    """An entry whose state is whatever it is given."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def get_state(self) -> dict[str, Any]:
        return {"value": self.value}

    def set_state(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


@pytest.mark.parametrize("value", [np.zeros(3), Path("x"), lambda: 0, Line], ids=["array", "path", "lambda", "class"])
def test_a_state_that_could_not_be_read_back_is_refused(value: Any, tmp_path: Path) -> None:
    line, file = Line(), tmp_path / "run.pt"
    odd = Odd(1)
    line.fit(1, state=line.state | {"odd": odd}, checkpoint=file)
    before, odd.value = file.read_bytes(), value
    with pytest.raises(ValueError, match="tensors and plain Python values"):
        line.fit(2, state=line.state | {"odd": Odd(value)}, checkpoint=tmp_path / "other.pt")
    assert not (tmp_path / "other.pt").exists()
    assert file.read_bytes() == before


def damages(good: bytes) -> Iterator[bytes]:
    """Truncated anywhere, one bit flipped anywhere, something else altogether."""
    yield from (good[: len(good) * i // 20] for i in range(20))
    yield good[:-1]
    yield from (b"", b"\x80\x02}q\x00.", b"epoch,loss\n1,2.0\n", bytes(len(good)), good + b"x" * 70000)
    draw = random.Random(0)
    for _ in range(200):
        bad = bytearray(good)
        bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        yield bytes(bad)


def test_a_damaged_checkpoint_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    file, table, line = tmp_path / "run.pt", tmp_path / "run.csv", Line()
    history = line.fit(2, checkpoint=file, metrics=table)
    good, rows = file.read_bytes(), table.read_bytes()
    refused = 0
    for bad in damages(good):
        file.write_bytes(bad)
        other, message = Line(), ""
        start = other.values()
        try:
            assert other.fit(2, checkpoint=file, metrics=table) == history  # a flipped bit of padding harms nothing
        except ValueError as error:
            message = str(error)
            refused += 1
        assert f"`{file}`" in message or not message
        assert same(other.values(), start if message else line.values())
        assert (file.read_bytes(), table.read_bytes(), other.calls) == (bad, rows, 0)
    assert refused > 200


def other_runs() -> dict[str, tuple[Callable[[Line], dict[str, Any]], str]]:
    """Runs that do not fit a checkpoint of `Line()`: how their settings differ, what the error says."""
    adam = torch.optim.Adam
    return {
        "shape": (
            lambda line: {"state": Line(4).state},
            r"`net.weight` must be float32 of shape \(1, 4\), got .*\(1, 3\)",
        ),
        "dtype": (
            lambda line: {"state": Line(dtype=torch.float64).state},
            r"`net.weight` must be float64 .*, got float32",
        ),
        "name": (lambda line: {"state": {"model": line.net, "optimizer": line.optimizer}}, r"'model'.*got .*'net'"),
        "kind": (
            lambda line: {"state": line.state | {"optimizer": adam(line.net.parameters())}},
            "'Adam'.*got .*'SGD'",
        ),
        "groups": (
            lambda line: {"state": line.state | {"optimizer": torch.optim.SGD([line.net.weight], 0.1)}},
            "`optimizer` cannot take the state",
        ),
        "monitor": (lambda line: {"monitor": "loss"}, "monitor must be 'loss', got ''"),
        "bias": (
            lambda line: {"state": {"net": nn.Linear(3, 1, bias=False), "optimizer": line.optimizer}},
            r"`net` cannot take the state .*Unexpected key.*bias",
        ),
    }


@pytest.mark.parametrize("what", other_runs())
def test_the_checkpoint_of_another_run_is_refused_and_nothing_is_lost(what: str, tmp_path: Path) -> None:
    file, line = tmp_path / "run.pt", Line()
    Line().fit(2, checkpoint=file)
    before = file.read_bytes()
    settings, message = other_runs()[what]
    chosen = {"state": line.state} | settings(line)
    line.fit(1, state=chosen["state"])  # so that the optimiser has a state to lose
    states, generator = deepcopy(states_of(chosen["state"])), torch.get_rng_state()
    with pytest.raises(ValueError, match=r"(?s)`.*run\.pt` is not of this run, nothing was loaded: .*" + message):
        line.fit(4, checkpoint=file, **chosen)
    assert same(states_of(chosen["state"]), states)
    assert torch.equal(torch.get_rng_state(), generator)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "content", [{"weight": torch.zeros(2)}, [1, 2], {"format": "pyro_gen.training.fit, version 0"}]
)
def test_another_file_is_not_taken_for_a_checkpoint(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"run\.pt` is not (a checkpoint|of this run.*version 1', got .*version 0')"):
        Line().fit(1, checkpoint=tmp_path / "run.pt")
    assert same(torch.load(tmp_path / "run.pt"), content)


def test_loading_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    torch.save({"format": partial(print, "hello")}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="corrupt or truncated and left as it is: Weights only load failed"):
        Line().fit(1, checkpoint=tmp_path / "run.pt")


# Pyro: parameters that live in the store, optimisers that make their state late.


def test_the_parameter_store_and_a_pyro_optimiser_go_on_bit_for_bit(tmp_path: Path) -> None:
    whole = Program()
    history = whole.fit(6)
    values, moments = whole.values(), whole.optim.get_state()
    Program().fit(3, checkpoint=tmp_path / "run.pt")
    rest = Program()
    rest.svi.evaluate_loss(rest.batches[0])  # makes the parameters
    assert rest.fit(6, checkpoint=tmp_path / "run.pt") == history
    assert same(rest.values(), values)
    assert same(rest.optim.get_state(), moments)
    assert pyro.get_param_store()._params["net$$$weight"] is rest.net.weight


def test_modules_alone_need_no_call_before(tmp_path: Path) -> None:
    def train(*epochs: int, **settings: Any) -> tuple[History, dict[str, Tensor]]:
        for num_epochs in epochs:
            pyro.clear_param_store()
            pyro.set_rng_seed(2)
            net, x = nn.Linear(1, 1), torch.randn(5, 1)
            optim = pyro.optim.Adam({"lr": 0.1})

            def model(x: Tensor, net: nn.Module = net) -> None:
                pyro.sample("x", dist.Normal(pyro.module("net", net)(x), 1.0).to_event(2), obs=x)

            step = SVI(model, lambda x: None, optim, Trace_ELBO()).step
            history = quiet(step, [x], num_epochs, state={"net": net, "optim": optim}, **settings)
        return history, net.state_dict()

    assert same(train(2, 5, checkpoint=tmp_path / "run.pt"), train(5))


def test_a_pyro_optimiser_that_has_stepped_already_takes_the_checkpoint(tmp_path: Path) -> None:
    program = Program()
    program.fit(3, checkpoint=tmp_path / "run.pt")
    on = program.fit(6)[-3:]  # not from the checkpoint, which holds epoch 3
    assert len(on) == 3
    history = program.fit(6, checkpoint=tmp_path / "run.pt")
    values, moments = program.values(), program.optim.get_state()
    whole = Program()
    assert whole.fit(6) == history
    assert same(whole.values(), values)
    assert same(whole.optim.get_state(), moments)


@pytest.mark.parametrize("called", [True, False])
def test_after_a_rerun_of_a_finished_run_the_optimiser_has_its_state(called: bool, tmp_path: Path) -> None:
    def modules_alone() -> tuple[nn.Module, SVI]:
        pyro.clear_param_store()
        net = nn.Linear(1, 1)

        def model(x: Tensor) -> None:
            pyro.sample("x", dist.Normal(pyro.module("net", net)(x), 1.0).to_event(2), obs=x)

        optim = pyro.optim.StepLR(
            {"optimizer": torch.optim.Adam, "optim_args": lambda name: {"lr": 0.1}, "step_size": 1, "gamma": 0.5},
            {"clip_norm": 1.0},
        )
        return net, SVI(model, lambda x: None, optim, Trace_ELBO())

    x, file = torch.randn(5, 1), tmp_path / "run.pt"
    net, svi = modules_alone()
    settings: dict[str, Any] = {"scheduler": svi.optim, "checkpoint": file}
    quiet(svi.step, [x], 3, state={"net": net}, **settings)
    moments = deepcopy(svi.optim.get_state())
    for _ in range(2):  # by hand
        svi.step(x)
        svi.optim.step()
    values = deepcopy(net.state_dict())
    net, svi = modules_alone()
    if called:
        svi.evaluate_loss(x)
    quiet(svi.step, [x], 3, state={"net": net}, **settings | {"scheduler": svi.optim})
    assert moments
    assert same(svi.optim.get_state(), moments)
    for _ in range(2):
        svi.step(x)
        svi.optim.step()
    assert same(net.state_dict(), values)


def test_a_loaded_optimiser_state_is_saved_again_though_no_parameter_steps(tmp_path: Path) -> None:
    first = Program()
    first.fit(2, checkpoint=tmp_path / "run.pt")
    moments = deepcopy(first.optim.get_state())
    rest = Program()
    rest.svi.evaluate_loss(rest.batches[0])
    quiet(lambda x: 0.0, rest.batches, 3, state=rest.state, checkpoint=tmp_path / "run.pt")
    assert same(rest.optim.get_state(), moments)
    assert same(payload_of(tmp_path / "run.pt")["state"]["optim"], moments)


def test_the_best_state_of_a_pyro_program_is_put_back(tmp_path: Path) -> None:
    program, seen = Program(), []
    values = scores(1, 3, 2)

    def evaluate() -> dict[str, float]:
        seen.append((program.values(), deepcopy(program.optim.get_state())))
        return values()

    program.fit(3, evaluate=evaluate, monitor="score", checkpoint=tmp_path / "run.pt")
    assert same(program.values(), seen[1][0])
    assert same(payload_of(tmp_path / "run.pt")["best"]["optim"], seen[1][1])


def test_parameters_that_are_not_there_yet_are_asked_for(tmp_path: Path) -> None:
    Program().fit(1, checkpoint=tmp_path / "run.pt")
    program = Program()
    with pytest.raises(ValueError, match=r"`store` cannot .*called once before.*must be \[\], got \['loc', 'net"):
        program.fit(2, state=dict(reversed(program.state.items())), checkpoint=tmp_path / "run.pt")
    assert program.optim._state_waiting_to_be_consumed == program.optim.get_state() == {}
    assert not program.values()


def test_an_autoguide_that_was_not_called_is_asked_for(tmp_path: Path) -> None:
    def train(num_epochs: int) -> None:
        pyro.clear_param_store()
        guide = AutoNormal(lambda: pyro.sample("z", dist.Normal(0.0, 1.0)))
        optim = pyro.optim.Adam({"lr": 0.1})
        step = SVI(guide.model, guide, optim, Trace_ELBO()).step
        quiet(step, [()], num_epochs, state={"guide": guide, "optim": optim}, checkpoint=tmp_path / "run.pt")

    train(1)
    with pytest.raises(ValueError, match=r"(?s)`guide` cannot .*as an autoguide does.*locs\.z"):
        train(2)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"checkpoint": tmp_path / "run.pt", "settings": {"rate": 0.1}}
    Line().fit(2, **settings)
    line = Line()
    before = line.values()
    with pytest.raises(ValueError, match="settings must be"):
        line.fit(3, **(settings | {"settings": {"rate": 0.2}}))
    assert same(before, line.values())
    assert len(line.fit(3, **settings)) == 3


# What peers leave out of their checkpoints: the CUDA generators, the optimiser's moments.


class Device:
    """Two CUDA devices that are counters, behind torch.cuda's functions, so that the test needs no GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int = 2) -> None:
        self.states = [torch.full((16,), 7 * i, dtype=torch.uint8) for i in range(count)]
        functions: dict[str, Callable[..., Any]] = {"is_initialized": lambda: True, "device_count": lambda: count}
        functions |= {"get_rng_state_all": self.get, "set_rng_state_all": self.set}
        for name, function in functions.items():
            monkeypatch.setattr(torch.cuda, name, function)

    def get(self) -> list[Tensor]:
        return [state.clone() for state in self.states]

    def set(self, states: list[Tensor]) -> None:
        for own, state in zip(self.states, states, strict=False):
            own.copy_(state)

    def draw(self) -> float:
        """The next number of the second device."""
        self.states[-1] += 1
        return math.sin(float(self.states[-1][0]))


def noisy(device: Device, line: Line) -> Callable[[Tensor], Tensor]:
    return lambda x: line.step(x + device.draw())


def test_the_generators_of_all_cuda_devices_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*epochs: int, checkpoint: Path | None = None) -> tuple[History, list[Tensor]]:
        for num_epochs in epochs:
            device, line = Device(monkeypatch), Line()  # a new process starts from its own state
            history = quiet(noisy(device, line), line.batches, num_epochs, state=line.state, checkpoint=checkpoint)
        return history, line.values()

    whole = run(5)
    parts = run(2, 5, checkpoint=tmp_path / "run.pt")
    assert parts[0] == whole[0]
    assert same(parts[1], whole[1])
    assert len(payload_of(tmp_path / "run.pt")["random"]["cuda"]) == 2

    def without_cuda() -> dict[str, Any]:
        return get_random() | {"cuda": []}

    monkeypatch.setattr(training, "get_random", without_cuda)
    assert run(2, 5, checkpoint=tmp_path / "other.pt")[0] != whole[0]


def test_a_checkpoint_of_two_devices_resumes_on_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Device(monkeypatch)
    Line().fit(1, checkpoint=tmp_path / "run.pt")
    alone = Device(monkeypatch, count=1)
    alone.draw()
    assert len(Line().fit(2, checkpoint=tmp_path / "run.pt")) == 2
    assert len(alone.states) == 1
    assert not alone.states[0].any()


class Trainer:
    """A step whose object holds what learns, in a container too."""

    def __init__(self, net: nn.Module, optimizer: Any, average: AveragedModel, scheduler: Any) -> None:
        self.net, self.parts, self.average = net, {"optimizer": optimizer}, average
        self.scheduler = scheduler

    def step(self, x: Tensor) -> Tensor:
        optimizer = self.parts["optimizer"]
        optimizer.zero_grad()
        loss = (self.net(x) - x.sum(-1, keepdim=True) - 0.1 * torch.randn(())).square().mean()
        loss.backward()
        optimizer.step()
        self.scheduler.step()
        self.average.update_parameters(self.net)
        return loss


def with_argument(trainer: Trainer, x: Tensor) -> Tensor:
    return trainer.step(x)


TRAINER: list[Trainer] = []


def with_global(x: Tensor) -> Tensor:
    return TRAINER[0].step(x)


def in_closure(trainer: Trainer) -> Callable[[Tensor], Tensor]:
    optimizer, scheduler, net, average = trainer.parts["optimizer"], trainer.scheduler, trainer.net, trainer.average
    return lambda x: Trainer(net, optimizer, average, scheduler).step(x)


STEPS: dict[str, Callable[[Trainer], Callable[[Tensor], Tensor]]] = {
    "bound method": lambda trainer: trainer.step,
    "partial": lambda trainer: partial(with_argument, trainer),
    "global": lambda trainer: with_global,
    "closure": in_closure,
    "function of a function": lambda trainer: lambda x: with_argument(trainer, x),
}


@pytest.mark.parametrize("name", STEPS)
def test_what_learns_behind_the_step_is_part_of_the_run(name: str, tmp_path: Path) -> None:
    """`state` names the module alone; momenta, averages, schedulers and generators are found."""

    def train(*epochs: int, **settings: Any) -> tuple[History, Any]:
        for num_epochs in epochs:
            pyro.set_rng_seed(1)
            net = nn.Linear(3, 1)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
            trainer = Trainer(net, optimizer, AveragedModel(net), scheduler)
            TRAINER[:] = [trainer]
            order = torch.Generator().manual_seed(2)
            x = torch.randn(12, 3)

            def batches(epoch: int, x: Tensor = x, order: torch.Generator = order) -> Any:
                return x[torch.randperm(12, generator=order)].split(4)

            history = quiet(STEPS[name](trainer), batches, num_epochs, state={"net": net}, **settings)
        return history, [net.state_dict(), optimizer.state_dict(), trainer.average.state_dict()]

    straight = train(4)
    for parts in ((2, 4), (4, 4)):
        resumed = train(*parts, checkpoint=tmp_path / f"{parts}.pt")
        assert resumed[0] == straight[0]
        assert same(resumed[1], straight[1])


@pytest.mark.parametrize("kind", ["Adam", "ClippedAdam", "ExponentialLR"])
def test_the_optimisers_of_several_svis_are_part_of_the_run(kind: str, tmp_path: Path) -> None:
    def optimiser() -> Any:
        if kind != "ExponentialLR":
            return getattr(pyro.optim, kind)({"lr": 0.05})
        return pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.9})

    def train(*epochs: int, **settings: Any) -> tuple[History, Any]:
        for num_epochs in epochs:
            pyro.clear_param_store()
            pyro.set_rng_seed(1)
            nets = nn.ModuleDict({"one": nn.Linear(1, 1), "two": nn.Linear(1, 1)})

            def program(x: Tensor, name: str, nets: nn.ModuleDict = nets) -> None:
                pyro.sample("x", dist.Normal(pyro.module(name, nets[name])(x), 1.0).to_event(2), obs=x)

            svis = [SVI(partial(program, name=name), lambda x: None, optimiser(), Trace_ELBO()) for name in nets]

            def step(x: Tensor, svis: list[SVI] = svis) -> float:
                return float(sum(svi.step(x) for svi in svis))

            history = quiet(step, torch.randn(3, 5, 1).unbind(), num_epochs, state={"nets": nets}, **settings)
        return history, [nets.state_dict(), [svi.optim.get_state() for svi in svis]]

    straight = train(4)
    for parts in ((2, 4), (4, 4)):
        resumed = train(*parts, checkpoint=tmp_path / f"{parts}.pt")
        assert resumed[0] == straight[0]
        assert same(resumed[1], straight[1])


class Hiding:
    """An object that tells nobody what it holds."""

    __slots__ = ("_held",)

    def __init__(self, held: Any) -> None:
        self._held = held

    def step(self) -> None:
        hidden_adam = self._held
        hidden_adam.step()


def test_what_cannot_be_found_is_warned_of_by_kind_and_name(tmp_path: Path) -> None:
    line = Line()
    hiding, noise = Hiding(torch.optim.Adam(line.net.parameters())), np.random.default_rng(0)

    def step(x: Tensor) -> Tensor:
        loss = (line.net(x) + noise.normal()).square().mean()
        loss.backward()
        hiding.step()
        return loss

    file = tmp_path / "run.pt"
    line = Line()
    line.optimizer = None  # type: ignore[assignment]
    hiding = Hiding(torch.optim.Adam(line.net.parameters()))
    with pytest.warns(UserWarning, match="(?s)lacks what learns here.*Generator `noise`.*Adam `hidden_adam`") as caught:
        quiet(step, line.batches, 3, state={"net": line.net}, checkpoint=file)
    assert len(caught) == 1


def test_parameters_of_no_module_are_warned_of(tmp_path: Path) -> None:
    weight, net = torch.zeros(7, requires_grad=True), nn.Linear(1, 1)
    optimizer = torch.optim.Adam([weight])

    def step(x: Tensor) -> Tensor:
        loss = (weight - x).square().sum()
        loss.backward()
        optimizer.step()
        return loss

    with pytest.warns(UserWarning, match=r"1 parameters that Adam `optimizer` moves, of shape \(7,\)"):
        quiet(step, [torch.ones(7)], 1, state={"net": net}, checkpoint=tmp_path / "run.pt")


def test_a_checkpoint_without_what_was_found_is_taken_with_a_warning(tmp_path: Path) -> None:
    line, file = Line(), tmp_path / "run.pt"
    line.fit(2, checkpoint=file)
    payload = payload_of(file)
    for part in ("state objects", "state"):
        del payload[part]["optimizer"]
    torch.save(payload, file)
    with pytest.warns(UserWarning, match="lacks SGD `optimizer`, which the run started afresh"):
        quiet((again := Line()).step, line.batches, 4, state={"net": again.net}, checkpoint=file)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_machine_on_a_cuda_device_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def run(*epochs: int, checkpoint: Path | None = None) -> tuple[History, dict[str, Tensor]]:
        for num_epochs in epochs:
            pyro.set_rng_seed(5)
            x = torch.randint(2, (24, 12), device="cuda").float()
            rbm = RBM.from_data(x, 8, negative_phase=PersistentChains(10, 2))
            optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1, momentum=0.9)

            def step(x: Tensor, rbm: RBM = rbm, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
                contrast = contrastive_gradient(rbm, torch.bernoulli(0.8 * x), return_contrast=True)
                optimizer.step()
                return contrast

            state = {"rbm": rbm, "optimizer": optimizer}
            history = quiet(step, minibatches(x, 7), num_epochs, state=state, checkpoint=checkpoint)
        return history, rbm.state_dict()

    whole, parts = run(5), run(2, 5, checkpoint=tmp_path / "run.pt")
    assert parts[0] == whole[0]
    assert same(parts[1], whole[1])
