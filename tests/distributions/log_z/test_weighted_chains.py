"""Weighted chains that the weights force to be drawn anew: log Z and both groups' distributions by enumeration."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen.distributions import RBM
from pyro_gen.distributions.log_z.resampling import systematic
from pyro_gen.infer import WeightedChains
from pyro_gen.testing import multinomial_floor, total_variation

RATES = torch.tensor([0.2, 0.7, 0.4, 0.6]).double()


def model(scale: float) -> RBM:
    generator = torch.Generator().manual_seed(2)
    weight, vbias, hbias = (scale * torch.randn(shape, generator=generator).double() for shape in ((4, 3), (4,), (3,)))
    return RBM(weight, vbias, hbias)


def path(phase: WeightedChains, scales: list[float]) -> tuple[dict[str, Tensor], int]:
    """The state after an update to each scale, and how often both groups were drawn anew."""
    state, drawn = phase.initial_state(model(0.0), RATES), 0
    for step, scale in enumerate(scales):
        state = state | phase.advance(model(scale), state, seed=5, step=step)
        drawn += int((state["log_weights"] == 0).all())
    return state, drawn


def test_log_z_and_both_distributions_survive_that_chains_are_drawn_anew() -> None:
    """Log Z within 0.08, 6 standard deviations of such runs (0.0136 over 20); one sweep forgets no wrong copy.

    The groups' distributions are within 1.5 times the 99.99 % quantile of iid draws, since copies are none.
    """
    phase = WeightedChains(8000, num_steps=1, num_witnesses=16_000, resample_below=0.9)
    state, drawn = path(phase, [1.0, 2.0])
    assert drawn == 2
    exact = model(2.0)
    assert abs(phase.diagnostics(state)["log_partition"] - exact.log_partition().value) < 0.08
    distribution = exact.log_prob(exact.enumerate_support()).exp()
    for group in (slice(0, 8000), slice(8000, None)):
        numbers = (state["chains"][group].long() << torch.arange(4)).sum(-1)
        found = torch.bincount(numbers, minlength=16) / len(numbers)
        assert total_variation(found, distribution) < 1.5 * multinomial_floor(distribution, len(numbers), 0.9999)


def test_every_chain_is_drawn_by_its_weight_in_the_mean() -> None:
    """Over an even grid of the one uniform the mean number of copies is the weight times the chains, to the grid."""
    log_weights = torch.tensor([0.3, -1.0, 2.0, 0.0, -5.0]).double()
    grid = (torch.arange(2000).double() + 0.5) / 2000
    copies = [torch.bincount(systematic(log_weights, first), minlength=5) for first in grid]
    mean = torch.stack(copies).double().mean(0)
    torch.testing.assert_close(mean, 5 * log_weights.softmax(0), rtol=0, atol=2e-3)
