"""Approximate answers about Bayesian networks against exact ones, and what their diagnostics say."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pyro
import pytest
import torch
from pyro.infer import MCMC, SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, distributions
from pyro_gen.distributions import Likelihood
from pyro_gen.infer import (
    AmortisedPosterior,
    DiscreteGibbs,
    Gibbs,
    belief_propagation,
    gibbs_marginals,
    likelihood_weighting,
)
from pyro_gen.infer.bayesian_network import WeightedMarginals
from pyro_gen.infer.bayesian_network.problem import Problem
from pyro_gen.models import BayesianNetwork
from pyro_gen.testing.networks import random_network, random_tables

NETWORKS = ["asia", "cancer", "sachs"]


def load(name: str) -> BayesianNetwork:
    path: Path = datasets.data_folder() / "bif" / f"{name}.bif"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return BayesianNetwork.from_bif(path)


def some_evidence(network: BayesianNetwork, rows: int = 6, share: float = 0.4) -> Tensor:
    pyro.set_rng_seed(0)
    data = network.sample(rows)
    return data.masked_fill(torch.rand(data.shape) > share, -1)


def polytree(seed: int) -> distributions.BayesianNetwork:
    """A tree of nine nodes whose edges point either way, with up to three states and some zeros in the tables."""
    tree = nx.random_labeled_tree(9, seed=seed)
    flips = np.random.default_rng(seed).random(8) < 0.5
    edges = [(a, b) if flip else (b, a) for (a, b), flip in zip(tree.edges, flips, strict=True)]
    graph = nx.relabel_nodes(nx.DiGraph(edges), str)
    structure = distributions.NetworkStructure.from_graph(graph, {node: 2 + int(node) % 2 for node in graph})
    return distributions.BayesianNetwork(structure, random_tables(structure, zeros=0.2, seed=seed))


def check_weighted(result: WeightedMarginals, network: BayesianNetwork, evidence: Tensor) -> None:
    """Marginals within six standard errors of a frequency among as many draws as the weights are worth.

    Some 6 x 11 x 3 numbers: a false alarm below 1e-6.
    """
    exact, log_evidence = network.marginals(evidence), network.log_evidence(evidence).detach()
    size = result.effective_sample_size.unsqueeze(-1)
    for node, distribution in exact.items():
        error = (distribution * (1 - distribution) / size).clamp_min(0).sqrt() + 3 / size
        assert ((result.marginals[node] - distribution).abs() <= 6 * error).all(), node
    assert ((result.log_evidence - log_evidence).abs() <= 6 * result.standard_error + 1e-9).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_likelihood_weighting_agrees_with_exact_inference_within_its_errors(name: str) -> None:
    network = load(name)
    evidence = some_evidence(network)
    result = likelihood_weighting(network, evidence, num_samples=20_000)
    check_weighted(result, network, evidence)
    assert result.effective_sample_size.shape == result.pareto_k.shape == (6,)


@pytest.mark.parametrize("name", NETWORKS)
def test_gibbs_agrees_with_exact_inference_within_its_errors(name: str) -> None:
    """Six standard errors by the effective sample size; a zero ("either" in asia) does not keep chains apart."""
    network = load(name)
    evidence = some_evidence(network)
    result = gibbs_marginals(network, evidence, num_samples=600, num_chains=8, warmup_steps=100)
    for node, distribution in network.marginals(evidence).items():
        size = result.effective_sample_size[node].unsqueeze(-1)
        error = (distribution * (1 - distribution) / size).clamp_min(0).sqrt() + 3 / size
        assert ((result.marginals[node] - distribution).abs() <= 6 * error).all(), node
        assert (result.r_hat[node] < 1.1).all()


@pytest.mark.parametrize("seed", range(6))
def test_belief_propagation_is_exact_on_polytrees(seed: int) -> None:
    network = polytree(seed)
    evidence = network.sample(torch.Size((20,)))
    evidence = evidence.masked_fill(torch.rand(evidence.shape) < 0.6, -1)
    for damping in (0.0, 0.3):
        result = belief_propagation(network, evidence, damping=damping, tolerance=1e-13)
        assert result.converged.all()
        torch.testing.assert_close(result.log_evidence, network.log_evidence(evidence), rtol=0.0, atol=1e-10)
        for node, distribution in network.marginals(evidence).items():
            torch.testing.assert_close(result.marginals[node], distribution, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize(("name", "bound"), [("asia", 0.1), ("cancer", 1e-9), ("sachs", 0.15)])
def test_loopy_belief_propagation_is_close_where_the_graph_has_loops(name: str, bound: float) -> None:
    """Cancer is a polytree; asia has one loop, sachs several: no theorem bounds the error there, this is a record."""
    network = load(name)
    evidence = some_evidence(network)
    result = belief_propagation(network, evidence, damping=0.2, num_iterations=500)
    assert result.converged.all()
    exact = network.marginals(evidence)
    assert (
        max((result.marginals[node] - distribution).abs().max().item() for node, distribution in exact.items()) <= bound
    )


def test_messages_that_do_not_settle_are_reported() -> None:
    network = load("sachs")
    evidence = some_evidence(network)
    result = belief_propagation(network, evidence, num_iterations=1)
    assert result.num_iterations == 1
    assert torch.equal(result.converged, result.residual <= 1e-9)
    assert not result.converged.all()


@pytest.fixture(scope="module")
def learned() -> tuple[BayesianNetwork, AmortisedPosterior]:
    network = load("asia")
    pyro.set_rng_seed(1)
    posterior = AmortisedPosterior(network, (32,))
    losses = posterior.learn(400, 128, 1e-2)
    assert losses[-50:].mean() < losses[:10].mean()
    return network, posterior


def test_the_amortised_guide_looks_ahead_and_its_weights_make_it_right(
    learned: tuple[BayesianNetwork, AmortisedPosterior],
) -> None:
    """Evidence at the leaves, where likelihood weighting looks for causes in vain."""
    network, posterior = learned
    evidence = torch.full((1, 8), -1)
    for node, state in {"xray": "yes", "dysp": "yes", "smoke": "no"}.items():
        evidence[0, network.nodes.index(node)] = network.states[node].index(state)
    result = posterior.marginals(evidence, 4000)
    check_weighted(result, network, evidence)
    blind = likelihood_weighting(network, evidence, 4000)
    assert result.effective_sample_size > 3 * blind.effective_sample_size
    assert result.pareto_k < 0.7


@pytest.mark.parametrize("name", ["cancer", "sachs"])
def test_the_amortised_guide_agrees_with_exact_inference_even_untrained(name: str) -> None:
    network = load(name)
    evidence = some_evidence(network)
    posterior = AmortisedPosterior(network, (16,))
    torch.nn.init.normal_(posterior.made.output, std=0.3)  # type: ignore[arg-type]  # there is a hidden layer
    check_weighted(posterior.marginals(evidence, 10_000), network, evidence)


def test_no_weight_of_the_amortised_guide_is_more_than_five_times_that_of_likelihood_weighting() -> None:
    """Without evidence the latter are 1, so that by Hoeffding 10,000 have a mean 0.2 off with probability 3e-14."""
    network = random_network(5, 2, states=(2, 3), seed=3)
    posterior = AmortisedPosterior(network, (16,))
    pyro.set_rng_seed(7)
    torch.nn.init.normal_(posterior.made.output, std=3.0)  # type: ignore[arg-type]  # there is a hidden layer
    with torch.no_grad():
        _, log_weight = posterior._draws(Problem.of(network, None), 10_000)
    assert log_weight.exp().max() <= 5 + 1e-9
    assert log_weight.exp().max() > 4  # the network does overlook something
    assert log_weight.exp().mean().item() == pytest.approx(1.0, abs=0.2)


def test_log_q_is_the_density_of_the_draws() -> None:
    """Weights p / q have the evidence as mean only if q sums to one: here by enumeration."""
    network = random_network(4, 2, states=(2, 3), seed=3)
    posterior = AmortisedPosterior(network, (16,))
    torch.nn.init.normal_(posterior.made.output, std=1.0)  # type: ignore[arg-type]  # there is a hidden layer
    values = network.enumerate_support()
    evidence = torch.tensor([-1, 1, -1, 0]).expand_as(values)
    fits = ((evidence < 0) | (evidence == values)).all(-1)
    log_q = posterior.log_prob(values, evidence)
    assert log_q[fits].exp().sum().item() == pytest.approx(1.0)


def test_the_amortised_guide_is_a_guide_of_the_networks_program() -> None:
    """Its ELBO stands below the evidence and near it, 100 rows with missing cells; gradients reach it."""
    network = load("cancer")
    pyro.set_rng_seed(6)
    pyro.clear_param_store()
    posterior = AmortisedPosterior(network, (16,))
    posterior.learn(150, 128, 1e-2)
    data = network.sample(100)
    data = data.masked_fill(torch.rand(data.shape) < 0.4, -1)
    with torch.no_grad():
        elbos = [-Trace_ELBO().loss(network.model, posterior.guide, data) for _ in range(20)]
    exact = network.log_evidence(data).sum().item()
    mean, error = float(np.mean(elbos)), float(np.std(elbos)) / math.sqrt(20)
    assert mean < exact + 6 * error
    assert mean > exact - 0.2 * 100
    svi = SVI(network.model, posterior.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())
    assert math.isfinite(svi.step(data))


def test_single_cases_names_sets_and_soft_evidence_are_taken_as_by_exact_inference() -> None:
    network = load("asia")
    posterior = AmortisedPosterior(network, (8,))
    evidence = {"smoke": "yes", "dysp": Likelihood([0.8, 0.1]), "either": {"yes", "no"}}
    exact = network.marginals(evidence)
    pyro.set_rng_seed(2)
    for result in (
        likelihood_weighting(network, evidence, 20_000),
        gibbs_marginals(network, evidence, 2000, 10),
        belief_propagation(network, evidence),
        posterior.marginals(evidence, 20_000),
    ):
        assert {node: distribution.shape for node, distribution in result.marginals.items()} == dict.fromkeys(
            network.nodes, (2,)
        )
        assert (result.marginals["bronc"] - exact["bronc"]).abs().max() < 0.05
    assert likelihood_weighting(network, evidence).log_evidence.shape == ()
    expected = network.log_evidence(evidence).item()
    assert likelihood_weighting(network, evidence, 20_000).log_evidence.item() == pytest.approx(expected, abs=0.05)
    assert list(belief_propagation(network(), {"smoke": 0}, nodes=["lung"]).marginals) == ["lung"]


def test_the_projects_gibbs_kernel_runs_on_the_networks_program() -> None:
    """Cancer has no zeros, so single sites do; 2000 rows are 2000 chains: six standard errors of a frequency."""
    network = load("cancer")
    pyro.set_rng_seed(3)
    pyro.clear_param_store()
    latent = [node for node in network.nodes if node not in ("Xray", "Dyspnoea")]
    data = {"Xray": torch.zeros(2000).long(), "Dyspnoea": torch.zeros(2000).long()}
    mcmc = MCMC(Gibbs([(DiscreteGibbs(), latent)], network.model), 1, warmup_steps=20, disable_progbar=True)
    mcmc.run(data)
    exact = network.marginals(data)
    for node in latent:
        distribution = exact[node][0, 0].item()
        share = (mcmc.get_samples()[node] == 0).double().mean().item()
        assert abs(share - distribution) < 6 * math.sqrt(distribution * (1 - distribution) / 2000), node


def test_chains_that_cannot_meet_are_reported() -> None:
    """Three copies of a coin, all in tables of zeros and ones, and so large a family that no block holds it."""
    graph = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "d")])
    copy = torch.eye(2).double()
    network = BayesianNetwork(graph, {"b": copy, "c": copy, "d": copy})
    pyro.set_rng_seed(4)
    result = gibbs_marginals(network, num_samples=50, num_chains=6)
    assert result.r_hat["a"] == torch.inf
    assert result.effective_sample_size["a"] == 6


def test_impossible_evidence_is_refused_with_its_rows() -> None:
    network = load("asia")
    posterior = AmortisedPosterior(network, (8,))
    evidence = {"lung": torch.tensor([0, 1, 0]), "either": torch.tensor([0, -1, 1])}
    for method in (likelihood_weighting, gibbs_marginals, belief_propagation):
        with pytest.raises(ValueError, match=r"impossible.*rows 2"):
            method(network, evidence)
    with pytest.raises(ValueError, match="rows 2"):
        posterior.marginals(evidence)
    with pytest.raises(ValueError, match="no node"):
        likelihood_weighting(network, {"nobody": 1})
    with pytest.raises(ValueError, match="`network` must be"):
        belief_propagation(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="damping"):
        belief_propagation(network, damping=1.0)
    with pytest.raises(ValueError, match="num_samples"):
        likelihood_weighting(network, num_samples=0)


def test_no_rows_and_one_row_are_answered_as_many_are() -> None:
    network = load("asia")
    guide = AmortisedPosterior(network, (4,))
    methods: list[Callable[[Tensor], Any]] = [
        lambda rows: likelihood_weighting(network, rows, 20),
        lambda rows: guide.marginals(rows, 20),
        lambda rows: gibbs_marginals(network, rows, 20, 2, 2),
        lambda rows: belief_propagation(network, rows, 2),
    ]
    for method in methods:
        for count in (0, 1):
            found = method(network.sample(1)[:count])
            assert [x.shape for x in found.marginals.values()] == [(count, 2)] * 8


def test_rows_are_worked_on_in_blocks_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyro_gen.infer.bayesian_network import weighting

    network = load("asia")
    evidence = some_evidence(network)
    monkeypatch.setattr(weighting, "CELLS", 2 * 8 * 500)
    counts, plain = list[int](), weighting.weigh

    def weigh(own: Problem, *rest: Any) -> weighting.Weighed:
        counts.append(own.count)
        return plain(own, *rest)

    monkeypatch.setattr(weighting, "weigh", weigh)
    result = likelihood_weighting(network, evidence, 500)
    assert result.marginals["lung"].shape == (6, 2)
    assert counts == [2, 2, 2]
    bad = {"lung": torch.tensor([1, 1, 1, 0]), "either": torch.tensor([-1, -1, -1, 1])}
    with pytest.raises(ValueError, match="rows 3"):
        likelihood_weighting(network, bad, 500)
