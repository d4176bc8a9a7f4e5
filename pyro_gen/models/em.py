"""Results of ``fit``, of every model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

Values = TypeVar("Values")


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


def best_of(climbs: Sequence[tuple[FitResult, Values]]) -> tuple[FitResult, Values]:
    """The best end of several starts, if possible not degenerate, with the ends of all."""

    def rank(climb: tuple[FitResult, Values]) -> tuple[bool, float]:
        return not climb[0].degenerate, climb[0].objective[-1].item()

    result, values = max(climbs, key=rank)
    return result._replace(starts=torch.cat([end.starts for end, _ in climbs])), values


__all__ = ["FitResult", "best_of"]
