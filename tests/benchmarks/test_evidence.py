"""`make evidence`: nothing is missing from its list, every command parses, what is done is not done again."""

from __future__ import annotations

import argparse
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import evidence
from benchmarks.evidence import EVIDENCE, TESTS, Evidence, main
from tests.house import ROOT

ROWS = {row.name: row for row in EVIDENCE}

ON_TEST_ROWS = re.compile(r"_test\.json$|test_ledger\.csv$|/bayes_classifier\.(json|png)$")
"""Made by commands of their own, `--test` or `--split test`."""

ELSEWHERE = {
    "docs/images/rooms.png": "tools/picture_rooms.py draws the design",
    "benchmarks/results/alphadigits_best_valid.json": "one recipe of `alphadigits`",
    "benchmarks/results/alphadigits_demo_valid.json": "one recipe of `alphadigits`",
}


class Parsed(BaseException):
    """The command line is accepted."""


def script(row: Evidence) -> tuple[Path, list[str]]:
    """The file that a row runs, and its arguments."""
    first, *rest = row.arguments
    if first != "-m":
        return ROOT / first, rest
    path = ROOT / rest[0].replace(".", "/")
    if path.is_dir():
        return path / "__main__.py", rest[1:]
    return path.with_suffix(".py"), rest[1:]


def without_a_row(paths: list[str]) -> list[str]:
    """The committed files that no row writes and no reason excuses."""
    written = {file for row in EVIDENCE for file in row.writes} | ELSEWHERE.keys()
    return [path for path in paths if path not in written and not ON_TEST_ROWS.search(path)]


def test_names_are_unique() -> None:
    assert len(ROWS) == len(EVIDENCE)


def test_every_script_of_evidence_is_in_the_list() -> None:
    listed = {script(row)[0] for row in EVIDENCE if row is not TESTS}
    assert set((ROOT / "benchmarks").glob("evidence_*.py")) <= listed


def test_every_committed_figure_is_in_the_list() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no repository says what is committed")
    command = ["git", "ls-files", "--", *evidence.WRITTEN]
    committed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert without_a_row(committed) == []
    assert without_a_row([*committed, "docs/images/new.png"]) == ["docs/images/new.png"]
    assert {file for row in EVIDENCE for file in row.writes} <= set(committed)


@pytest.mark.parametrize("name", [row.name for row in EVIDENCE if row is not TESTS])
def test_every_command_parses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file, arguments = script(ROWS[name])
    assert "--test" not in arguments
    assert "test" not in arguments
    if "ArgumentParser" not in file.read_text(encoding="utf-8") and file.name != "__main__.py":
        assert not arguments
        return
    parse = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *given: Any) -> None:
        parse(self, *given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", [str(file), *arguments])
    with pytest.raises(Parsed):
        runpy.run_path(str(file), run_name="__main__")


class Runs:
    """Stands in for subprocess.run: notes what is started, and some of it fails."""

    def __init__(self, *fail: str) -> None:
        self.fail = fail
        self.started: list[str] = []

    def __call__(self, command: list[str], **settings: Any) -> subprocess.CompletedProcess[str]:
        words = " ".join(command[1:])
        self.started.append(words)
        return subprocess.CompletedProcess(command, int(words.endswith(self.fail)))


def start(monkeypatch: pytest.MonkeyPatch, folder: Path, head: str | None, *fail: str) -> Runs:
    runs = Runs(*fail)
    monkeypatch.setattr(evidence, "commit", lambda: head)
    monkeypatch.setattr(evidence, "RECORDS", folder)
    monkeypatch.setattr(subprocess, "run", runs)
    return runs


ONLY = ["--only", "galaxies", "backends"]
COMMANDS = ["-m benchmarks.evidence_backends", "-m benchmarks.evidence_galaxies"]


def test_what_is_done_at_this_commit_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for head, options, expected in (
        ("a", [], COMMANDS),
        ("a", [], []),
        ("a", ["--again"], COMMANDS),
        ("b", [], COMMANDS),
        (None, [], COMMANDS),
        (None, [], COMMANDS),
    ):
        runs = start(monkeypatch, tmp_path, head)
        assert main([*ONLY, *options]) == 0
        assert runs.started == expected
    record = json.loads((tmp_path / "galaxies.json").read_text(encoding="utf-8"))
    assert record["command"] == ["-m", "benchmarks.evidence_galaxies"]


def test_a_failure_stops_nothing_and_is_named_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = start(monkeypatch, tmp_path, "a", "evidence_backends")
    assert main(ONLY) == 1
    assert runs.started == COMMANDS
    assert capsys.readouterr().err == "failed: backends\n"
    runs = start(monkeypatch, tmp_path, "a")
    assert main(ONLY) == 0
    assert runs.started == COMMANDS[:1]  # the other is done


def test_the_list_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = start(monkeypatch, tmp_path, "a")
    assert main(["--list"]) == 0
    assert runs.started == []
    printed = capsys.readouterr().out
    assert all(row.name in printed for row in EVIDENCE)
