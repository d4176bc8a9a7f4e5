"""The oracles that all statistical tests lean on: their false-alarm rate, their power, and their arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pyro.distributions.testing.gof import multinomial_goodness_of_fit
from torch import Tensor

from pyro_gen.testing import (
    enumerate_joint,
    frequencies,
    goodness_of_fit,
    multinomial_floor,
    state_index,
    states,
    total_variation,
)


def distribution(size: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(size).dirichlet(np.ones(size)))


@pytest.mark.parametrize("size", [2, 8, 64])
def test_goodness_of_fit_keeps_its_false_alarm_rate(size: int) -> None:
    counts = np.random.default_rng(0).multinomial(500, distribution(size), size=5_000)
    p_values = np.array([goodness_of_fit(torch.from_numpy(row), distribution(size)) for row in counts])
    assert (p_values < 0.1).mean() < 0.1
    assert (p_values < 0.01).mean() < 0.01


@pytest.mark.parametrize("size", [2, 8, 64])
def test_goodness_of_fit_finds_another_distribution(size: int) -> None:
    other = (1.3 * distribution(size).log()).softmax(-1)
    assert (
        goodness_of_fit(torch.from_numpy(np.random.default_rng(0).multinomial(20_000, other)), distribution(size))
        < 1e-6
    )


def test_goodness_of_fit_of_impossible_states_and_of_a_certain_one() -> None:
    assert goodness_of_fit(torch.tensor([9, 1]), torch.tensor([1.0, 0.0])) == 0
    assert goodness_of_fit(torch.tensor([10, 0]), torch.tensor([1.0, 0.0])) == 1
    assert goodness_of_fit(torch.tensor([10]), torch.tensor([1.0])) == 1


def test_pyros_chi_squared_is_too_strict_for_two_cells() -> None:
    counts = torch.tensor([5_173.0, 4_827.0], dtype=torch.float64)  # 3.46 standard deviations: p = 5.4e-4
    assert multinomial_goodness_of_fit(torch.tensor([0.5, 0.5]), counts) < 1e-6


@pytest.mark.parametrize("num_draws", [100, 10_000])
def test_multinomial_floor_is_the_quantile_of_fresh_draws(num_draws: int) -> None:
    counts = np.random.default_rng(1).multinomial(num_draws, distribution(16), size=10_000)
    distances = total_variation(torch.from_numpy(counts) / num_draws, distribution(16))
    above = (distances > multinomial_floor(distribution(16), num_draws, quantile=0.9)).double().mean()
    assert 0.08 < above < 0.12  # 0.1 within six standard errors of both simulations


def test_multinomial_floor_leaves_the_generators_alone() -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].tolist()
    assert multinomial_floor(distribution(4), 100) == multinomial_floor(distribution(4), 100)
    assert torch.equal(before, torch.get_rng_state())
    assert numpy_before == np.random.get_state(legacy=False)["state"]["key"].tolist()


def test_states_are_all_and_distinct_and_found_again() -> None:
    listed = states(5)
    assert len(torch.unique(listed, dim=0)) == 32
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(state_index(listed[order].reshape(4, 8, 5), listed), order.reshape(4, 8))


def test_the_index_of_a_value_that_is_no_state_is_minus_one() -> None:
    nan = float("nan")
    values = torch.tensor([[0.0, 1, 1], [1, 2, 1], [-1, 0, 0], [nan, 0, 1], [0, nan, 0], [-0.0, 0, 1]])
    assert state_index(values, states(3)).tolist() == [3, -1, -1, -1, -1, 1]
    odd = states(3)[[1, 2, 4, 7]]  # every cell of the others occurs in some state
    assert state_index(states(3), odd).tolist() == [-1, 0, 1, -1, 2, -1, -1, 3]
    assert state_index(torch.tensor([[0, 1], [1, 1]]), torch.eye(2).bool()).tolist() == [1, -1]
    assert state_index(torch.tensor([[7, 3], [0, 5]]), torch.tensor([3, 5])).tolist() == [[-1, 0], [-1, 1]]


def test_frequencies_refuse_strangers_and_nothing() -> None:
    with pytest.raises(ValueError, match="1 strangers of 1"):
        frequencies(torch.full((1, 2), 0.5, dtype=torch.float64), states(2))
    with pytest.raises(ValueError, match="0 strangers of 0"):
        frequencies(torch.empty(0, 2), states(2))


def test_enumerate_joint_of_independent_units_is_the_product() -> None:
    a, b = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)
    joint = enumerate_joint(lambda v, h: -(v @ a) - (h @ b), 2, 1)
    v, h = joint.visible, joint.hidden
    separate = ((v @ a).log_softmax(0).unsqueeze(-1)) + (h @ b).log_softmax(0)
    torch.testing.assert_close(joint.log_prob, separate)
