"""Result of expectation maximisation."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class EMResult(NamedTuple):
    """Result of EM, in nats over all rows.

    Args:
        log_likelihood: of the rows, at the end of the best start.
        objective: values of the objective, before every step of the best start and at its end.
        converged: whether it stopped before the limit on steps.
        degenerate: whether a component or a column's noise is as narrow as the floor allows; such
            maxima are spurious.
        starts: objective at the end of every start.
    """

    log_likelihood: float
    objective: Tensor
    converged: bool
    degenerate: bool
    starts: Tensor


__all__ = ["EMResult"]
