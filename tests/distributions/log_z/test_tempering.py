"""Tempered chains through their own `advance`: each temperature keeps its distribution, states change places."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pyro_gen.distributions import RBM
from pyro_gen.distributions.log_z.tempering import SHARE, swap_neighbours
from pyro_gen.infer import TemperedChains
from pyro_gen.testing import goodness_of_fit, states

P_LIMIT = 1e-7
"""False-alarm rate of each goodness-of-fit test; fewer than 20 are made."""
LADDERS = 60_000
BETAS = torch.tensor([0.0, 0.3, 0.65, 1.0]).double()
RATES = torch.tensor([0.15, 0.8, 0.4, 0.25]).double()


def model() -> RBM:
    generator = torch.Generator().manual_seed(3)
    weight, vbias, hbias = (1.5 * torch.randn(shape, generator=generator).double() for shape in ((4, 3), (4,), (3,)))
    return RBM(weight, vbias, hbias)


def tempered(rbm: RBM, beta: Tensor) -> RBM:
    """The model at one inverse temperature, exp(-(1 - beta) E_0 - beta E), as an RBM of its own."""
    weight, vbias, hbias = rbm.uncentred
    return RBM(beta * weight, beta * vbias + (1 - beta) * RATES.logit(), beta * hbias)


def stationary(rbm: RBM) -> dict[str, Tensor]:
    """Buffers whose chains are exact draws at every inverse temperature."""
    chains = torch.cat([tempered(rbm, beta).sample((LADDERS,)) for beta in BETAS])
    return {"chains": chains, "betas": BETAS, "swap_rates": torch.full((3,), 0.5).double(), "base_rates": RATES}


@pytest.mark.parametrize("step", [0, 3])
def test_every_temperature_keeps_its_distribution(step: int) -> None:
    """Three sweeps, each with swaps, from exact draws between a base that is not uniform and the model."""
    rbm, phase = model(), TemperedChains(LADDERS, num_steps=3, num_betas=len(BETAS))
    found = phase.advance(rbm, stationary(rbm), seed=7, step=step)
    numbers = (found["chains"].long() << torch.arange(4)).sum(-1).view(len(BETAS), LADDERS)
    for number, beta in zip(numbers, BETAS, strict=True):
        distribution = tempered(rbm, beta).log_prob(rbm.enumerate_support()).exp()
        assert goodness_of_fit(torch.bincount(number, minlength=16), distribution) > P_LIMIT


def joint(rbm: RBM) -> tuple[Tensor, Tensor]:
    """Probabilities of all states of both layers and their E - E_0."""
    v, h = states(4).unsqueeze(1), states(3)
    return rbm.log_joint(v, h).exp().flatten(), (rbm.energy(v, h) + v @ RATES.logit()).flatten()


def expected_rates(rbm: RBM) -> Tensor:
    """Mean acceptance of each pair of neighbours, from all pairs of joint states."""
    rates = []
    for low, high in pairwise(BETAS):
        p, q = (joint(tempered(rbm, beta))[0] for beta in (low, high))
        excess = joint(rbm)[1]
        accept = ((low - high) * (excess.unsqueeze(-1) - excess)).exp().clamp(max=1)
        rates.append(p @ accept @ q)
    return torch.stack(rates)


def test_swap_rates_are_sliding_means_of_the_enumerated_acceptance() -> None:
    """A mean of numbers in [0, 1] is within 6 of its largest standard errors, 0.5 / sqrt(ladders): 2e-9 each."""
    rbm, phase = model(), TemperedChains(LADDERS, num_steps=1, num_betas=len(BETAS))
    for step, pairs in ((0, [0, 2]), (1, [1])):
        found = phase.advance(rbm, stationary(rbm), seed=7, step=step)["swap_rates"]
        seen = 0.5 + (found - 0.5) / SHARE
        assert ((seen - expected_rates(rbm))[pairs].abs() < 6 * 0.5 / LADDERS**0.5).all()
        assert all(found[i] == 0.5 for i in range(3) if i not in pairs)


def test_a_cold_chain_changes_its_mode_by_swaps_alone() -> None:
    """All units on or all off, which single sweeps never cross: at least a tenth, of half in the end."""
    weight = torch.full((6, 5), 6.0).double()
    rbm = RBM(weight, -weight.sum(1) / 2, -weight.sum(0) / 2)
    phase = TemperedChains(200, num_steps=60, num_betas=8, adapt=False)
    state = phase.initial_state(rbm, torch.full((6,), 0.5).double())
    state |= {"chains": torch.ones(8 * 200, 6).double(), "base_rates": torch.full((6,), 0.5).double()}
    assert (rbm.sweep(torch.ones(200, 6).double(), 60, 1, 0) == 1).all()
    cold = phase.particles(phase.advance(rbm, state, seed=1, step=0)).states
    assert (cold == 0).all(-1).double().mean() > 0.1


@pytest.mark.parametrize(("step", "wanted"), [(0, [1, 0, 3, 2, 4]), (1, [0, 2, 1, 4, 3])])
def test_even_and_odd_pairs_swap_in_turn(step: int, wanted: list[int]) -> None:
    """Energies by which every swap is refused, or accepted: a permutation, and no rate for the pairs that wait."""
    betas, energy, uniform = torch.linspace(0, 1, 5), torch.arange(5.0).expand(3, 5), torch.full((3, 4), 0.5)
    kept = swap_neighbours(-1000 * energy, betas, uniform, step)
    assert torch.equal(kept.order, torch.arange(5).expand(3, 5))  # refused: the odds are exp(-250)
    swapped = swap_neighbours(1000 * energy, betas, uniform, step)
    assert swapped.order[0].tolist() == wanted
    assert swapped.accepted.isnan().tolist() == [(i + step) % 2 == 1 for i in range(4)]


@pytest.mark.parametrize("adapt", [False, True])
def test_the_ladder_moves_only_where_it_is_told_to(adapt: bool) -> None:
    rbm, phase = model(), TemperedChains(20, num_steps=2, num_betas=len(BETAS), adapt=adapt)
    state = {name: x[:80] if name == "chains" else x for name, x in stationary(rbm).items()}
    state["swap_rates"] = torch.tensor([0.2, 0.5, 0.9]).double()
    moved = [not torch.equal(phase.advance(rbm, state, 0, 2 * update)["betas"], BETAS) for update in (48, 49, 50)]
    assert moved == [False, adapt, False]
