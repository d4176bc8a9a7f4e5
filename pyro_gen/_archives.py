"""Reading npz files and those of torch with errors that name the file and what is
wrong with it.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

END = struct.Struct("<4s4H2LH")
"""Record at the end of a zip file: its fifth number is that of the members."""


@dataclass(frozen=True)
class Archive:
    """The arrays of one file, and errors that name the file."""

    path: Path
    arrays: Mapping[str, np.ndarray]

    def error(self, reason: str) -> ValueError:
        """Return the error for a file whose content is not what it should be."""
        return ValueError(f"{self.path} is not such a data set: {reason}")

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self.arrays:
            raise self.error(
                f"it has no array `{key}`, only {', '.join(sorted(self.arrays)) or 'none at all'}"
            )
        return self.arrays[key]

    def number(self, key: str, kinds: str = "iu") -> float:
        """Return an array that must be one positive number of the given kinds."""
        array = self[key]
        if array.ndim or array.dtype.kind not in kinds or not 0 < array < np.inf:
            raise self.error(
                f"`{key}` must be one positive number, got {array.dtype} of shape {array.shape}: "
                f"{array}"
            )
        return array.item()

    def bits(self, key: str, width: int) -> Tensor:
        """Return packed rows of so many bits as uint8, shape (n, width)."""
        packed = self[key]
        count = f"n_{key}"
        if count in self.arrays:
            rows = int(self.number(count))
        else:
            rows = len(np.atleast_1d(packed))
        expected = (rows, -(-width // 8))
        if packed.dtype != np.uint8 or packed.shape != expected or not rows:
            raise self.error(
                f"`{key}` must be rows of bits, uint8 of shape {expected}, got {packed.dtype} of "
                f"shape {packed.shape}"
            )
        return torch.from_numpy(np.unpackbits(packed, axis=1, count=width))

    def zeros_and_ones(self, key: str, width: int) -> Tensor:
        """Return rows of zeros and ones as uint8, shape (n, width)."""
        array = self[key]
        if array.shape != (len(np.atleast_1d(array)), width) or not np.isin(array, (0, 1)).all():
            raise self.error(
                f"without `D`, `{key}` must be rows of {width} zeros and ones, got {array.dtype} "
                f"of shape {array.shape}"
            )
        return torch.from_numpy(array.astype(np.uint8))

    def inks(self, key: str, shape: tuple[int, ...], scale: float) -> Tensor:
        """Return grey images as rows of values from 0 to 1."""
        images = self[key]
        if (
            images.ndim != 3
            or images.dtype.kind != "u"
            or images.shape[1:] != shape
            or not images.size
        ):
            got = f"{images.dtype} of shape {images.shape}"
            raise self.error(
                f"`{key}` must be unsigned, (n, rows, columns), sized alike in both splits, got "
                f"{got}"
            )
        if images.max() > scale:
            raise self.error(
                f"`{key}` must be at most {scale:g}, the value of full ink, got {images.max()}"
            )
        return torch.from_numpy(
            images.reshape(len(images), -1).astype(np.float32) / np.float32(scale)
        )

    def integers(self, key: str, length: int) -> Tensor:
        """Return a list of non-negative integers as int64."""
        array = self[key]
        if (
            array.shape != (length,)
            or array.dtype.kind not in "iu"
            or (array.astype(np.int64) < 0).any()
        ):
            got = f"{array.dtype} of shape {array.shape}"
            raise self.error(
                f"`{key}` must have shape ({length},) and hold integers from 0 on, got {got}"
            )
        return torch.from_numpy(array.astype(np.int64))


def read_archive(path: Path) -> Archive:
    """Read all arrays of an npz file.

    Refuse pickled ones, and members whose checksum or length is not theirs.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not a readable data set: it is no npz archive, or its end is missing"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            check_directory(archive)
            return Archive(
                path, {_name(info): _read_member(archive, info) for info in archive.infolist()}
            )
    except Exception as error:
        # numpy, zipfile and zlib raise a dozen classes on files that were cut
        # or overwritten
        raise ValueError(f"{path} is not a readable data set: {error}") from error


def check_directory(archive: zipfile.ZipFile) -> None:
    """Raise where the directory of a zip file holds fewer members than it says, or two
    of one name.

    A reader passes over an entry that a damaged length of the one before
    swallows, and of two members with one name takes one or the other.

    Args:
        archive: an open zip file.

    Raises:
        zipfile.BadZipFile: it does.
    """
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise zipfile.BadZipFile(
            f"it has two members {next(name for name in names if names.count(name) > 1)!r}"
        )
    count = _entries(archive)
    if count not in (len(names), 0xFFFF):  # the largest number says that another record has it
        raise zipfile.BadZipFile(f"its directory must hold {count} members, got {len(names)}")


def _entries(archive: zipfile.ZipFile) -> int:
    """Number of members that the end of the directory states."""
    file = archive.fp
    if file is None:
        raise zipfile.BadZipFile("it is closed")
    size = file.seek(0, 2)
    file.seek(max(0, size - 2**16 - END.size))
    tail = file.read()
    record = END.unpack_from(tail, tail.rindex(b"PK\5\6"))
    return int(record[4])


def check_members(archive: zipfile.ZipFile) -> None:
    """Raise where the members of a zip file are not what was written; every byte is read.

    Args:
        archive: an open zip file.

    Raises:
        zipfile.BadZipFile: a checksum is wrong, a member is cut off, or a name
            comes twice.
    """
    check_directory(archive)
    if broken := archive.testzip():
        raise zipfile.BadZipFile(f"wrong checksum of {broken}")


def load_tensors(path: Path, kind: str = "file") -> Any:
    """Content of a file that `torch.save` wrote, on the CPU.

    Every checksum is checked, and no code is run.

    Args:
        path: the file.
        kind: what it is, for the message.

    Raises:
        ValueError: it is corrupt, truncated, or no such file.
    """
    with path.open("rb") as file:
        try:
            check_members(zipfile.ZipFile(file))  # torch itself reads past wrong checksums
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a broken archive raises whatever its first broken part raises
            raise ValueError(
                f"the {kind} `{path}` is corrupt or truncated and left as it is: {error}"
            ) from error


def _name(info: zipfile.ZipInfo) -> str:
    if not info.filename.endswith(".npy"):
        raise zipfile.BadZipFile(f"its member {info.filename!r} is no array")
    return info.filename.removesuffix(".npy")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One member, read to its end: there zipfile looks at the checksum, which numpy
    does not reach.
    """
    content = archive.read(info)
    stream = io.BytesIO(content)
    array = np.lib.format.read_array(stream, allow_pickle=False)
    if len(content) != info.file_size or stream.read(1):
        raise zipfile.BadZipFile(
            f"the length of its member {info.filename!r} is not that of the array"
        )
    return array
