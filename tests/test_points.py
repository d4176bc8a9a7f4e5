"""The check of values by name: what rounding passes, and what is named where they are wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from pyro_gen._points import Expected, check_agrees, check_point, check_value

MATRIX = torch.tensor([[4.0, 0.6], [0.6, 1.0]])
FACTOR = torch.linalg.cholesky(torch.tensor([[1.0, 0.3], [0.3, 1.0]]))
INSIDE: list[tuple[Constraint, Tensor]] = [
    (constraints.simplex, torch.tensor([0.2, 0.3, 0.5])),
    (constraints.simplex, torch.tensor([0.0, 0.0, 1.0 + 2e-6])),
    (constraints.simplex, torch.rand(5000, generator=torch.Generator().manual_seed(0)).softmax(-1)),
    (constraints.unit_interval, torch.tensor([0.0, 1.0])),
    (constraints.positive, torch.tensor([1e-30, 7.0])),
    (constraints.real, torch.tensor([-3.0, 1e30])),
    (constraints.positive_definite, MATRIX),
    (constraints.positive_definite, 1e-12 * MATRIX),
    (constraints.positive_definite, MATRIX + 1e-6 * torch.eye(2).roll(1, 0).triu()),
    (constraints.corr_cholesky, FACTOR),
]
OUTSIDE: list[tuple[Constraint, Tensor, str]] = [
    (constraints.simplex, torch.tensor([-0.5, 0.5, 1.0]), "none negative, got -0.5"),
    (constraints.simplex, torch.full((3,), 0.2), "sum to 1, up to 0.0001, got a sum of 0.6"),
    (constraints.simplex, torch.tensor([0.2, 0.3, 0.501]), "got a sum of 1.001"),
    (constraints.unit_interval, torch.tensor([0.5, 1.5]), "from 0.5 to 1.5"),
    (constraints.positive, torch.tensor([0.0, 1.0]), "from 0 to 1"),
    (constraints.real, torch.tensor([0.0, torch.nan]), "must be finite"),
    (constraints.real, torch.tensor([0.0, torch.inf]), "must be finite"),
    (constraints.real, torch.tensor([0, 1]), "floating point numbers, got torch.int64"),
    (constraints.positive_definite, MATRIX + torch.tensor([[0.0, 0.7], [0.0, 0.0]]), "must be symmetric"),
    (constraints.positive_definite, 1e-12 * (MATRIX + torch.tensor([[0.0, 0.7], [0.0, 0.0]])), "must be symmetric"),
    (constraints.positive_definite, torch.ones(2, 2), "not singular"),
    (constraints.positive_definite, -MATRIX, "variances above 0, got -4"),
    (constraints.corr_cholesky, 2 * FACTOR, "rows of length 1"),
    (constraints.corr_cholesky, FACTOR.mT, "lower triangular"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_passes_in_either_precision(dtype: torch.dtype) -> None:
    for support, value in INSIDE:
        expected = Expected(support, tuple(value.shape))
        check_value("`x`", value.to(dtype), expected)
        check_value("`x`", torch.stack([value, value]).to(dtype), expected, batched=True)


def test_what_lies_outside_is_named() -> None:
    for support, value, message in OUTSIDE:
        expected = Expected(support, tuple(value.shape))
        with pytest.raises(ValueError, match=message):
            check_value("`x`", value, expected)
        inside = next(v for s, v in INSIDE if type(s) is type(support) and v.shape == value.shape)
        with pytest.raises(ValueError, match="`x` must"):  # one bad draw among good ones
            check_value("`x`", torch.stack([inside.to(value), value]), expected, batched=True)


def test_names_and_shapes_are_compared() -> None:
    expected = {"a": Expected(constraints.real, (2,)), "b": Expected(constraints.positive, ())}
    point = {"a": torch.zeros(2), "b": torch.ones(())}
    check_point("values", point, expected)
    check_point("values", {"b": torch.ones(())}, expected, optional=("a",))
    check_point("values", {**point, "z": torch.zeros(7)}, expected, optional=("z",))
    faults = [
        ({"a": point["a"]}, r"must have the sites \['a', 'b'\], got none for \['b'\]"),
        ({**point, "c": point["a"]}, r"must name sites among \['a', 'b'\], got \['c'\]"),
        ({**point, "a": torch.zeros(3)}, r"`values` of 'a' must have shape \(2,\), got \(3,\)"),
        ({**point, "a": torch.zeros(1, 2)}, r"`values` of 'a' must have shape \(2,\), got \(1, 2\)"),
        ({**point, "b": [1.0]}, "`values` of 'b' must be a tensor of floating point numbers, got list"),
    ]
    for values, message in faults:
        with pytest.raises(ValueError, match=message):
            check_point("values", values, expected)  # type: ignore[arg-type]


def test_derived_values_must_agree_up_to_rounding() -> None:
    support = constraints.positive_definite
    for scale in (1e-9, 1.0, 1e9):
        check_agrees("`x`", scale * MATRIX * (1 + 1e-6), scale * MATRIX, support)
        with pytest.raises(ValueError, match="`x` must agree"):
            check_agrees("`x`", scale * MATRIX * 1.01, scale * MATRIX, support)
