"""NADE: the formula of the paper, draws by one call, and what only it can do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyro_gen import datasets, nn
from pyro_gen.distributions import GaussianConditional
from pyro_gen.nn.autoregressive import AutoregressiveNetwork


def random_nade(features: int, hidden: int, context: int = 0, order: tuple[int, ...] | None = None) -> nn.NADE:
    torch.manual_seed(0)
    nade = nn.NADE(features, hidden, context, order)
    for p in nade.parameters():
        torch.nn.init.normal_(p, std=0.7)
    return nade


@torch.no_grad()
def test_the_log_probability_is_the_papers_formula() -> None:
    nade, order = random_nade(5, 3, order=(4, 0, 2, 1, 3)).double(), (4, 0, 2, 1, 3)
    x = torch.tensor([1.0, 0, 1, 1, 0], dtype=torch.float64)
    assert nade.bias is not None
    expected = 0.0
    for k, feature in enumerate(order):
        a = [
            nade.hidden_bias[j] + sum(x[order[i]] * nade.weight[i, 0, j] for i in range(k))
            for j in range(nade.hidden_features)
        ]
        f = nade.bias[k, 0] + sum(nade.output[k, 0, j] / (1 + math.exp(-a[j])) for j in range(len(a)))
        p = 1 / (1 + math.exp(-f))
        expected += math.log(p if x[feature] else 1 - p)
    assert nade().log_prob(x).item() == pytest.approx(expected, abs=1e-12)


def test_one_call_draws_what_single_steps_draw() -> None:
    nade = random_nade(40, 30, 2)
    density, context = nade(torch.randn(3, 2)), torch.randn(60, 2)
    torch.manual_seed(1)
    x, log_prob = density.sample_and_log_prob((20,))
    torch.testing.assert_close(log_prob, density.log_prob(x), rtol=1e-4, atol=1e-4)
    noise = nade.conditional.noise((40, 60), nade.example)
    with torch.no_grad():
        at_once, by_steps = nade.generate(noise, context), AutoregressiveNetwork.generate(nade, noise, context)
    # A uniform within rounding of its probability may turn a draw, and with it a row: 2400 draws, 1e-6 each.
    same = (at_once[0] == by_steps[0]).all(-1)
    assert same.sum() >= 59
    torch.testing.assert_close(at_once[1][same], by_steps[1][same], rtol=1e-4, atol=1e-4)


def test_hidden_units_fewer_than_features_or_one_alone_serve() -> None:
    for hidden in (1, 2):
        density = random_nade(6, hidden).double()()
        total = density.log_prob(density.enumerate_support()).exp().sum()
        torch.testing.assert_close(total, total.new_ones(()), rtol=0, atol=1e-12)


def test_rows_need_not_lie_side_by_side() -> None:
    density = random_nade(6, 5)()
    x = density.sample((7, 4))
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(density.log_prob(strided), density.log_prob(x))


def test_float32_learns_as_float64_does() -> None:
    x = datasets.bars_and_stripes(3, 3)
    gradients: list[list[Tensor]] = []
    for dtype in (torch.float32, torch.float64):
        nade = random_nade(9, 20).to(dtype)
        (-nade().log_prob(x.to(dtype)).mean()).backward()
        gradients.append([p.grad.double() for p in nade.parameters() if p.grad is not None])
    assert len(gradients[0]) == 4
    for single, double in zip(*gradients, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-5)


def test_log_densities_of_numbers_are_differentiable_in_the_numbers() -> None:
    torch.manual_seed(0)
    nade = nn.NADE(3, 4, conditional=GaussianConditional()).double()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(nade().log_prob, x)
    assert torch.autograd.gradgradcheck(nade().log_prob, x)


def test_the_context_reaches_the_hidden_units() -> None:
    nade = random_nade(4, 3, 2).double()
    assert nade.from_context is not None
    torch.nn.init.zeros_(nade.from_context.weight)  # the linear way past them
    context = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)
    nade(context).log_prob(torch.ones(4).double()).sum().backward()
    assert context.grad is not None
    assert context.grad.abs().min() > 1e-4
