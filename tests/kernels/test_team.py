"""Parts on the threads of torch's own OpenMP team."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch

from pyro_gen.kernels import native
from pyro_gen.kernels.native import team

needs_team = pytest.mark.skipif(not team.available(), reason="torch's OpenMP runtime was not found")


@needs_team
def test_every_part_runs_once_and_in_its_place() -> None:
    seen: list[int] = []

    def part(number: int) -> int:
        seen.append(threading.get_ident())
        return 10 * number

    assert team.run([partial(part, n) for n in range(2)]) == [0, 10]
    assert len(seen) == 2


@needs_team
def test_more_parts_than_a_team_has_threads_are_all_run() -> None:
    torch.ones(10**6).sum()
    assert team.run([partial(int, n) for n in range(64)]) == list(range(64))


@needs_team
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_a_part_raises_is_raised_after_all_have_ended(kind: type[BaseException]) -> None:
    ended = threading.Event()

    def fails() -> int:
        raise kind("no")

    def works() -> int:
        ended.set()
        return 0

    with pytest.raises(kind, match="no"):
        team.run([fails, works])
    assert ended.is_set()


def test_without_a_runtime_the_pool_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_runtime", lambda: None)
    monkeypatch.setattr(native, "_threads", lambda work: 2)
    assert not team.available()
    with pytest.raises(RuntimeError, match="ask `available` first"):
        team.run([lambda: 0])
    ranges: list[tuple[int, int]] = []

    def part(first: int, end: int) -> int:
        ranges.append((first, end))
        return 0

    native._in_parts(part, 100, 64, native.PARALLEL_FROM)
    assert sorted(ranges) == [(0, 64), (64, 100)]


def test_a_child_of_a_fork_does_not_touch_the_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_process", -1)
    assert not team.available()
