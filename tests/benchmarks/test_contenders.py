"""Rivals are timed at the same work: the baselines estimate what the project's own contenders estimate."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks import ais, gibbs, steps
from benchmarks.autoregressive import FAMILIES
from benchmarks.autoregressive_peers import PEERS
from benchmarks.autoregressive_sampling import forgetful, loop
from benchmarks.nade import naive_log_prob
from benchmarks.peers import Step
from benchmarks.problem import Problem
from pyro_gen.infer import ContrastiveDivergence, PersistentChains
from pyro_gen.nn import RBM

ROWS, VISIBLE, HIDDEN = 8192, 6, 5


def _coins() -> Tensor:
    return torch.randint(2, (ROWS, VISIBLE)).float()


UPDATES: dict[str, Callable[[], Step]] = {
    "ours, CD-1": lambda: steps.ours(RBM(VISIBLE, HIDDEN, ContrastiveDivergence(1), centring=False)),
    "ours by hand, PCD-1": lambda: steps.ours_by_hand(
        RBM(VISIBLE, HIDDEN, PersistentChains(num_chains=ROWS), centring=False)
    ),
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


def _states(features: int) -> Tensor:
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * features)


def test_the_naive_loop_is_a_density_and_draws_bits() -> None:
    total = naive_log_prob(VISIBLE, HIDDEN)(_states(VISIBLE)).exp().sum()
    torch.testing.assert_close(total, torch.ones_like(total))
    assert loop(VISIBLE, HIDDEN, 9).unique().tolist() == [0, 1]


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sampler_that_keeps_nothing_draws_the_same(family: str) -> None:
    torch.manual_seed(0)
    network, drawn = FAMILIES[family](VISIBLE, HIDDEN), []
    for each in (network, forgetful(network)):
        torch.manual_seed(1)
        drawn.append(each().sample((20,)))
    # 120 uniforms, of which one within 1e-6 of its probability may turn a draw.
    assert torch.equal(*drawn)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in PEERS if not name.startswith("zuko")])
def test_peers_are_densities_of_bits(name: str) -> None:
    peer = PEERS[name]
    try:
        network = peer.network(VISIBLE, HIDDEN)
    except ImportError as error:
        pytest.skip(str(error))
    total = peer.log_prob(network, _states(VISIBLE)).exp().sum()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-4)
    assert peer.sample(network, 9).unique().tolist() == [0, 1]
