"""The benchmark driver runs in every mode on small sizes, and reports nothing on a red gate. No timing is asserted."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import autoregressive_growth, driver, gibbs, growth
from benchmarks.__main__ import MODES, main
from benchmarks.paths import VARIABLE, forced, on_path
from benchmarks.timing import Contender, Plan, Spread, interleave, ratios
from pyro_gen.kernels import native

# What the tiny sizes of these tests bring about, and the published ones do not.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`hidden_features` .* too narrow"),
    pytest.mark.filterwarnings("ignore:the importance weights"),
]

QUICK = ["--rounds", "2", "--sample-seconds", "0", "--no-gate"]
SMALL = ["--shapes", "6x4x5", *QUICK]


def _report(file: Path, arguments: list[str]) -> dict[str, Any]:
    assert main([*arguments, "--json", str(file)]) == 0
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return report


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_reports(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-compiler")  # compiling the floor of NADE takes ten seconds
    report = _report(tmp_path / "results" / "report.json", [mode, *SMALL])
    [result] = report["results"]
    assert report["gate"].startswith("ungated")
    assert result["shape"] == [6, 4, 5]
    assert result["ceilings"]["copy_bytes_per_second"] > 0
    assert any(name.startswith("pyro_gen") for name in result["contenders"])
    assert all(figures["seconds"]["median"] > 0 for figures in result["contenders"].values())
    table = capsys.readouterr().out
    assert "| naive |" in table or f"| {MODES[mode].BASELINE} |" in table


@pytest.mark.parametrize("mode", ["gibbs", "update", "ais"])
def test_the_fraction_of_the_ceilings_is_reported(mode: str, tmp_path: Path) -> None:
    [result] = _report(tmp_path / "report.json", [mode, *SMALL])["results"]
    assert result["ceilings"]["gemm_flops_per_second"] > 0
    for figures in result["contenders"].values():
        assert figures["fraction_of_gemm_ceiling"]["median"] > 0
        assert figures["fraction_of_copy_ceiling"] > 0


def test_annealing_reports_the_seconds_of_ten_thousand_temperatures(tmp_path: Path) -> None:
    [result] = _report(tmp_path / "report.json", ["ais", *SMALL])["results"]
    naive = result["contenders"]["naive"]
    assert naive["seconds_for_10^4 temperatures"] == pytest.approx(1e4 * naive["seconds"]["median"])


def test_every_path_competes_or_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    [result] = _report(tmp_path / "report.json", ["gibbs", *SMALL])["results"]
    assert {"pyro_gen", "pyro_gen cpu", "pyro_gen, 1 step a call"} <= set(result["contenders"])
    assert "not installed" in result["missing"]["pyro_gen native"]


def test_a_path_is_forced_around_its_samples_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "reference")
    seen: list[str | None] = []
    contenders = {str(name): on_path(name, Contender(lambda: seen.append(os.environ.get(VARIABLE)))) for name in PATHS}
    seen.clear()
    interleave(contenders, Plan(2, 0.0))
    assert seen == ["cpu"] * 3 + [None] * 3 + ["cpu", None, None, "cpu"]
    assert os.environ[VARIABLE] == "reference"


PATHS = ("cpu", None)


def test_a_forced_path_ends_with_an_error() -> None:
    with pytest.raises(KeyError), forced("cpu"):
        raise KeyError
    assert VARIABLE not in os.environ


def test_only_the_named_peers_run(tmp_path: Path) -> None:
    [result] = _report(tmp_path / "report.json", ["gibbs", "--peers", "preallocated", *SMALL])["results"]
    assert "preallocated" in result["contenders"]
    assert "sklearn" not in result["contenders"]


def test_a_peer_is_named_by_its_first_word(tmp_path: Path) -> None:
    [result] = _report(tmp_path / "report.json", ["update", "--peers", "learnergy,naive", *SMALL])["results"]
    assert {"naive", "naive autograd"} <= set(result["contenders"])
    assert {"learnergy", "learnergy fit"} <= {*result["contenders"], *result["missing"]}


def test_threads_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = _report(tmp_path / "report.json", ["ais", "--threads", "1", "2", "--peers", "naive", *SMALL])
    assert [result["threads"] for result in report["results"]] == [1, 2]
    assert "| 6x4x5 | naive | 2 |" in capsys.readouterr().out


def test_nothing_is_reported_on_a_red_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    red = tmp_path / "test_red.py"
    red.write_text("def test_red(): assert False", encoding="utf-8")
    for module in (gibbs, growth):
        monkeypatch.setattr(module, "GATE", (str(red),))
    for mode in ("gibbs", "growth"):
        file = tmp_path / "report.json"
        assert main([mode, "--json", str(file), "--shapes", "6x4x5"]) == 1
        assert not file.exists()


def test_no_tests_are_a_red_gate(tmp_path: Path) -> None:
    with pytest.raises(driver.RedGateError, match="red gate"):
        driver.run_gate((str(tmp_path),))


@pytest.mark.parametrize(
    ("mode", "package", "peers"),
    [
        ("cd", "sklearn.neural_network", {"sklearn"}),
        ("update", "learnergy", {"learnergy", "learnergy fit"}),
        ("ais", "rbms", {"rbms"}),
        ("autoregressive", "pytorch_generative", {"pytorch-generative NADE", "pytorch-generative PixelCNN"}),
        ("autoregressive_sampling", "nflows", {"nflows MADE"}),
        ("autoregressive_sampling", "zuko", {"zuko MAF"}),
    ],
)
def test_a_missing_peer_is_reported_as_missing(
    mode: str, package: str, peers: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = [name for name in sys.modules if name.startswith(f"{package}.")]
    for name in [package, *loaded]:
        monkeypatch.setitem(sys.modules, name, None)
    result = driver.measure(MODES[mode], (6, 4, 5), None, Plan(2, 0.0), 1.0)
    assert peers <= set(result["missing"])
    assert result["baseline"] == "naive"


def test_growth_is_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"visible": (2, 9), "hidden": (2, 9), "chains": (1, 3), "steps": (1, 2)}
    monkeypatch.setattr(growth, "VALUES", values)
    picture = tmp_path / "pictures" / "growth.png"
    report = _report(tmp_path / "report.json", ["growth", "--plot", str(picture), *SMALL])
    sizes = [(point["visible"], point["hidden"], point["chains"], point["steps"]) for point in report["points"]]
    assert sizes[:4] == [(2, 4, 5, 10), (9, 4, 5, 10), (6, 2, 5, 10), (6, 9, 5, 10)]
    assert all(point["seconds"]["naive"]["median"] > 0 for point in report["points"])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_growth_of_autoregressive_densities_is_measured_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoregressive_growth, "VALUES", {"visible": (2, 9), "hidden": (3,), "chains": (1,)})
    picture = tmp_path / "growth.png"
    report = _report(tmp_path / "report.json", ["autoregressive_growth", "--plot", str(picture), *SMALL])
    assert [point["varied"] for point in report["points"]] == ["visible", "visible", "hidden", "chains"]
    assert all(len(point["seconds"]) == 4 for point in report["points"])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_sampler_is_set_beside_itself_with_nothing_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [result] = _report(tmp_path / "report.json", ["autoregressive_steps", *SMALL])["results"]
    ratio = result["contenders"]["pyro_gen RNN"]["times_quicker_than_its_rival"]
    assert ratio["rival"] == "naive RNN"
    assert ratio["median"] > 0
    assert "times_quicker_than_its_rival" not in result["contenders"]["naive"]
    assert "ratio to its rival |" in capsys.readouterr().out


def test_a_line_of_growth_that_is_missing_is_not_drawn() -> None:
    spread = {"lower": 1.0, "median": 2.0, "upper": 3.0}
    points = [{"varied": name, name: 4, "seconds": {"naive": spread}} for name in growth.VALUES]
    report = {"unit": "Gibbs step", "fixed": growth.Point()._asdict(), "machine": {"cpu": "?"}, "points": points}
    assert [len(axes.lines) for axes in growth.figure(report).axes] == [1, 1, 1, 1]


def test_contenders_take_turns_and_overhead_is_subtracted() -> None:
    order: list[str] = []
    a = Contender(lambda: order.append("a"), overhead=lambda: order.append("idle"))
    samples = interleave({"a": a, "b": Contender(lambda: order.append("b"), units=10)}, Plan(2, 0.0))
    assert order[-6:] == ["a", "idle", "b", "b", "a", "idle"]
    assert {name: len(times) for name, times in samples.items()} == {"a": 2, "b": 2}


def test_ratios_are_paired_within_rounds() -> None:
    spread = ratios({"base": [2.0, 6.0, 4.0], "own": [1.0, 2.0, 1.0]}, "base")["own"]
    assert spread == Spread(2.0, 2.5, 3.0, 3.5, 4.0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["gibbs", "--clock", "cpu", "--threads", "2"],
        ["gibbs", "--peers", "naive,keras"],
        ["gibbs", "--plot", "growth.png"],
        ["growth", "--threads", "2"],
        ["gibbs", "--shapes", "6x5"],
    ],
)
def test_a_command_line_that_cannot_be_obeyed_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main([*arguments, *QUICK])
