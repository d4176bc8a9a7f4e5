"""The Bayesian network as a Pyro program and as a module: what Pyro enumerates, exact inference gives too."""

from __future__ import annotations

import copy
from pathlib import Path

import networkx as nx
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceEnum_ELBO
from torch import Tensor

from pyro_gen import datasets, nn
from pyro_gen.distributions import NetworkStructure
from pyro_gen.models import BayesianNetwork
from pyro_gen.testing.networks import random_structure, random_tables


def bif(name: str) -> Path:
    path = datasets.data_folder() / "bif" / f"{name}.bif"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def asia_like(seed: int = 0) -> BayesianNetwork:
    structure = random_structure(8, 2, seed=seed)
    model = BayesianNetwork(structure)
    tables = random_tables(structure, seed=seed).split(structure.sizes)
    cpds = {node: x.view(structure.table_shape(node)) for node, x in zip(model.nodes, tables, strict=True)}
    return BayesianNetwork(structure, cpds)


def with_holes(model: BayesianNetwork, rows: int, share: float = 0.4) -> dict[str, Tensor]:
    data = model.sample(rows)
    data = data.masked_fill(torch.rand(data.shape) < share, -1)
    data[:, 2] = -1
    return dict(zip(model.nodes, data.unbind(1), strict=True))


@pytest.mark.parametrize("name", ["asia", "cancer", "sachs"])
@pytest.mark.smoke
def test_enumeration_by_pyro_agrees_with_exact_inference(name: str) -> None:
    """Values and gradients, with cells missing here and there and a node missing in all rows."""
    model = BayesianNetwork.from_bif(bif(name))
    data = with_holes(model, 40)
    results = []
    for loss in (
        lambda: TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model.model, model.guide, data),
        lambda: Trace_ELBO().differentiable_loss(model.evidence_model, model.guide, data),
        lambda: -model.log_evidence(data).sum(),
    ):
        value = loss()
        results.append((value.detach(), torch.autograd.grad(value, list(model.parameters()))))
    for value, slopes in results[:2]:
        torch.testing.assert_close(value, results[2][0], rtol=1e-10, atol=0.0)
        for slope, expected in zip(slopes, results[2][1], strict=True):
            torch.testing.assert_close(slope, expected, rtol=1e-8, atol=1e-10)


def test_minibatches_are_scaled_to_the_whole_data() -> None:
    model = asia_like()
    model.size = 100
    data = with_holes(model, 10)
    exact = -10 * model.log_evidence(data).sum().item()
    assert TraceEnum_ELBO(max_plate_nesting=1).loss(model.model, model.guide, data) == pytest.approx(exact)
    assert Trace_ELBO().loss(model.evidence_model, model.guide, data) == pytest.approx(exact)


def test_the_program_has_a_site_for_every_node_and_draws_from_the_joint() -> None:
    model = asia_like()
    model.size = 7
    trace = poutine.trace(model.model).get_trace()
    assert [name for name in trace.stochastic_nodes if name in model.nodes] == [
        model.nodes[i] for i in model.structure.order
    ]
    values = torch.stack([torch.as_tensor(trace.nodes[node]["value"]) for node in model.nodes], -1)
    trace.compute_log_prob()
    sites = sum(trace.nodes[node]["log_prob"] for node in model.nodes)
    torch.testing.assert_close(sites, model.log_prob(values))
    drawn = Predictive(model.model, num_samples=5)()
    assert drawn[model.nodes[0]].shape == (5, 7)


def test_more_sites_than_pyro_can_enumerate_run_forwards_and_learn_from_missing_cells() -> None:
    structure = random_structure(150, 2, window=4, states=(2, 3), seed=2)
    model = BayesianNetwork(structure)
    drawn = model.model()
    assert torch.stack([drawn[node] for node in model.nodes], -1).shape == (1, 150)
    rows = model.sample(20)
    columns = dict(zip(model.nodes, rows.unbind(1), strict=True))
    assert Trace_ELBO().loss(model.model, model.guide, columns) == pytest.approx(-model.log_prob(rows).sum().item())
    rows[torch.rand(rows.shape) < 0.5] = -1
    svi = SVI(model.evidence_model, model.guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step(rows) for _ in range(8)]
    assert losses[-1] < losses[0]


def test_learning_by_svi_from_complete_rows_reaches_the_closed_form() -> None:
    truth = asia_like(3)
    rows = truth.sample(400)
    model = BayesianNetwork(truth.structure)
    svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(200):
        svi.step(dict(zip(model.nodes, rows.unbind(1), strict=True)))
    counts = truth.expected_counts(rows)
    for node in model.nodes:
        shares = counts[node] / counts[node].sum(-1, keepdim=True)
        seen = counts[node].sum(-1) > 20
        torch.testing.assert_close(model().table(node)[seen], shares[seen], rtol=0.05, atol=0.02)


def test_queries_follow_the_parameters() -> None:
    model = asia_like()
    node = model.nodes[0]
    before = model.marginals()[node]
    assert not before.requires_grad
    with torch.no_grad():
        next(model.cpd(node).parameters()).add_(torch.arange(len(model.states[node])))
    after = model.marginals()[node]
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model().marginals()[node].detach())
    again = BayesianNetwork(model.structure)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.marginals()[node], after)
    torch.testing.assert_close(copy.deepcopy(model).marginals()[node], after)
    assert model.float().marginals()[node].dtype == torch.float32


def test_queries_follow_a_parameter_that_was_replaced_and_the_mode_of_a_network_with_dropout() -> None:
    model = BayesianNetwork(nx.DiGraph([("a", "b")]))
    for p in (0.1, 0.2, 0.3, 0.4):  # the one in between frees the place of the last one that was asked
        model.cpds[0] = nn.TabularCPD(torch.tensor([0.5, 0.5]).double())
        model.cpds[0] = nn.TabularCPD(torch.tensor([p, 1 - p]).double())
        assert model.marginals()["a"][0].item() == pytest.approx(p)
    network = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 2)).double()
    noisy = BayesianNetwork(nx.DiGraph([("a", "b")]), {"b": nn.NeuralCPD([2], 2, network)})
    noisy.marginals()
    distribution = noisy.eval().marginals()["b"]
    torch.testing.assert_close(distribution, noisy().marginals()["b"].detach())


def test_learning_steps_work_on_batches_in_which_nothing_was_observed() -> None:
    model = asia_like()
    log = model.log_evidence(torch.full((3, 8), -1))
    assert log.tolist() == [0, 0, 0]
    log.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
    assert model.log_evidence().requires_grad
    with torch.no_grad():
        assert not model.log_evidence().requires_grad


def test_evidence_has_gradients_in_every_kind_of_cpd() -> None:
    graph = nx.DiGraph([("a", "c"), ("b", "c"), ("a", "d"), ("c", "d"), ("c", "e"), ("b", "e")])
    cpds: dict[str, nn.DiscreteCPD | Tensor] = {
        "a": torch.tensor([0.3, 0.7]).double(),
        "b": torch.tensor([0.2, 0.5, 0.3]).double(),
        "c": nn.NoisyOrCPD([0.8, torch.tensor([0.3, 0.6])], leak=0.1),
        "d": nn.NeuralCPD([2, 2], 3),
        "e": nn.LogisticCPD([2, 3], 2),
    }
    model = BayesianNetwork(graph, cpds)
    data = with_holes(model, 30)
    value = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model.model, model.guide, data)
    expected = torch.autograd.grad(-model.log_evidence(data).sum(), list(model.parameters()))
    for slope, own in zip(torch.autograd.grad(value, list(model.parameters())), expected, strict=True):
        torch.testing.assert_close(slope, own, rtol=1e-8, atol=1e-10)
    assert model.num_parameters == 1 + 2 + 4 + sum(x.numel() for x in model.cpd("d").parameters()) + 4


def test_parameter_counts_of_the_textbook_models() -> None:
    for n in (1, 2, 5):
        assert BayesianNetwork.fully_factorised(n).num_parameters == n
        assert BayesianNetwork.markov_chain(n).num_parameters == 2 * n - 1
        assert BayesianNetwork.chain_rule(n).num_parameters == 2**n - 1
    chain = BayesianNetwork.markov_chain(["mon", "tue", "wed"], states=("dry", "wet"))
    assert chain.states["tue"] == ("dry", "wet")
    assert chain.structure.edges == (("mon", "tue"), ("tue", "wed"))
    assert BayesianNetwork.markov_chain(5, states=3, order=2).num_parameters == 2 + 6 + 3 * 18
    with pytest.raises(ValueError, match="too many"):
        BayesianNetwork.chain_rule(40)
    with pytest.raises(ValueError, match="`nodes` must be at least 1, got 0"):
        BayesianNetwork.markov_chain(0)


def test_an_intervention_shares_the_other_cpds() -> None:
    model = asia_like()
    node = next(node for node in model.nodes if model.structure.parents[node])
    cut = model.do({node: "1"})
    assert cut.structure.parents[node] == ()
    assert cut.marginals()[node][1] == 1
    other = next(name for name in model.nodes if name != node)
    assert cut.cpd(other) is model.cpd(other)
    with pytest.raises(ValueError, match="no state"):
        model.do({node: "nothing"})


def test_alarm_answers_by_names() -> None:
    model = BayesianNetwork.from_bif(bif("alarm"))
    distribution = model.marginals({"HR": "HIGH"})
    assert distribution["HR"].tolist() == [0, 0, 1]
    assert distribution["CVP"].shape == (3,)
    assert all(state in model.states[node] for node, state in model.most_probable({"HR": "HIGH"}).items())
    rows = model.marginals({"HR": torch.tensor([2, -1, 0])}, nodes=["CVP", "HR"])
    assert rows["CVP"].shape == (3, 3)
    torch.testing.assert_close(rows["CVP"][0], distribution["CVP"])
    assert model.num_parameters == 509


def test_alarm_rows_with_half_of_the_cells_missing_equal_row_by_row_elimination() -> None:
    model = BayesianNetwork.from_bif(bif("alarm"))
    data = model.sample(300).masked_fill(torch.rand(300, 37) < 0.5, -1)
    with torch.no_grad():
        together = model.log_evidence(data)
        for row in range(0, 300, 12):
            seen = {
                node: model.states[node][k] for node, k in zip(model.nodes, data[row].tolist(), strict=True) if k >= 0
            }
            torch.testing.assert_close(together[row], model.log_evidence(seen), rtol=0.0, atol=1e-9)


def test_cpds_that_do_not_fit_are_refused() -> None:
    graph, half = nx.DiGraph([("a", "b")]), torch.tensor([0.5, 0.5])
    for cpds, message in (
        ({"c": half}, "no node"),
        ({"b": half}, "node 'b' must have shape"),
        ({"b": nn.LogisticCPD([2, 2], 2)}, "states of its parents|must have states"),
        ({"a": torch.tensor([0.5, 0.6])}, "node 'a' does not fit.*sum to 1"),
        ({"a": "half"}, "a CPD or a table"),
    ):
        with pytest.raises(ValueError, match=message):
            BayesianNetwork(graph, cpds, states=2)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="size"):
        BayesianNetwork(graph, size=0)
    with pytest.raises(ValueError, match=r"networkx\.DiGraph"):
        BayesianNetwork(nx.path_graph(3))


def test_data_that_does_not_fit_is_refused() -> None:
    model = BayesianNetwork(NetworkStructure({"a": ("x", "y"), "b": ("x", "y")}, {"b": ["a"]}))
    for data, message in (
        ({"a": torch.tensor([0, 2])}, "from 0 to 1"),
        ({"a": torch.tensor([0.0])}, "integer"),
        ({"a": torch.tensor([0]), "b": torch.tensor([0, 1])}, "same number of rows"),
        (torch.zeros(3, 3).long(), r"shape \(rows, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.model(data)


def test_noisy_or_is_its_formula() -> None:
    cpd = nn.NoisyOrCPD([0.8, 0.5], leak=0.1, present=0, parents_absent=[1, 0])
    table = cpd.table()
    assert table[1, 0].tolist() == pytest.approx([0.1, 0.9])
    assert table[0, 1].tolist() == pytest.approx([1 - 0.9 * 0.2 * 0.5, 0.9 * 0.2 * 0.5])
    sure = nn.NoisyOrCPD([1.0, 0.0], leak=0.0)
    assert sure.table()[1, 0].tolist() == [0, 1]
    assert sure.table()[0, 1].tolist() == [1, 0]
    sure.table().sum().backward()
    assert all(not x.grad.isnan().any() for x in sure.parameters() if x.grad is not None)
    for bad in (
        {"link_probs": [1.5]},
        {"link_probs": [0.5], "present": 2},
        {"link_probs": [0.5], "parents_absent": [2]},
    ):
        with pytest.raises(ValueError, match="must be"):
            nn.NoisyOrCPD(**bad)


def test_a_logistic_cpd_adds_its_parents_up() -> None:
    cpd = nn.LogisticCPD([2, 3], 2)
    torch.nn.init.normal_(cpd.bias)
    for weight in cpd.weights:
        torch.nn.init.normal_(weight)
    logits = cpd.table().log()
    logit = (logits[..., 1] - logits[..., 0]).detach()
    torch.testing.assert_close(logit[1, 2] - logit[0, 2], logit[1, 0] - logit[0, 0])
    torch.testing.assert_close(logit[0, 0], cpd.bias.detach()[0])
    torch.testing.assert_close(logit[1, 0] - logit[0, 0], cpd.weights[0].detach()[0, 0])
