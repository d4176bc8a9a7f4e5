"""Binary data: AlphaDigits (shipped), bars and stripes (generated), public sets
(downloaded once), and files of the user's own.

Binary AlphaDigits was collected by Sam Roweis
(`binaryalphadigs.mat`, on his page at New York University): handwritten 0-9 and
A-Z, 36 classes with 39 samples each, images of 20 rows and 16 columns.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_gen._archives import Archive, read_archive
from pyro_gen._arguments import whole_number
from pyro_gen._augmentation import shifted, warped
from pyro_gen._files import replacing
from pyro_gen._optional import require
from pyro_gen._rows import as_tensor
from pyro_gen._sources import SOURCES, download

__all__ = [
    "BinaryDataset",
    "GrayDataset",
    "LabelledImages",
    "Minibatches",
    "alphadigits",
    "available",
    "bars_and_stripes",
    "data_folder",
    "load",
    "load_gray",
    "load_images",
    "minibatches",
    "save_binary",
    "shifted",
    "split",
    "warped",
]

SPLITS = ("train", "valid", "test")
MAX_SIDE = 16  # of bars and stripes: 2**16 patterns of each direction
TEXTS = (".csv", ".tsv", ".txt", ".data")
BITS = frozenset({"0", "1", "0.0", "1.0"})
GATHER = 64  # batches that one gather of `Minibatches` fetches


class _Shown:
    """Data classes that print shapes in place of tensors, and leave out what is None."""

    def __repr__(self) -> str:
        """Name and shapes."""
        entries = ((entry.name, getattr(self, entry.name)) for entry in fields(self))  # type: ignore[arg-type]
        shown = [f"{name}={_shown(value)}" for name, value in entries if value is not None]
        return f"{type(self).__name__}({', '.join(shown)})"


def _shown(value: Any) -> str:
    """Shape of a tensor; of many names, the first and their number."""
    if isinstance(value, Tensor):
        return f"tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple) and len(value) > 4:
        return f"({', '.join(map(repr, value[:3]))}, ... {len(value)} in all)"
    return repr(value)


@dataclass(frozen=True, repr=False)
class BinaryDataset(_Shown):
    """Rows of zeros and ones with a fixed split; what a set does not have is None.

    Args:
        name: the name of the set.
        train: shape (n, D), zeros and ones in a floating dtype; so are `valid`
            and `test`.
        valid: rows to choose hyperparameters on.
        test: rows for the one figure that is reported.
        train_labels: shape (n,), int64, indices into `classes`; so are
            `valid_labels` and `test_labels`.
        valid_labels: labels of `valid`.
        test_labels: labels of `test`.
        train_index: shape (n,), int64, the place of every row in the original
            collection; so are the other two.
        valid_index: places of `valid`.
        test_index: places of `test`.
        shape: the event as an image, (rows, columns) with rows * columns = D.
        classes: the names of the classes.
    """

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor
    train_labels: Tensor | None = None
    valid_labels: Tensor | None = None
    test_labels: Tensor | None = None
    train_index: Tensor | None = None
    valid_index: Tensor | None = None
    test_index: Tensor | None = None
    shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] | None = None

    @property
    def image_shape(self) -> tuple[int, int]:
        """Rows and columns of the images; a ValueError where the rows are no images."""
        if self.shape is None or len(self.shape) != 2:
            reason = f"its `shape` must be two numbers, got {self.shape}"
            raise ValueError(
                f"pictures need images of rows and columns, and `{self.name}` holds none: {reason}"
            )
        return self.shape[0], self.shape[1]


@dataclass(frozen=True, repr=False)
class LabelledImages(BinaryDataset):
    """A `BinaryDataset` of images of known classes: labels, places, shape and class
    names are all there.

    Args:
        name: the name of the set.
        train: shape (n, rows * columns), zeros and ones in a floating dtype; so
            are `valid` and `test`.
        valid: rows to choose hyperparameters on.
        test: rows for the one figure that is reported.
        train_labels: shape (n,), int64, indices into `classes`; so are
            `valid_labels` and `test_labels`.
        valid_labels: labels of `valid`.
        test_labels: labels of `test`.
        train_index: shape (n,), int64, the place of every row in the original
            collection; so are the other two.
        valid_index: places of `valid`.
        test_index: places of `test`.
        shape: (rows, columns) of an image.
        classes: the names of the classes.
    """

    # A bare annotation would inherit the default None; `field()` makes the
    # argument a required one.
    train_labels: Tensor = field()
    valid_labels: Tensor = field()
    test_labels: Tensor = field()
    train_index: Tensor = field()
    valid_index: Tensor = field()
    test_index: Tensor = field()
    shape: tuple[int, int] = field()
    classes: tuple[str, ...] = field()


@dataclass(frozen=True, repr=False)
class GrayDataset(_Shown):
    """Grey images with the collection's own train and test split.

    Args:
        name: the name of the set.
        train: shape (n, D), from 0 (background) to 1 (ink); so is `test`.
        test: rows for the one figure that is reported.
        train_labels: shape (n,), int64; so is `test_labels`.
        test_labels: labels of `test`.
        shape: (rows, columns) with rows * columns = D.
    """

    name: str
    train: Tensor
    test: Tensor
    train_labels: Tensor
    test_labels: Tensor
    shape: tuple[int, ...]


def alphadigits(
    characters: Sequence[str] | None = None, *, dtype: torch.dtype = torch.float32
) -> LabelledImages:
    r"""Binary AlphaDigits, 1404 images of 36 handwritten characters, in a fixed split
    of 29, 5 and 5 a character.

    Images are rows of 320 zeros and ones, 20 rows by 16 columns read row by
    row.

    Args:
        characters: the characters to keep, such as ``["A", "B", "C"]`` or
            ``"ABC"``; all 36 by default. `classes` and the labels then follow
            this order.
        dtype: floating dtype of the images.

    Returns:
        The set, with labels, class names and the places of the images in the
        original collection.

    Raises:
        ValueError: if a character is unknown or named twice, or none is named.

    References:
        S. Roweis, Binary AlphaDigits, `binaryalphadigs.mat`, New York
        University.

    Example:
        >>> data = alphadigits()
        >>> data.train.shape, data.valid.shape, data.test.shape
        (torch.Size([1044, 320]), torch.Size([180, 320]), torch.Size([180, 320]))
        >>> letters = alphadigits(["A", "B", "C"])
        >>> letters.train.shape, letters.classes
        (torch.Size([87, 320]), ('A', 'B', 'C'))
        >>> glyph = letters.train[0].reshape(letters.shape)
        >>> print("\n".join("".join("-#"[int(pixel)] for pixel in row) for row in glyph[3:6]))
        ---------#####--
        ----####--#####-
        ----####---#####
    """
    source = resources.files("pyro_gen") / "data" / "alphadigits.npz"
    with resources.as_file(source) as path:
        data = load_images(path, dtype=dtype)
    if characters is None:
        return data
    return _select(data, characters, "characters")


def _select(data: LabelledImages, characters: Sequence[str], argument: str) -> LabelledImages:
    """Keep the rows of some classes and renumber these classes."""
    classes = data.classes
    if unknown := [name for name in characters if name not in classes]:
        raise ValueError(
            f"`{argument}` must be among {' '.join(classes)}, got unknown "
            f"{', '.join(map(repr, unknown))}"
        )
    if not characters or len(set(characters)) < len(characters):
        raise ValueError(
            f"`{argument}` must name one or more {argument}, each once, got {list(characters)!r}"
        )
    class_numbers = torch.tensor([classes.index(name) for name in characters])
    fields: dict[str, Any] = {"classes": tuple(characters)}
    for split in SPLITS:
        row, label = (getattr(data, f"{split}_labels")[:, None] == class_numbers).nonzero(
            as_tuple=True
        )
        fields |= {split: getattr(data, split)[row], f"{split}_labels": label}
        fields[f"{split}_index"] = getattr(data, f"{split}_index")[row]
    return replace(data, **fields)


def bars_and_stripes(
    rows: int, columns: int, distinct: bool = True, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    r"""Images whose rows are all alike or whose columns are all alike: a small
    distribution that is known exactly.

    .. math:: v_{ij} = r_i \quad\text{or}\quad v_{ij} = c_j, \qquad r \in \{0,1\}^{rows},\ c
        \in \{0,1\}^{columns}

    Under the uniform distribution over the n distinct patterns the best mean
    log likelihood is -log n: -2.639 nats for 3 x 3 (14 patterns), -3.401 nats
    for 4 x 4 (30 patterns).

    Args:
        rows: rows of an image, 1 to 16.
        columns: columns of an image, 1 to 16.
        distinct: each pattern once. Otherwise all 2**rows + 2**columns choices,
            so that the empty and the full image, which are both, come twice.
        dtype: dtype of the images.

    Returns:
        Zeros and ones, shape (n, rows * columns), images row by row.

    Raises:
        ValueError: if a side is below 1 or above 16.

    References:
        D. MacKay, Information Theory, Inference, and Learning Algorithms, 2003,
        section 43.

    Example:
        >>> bars_and_stripes(3, 3).shape, bars_and_stripes(3, 3, distinct=False).shape
        (torch.Size([14, 9]), torch.Size([16, 9]))
    """
    rows = whole_number("rows", rows)
    columns = whole_number("columns", columns)
    if max(rows, columns) > MAX_SIDE:
        raise ValueError(
            f"`rows` and `columns` must be between 1 and {MAX_SIDE}, got {rows} and {columns}"
        )
    across = _bits(rows)[:, :, None].expand(-1, rows, columns)
    down = _bits(columns)[:, None, :].expand(-1, rows, columns)
    if distinct:
        down = down[1:-1]  # the first is empty and the last full, as in `across`
    return torch.cat([across, down]).reshape(-1, rows * columns).to(dtype)


def _bits(width: int) -> Tensor:
    """All words of `width` bits in counting order, shape (2**width, width)."""
    return (torch.arange(2**width)[:, None] >> torch.arange(width - 1, -1, -1)) & 1


def data_folder(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that `load` reads.

    Args:
        root: the folder, if it is neither `$PYRO_GEN_DATA` nor the default.

    Returns:
        `root`, else `$PYRO_GEN_DATA`, else the folder `pyro_gen` in the user's
        cache directory (`$XDG_CACHE_HOME` or `~/.cache`; `~/Library/Caches` on
        macOS; `%LOCALAPPDATA%` on Windows). It need not exist.

    Example:
        >>> data_folder("sets").name
        'sets'
    """
    folder = root or os.environ.get("PYRO_GEN_DATA")
    if folder:
        return Path(folder).expanduser()
    return _cache_folder() / "pyro_gen"


def _cache_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def load(
    name: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> BinaryDataset:
    """Read a binary data set: one of the public ones by its name, or a file.

    The sets `nltcs`, `plants`, `bnetflix`, `dna`, `mushrooms` and
    `binarized_mnist` are downloaded on first use, checked and kept in
    `data_folder(root)`.

    An npz file is that of `save_binary`, or holds `train`, `valid` and `test`
    as arrays of zeros and ones of shape (n, D). A text file (``.csv``,
    ``.tsv``, ``.txt``, ``.data``) has zeros and ones, one row a line, separated
    by commas, semicolons or white space, perhaps below a line of column names;
    its rows are divided by `split`. Pickled content is refused.

    Args:
        name: a name such as ``"nltcs"``, looked up in `data_folder(root)`; or a
            path: a `Path`, or a string with one of the endings above; or
            ``"alphadigits"`` without `root`, which comes with the package.
        root: the folder of the sets, if it is not the default of `data_folder`.
        dtype: floating dtype of the rows.

    Returns:
        The set.

    Raises:
        FileNotFoundError: if there is no such file and it could not be
            downloaded; the message says where it was looked for and how to get
            it.
        ValueError: if `name` is neither a name nor a path, or the file is
            truncated, corrupt or not such a set; the message names the file and
            the reason.

    References:
        Van Haaren and Davis (2012), Markov network structure learning;
        Larochelle and Murray (2011), The neural autoregressive distribution
        estimator; Salakhutdinov and Murray (2008), On the quantitative analysis
        of deep belief networks (`binarized_mnist`).

    Example:
        >>> file = getfixture("tmp_path") / "coins.npz"
        >>> import numpy as np
        >>> rows = np.eye(3, dtype=np.uint8)
        >>> np.savez(file, D=3, **{split: np.packbits(rows, axis=1) for split in ("train",
        ...     "valid", "test")})
        >>> load("coins", root=file.parent).train
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    if name == "alphadigits" and root is None:
        return alphadigits(dtype=dtype)
    path = _find(name, root)
    if path.suffix in TEXTS:
        return split(_read_text(path), path.stem, dtype=dtype)
    return _binary(read_archive(path), dtype)


def available(name: str, instead: str, root: str | os.PathLike[str] | None = None) -> str:
    """Name of a public data set, or of another one where it cannot be had.

    Args:
        name: the set, which is downloaded if need be.
        instead: the name to return where there is neither a file nor a network.
        root: the folder of the sets, if it is not the default of `data_folder`.

    Returns:
        `name` or `instead`.

    Warns:
        UserWarning: it is `instead`, with the reason.

    Example:
        >>> available("alphadigits", instead="bars")
        'alphadigits'
    """
    if name == "alphadigits":
        return name
    try:
        _find(name, root)
    except FileNotFoundError as error:
        warnings.warn(f"`{instead}` in place of `{name}`: {error}", stacklevel=2)
        return instead
    return name


def split(
    x: Any,
    name: str = "data",
    *,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> BinaryDataset:
    """Divide rows of zeros and ones into a training, a validation and a test set.

    Args:
        x: shape (n, D): a tensor, an array, lists or a data frame, of numbers or
            bool.
        name: the name of the set.
        valid: share of the validation rows.
        test: share of the test rows.
        seed: of the random order; torch's own generator is not touched.
        dtype: floating dtype of the rows.

    Returns:
        The set, with the places of its rows in `x`.

    Raises:
        ValueError: if `x` is no matrix of zeros and ones, or a part would be
            empty.

    Example:
        >>> data = split(torch.eye(20), "unit vectors")
        >>> len(data.train), len(data.valid), len(data.test)
        (16, 2, 2)
    """
    rows = as_tensor(x, "x")
    if not isinstance(rows, Tensor):
        raise ValueError(f"`x` must be a matrix of zeros and ones, got {type(x).__name__}")
    if rows.ndim != 2 or not rows.numel() or not ((rows == 0) | (rows == 1)).all():
        raise ValueError(
            "`x` must be a matrix of zeros and ones, shape (n, D), got shape "
            f"{tuple(rows.shape)}{_first_other(rows)}"
        )
    counts = [round(share * len(rows)) for share in (valid, test)]
    if min(counts) < 1 or sum(counts) >= len(rows):
        raise ValueError(
            "`valid` and `test` must be shares that leave rows to each part, got "
            f"{valid} and {test} of {len(rows)} rows"
        )
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    train_index, valid_index, test_index = order.split([len(rows) - sum(counts), *counts])
    bits = rows.to(dtype)
    return BinaryDataset(
        name,
        bits[train_index],
        bits[valid_index],
        bits[test_index],
        train_index=train_index,
        valid_index=valid_index,
        test_index=test_index,
    )


def _first_other(rows: Tensor) -> str:
    """The first value that is neither 0 nor 1, for a message."""
    other = rows[(rows != 0) & (rows != 1)].flatten()
    return f" with the value {other[0].item()}" if len(other) else ""


def save_binary(data: BinaryDataset, path: str | os.PathLike[str]) -> None:
    """Write a binary data set to an npz file, which `load` reads bit for bit.

    Args:
        data: the set.
        path: the file, with the ending ``.npz``. Missing folders are made.

    Raises:
        ValueError: if `path` does not end in ``.npz``, or the rows are not zeros
            and ones.

    Example:
        >>> file = getfixture("tmp_path") / "unit.npz"
        >>> data = split(torch.eye(20), "unit")
        >>> save_binary(data, file)
        >>> torch.equal(load(file).train, data.train)
        True
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"`path` must end in .npz, got {str(path)!r}")
    arrays: dict[str, Any] = {"D": data.train.shape[-1]}
    for part in SPLITS:
        rows = getattr(data, part)
        if rows.shape[1:] != data.train.shape[1:] or not ((rows == 0) | (rows == 1)).all():
            raise ValueError(
                f"`data.{part}` must be rows of {arrays['D']} zeros and ones, got shape "
                f"{tuple(rows.shape)}{_first_other(rows)}"
            )
        arrays[part] = np.packbits(rows.cpu().numpy().astype(np.uint8), axis=1)
        for key, field_name in (("y", "labels"), ("index", "index")):
            values = getattr(data, f"{part}_{field_name}")
            if values is not None:
                arrays[f"{key}_{part}"] = values.cpu().numpy()
    if data.shape is not None:
        arrays["shape"] = data.shape
    if data.classes is not None:
        arrays["classes"] = np.array(data.classes)
    _write_arrays(path, arrays)


def _write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    with replacing(path) as part:
        np.savez_compressed(part, **arrays)


def load_images(
    name: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    classes: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> LabelledImages:
    """Read binary images of known classes from a file as `load` reads, which must hold
    `shape` and `y_<split>`.

    Args:
        name: a name or a path, as for `load`.
        root: the folder of the sets, if it is not the default of `data_folder`.
        classes: names of the classes to keep, all by default; `classes` and the
            labels then follow this order.
        dtype: floating dtype of the images.

    Returns:
        The set. Where the file does not hold them, classes are named by their
        labels, and places count all rows.

    Raises:
        FileNotFoundError: if there is no such file; the message says where it
            was looked for.
        ValueError: if the file cannot be read or lacks something; the message
            says what.

    Example:
        >>> load_images("alphadigits", classes=["A", "B"]).train.shape
        torch.Size([58, 320])
    """
    data = load(name, root, dtype=dtype)
    fields = vars(data) | {"shape": data.image_shape}
    labels = {split: fields[f"{split}_labels"] for split in SPLITS}
    if lacking := [f"`y_{split}`" for split in SPLITS if labels[split] is None]:
        raise ValueError(
            f"{data.name} must hold the labels of its images, lacks {', '.join(lacking)}"
        )
    counts = [len(labels[split]) for split in SPLITS]
    places = torch.arange(sum(counts)).split(counts)
    for split, place in zip(SPLITS, places, strict=True):
        fields[f"{split}_index"] = (
            place if fields[f"{split}_index"] is None else fields[f"{split}_index"]
        )
    fields["classes"] = data.classes or tuple(
        map(str, range(1 + int(max(y.max() for y in labels.values()))))
    )
    images = LabelledImages(**fields)
    if classes is None:
        return images
    return _select(images, classes, "classes")


def load_gray(
    name: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> GrayDataset:
    """Read grey images: `mnist_gray` or `usps`, downloaded on first use, or a file.

    The archive holds `x_train` and `x_test` (integers, shape (n, rows,
    columns)), `y_train` and `y_test`, and optionally `scale`, the value of full
    ink (255 by default), by which the images are divided.

    Args:
        name: a name or a path, as for `load`.
        root: the folder of the sets, if it is not the default of `data_folder`.
        dtype: floating dtype of the images.

    Returns:
        The set, with images as rows of values from 0 to 1.

    Raises:
        FileNotFoundError: if there is no such file and it could not be
            downloaded; the message says where it was looked for and how to get
            it.
        ValueError: if `name` is neither a name nor a path, or the file is
            truncated, corrupt or not such a set; the message names the file and
            the reason.

    Example:
        >>> file = getfixture("tmp_path") / "dots.npz"
        >>> import numpy as np
        >>> images, labels = np.full((2, 4, 4), 51, np.uint8), np.arange(2)
        >>> np.savez(file, x_train=images, y_train=labels, x_test=images, y_test=labels)
        >>> data = load_gray(file)
        >>> data.train.shape, data.shape, round(data.train.max().item(), 3)
        (torch.Size([2, 16]), (4, 4), 0.2)
    """
    return _gray(read_archive(_find(name, root)), dtype)


def _find(name: str | os.PathLike[str], root: str | os.PathLike[str] | None) -> Path:
    """Path of a file that is there, if need be after a download."""
    if not isinstance(name, str) or name.endswith((".npz", *TEXTS)):
        path = Path(name)
        if not path.is_file():
            raise FileNotFoundError(f"there is no data file {path}")
        return path
    if name in ("", ".", "..") or set(name) & set("/\\:\0"):
        raise ValueError(
            "`name` must be the name of a data set, without folders, or a path (a Path, or a "
            f"string that ends in .npz, {', '.join(TEXTS)}), got {name!r}"
        )
    path = data_folder(root) / f"{name}.npz"
    if not path.is_file():
        _download(name, path)
    return path


def _download(name: str, path: Path) -> None:
    """Fetch a public data set and write its file."""
    if name not in SOURCES:
        raise FileNotFoundError(
            f"there is no data file {path}; set PYRO_GEN_DATA or pass `root` to name the folder "
            f"of the data sets. Those that can be downloaded are {', '.join(sorted(SOURCES))}"
        )
    source = SOURCES[name]
    try:
        pooch = require("pooch", "a download by pyro_gen.datasets", "data")
        with TemporaryDirectory() as folder:
            arrays = download(source, Path(folder), pooch.retrieve)
        _write_arrays(path, arrays)
    except (ImportError, OSError, ValueError) as error:
        raise FileNotFoundError(
            f"there is no data file {path}, and it could not be downloaded: {error}. Set "
            "PYRO_GEN_DATA or pass `root` to name a folder that has it, or get "
            f"{' '.join(source.files)} on another machine"
        ) from error


def _read_text(path: Path) -> np.ndarray:
    """Zeros and ones of a text file, shape (n, D)."""
    lines = path.read_text(encoding="utf-8-sig").replace(",", " ").replace(";", " ").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    if rows and not set(rows[0]) <= BITS:
        rows = rows[1:]  # the names of the columns
    if not rows:
        raise ValueError(f"{path} is not such a data set: it has no rows")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]) or not set(row) <= BITS:
            other = next((value for value in row if value not in BITS), f"{len(row)} values")
            raise ValueError(
                f"{path} is not such a data set: each row must have {len(rows[0])} zeros and "
                f"ones, got {other} in row {number}"
            )
    return np.array(rows).astype(np.float32).astype(np.uint8)


def _binary(archive: Archive, dtype: torch.dtype) -> BinaryDataset:
    if "x_train" in archive.arrays:
        raise archive.error("it holds grey images, which `load_gray` reads")
    is_packed = "D" in archive.arrays
    width = int(archive.number("D")) if is_packed else np.atleast_1d(archive["train"]).shape[-1]
    fields: dict[str, Any] = {}
    for split in SPLITS:
        rows = archive.bits(split, width) if is_packed else archive.zeros_and_ones(split, width)
        fields[split] = rows.to(dtype)
        for key, name in (("y", "labels"), ("index", "index")):
            if f"{key}_{split}" in archive.arrays:
                fields[f"{split}_{name}"] = archive.integers(f"{key}_{split}", len(rows))
    return BinaryDataset(
        archive.path.stem,
        **fields,
        shape=_shape(archive, width),
        classes=_classes(archive, fields),
    )


def _shape(archive: Archive, width: int) -> tuple[int, ...] | None:
    if "shape" not in archive.arrays:
        return None
    shape = tuple(archive["shape"].ravel().tolist())
    if archive["shape"].dtype.kind not in "iu" or min(shape, default=0) < 1:
        raise archive.error(f"`shape` must be positive integers, got {shape}")
    if math.prod(shape) != width:
        raise archive.error(f"`shape` must multiply to D = {width}, got {shape}")
    return shape


def _classes(archive: Archive, fields: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes, after a look whether every label has one."""
    if "classes" not in archive.arrays:
        return None
    classes = tuple(str(name) for name in archive["classes"].ravel())
    if len(set(classes)) < len(classes):
        raise archive.error(
            f"`classes` must be different names, got {', '.join(map(repr, classes[:12]))}"
        )
    for key in (f"{split}_labels" for split in SPLITS):
        if key in fields and fields[key].max() >= len(classes):
            raise archive.error(
                f"{key} must be below {len(classes)}, the number of classes, got "
                f"{fields[key].max()}"
            )
    return classes


def _gray(archive: Archive, dtype: torch.dtype) -> GrayDataset:
    if "scale" in archive.arrays:
        scale = archive.number("scale", "iuf")
    else:
        scale = 255.0
    shape = archive["x_train"].shape[1:]
    train, test = (archive.inks(key, shape, scale).to(dtype) for key in ("x_train", "x_test"))
    labels = archive.integers("y_train", len(train)), archive.integers("y_test", len(test))
    return GrayDataset(archive.path.stem, train, test, *labels, shape)


class Minibatches:
    """Batches of rows in a fresh random order each pass; made by `minibatches`.

    Args:
        x: shape (n, ...).
        batch_size: rows of a batch.
        shuffle: whether the order is random.
    """

    def __init__(self, x: Tensor, batch_size: int, shuffle: bool = True) -> None:
        if x.ndim == 0 or len(x) == 0:
            raise ValueError(f"`x` must have at least one row, got shape {tuple(x.shape)}")
        batch_size = whole_number("batch_size", batch_size)
        self.x = x
        self.batch_size = batch_size
        self.shuffle = shuffle
        self._order: Tensor | None = None
        self._next = 0
        self._is_restored = False

    def __len__(self) -> int:
        return math.ceil(len(self.x) / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        if not self._is_restored:
            self._order = torch.randperm(len(self.x)) if self.shuffle else None
            self._next = 0
        self._is_restored = False
        for batch in self._batches(self._next):
            self._next += 1
            yield batch
        self._order = None
        self._next = 0

    def _batches(self, done: int) -> Iterator[Tensor]:
        """Batches of a pass but for those that are done."""
        if self._order is None:
            yield from self.x.split(self.batch_size)[done:]
            return
        # One gather serves many batches, which are views of it: little overhead
        # a batch, bounded memory for large data.
        blocks = self._order.to(self.x.device).split(self.batch_size * GATHER)
        for block in blocks[done // GATHER :]:
            yield from self.x[block].split(self.batch_size)[done % GATHER :]
            done = 0

    def state_dict(self) -> dict[str, Any]:
        """Place in the pass that runs: its order and the number of batches that are done."""
        return {"order": self._order, "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on where that of `state_dict` was.

        Args:
            state: what `state_dict` returned.

        Raises:
            ValueError: it is of other rows.
        """
        order = state["order"]
        if order is not None and len(order) != len(self.x):
            raise ValueError(f"the order must be of {len(self.x)} rows, got {len(order)}")
        self._order = order
        self._next = state["next"]
        self._is_restored = self._next > 0


def minibatches(x: Tensor, batch_size: int, *, shuffle: bool = True) -> Minibatches:
    """Batches of the rows of a tensor, in a fresh random order each pass, the last one
    smaller if need be.

    Unlike a `torch.utils.data.DataLoader` over a `TensorDataset` it yields
    plain tensors, on the device of `x`, and costs no Python call a row. The
    order comes from torch's CPU generator whatever the device:
    `pyro.set_rng_seed` fixes it.

    Args:
        x: the data, shape (n, ...). For batches of indices (``pyro.plate(...,
            subsample=index)``, labels beside images) give ``torch.arange(n)``.
        batch_size: rows of a batch.
        shuffle: False keeps the order of the rows.

    Returns:
        An object with a length (the number of batches) over which one can loop
        any number of times.

    Raises:
        ValueError: if `x` has no rows or `batch_size` is below 1.

    Example:
        >>> batches = minibatches(torch.arange(10.0)[:, None], 4)
        >>> len(batches), [tuple(batch.shape) for batch in batches]
        (3, [(4, 1), (4, 1), (2, 1)])
    """
    return Minibatches(x, batch_size, shuffle)
