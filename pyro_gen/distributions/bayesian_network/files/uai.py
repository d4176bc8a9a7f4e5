"""The format of the UAI inference competitions (BAYES): numbers only, no names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pyro_gen._files import replacing
from pyro_gen.distributions.bayesian_network.files.common import (
    Draft,
    FileError,
    NetworkFile,
    PathLike,
    check_row,
    probability,
    read_text,
)
from pyro_gen.distributions.bayesian_network.structure import NetworkStructure
from pyro_gen.distributions.bayesian_network.tables import named_rows


class _WordReader:
    """The words of a file with their lines."""

    def __init__(self, path: PathLike) -> None:
        self.path = path
        self.words = [
            (word, line)
            for line, text in enumerate(read_text(path).splitlines(), 1)
            for word in text.split()
        ]
        self.place = 0

    def next(self, what: str) -> tuple[str, int]:
        if self.place >= len(self.words):
            line = 1
            if self.words:
                line = self.words[-1][1]
            raise FileError(
                self.path, line, f"the file ends where {what} should come: it is cut off"
            )
        self.place += 1
        return self.words[self.place - 1]

    def integer(self, what: str, least: int, most: int | None = None) -> int:
        word, line = self.next(what)
        if (
            not word.isdecimal()
            or not least <= int(word)
            or (most is not None and int(word) > most)
        ):
            upper = ""
            if most is not None:
                upper = f" and at most {most}"
            raise FileError(
                self.path,
                line,
                f"{what} must be an integer of at least {least}{upper}, got {word!r}",
            )
        return int(word)


def read_uai(
    path: PathLike, states: Mapping[str, Sequence[str]] | None = None, normalize: bool = True
) -> NetworkFile:
    """Structure and tables of a UAI file of the kind BAYES: the last of each scope is
    the child.

    Args:
        path: of the file.
        states: names of nodes and states in the order of the file's variables,
            which has none; None for "0", "1", ...
        normalize: as for :func:`read_bif`.

    Raises:
        ValueError: the file is cut off or malformed (the message names file and
            line), or ``states`` does not fit.
    """
    numbers = _WordReader(path)
    kind, line = numbers.next("BAYES")
    if kind != "BAYES":
        raise FileError(path, line, f"only networks of the kind BAYES can be read, got {kind!r}")
    count = numbers.integer("the number of variables", 1)
    sizes = [numbers.integer("a number of states", 1) for _ in range(count)]
    draft = Draft(path)
    for node, named in _node_names(path, sizes, states).items():
        draft.add_variable(node, named)
    nodes = list(draft.states)
    numbers.integer("the number of tables", count, count)
    scopes = []
    for _ in range(count):
        width = numbers.integer("the size of a scope", 1, count)
        scopes.append([numbers.integer("a variable", 0, count - 1) for _ in range(width)])
    if sorted(scope[-1] for scope in scopes) != list(range(count)):
        raise FileError(path, None, "each variable must be the last of exactly one scope")
    for *parents, child in scopes:
        shape = draft.add_family(nodes[child], [nodes[i] for i in parents])
        draft.tables[nodes[child]] = _read_entries(numbers, shape, nodes[child])
    if numbers.place < len(numbers.words):
        word, line = numbers.words[numbers.place]
        raise FileError(path, line, f"the file should end here, got {word!r}")
    return draft.network(normalize)


def _node_names(
    path: PathLike, sizes: list[int], states: Mapping[str, Sequence[str]] | None
) -> dict[str, Sequence[str]]:
    if states is None:
        return {str(i): [str(k) for k in range(size)] for i, size in enumerate(sizes)}
    if [len(names) for names in states.values()] != sizes:
        counts = [len(names) for names in states.values()]
        raise FileError(
            path, None, f"`states` must name {sizes} states, the file's numbers, got {counts}"
        )
    return dict(states)


def _read_entries(numbers: _WordReader, shape: list[int], node: str) -> Tensor:
    cells = math.prod(shape)
    numbers.integer(f"the number of entries of the table of {node!r}, {cells},", cells, cells)
    rows = []
    for _ in range(cells // shape[-1]):
        words = [numbers.next(f"an entry of the table of {node!r}") for _ in range(shape[-1])]
        rows.append([probability(numbers.path, line, word) for word, line in words])
        check_row(numbers.path, words[0][1], node, rows[-1])
    return torch.tensor(rows, dtype=torch.float64).view(*shape)


def write_uai(path: PathLike, structure: NetworkStructure, tables: Tensor) -> None:
    """Write a UAI file of the kind BAYES, which keeps no names but the exact numbers."""
    lines = [
        "BAYES",
        str(len(structure.nodes)),
        " ".join(map(str, structure.cardinalities)),
        str(len(structure.nodes)),
    ]
    lines += [" ".join(map(str, (len(family), *family))) for family in structure.families]
    for (_, rows), size in zip(
        named_rows(structure, tables.detach().double().cpu()), structure.sizes, strict=True
    ):
        lines += ["", str(size), *(" ".join(map(repr, row)) for row in rows.tolist())]
    with replacing(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


__all__ = ["read_uai", "write_uai"]
