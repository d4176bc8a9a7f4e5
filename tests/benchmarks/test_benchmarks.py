"""The benchmark driver runs in every mode on small sizes, and reports nothing on a red gate. No timing is asserted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import driver, gibbs
from benchmarks.__main__ import MODES, main
from benchmarks.timing import Contender, Plan, Spread, interleave, ratios

QUICK = ["--shapes", "6x5x4", "--rounds", "2", "--sample-seconds", "0"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_reports(mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results" / "report.json"
    assert main([mode, "--json", str(file), "--no-gate", *QUICK]) == 0
    report = json.loads(file.read_text(encoding="utf-8"))
    [result] = report["results"]
    assert report["gate"].startswith("ungated")
    assert result["shape"] == [6, 5, 4]
    assert any(name.startswith("pyro_gen") for name in result["contenders"])
    assert all(figures["seconds"]["median"] > 0 for figures in result["contenders"].values())
    assert "| naive |" in capsys.readouterr().out


def test_only_the_named_peers_run(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    main(["gibbs", "--json", str(file), "--no-gate", "--peers", "preallocated", *QUICK])
    [result] = json.loads(file.read_text(encoding="utf-8"))["results"]
    assert "preallocated" in result["contenders"]
    assert "sklearn" not in result["contenders"]


def test_nothing_is_reported_on_a_red_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    red = tmp_path / "test_red.py"
    red.write_text("def test_red(): assert False", encoding="utf-8")
    monkeypatch.setattr(gibbs, "GATE", (str(red),))
    file = tmp_path / "report.json"
    assert main(["gibbs", "--json", str(file), *QUICK]) == 1
    assert not file.exists()


def test_no_tests_are_a_red_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gibbs, "GATE", (str(tmp_path),))
    with pytest.raises(driver.RedGateError, match="red gate"):
        driver.run_gate(MODES["gibbs"])


def test_a_missing_peer_is_reported_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.neural_network", None)
    result = driver.measure(MODES["cd"], (6, 5, 4), None, Plan(2, 0.0))
    assert "sklearn" in result["missing"]
    assert result["baseline"] == "naive"


def test_contenders_take_turns_and_overhead_is_subtracted() -> None:
    order: list[str] = []
    a = Contender(lambda: order.append("a"), overhead=lambda: order.append("idle"))
    samples = interleave({"a": a, "b": Contender(lambda: order.append("b"), units=10)}, Plan(2, 0.0))
    assert order[-6:] == ["a", "idle", "b", "b", "a", "idle"]
    assert {name: len(times) for name, times in samples.items()} == {"a": 2, "b": 2}


def test_ratios_are_paired_within_rounds() -> None:
    spread = ratios({"base": [2.0, 6.0, 4.0], "own": [1.0, 2.0, 1.0]}, "base")["own"]
    assert spread == Spread(2.0, 2.5, 3.0, 3.5, 4.0)


def test_the_cpu_clock_is_refused_for_several_threads() -> None:
    with pytest.raises(SystemExit):
        main(["gibbs", "--clock", "cpu", "--threads", "2", *QUICK])
