"""Result of ``fit``, of every model."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class FitResult(NamedTuple):
    """Result of ``fit`` in closed form or by expectation maximisation, in nats over all rows.

    Args:
        log_likelihood: of the rows, at the end of the best start.
        objective: log likelihood or log posterior, before every step of the
            best start and at its end.
        converged: True if it stopped before the limit on steps.
        degenerate: True if a component or a column's noise is as narrow as the
            floor allows; such maxima are spurious.
        starts: objective at the end of every start.
    """

    log_likelihood: float
    objective: Tensor
    converged: bool
    degenerate: bool
    starts: Tensor


__all__ = ["FitResult"]
