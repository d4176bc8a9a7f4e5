"""The book-keeping of CUDA graphs, with a graph that runs on a CPU: fresh results, other inputs, bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from pyro_gen.kernels.random import Key
from pyro_gen.kernels.triton import graphs

calls: list[str] = []
CAPTURE = graphs._capture


class Recorded:
    """A graph that computes again from its own inputs into its own outputs, as a CUDA graph does."""

    def __init__(self, function: graphs.Function, inputs: list[Tensor], outputs: tuple[Tensor, ...]) -> None:
        self.function, self.inputs, self.outputs = function, inputs, outputs

    def replay(self) -> None:
        calls.append("replay")
        for own, new in zip(self.outputs, self.function(*self.inputs), strict=True):
            own.copy_(new)


def capture(function: graphs.Function, tensors: tuple[Tensor, ...]) -> graphs._Captured:
    calls.append("capture")
    inputs = [torch.full_like(x, torch.nan) for x in tensors]
    outputs = function(*inputs)
    return graphs._Captured(cast(Any, Recorded(function, inputs, outputs)), inputs, outputs)


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(graphs, "_capture", capture)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append(f"synchronize {device}"))
    graphs.clear()
    calls.clear()
    yield
    graphs.clear()


def double(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return 2 * x + y, x - y


def test_the_second_call_captures_and_later_ones_replay_with_their_own_inputs() -> None:
    kept = []
    for number in range(4):
        x, y = torch.full((3,), float(number)), torch.ones(3)
        kept.append(graphs._remembered(double, "key", (x, y)))
    assert calls == ["capture", "replay", "replay", "replay"]
    for number, (total, difference) in enumerate(kept):  # later replays have not overwritten earlier results
        assert torch.equal(total, torch.full((3,), 2.0 * number + 1))
        assert torch.equal(difference, torch.full((3,), number - 1.0))


def test_the_least_recently_used_graphs_are_dropped() -> None:
    x = torch.ones(2)
    for _ in range(2):
        graphs._remembered(double, "old", (x, x))
    for number in range(graphs.KEPT):
        graphs._remembered(double, number, (x, x))
    assert len(graphs._captured) == graphs.KEPT
    assert "old" not in graphs._captured
    assert calls == ["capture", "replay", "synchronize cpu"]


def test_clear_gives_everything_up() -> None:
    x = torch.ones(2)
    for _ in range(2):
        graphs._remembered(double, "key", (x, x))
    graphs.clear()
    assert not graphs._captured
    assert calls[-1] == "synchronize cpu"


def test_what_cannot_be_captured_runs_as_it_is_and_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(function: graphs.Function, tensors: tuple[Tensor, ...]) -> graphs._Captured:
        calls.append("failed")
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "_capture", fails)
    x = torch.ones(2)
    for _ in range(4):
        assert torch.equal(graphs._remembered(double, "key", (x, x))[0], 3 * x)
    assert calls == ["failed"]


class OnDevice(torch.Tensor):
    """A CPU tensor that says it is on a device, which is all that ``call`` asks."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]  # torch declares an attribute
        return torch.device("cuda", 1)


def on_device(*shape: int) -> Tensor:
    return torch.ones(*shape).as_subclass(OnDevice)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Of a device that is not there: the last one is the current one."""
    stack = [SimpleNamespace(cuda_stream=1, synchronize=lambda: None)]
    monkeypatch.setattr(graphs, "capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "device", contextmanager(lambda _: iter([None])))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stack[-1])
    return stack


def test_every_stream_has_graphs_of_its_own(streams: list[SimpleNamespace]) -> None:
    for number in (1, 2):
        streams.append(SimpleNamespace(cuda_stream=number))
        for _ in range(3):
            graphs.call(double, "key", (on_device(2), on_device(2)))
    assert calls == ["capture", "replay", "replay"] * 2


def test_large_calls_keep_no_memory(streams: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "LARGEST", 4 * 99)
    for _ in range(3):
        graphs.call(double, "key", (on_device(50), on_device(50)))
    assert not calls
    assert not graphs._captured


def test_inside_a_graph_of_the_caller_nothing_is_captured(
    streams: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "capturing", lambda: True)
    for _ in range(3):
        graphs.call(double, "key", (on_device(2), on_device(2)))
    assert not calls


@pytest.mark.parametrize("failing", [False, True])
def test_a_capture_uses_a_stream_of_this_device_and_comes_back_from_it(
    failing: bool, streams: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``torch.cuda.graph`` does it: where the end of a capture fails, the capture's stream stays the current one."""

    class Capture:
        def __init__(self, graph: object, stream: SimpleNamespace, capture_error_mode: str) -> None:
            self.stream = stream

        def __enter__(self) -> None:
            streams.append(self.stream)

        def __exit__(self, *_: object) -> None:
            if failing:
                raise RuntimeError("operation failed due to a previous error during capture")
            streams.pop()

    monkeypatch.setattr(graphs, "_capture", CAPTURE)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: SimpleNamespace(cuda_stream="this device's"))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: calls.append("replay")))
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    x = torch.ones(2)
    for _ in range(2):
        assert torch.equal(graphs._remembered(double, "key", (x, x))[0], 3 * x)
    assert torch.cuda.current_stream().cuda_stream == 1
    assert calls == ([] if failing else ["replay"])


def test_on_a_cpu_nothing_is_captured() -> None:
    for _ in range(3):
        graphs.call(double, "key", (torch.ones(2), torch.ones(2)))
    assert not calls


def test_what_the_kernels_read_of_the_key_is_the_same_inside_a_graph_of_the_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operands = pytest.importorskip("pyro_gen.kernels.triton.operands", exc_type=ImportError)
    key = Key(2**63 + 5, 2**40, 2**32 - 1)
    outside = operands.clock(key, torch.ones(1))
    assert outside.tolist() == [5 - 2**63, 2**40, 2**32 - 1]
    monkeypatch.setattr(graphs, "capturing", lambda: True)
    monkeypatch.setattr(torch, "tensor", lambda *_, **__: pytest.fail("copied from memory that a graph outlives"))
    inside = operands.clock(key, torch.ones(1))
    assert inside.dtype == outside.dtype
    assert inside.tolist() == outside.tolist()
