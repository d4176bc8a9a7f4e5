"""The class-RBM against enumeration of inputs, labels and hidden states in float64, and the errors for bad input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gen.distributions import ClassRBM
from pyro_gen.distributions.energy.class_rbm import _draw_label
from pyro_gen.infer import AIS, ContrastiveDivergence, Exact
from pyro_gen.testing import frequencies, goodness_of_fit, states
from tests.kernels.oracle import P_LIMIT

SIZES = [(3, 2, 4), (2, 5, 3), (1, 1, 1)]  # visible, hidden, classes


def class_rbm(size: tuple[int, int, int], num_steps: int | None = None, scale: float = 1.0) -> ClassRBM:
    visible, hidden, classes = size
    shapes = (visible, hidden), (classes, hidden), (visible,), (classes,), (hidden,)
    weight, label_weight, vbias, label_bias, hbias = (scale * torch.randn(s, dtype=torch.float64) for s in shapes)
    return ClassRBM(weight, label_weight, vbias, label_bias, hbias, num_steps=num_steps)


def rebuilt(rbm: ClassRBM, num_steps: int) -> ClassRBM:
    weight, label_weight, vbias, label_bias, hbias = rbm.parameters
    return ClassRBM(weight, label_weight, vbias, label_bias, hbias, num_steps=num_steps)


def joint(rbm: ClassRBM) -> Tensor:
    """Log p(v, y, h) by the definition, (inputs, classes, hidden states)."""
    (visible, hidden), classes = rbm.weight.shape, len(rbm.label_bias)
    v, y, h = states(visible)[:, None, None], torch.eye(classes).double()[:, None], states(hidden)
    interaction = ((v @ rbm.weight + y @ rbm.label_weight) * h).sum(-1)
    total = (v * rbm.vbias).sum(-1) + (y * rbm.label_bias).sum(-1) + (h * rbm.hbias).sum(-1) + interaction
    return total - total.logsumexp((0, 1, 2))


def every_value(rbm: ClassRBM) -> Tensor:
    """All values of the joint distribution, (inputs, classes, visible + classes)."""
    visible, classes = len(rbm.vbias), len(rbm.label_bias)
    v = states(visible)[:, None].expand(-1, classes, -1)
    return rbm.encode(v, torch.arange(classes).expand(2**visible, -1))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", SIZES)
def test_joint_and_label_distributions_are_enumerated(size: tuple[int, int, int]) -> None:
    rbm = class_rbm(size)
    distribution = joint(rbm).logsumexp(-1)
    close(rbm.log_prob(every_value(rbm)), distribution)
    close(rbm.given_visible(states(size[0])).logits, distribution.log_softmax(-1))
    v, y = rbm.decode(every_value(rbm))
    close(v[:, 0], states(size[0]))
    assert torch.equal(y[0], torch.arange(size[2]))


@pytest.mark.parametrize("size", SIZES[:2])
def test_exact_draws_and_chains_follow_the_distribution(size: tuple[int, int, int]) -> None:
    """60 sweeps of an easy model; false alarms below 1e-6 each."""
    exact, n = class_rbm(size, scale=0.5), 5000
    chains = rebuilt(exact, 60)
    chains.partition = ContrastiveDivergence(1).bind(chains)  # no exact draw under a phase
    assert not chains.samples_exactly
    distribution, every = joint(exact).logsumexp(-1).exp().flatten(), every_value(exact).flatten(0, 1)
    for rbm in (exact, chains):
        assert goodness_of_fit(frequencies(rbm.sample((n,)), every) * n, distribution) > P_LIMIT


def test_one_sweep_keeps_the_distribution_of_exact_draws() -> None:
    """100,000 chains see a label that shares a random number with a unit of either layer; false alarm below 1e-6."""
    rbm, n = class_rbm((3, 2, 4), scale=1.5), 100_000
    every, distribution = every_value(rbm).flatten(0, 1), joint(rbm).logsumexp(-1).exp().flatten()
    swept = rbm.sweep(rbm.sample((n,)), 1, 5, 0)
    assert goodness_of_fit(frequencies(swept, every) * n, distribution) > P_LIMIT


def test_the_gradient_of_the_label_distribution_is_that_of_the_enumerated_one() -> None:
    rbm = class_rbm((3, 2, 4))
    leaves = [p.requires_grad_() for p in rbm.parameters]
    expected = joint(rbm).logsumexp(-1).log_softmax(-1)[:, 1].sum()
    actual = rbm.given_visible(states(3)).log_prob(torch.tensor(1)).sum()
    inputs = [leaves[i] for i in (0, 1, 3, 4)]  # the visible bias cancels
    for a, e in zip(torch.autograd.grad(actual, inputs), torch.autograd.grad(expected, inputs), strict=True):
        close(a, e)


def test_a_sweep_is_a_function_of_its_key() -> None:
    rbm = class_rbm((3, 2, 4))
    start = rbm.base_states(torch.zeros(7).double(), 50, 1)
    assert rbm.support.check(start).all()
    assert torch.equal(rbm.sweep(start, 3, 5, 0), rbm.sweep(rbm.sweep(start, 2, 5, 0), 1, 5, 2))
    assert rbm.support.check(rbm.pilot(20, 3, 2)).all()
    assert torch.equal(rbm.gibbs(start, 0), start)
    assert rbm.support.check(rbm.gibbs(start, 3)).all()


def test_what_cannot_be_done_raises() -> None:
    rbm = class_rbm((3, 2, 4))
    weight, label_weight, vbias, label_bias, hbias = rbm.parameters
    with pytest.raises(ValueError, match="`label_weight` must have shape"):
        ClassRBM(weight, label_weight[:, :1], vbias, label_bias, hbias)
    with pytest.raises(ValueError, match=r"`label_bias` must have shape \(..., 4\)"):
        ClassRBM(weight, label_weight, vbias, label_bias[:2], hbias)
    with pytest.raises(ValueError, match=r"`label_bias` must be torch.float64"):
        ClassRBM(weight, label_weight, vbias, label_bias.float(), hbias)
    with pytest.raises(ValueError, match="`hbias` must have shape"):
        ClassRBM(weight, label_weight, vbias, label_bias, hbias[:1])
    with pytest.raises(ValueError, match="got AIS"):
        ClassRBM(weight, label_weight, vbias, label_bias, hbias, AIS())
    with pytest.raises(ValueError, match="expects at most that many units"):
        ClassRBM(weight, label_weight, vbias, label_bias, hbias, Exact(1))
    value = rbm.sample()
    value[-4:] = 1
    with pytest.raises(ValueError, match="value"):
        rbm.log_prob(value)
    large = class_rbm((30, 25, 2))
    with pytest.raises(ValueError, match="`sample` has no exact draw"):
        large.sample()
    with pytest.raises(NotImplementedError, match="at most 20 visible units"):
        large.enumerate_support()
    with pytest.raises(NotImplementedError, match="no AIS"):
        rbm.anneal(value, value, value, 0)
    with pytest.raises(NotImplementedError, match="no AIS"):
        rbm.base_log_partition(value)
    with pytest.raises(NotImplementedError):
        kl_divergence(rbm, rbm)


def test_labels_are_the_quantiles_of_their_distribution() -> None:
    """Over an even grid of uniforms every class has its share, to the grid."""
    logits = torch.tensor([0.3, -1.0, 2.0, 0.0]).double()
    grid = (torch.arange(4000).double() + 0.5) / 4000
    shares = _draw_label(logits.expand(4000, 4), grid).mean(0)
    torch.testing.assert_close(shares, logits.softmax(-1), rtol=0, atol=1 / 4000)
