"""Observations of one node: names and numbers of states, sets of them, likelihoods.

Strings are names of states and integers their numbers, whatever the names look
like: with the states ("1", "0") the string "1" is the first state and the
integer 1 the second.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from pyro_gen.distributions.bayesian_network.structure import NetworkStructure

TRUTH = dict.fromkeys(("true", "t", "yes", "y", "1"), True) | dict.fromkeys(
    ("false", "f", "no", "n", "0"), False
)
"""Names of states that say what True and False are."""
NUMERIC = ("int", "uint", "float", "bool", "decimal")
"""Beginnings of the names of polars' types of numbers."""


class Likelihood:
    """Soft evidence: the likelihood of each state of a node, up to a factor.

    Args:
        values: finite, not negative and not all zero, (states,) for one case,
            (rows, states) for one case a row.

    Raises:
        ValueError: ``values`` are no real numbers of such a shape. Whether they
            fit a node is checked where they are used; that error names node and
            row.

    Example:
        >>> Likelihood([0.2, 0.8])
        Likelihood([0.2, 0.8])
    """

    def __init__(self, values: Any) -> None:
        try:
            array = values
            if not isinstance(values, Tensor):
                array = np.asarray(values)
            tensor = torch.as_tensor(array)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"`values` of a Likelihood must be numbers, got {values!r}") from None
        if tensor.is_complex() or tensor.dim() not in (1, 2):
            raise ValueError(
                "`values` of a Likelihood must be real, of shape (states,) or (rows, states), got "
                f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            )
        self.values: Tensor = tensor

    @property
    def rows(self) -> int | None:
        """Number of rows, None for one case."""
        if self.values.dim() == 1:
            return None
        return len(self.values)

    def fitted(self, node: str, states: int, like: Tensor) -> Likelihood:
        """The likelihood of a node in floating point, on the device of its tables.

        Args:
            node: its name.
            states: how many it has.
            like: a tensor of the dtype and on the device of the tables.

        Raises:
            ValueError: there are other than ``states`` numbers, or one is
                negative, infinite or NaN, or all of a row are zero.
        """
        values = self.values.to(like.device)
        if not values.is_floating_point():
            values = values.to(like.dtype)
        if values.shape[-1] != states:
            raise ValueError(
                f"the likelihood of node {node!r} must have shape ({states},) or (rows, "
                f"{states}), got {tuple(values.shape)}"
            )
        proper = ((values >= 0) & (values < torch.inf)).all(-1) & (values > 0).any(-1)
        if not proper.all():
            row = int((~proper).flatten().nonzero()[0])
            shown = values.detach().view(-1, states)[row].tolist()
            message = (
                f"the likelihood of node {node!r} must be finite, not negative and not all zero, "
                f"got {shown}"
            )
            if values.dim() == 2:
                message += f" in row {row}"
            raise ValueError(message)
        return Likelihood(values)

    def __repr__(self) -> str:
        if self.values.numel() > 12:
            return f"Likelihood(shape={tuple(self.values.shape)})"
        return f"Likelihood({np.round(self.values.detach().double().cpu().numpy(), 4).tolist()})"


def read_observation(
    structure: NetworkStructure, node: str, value: Any, like: Tensor
) -> int | Tensor | Likelihood:
    """Observation of a node that evidence states, not missing as a whole.

    Returns:
        The number of the state of one case; numbers (rows,), int64, -1 where
        missing; or a likelihood that fits.

    Raises:
        ValueError: it is not a possible value; the message names the node, and
            the row where there are rows.
    """
    if isinstance(value, Likelihood):
        return value.fitted(node, len(structure.states[node]), like)
    if isinstance(value, set | frozenset):
        return _subset(structure, node, value, like)
    if hasattr(value, "factorize") and holds_names(value):
        value = _column_codes(structure, node, value)
    value = plain(value)
    if isinstance(value, Tensor):
        return _state_numbers(structure, node, value.to(like.device))
    if isinstance(value, list):
        return torch.tensor(_codes(structure, node, value), dtype=torch.int64, device=like.device)
    return one_state(structure, node, value)


def missing(value: Any) -> bool:
    """True for a value that stands for no observation: None, NaN, or NA of pandas.

    Args:
        value: any.
    """
    nothing = value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))
    return nothing or type(value).__name__ in ("NAType", "NaTType")


def plain(value: Any) -> Any:
    """Arrays and columns as tensors of numbers, or lists of names; all else as it is."""
    if isinstance(value, np.ma.MaskedArray):
        return value.tolist()  # None where masked
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        items = list(value)
        integers = bool(items) and all(type(x) is int and abs(x) < 2**62 for x in items)
        if integers:
            return torch.tensor(items)
        return items
    if (isinstance(value, Tensor) and value.dtype != torch.uint64) or not hasattr(
        value, "__array__"
    ):
        return value
    return _from_array(value)


def _from_array(value: Any) -> Any:
    """An array or a column as a tensor, or as a list where it holds no numbers."""
    if isinstance(value, Tensor):
        value = value.cpu().numpy()
    elif not isinstance(getattr(value, "dtype", None), np.dtype) and hasattr(value, "astype"):
        # a type of pandas' own, whose missing numbers would turn all into floats
        value = value.astype(object)
    values = np.asarray(value)
    if values.dtype == np.uint64:
        values = np.minimum(values, np.uint64(2**62))  # else 2^64 - 1 would become -1
    if values.dtype.kind in "iu":
        return torch.as_tensor(values.astype(np.int64))
    if values.dtype.kind in "bfc":
        return torch.from_numpy(values.copy())  # pandas' own memory is read only
    return values.tolist()


def one_state(structure: NetworkStructure, node: str, value: Any) -> int:
    """The number of a state that is given by name, number, or if there are two a truth value."""
    if isinstance(value, str):
        return structure.state_number(node, value)
    if isinstance(value, bool | np.bool_) or (
        isinstance(value, Tensor) and value.dtype == torch.bool
    ):
        _check_truth(structure, node)
        return int(value)
    try:
        number = operator.index(value)
    except TypeError:
        _refuse_observation(structure, node, value)
    last = structure.cardinalities[structure.number(node)] - 1
    if not 0 <= number <= last:
        raise ValueError(
            f"the state of node {node!r} must be a name or from 0 to {last}, got {number}"
        )
    return number


def _check_truth(structure: NetworkStructure, node: str) -> None:
    """Raise where True and False cannot be the states 1 and 0."""
    states = structure.states[node]
    if len(states) != 2 or [TRUTH.get(name.lower()) for name in states] == [True, False]:
        raise ValueError(
            f"evidence on node {node!r} must give the name or number of a state, or a set of "
            "states, got truth values, which are the numbers 0 and 1 of two states; its states "
            f"are {', '.join(map(repr, states[:12]))}. Say Likelihood(values) where several "
            "states are possible"
        )


def _refuse_observation(structure: NetworkStructure, node: str, value: Any) -> NoReturn:
    """Raise for what is no state: floats may be meant as numbers or as a likelihood."""
    message = (
        f"evidence on node {node!r} must be the name or number of a state, a set of states, one "
        "name or number a row, a Likelihood or None, got "
    )
    if isinstance(value, Tensor):
        message += f"{value.dtype} of shape {tuple(value.shape)}"
    elif isinstance(value, int | float | complex | np.inexact):
        message += repr(value)
    else:
        message += type(value).__name__
    if isinstance(value, float | complex | np.inexact | Tensor):
        message += (
            ": cast numbers to integers (-1 where missing), "
            "or say Likelihood(values) if this is a likelihood"
        )
    raise ValueError(message)


def _state_numbers(structure: NetworkStructure, node: str, value: Tensor) -> int | Tensor:
    """State numbers of rows, or that of one case, from a tensor."""
    if value.is_floating_point() or value.is_complex() or value.dim() > 1:
        _refuse_observation(structure, node, value)
    if value.dim() == 0:
        return one_state(structure, node, value)
    if value.dtype == torch.bool:
        _check_truth(structure, node)
    value = value.long()
    last = structure.cardinalities[structure.number(node)] - 1
    if value.numel() and (value.min() < -1 or value.max() > last):
        row = int(((value < -1) | (value > last)).nonzero()[0])
        raise ValueError(
            f"states of node {node!r} must be from 0 to {last}, or -1 where missing, "
            f"got {int(value[row])} in row {row}"
        )
    return value


def holds_names(column: Any) -> bool:
    """True for a column that may hold text: no tensor, and no type of numbers."""
    if isinstance(column, Tensor | str | np.ma.MaskedArray):
        return False
    dtype = getattr(column, "dtype", None)
    if dtype is None:
        return any(isinstance(value, str) for value in column)
    if hasattr(dtype, "kind"):  # of numpy and pandas
        return dtype.kind in "OUST"
    return not str(dtype).lower().startswith(NUMERIC)


def factorized(column: Any) -> tuple[Tensor, list[Any]]:
    """Numbers of the distinct values of a column, (rows,), -1 where missing, and the values.

    Categories are in their order, other values as they come.
    """
    if hasattr(column, "cat") and hasattr(column.cat, "codes"):  # of pandas
        codes = column.cat.codes.to_numpy()
        distinct = column.cat.categories
    elif hasattr(column, "factorize"):
        codes, distinct = column.factorize()
    else:
        known: dict[Any, int] = {}
        codes = [-1 if missing(x) else known.setdefault(x, len(known)) for x in column]
        distinct = known
    return torch.from_numpy(np.array(codes, dtype=np.int64)), list(distinct)


def _column_codes(structure: NetworkStructure, node: str, column: Any) -> Tensor:
    """State numbers of a column of pandas, -1 where missing; each name is looked up once."""
    numbers, distinct = factorized(column)
    codes = [-1]
    for number, value in enumerate(distinct):
        try:
            codes.append(_code(structure, node, value))
        except ValueError as error:
            rows = (numbers == number).nonzero()
            if len(rows):
                raise ValueError(
                    f"evidence on node {node!r} must be one state a row, "
                    f"in row {int(rows[0])}: {error}"
                ) from error
            codes.append(-1)  # a category that no row has
    if codes == list(range(-1, len(codes) - 1)):
        return numbers
    return torch.tensor(codes)[numbers + 1]


def _codes(structure: NetworkStructure, node: str, values: list[Any]) -> list[int]:
    """State numbers of rows, -1 where missing, from names and numbers."""
    known: dict[Any, int] = {}
    codes = []
    for row, value in enumerate(values):
        key = type(value), value
        try:
            code = known.get(key)
            if code is None:
                code = known[key] = _code(structure, node, value)
        except (TypeError, ValueError) as error:
            text = str(error)
            if isinstance(error, TypeError):  # it has no hash
                text = f"got {type(value).__name__}"
            raise ValueError(
                f"evidence on node {node!r} must be one state a row, in row {row}: {text}"
            ) from error
        codes.append(code)
    return codes


def _code(structure: NetworkStructure, node: str, value: Any) -> int:
    """State number of a name or number, -1 where missing."""
    if missing(value):
        return -1
    if isinstance(value, Tensor) and value.dim() == 0:
        value = value.item()
    if isinstance(value, int | np.integer) and value == -1:  # True is 1
        return -1
    return one_state(structure, node, value)


def _subset(
    structure: NetworkStructure, node: str, states: set[Any] | frozenset[Any], like: Tensor
) -> Likelihood:
    if not states:
        raise ValueError(f"the set of states of node {node!r} must not be empty")
    vector = like.new_zeros(len(structure.states[node]))
    vector[[one_state(structure, node, state) for state in states]] = 1
    return Likelihood(vector)


__all__ = [
    "Likelihood",
    "factorized",
    "holds_names",
    "missing",
    "one_state",
    "plain",
    "read_observation",
]
