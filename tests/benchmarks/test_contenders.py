"""Rivals are timed at the same work: the baselines estimate what the project's own contenders estimate."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks import ais, gibbs, steps
from benchmarks.peers import Step
from benchmarks.problem import Problem
from pyro_gen.infer import ContrastiveDivergence, PersistentChains
from pyro_gen.nn import RBM

ROWS, VISIBLE, HIDDEN = 8192, 6, 5


def _coins() -> Tensor:
    return torch.randint(2, (ROWS, VISIBLE)).float()


UPDATES: dict[str, Callable[[], Step]] = {
    "ours, CD-1": lambda: steps.ours(RBM(VISIBLE, HIDDEN, ContrastiveDivergence(1))),
    "ours by hand, PCD-1": lambda: steps.ours_by_hand(RBM(VISIBLE, HIDDEN, PersistentChains(num_chains=ROWS))),
    "textbook, CD-1": lambda: steps.textbook(VISIBLE, HIDDEN),
    "autograd, CD-1": lambda: steps.autograd(VISIBLE, HIDDEN),
    "autograd, PCD-1": lambda: steps.autograd(VISIBLE, HIDDEN, _coins()),
}


@pytest.mark.parametrize("update", UPDATES)
def test_every_update_goes_the_same_way(update: str) -> None:
    # Close to no weights data of ones meet particles of coins: 1/2 - 1/4, 1 - 1/2 and 1/2 - 1/2. Noise: 0.0055.
    torch.manual_seed(0)
    step, ones = UPDATES[update](), torch.ones(ROWS, VISIBLE)
    before = [parameter.detach().clone() for parameter in _parameters(step(ones))]
    moved = [(new - old) / steps.RATE for new, old in zip(_parameters(step(ones)), before, strict=True)]
    for change, expected in zip(moved, (0.25, 0.5, 0.0), strict=True):
        torch.testing.assert_close(change, torch.full_like(change, expected), atol=0.05, rtol=0)


def _parameters(returned: object) -> list[Tensor]:
    assert isinstance(returned, list)
    return returned


def test_naive_annealing_estimates_the_same_ratio() -> None:
    torch.manual_seed(0)
    problem = Problem.random(VISIBLE, HIDDEN, ROWS)
    ours, naive = ais.ours(problem).run(), ais.naive(problem).run()
    assert isinstance(ours, tuple)
    (value, error), (naive_value, naive_error) = _log_mean(ours[0]), _log_mean(naive)
    assert abs(value - naive_value) < 5 * (error**2 + naive_error**2) ** 0.5


def _log_mean(log_weight: object) -> tuple[float, float]:
    """Logarithm of the mean weight and its standard error."""
    assert isinstance(log_weight, Tensor)
    weight = log_weight.double().exp()
    return weight.mean().log().item(), (weight.std() / weight.mean() / len(weight) ** 0.5).item()


def test_work_counts_the_dense_products() -> None:
    assert gibbs.work(2, 3, 5) == {"connection_updates": 60.0, "chain_steps": 5.0, "flops": 120.0, "bytes": 248.0}
