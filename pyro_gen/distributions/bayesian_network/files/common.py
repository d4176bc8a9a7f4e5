"""Shared parts of the readers of network files: names, rows, and errors that say where."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen.distributions.bayesian_network.structure import NetworkStructure
from pyro_gen.distributions.bayesian_network.tables import (
    TOLERANCE,
    check_rows,
    flatten,
    normalized,
)

PathLike = str | os.PathLike[str]


class NetworkFile(NamedTuple):
    """Content of a file: a structure and its flattened tables, float64."""

    structure: NetworkStructure
    tables: Tensor


class FileError(ValueError):
    """A file is not what it should be; the message names it and, where it is known, the line."""

    def __init__(self, path: PathLike, line: int | None, reason: str) -> None:
        where = str(path)
        if line is not None:
            where = f"{path}, line {line}"
        super().__init__(f"{where}: {reason}")


def read_text(path: PathLike) -> str:
    """The content of a text file in UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(path, None, f"it is not UTF-8 text ({error})") from error


def probability(path: PathLike, line: int | None, text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        raise FileError(path, line, f"expected a probability, got {text!r}") from None
    if not 0 <= value <= 1 + TOLERANCE:
        raise FileError(path, line, f"a probability must be from 0 to 1, got {text}")
    return value


def check_row(path: PathLike, line: int | None, node: str, row: Sequence[float]) -> None:
    """Check that probabilities sum to one up to 1e-5."""
    if not abs(sum(row) - 1) <= TOLERANCE:
        numbers = ", ".join(map(str, row))
        raise FileError(
            path,
            line,
            f"a row of node {node!r} must sum to 1 up to 1e-5, got {numbers} = {sum(row):.8g}",
        )


def table_of(
    path: PathLike,
    line: int | None,
    node: str,
    values: Sequence[float],
    shape: Sequence[int],
    own_first: bool = False,
) -> Tensor:
    """A node's probabilities as its table, float64.

    Args:
        path: of the file, for errors.
        line: where the numbers begin.
        node: the node's name.
        values: the numbers.
        shape: states of each parent, own states.
        own_first: whether the own state changes slowest in ``values``, not
            fastest.
    """
    if len(values) != math.prod(shape):
        raise FileError(
            path,
            line,
            f"the table of {node!r} must have {math.prod(shape)} numbers, got {len(values)}",
        )
    table = torch.tensor(values, dtype=torch.float64)
    if own_first:
        table = table.view(shape[-1], *shape[:-1]).movedim(0, -1)
    table = table.reshape(shape)
    for row in table.reshape(-1, shape[-1]).tolist():
        check_row(path, line, node, row)
    return table


class Draft:
    """A network of which a reader has found some parts, each checked when it comes."""

    def __init__(self, path: PathLike) -> None:
        self.path = path
        self.states: dict[str, Sequence[str]] = {}
        self.parents: dict[str, Sequence[str]] = {}
        self.tables: dict[str, Tensor] = {}

    def add_variable(
        self,
        name: str,
        states: Sequence[str],
        line: int | None = None,
        states_line: int | None = None,
    ) -> None:
        """Enter a variable and its states, with the lines where they stand."""
        if name in self.states:
            raise FileError(self.path, line, f"variable {name!r} comes twice")
        if len(set(states)) < len(states):
            raise FileError(self.path, states_line, f"variable {name!r} has the same state twice")
        self.states[name] = states

    def add_family(self, name: str, parents: Sequence[str], line: int | None = None) -> list[int]:
        """Enter a variable's parents, in the order of its table; the shape of this."""
        for other in (name, *parents):
            if other not in self.states:
                raise FileError(self.path, line, f"there is no variable {other!r}")
        if name in self.parents:
            raise FileError(self.path, line, f"the probabilities of {name!r} come twice")
        if len({name, *parents}) <= len(parents):
            raise FileError(
                self.path,
                line,
                f"{name!r} and its parents must be different variables, got {parents}",
            )
        self.parents[name] = parents
        return [len(self.states[other]) for other in (*parents, name)]

    def network(self, normalize: bool, last_line: int | None = None) -> NetworkFile:
        """The network, complete; ``normalize`` divides rows by their sums."""
        if not self.states:
            raise FileError(self.path, None, "the file has no variables")
        if missing := [node for node in self.states if node not in self.tables]:
            message = f"variable {missing[0]!r} has no probabilities: is the file cut off?"
            raise FileError(self.path, last_line, message)
        try:
            structure = NetworkStructure(self.states, self.parents)
            flat = flatten(structure, self.tables)
            check_rows(structure, flat)
        except ValueError as error:
            raise FileError(self.path, None, str(error)) from error
        if normalize:
            flat = normalized(structure, flat)
        return NetworkFile(structure, flat)


__all__ = [
    "Draft",
    "FileError",
    "NetworkFile",
    "PathLike",
    "check_row",
    "probability",
    "read_text",
    "table_of",
]
