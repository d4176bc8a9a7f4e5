"""An estimate with its error."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Size, Tensor

ERRORS = 2.0
"""Standard errors between an estimate and either end of its interval."""
LISTED = 3
"""Numbers of a batch that are printed."""


class Estimate(NamedTuple):
    """An estimate, its standard error, effective sample size and method.

    The standard error has the unit of the value.

    Where the value is exact the error is 0 and the size infinite; what is not
    known is NaN. All tensors have one shape.

    Example:
        >>> estimate = Estimate(torch.tensor(-3.0), torch.tensor(0.25), torch.tensor(80.0), "AIS")
        >>> print(estimate, estimate.lower, estimate.upper)
        -3 +/- 0.25 (AIS, effective sample size 80) tensor(-3.5000) tensor(-2.5000)
    """

    value: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor
    method: str

    @classmethod
    def exact(cls, value: Tensor, method: str = "exact") -> Estimate:
        """A value without error.

        Args:
            value: of any shape.
            method: how it was computed.
        """
        zero = torch.zeros_like(value)
        return cls(value, zero, zero + math.inf, method)

    @property
    def lower(self) -> Tensor:
        """The value less two standard errors."""
        return self.value - ERRORS * self.standard_error

    @property
    def upper(self) -> Tensor:
        """The value plus two standard errors."""
        return self.value + ERRORS * self.standard_error

    def expand(self, batch_shape: Size) -> Estimate:
        """Estimate repeated for every element of a larger batch."""
        value, error, size = (x.expand(batch_shape) for x in self[:3])
        return Estimate(value, error, size, self.method)

    def __str__(self) -> str:
        """The value with its error, the method and the effective sample size.

        Of a batch, the first few.
        """
        columns = (x.detach().flatten().tolist() for x in self[:3])
        numbers = [self._text(*row) for row in zip(*columns, strict=True)]
        if len(numbers) == 1:
            return numbers[0]
        if len(numbers) > LISTED:
            more = f", ... ({len(numbers)} in all)"
        else:
            more = ""
        return f"[{', '.join(numbers[:LISTED])}{more}]"

    def _text(self, value: float, error: float, size: float) -> str:
        if error == 0 and math.isinf(size):
            return f"{value:.6g} ({self.method})"
        if math.isnan(size):
            return f"{value:.6g} +/- {error:.2g} ({self.method})"
        return f"{value:.6g} +/- {error:.2g} ({self.method}, effective sample size {size:.0f})"


__all__ = ["Estimate"]
