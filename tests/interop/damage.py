"""Damage to files, and whether a reader notices it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

from pyro_gen.nn import RBM


def damaged(good: bytes, flips: int) -> list[bytes]:
    """A content truncated at twenty places, and with one bit flipped anywhere, ``flips`` times."""
    draw, contents = random.Random(0), [good[: len(good) * i // 20] for i in range(20)]
    for _ in range(flips):
        flipped = bytearray(good)
        flipped[draw.randrange(len(good))] ^= 1 << draw.randrange(8)
        contents.append(bytes(flipped))
    return contents


def refusals(file: Path, contents: Iterable[bytes], read: Callable[[Path], RBM], same: Callable[[RBM], bool]) -> int:
    """How many contents ``read`` refuses by an error that names the file; what it reads of others must be ``same``."""
    refused = 0
    for content in contents:
        file.write_bytes(content)
        back, error = None, ""
        try:
            back = read(file)
        except ValueError as refusal:
            error = str(refusal)
        assert str(file) in error if back is None else same(back)
        refused += back is None
    return refused
