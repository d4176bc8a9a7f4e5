"""Fast weights beside other units and beside centring: the chains' distribution and gradient."""

from __future__ import annotations

import pytest
import torch

from pyro_gen import nn
from pyro_gen.distributions import RBM, BernoulliUnits, GaussianUnits, PottsUnits, ReLUUnits, SpinUnits, Units
from pyro_gen.distributions.energy.fast_weights import FAST
from pyro_gen.infer import FastPersistentChains, contrastive_gradient


@pytest.mark.parametrize(
    ("visible", "hidden"),
    [
        (PottsUnits(3), BernoulliUnits()),
        (GaussianUnits(0.7), SpinUnits()),
        (BernoulliUnits(), SpinUnits()),
        (SpinUnits(), GaussianUnits(-0.5)),
        (BernoulliUnits(), ReLUUnits(0.3)),
    ],
    ids=str,
)
def test_chains_run_under_the_sum_of_both_weights_with_the_model_s_own_units(visible: Units, hidden: Units) -> None:
    phase = FastPersistentChains(num_chains=50, num_steps=3)
    rbm = nn.RBM(6, 4, phase, visible_units=visible, hidden_units=hidden).double()
    state = rbm.state()
    for name in FAST:
        state[name] = 0.3 * torch.randn_like(state[name])
    summed = [p.detach() + state[name] for p, name in zip((rbm.weight, rbm.vbias, rbm.hbias), FAST, strict=True)]
    chains = RBM(summed[0], summed[1], summed[2], **rbm.units).sweep(state["chains"], 3, 11, 4)
    with torch.no_grad():
        found = phase.advance(RBM(rbm.weight, rbm.vbias, rbm.hbias, **rbm.units), state, 11, 4)
    assert torch.equal(found["chains"], chains)
    assert not torch.equal(chains, state["chains"])


def test_fast_weights_learn_by_the_plain_gradient_where_the_optimiser_gets_the_centred_one() -> None:
    x = torch.randint(2, (12, 6)).double()
    rbm = nn.RBM.from_data(x, 4, negative_phase=FastPersistentChains(20, 2, fast_rate=0.2), centring=True)
    torch.nn.init.normal_(rbm.weight)
    contrastive_gradient(rbm, x)
    weight, vbias, hbias = (rbm.get_buffer(name) / -0.2 for name in FAST)
    mu, lamda = rbm.visible_offset, rbm.hidden_offset
    wanted = weight - torch.outer(vbias, lamda) - torch.outer(mu, hbias), vbias, hbias
    for p, gradient in zip((rbm.weight, rbm.vbias, rbm.hbias), wanted, strict=True):
        torch.testing.assert_close(p.grad, gradient)
