"""The project's own contenders: what a user gets, and each path by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from benchmarks.timing import Contender, UnavailableError

VARIABLE = "PYRO_GEN_BACKEND"
NAMES = ("native", "cpu")


@contextmanager
def forced(name: str | None) -> Iterator[None]:
    """Have the ops take one path inside the block; None for what they choose themselves."""
    before = os.environ.pop(VARIABLE, None)
    try:
        if name is not None:
            os.environ[VARIABLE] = name
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def on_path(name: str | None, contender: Contender) -> Contender:
    """Run a contender on one path, the variable set outside of what is timed.

    Args:
        name: a value of ``PYRO_GEN_BACKEND``, or None for what a user gets.
        contender: calls the project's ops.

    Returns:
        The contender on that path.

    Raises:
        UnavailableError: the path cannot run here.
    """
    with forced(name):
        try:
            contender.run()
        except ValueError as error:
            raise UnavailableError(str(error)) from error
    return replace(contender, around=lambda: forced(name))


def every_path(
    make: Callable[[], Contender], suffix: str = ""
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """Name and maker of the default and of every path, for the list of a mode's contenders."""
    yield f"pyro_gen{suffix}", lambda: on_path(None, make())
    for name in NAMES:
        yield f"pyro_gen {name}{suffix}", partial(_made, name, make)


def _made(name: str, make: Callable[[], Contender]) -> Contender:
    return on_path(name, make())
