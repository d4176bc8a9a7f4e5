"""The adaptive schedule of annealed importance sampling, and exact sums by products."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pyro_gen.distributions import RBM
from pyro_gen.distributions.energy.products import fits, log_sum_by_products
from pyro_gen.distributions.log_z.schedule import SHORTEST, _friction, adaptive_betas, linear_betas
from pyro_gen.distributions.streaming import BLOCK_BYTES
from pyro_gen.infer import AIS, Exact
from tests.marks import slow


def parameters(visible: int, hidden: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    weight = scale * torch.randn(visible, hidden).double()
    return weight, torch.randn(visible).double(), torch.randn(hidden).double()


def direct(weight: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """The sum over the smaller side by logaddexp alone."""
    numbers = torch.arange(2 ** len(small))
    states = ((numbers.unsqueeze(-1) >> torch.arange(len(small))) & 1).double()
    fields = states @ weight + large
    return (states @ small + torch.logaddexp(fields, torch.zeros_like(fields)).sum(-1)).logsumexp(0)


def test_the_schedule_ascends_from_zero_to_one_and_is_fixed_by_its_key() -> None:
    rbm = RBM(*parameters(20, 10), Exact())
    base = torch.zeros(20).double()
    betas = adaptive_betas(rbm, base, 500, seed=3)
    assert betas.shape == (501,)
    assert betas.dtype == torch.float64
    assert betas[0] == 0
    assert betas[-1] == 1
    assert (betas.diff() > 0).all()
    assert torch.equal(betas, adaptive_betas(rbm, base, 500, seed=3))
    assert not torch.equal(betas, adaptive_betas(rbm, base, 500, seed=4))


def test_temperatures_gather_where_the_model_changes() -> None:
    """All-or-none modes open at one inverse temperature: the schedule is denser around it than at the cold end."""
    weight = torch.full((30, 30), 0.4).double()
    rbm = RBM(weight, -weight.sum(1) / 2, -weight.sum(0) / 2, Exact(30))
    betas = adaptive_betas(rbm, torch.zeros(30).double(), 2000, seed=0)
    warm, cold = ((betas > low) & (betas <= low + 0.2) for low in (0.25, 0.8))
    assert warm.sum() > 2 * cold.sum()


def test_the_schedule_is_even_where_there_is_nothing_to_measure() -> None:
    flat = RBM(torch.zeros(8, 5).double(), torch.zeros(8).double(), torch.zeros(5).double())
    assert torch.equal(adaptive_betas(flat, torch.zeros(8).double(), 400, 0), linear_betas(400))
    steep = RBM(*parameters(8, 5))
    few = SHORTEST - 1
    assert torch.equal(adaptive_betas(steep, torch.zeros(8).double(), few, 0), linear_betas(few))


@pytest.mark.parametrize("schedule", ["adaptive", *slow("linear")])
def test_both_schedules_have_the_exact_value_within_their_error(schedule: str) -> None:
    """Mean z-score of 40 runs within 0.7 (4.4 sigma: 1e-5), whatever the pilot says."""
    weights = parameters(12, 8)
    exact = RBM(*weights).log_partition().value
    settings = AIS(100, 200, schedule="adaptive" if schedule == "adaptive" else "linear")
    found = [RBM(*weights, settings).log_partition() for _ in range(40)]
    z = torch.stack([(x.value - exact) / x.standard_error for x in found])
    assert abs(z.mean()) < 0.7
    assert 0.5 < z.std() < 1.6


def test_another_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="`schedule` must be 'adaptive' or 'linear', got 'cubic'"):
        AIS(schedule="cubic")  # type: ignore[arg-type]  # what a user may write


@pytest.mark.parametrize(("small", "large"), [(1, 1), (3, 63), (9, 5), (12, 500)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_products_are_the_sum(small: int, large: int, scale: float) -> None:
    weight, one, other = parameters(small, large, scale)
    assert fits(weight, one, other)
    torch.testing.assert_close(log_sum_by_products(weight, one, other), direct(weight, one, other), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", ["large", "negative", "infinite", "NaN", "batched"])
def test_fields_beyond_float64_are_left_to_the_logarithms(kind: str) -> None:
    weight, small, large = parameters(6, 9)
    change = {"large": 400.0, "negative": -400.0, "infinite": float("inf"), "NaN": float("nan"), "batched": 0.0}[kind]
    weight[2, 3] += change
    assert not fits(weight.expand(2, 6, 9) if kind == "batched" else weight, small, large)


@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_a_streamed_log_z_is_the_direct_one(scale: float) -> None:
    """Products at scale 1, logarithms at scale 60; both sides of the block size."""
    weight, vbias, hbias = parameters(40, 15, scale)
    assert BLOCK_BYTES < 2**15 * 40 * 8
    assert fits(weight.mT, hbias, vbias) == (scale == 1)
    value = RBM(weight, vbias, hbias, Exact()).log_partition().value
    torch.testing.assert_close(value, direct(weight.mT, hbias, vbias), rtol=1e-11, atol=0)


def test_the_friction_of_a_segment_holds_its_neighbours_share() -> None:
    """The sum over |r - s| <= 1 of the sample covariances, but no less than a quarter of the variance."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(5, 40, generator=generator).double()
    log_weights = noise + torch.tensor([1.0, 0.8, 0.0, -1.5, 0.0]).double().unsqueeze(-1) * noise.roll(1, 0)
    covariance = torch.cov(log_weights, correction=0)
    wanted = covariance.diagonal() + torch.stack(
        [covariance[s, [r for r in (s - 1, s + 1) if 0 <= r < 5]].sum() for s in range(5)]
    )
    wanted = torch.maximum(wanted, covariance.diagonal() / 4)
    assert (wanted != covariance.diagonal()).all()
    torch.testing.assert_close(_friction(log_weights), wanted)


@pytest.mark.parametrize("key", [4, 5, 6, 7])
def test_no_key_of_a_pilot_is_the_run_s(key: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that knows the run's own draws would bias the estimate: pilots of base and schedule share no key."""
    keys: list[int] = []

    def watch(name: str, position: int) -> None:
        original = getattr(RBM, name)

        def watched(self: RBM, *arguments: Any) -> Any:
            keys.append(arguments[position])
            return original(self, *arguments)

        monkeypatch.setattr(RBM, name, watched)

    for name, position in (("base_states", 2), ("sweep", 2), ("anneal", 3)):
        watch(name, position)
    monkeypatch.setattr("pyro_gen.distributions.log_z.annealing.draw_seed", lambda: key)
    RBM(*parameters(8, 5), AIS(20, SHORTEST)).log_partition()
    base, schedule, run = set(keys[:2]), set(keys[2:-2]), set(keys[-2:])
    assert run == {key}
    assert len(schedule) == 17
    assert len(base | schedule | run) == len(base) + len(schedule) + len(run)
