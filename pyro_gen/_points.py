"""Check of parameter values by name, such as a point of a model or draws of a sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

TOLERANCE = 1e-4
"""Rounding that passes in either precision: of the sum of a simplex, of the
squared length of a row of a correlation's factor, and of the two halves of a
covariance, as a share of its deviations. Draws in float32 miss by about 1e-6.
"""


class Expected(NamedTuple):
    """Support and shape that values of one name must have."""

    support: Constraint
    shape: tuple[int, ...]


def check_point(
    argument: str,
    values: Mapping[str, Tensor],
    expected: Mapping[str, Expected],
    optional: Iterable[str] = (),
    batched: bool = False,
) -> None:
    """Raise unless a mapping holds one value inside the support for every name, and
    nothing else.

    Args:
        argument: name of the argument, for messages.
        values: values by name.
        expected: support and shape by name.
        optional: names that may be left out; those without an entry in
            ``expected`` are not looked at.
        batched: whether dimensions may stand before the shape, those of draws.

    Raises:
        ValueError: a name is missing or unknown, or a value has another shape
            or lies outside its support.

    Example:
        >>> weights = {"weights": Expected(constraints.simplex, (2,))}
        >>> check_point("parameters", {"weights": torch.tensor([0.3, 0.7])}, weights)
    """
    optional = set(optional)
    required = [name for name in expected if name not in optional]
    if missing := [name for name in required if name not in values]:
        raise ValueError(f"`{argument}` must have the sites {required}, got none for {missing}")
    if unknown := [name for name in values if name not in expected and name not in optional]:
        allowed = sorted({*expected, *optional})
        raise ValueError(f"`{argument}` must name sites among {allowed}, got {unknown}")
    for name, site in expected.items():
        if name in values:
            check_value(f"`{argument}` of {name!r}", values[name], site, batched)


def check_value(what: str, value: Tensor, expected: Expected, batched: bool = False) -> None:
    """Raise unless a value has the shape that is expected and lies inside the support,
    up to rounding.

    Args:
        what: name of the value, for messages.
        value: the value to check.
        expected: support and shape.
        batched: whether dimensions may stand before the shape.

    Raises:
        ValueError: it is no floating tensor, has another shape, is NaN or
            infinite, or lies outside the support.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{what} must be a tensor of floating point numbers, got {kind}")
    shape = tuple(value.shape)
    event = shape[max(0, len(shape) - len(expected.shape)) :] if batched else shape
    if event != tuple(expected.shape):
        lead = "draws + " if batched else ""
        raise ValueError(f"{what} must have shape {lead}{tuple(expected.shape)}, got {shape}")
    if not value.isfinite().all():
        raise ValueError(f"{what} must be finite, got NaN or infinite numbers")
    reason = _fault(expected.support, value.detach())
    if reason is not None:
        raise ValueError(f"{what} must {reason}")


def check_agrees(what: str, value: Tensor, implied: Tensor, support: Constraint) -> None:
    """Raise where a value contradicts what the other values make of it.

    Args:
        what: name of the value, for messages.
        value: the value to check.
        implied: what it must be, up to rounding.
        support: of both.

    Raises:
        ValueError: they are apart.
    """
    error = (value - implied).abs()
    if isinstance(support, type(constraints.positive_definite)):
        deviations = implied.diagonal(dim1=-2, dim2=-1).sqrt()
        error = error / deviations.unsqueeze(-1) / deviations.unsqueeze(-2)
    if error.max() > TOLERANCE:
        raise ValueError(
            f"{what} must agree with the other values up to {TOLERANCE:g}, got {error.max():.3g} "
            "off"
        )


def _fault(support: Constraint, value: Tensor) -> str | None:
    """Sentence on what is wrong with finite values; None where they lie inside the support."""
    for kind, fault in _FAULTS.items():
        if isinstance(support, kind):
            return fault(value)
    if support.check(value).all():
        return None
    return f"lie in the support {support}, got numbers from {value.min():.6g} to {value.max():.6g}"


def _simplex_fault(value: Tensor) -> str | None:
    if (value < 0).any():
        return f"be probabilities, none negative, got {value.min():.6g}"
    total = value.sum(-1)
    worst = total.flatten()[(total - 1).abs().argmax()]
    if (worst - 1).abs() > TOLERANCE:
        return f"be probabilities that sum to 1, up to {TOLERANCE:g}, got a sum of {worst:.6g}"
    return None


def _covariance_fault(value: Tensor) -> str | None:
    variances = value.diagonal(dim1=-2, dim2=-1)
    if not (variances > 0).all():
        return f"be positive definite, with variances above 0, got {variances.min():.6g}"
    deviations = variances.sqrt()
    skew = ((value - value.mT).abs() / deviations.unsqueeze(-1) / deviations.unsqueeze(-2)).max()
    if skew > TOLERANCE:
        return (
            f"be symmetric, up to {TOLERANCE:g} of its deviations, got halves {skew:.3g} of "
            "these apart"
        )
    if torch.linalg.cholesky_ex(value).info.any():
        return "be positive definite, not singular, got a matrix without a Cholesky factor"
    return None


def _correlation_fault(value: Tensor) -> str | None:
    if (value.triu(1) != 0).any() or not (value.diagonal(dim1=-2, dim2=-1) > 0).all():
        return "be lower triangular, with numbers above 0 on the diagonal, got others"
    length = (value.square().sum(-1) - 1).abs().max()
    if length > TOLERANCE:
        return f"have rows of length 1, up to {TOLERANCE:g}, got squared lengths {length:.3g} off"
    return None


_FAULTS: dict[type, Callable[[Tensor], str | None]] = {
    type(constraints.simplex): _simplex_fault,
    type(constraints.positive_definite): _covariance_fault,
    type(constraints.corr_cholesky): _correlation_fault,
}

__all__ = ["TOLERANCE", "Expected", "check_agrees", "check_point", "check_value"]
