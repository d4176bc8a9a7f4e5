"""Files that are never half written, and JSON that every reader takes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to.

    On success it replaces `path` in one step, on an error `path` stays as it
    was.

    The temporary file keeps the name and lies in a temporary folder beside
    `path`: the same file system, so that the replacement is atomic, and the
    same suffix, from which writers guess the format. Missing folders are made.

    Args:
        path: the file to be written.

    Yields:
        The temporary path.

    Example:
        >>> folder = Path(getfixture("tmp_path"))
        >>> with replacing(folder / "report.txt") as part:
        ...     _ = part.write_text("done")
        >>> [file.name for file in folder.iterdir()]
        ['report.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        part = Path(folder) / path.name
        yield part
        os.replace(part, path)


def json_text(content: Any, indent: int | None = None) -> str:
    """Content as valid JSON: null for NaN and infinities, such as the standard
    error of a single row.

    Args:
        content: plain values, and mappings and sequences of such.
        indent: as for `json.dumps`.

    Example:
        >>> json_text({"mean": -1.5, "standard error": float("nan")})
        '{"mean": -1.5, "standard error": null}'
    """
    return json.dumps(_known(content), indent=indent, allow_nan=False)


def _known(content: Any) -> Any:
    """Copy with None in place of floats that are no numbers."""
    if isinstance(content, float):
        if math.isfinite(content):
            return content
        return None
    if isinstance(content, Mapping):
        return {key: _known(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_known(value) for value in content]
    return content
