"""The README holds no placeholder, and every file it names is there."""

from __future__ import annotations

import re

from tests.house import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def missing(text: str) -> list[str]:
    """Relative links of a Markdown text whose file does not exist."""
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)
    return [link for link in links if not (ROOT / link).exists()]


def test_every_linked_file_exists() -> None:
    assert missing(README) == []
    assert missing("[gone](docs/gone.md)") == ["docs/gone.md"]


def test_no_placeholder_is_left() -> None:
    assert not re.search(r"@\w*@", README)
