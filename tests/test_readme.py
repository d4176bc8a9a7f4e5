"""The README's code runs as it stands, its blocks one after another as a reader would paste them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.house import ROOT

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def python_blocks(text: str) -> list[tuple[int, str]]:
    """Returns (line, code) of every ```python block of a Markdown text."""
    return [(text.count("\n", 0, match.start(1)) + 1, match.group(1)) for match in BLOCK.finditer(text)]


def run_blocks(text: str, name: str) -> None:
    """Runs the blocks in order in one namespace; a traceback points into the file that the text came from."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for line, code in python_blocks(text):
        exec(compile("\n" * (line - 1) + code, name, "exec"), namespace)


def test_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    assert python_blocks(text)
    run_blocks(text, str(readme))


def test_a_broken_block_is_found() -> None:
    text = "# Title\n\n```python\nx = 1\n```\n\nwords\n\n```python\nassert x == 2, x\n```\n"
    assert [line for line, _ in python_blocks(text)] == [4, 10]
    with pytest.raises(AssertionError):
        run_blocks(text, "README.md")


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_two_commands_are_named(command: str) -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert any(re.fullmatch(rf"{command}( .*)?", line) for line in lines), f"no code line of README.md is `{command}`"
    assert f"\n{command.removeprefix('make ')}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def missing(text: str) -> list[str]:
    """Relative links of a Markdown text whose file does not exist."""
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)
    return [link for link in links if not (ROOT / link).exists()]


def test_every_linked_file_exists() -> None:
    assert missing((ROOT / "README.md").read_text(encoding="utf-8")) == []
    assert missing("[gone](docs/gone.md)") == ["docs/gone.md"]


def test_no_placeholder_is_left() -> None:
    assert not re.search(r"@\w*@", (ROOT / "README.md").read_text(encoding="utf-8"))
