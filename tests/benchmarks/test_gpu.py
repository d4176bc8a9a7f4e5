"""The GPU benchmark without a GPU: it says so and fails; figures and files are checked with the CPU's contenders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.__main__ import main
from benchmarks.machine import describe


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


def test_nothing_is_timed_on_a_red_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "why_not", lambda: None)
    monkeypatch.setattr(gpu, "gate", lambda: (False, "FAILED words: 3"))
    monkeypatch.setattr(gpu, "measure", lambda *_: pytest.fail("timed on a red gate"))
    assert main(["gpu", "--json", str(tmp_path / "gpu.json")]) == 1
    assert "red gate" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", gpu.MODES)
def test_every_op_is_measured(mode: str) -> None:
    result = gpu.measure(mode, (6, 5, 4), 2, 0.0, "cpu")
    assert result["contenders"]["naive"]["seconds"]["median"] > 0
    assert result["contenders"]["naive"]["times_quicker_than_naive"]["median"] == 1
    assert "| naive |" in gpu.table(result)


def test_a_contender_that_cannot_run_is_reported_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("out of memory")

    own = list(gpu.MODES["cd"](6, 5, 4, "cpu"))
    monkeypatch.setitem(gpu.MODES, "cd", lambda *_: iter([*own, ("other", fails)]))
    result = gpu.measure("cd", (6, 5, 4), 2, 0.0, "cpu")
    assert "out of memory" in result["missing"]["other"]
    assert "| other | missing: RuntimeError: out of memory |" in gpu.table(result)


def test_one_json_and_one_table_are_written(tmp_path: Path) -> None:
    result = gpu.measure("gibbs", (6, 5, 4), 2, 0.0, "cpu")
    report = {"gate": "17 passed", **describe(), "gpu": {"name": "Test", "triton": "3"}, "results": [result]}
    gpu.write(report, tmp_path / "gpu.json")
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["results"][0]["op"] == "gibbs"
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert text.startswith("# GPU benchmark: Test")
    assert "### gibbs, 6x5x4" in text
