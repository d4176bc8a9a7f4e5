"""The GPU benchmark without a GPU: it says so and fails; figures and files are checked with the CPU's contenders."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_gate
from benchmarks.__main__ import main

LIMITS = {"copy_bytes_per_second": 1e9, "float16_flops_per_second": 1e12, "tf32_flops_per_second": 1e12}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "--json", str(tmp_path / "gpu.json")]) == 1
    assert "no CUDA device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_device_cuda_is_the_gpu_run_of_one_op(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def run(arguments: list[str]) -> int:
        seen.append(arguments)
        return 0

    monkeypatch.setattr(gpu, "main", run)
    file = str(tmp_path / "ais.json")
    assert main(["ais", "--device", "cuda", "--rounds", "3", "--json", file]) == 0
    assert seen == [["--ops", "ais", "--rounds", "3", "--sample-seconds", "0.03", "--json", file]]
    with pytest.raises(SystemExit):
        main(["update", "--device", "cuda"])


@pytest.mark.parametrize(("passed", "found"), [(False, "no errors"), (True, "errors")])
def test_nothing_is_timed_on_a_red_gate(
    passed: bool, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "why_not", lambda: None)
    monkeypatch.setattr(gpu, "gate", lambda: (passed, "16 passed"))
    monkeypatch.setattr(gpu, "sanitize", lambda _: {"memcheck": found})
    monkeypatch.setattr(gpu, "ceilings", lambda *_: pytest.fail("timed on a red gate"))
    assert main(["gpu", "--json", str(tmp_path / "gpu.json")]) == 1
    assert "red gate" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_whole_run_writes_one_json_and_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything but the device: its place is taken by the CPU, with the naive contenders."""
    monkeypatch.setattr(gpu, "why_not", lambda: None)
    monkeypatch.setattr(
        gpu_gate, "CHECKS", [sys.executable, "-c", "print('passed words'); print('passed distribution')"]
    )
    monkeypatch.setattr(gpu, "sanitize", lambda _: {"memcheck": "no errors, 5 of 5 checks passed under it"})
    monkeypatch.setattr(gpu, "machine", lambda: {"name": "Test", "triton": "3"})
    on_cpu, limits = gpu.measure, gpu.ceilings

    def measure(mode: str, shape: tuple[int, int, int], rounds: int, seconds: float, _: str, *rest: Any) -> Any:
        return on_cpu(mode, shape, rounds, seconds, "cpu", *rest)

    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr(gpu, "ceilings", lambda rounds, _: limits(rounds, "cpu"))
    monkeypatch.setattr(gpu, "SHAPES", dict.fromkeys(gpu.SHAPES, ((6, 5, 4),)))
    file = tmp_path / "gpu.json"
    assert main(["gpu", "--json", str(file), "--rounds", "2", "--sample-seconds", "0"]) == 0
    assert "passed distribution" in capsys.readouterr().out
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["gate"] == "2 passed"
    assert [result["op"] for result in report["results"]] == list(gpu.MODES)
    assert min(report["ceilings"].values()) > 0
    text = file.with_suffix(".md").read_text(encoding="utf-8")
    assert text.startswith("# GPU benchmark: Test")
    assert "### ais, 6x5x4" in text
    assert "compute-sanitizer, memcheck: no errors" in text
    assert sorted(tmp_path.iterdir()) == [file, file.with_suffix(".md")]


@pytest.mark.parametrize(
    ("script", "seconds", "expected"),
    [
        ("print('passed tiles')", 60.0, "no errors, 1 of"),
        ("raise SystemExit(86)", 60.0, "errors"),
        ("print('Device not supported'); raise SystemExit(1)", 60.0, "could not run: Device not supported"),
        ("import time; time.sleep(60)", 0.5, "stopped after 0.5 s, 0 of"),
    ],
)
def test_what_the_sanitizer_says_is_understood(
    script: str, seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = gpu_gate.run
    monkeypatch.setattr(gpu_gate, "sanitizer", lambda: "compute-sanitizer")
    monkeypatch.setattr(gpu_gate, "run", lambda _, *limit, **__: run([sys.executable, "-c", script], *limit))
    found = gpu_gate.sanitize(seconds)
    assert list(found) == ["memcheck", "racecheck"]
    assert all(words.startswith(expected) for words in found.values()), found


def test_without_the_sanitizer_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_gate, "sanitizer", lambda: None)
    assert set(gpu_gate.sanitize(60.0).values()) == {"compute-sanitizer is not installed"}
    monkeypatch.setattr(gpu_gate, "sanitizer", lambda: "compute-sanitizer")
    assert set(gpu_gate.sanitize(0.0).values()) == {"not asked for"}


@pytest.mark.parametrize("mode", gpu.MODES)
def test_every_op_is_measured(mode: str) -> None:
    result = gpu.measure(mode, (6, 5, 4), 2, 0.0, "cpu", LIMITS)
    assert result["contenders"]["naive"]["seconds"]["median"] > 0
    assert result["contenders"]["naive"]["times_quicker_than_naive"]["median"] == 1
    assert "| naive |" in gpu.table(result)


def test_a_contender_that_cannot_run_is_reported_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("out of memory")

    own = list(gpu.MODES["cd"](6, 5, 4, "cpu"))
    monkeypatch.setitem(gpu.MODES, "cd", lambda *_: iter([*own, ("other", fails)]))
    result = gpu.measure("cd", (6, 5, 4), 2, 0.0, "cpu", LIMITS)
    assert "out of memory" in result["missing"]["other"]
    assert "| other | missing: RuntimeError: out of memory |" in gpu.table(result)
