"""The class-RBM as a module: discriminative, generative and hybrid training inside Pyro, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import distributions, nn
from pyro_gen.infer import AIS, ContrastiveDivergence, Exact, PersistentChains
from tests.marks import slow

V = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1]])
Y = torch.tensor([0, 1, 0, 1])  # the parity of the first two bits: no linear rule


def model_of(rbm: nn.ClassRBM, discriminative: bool, alpha: float) -> Callable[[], None]:
    def model() -> None:
        pyro.module("class_rbm", rbm)
        with pyro.plate("rows", len(V)):
            if discriminative:
                pyro.sample("y", rbm(V), obs=Y)
            if alpha:
                with poutine.scale(scale=alpha):
                    pyro.sample("joint", rbm.joint(), obs=rbm.encode(V, Y))

    return model


def train(rbm: nn.ClassRBM, discriminative: bool, alpha: float, steps: int) -> None:
    svi = SVI(model_of(rbm, discriminative, alpha), lambda: None, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    for _ in range(steps):
        svi.step()


@pytest.mark.parametrize(
    ("phase", "discriminative", "alpha"),
    [
        (None, True, 0.0),
        (PersistentChains(50, 1), True, 0.1),
        (Exact(), False, 1.0),
        *slow((PersistentChains(500, 10), False, 1.0), (ContrastiveDivergence(10), False, 1.0)),
    ],
)
def test_every_kind_of_training_learns_the_labels(
    phase: PersistentChains | ContrastiveDivergence | Exact | None, discriminative: bool, alpha: float
) -> None:
    rbm = nn.ClassRBM(4, 6, 2, phase)
    train(rbm, discriminative, alpha, 400)
    rbm.eval()
    if discriminative or phase == Exact():
        assert torch.equal(rbm(V).probs.argmax(-1), Y)
    if alpha == 1:  # the optimum is -log 4 = -1.39, independent bits give -5 log 2 = -3.47
        assert rbm.joint().log_prob(rbm.encode(V, Y)).mean() > -2.8


def test_the_contrast_has_the_gradient_of_its_particles() -> None:
    rbm = nn.ClassRBM(4, 3, 2, PersistentChains(20, 2)).double()
    joint, value = rbm.joint(), rbm.encode(V, Y)
    parameters = [*rbm.parameters()]
    found = torch.autograd.grad(joint.log_prob(value).mean(), parameters)
    by_hand = joint.free_energy(rbm.chains).mean() - joint.free_energy(value).mean()
    for one, other in zip(found, torch.autograd.grad(by_hand, parameters), strict=True):
        torch.testing.assert_close(one, other)
    assert rbm.step == 2
    assert joint.support.check(rbm.chains).all()


def test_chains_stay_and_resume_bit_for_bit() -> None:
    rbm = nn.ClassRBM(4, 3, 2)
    again = nn.ClassRBM(4, 3, 2)
    again.load_state_dict(rbm.state_dict())
    for module in (rbm, again):
        module.joint().log_prob(module.encode(V, Y))
    assert torch.equal(rbm.chains, again.chains)
    chains = rbm.chains.clone()
    with torch.no_grad():
        rbm.joint()
    rbm.eval().joint()
    assert torch.equal(rbm.chains, chains)


def test_dropout_keeps_the_mean_and_is_gone_in_eval() -> None:
    """The logits without dropout lie within 6 standard errors of the mean with it; false alarms below 1e-7."""
    rbm = nn.ClassRBM(4, 30, 2, dropout=0.5)
    plain = distributions.ClassRBM(rbm.weight, rbm.label_weight, rbm.vbias, rbm.label_bias, rbm.hbias).given_visible(V)
    torch.testing.assert_close(rbm.eval()(V).logits, plain.logits)
    many = rbm.train()(V.expand(20_000, 4, 4)).logits
    gap = (many[..., 1] - many[..., 0]) - (plain.logits[:, 1] - plain.logits[:, 0])
    assert (gap.mean(0).abs() < 6 * gap.std(0) / 20_000**0.5).all()


def test_features_average_the_hidden_units_over_the_labels() -> None:
    rbm = nn.ClassRBM(4, 3, 2).double()
    v: Tensor = V.double()
    expected = torch.zeros(4, 3).double()
    for y in (0, 1):
        hidden = torch.sigmoid(v @ rbm.weight + rbm.hbias + rbm.label_weight[y])
        expected += rbm(v).probs[:, y : y + 1] * hidden
    torch.testing.assert_close(rbm.features(v), expected)


def test_what_does_not_serve_is_named() -> None:
    with pytest.raises(ValueError, match="`classes` must be at least 1, got 0"):
        nn.ClassRBM(4, 3, 0)
    with pytest.raises(ValueError, match="`dropout` must be"):
        nn.ClassRBM(4, 3, 2, dropout=1.0)
    with pytest.raises(ValueError, match="`evaluation` must know log Z"):
        nn.ClassRBM(4, 3, 2, evaluation=PersistentChains())
    with pytest.raises(ValueError, match="`evaluation` must know log Z"):
        nn.ClassRBM(4, 3, 2, evaluation=AIS())
    assert "classes=2" in repr(nn.ClassRBM(4, 3, 2))


@pytest.mark.parametrize("phase", [ContrastiveDivergence(2), PersistentChains(8, 2)])
def test_every_update_has_random_numbers_of_its_own(phase: PersistentChains | ContrastiveDivergence) -> None:
    """Without couplings the particles are the random numbers: 240 bits that agree by chance once in 2^240."""
    rbm = nn.ClassRBM(30, 10, 2, phase)
    torch.nn.init.zeros_(rbm.weight)
    torch.nn.init.zeros_(rbm.label_weight)
    torch.nn.init.normal_(rbm.vbias, std=1e-3)
    value = rbm.encode(torch.ones(8, 30), torch.zeros(8).long())
    assert not torch.equal(rbm.joint().log_prob(value), rbm.joint().log_prob(value))


def test_a_dropped_unit_is_missing_in_the_score_of_every_class() -> None:
    """Classes that differ in their bias alone have the bias' distribution, whichever units are dropped."""
    rbm = nn.ClassRBM(4, 30, 2, dropout=0.5).double()
    torch.nn.init.zeros_(rbm.label_weight)
    torch.nn.init.normal_(rbm.label_bias)
    torch.testing.assert_close(rbm.train()(V).probs, rbm.label_bias.softmax(-1).expand(4, 2))
