"""Posteriors of an RBM's weights against quadrature, and the guides that cannot work."""

from __future__ import annotations

import itertools
from typing import cast

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from torch import Tensor

from pyro_gen.arviz import from_chains
from pyro_gen.distributions import RBM
from pyro_gen.infer import Exact, PersistentChains
from pyro_gen.models import BayesianRBM

DATA = torch.tensor([[1.0, 1.0]] * 6 + [[0.0, 0.0]] * 3 + [[1.0, 0.0]] * 2 + [[0.0, 1.0]]).double()


def quadrature(points: int = 15) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior of a 2 x 1 RBM under standard normal priors by Gauss-Hermite: nodes (n, 5), weights (n,), log p(v)."""
    import numpy as np

    x, w = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(points))
    grid = torch.tensor(list(itertools.product(range(points), repeat=5)))
    nodes, log_prior = x[grid], w.log()[grid].sum(-1)
    rbm = RBM(nodes[:, :2].unsqueeze(-1), nodes[:, 2:4], nodes[:, 4:])
    patterns = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).double()
    log_p = rbm.log_prob(patterns.unsqueeze(1))
    counts = (DATA.unsqueeze(1) == patterns).all(-1).double().sum(0)
    return nodes, (log_prior + counts @ log_p).softmax(0), log_p


def flat(draws: dict[str, Tensor]) -> Tensor:
    return torch.cat([draws["weight"].flatten(1), draws["vbias"], draws["hbias"]], -1)


@pytest.mark.slow
def test_nuts_agrees_with_quadrature_on_a_2x1_rbm() -> None:
    # Means and second moments of five parameters, within 5 Monte Carlo errors at a quarter of the draws as effective
    # ones (NUTS gives more here): a false alarm below 1e-5.
    nodes, p, _ = quadrature()
    rbm = BayesianRBM(2, 1, size=len(DATA))
    torch.set_default_dtype(torch.float64)
    try:
        mcmc = MCMC(NUTS(rbm.model), num_samples=600, warmup_steps=200, disable_progbar=True)
        rbm.rbm.double()
        mcmc.run(DATA)
    finally:
        torch.set_default_dtype(torch.float32)
    x = flat(mcmc.get_samples())
    for ours, theirs in ((x, nodes), (x.square(), nodes.square())):
        mean = p @ theirs
        error = ((p @ theirs.square() - mean**2) / (600 / 4)).sqrt()
        assert ((ours.mean(0) - mean).abs() < 5 * error).all()


def test_the_predictive_distribution_is_that_of_quadrature() -> None:
    _, p, log_p = quadrature(11)
    nodes, share, _ = quadrature(11)
    exact = (share.log().unsqueeze(0) + log_p).logsumexp(1)
    index = torch.multinomial(p, 4000, replacement=True)
    draws = {"weight": nodes[index, :2].unsqueeze(-1), "vbias": nodes[index, 2:4], "hbias": nodes[index, 4:]}
    patterns = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).double()
    predicted = BayesianRBM(2, 1, size=12).log_predictive(patterns, draws)
    assert predicted.exp().sum().item() == pytest.approx(1)
    torch.testing.assert_close(predicted, exact, atol=0.05, rtol=0)  # 4000 draws: errors near 0.01


def learn(rbm: BayesianRBM, x: Tensor, steps: int, rate: float = 0.02) -> BayesianRBM:
    svi = SVI(rbm.model, rbm.guide, pyro.optim.ClippedAdam({"lr": rate, "lrd": 0.05 ** (1 / steps)}), Trace_ELBO())
    for _ in range(steps):
        svi.step(x)
    return rbm


def test_auto_normal_is_near_quadrature() -> None:
    # The factorised guide misses correlations, so its widths are narrower: bounds of its own kind, not of Monte Carlo.
    nodes, p, _ = quadrature(11)
    rbm = learn(BayesianRBM(2, 1, size=len(DATA)), DATA.float(), 400, 0.04)
    x = flat(rbm.draws(2000, DATA.float())).double()
    mean, width = p @ nodes, (p @ nodes.square() - (p @ nodes).square()).sqrt()
    assert ((x.mean(0) - mean).abs() < 0.6 * width).all()
    assert (x.std(0) < 1.15 * width).all()
    assert (x.std(0) > 0.5 * width).all()


@pytest.mark.slow
def test_map_under_chains_is_map_under_the_exact_log_z() -> None:
    x = DATA.float()
    exact = learn(BayesianRBM(2, 1, size=12, guide="map"), x, 600).draws(1, x)
    phase = PersistentChains(num_chains=2000, num_steps=5)
    chains = learn(BayesianRBM(2, 1, size=12, negative_phase=phase, guide="map"), x, 600).draws(1, x)
    patterns = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    model = BayesianRBM(2, 1, size=12)
    torch.testing.assert_close(
        model.log_predictive(patterns, chains), model.log_predictive(patterns, exact), atol=0.05, rtol=0
    )


def test_guides_with_a_width_are_refused_under_chains() -> None:
    x = DATA.float()
    with pytest.raises(ValueError, match="chains of its own"):
        BayesianRBM(2, 1, size=12, negative_phase=PersistentChains())
    rbm = BayesianRBM(2, 1, size=12, negative_phase=PersistentChains(), guide="map")
    for make in (AutoNormal, AutoMultivariateNormal):
        pyro.clear_param_store()
        svi = SVI(rbm.model, make(rbm.model), pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        with pytest.raises(ValueError, match="chains of its own"):
            svi.step(x)
    pyro.clear_param_store()
    SVI(rbm.model, AutoDelta(rbm.model), pyro.optim.Adam({"lr": 0.01}), Trace_ELBO()).step(x)


def test_nuts_is_refused_under_chains() -> None:
    rbm = BayesianRBM(2, 1, size=12, negative_phase=PersistentChains(), guide="map")
    with pytest.raises(ValueError, match="needs log probabilities"):
        MCMC(NUTS(rbm.model), 2, disable_progbar=True).run(DATA.float())


def test_draws_of_nuts_go_to_arviz() -> None:
    rbm = BayesianRBM(2, 1, size=12)
    mcmc = MCMC(NUTS(rbm.model), num_samples=5, warmup_steps=5, disable_progbar=True)
    mcmc.run(DATA.float())
    data = from_chains(mcmc.get_samples(group_by_chain=True), dims={"weight": ["pixel", "unit"]})
    assert dict(data["posterior"]["weight"].sizes) == {"chain": 1, "draw": 5, "pixel": 2, "unit": 1}


def test_a_minibatch_counts_for_the_whole_data_set_and_priors_count_once() -> None:
    rbm = BayesianRBM(2, 1, size=120, weight_scale=2.0)
    trace = pyro.poutine.trace(rbm.model).get_trace(DATA.float())
    assert trace.nodes["v"]["scale"] == 10
    assert trace.nodes["weight"]["scale"] == 1
    base = cast(dist.Independent, trace.nodes["weight"]["fn"]).base_dist
    assert isinstance(base, dist.Normal)
    assert (base.scale == 2).all()


@pytest.mark.parametrize(
    "settings", [{"weight_scale": 0.0}, {"bias_scale": -1.0}, {"size": 0}, {"guide": "laplace"}], ids=str
)
def test_bad_settings_are_named(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        BayesianRBM(2, 1, **{"size": 3, **settings})  # type: ignore[arg-type]


def test_exact_is_a_partition_of_a_module_too() -> None:
    assert BayesianRBM(3, 2, size=4, negative_phase=Exact(10)).at(
        {"weight": torch.zeros(7, 3, 2), "vbias": torch.zeros(7, 3), "hbias": torch.zeros(7, 2)}
    ).batch_shape == (7,)
