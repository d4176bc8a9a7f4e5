"""The book-keeping of CUDA graphs, with a graph that runs on a CPU: fresh results, other inputs, bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from pyro_gen.kernels.triton import graphs

calls: list[str] = []


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
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("synchronize"))
    calls.clear()
    graphs._captured.clear()
    graphs._refused.clear()
    yield
    graphs._captured.clear()
    graphs._refused.clear()


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
    assert calls == ["capture", "replay", "synchronize"]


def test_what_cannot_be_captured_runs_as_it_is_and_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(function: graphs.Function, tensors: tuple[Tensor, ...]) -> graphs._Captured:
        calls.append("failed")
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs, "_capture", fails)
    x = torch.ones(2)
    for _ in range(4):
        assert torch.equal(graphs._remembered(double, "key", (x, x))[0], 3 * x)
    assert calls == ["failed"]


def test_inside_a_graph_of_the_caller_nothing_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "_capturing", lambda: True)
    x = torch.ones(2)
    for _ in range(3):
        graphs._remembered(double, "key", (x, x))
    assert not calls


def test_on_a_cpu_nothing_is_captured() -> None:
    for _ in range(3):
        graphs.call(double, "key", (torch.ones(2), torch.ones(2)))
    assert not calls
