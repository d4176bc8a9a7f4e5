"""Replica exchange keeps the product of the tempered distributions, and would not if it swapped by another energy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pyro_gen.distributions import RBM, BoltzmannMachine, SpinUnits, ising_lattice
from pyro_gen.distributions.tempering import swap_neighbours
from pyro_gen.infer import ReplicaExchange
from pyro_gen.testing import goodness_of_fit

P_LIMIT = 1e-7
"""False-alarm rate of each goodness-of-fit test; fewer than 20 are made."""
BETAS = [1.0, 0.6, 0.2]


def rbm() -> RBM:
    torch.manual_seed(4)
    return RBM(2 * torch.randn(4, 3).double(), torch.randn(4).double(), torch.randn(3).double())


def at(machine: BoltzmannMachine, beta: float) -> BoltzmannMachine:
    return BoltzmannMachine(beta * machine.coupling, beta * machine.bias, units=machine.units, graph=machine.graph)


def counts(draws: Tensor) -> Tensor:
    code = (draws > 0).long() @ (1 << torch.arange(draws.shape[-1]))
    return torch.bincount(code, minlength=2 ** draws.shape[-1])


def p_values(machine: BoltzmannMachine, energy: Callable[[Tensor], Tensor], rounds: int) -> list[float]:
    """Goodness of fit of every replica after rounds of sweeps and swaps from exact draws; swaps go by ``energy``."""
    kernel = ReplicaExchange(machine, BETAS, num_chains=50_000)
    value = torch.stack([at(machine, beta).sample((50_000,)) for beta in BETAS], 1)
    for t in range(rounds):
        value = machine.sweep(value, 1, 5, t, kernel.betas.expand(value.shape[:-1]))
        swaps = swap_neighbours(energy(value), kernel.betas, torch.rand(50_000, 2).double(), t % 2)
        value = value.gather(1, swaps.order.unsqueeze(-1).expand_as(value))
    distributions = [at(machine, beta).log_prob(machine.enumerate_support()).exp() for beta in BETAS]
    return [goodness_of_fit(counts(value[:, k]), distribution) for k, distribution in enumerate(distributions)]


def test_swaps_by_the_energy_keep_every_distribution_and_swaps_by_the_marginal_free_energy_do_not() -> None:
    """An RBM as machine over both layers: the sweeps temper E(v, h), and beta F(v) is not the marginal of beta E."""
    small = rbm()
    machine = BoltzmannMachine.from_rbm(small)
    assert min(p_values(machine, machine.energy, 4)) > P_LIMIT
    assert min(p_values(machine, lambda x: small.free_energy(x[..., :4]), 4)) < P_LIMIT


def test_spins_swap_by_the_energy_of_spins() -> None:
    """The same numbers read as units of zeros and ones give another energy, by which swaps break the distribution."""
    spins = ising_lattice(2, 3, 0.7, 0.2, periodic=False)
    assert spins.graph is not None
    bits = BoltzmannMachine(spins.coupling, spins.bias, graph=spins.graph)
    assert min(p_values(spins, spins.energy, 4)) > P_LIMIT
    assert min(p_values(spins, lambda x: bits.energy((x + 1) / 2), 4)) < P_LIMIT


def test_the_kernel_reaches_the_product_of_the_distributions_from_noise() -> None:
    machine = ising_lattice(2, 3, 0.7, 0.2, periodic=False)
    kernel = ReplicaExchange(machine, BETAS, num_steps=2, num_chains=40_000)
    state = kernel.init(seed=1)
    for _ in range(20):
        state, info = kernel.step(state)
    first, second = (counts(state.value[:, k]) for k in (0, 1))
    distributions = [at(machine, beta).log_prob(machine.enumerate_support()).exp() for beta in BETAS]
    assert goodness_of_fit(first, distributions[0]) > P_LIMIT
    assert goodness_of_fit(second, distributions[1]) > P_LIMIT
    pairs = counts(torch.cat([state.value[:, 1], state.value[:, 0]], -1))
    assert goodness_of_fit(pairs, torch.outer(distributions[0], distributions[1]).flatten()) > P_LIMIT
    torch.testing.assert_close(info.energy, machine.energy(state.value))


def test_swap_rates_are_those_of_the_enumerated_distributions() -> None:
    machine = ising_lattice(2, 3, 0.7, 0.2, periodic=False)
    energy = machine.energy(machine.enumerate_support()).double()
    distributions = [at(machine, beta).log_prob(machine.enumerate_support()).exp().double() for beta in BETAS]
    accept = ((BETAS[0] - BETAS[1]) * (energy[:, None] - energy)).exp().clamp(max=1)
    expected = distributions[0] @ accept @ distributions[1]
    kernel = ReplicaExchange(machine, BETAS, num_chains=40_000)
    state = kernel.init(seed=1)
    for _ in range(41):
        state, info = kernel.step(state)
    error = (expected * (1 - expected) / 40_000).sqrt()
    assert abs(info.swap_rate[0] - expected) < 6 * error  # false alarm 2e-9
    assert info.swap_rate[1].isnan()


@pytest.mark.parametrize("num_steps", [1, 2])
def test_even_and_odd_pairs_swap_in_turn(num_steps: int) -> None:
    kernel = ReplicaExchange(ising_lattice(4, 4, 0.5), [1.0, 0.7, 0.4, 0.1], num_steps=num_steps, num_chains=50)
    state, waits = kernel.init(seed=3), []
    for _ in range(3):
        state, info = kernel.step(state)
        waits.append(info.swap_rate.isnan().tolist())
    assert waits == [[False, True, False], [True, False, True], [False, True, False]]


def test_the_step_is_pure() -> None:
    kernel = ReplicaExchange(ising_lattice(4, 4, 0.5), BETAS)
    state = kernel.init(seed=3)
    generator = torch.get_rng_state()
    assert torch.equal(kernel.step(state)[0].value, kernel.step(state)[0].value)
    assert torch.equal(generator, torch.get_rng_state())


def test_bad_settings_are_named() -> None:
    machine = BoltzmannMachine(torch.zeros(3, 3), torch.zeros(3), units=SpinUnits())
    for betas in ([1.0], [0.9, 0.5], [1.0, 1.0], [1.0, -0.1]):
        with pytest.raises(ValueError, match="`betas` must fall from 1"):
            ReplicaExchange(machine, betas)
    with pytest.raises(ValueError, match="`num_chains` must be at least 1"):
        ReplicaExchange(machine, BETAS, num_chains=0)
    with pytest.raises(ValueError, match="no batch shape"):
        ReplicaExchange(machine.expand((2,)), BETAS)
