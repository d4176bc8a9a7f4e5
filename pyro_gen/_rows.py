"""Rows as tensors: the one rule by which models take arrays, data frames and data types."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class FrameLike(Protocol):
    """A table that turns into an array: of pandas, polars or xarray."""

    def __len__(self) -> int: ...

    def to_numpy(self) -> Any:
        """The cells."""


RowsLike = Tensor | np.ndarray | Sequence[Any] | FrameLike
"""Rows as models take them: a tensor, an array, a list or a data frame."""
KEPT = (torch.float32, torch.float64)
"""Data types that a model takes over from its data."""


def as_tensor(x: Any, name: str = "x") -> Any:
    """A table of numbers as a tensor.

    Arrays, lists of numbers, and whatever has ``to_numpy``: data frames and
    series of pandas and polars, arrays of xarray. None, NA and masked cells
    become NaN. Memory is shared where types allow it.

    Args:
        x: the table; anything else comes back as it is, for the check that
            follows.
        name: the argument's name, for messages.

    Raises:
        ValueError: a cell holds no number, or rows differ in length; the
            message names the column.

    Example:
        >>> as_tensor([[1, None], [0.5, 2]])
        tensor([[1.0000,    nan],
                [0.5000, 2.0000]], dtype=torch.float64)
    """
    if isinstance(x, Tensor | str | bytes):
        return x
    if hasattr(x, "to_numpy"):
        array = _of_frame(x)
    elif isinstance(x, np.ma.MaskedArray):
        array = np.ma.filled(x.astype(np.result_type(x.dtype, np.float32)), np.nan)
    elif isinstance(x, np.ndarray):
        array = x
    elif isinstance(x, Sequence) and len(x):
        array = _of_list(x, name)
    else:
        return x
    if array.dtype.kind == "O":
        array = _of_objects(array, name, getattr(x, "columns", None))
    if array.dtype.kind not in "biufc":
        raise ValueError(f"`{name}` must hold numbers, got {array.dtype}")
    return torch.from_numpy(_in_torchs_types(array, name))


def _of_list(x: Any, name: str) -> np.ndarray:
    """An array from a list of numbers, of rows, of arrays or of tensors."""
    try:
        if isinstance(x[0], Tensor):
            return torch.stack(list(x)).detach().cpu().numpy()
        array = np.asarray(x)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must hold rows of one length, got a {type(x).__name__}: {error}"
        ) from error
    if array.dtype.kind in "biuf":
        return array
    return np.array(x, dtype=object)  # text would have made text of the numbers


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


def _of_objects(array: np.ndarray, name: str, columns: Any) -> np.ndarray:
    """An array of objects as float64, missing values as NaN."""
    flat = array.reshape(-1)
    result = np.empty(len(flat))
    for index, value in enumerate(flat.tolist()):
        if value is None or type(value).__name__ in ("NAType", "NaTType"):
            result[index] = np.nan
        elif isinstance(value, numbers.Real | np.bool_):
            result[index] = value
        else:
            column = index % array.shape[-1] if array.ndim > 1 else 0
            label = repr(list(columns)[column]) if columns is not None else column
            raise ValueError(
                f"`{name}` must hold numbers, got {value!r} in column {label}: give categories "
                "a number each, or use models.BayesianNetwork, which takes names"
            )
    return result.reshape(array.shape)


def _in_torchs_types(array: np.ndarray, name: str) -> np.ndarray:
    """An array that torch can share: its types, native bytes, writeable, positive strides."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "u" and dtype.itemsize > 1:
        dtype = np.dtype(np.int64)
        if array.size and array.max() > np.iinfo(dtype).max:
            raise ValueError(f"`{name}` must hold numbers below 2^63, got {array.max()}")
    if dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    array = array.astype(dtype, copy=False)
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    return array


def unfit(x: Tensor) -> str:
    """Kind of values outside a support, for a message.

    Args:
        x: rows of which some lie outside.
    """
    if x.is_floating_point() and x.isnan().any():
        return "NaN"
    return "other values"


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


def as_table(x: RowsLike) -> Tensor:
    """Rows of features by :func:`as_floating`, for a model that is made of them.

    Raises:
        ValueError: they are not (rows, features).
    """
    rows = as_floating(x)
    if not isinstance(rows, Tensor) or rows.dim() != 2:
        if isinstance(rows, Tensor):
            got = f"{rows.dtype} {tuple(rows.shape)}"
        else:
            got = type(rows).__name__
        raise ValueError(f"`x` must be a tensor of shape (rows, features), got {got}")
    return rows


__all__ = ["RowsLike", "as_floating", "as_table", "as_tensor", "unfit"]
