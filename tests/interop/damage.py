"""Damage to files, and whether a reader notices it."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

CENTRAL = b"PK\x01\x02"
"""What an entry of a zip file's directory begins with."""


def damaged(good: bytes, flips: int) -> list[bytes]:
    """A content truncated at twenty places, and with one bit flipped anywhere, ``flips`` times."""
    draw, contents = random.Random(0), [good[: len(good) * i // 20] for i in range(20)]
    for _ in range(flips):
        flipped = bytearray(good)
        flipped[draw.randrange(len(good))] ^= 1 << draw.randrange(8)
        contents.append(bytes(flipped))
    return contents


def overwritten(good: bytes, times: int) -> Iterator[bytes]:
    """A content with blocks zeroed, exchanged, repeated or left out, and with bytes before, behind and inside."""
    draw = random.Random(1)
    yield from (good + b"\0", good + bytes(1000), bytes(512) + good, good + good, b"", bytes(len(good)))
    for _ in range(times):
        size = draw.choice((1, 4, 8, 64, 512))
        a, b = sorted(draw.randrange(max(1, len(good) - size)) for _ in range(2))
        first, second = good[a : a + size], good[b : b + size]
        kind = draw.randrange(4)
        if kind == 0:
            yield good[:a] + bytes(size) + good[a + size :]
        elif kind == 1 and b >= a + size:
            yield good[:a] + second + good[a + size : b] + first + good[b + size :]
        elif kind == 2:
            yield good[:a] + first + good[a:]
        else:
            yield good[:a] + good[a + size :]


def redirected(good: bytes) -> Iterator[bytes]:
    """A zip file whose directory lies: sizes, checksums, places and names of members, one number at a time."""
    entries = [i for i in range(len(good)) if good.startswith(CENTRAL, i)]
    for entry in entries:
        for fields in ((20, 24), (20,), (24,), (16,), (42,), (10,)):  # sizes, checksum, place, compression
            for change in (1, -1, 8, -8, 64, 1 << 20):
                bad = bytearray(good)
                for field in fields:
                    (value,) = struct.unpack_from("<I", good, entry + field)
                    struct.pack_into("<I", bad, entry + field, (value + change) % 2**32)
                yield bytes(bad)
    for one in entries:
        for other in entries:
            if one < other:
                bad = bytearray(good)  # sizes, checksum and place of one member under the name of another
                bad[one + 10 : one + 46], bad[other + 10 : other + 46] = (
                    good[other + 10 : other + 46],
                    good[one + 10 : one + 46],
                )
                yield bytes(bad)


def longer_members(good: bytes) -> Iterator[bytes]:
    """A zip file whose directory says of one member that it is longer, and whose content has another bit.

    A reader that stops at the end of its array does not come to the checksum.
    """
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        infos = archive.infolist()
    entries = [i for i in range(len(good)) if good.startswith(CENTRAL, i)]
    for info, entry in zip(infos, entries, strict=True):
        for more in (1, 200, 1 << 20):
            bad = bytearray(good)
            for field in (20, 24):
                (size,) = struct.unpack_from("<I", good, entry + field)
                struct.pack_into("<I", bad, entry + field, size + more)
            name, extra = struct.unpack_from("<HH", good, info.header_offset + 26)
            bad[info.header_offset + 30 + name + extra + info.compress_size - 1] ^= 1
            yield bytes(bad)


def twins(good: bytes) -> Iterator[bytes]:
    """A zip file with one of its members a second time, under the same name with another bit."""
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    for chosen, content in members:
        stream = io.BytesIO(good)
        with zipfile.ZipFile(stream, "a") as archive:
            archive._didModify = True  # type: ignore[attr-defined]  # a name that comes twice is only warned of
            info = zipfile.ZipInfo(chosen.filename + "\0")
            info.filename = chosen.filename
            archive.NameToInfo.pop(chosen.filename)
            archive.writestr(info, content[:-1] + bytes([content[-1] ^ 1]))
        yield stream.getvalue()


def refusals(file: Path, contents: Iterable[bytes], read: Callable[[Path], Any], same: Callable[[Any], bool]) -> int:
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
