"""HDF5 files of foreign origin: data sets that lie in the file itself, and a
checksum over them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from pyro_gen._optional import require

EXPANSION = 1100
"""Bytes at most that one compressed byte stands for: deflate's limit is 1032."""
REFERENCE = struct.Struct("<IQI")
"""A text of variable length in a data set: length, address of the heap, number in the heap."""
HEAP = struct.Struct("<4s4xQ")
"""Header of a heap: signature, version, size of the whole."""
OBJECT = struct.Struct("<H6xQ")
"""Header of an object in a heap: number, count of references, size."""


class WrongFileError(Exception):
    """A file that can be read and is not what it should be."""


def member(group: Any, path: str) -> Any:
    """A group or data set, None where there is none; only hard links are followed.

    Args:
        group: where ``path`` begins.
        path: names with slashes between them.

    Raises:
        WrongFileError: a name is a soft, external or user-defined link, which
            may lead out of the file.
    """
    h5py = require("h5py", "pyro_gen.interop", "interop")
    for name in path.split("/"):
        links = group.id.links if isinstance(group, h5py.Group) else None
        if links is None or not links.exists(name.encode()):
            return None
        if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise WrongFileError(
                f"{group.file.filename} has a link at {path}, and links are not followed"
            )
        group = group[name]
    return group


def values(group: Any, path: str) -> Any:
    """The content of a data set, None where there is none.

    Args:
        group: where ``path`` begins.
        path: names with slashes between them.

    Raises:
        WrongFileError: it is no data set, lies in other files, is larger than
            what the file stores of it, or is a text in a damaged heap.
    """
    dataset = member(group, path)
    if dataset is None:
        return None
    name = f"{group.file.filename}: `{path}`"
    if not hasattr(dataset, "is_virtual"):
        raise WrongFileError(f"{name} must be a data set, got a group")
    if dataset.external or dataset.is_virtual:
        raise WrongFileError(f"{name} lies in other files, which are not read")
    stored = dataset.id.get_storage_size() * (EXPANSION if dataset.compression else 1)
    if stored < dataset.nbytes:
        raise WrongFileError(
            f"{name} must hold {dataset.nbytes} bytes for its shape {dataset.shape}, got {stored}"
        )
    if dataset.dtype.hasobject:
        _check_text(dataset, name)
    return dataset[()]


def _check_text(data: Any, name: str) -> None:
    """Raise unless a text of variable length lies in a sound heap.

    A damaged one keeps HDF5 in a loop for ever.

    The data set holds a length, the address of the heap and a number in it; the
    heap is a header of 16 bytes, with its size, and objects one behind the
    other, the last of them the free space (HDF5 file format 3.0, section
    III.E).
    """
    offset = data.id.get_offset()
    if data.shape or offset is None or data.id.get_storage_size() != REFERENCE.size:
        raise WrongFileError(f"{name} must be one text that lies in the file as it is")
    with open(data.file.filename, "rb") as file:
        end = file.seek(0, 2)
        file.seek(offset)
        _, place, _ = REFERENCE.unpack(file.read(REFERENCE.size))
        if place > end - OBJECT.size:
            raise WrongFileError(f"{name} is corrupt: its text lies behind the end of the file")
        file.seek(place)
        signature, size = HEAP.unpack(file.read(HEAP.size))
        if HEAP.size < size <= end - place:
            heap = file.read(size - HEAP.size)
        else:
            heap = b""
    if signature != b"GCOL" or not _is_sound(heap):
        raise WrongFileError(f"{name} is corrupt: the lengths in the heap of its text do not fit")


def _is_sound(heap: bytes) -> bool:
    """True if the objects of a heap, without its header, fill it exactly."""
    position = 0
    while len(heap) - position >= OBJECT.size:
        number, size = OBJECT.unpack_from(heap, position)
        if number == 0:  # the free space, whose size includes its own header
            return bool(size == len(heap) - position)
        position += OBJECT.size + size + -size % 8
    return len(heap) > 0 and position <= len(heap)


def checksum(file: Any, names: Iterable[str]) -> str:
    """SHA-256 of data sets with their paths, types and shapes.

    Args:
        file: the file.
        names: data sets and groups, which count with all that is in them. Texts
            must be of fixed length: others lie in a heap without checksums, in
            which a damaged length keeps HDF5 itself in a loop for ever.
    """
    digest = hashlib.sha256()
    for path in (path for name in sorted(names) for path in _paths(file, name)):
        if file[path].dtype.hasobject:
            raise WrongFileError(
                f"{file.filename}: `{path}` must be numbers or a text of fixed length"
            )
        array = np.asarray(values(file, path))
        digest.update(f"{path} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def _paths(group: Any, path: str, depth: int = 8) -> Iterator[str]:
    """Paths of the data sets at and below a name, sorted."""
    entry = member(group, path)
    if entry is not None and not hasattr(entry, "keys"):
        yield path
    elif entry is not None and depth:
        for name in sorted(entry):
            yield from _paths(group, f"{path}/{name}", depth - 1)


__all__ = ["WrongFileError", "checksum", "member", "values"]
