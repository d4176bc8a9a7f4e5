"""Gradients of wake-sleep against enumeration, against Pyro's own, and under persistent chains."""

from __future__ import annotations

import copy

import pyro
import pytest
import torch
from pyro.infer import SVI, ReweightedWakeSleep
from torch import Tensor

from pyro_gen.infer import Exact, PersistentChains, WakeSleep
from pyro_gen.models import DeepBeliefNetwork
from tests.models.oracle import belief_network, states

V = states(4).double()[[1, 6, 11]]


def network(phase: Exact | PersistentChains | None = None, size: int = 3) -> DeepBeliefNetwork:
    net = DeepBeliefNetwork(4, [3, 2], size=size, negative_phase=phase or Exact(), centring=False).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return net


def gradients(net: DeepBeliefNetwork) -> dict[str, Tensor]:
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def posterior(net: DeepBeliefNetwork, v: Tensor) -> Tensor:
    """p(h | v) of all states, (states, rows)."""
    h = states(3).double()
    return (net.prior().log_prob(h).unsqueeze(1) + net.decode(h.unsqueeze(1)).log_prob(v)).softmax(0).detach()


def test_many_particles_give_the_gradient_of_the_log_likelihood_and_of_the_inclusive_divergence() -> None:
    # 20,000 particles: errors near 0.01 against entries near 1; the bound of 0.06 is more than 5 of them.
    net = network()
    exact = copy.deepcopy(net)
    loss = WakeSleep(20_000).loss_and_grads(net.model, net.guide, V)
    h = states(3).double()
    log_q = exact.layer(exact.up[0], V).log_prob(h.unsqueeze(1))
    log_p = belief_network(exact, V).sum()
    (-log_p - (posterior(exact, V) * log_q).sum()).backward()
    assert loss == pytest.approx(-log_p.item(), abs=0.06)
    for name, gradient in gradients(exact).items():
        torch.testing.assert_close(gradients(net)[name], gradient, atol=0.06, rtol=0)


@pytest.mark.parametrize("given", [True, False], ids=["given", "by default"])
def test_dreams_give_the_gradient_of_the_guide_under_the_model(given: bool) -> None:
    # 60,000 dreams, by default as many as rows: errors below 0.005 an entry, the bound is more than 5 of them.
    net = network(size=60_000)
    exact = copy.deepcopy(net)
    dream = (lambda: net.dream(60_000)) if given else None
    rows = V if given else V.repeat(20_000, 1)
    WakeSleep(1, insomnia=0.0, dream=dream).loss_and_grads(net.model, net.guide, rows)
    v, h = states(4).double(), states(3).double()
    log_q = exact.layer(exact.up[0], v).log_prob(h.unsqueeze(1))
    distribution = posterior(exact, v) * belief_network(exact, v).exp().detach()
    (-(distribution * log_q).sum()).backward()
    for name in ("up.0.weight", "up.0.bias"):
        torch.testing.assert_close(gradients(net)[name] / 60_000, gradients(exact)[name], atol=0.03, rtol=0)


def test_one_row_is_pyro_s_reweighted_wake_sleep() -> None:
    net = network(size=1)
    twin = copy.deepcopy(net)
    pyro.set_rng_seed(5)
    ours = WakeSleep(50).loss_and_grads(net.model, net.guide, V[:1])
    pyro.set_rng_seed(5)
    theirs = ReweightedWakeSleep(num_particles=50, max_plate_nesting=1).loss_and_grads(
        twin.model, twin.guide, observations={"x": V[:1]}
    )
    assert ours == pytest.approx(theirs[0])
    for name, gradient in gradients(twin).items():
        torch.testing.assert_close(gradients(net)[name], gradient)


def test_chains_in_the_prior_change_only_its_negative_phase() -> None:
    net = network(PersistentChains(num_chains=30, num_steps=2))
    twin = copy.deepcopy(net)
    twin.prior.negative_phase = Exact()
    for each in (net, twin):
        pyro.set_rng_seed(5)
        WakeSleep(20).loss_and_grads(each.model, each.guide, V)
    ours, exact = gradients(net), gradients(twin)
    for name in exact:
        if not name.startswith("prior"):
            torch.testing.assert_close(ours[name], exact[name])
    particles = net.prior.chains  # as they were advanced once
    expected = copy.deepcopy(net.prior).eval()
    (expected().log_partition().value + expected().free_energy(particles).mean()).mul(-len(V)).backward()
    for name, parameter in expected.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(ours[f"prior.{name}"] - exact[f"prior.{name}"], parameter.grad)
    assert int(net.prior.step) == 2


def test_minibatches_are_scaled() -> None:
    small, large = network(size=3), network(size=30)
    large.load_state_dict(small.state_dict())
    for net in (small, large):
        pyro.set_rng_seed(5)
        WakeSleep(10).loss_and_grads(net.model, net.guide, V)
    for name, gradient in gradients(small).items():
        torch.testing.assert_close(10 * gradient, gradients(large)[name])


def test_it_is_a_loss_of_svi() -> None:
    net = network()
    svi = SVI(net.model, net.guide, pyro.optim.Adam({"lr": 0.01}), WakeSleep(5))
    assert svi.step(V) > 0
    assert svi.evaluate_loss(V) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_particles": 0}, "at least 1"),
        ({"insomnia": 1.5}, "between 0 and 1"),
        ({"num_particles": 1}, "`insomnia` must be 0"),
    ],
    ids=str,
)
def test_settings_are_checked(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WakeSleep(**settings)  # type: ignore[arg-type]


def test_insomnia_mixes_the_gradients_of_both_phases() -> None:
    """With the same draws: insomnia times the wake phase's gradient of the guide, the rest from given dreams."""
    start = network()
    dream = start.dream(50)
    found = {}
    for insomnia in (1.0, 0.0, 0.25):
        net = copy.deepcopy(start)
        pyro.set_rng_seed(5)
        WakeSleep(4, insomnia=insomnia, dream=lambda: dream).loss_and_grads(net.model, net.guide, V)
        found[insomnia] = gradients(net)
    for name, gradient in found[0.25].items():
        share = 0.25 if name.startswith("up") else 1.0
        torch.testing.assert_close(gradient, share * found[1.0][name] + (1 - share) * found[0.0][name])


def test_a_factor_outside_the_rows_counts_once_and_with_its_sign() -> None:
    net = network(size=30)

    def penalised(v: Tensor) -> None:
        pyro.factor("prior", torch.tensor(-2.5))
        net.model(v)

    losses = []
    for program in (net.model, penalised):
        pyro.set_rng_seed(5)
        losses.append(WakeSleep(7).loss(program, net.guide, V))
    assert losses[1] == pytest.approx(losses[0] + 2.5)
