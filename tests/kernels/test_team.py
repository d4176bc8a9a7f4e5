"""Parts on the threads of torch's own OpenMP team."""

from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import torch

from pyro_gen.kernels import native
from pyro_gen.kernels.native import team

needs_team = pytest.mark.skipif(not team.has_runtime(), reason="torch's OpenMP runtime was not found")


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
    monkeypatch.setattr(native, "threads_for", lambda work: 2)
    assert not team.has_runtime()
    with pytest.raises(RuntimeError, match="ask `has_runtime` first"):
        team.run([lambda: 0])
    ranges: list[tuple[int, int]] = []

    def part(first: int, end: int) -> int:
        ranges.append((first, end))
        return 0

    native.in_parts(part, 100, 64, native.PARALLEL_FROM)
    assert sorted(ranges) == [(0, 64), (64, 100)]


def test_a_child_of_a_fork_does_not_touch_the_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_process", -1)
    assert not team.has_runtime()


@needs_team
def test_fewer_parts_than_threads_leave_torch_its_threads() -> None:
    """GNU's runtime ends the threads that a smaller team does not need; the next operation would start them again."""
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        torch.rand(10**6).sin_()
        team.run([lambda: 0] * 4, 4)
        before = _threads()
        assert team.run([lambda: 1, lambda: 2], 4) == [1, 2]
        torch.rand(10**6).sin_()
        assert _threads() == before
    finally:
        torch.set_num_threads(threads)


def _threads() -> set[str]:
    return {task.name for task in Path("/proc/self/task").iterdir()}


AT_THE_END = """
import torch
from pyro_gen.kernels import native

class Late:
    def __init__(self):
        self.call, self.parts = native.in_parts, []

    def __del__(self):
        self.call(lambda first, end: self.parts.append((first, end)) or 0, 128, 64, 10**9)
        print(sorted(self.parts), flush=True)

torch.set_num_threads(2)
torch.rand(10**6).sin_()
late = Late()
late.itself = late  # collected after the threads may no longer take the lock
"""


def test_a_call_while_the_interpreter_ends_does_not_wait_for_threads_that_cannot_come() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[(0, 64), (64, 128)]\n", done.stderr


def test_the_runtime_is_torchs_own_where_there_are_several() -> None:
    files = "/my site/torch/lib/libgomp.so.1", "/my site/scikit_learn.libs/libgomp.so", "/lib/libc.so.6", ""
    maps = "\n".join(f"7f00-7f01 r-xp 0000 fe:01 5   {file}" for file in files)
    assert team._files(maps, Path("/my site/torch")) == ["/my site/torch/lib/libgomp.so.1"]
    assert len(team._files(maps, Path("/elsewhere/torch"))) == 2
    assert team._files(maps.replace("torch/lib", "torch.libs"), Path("/my site/torch")) == [
        "/my site/torch.libs/libgomp.so.1"
    ]
