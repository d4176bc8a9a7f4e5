"""What the readers of network files share: names, rows, and errors that say where."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen.distributions.bayesian_network.structure import NetworkStructure
from pyro_gen.distributions.bayesian_network.tables import TOLERANCE, check_rows, flatten, normalized

PathLike = str | os.PathLike[str]


class NetworkFile(NamedTuple):
    """What a file says: a structure and its flattened tables, float64."""

    structure: NetworkStructure
    tables: Tensor


class FileError(ValueError):
    """A file is not what it should be; the message names it and, where it is known, the line."""

    def __init__(self, path: PathLike, line: int | None, reason: str) -> None:
        where = str(path) if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {reason}")


def read_text(path: PathLike) -> str:
    """The content of a text file.

    Raises:
        FileError: it is no UTF-8 text.
        FileNotFoundError: there is none.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(path, None, f"it is not UTF-8 text ({error})") from error


def probability(path: PathLike, line: int | None, text: str) -> float:
    """A number from 0 to 1.

    Raises:
        FileError: the text is none.
    """
    try:
        value = float(text)
    except ValueError:
        raise FileError(path, line, f"expected a probability, got {text!r}") from None
    if not 0 <= value <= 1 + TOLERANCE:
        raise FileError(path, line, f"a probability must be from 0 to 1, got {text}")
    return value


def check_row(path: PathLike, line: int | None, node: str, row: Sequence[float]) -> None:
    """Check that probabilities sum to one up to 1e-5.

    Raises:
        FileError: they do not.
    """
    if not abs(sum(row) - 1) <= TOLERANCE:
        numbers = ", ".join(map(str, row))
        raise FileError(path, line, f"a row of node {node!r} must sum to 1 up to 1e-5, got {numbers} = {sum(row):.8g}")


def assembled(
    path: PathLike,
    states: Mapping[str, Sequence[str]],
    parents: Mapping[str, Sequence[str]],
    tables: Mapping[str, Tensor],
    normalize: bool,
) -> NetworkFile:
    """A network from the parts of a file.

    Args:
        path: of the file, for errors.
        states: names of states by node.
        parents: parents by node.
        tables: tables by node.
        normalize: whether to divide rows by their sums.

    Raises:
        FileError: the parts do not make a network.
    """
    if not states:
        raise FileError(path, None, "the file has no variables")
    try:
        structure = NetworkStructure(states, parents)
        flat = flatten(structure, tables)
        check_rows(structure, flat)
    except ValueError as error:
        raise FileError(path, None, str(error)) from error
    return NetworkFile(structure, normalized(structure, flat) if normalize else flat)


def table_of(values: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Numbers as a float64 tensor of some shape."""
    return torch.tensor(values, dtype=torch.float64).view(*shape)


__all__ = ["FileError", "NetworkFile", "PathLike", "assembled", "check_row", "probability", "read_text", "table_of"]
