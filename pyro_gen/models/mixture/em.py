"""Expectation maximisation of mixtures: exact steps, several starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.models.em import FitResult
from pyro_gen.models.rows import Rows

if TYPE_CHECKING:
    from pyro_gen.models.mixture.base import Mixture

Objective = Literal["posterior", "likelihood"]


class _Climb(NamedTuple):
    values: dict[str, Tensor]
    log_likelihood: float
    objective: list[float]
    converged: bool
    degenerate: bool


def best_of_starts(
    mixture: Mixture,
    rows: Rows,
    objective: Objective,
    num_starts: int,
    num_steps: int,
    tolerance: float,
) -> tuple[FitResult, dict[str, Tensor]]:
    """Maximise from every start; the best result and its sites, if possible not degenerate.

    Args:
        mixture: gives the steps.
        rows: checked rows.
        objective: the target.
        num_starts: starts by k-means++; 0 for the present point.
        num_steps: of each start, at most.
        tolerance: gain in nats a row below which a start ends.
    """
    if objective not in ("posterior", "likelihood"):
        raise ValueError(f'`objective` must be "posterior" or "likelihood", got {objective!r}')
    num_starts = whole_number("num_starts", num_starts, 0)
    num_steps = whole_number("num_steps", num_steps)
    if not tolerance >= 0:
        raise ValueError(f"`tolerance` must not be negative, got {tolerance}")
    starts: Iterable[dict[str, Tensor]]
    if num_starts:
        starts = (mixture.start(rows, objective) for _ in range(num_starts))
    else:
        starts = [mixture.point()]
    climbs = [_climb(mixture, rows, start, objective, num_steps, tolerance) for start in starts]
    best = max(climbs, key=lambda climb: (not climb.degenerate, climb.objective[-1]))
    reached = torch.tensor([climb.objective[-1] for climb in climbs], dtype=torch.float64)
    history = torch.tensor(best.objective, dtype=torch.float64)
    return FitResult(
        best.log_likelihood, history, best.converged, best.degenerate, reached
    ), best.values


def _climb(
    mixture: Mixture,
    rows: Rows,
    values: dict[str, Tensor],
    objective: Objective,
    num_steps: int,
    tolerance: float,
) -> _Climb:
    history: list[float] = []
    converged = False
    for step in range(num_steps + 1):
        parameters = mixture.completed(values)
        joint = mixture.log_table(rows, parameters) + parameters["log_weights"]
        evidence = joint.logsumexp(-1, keepdim=True)
        log_likelihood = evidence.double().sum().item()
        if objective == "posterior":
            prior = mixture.log_prior_of(values).item()
        else:
            prior = 0.0
        history.append(log_likelihood + prior)
        converged = step > 0 and history[-1] - history[-2] < tolerance * len(rows.x)
        if converged or step == num_steps:
            break
        values = mixture.maximised(rows, (joint - evidence).exp_(), values, objective)
    return _Climb(values, log_likelihood, history, converged, mixture.floor_reached(rows, values))


__all__ = ["Objective", "best_of_starts"]
