"""Files that are never half written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; on success it replaces `path` in one step, on an error `path` stays as it was.

    The temporary file keeps the name and lies in a temporary folder beside `path`: the same file system, so that the
    replacement is atomic, and the same suffix, from which writers guess the format. Missing folders are made.

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
