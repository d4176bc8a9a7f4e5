"""Tables of Bayesian networks learned from counts: closed forms, EM against its definition, and posterior draws."""

from __future__ import annotations

import math
from pathlib import Path

import arviz as az
import networkx as nx
import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen.arviz import from_cpds
from pyro_gen.models import BayesianNetwork
from pyro_gen.nn import DiscreteCPD, LinearGaussianCPD, NeuralCPD, NoisyOrCPD
from pyro_gen.testing.networks import random_structure, random_tables

YES = 0


def asia() -> BayesianNetwork:
    """The chest clinic of Lauritzen and Spiegelhalter (1988)."""
    edges = "asia tub, smoke lung, smoke bronc, lung either, tub either, either xray, bronc dysp, either dysp"
    graph = nx.DiGraph(pair.split() for pair in edges.split(", "))
    tables = {
        "asia": [0.01],
        "tub": [0.05, 0.01],
        "smoke": [0.5],
        "lung": [0.1, 0.01],
        "bronc": [0.6, 0.3],
        "either": [1.0, 1.0, 1.0, 0.0],  # lung, tub
        "xray": [0.98, 0.05],
        "dysp": [0.9, 0.8, 0.7, 0.1],  # bronc, either
    }
    cpds = {}
    for node, yes in tables.items():
        p = torch.tensor(yes, dtype=torch.float64)
        cpds[node] = torch.stack((p, 1 - p), -1).view([2] * (graph.in_degree(node) + 1))
    return BayesianNetwork(graph, cpds, states=("yes", "no"))


def trap(rows: int) -> tuple[BayesianNetwork, Tensor, Tensor]:
    """Asia, its rows with bronchitis recorded mostly where there is no dyspnoea, and which rows are complete."""
    truth = asia()
    data = truth.sample(rows)
    bronc, dysp = (truth.nodes.index(node) for node in ("bronc", "dysp"))
    recorded = torch.rand(rows) < torch.where(data[:, dysp] == YES, 0.175, 0.8)
    data[~recorded, bronc] = -1
    return truth, data, recorded


def table(network: BayesianNetwork, node: str) -> Tensor:
    cpd = network.cpd(node)
    assert isinstance(cpd, DiscreteCPD)
    return cpd.table()


def untaught(network: BayesianNetwork) -> BayesianNetwork:
    return BayesianNetwork(network.structure)


def random_model(seed: int, nodes: int = 6) -> BayesianNetwork:
    structure = random_structure(nodes, 2, states=(2, 3), seed=seed)
    tables = random_tables(structure, seed=seed).split(structure.sizes)
    named = zip(structure.nodes, tables, strict=True)
    return BayesianNetwork(structure, {node: x.view(structure.table_shape(node)) for node, x in named})


def counted(model: BayesianNetwork, data: Tensor, node: str) -> Tensor:
    """How often each cell was used, row by row."""
    counts = torch.zeros(model.structure.table_shape(node), dtype=torch.float64)
    family = [model.nodes.index(name) for name in (*model.structure.parents[node], node)]
    for row in data[:, family].tolist():
        counts[tuple(row)] += 1
    return counts


@pytest.mark.parametrize("pseudo", [0.0, 0.7])
def test_complete_rows_give_relative_frequencies(pseudo: float) -> None:
    model = random_model(0)
    data = model.sample(200)
    learned = untaught(model)
    result = learned.fit(data, pseudo)
    for node in model.nodes:
        counts = counted(model, data, node) + pseudo
        expected = torch.where(counts.sum(-1, True) > 0, counts / counts.sum(-1, True), 1 / counts.shape[-1])
        torch.testing.assert_close(table(learned, node).detach(), expected)
    assert result.converged
    assert result.log_likelihood == pytest.approx(learned.log_prob(data).sum().item())


def test_rows_are_counted_in_blocks_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyro_gen.distributions.bayesian_network import tables

    structure = random_structure(5, 2, states=(2, 3), seed=0)
    rows, weights = torch.stack([torch.randint(k, (50,)) for k in structure.cardinalities], 1), torch.rand(50).double()
    whole = tables.counts_of(structure, rows, weights)
    assert whole.sum() == pytest.approx(5 * weights.sum().item())
    monkeypatch.setattr(tables, "BLOCK", 7 * structure.cell_indices[0].numel())
    torch.testing.assert_close(tables.counts_of(structure, rows, weights), whole)


def test_weights_count_rows_and_pseudo_counts_may_differ_by_node() -> None:
    model = random_model(1)
    data = model.sample(30)
    data[::3, 2] = -1
    weights = torch.randint(0, 3, (30,)).double()
    table_of_one = torch.rand(model.structure.table_shape(model.nodes[1])).double()
    prior: dict[str, float | Tensor] = {model.nodes[1]: table_of_one, model.nodes[3]: 2.0}
    first, second = untaught(model), untaught(model)
    first.fit(data, prior, weights=weights)
    second.fit(data.repeat_interleave(weights.long(), 0), prior)
    for node in model.nodes:
        torch.testing.assert_close(table(first, node), table(second, node))


@pytest.mark.parametrize("seed", range(4))
def test_em_climbs_to_a_stationary_point_in_batches_of_any_size(seed: int) -> None:
    """The objective never falls, and where it ends its gradient vanishes along the simplices: softmax weights."""
    model = random_model(seed)
    data = model.sample(150)
    data = data.masked_fill(torch.rand(data.shape) < 0.3, -1)
    whole, parts = untaught(model), untaught(model)
    result = whole.fit(data, 0.5, tolerance=1e-11)
    again = parts.fit(data, 0.5, num_steps=5, batch_size=13)
    assert result.converged
    assert (result.objective.diff() > -1e-9 * result.objective[-1].abs()).all()
    torch.testing.assert_close(result.objective[:6], again.objective)
    logs = sum((0.5 * table(whole, node).log()).sum() for node in whole.nodes)
    slopes = torch.autograd.grad(whole.log_evidence(data).sum() + logs, list(whole.parameters()))
    assert max(slope.abs().max().item() for slope in slopes) < 1e-3
    assert result.log_likelihood == pytest.approx(whole.log_evidence(data).sum().item())


def test_the_first_step_of_em_is_expected_counts_by_enumeration() -> None:
    model = random_model(2, nodes=4)
    data = model.sample(20)
    data = data.masked_fill(torch.rand(data.shape) < 0.4, -1)
    distribution = model()
    values = distribution.enumerate_support()
    matches = ((values[:, None] == data) | (data < 0)).all(-1)
    posterior = distribution.log_prob(values).exp()[:, None] * matches
    posterior = (posterior / posterior.sum(0)).sum(1).detach()
    learned = BayesianNetwork(model.structure, {node: table(model, node).detach() for node in model.nodes})
    learned.fit(data, num_steps=1)
    for node in model.nodes:
        family = [model.nodes.index(name) for name in (*model.structure.parents[node], node)]
        counts = torch.zeros(model.structure.table_shape(node)).double()
        counts.index_put_(tuple(values[:, i] for i in family), posterior, accumulate=True)
        torch.testing.assert_close(table(learned, node).detach(), counts / counts.sum(-1, keepdim=True))


def test_cells_missing_at_random_mislead_those_who_drop_rows_but_not_em_and_svi() -> None:
    """The standard error of the frequency is 0.008 (10,000 rows): the bounds are five or more of it."""
    pyro.set_rng_seed(0)
    truth, data, complete = trap(20_000)
    estimates = {}
    learned = untaught(truth)
    learned.fit(data[complete])
    estimates["complete rows"] = learned
    learned = untaught(truth)
    assert learned.fit(data).converged
    estimates["EM"] = learned
    pyro.clear_param_store()
    learned = untaught(truth)
    svi = SVI(learned.evidence_model, learned.guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(150):
        svi.step(data)
    estimates["SVI"] = learned
    found = {name: table(network, "bronc")[YES, YES].item() for name, network in estimates.items()}
    assert found["complete rows"] == pytest.approx(0.387, abs=0.04)
    assert found["EM"] == pytest.approx(0.60, abs=0.05)
    assert found["SVI"] == pytest.approx(found["EM"], abs=0.01)
    assert abs(found["EM"] - 0.60) < abs(found["complete rows"] - 0.60) / 3


def test_a_hidden_cause_is_found_from_random_starts() -> None:
    """Four symptoms of a cause that nobody recorded; equal tables would never tell its states apart."""
    pyro.set_rng_seed(1)
    graph = nx.DiGraph([("cause", f"symptom {i}") for i in range(4)])
    tables = {"cause": torch.tensor([0.3, 0.7]).double()}
    tables |= {f"symptom {i}": torch.tensor([[0.9, 0.1], [0.15, 0.85]]).double() for i in range(4)}
    truth = BayesianNetwork(graph, tables)
    rows = truth.sample(4000)
    data = {node: rows[:, i] for i, node in enumerate(truth.nodes) if node != "cause"}
    learned = untaught(truth)
    result = learned.fit(data)
    assert len(result.starts) == 10
    assert result.objective[-1] == result.starts.max()
    found = table(learned, "cause").detach().sort().values
    torch.testing.assert_close(found, tables["cause"].sort().values, atol=0.06, rtol=0.0)  # six standard errors
    stuck = untaught(truth)
    assert stuck.fit(data, num_starts=0).log_likelihood < result.log_likelihood - 100


def test_a_node_that_nothing_is_known_of_keeps_its_table_or_takes_the_prior() -> None:
    model = random_model(3)
    leaf = next(node for node in model.nodes if not model.structure.children[model.structure.index[node]])
    data = {node: x for node, x in zip(model.nodes, model.sample(50).unbind(1), strict=True) if node != leaf}
    learned = BayesianNetwork(model.structure, {leaf: table(model, leaf).detach()})
    learned.fit(data, num_starts=0)
    torch.testing.assert_close(table(learned, leaf), table(model, leaf))
    learned.fit(data, 1.0, num_starts=0)
    assert torch.allclose(table(learned, leaf), torch.full_like(table(learned, leaf), 1).softmax(-1))


def test_fixed_cpds_stay_and_cpds_of_other_kinds_may_be_among_them() -> None:
    graph = nx.DiGraph([("a", "x"), ("b", "x")])
    gate = NoisyOrCPD([0.8, 0.5], leak=0.1).requires_grad_(False)
    truth = BayesianNetwork(graph, {"x": gate, "a": torch.tensor([0.7, 0.3]).double()})
    truth.cpd("b").requires_grad_(False)
    data = truth.sample(100).masked_fill(torch.rand(100, 3) < 0.3, -1)
    before = table(truth, "x").clone()
    truth.fit(data)
    assert torch.equal(before, table(truth, "x"))
    assert table(truth, "b").tolist() == [0.5, 0.5]
    assert set(truth.sample_cpds(data, num_samples=3, num_chains=1, warmup_steps=0).tables) == {"a"}


def test_float32_networks_stay_float32() -> None:
    model = random_model(4).float()
    data = model.sample(40).masked_fill(torch.rand(40, 6) < 0.2, -1)
    model.fit(data)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_draws_from_complete_rows_are_dirichlet() -> None:
    """Means and variances of 4000 independent draws within six standard errors."""
    pyro.set_rng_seed(2)
    model = random_model(5)
    data = model.sample(25)
    draws = model.sample_cpds(data, 0.5)
    for node, drawn in draws.tables.items():
        a = counted(model, data, node) + 0.5
        total = a.sum(-1, keepdim=True)
        variance = a / total * (1 - a / total) / (total + 1)
        assert drawn.shape[:2] == (4, 1000)
        assert ((draws.mean()[node] - a / total).abs() < 6 * (variance / 4000).sqrt()).all()
        assert ((drawn.var((0, 1)) / variance - 1).abs() < 0.3).all()


def test_draws_with_missing_cells_have_the_mean_of_the_posterior() -> None:
    """Of two nodes, by enumeration of the parent's missing cells; five Monte Carlo errors, of 0.3 / sqrt(400)."""
    pyro.set_rng_seed(3)
    network = BayesianNetwork(nx.DiGraph([("a", "b")]))
    data = torch.tensor([[0, 0], [0, 1], [1, 1], [-1, 1], [-1, 0], [1, -1], [-1, 1]])
    draws = network.sample_cpds(data, num_samples=400, num_chains=4, warmup_steps=20)
    expected, total = torch.zeros(2, 2).double(), 0.0
    gap = [3, 4, 6]
    for code in range(8):
        rows = data.clone()
        rows[gap, 0] = torch.tensor([(code >> i) & 1 for i in range(3)])
        whole = rows[rows[:, 1] >= 0]
        counts = torch.zeros(2, 2).double().index_put((whole[:, 0], whole[:, 1]), torch.ones(()).double(), True)
        of_a = torch.bincount(rows[:, 0], minlength=2).double()
        log = torch.lgamma(of_a + 1).sum() + torch.lgamma(counts + 1).sum() - torch.lgamma(counts.sum(1) + 2).sum()
        weight = log.exp().item()
        expected += weight * (counts + 1) / (counts.sum(1, keepdim=True) + 2)
        total += weight
    assert ((draws.mean()["b"] - expected / total).abs() < 5 * 0.3 / math.sqrt(400)).all()


def test_draws_go_to_arviz_with_names_of_nodes_and_states(tmp_path: Path) -> None:
    graph = nx.DiGraph([("a/b", "the wet"), ("draw", "the wet")])
    states = {"a/b": ("Asy/Patch", "<5"), "the wet": ("12+", "0-3_days", "Transp."), "draw": ("no", "yes")}
    network = BayesianNetwork(graph, states=states)
    data = network.sample(20).masked_fill(torch.rand(20, 3) < 0.2, -1)
    inference = from_cpds(network.sample_cpds(data, num_samples=20, num_chains=2, warmup_steps=2), {"seed": 3})
    posterior = inference["posterior"]
    assert posterior["p(the wet | a_b, draw_)"].dims == ("chain", "draw", "a_b", "draw_", "the wet")
    assert posterior["a_b"].values.tolist() == ["Asy/Patch", "<5"]
    summary = az.summary(inference)
    assert "p(the wet | a_b, draw_)[<5, yes, 12+]" in summary.index
    inference.to_netcdf(str(tmp_path / "posterior.nc"))
    again = az.from_netcdf(str(tmp_path / "posterior.nc"))["posterior"]
    assert again["p(the wet | a_b, draw_)"].equals(posterior["p(the wet | a_b, draw_)"])


def test_a_neural_cpd_learns_a_logistic_dependence_in_minibatches() -> None:
    """Logit 2 a - 1.5 b + 0.5 c over parents with 2, 3 and 2 states: within 0.06 of each probability (five errors)."""
    pyro.set_rng_seed(4)
    pyro.clear_param_store()
    graph = nx.DiGraph([("a", "x"), ("b", "x"), ("c", "x")])
    states = {"a": 2, "b": 3, "c": 2, "x": 2}
    a, b, c = torch.meshgrid(torch.arange(2.0), torch.arange(3.0), torch.arange(2.0), indexing="ij")
    on = torch.sigmoid(2 * a - 1.5 * b + 0.5 * c).double()
    truth = BayesianNetwork(graph, {"x": torch.stack((1 - on, on), -1)}, states)
    data = truth.sample(20_000)
    learned = BayesianNetwork(graph, {"x": NeuralCPD([2, 3, 2], 2)}, states, size=len(data))
    svi = SVI(learned.model, learned.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    for _ in range(3):
        for batch in data[torch.randperm(len(data))].split(200):
            svi.step(batch)
    assert (table(learned, "x")[..., 1] - on).abs().max() < 0.06


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pseudo_count": -1.0}, "pseudo_count.*not negative"),
        ({"pseudo_count": {"nobody": 1.0}}, "no node 'nobody'"),
        ({"pseudo_count": {"b": torch.ones(3)}}, "shape"),
        ({"pseudo_count": math.nan}, "finite"),
        ({"weights": torch.ones(2)}, "`weights` must be 3"),
        ({"weights": torch.tensor([1.0, -1.0, 1.0])}, "`weights`"),
        ({"num_steps": 0}, "num_steps"),
    ],
)
def test_arguments_out_of_place_are_named(settings: dict[str, object], message: str) -> None:
    network = BayesianNetwork(nx.DiGraph([("a", "b")]))
    data = torch.tensor([[0, 0], [1, -1], [1, 1]])
    with pytest.raises(ValueError, match=message):
        network.fit(data, **settings)  # type: ignore[arg-type]


def test_data_that_cannot_be_learned_from_are_refused() -> None:
    network = BayesianNetwork(nx.DiGraph([("a", "b")]), {"b": torch.tensor([[1.0, 0.0], [0.5, 0.5]]).double()})
    with pytest.raises(ValueError, match="rows 3"):
        network.fit(torch.tensor([[0, 0], [1, -1], [1, 1], [0, 1]]))
    for nothing in (None, torch.zeros(0, 2).long(), torch.full((3, 2), -1)):
        with pytest.raises(ValueError, match="`data` must hold"):
            network.fit(nothing)
    with pytest.raises(ValueError, match="`concentration` must be positive"):
        network.sample_cpds(torch.zeros(1, 2).long(), 0.0)
    with pytest.raises(ValueError, match="TabularCPD"):
        BayesianNetwork(nx.DiGraph([("a", "b")]), {"b": NeuralCPD([2], 2)}).fit(torch.zeros(1, 2).long())
    with pytest.raises(ValueError, match="real nodes"):
        BayesianNetwork(
            nx.DiGraph([("a", "b")]), {"a": LinearGaussianCPD(), "b": LinearGaussianCPD([1.0])}
        ).sample_cpds({})
