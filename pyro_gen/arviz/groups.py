"""Groups of ArviZ 0.2x or 1.x from arrays with named dimensions."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import UTC, date, datetime
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_gen import _optional
from pyro_gen._files import json_text

CHAINS = ("chain", "draw")
HUGE = 2**63
"""Whole numbers from here on become text."""
RESERVED = frozenset(
    {
        "CLASS",
        "NAME",
        "DIMENSION_LIST",
        "REFERENCE_LIST",
        "_NCProperties",
        "_Netcdf4Dimid",
        "_Netcdf4Coordinates",
    }
)
"""Names of attributes by which HDF5 and NetCDF keep their own books."""
Dims = Mapping[str, Sequence[str | None]]
Labels = Mapping[str, np.ndarray]
Coords = Mapping[str, int | Sequence[Any] | np.ndarray]


class Variable(NamedTuple):
    """An array, its dimensions, attributes, and labels along a dimension of another name."""

    dims: tuple[str, ...]
    values: np.ndarray
    attrs: Mapping[str, Any] = {}
    beside: Mapping[str, tuple[str, np.ndarray]] = {}


def require(name: str) -> Any:
    """Import a package of the extra ``arviz`` or say how to install it."""
    return _optional.require(name, "pyro_gen.arviz", "arviz")


def warn(message: str) -> None:
    """Warn at the user's line: the innermost one outside of this package."""
    level = 1
    while str(sys._getframe(level).f_globals.get("__name__")).startswith("pyro_gen.arviz"):
        level += 1
    warnings.warn(message, stacklevel=level + 1)


def makes_trees(arviz: Any) -> bool:
    """True for ArviZ 1.x, whose `InferenceData` is another name for DataTree and warns."""
    return int(arviz.__version__.split(".")[0]) >= 1


def container(groups: Mapping[str, Any]) -> Any:
    """Return the groups as the installed ArviZ has them: InferenceData or DataTree."""
    arviz = require("arviz")
    if makes_trees(arviz):
        return require("xarray").DataTree.from_dict(groups)
    return arviz.InferenceData(**groups)


def array(source: Tensor | np.ndarray) -> np.ndarray:
    """Return an array in the memory of the CPU, in a type that NetCDF has."""
    if isinstance(source, Tensor):
        tensor = source.detach().cpu()
        if tensor.dtype in (torch.float16, torch.bfloat16):
            tensor = tensor.float()
        source = tensor.resolve_neg().numpy()
    values = np.asarray(source)
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return values


def labels_of(name: str, values: int | Iterable[Any]) -> np.ndarray:
    """Labels of a dimension, or numbers from 0 for a size, in a type that NetCDF holds.

    Labels of one kind (numbers, text, times) stay as they are; labels of mixed kinds, None and
    dates become text.

    Args:
        name: of the dimension, for the message.
        values: the labels, or how many there are.

    Returns:
        Shape (labels,).

    Raises:
        ValueError: a label is no single value, or two labels become the same text.
    """
    if isinstance(values, int | np.integer):
        return np.arange(values)
    labels = [_unboxed(label) for label in values]
    kinds = {_label_kind(label) for label in labels}
    if "" in kinds:
        example = next(label for label in labels if not _label_kind(label))
        raise ValueError(f"`coords` of {name!r} must have single labels, got {example!r}")
    if len(kinds) <= 1 and kinds <= {"number", "text", "time"}:
        return np.asarray(labels)
    texts = [_label_text(label) for label in labels]
    if len(set(texts)) < len(set(labels)):
        raise ValueError(
            f"`coords` of {name!r} must differ as text, since their types are mixed, got {labels}"
        )
    return np.asarray(texts)


def _unboxed(label: Any) -> Any:
    """Python's own number in place of a tensor of one."""
    if isinstance(label, Tensor) and label.numel() == 1:
        return label.item()
    return label


def _label_text(label: object) -> str:
    if isinstance(label, date):
        return label.isoformat()
    return str(label)


def _label_kind(label: object) -> str:
    """Kind of a label: number, text, time, other; empty for what is no single value."""
    if label is None or isinstance(label, bool | np.bool_ | date):
        return "other"
    if isinstance(label, np.datetime64 | np.timedelta64):
        if np.datetime_data(label.dtype)[0] != "generic":
            return "time"
    elif isinstance(label, int | float | np.integer | np.floating):
        if abs(float(label)) < HUGE:
            return "number"
        return "other"
    elif isinstance(label, str) and _is_writable(label):
        return "text"
    return ""


def attribute(name: object, value: Any) -> Any:
    """Form of an attribute that NetCDF holds.

    Numbers and text stay as they are; nested and missing values become JSON. Dates become ISO
    text, paths text, tensors arrays of one dimension or JSON. ``json.loads`` reads None, truth
    values, dictionaries and mixed lists back.

    Args:
        name: of the attribute.
        value: any of these.

    Returns:
        A number, a text, or an array or list of one dimension.

    Raises:
        ValueError: ``name`` is no text, or NetCDF has no form of ``value``.
    """
    if (
        not isinstance(name, str)
        or not name
        or "/" in name
        or name in RESERVED
        or not _is_writable(name)
    ):
        raise ValueError(
            "`attrs` must have names of text without '/' that NetCDF does not use itself, "
            f"got {name!r}"
        )
    try:
        plain = _plain_attribute(name, value)
    except RecursionError:
        raise ValueError(
            f"`attrs` must not contain themselves, got such a value for {name!r}"
        ) from None
    if isinstance(plain, str | float):
        return plain
    if isinstance(plain, int) and not isinstance(plain, bool):
        if abs(plain) < HUGE:
            return plain
        return str(plain)
    if isinstance(plain, list) and plain:
        if all(isinstance(x, str) for x in plain):
            return plain
        if all(_is_plain_number(x) for x in plain):
            return np.asarray(plain)
    return json_text(plain)


def _is_plain_number(value: object) -> bool:
    """True for a number that an array of NetCDF holds, NaN among them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return not abs(value) >= HUGE


def _is_writable(text: str) -> bool:
    """True unless a text holds NUL or half of a surrogate pair, which no file takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _plain_attribute(name: str, value: Any) -> Any:
    """Python's own numbers, texts, lists and dictionaries."""
    if isinstance(value, Tensor):
        value = array(value)
    if isinstance(value, np.ndarray | np.generic) and not isinstance(value, np.datetime64):
        value = value.tolist()
    if isinstance(value, str) and not _is_writable(value):
        raise ValueError(
            f"`attrs` must hold text that UTF-8 can write, without NUL, got {name}={value!r}"
        )
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, np.datetime64 | os.PathLike):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain_attribute(name, entry) for key, entry in value.items()}
    if isinstance(value, Sequence | Set) and not isinstance(value, bytes):
        if isinstance(value, Set):
            value = sorted(value, key=repr)
        return [_plain_attribute(name, entry) for entry in value]
    raise ValueError(
        "`attrs` must hold numbers, text, dates, and lists or dictionaries of these, "
        f"got {name}={value!r}"
    )


def dataset(variables: Mapping[str, Variable], labels: Labels, attrs: Mapping[str, Any]) -> Any:
    """Return a group; a dimension without labels counts from 0.

    Args:
        variables: by name, with attributes of this package's own.
        labels: of dimensions.
        attrs: of the group, as `netcdf_attributes` gives them.
    """
    coords: dict[str, Any] = {}
    for variable in variables.values():
        for name, size in zip(variable.dims, variable.values.shape, strict=True):
            coords[name] = labels.get(name, np.arange(size))
        coords |= variable.beside
    arrays = {
        name: (variable.dims, variable.values, dict(variable.attrs))
        for name, variable in variables.items()
    }
    maker = {"inference_library": "pyro-ppl", "inference_library_version": version("pyro-ppl")}
    about = {"created_at": datetime.now(UTC).isoformat(), **maker, **attrs}
    return require("xarray").Dataset(arrays, coords, about)


def netcdf_attributes(attrs: Mapping[str, Any] | None) -> dict[str, Any]:
    """All attributes in forms that NetCDF holds; none for None."""
    return {name: attribute(name, value) for name, value in (attrs or {}).items()}
