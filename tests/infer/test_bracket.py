"""The two-sided statement on log Z and the log likelihood with its errors, on models that can be enumerated."""

from __future__ import annotations

import math

import pytest
import torch

from pyro_gen.distributions import RBM
from pyro_gen.infer import AIS, Exact, log_likelihood, log_partition_bracket


def parameters() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(10, 8).double(), torch.randn(10).double(), torch.randn(8).double()


def test_both_ends_enclose_the_exact_value() -> None:
    weight, vbias, hbias = parameters()
    exact = RBM(weight, vbias, hbias).log_partition().value
    bracket = log_partition_bracket(RBM(weight, vbias, hbias, AIS(200, 200)), torch.zeros(200, 10), burn_in=200)
    for end in (bracket.forward, bracket.reverse):
        assert (end.value - exact).abs() < 4 * end.standard_error  # 1.3e-4 for a fresh seed
        assert 0 < end.standard_error < 0.1
    assert bracket.resolved
    assert bracket.upper == max(bracket.forward.value, bracket.reverse.value)


def test_one_temperature_errs_to_below_and_above() -> None:
    weight = torch.randn(60, 16).double()
    wide = weight, -weight.sum(1) / 2, -weight.sum(0) / 2  # symmetric under v -> 1 - v: many modes, base rates of 1/2
    exact = RBM(*wide)
    with pytest.warns(UserWarning, match="AIS cannot be trusted"):
        bracket = log_partition_bracket(RBM(*wide, AIS(100, 1)), exact.sample((100,)), burn_in=10)
    assert bracket.forward.value < exact.log_partition().value < bracket.reverse.value
    assert not bracket.resolved


def test_it_needs_an_ais() -> None:
    with pytest.raises(ValueError, match="must have an AIS"):
        log_partition_bracket(RBM(*parameters(), Exact()), torch.zeros(2, 10))


def test_log_likelihood_names_both_errors() -> None:
    model = RBM(*parameters())
    x = model.sample((50,))
    result = log_likelihood(model, x)
    assert result.partition_error == 0
    assert math.isclose(result.row_error, model.log_prob(x).std().item() / 50**0.5)
    assert math.isclose(result.against(result.partition.value + 2), result.value - 2)
    assert str(result).endswith(f"(log Z +/- 0.00, test rows +/- {result.row_error:.2f}, N=50)")


@pytest.mark.parametrize("x", [torch.zeros(0, 10), torch.zeros(10)])
def test_log_likelihood_needs_rows(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        log_likelihood(RBM(*parameters()), x)
