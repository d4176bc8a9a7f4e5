"""The Bayesian interchange format (BIF), as the bnlearn repository has it: reading and writing.

State names are words of any characters but spaces and ``{ } ( ) [ ] | , ; "``,
or they stand in double quotes, with backslashes as in JSON; words that only
spaces part are one name.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

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
    table_of,
)
from pyro_gen.distributions.bayesian_network.structure import NetworkStructure
from pyro_gen.distributions.bayesian_network.tables import named_rows

TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)|(?P<quoted>"(?:[^"\\\n]|\\.)*")|(?P<mark>[{}()\[\]|,;])"""
    r"""|(?P<word>[^\s{}()\[\]|,;"]+)""",
    re.DOTALL,
)
PLAIN = re.compile(r"""(?!//|/\*)[^\s{}()\[\]|,;"\\]+""")


class Token(NamedTuple):
    """A word, a quoted name or a mark, and its line."""

    text: str
    line: int
    mark: bool


class Reader:
    """The tokens of a file, one after another."""

    def __init__(self, path: PathLike) -> None:
        self.path = path
        text = read_text(path)
        self.tokens = list(self._split(text))
        self.place = 0
        self.last_line = text.rstrip().count("\n") + 1

    def _split(self, text: str) -> Iterator[Token]:
        place = 0
        line = 1
        while place < len(text):
            match = TOKEN.match(text, place)
            if match is None:
                raise FileError(self.path, line, "a quotation mark has no partner")
            lexeme = match.group()
            if match.lastgroup == "quoted":
                yield Token(self._unquoted(lexeme, line), line, False)
            elif match.lastgroup != "space":
                yield Token(lexeme, line, match.lastgroup == "mark")
            line += lexeme.count("\n")
            place = match.end()

    def _unquoted(self, text: str, line: int) -> str:
        try:
            return str(json.loads(text))
        except json.JSONDecodeError as error:
            raise FileError(
                self.path, line, f"the quoted name {text} cannot be read ({error})"
            ) from error

    @property
    def ended(self) -> bool:
        """True once all tokens have been read."""
        return self.place >= len(self.tokens)

    def next(self, what: str) -> Token:
        """The next token; ``what`` it should be, for the error at the end of the file."""
        if self.ended:
            raise FileError(
                self.path, self.last_line, f"the file ends where {what} should come: it is cut off"
            )
        self.place += 1
        return self.tokens[self.place - 1]

    def peek(self, what: str) -> Token:
        """The next token, which stays."""
        token = self.next(what)
        self.place -= 1
        return token

    def expect(self, *texts: str) -> Token:
        """The next token, one of some words or marks."""
        alternatives = " or ".join(map(repr, texts))
        token = self.next(alternatives)
        if token.text not in texts:
            raise FileError(self.path, token.line, f"expected {alternatives}, got {token.text!r}")
        return token

    def name(self, what: str) -> Token:
        """A name: a quoted one, or words up to the next mark."""
        first = self.next(what)
        if first.mark:
            raise FileError(self.path, first.line, f"expected {what}, got {first.text!r}")
        words = [first.text]
        while not self.peek(f"the end of {what}").mark:
            words.append(self.next(what).text)
        return Token(" ".join(words), first.line, False)

    def names(self, what: str, end: str) -> list[Token]:
        """Names parted by commas up to a mark, which is read too."""
        names = [self.name(what)]
        while self.expect(",", end).text == ",":
            names.append(self.name(what))
        return names

    def numbers(self) -> tuple[list[float], int]:
        """Probabilities up to a semicolon, and the line of the first."""
        line = self.peek("a probability").line
        numbers: list[float] = []
        while (token := self.next("a probability or ';'")).text != ";":
            if token.text != ",":
                numbers.append(probability(self.path, token.line, token.text))
        return numbers, line

    def skip_statement(self) -> None:
        """Everything up to the next semicolon."""
        while self.next("';'").text != ";":
            pass


def read_bif(path: PathLike, normalize: bool = True) -> NetworkFile:
    """Structure and tables of a BIF file.

    Args:
        path: of the file.
        normalize: divide rows by their sums, which miss one by up to 1e-5;
            False keeps them as they are.

    Raises:
        ValueError: the file is cut off or malformed, a state is unknown, a row
            is missing or does not sum to one; the message names file and line.
    """
    reader = Reader(path)
    draft = Draft(path)
    while not reader.ended:
        kind = reader.expect("network", "variable", "probability")
        if kind.text == "network":
            _skip_network(reader)
        elif kind.text == "variable":
            _read_variable(reader, draft)
        else:
            _read_table(reader, draft)
    return draft.network(normalize, reader.last_line)


def _skip_network(reader: Reader) -> None:
    while reader.next("'{'").text != "{":
        pass
    while reader.next("'}'").text != "}":
        pass


def _read_variable(reader: Reader, draft: Draft) -> None:
    name = reader.name("the name of a variable")
    reader.expect("{")
    while (token := reader.expect("type", "property", "}")).text != "}":
        if token.text == "property":
            reader.skip_statement()
            continue
        if (kind := reader.next("'discrete'")).text != "discrete":
            raise FileError(
                reader.path, kind.line, f"only discrete variables can be read, got {kind.text!r}"
            )
        reader.expect("[")
        count = reader.next("a number of states")
        reader.expect("]")
        reader.expect("{")
        names = [state.text for state in reader.names("the name of a state", "}")]
        reader.expect(";")
        if str(len(names)) != count.text:
            message = (
                f"variable {name.text!r} is said to have {count.text} states, got {len(names)}"
            )
            raise FileError(reader.path, count.line, message)
        draft.add_variable(name.text, names, name.line, count.line)
    if name.text not in draft.states:
        raise FileError(reader.path, name.line, f"variable {name.text!r} has no type")


def _read_table(reader: Reader, draft: Draft) -> None:
    reader.expect("(")
    name = reader.name("the name of a variable")
    parents: list[str] = []
    if reader.expect("|", ")").text == "|":
        parents = [token.text for token in reader.names("the name of a parent", ")")]
    shape = draft.add_family(name.text, parents, name.line)
    draft.tables[name.text] = _TableReader(
        reader, name, [draft.states[parent] for parent in parents], shape
    ).read()


class _TableReader:
    """The block of one variable's probabilities."""

    def __init__(
        self, reader: Reader, name: Token, parent_states: Sequence[Sequence[str]], shape: list[int]
    ) -> None:
        self.reader = reader
        self.name = name
        self.parent_states = parent_states
        self.shape = shape
        self.rows: dict[tuple[int, ...], list[float]] = {}
        self.default: list[float] | None = None
        self.whole: Tensor | None = None

    def read(self) -> Tensor:
        self.reader.expect("{")
        while (token := self.reader.expect("table", "default", "property", "(", "}")).text != "}":
            if token.text == "property":
                self.reader.skip_statement()
                continue
            conflicting = {"table": self.rows or self.default, "default": self.default, "(": None}[
                token.text
            ]
            if conflicting or self.whole is not None:
                message = (
                    f"{self.name.text!r} must have one table, "
                    f"or rows and at most one default, got more"
                )
                raise FileError(self.reader.path, token.line, message)
            if token.text == "table":
                self.whole = self._whole()
            elif token.text == "default":
                self.default = self._row()
            else:
                self._given_row(token.line)
        if self.whole is not None:
            return self.whole
        return self._assembled()

    def _row(self) -> list[float]:
        row, line = self.reader.numbers()
        if len(row) != self.shape[-1]:
            message = (
                f"a row of {self.name.text!r} must have {self.shape[-1]} probabilities, "
                f"got {len(row)}"
            )
            raise FileError(self.reader.path, line, message)
        check_row(self.reader.path, line, self.name.text, row)
        return row

    def _whole(self) -> Tensor:
        """All numbers in one list, in which the own state changes slowest."""
        numbers, line = self.reader.numbers()
        return table_of(
            self.reader.path, line, self.name.text, numbers, self.shape, own_first=True
        )

    def _given_row(self, line: int) -> None:
        names = self.reader.names("the state of a parent", ")")
        if len(names) != len(self.parent_states):
            count = len(self.parent_states)
            message = f"{self.name.text!r} has {count} parents, got the states of {len(names)}"
            raise FileError(self.reader.path, line, message)
        key = []
        for token, states in zip(names, self.parent_states, strict=True):
            if token.text not in states:
                known = ", ".join(map(repr, states))
                message = f"{token.text!r} is no state of the parent, which has {known}"
                raise FileError(self.reader.path, token.line, message)
            key.append(states.index(token.text))
        if tuple(key) in self.rows:
            raise FileError(self.reader.path, line, f"this row of {self.name.text!r} comes twice")
        self.rows[tuple(key)] = self._row()

    def _assembled(self) -> Tensor:
        keys = list(itertools.product(*(range(k) for k in self.shape[:-1])))
        if self.default is None and (missing := [key for key in keys if key not in self.rows]):
            names = ", ".join(
                states[k] for states, k in zip(self.parent_states, missing[0], strict=True)
            )
            message = f"{self.name.text!r} has no table"
            if names:
                message = f"{self.name.text!r} has no row for ({names})"
            raise FileError(self.reader.path, self.name.line, message)
        return torch.tensor(
            [self.rows.get(key, self.default) for key in keys], dtype=torch.float64
        ).view(self.shape)


def write_bif(
    path: PathLike, structure: NetworkStructure, tables: Tensor, name: str = "unknown"
) -> None:
    """Write a BIF file; numbers are written so that they are read back exactly."""
    with replacing(path) as part:
        part.write_text(
            "".join(_bif_lines(structure, tables.detach().double().cpu(), name)), encoding="utf-8"
        )


def _bif_lines(structure: NetworkStructure, tables: Tensor, name: str) -> Iterator[str]:
    yield f"network {_quoted(name)} {{\n}}\n"
    for node, states in structure.states.items():
        names = ", ".join(map(_quoted, states))
        yield f"variable {_quoted(node)} {{\n"
        yield f"  type discrete [ {len(states)} ] {{ {names} }};\n}}\n"
    for node, rows in named_rows(structure, tables):
        parents = structure.parents[node]
        variables = _quoted(node)
        if parents:
            variables += f" | {', '.join(map(_quoted, parents))}"
        yield f"probability ( {variables} ) {{\n"
        keys = itertools.product(*(structure.states[parent] for parent in parents))
        for key, row in zip(keys, rows.tolist(), strict=True):
            head = "table"
            if parents:
                head = f"({', '.join(map(_quoted, key))})"
            yield f"  {head} {', '.join(map(repr, row))};\n"
        yield "}\n"


def _quoted(name: str) -> str:
    if PLAIN.fullmatch(name):
        return name
    return json.dumps(name, ensure_ascii=False)


__all__ = ["read_bif", "write_bif"]
