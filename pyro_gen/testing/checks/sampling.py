"""Checks of samplers against exact probabilities.

Each raises a false alarm for less than one seed in a million.
"""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_gen.testing.case import Case, Inapplicable, check, require
from pyro_gen.testing.checks.shapes import elements
from pyro_gen.testing.enumeration import goodness_of_fit, state_index

FALSE_ALARM_RATE = 1e-6
MAX_STATES_FOR_PAIRS = 64


def reject(tests: list[tuple[str, Tensor, Tensor]]) -> None:
    """Raise `AssertionError` if counts do not fit, at `FALSE_ALARM_RATE` for all tests."""
    for what, counts, probs in tests:
        p_value = goodness_of_fit(counts, probs)
        require(
            p_value * len(tests) > FALSE_ALARM_RATE,
            f"{what} does not fit log_prob, p < {p_value:.1e}",
        )


def draw_indices(case: Case, d: TorchDistribution, num_samples: int) -> tuple[Tensor, Tensor]:
    """Draw, in two sample dimensions; give each draw's state index, and exact probabilities."""
    rows = 100
    index = state_index(d.sample((rows, num_samples // rows)), case.states())
    require((index >= 0).all(), "the sampler draws something that is not a state")
    return index, case.log_probs(d).detach().exp()


@check
def check_goodness_of_fit(case: Case, num_samples: int = 20_000) -> None:
    """In each batch element, the frequencies of draws fit the probabilities."""
    tests = []
    for d in [
        *case.distributions(),
        case.distribution((3, 1)).expand((3, 2)),
        case.distribution().expand((2,)),
    ]:
        index, probs = draw_indices(case, d, num_samples)
        for i in elements(d):
            p = probs[:, *i]
            counts = torch.bincount(index[..., *i].flatten(), minlength=len(p))
            what = f"the sampler in batch element {i} of {tuple(d.batch_shape)}"
            tests.append((what, counts, p))
    reject(tests)


def pairs(p: Tensor, q: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Count pairs of state indices; if independent, their probabilities are the product."""
    probs = torch.outer(p, q).flatten()
    index = (left * len(q) + right).flatten()
    return torch.bincount(index, minlength=len(probs)), probs


@check
def check_independence(case: Case, num_samples: int = 20_000) -> None:
    """Draws that are neighbours, along each sample dimension or in the batch, are independent."""
    if len(case.states()) > MAX_STATES_FOR_PAIRS:
        raise Inapplicable(
            f"pairs of more than {MAX_STATES_FOR_PAIRS} states are too many to count"
        )
    tests = []
    single = case.distribution()
    for d in (single, case.distribution((2,)), single.expand((2,))):
        index, probs = draw_indices(case, d, num_samples)
        origin: Any = (0,) * len(d.batch_shape)
        first = index[..., *origin]
        p = probs[:, *origin]
        rows = pairs(p, p, first[0::2], first[1::2])
        columns = pairs(p, p, first[:, 0::2], first[:, 1::2])
        tests.append(("the pair of neighbouring rows", *rows))
        tests.append(("the pair of neighbouring columns", *columns))
        if d.batch_shape:
            batch = pairs(p, probs[:, 1], index[..., 0], index[..., 1])
            tests.append(("the pair of batch elements", *batch))
    reject(tests)


@check
def check_reproducible(case: Case) -> None:
    """Torch's seed alone fixes a draw, and the next draw is another one."""
    for d in case.distributions():
        torch.manual_seed(1)
        first = d.sample((200,))
        next_one = d.sample((200,))
        torch.manual_seed(1)
        again = d.sample((200,))
        torch.manual_seed(2)
        other = d.sample((200,))
        require(torch.equal(first, again), "the same seed gives another sample")
        require(not torch.equal(first, next_one), "a second sample is the same as the first")
        require(not torch.equal(first, other), "another seed gives the same sample")
