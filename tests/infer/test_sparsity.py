"""The sparsity target against its formula, and its effect on learning."""

from __future__ import annotations

import pytest
import torch

from pyro_gen import datasets, nn
from pyro_gen.distributions import SpinUnits
from pyro_gen.infer import ContrastiveDivergence, contrastive_gradient, sparsity_penalty


def test_the_penalty_is_the_divergence_from_the_target() -> None:
    rbm = nn.RBM(5, 3).double()
    torch.nn.init.normal_(rbm.weight)
    x = torch.randint(2, (7, 5)).double()
    q = rbm.transform(x).mean(0)
    wanted = 0.2 * (0.2 / q).log() + 0.8 * (0.8 / (1 - q)).log()
    torch.testing.assert_close(sparsity_penalty(rbm, x, 0.2), wanted.sum())
    assert torch.autograd.gradcheck(lambda w: sparsity_penalty(rbm, x, 0.2), rbm.weight)


def test_saturated_units_have_a_finite_penalty_and_gradient() -> None:
    rbm = nn.RBM(2, 1)
    torch.nn.init.constant_(rbm.hbias, 200.0)
    penalty = sparsity_penalty(rbm, torch.zeros(3, 2), 0.1)
    penalty.backward()
    assert rbm.hbias.grad is not None
    assert torch.isfinite(penalty)
    assert torch.isfinite(rbm.hbias.grad).all()


def test_learning_under_a_target_ends_nearer_to_it() -> None:
    x = datasets.bars_and_stripes(3, 3)
    activities = []
    for strength in (0.0, 3.0):
        torch.manual_seed(0)
        rbm = nn.RBM.from_data(x, 6, negative_phase=ContrastiveDivergence(1))
        torch.nn.init.normal_(rbm.weight, std=0.5)
        optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1)
        for _ in range(300):
            contrastive_gradient(rbm, x)
            penalty = torch.autograd.grad(sparsity_penalty(rbm, x, 0.1), [rbm.weight, rbm.hbias])
            for p, g in zip((rbm.weight, rbm.hbias), penalty, strict=True):
                assert p.grad is not None
                p.grad.add_(g, alpha=strength)
            optimizer.step()
        activities.append(rbm.transform(x).mean().item())
    assert abs(activities[1] - 0.1) < 0.05 < abs(activities[0] - 0.1)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1])
def test_a_target_is_a_probability(target: float) -> None:
    with pytest.raises(ValueError, match="`target` must lie strictly between 0 and 1"):
        sparsity_penalty(nn.RBM(2, 1), torch.zeros(3, 2), target)


def test_other_hidden_units_are_refused() -> None:
    with pytest.raises(ValueError, match="Bernoulli hidden units, got SpinUnits"):
        sparsity_penalty(nn.RBM(3, 2, hidden_units=SpinUnits()), torch.zeros(1, 3), 0.1)
