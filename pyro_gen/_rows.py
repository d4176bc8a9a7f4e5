"""Rows as tensors: the one rule by which models take arrays, data frames and data types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEPT = (torch.float32, torch.float64)
"""Data types that a model takes over from its data."""


def as_tensor(x: Any) -> Any:
    """A table of numbers as a tensor.

    Arrays, lists of numbers, and whatever has ``to_numpy``: data frames and series of
    pandas and polars, arrays of xarray. None and NA become NaN. Memory is shared
    where types allow it.

    Args:
        x: the table; anything else comes back as it is, for the check that follows.

    Raises:
        ValueError: a cell holds no number; the message names the column.

    Example:
        >>> as_tensor([[1, None], [0.5, 2]])
        tensor([[1.0000,    nan],
                [0.5000, 2.0000]], dtype=torch.float64)
    """
    if isinstance(x, Tensor | str | bytes):
        return x
    if hasattr(x, "to_numpy"):
        array = _of_frame(x)
    elif isinstance(x, np.ndarray) or (isinstance(x, Sequence) and len(x)):
        array = _array(x)
    else:
        return x
    if array.dtype.kind not in "biuf":
        array = _numbers(array, getattr(x, "columns", None))
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _array(x: Any) -> np.ndarray:
    """An array, of objects where rows differ in length or hold tensors."""
    if isinstance(x, np.ndarray):
        return x
    if isinstance(x[0], Tensor):
        return torch.stack(list(x)).detach().cpu().numpy()
    array = np.asarray(x)
    return array if array.dtype.kind in "biuf" else np.array(x, dtype=object)


def _of_frame(x: Any) -> np.ndarray:
    """A data frame, a series or an array of xarray in numpy, NA of pandas as NaN."""
    dtypes = getattr(x, "dtypes", None)
    columns = list(dtypes) if isinstance(dtypes, Iterable) else [dtypes]
    if any(hasattr(column, "numpy_dtype") for column in columns):  # of pandas, with NA
        kinds = [getattr(column, "numpy_dtype", column) for column in columns]
        if all(getattr(kind, "kind", "O") in "biuf" for kind in kinds):
            array: np.ndarray = x.to_numpy(np.result_type(np.float32, *kinds), na_value=np.nan)
            return array
    array = x.to_numpy()
    return array


def _numbers(array: np.ndarray, columns: Any) -> np.ndarray:
    """An array of objects as float64, missing values as NaN."""
    flat = array.reshape(-1)
    numbers = np.empty(len(flat))
    for index, value in enumerate(flat.tolist()):
        if value is None or type(value).__name__ in ("NAType", "NaTType"):
            numbers[index] = np.nan
        elif isinstance(value, bool | int | float):
            numbers[index] = value
        else:
            column = index % array.shape[-1] if array.ndim > 1 else 0
            name = repr(list(columns)[column]) if columns is not None else column
            raise ValueError(
                f"`x` must hold numbers, got {value!r} in column {name}: give categories a "
                "number each, or use models.BayesianNetwork, which takes names"
            )
    return numbers.reshape(array.shape)


def as_floating(x: Any, like: Tensor | None = None) -> Any:
    """Rows in a data type that models compute in.

    float32 and float64 stay. Truth values, whole numbers, float16 and bfloat16
    take the data type of the model that reads them; where a model is made of
    them, torch's default data type.

    Args:
        x: rows, as `as_tensor` takes them; anything else comes back as it is,
            for the check that follows.
        like: any parameter of the model that reads the rows; None where a model
            is made.

    Raises:
        ValueError: the rows are complex, or whole numbers that would be
            rounded.

    Example:
        >>> as_floating(torch.tensor([[0, 1]]))
        tensor([[0., 1.]])
        >>> as_floating(torch.eye(2).double()).dtype
        torch.float64
    """
    x = as_tensor(x)
    if not isinstance(x, Tensor) or x.dtype in KEPT:
        return x
    if x.is_complex():
        raise ValueError(f"`x` must be real numbers, got {x.dtype}")
    dtype = torch.get_default_dtype() if like is None else like.dtype
    rows = x.to(dtype)
    if x.dtype.itemsize > 2 and not torch.equal(rows.to(x.dtype), x):
        raise ValueError(
            f"`x` must be whole numbers that {dtype} holds exactly: give float64 rows, got "
            f"{x.dtype}"
        )
    return rows


__all__ = ["as_floating", "as_tensor"]
