"""Sigmoid and deep belief networks against sums over all hidden states."""

from __future__ import annotations

from typing import cast

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive
from torch import Tensor

from pyro_gen import nn
from pyro_gen.datasets import bars_and_stripes
from pyro_gen.infer import AIS, ContrastiveDivergence, Exact, PersistentChains, WakeSleep
from pyro_gen.models import DeepBeliefNetwork, SigmoidBeliefNetwork
from tests.models.oracle import belief_network, states

Network = SigmoidBeliefNetwork


def wild(network: Network) -> Network:
    """Weights far from zero, in float64; a broad guide, whose importance weights have a small variance."""
    for name, parameter in network.double().named_parameters():
        torch.nn.init.normal_(parameter, std=0.3 if name.startswith("up") else 1.0)
    return network.eval()


def networks() -> list[Network]:
    return [
        wild(SigmoidBeliefNetwork(4, [3], size=16)),
        wild(SigmoidBeliefNetwork(4, [3, 2], size=16)),
        wild(DeepBeliefNetwork(4, [3, 2], size=16, negative_phase=Exact())),
        wild(DeepBeliefNetwork(4, [3, 2, 2], size=16, negative_phase=Exact())),
    ]


def test_the_oracle_sums_to_one() -> None:
    for network in networks():
        assert belief_network(network, states(4).double()).exp().sum().item() == pytest.approx(1)


def test_both_bounds_lie_below_the_exact_log_likelihood_and_close_with_particles() -> None:
    # Means over 16 rows: the two sides are at most 5 standard errors apart in the wrong direction, 3e-7 each.
    v = states(4).double()
    for network in networks():
        exact = belief_network(network, v).mean().item()
        bound = network.lower_bound(v, num_particles=2000)
        assert bound.value < exact + 5 * bound.sampling_error
        assert bound.tighter_value < exact + 0.02
        assert bound.tighter_value == pytest.approx(exact, abs=0.1)


def test_samples_follow_the_model() -> None:
    # Frequencies of 16 states in 40,000 draws, each within 5 standard errors: a false alarm of 1e-5.
    for network in networks():
        drawn = network.sample(40_000) @ (2 ** torch.arange(4)).double()
        frequency = torch.bincount(drawn.long(), minlength=16) / 40_000
        p = belief_network(network, states(4).double()).exp()
        assert ((frequency - p).abs() < 5 * (p * (1 - p) / 40_000).sqrt() + 1e-9).all()


def test_predictive_and_the_programs_agree_on_sites() -> None:
    for network in networks():
        v = states(4).double()
        model = poutine.trace(network.model).get_trace(v)
        guide = poutine.trace(network.guide).get_trace(v)
        latent = {name for name in model.stochastic_nodes if name != "rows"}
        assert latent == {name for name in guide.stochastic_nodes if name != "rows"}
        assert model.nodes["x"]["is_observed"]
        assert Predictive(network.model, num_samples=3)()["x"].shape[-2:] == (16, 4)


def test_a_minibatch_counts_for_the_whole_data_set() -> None:
    v = states(4).double()
    for network in networks():
        pyro.clear_param_store()
        trace = poutine.trace(network.model).get_trace(v[:4])
        assert trace.nodes["x"]["scale"] == 4


def test_a_mirrored_stack_is_the_first_rbm_with_its_exact_posterior() -> None:
    v = states(5).double()
    rbm = nn.RBM(5, 3, negative_phase=Exact()).double().eval()
    torch.nn.init.normal_(rbm.weight)
    torch.nn.init.normal_(rbm.vbias)
    torch.nn.init.normal_(rbm.hbias)
    above = DeepBeliefNetwork.mirrored(rbm, 7, v, noise=0.0, negative_phase=Exact())
    network = DeepBeliefNetwork.from_rbms([rbm, above], len(v)).eval()
    bound = network.lower_bound(v, num_particles=1)  # one draw is enough where the guide is exact
    torch.testing.assert_close(bound.rows, rbm().log_prob(v).detach())
    torch.testing.assert_close(belief_network(network, v), rbm().log_prob(v))


def test_the_copies_of_a_stack_are_its_own_and_the_prior_is_shared() -> None:
    rbms = [nn.RBM(5, 4), nn.RBM(4, 3), nn.RBM(3, 6)]
    network = DeepBeliefNetwork.from_rbms(rbms, 10)
    assert network.prior is rbms[2]
    assert [tuple(cast(Tensor, layer.weight).shape) for layer in network.down] == [(5, 4), (4, 3)]
    with torch.no_grad():
        rbms[0].weight.zero_()
    assert cast(Tensor, network.down[0].weight).abs().sum() > 0


def test_ais_serves_as_the_prior_s_log_z() -> None:
    # AIS of 500 chains and 500 temperatures has a standard error near 0.01 here; 0.1 is far beyond 5 of them.
    v = states(4).double()
    network = wild(DeepBeliefNetwork(4, [3, 2], size=16, evaluation=AIS(500, 500)))
    exact = belief_network(network, v).mean()
    bound = network.lower_bound(v, num_particles=2000)
    assert bound.partition is not None
    assert bound.partition.method == "AIS"
    assert 0 < bound.partition_error < 0.05
    assert bound.tighter_value == pytest.approx(exact.item(), abs=0.1)
    assert bound.against(bound.partition.value + 1).value == pytest.approx(bound.value - 1)


def fitted(network: Network, loss: WakeSleep) -> float:
    """Exact mean log likelihood of bars and stripes after 600 steps of SVI on 30 rows; the best possible is -1.792."""
    patterns = bars_and_stripes(2, 2)
    optimizer = pyro.optim.ClippedAdam({"lr": 0.1, "lrd": 0.05 ** (1 / 600), "betas": (0.9, 0.99)})
    svi = SVI(network.model, network.guide, optimizer, loss)
    for _ in range(600):
        svi.step(patterns.repeat(5, 1))
    with torch.no_grad():
        return belief_network(network.eval(), patterns).mean().item()


def test_reweighted_wake_sleep_comes_near_maximum_likelihood() -> None:
    network = DeepBeliefNetwork(4, [4, 4], size=30, negative_phase=Exact())
    assert fitted(network, WakeSleep(10)) > -1.792 - 0.06


@pytest.mark.slow
def test_persistent_chains_serve_the_prior_under_wake_sleep() -> None:
    """The median of three runs, as one of 12 measured ended in a local optimum (-2.05): false alarm 2 %."""
    reached = []
    for _ in range(3):
        pyro.clear_param_store()  # names are those of the run before
        network = DeepBeliefNetwork(4, [4, 4], size=30, negative_phase=PersistentChains(num_chains=100, num_steps=5))
        before = int(network.prior.step)
        reached.append(fitted(network, WakeSleep(10)))
        assert int(network.prior.step) == before + 5 * 600
    assert sorted(reached)[1] > -1.792 - 0.12


@pytest.mark.slow
def test_plain_wake_sleep_learns_but_stays_behind() -> None:
    # From -2.84; its guide learns from the model's own dreams, which are noise at first.
    network = DeepBeliefNetwork(4, [4, 4], size=30, negative_phase=Exact())
    assert fitted(network, WakeSleep(1, insomnia=0.0, dream=lambda: network.dream(60))) > -2.6


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ([], "`hidden` must be at least one"),
        ([3, 0], "`hidden` must be at least 1"),
        ([2.5], "`hidden` must be a whole"),
    ],
)
def test_bad_layers_are_named(hidden: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SigmoidBeliefNetwork(4, hidden, size=3)


def test_a_deep_belief_network_needs_two_layers_and_no_cd() -> None:
    with pytest.raises(ValueError, match="at least two layers"):
        DeepBeliefNetwork(4, [3], size=3)
    with pytest.raises(ValueError, match="ContrastiveDivergence"):
        DeepBeliefNetwork(4, [3, 2], size=3, negative_phase=ContrastiveDivergence())
    with pytest.raises(ValueError, match="fit onto each other"):
        DeepBeliefNetwork.from_rbms([nn.RBM(4, 3), nn.RBM(4, 3)], 3)
    with pytest.raises(ValueError, match="at least the 4"):
        DeepBeliefNetwork.mirrored(nn.RBM(4, 3), 3, torch.ones(2, 4))


def test_rows_outside_the_support_are_named() -> None:
    network = networks()[0]
    with pytest.raises(ValueError, match="4 columns"):
        network.lower_bound(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="NaN"):
        network.lower_bound(torch.full((2, 4), torch.nan))
    with pytest.raises(ValueError, match="must be given to the guide"):
        network.guide()


def test_a_prior_without_log_z_is_no_number() -> None:
    network = DeepBeliefNetwork(30, [25, 25], size=3)
    with pytest.raises(ValueError, match="log Z is not known"):
        network.lower_bound(torch.zeros(2, 30))


def test_draws_of_the_prior_are_swept_on_from_its_chains() -> None:
    """Without couplings one sweep makes 900 fair coins of chains that are all on: 6 standard deviations are 0.1."""
    network = DeepBeliefNetwork(4, [3, 2], size=3, negative_phase=PersistentChains(7), evaluation=AIS(10, 5)).eval()
    network.prior.chains.fill_(1)
    torch.nn.init.zeros_(network.prior.weight)
    assert (network.sample_prior(300, num_steps=0) == 1).all()
    assert network.sample_prior(300, num_steps=1).mean() == pytest.approx(0.5, abs=0.1)


def test_weights_travel_as_a_state_dict() -> None:
    network = DeepBeliefNetwork(4, [3, 2], size=3, negative_phase=PersistentChains(7))
    twin = DeepBeliefNetwork(4, [3, 2], size=3, negative_phase=PersistentChains(7))
    twin.load_state_dict(network.state_dict())
    pyro.set_rng_seed(1)
    bound = network.eval().lower_bound(states(4))
    pyro.set_rng_seed(1)
    torch.testing.assert_close(twin.eval().lower_bound(states(4)).rows, bound.rows)
