"""Block Gibbs sampling: the pure step, the MCMC face, and the distribution it leaves."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import MCMC

from pyro_gen.distributions import RBM
from pyro_gen.infer import BlockGibbs
from pyro_gen.infer.mcmc.block_gibbs import GibbsState
from pyro_gen.testing import multinomial_floor, total_variation


def model(scale: float = 1.0) -> RBM:
    return RBM(scale * torch.randn(4, 3), torch.randn(4), torch.randn(3))


def test_the_step_is_pure() -> None:
    kernel = BlockGibbs(model(), num_steps=3, num_chains=5)
    state = kernel.init(seed=1)
    before = state.value.clone()
    generator = torch.get_rng_state()
    first, info = kernel.step(state)
    second, _ = kernel.step(state)
    assert torch.equal(first.value, second.value)
    assert torch.equal(before, state.value)
    assert torch.equal(generator, torch.get_rng_state())
    assert first[1:] == (1, 3)
    assert info.free_energy.shape == info.turnover.shape == (5,)


def test_three_steps_of_one_sweep_are_one_step_of_three() -> None:
    rbm = model()
    single, triple = BlockGibbs(rbm, num_chains=5), BlockGibbs(rbm, num_steps=3, num_chains=5)
    state = single.init(seed=2)
    for _ in range(3):
        state, _ = single.step(state)
    assert torch.equal(state.value, triple.step(triple.init(seed=2))[0].value)


def test_chains_resume_from_their_state() -> None:
    kernel = BlockGibbs(model(), num_chains=5)
    state, _ = kernel.step(kernel.init(seed=3))
    resumed = GibbsState(state.value.clone(), state.seed, state.step)
    assert torch.equal(kernel.step(state)[0].value, kernel.step(resumed)[0].value)


def test_mcmc_runs_it_reproducibly_with_chains_as_a_dimension() -> None:
    rbm, draws = model(), []
    for _ in range(2):
        pyro.set_rng_seed(4)
        mcmc = MCMC(BlockGibbs(rbm, num_chains=6), num_samples=10, warmup_steps=3, disable_progbar=True)
        mcmc.run()
        draws.append(mcmc.get_samples()["v"])
    assert torch.equal(*draws)
    assert draws[0].shape == (10, 6, 4)
    diagnostics = mcmc.diagnostics()
    torch.testing.assert_close(diagnostics["free_energy"]["chain 0"], rbm.free_energy(draws[0]).T)
    assert mcmc.kernel.logging()["free energy"] != "-"


def test_start_and_name_are_the_users() -> None:
    start = torch.ones(2, 4)
    kernel = BlockGibbs(model(), num_chains=2, start=start, name="pixels")
    assert torch.equal(kernel.init().value, start)
    mcmc = MCMC(kernel, num_samples=2, warmup_steps=0, disable_progbar=True)
    mcmc.run()
    assert set(mcmc.get_samples()) == {"pixels"}


def test_mcmc_starts_where_it_is_told_and_goes_on_from_where_the_chains_were_moved_to() -> None:
    """Units that are tied to themselves stay: weights of 100 copy each visible unit to a hidden one and back."""
    copier = RBM(100 * torch.eye(4), torch.full((4,), -50.0), torch.full((4,), -50.0))
    kernel, states = BlockGibbs(copier, num_chains=2), torch.tensor([[0.0, 1, 0, 1], [1.0, 1, 0, 0]])
    mcmc = MCMC(kernel, num_samples=2, warmup_steps=0, initial_params={"v": states}, disable_progbar=True)
    mcmc.run()
    assert torch.equal(mcmc.get_samples()["v"], states.expand(2, 2, 4))
    assert torch.equal(kernel.sample({"v": 1 - states})["v"], 1 - states)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.smoke
def test_long_chains_have_the_enumerated_distribution(scale: float) -> None:
    # Total variation against its 99.99 % quantile for iid draws: false alarm 1e-4 a case for a fresh seed.
    rbm = model(scale)
    kernel = BlockGibbs(rbm, num_steps=300, num_chains=20_000)
    state, _ = kernel.step(kernel.init())
    states = rbm.enumerate_support()
    distribution = rbm.log_prob(states).exp()
    counts = (state.value.unsqueeze(1) == states).all(-1).sum(0)
    assert total_variation(counts / 20_000, distribution) < multinomial_floor(distribution, 20_000, 0.9999)
    assert total_variation(counts / 20_000, distribution.flip(0)) > multinomial_floor(
        distribution, 20_000, 0.9999
    )  # the test can fail


def test_bad_settings_are_named() -> None:
    rbm = model()
    with pytest.raises(ValueError, match="`num_chains` must be at least 1, got 0"):
        BlockGibbs(rbm, num_chains=0)
    with pytest.raises(ValueError, match=r"`start` must have shape \(4, 4\)"):
        BlockGibbs(rbm, start=torch.ones(2, 4))
    with pytest.raises(ValueError, match="no batch shape"):
        BlockGibbs(rbm.expand((3,)))
