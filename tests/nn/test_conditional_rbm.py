"""The conditional RBM: exact distributions row by row, contrasts with one particle a row, and what it refuses."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

from pyro_gen import distributions, nn
from pyro_gen.infer import ContrastiveDivergence, Exact, Partition, PersistentChains
from pyro_gen.testing import states
from tests.marks import slow


def data(rows: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """Contexts of one bit; v is two equal bits, on with probability 0.2 or 0.8, and a copy of the context."""
    context = (torch.rand(rows, 1) < 0.5).float()
    bit = (torch.rand(rows, 1) < 0.2 + 0.6 * context).float()
    return context, torch.cat((bit, bit, context), -1)


def test_each_row_is_the_rbm_of_its_own_biases() -> None:
    rbm = nn.ConditionalRBM(3, 2, 4, torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 5)))
    context = torch.randn(6, 4)
    joint = rbm.eval()(context)
    assert joint.batch_shape == (6,)
    every = states(3, torch.float32)
    for row in range(6):
        visible, hidden = rbm.network(context[row]).split((3, 2))
        alone = distributions.RBM(rbm.weight, rbm.vbias + visible, rbm.hbias + hidden)
        torch.testing.assert_close(joint.log_prob(every.unsqueeze(1))[:, row], alone.log_prob(every))
    assert (joint.log_prob(every.unsqueeze(1)).logsumexp(0).abs() < 1e-5).all()
    assert joint.sample((2,)).shape == (2, 6, 3)


def test_gradients_reach_the_network_through_both_biases() -> None:
    """Of the exact log probability in the network's weights, by central differences."""
    rbm = nn.ConditionalRBM(3, 2, 1).double().eval()
    torch.nn.init.normal_(rbm.weight)
    context, v = (x.double() for x in data(4))
    for parameter in rbm.network.parameters():
        (gradient,) = torch.autograd.grad(rbm(context).log_prob(v).sum(), parameter)
        for i in range(parameter.numel()):
            ends = []
            for shift in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter.view(-1)[i] += shift
                    ends.append(rbm(context).log_prob(v).sum())
                    parameter.view(-1)[i] -= shift
            torch.testing.assert_close(gradient.flatten()[i], (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("phase", [PersistentChains(200, 10), *slow(Exact(), ContrastiveDivergence(5))])
def test_training_reaches_the_conditional_distribution(phase: Partition) -> None:
    """The optimum is -0.50 nats; without couplings it is -1.0, without the context -1.39."""
    torch.manual_seed(1)
    context, v = data()
    rbm = nn.ConditionalRBM(3, 6, 1, negative_phase=phase)
    torch.nn.init.normal_(rbm.weight, std=0.3)
    index = torch.arange(len(v))

    def model() -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", len(v)):
            pyro.sample("v", rbm(context, index), obs=v)

    svi = SVI(model, lambda: None, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(150):
        svi.step()
    assert rbm.eval()(context).log_prob(v).mean() > -0.75


@pytest.mark.parametrize("phase", [ContrastiveDivergence(2), PersistentChains(5, 2)])
def test_the_contrast_has_the_gradient_of_its_particles(phase: Partition) -> None:
    rbm = nn.ConditionalRBM(3, 2, 4, negative_phase=phase).double()
    context, v = torch.randn(5, 4).double(), torch.ones(5, 3).double()
    joint = rbm(context, torch.arange(5))
    value = joint.log_prob(v)
    with torch.no_grad():
        particles = rbm.chains if len(rbm.chains) else joint.sweep(v, 2, int(rbm.seed), 0)
    parameters = [*rbm.parameters()]
    by_hand = joint.free_energy(particles) - joint.free_energy(v)
    torch.testing.assert_close(value, by_hand)
    pairs = (torch.autograd.grad(x.sum(), parameters, retain_graph=True) for x in (value, by_hand))
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other)
    assert rbm.step == 2
    with pytest.raises(ValueError, match="knows no log Z"):
        joint.log_partition()


def test_chains_of_other_rows_stay() -> None:
    rbm = nn.ConditionalRBM(30, 10, 2, negative_phase=PersistentChains(8, 3))
    before = rbm.chains.clone()
    rbm(torch.randn(3, 2), torch.tensor([1, 4, 6])).log_prob(torch.zeros(3, 30))
    changed = (rbm.chains != before).any(-1)
    assert changed.tolist() == [False, True, False, False, True, False, True, False]
    again = nn.ConditionalRBM(30, 10, 2, negative_phase=PersistentChains(8, 3))
    again.load_state_dict(rbm.state_dict())
    contexts = torch.randn(8, 2)
    for module in (rbm, again):
        module(contexts, torch.arange(8))
    assert torch.equal(rbm.chains, again.chains)


def test_what_does_not_serve_is_named() -> None:
    rbm = nn.ConditionalRBM(3, 2, 4)
    with pytest.raises(ValueError, match=r"`context` must have shape \(..., 4\), got \(5, 3\)"):
        rbm(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"`context` must have shape \(rows, 4\), one for each row"):
        rbm(torch.zeros(2, 5, 4))
    with pytest.raises(ValueError, match="`value` must have a row for each context"):
        rbm(torch.zeros(5, 4)).log_prob(torch.zeros(3))
    with pytest.raises(ValueError, match="`index` must number the rows"):
        nn.ConditionalRBM(3, 2, 4, negative_phase=PersistentChains(5))(torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"`network` must give shape \(..., 5\)"):
        nn.ConditionalRBM(3, 2, 4, torch.nn.Linear(4, 4))(torch.zeros(5, 4))
    with pytest.raises(ValueError, match="`context` must be at least 1, got 0"):
        nn.ConditionalRBM(3, 2, 0)
    with pytest.raises(ValueError, match="`evaluation` must know log Z"):
        nn.ConditionalRBM(3, 2, 4, evaluation=ContrastiveDivergence())
    assert rbm.eval()(torch.zeros(2, 5, 4)).batch_shape == (2, 5)
    assert "context=4" in repr(rbm)


@pytest.mark.parametrize("phase", [ContrastiveDivergence(2), PersistentChains(8, 2)])
def test_every_update_has_random_numbers_of_its_own(phase: Partition) -> None:
    """Without couplings the particles are the random numbers: 240 bits that agree by chance once in 2^240."""
    rbm = nn.ConditionalRBM(30, 10, 2, negative_phase=phase)
    torch.nn.init.zeros_(rbm.weight)
    torch.nn.init.normal_(rbm.vbias, std=1e-3)
    context, v, index = torch.zeros(8, 2), torch.ones(8, 30), torch.arange(8)
    assert not torch.equal(rbm(context, index).log_prob(v), rbm(context, index).log_prob(v))
