"""Calibration: right posteriors pass at the stated rate, wrong ones are caught, and numbers are those of SciPy."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import Normal

from pyro_gen.testing import Calibration, joint_distribution_test, rank_among, simulation_based_calibration


def simulate() -> tuple[dict[str, Tensor], Tensor]:
    mean = Normal(0.0, 1.0).sample()
    return {"mean": mean}, Normal(mean, 1.0).sample((2,))


def conjugate(x: Tensor, width: float = 1.0, shift: float = 0.0) -> Normal:
    return Normal(x.sum() / 3 + shift, width * 3**-0.5)


def test_tail_probabilities_are_those_of_scipy() -> None:
    calibration = Calibration({"x": torch.arange(30) % 5}, num_draws=4)
    for z in range(4):
        binomial = scipy.stats.binom(30, (z + 1) / 5)
        for count in range(31):
            expected = min(1, 2 * min(binomial.cdf(count), binomial.sf(count - 1)))
            assert calibration._tails[z, count].item() == pytest.approx(expected, rel=1e-9)


def test_p_values_are_those_of_enumeration() -> None:
    # All 4^5 sets of five ranks among three draws: the probability of a statistic as small as each one's.
    ranks = torch.cartesian_prod(*[torch.arange(4)] * 5)
    table = Calibration({"x": ranks[0]}, 3)
    counts = torch.nn.functional.one_hot(ranks, 4).sum(1).cumsum(1)[:, :-1]
    statistics = table._tails.expand(len(ranks), 3, 6).gather(2, counts[..., None]).squeeze(-1).amin(-1)
    for row in range(0, len(ranks), 37):
        expected = (statistics <= statistics[row] * (1 + 1e-6)).double().mean().item()
        assert Calibration({"x": ranks[row]}, 3).p_values["x"] == pytest.approx(expected, abs=1e-12)


def test_p_values_of_uniform_ranks_are_uniform() -> None:
    # 300 p-values against uniformity: false alarm 1e-4. They are discrete, which makes the test milder.
    torch.manual_seed(0)
    shared = Calibration({str(i): row for i, row in enumerate(torch.randint(20, (300, 200)))}, 19).p_values
    assert scipy.stats.kstest(list(shared.values()), "uniform").pvalue > 1e-4


def test_the_band_holds_uniform_ranks_as_often_as_it_says() -> None:
    # 400 sets, a band of level 0.8 or a little more: 320 +/- 8, within 5 deviations; false alarm 6e-7.
    torch.manual_seed(1)
    lower, upper = Calibration({"x": torch.randint(20, (100,))}, 19).band(0.8)
    inside = 0
    for _ in range(400):
        empirical = Calibration({"x": torch.randint(20, (100,))}, 19).empirical("x")
        inside += bool(((empirical >= lower - 1e-9) & (empirical <= upper + 1e-9)).all())
    assert abs(inside - 320) < 40


@pytest.mark.parametrize(("width", "shift"), [(0.7, 0.0), (1.4, 0.0), (1.0, 0.3)])
def test_a_wrong_posterior_is_caught_and_the_right_one_is_not(width: float, shift: float) -> None:
    # The right one is a false alarm at 1e-3 for a fresh seed; the wrong ones were caught in 20, 19 and 20 of 20 seeds.
    torch.manual_seed(2)
    right = simulation_based_calibration(simulate, lambda x: {"mean": conjugate(x).sample((19,))}, 400)
    assert right.passes()
    wrong = simulation_based_calibration(simulate, lambda x: {"mean": conjugate(x, width, shift).sample((19,))}, 400)
    assert not wrong.passes()
    assert "400 simulations" in str(wrong)
    assert "'mean'" in repr(wrong)


def test_a_wrong_transition_is_caught_and_the_right_one_is_not() -> None:
    torch.manual_seed(3)

    def regenerate(parameters: dict[str, Tensor]) -> Tensor:
        return Normal(parameters["mean"], 1.0).sample((2,))

    def outcome(width: float) -> Calibration:
        def transition(_: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
            return {"mean": conjugate(x, width).sample()}

        return joint_distribution_test(simulate, transition, regenerate, 200, 5, 9)  # type: ignore[arg-type]

    assert outcome(1.0).passes()
    assert not outcome(2.0).passes()


def test_ranks_count_smaller_draws_and_break_ties_at_random() -> None:
    ranks = rank_among({"x": torch.tensor([0.5, -1.0])}, {"x": torch.tensor([[0.0, 0.0], [1.0, 2.0]])})
    assert ranks["x"].tolist() == [1, 0]
    torch.manual_seed(0)
    tied = torch.stack([rank_among({"x": torch.tensor(0)}, {"x": torch.zeros(3)})["x"] for _ in range(400)])
    # 400 ranks over four values: chi-squared, false alarm 1e-4.
    assert scipy.stats.chisquare(tied.bincount(minlength=4).numpy()).pvalue > 1e-4


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ({}, "must have shape"),
        ({"x": torch.tensor([7])}, "between 0 and 4"),
        ({"x": torch.tensor(1)}, "must have shape"),
    ],
)
def test_ranks_out_of_range_are_refused(ranks: dict[str, Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Calibration(ranks, 4)
