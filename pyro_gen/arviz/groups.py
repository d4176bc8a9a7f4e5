"""What all converters share: arrays with named dimensions become groups of ArviZ 0.2x or 1.x."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

CHAINS = ("chain", "draw")
Dims = Mapping[str, Sequence[str | None]]
Labels = Mapping[str, np.ndarray]
Coords = Mapping[str, int | Sequence[Any] | np.ndarray]


class Variable(NamedTuple):
    """An array, the names of its dimensions, attributes, and labels along a dimension of another name."""

    dims: tuple[str, ...]
    values: np.ndarray
    attrs: Mapping[str, Any] = {}
    beside: Mapping[str, tuple[str, np.ndarray]] = {}


def require(name: str) -> Any:
    """Import an optional package or say how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"pyro_gen.arviz needs {name}: pip install pyro-gen[arviz] ({error})") from error


def warn(message: str) -> None:
    """Warn at the user's line: the innermost one outside of this package."""
    level = 1
    while str(sys._getframe(level).f_globals.get("__name__")).startswith("pyro_gen.arviz"):
        level += 1
    warnings.warn(message, stacklevel=level + 1)


def makes_trees(arviz: Any) -> bool:
    """Whether this is ArviZ 1.x; that has an `InferenceData` too, another name for DataTree which warns."""
    return int(arviz.__version__.split(".")[0]) >= 1


def container(groups: Mapping[str, Any]) -> Any:
    """Return the groups as `arviz.InferenceData` or `xarray.DataTree`, as the installed ArviZ has it."""
    arviz = require("arviz")
    return require("xarray").DataTree.from_dict(groups) if makes_trees(arviz) else arviz.InferenceData(**groups)


def array(given: Tensor | np.ndarray) -> np.ndarray:
    """Return an array in the memory of the CPU, in a type that NetCDF has."""
    if isinstance(given, Tensor):
        half = given.dtype in (torch.float16, torch.bfloat16)
        given = given.detach().cpu().to(torch.float32 if half else given.dtype).resolve_neg().numpy()
    values = np.asarray(given)
    return values.astype(np.float32) if values.dtype == np.float16 else values


def labels_of(given: int | Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return the labels of a dimension for which a user gave labels, or just a size."""
    return np.arange(given) if isinstance(given, (int, np.integer)) else np.asarray(given)


def dataset(variables: Mapping[str, Variable], labels: Labels, attrs: Mapping[str, Any]) -> Any:
    """Return a group; a dimension without labels counts from 0."""
    coords: dict[str, Any] = {}
    for variable in variables.values():
        for name, size in zip(variable.dims, variable.values.shape, strict=True):
            coords[name] = labels.get(name, np.arange(size))
        coords |= variable.beside
    arrays = {name: (variable.dims, variable.values, dict(variable.attrs)) for name, variable in variables.items()}
    maker = {"inference_library": "pyro-ppl", "inference_library_version": version("pyro-ppl")}
    about = {"created_at": datetime.now(UTC).isoformat(), **maker, **attrs}
    return require("xarray").Dataset(arrays, coords, about)
