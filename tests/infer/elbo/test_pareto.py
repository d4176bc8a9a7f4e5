"""Shape of the tail of importance weights against known tails and against ArviZ."""

from __future__ import annotations

import math

import arviz
import numpy as np
import pytest
import torch

from pyro_gen.infer.elbo.pareto import k_of_largest, pareto_k, pareto_smooth, tail_length


@pytest.mark.parametrize("shape", [0.1, 0.5, 0.9])
def test_k_hat_finds_the_shape_of_pareto_tails(shape: float) -> None:
    """Of 20 times 20,000 generalised Pareto weights: the mean is within 0.08 of the shape, shrunk towards 1/2."""
    generator = torch.Generator().manual_seed(5)
    uniform = torch.rand(20_000, 20, generator=generator, dtype=torch.float64)
    found = pareto_k(((uniform**-shape - 1) / shape + 1e-3).log())
    assert found.mean().item() == pytest.approx(shape, abs=0.08)


def test_k_hat_of_equal_weights_is_zero_and_of_a_lonely_draw_infinite() -> None:
    logs = torch.zeros(1000, 2).double()
    logs[0, 1] = 20
    assert pareto_k(logs).tolist() == [0.0, math.inf]


@pytest.mark.parametrize("size", [100, 500, 1000, 2500, 5000, 10_000])
def test_k_hat_of_weights_with_many_ties_is_a_number(size: int) -> None:
    """Networks have finitely many weights; bounded ones have no heavy tail."""
    for share in (0.01, 0.05, 0.1, 0.15):
        logs = torch.zeros(size, 1).double()
        logs[: int(share * size)] = 3.0
        assert pareto_k(logs).item() < 0.7 or share * size < 5


@pytest.mark.parametrize("size", [30, 100, 1000, 5000])
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_smoothing_is_that_of_arviz(size: int, spread: float) -> None:
    log_weight = spread * np.random.default_rng(0).standard_normal(size)
    smoothed, k = pareto_smooth(log_weight)
    if hasattr(arviz, "psislw"):
        expected, expected_k = arviz.psislw(log_weight)
    else:  # 1.x takes the logs of the inverse weights
        from arviz_stats.base import array_stats  # type: ignore[import-not-found]  # of ArviZ 1.x

        expected, expected_k = array_stats.psislw(-log_weight)
        expected = expected - np.log(np.exp(expected).sum())
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6, atol=1e-6)
    assert k == pytest.approx(float(expected_k), rel=1e-6)
    assert pareto_k(torch.from_numpy(log_weight)[:, None]).item() == pytest.approx(k, rel=1e-9)


def test_the_largest_weights_are_enough() -> None:
    logs = torch.randn(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    largest = logs.sort(0).values[-tail_length(1000) - 1 :].mT
    torch.testing.assert_close(k_of_largest(largest), pareto_k(logs))
