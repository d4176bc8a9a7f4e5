"""Exact inference in Bayesian networks against enumeration of all states, and where numbers or cliques get extreme."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Iterator
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor

from pyro_gen.distributions import BayesianNetwork, Likelihood, NetworkStructure
from pyro_gen.distributions.bayesian_network import elimination, engine, ordering
from pyro_gen.distributions.bayesian_network.plan import Plan, make_plan
from pyro_gen.distributions.bayesian_network.tables import cells_of
from pyro_gen.testing import goodness_of_fit, state_index
from pyro_gen.testing.networks import random_network, random_structure, random_tables

SEEDS = range(24)


class Oracle:
    """A network of a few nodes, rows with cells missing, and every answer by enumeration."""

    def __init__(self, seed: int, rows: int = 11) -> None:
        self.network = random_network(7, 3, states=(1, 2, 3), zeros=0.3 * (seed % 2), seed=seed)
        self.values = self.network.enumerate_support()
        self.log_prob = self.network.log_prob(self.values)
        generator = torch.Generator().manual_seed(seed)
        self.data = self.values[torch.multinomial(self.log_prob.exp(), rows, True, generator=generator)]
        self.data = self.data.masked_fill(torch.rand(self.data.shape, generator=generator) < 0.5, -1)
        self.matches = ((self.values[:, None] == self.data) | (self.data < 0)).all(-1)
        self.evidence = (self.log_prob.exp()[:, None] * self.matches).sum(0)
        self.posterior = self.log_prob.exp()[:, None] * self.matches / self.evidence

    def marginal(self, nodes: tuple[str, ...], weights: Tensor | None = None) -> Tensor:
        """(rows, states of the nodes), or summed over rows with weights."""
        numbers = [self.network.structure.index[node] for node in nodes]
        shape = [self.network.structure.cardinalities[i] for i in numbers]
        mass = self.posterior if weights is None else (self.posterior * weights).sum(1, keepdim=True)
        result = mass.new_zeros(*shape, mass.shape[1])
        result.index_put_(tuple(self.values[:, i] for i in numbers), mass, accumulate=True)
        return result.movedim(-1, 0) if weights is None else result.squeeze(-1)

    def by_name(self, row: int) -> dict[str, str]:
        nodes = zip(self.network.nodes, self.data[row].tolist(), strict=True)
        return {node: self.network.states[node][k] for node, k in nodes if k >= 0}

    def by_column(self) -> dict[str, Tensor]:
        return dict(zip(self.network.nodes, self.data.unbind(1), strict=True))


@pytest.fixture(params=SEEDS)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return Oracle(request.param)


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.smoke
def test_evidence_of_rows_with_different_missing_cells(oracle: Oracle) -> None:
    close(oracle.network.log_evidence(oracle.by_column()), oracle.evidence.log())
    close(oracle.network.log_evidence(oracle.data), oracle.evidence.log())
    close(oracle.network.log_evidence(oracle.by_name(3)), oracle.evidence[3].log())


def test_marginals_of_rows_and_of_one_case(oracle: Oracle) -> None:
    of_rows, of_case = oracle.network.marginals(oracle.by_column()), oracle.network.marginals(oracle.by_name(2))
    for node in oracle.network.nodes:
        expected = oracle.marginal((node,))
        close(of_rows[node], expected)
        close(of_case[node], expected[2])
        close(oracle.network.marginals(oracle.by_name(2), [node])[node], expected[2])


@pytest.mark.parametrize("small", [True, False])
def test_every_way_to_the_marginals_of_one_case(small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one plan for all evidence, and by a plan of its own, where the whole joint distribution is too large."""
    monkeypatch.setattr(engine, "TINY", 0)
    monkeypatch.setattr(engine, "SMALL_NODES", 100 if small else 0)
    for seed in SEEDS[:8]:
        oracle = Oracle(seed)
        distributions = oracle.network.marginals(oracle.by_name(2))
        for node in oracle.network.nodes:
            close(distributions[node], oracle.marginal((node,))[2])
        with pytest.raises(ValueError, match="impossible"):
            naive_bayes(3, torch.float64).marginals({"class": "1"})


def test_joint_and_pair_marginals(oracle: Oracle) -> None:
    for nodes in (oracle.network.nodes[:2], oracle.network.nodes[4:1:-1], oracle.network.nodes[-1:]):
        close(oracle.network.joint_marginal(nodes, oracle.data), oracle.marginal(nodes))
        close(oracle.network.joint_marginal(nodes, oracle.by_name(1)), oracle.marginal(nodes)[1])
    for pair, distribution in oracle.network.pair_marginals(oracle.by_name(4)).items():
        close(distribution, oracle.marginal(pair)[4])


def test_expected_counts_are_the_family_marginals_summed_over_rows(oracle: Oracle) -> None:
    weights = torch.rand(len(oracle.data), dtype=torch.float64)
    counts = oracle.network.expected_counts(oracle.data, weights)
    for node, parents in oracle.network.structure.parents.items():
        close(counts[node], oracle.marginal((*parents, node), weights))


def test_the_most_probable_states(oracle: Oracle) -> None:
    best = oracle.network.most_probable(oracle.data)
    value = torch.stack([best[node] for node in oracle.network.nodes], -1)
    close(oracle.network.log_prob(value), oracle.log_prob[:, None].masked_fill(~oracle.matches, -torch.inf).amax(0))
    assert ((value == oracle.data) | (oracle.data < 0)).all()
    named = oracle.network.most_probable(oracle.by_name(0))
    number = [oracle.network.states[node].index(named[node]) for node in oracle.network.nodes]
    close(oracle.network.log_prob(torch.tensor(number)), oracle.network.log_prob(value[0]))


@pytest.mark.parametrize("seed", range(6))
def test_posterior_draws_fit_the_posterior(seed: int) -> None:
    """False alarm at a rate of 1e-6 a case."""
    oracle = Oracle(seed)
    drawn = oracle.network.sample_posterior(oracle.by_name(0), 20_000)
    index = state_index(torch.stack([drawn[node] for node in oracle.network.nodes], -1), oracle.values)
    counts = torch.bincount(index, minlength=len(oracle.values))
    assert goodness_of_fit(counts, oracle.posterior[:, 0]) > 1e-6
    of_rows = oracle.network.sample_posterior(oracle.data, 50)
    value = torch.stack([of_rows[node] for node in oracle.network.nodes], -1)
    assert value.shape == (50, *oracle.data.shape)
    assert ((value == oracle.data) | (oracle.data < 0)).all()
    assert (oracle.network.log_prob(value) > -torch.inf).all()


@pytest.mark.parametrize("seed", SEEDS[:8])
def test_gradients_in_the_tables_are_those_of_finite_differences(seed: int) -> None:
    structure = random_structure(5, 2, states=(2, 3), seed=seed)
    tables = random_tables(structure, 0.3 * (seed % 2), seed)
    value = BayesianNetwork(structure, tables).sample((4,))
    data = value.masked_fill(torch.rand(value.shape) < 0.5, -1)
    soft = {structure.nodes[0]: Likelihood(torch.rand(4, structure.cardinalities[0], dtype=torch.float64))}
    columns = dict(zip(structure.nodes[1:], data.unbind(1)[1:], strict=True))

    def answers(flat: Tensor) -> tuple[Tensor, ...]:
        network = BayesianNetwork(structure, flat, validate_args=False)
        evidence = network.log_evidence(data), network.log_evidence(soft | columns)
        return *evidence, *network.marginals(data).values()

    assert torch.autograd.gradcheck(answers, (tables.requires_grad_(),))


def test_marginals_are_derivatives_in_log_potentials() -> None:
    oracle = Oracle(4)
    logs = oracle.network.tables.log().requires_grad_()
    network = BayesianNetwork(oracle.network.structure, logs.exp(), validate_args=False)
    (slope,) = torch.autograd.grad(network.log_evidence(oracle.by_name(0)), logs)
    counts = oracle.network.expected_counts(oracle.by_name(0))
    close(slope, torch.cat([counts[node].flatten() for node in oracle.network.nodes]))


@pytest.mark.parametrize("seed", SEEDS[:6])
def test_soft_evidence_and_sets_of_states(seed: int) -> None:
    oracle = Oracle(2 * seed)  # without zeros
    network, p = oracle.network, oracle.log_prob.exp()
    node, other = sorted(network.nodes, key=lambda node: -len(network.states[node]))[:2]
    i, j = network.structure.index[node], network.structure.index[other]
    likelihood = 7 * torch.rand(len(network.states[node]), dtype=torch.float64)
    mass = p * likelihood[oracle.values[:, i]] * (oracle.values[:, j] > 0)
    for subset in (set(network.states[other][1:]), frozenset(range(1, len(network.states[other])))):
        evidence: dict[str, Any] = {node: Likelihood(likelihood), other: subset}
        close(network.log_evidence(evidence), mass.sum().log())
        distribution = torch.stack([mass[oracle.values[:, i] == k].sum() for k in range(len(likelihood))]) / mass.sum()
        close(network.marginals(evidence)[node], distribution)
    rows = torch.stack((likelihood, torch.ones_like(likelihood)))
    by_row = network.log_evidence({node: Likelihood(rows), other: torch.tensor([1, -1])})
    close(by_row[0], (p * likelihood[oracle.values[:, i]] * (oracle.values[:, j] == 1)).sum().log())
    close(by_row[1], torch.zeros((), dtype=torch.float64))


def test_an_intervention_cuts_the_arrows_into_a_node() -> None:
    for seed in SEEDS[:6]:
        network = random_network(6, 3, seed=seed)
        node = network.nodes[2]
        cut = network.do({node: network.states[node][1]})
        assert not list(cut.structure.graph.predecessors(node))
        value = network.enumerate_support()
        kept = value[:, 2] == 1
        rest = network.log_prob(value) - network.do({node: 1}).structure.number(node)
        own = network.table(node).flatten()[cells_of(network.structure, value)[:, 2] - network.structure.offsets[2]]
        close(cut.log_prob(value), torch.where(kept, network.log_prob(value) - own.log(), -torch.inf))
        assert rest.shape == kept.shape


def test_d_separation_is_networkx_s() -> None:
    for seed in SEEDS:
        network = random_network(8, 2, seed=seed)
        names = network.nodes
        for given in ((), names[2:3], names[3:6]):
            expected = nx.is_d_separator(network.structure.graph, {names[0]}, {names[7]}, set(given))
            assert network.d_separated(names[0], [names[7]], given) == expected


def naive_bayes(features: int, dtype: torch.dtype) -> BayesianNetwork:
    """A class that is never 1, and features that speak for 1."""
    states = {"class": ("0", "1", "2"), **{f"x{i}": ("0", "1") for i in range(features)}}
    structure = NetworkStructure(states, {f"x{i}": ["class"] for i in range(features)})
    rows = torch.tensor([[0.99, 0.01], [0.01, 0.99], [0.999, 0.001]], dtype=dtype)
    tables = {node: rows for node in states if node != "class"}
    return BayesianNetwork(structure, {"class": torch.tensor([0.5, 0.0, 0.5], dtype=dtype), **tables})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_evidence_far_below_the_smallest_number(dtype: torch.dtype) -> None:
    """Its probability is 1e-2000 and less; the state that the features speak for has probability zero."""
    network = naive_bayes(1000, dtype)
    evidence = {f"x{i}": torch.tensor([1, 1, -1 if i else 1]) for i in range(1000)}
    evidence["class"] = torch.tensor([-1, 2, -1])
    own = [math.log(0.5) + 1000 * math.log(0.01), math.log(0.5) + 1000 * math.log(0.001), math.log(0.5 * 0.011)]
    expected = torch.tensor(own, dtype=dtype)
    torch.testing.assert_close(network.log_evidence(evidence), expected, rtol=1e-6, atol=0.0)
    del evidence["class"]
    distribution = network.marginals(evidence, ["class", "x1"])["class"]
    torch.testing.assert_close(distribution[0], torch.tensor([1.0, 0.0, 0.0], dtype=dtype))
    torch.testing.assert_close(distribution[2], torch.tensor([10 / 11, 0.0, 1 / 11], dtype=dtype))
    assert network.most_probable({f"x{i}": "1" for i in range(1000)})["class"] == "0"
    assert (network.sample_posterior({f"x{i}": "1" for i in range(1000)}, 5)["class"] == 0).all()


def test_gradients_of_tiny_evidence_are_finite_and_right() -> None:
    network = naive_bayes(400, torch.float64)
    logs = network.tables.clone().requires_grad_()
    evidence = {f"x{i}": torch.tensor([1, -1]) for i in range(400)}
    network = BayesianNetwork(network.structure, logs, validate_args=False)
    (slope,) = torch.autograd.grad(network.log_evidence(evidence)[0], logs)
    assert slope.isfinite().all()
    close(slope[0], torch.tensor(2.0).double())  # d log p(class = 0) / dp
    close(slope[3:9], torch.tensor([0, 100, 0, 0, 0, 0]).double())


def test_zeros_make_no_nan_in_values_or_gradients() -> None:
    for seed in SEEDS[:12]:
        structure = random_structure(7, 3, states=(2, 3), seed=seed)
        flat = random_tables(structure, 0.6, seed).requires_grad_()
        network = BayesianNetwork(structure, flat)
        data = network.sample((5,))
        data[:, ::2] = -1
        distributions = network.marginals(data)
        loss = network.log_evidence(data).sum() + network.log_prob(network.sample((3,))).sum()
        loss = loss + sum(distribution[:, 0].sum() for distribution in distributions.values())
        (slope,) = torch.autograd.grad(loss, flat)
        assert slope.isfinite().all()
        impossible = network.log_prob(network.enumerate_support())
        assert (impossible == -torch.inf).any()
        (slope,) = torch.autograd.grad(impossible.clamp(min=-100).sum(), flat)
        assert slope.isfinite().all()


def test_impossible_evidence_raises_and_names_the_rows() -> None:
    network = naive_bayes(2, torch.float64)
    evidence = {"class": torch.tensor([0, 1, -1, 1, 1]), "x0": torch.tensor([0, 0, 1, 0, 0])}
    for query in (network.log_evidence, network.marginals, network.most_probable, network.expected_counts):
        with pytest.raises(ValueError, match=r"zero, in rows 1, 3, 4$"):
            query(evidence)
    with pytest.raises(ValueError, match=r"in rows 1, 3, 4$"):
        network.sample_posterior(evidence)
    with pytest.raises(ValueError, match="impossible"):
        network.marginals({"class": "1"})
    with pytest.raises(ValueError, match="impossible"):
        network.joint_marginal(["x1"], {"class": "1", "x0": "0"})


def test_a_clique_over_budget_is_refused_before_anything_is_allocated() -> None:
    dice = random.Random(0)
    graph = nx.DiGraph((f"a{i}", f"b{j}") for j in range(120) for i in dice.sample(range(120), 4))
    structure = NetworkStructure.from_graph(graph)
    network = BayesianNetwork(structure, random_tables(structure))
    with pytest.raises(ValueError, match=r"clique of .* cells .*'a.*max_cells.*1e\+08"):
        network.marginals({"b0": "1"})
    assert network.log_evidence({"a0": "1"}) < 0  # needs no other node
    small = random_network(6, 3, seed=1)
    with pytest.raises(ValueError, match="max_cells"):
        BayesianNetwork(small.structure, small.tables, max_cells=3).joint_marginal(small.nodes[:3])


def test_equal_rows_are_worked_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle, counts = Oracle(2), list[int]()

    def counted(plan: Plan, prepared: Any, rows: elimination.EvidenceRows, ring: elimination.Semiring) -> Any:
        counts.append(rows.count)
        return elimination.forward(plan, prepared, rows, ring)

    monkeypatch.setattr("pyro_gen.distributions.bayesian_network.engine.forward", counted)
    order = torch.randint(len(oracle.data), (500,))
    close(oracle.network.log_evidence(oracle.data[order]), oracle.evidence.log()[order])
    assert max(counts) <= len(oracle.data)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = Oracle(6)
    whole = oracle.network.marginals(oracle.data), oracle.network.expected_counts(oracle.data)
    monkeypatch.setitem(elimination.BLOCK, "cpu", 1)
    for a, b in zip(
        whole, (oracle.network.marginals(oracle.data), oracle.network.expected_counts(oracle.data)), strict=True
    ):
        for node in a:
            close(a[node], b[node])
    assert len(elimination.row_blocks(*_plan_and_rows(oracle))) == len(oracle.data)


def _plan_and_rows(oracle: Oracle) -> Iterator[Any]:
    structure = oracle.network.structure
    soft = {0: torch.ones(structure.cardinalities[0], len(oracle.data))}
    return iter(
        (
            make_plan(structure.families, structure.cardinalities, range(7), frozenset(), soft, ()),
            elimination.EvidenceRows(len(oracle.data), {}, soft),
            torch.device("cpu"),
        )
    )


def test_gradients_of_many_blocks_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Factors of a block are made again for the gradient in place of being kept."""
    oracle, slopes = Oracle(3), []
    for cells in (2**20, 1):
        monkeypatch.setitem(elimination.BLOCK, "cpu", cells)
        flat = oracle.network.tables.clone().requires_grad_()
        network = BayesianNetwork(oracle.network.structure, flat)
        slopes.append(torch.autograd.grad((network.log_evidence(oracle.data) ** 2).sum(), flat)[0])
    close(slopes[0], slopes[1])


def test_batches_of_tables_are_answered_one_by_one() -> None:
    structure = random_structure(5, 2, seed=3)
    tables = torch.stack([random_tables(structure, seed=seed) for seed in range(6)]).view(2, 3, -1)
    batch = BayesianNetwork(structure, tables)
    data = batch.sample()[0, 0].expand(4, -1).clone()
    data[:, 1] = -1
    one = BayesianNetwork(structure, tables[1, 2])
    assert batch.log_evidence(data).shape == (2, 3, 4)
    close(batch.log_evidence(data)[1, 2], one.log_evidence(data))
    node = structure.nodes[1]
    close(batch.marginals(data)[node][1, 2], one.marginals(data)[node])
    assert batch.expand((5, 2, 3)).log_evidence(data).shape == (5, 2, 3, 4)
    assert batch.sample_posterior(data, 7)[node].shape == (2, 3, 7, 4)
    assert one.expand((3,)).marginals()[node].shape == (3, len(one.states[node]))


def test_an_expanded_network_answers_one_case() -> None:
    network = random_network(5, seed=1)
    wide, evidence = network.expand(torch.Size((3, 2))), {network.nodes[0]: "0"}
    assert torch.equal(wide.log_evidence(evidence), network.log_evidence(evidence).expand(3, 2))
    for node, distribution in wide.marginals(evidence).items():
        assert torch.equal(distribution, network.marginals(evidence)[node].expand(3, 2, -1))


def test_tables_changed_in_place_are_noticed() -> None:
    network = random_network(5, seed=1)
    node = network.nodes[0]
    before = network.marginals()[node]
    network.tables.copy_(random_tables(network.structure, seed=9))
    after = BayesianNetwork(network.structure, network.tables.clone()).marginals()[node]
    assert not torch.allclose(before, after)
    close(network.marginals()[node], after)


def test_an_empty_question_and_no_rows() -> None:
    network = random_network(5, seed=1)
    assert network.log_evidence() == 0
    assert network.log_evidence({network.nodes[0]: None}) == 0
    assert network.log_evidence({network.nodes[0]: torch.full((3,), -1)}).tolist() == [0, 0, 0]
    assert network.log_evidence({network.nodes[0]: torch.zeros(0, dtype=torch.int64)}).shape == (0,)
    assert network.marginals({network.nodes[0]: torch.zeros(0, dtype=torch.int64)})[network.nodes[1]].shape[0] == 0
    assert network.sample_posterior(num_samples=3)[network.nodes[2]].shape == (3,)


def test_queries_work_under_inference_mode_and_after_pickling() -> None:
    network = random_network(5, seed=1)
    expected = network.marginals({network.nodes[1]: "1"})
    with torch.inference_mode():
        close(network.marginals({network.nodes[1]: "1"})[network.nodes[0]], expected[network.nodes[0]])
        rows = {network.nodes[1]: torch.tensor([1, -1])}
        close(network.marginals(rows)[network.nodes[0]][0], expected[network.nodes[0]])
        assert network.expected_counts(rows)[network.nodes[0]].sum() == pytest.approx(2)
        inside = BayesianNetwork(network.structure, network.tables.clone())
        close(inside.marginals({network.nodes[1]: "1"})[network.nodes[0]], expected[network.nodes[0]])
    again = pickle.loads(pickle.dumps(network))
    close(again.marginals({network.nodes[1]: "1"})[network.nodes[0]], expected[network.nodes[0]])


def test_states_come_in_the_tables_dtype_and_rows_in_order() -> None:
    oracle = Oracle(5)
    coarse = BayesianNetwork(oracle.network.structure, oracle.network.tables.float())
    distribution = coarse.marginals(oracle.data)[oracle.network.nodes[0]]
    assert distribution.dtype == torch.float32
    torch.testing.assert_close(distribution, oracle.marginal(oracle.network.nodes[:1]).float(), rtol=1e-4, atol=1e-5)
    assert coarse.log_evidence(oracle.data).dtype == torch.float32


BAD: list[tuple[dict[str, Any], str]] = [
    ({"nobody": "1"}, "no node 'nobody'"),
    ({"class": "3"}, "no state '3'"),
    ({"class": 3}, "from 0 to 2, got 3"),
    ({"class": True}, "name or number"),
    ({"class": torch.tensor([0, 3])}, "got 3 in row 1"),
    ({"class": torch.tensor([-2])}, "got -2 in row 0"),
    ({"class": torch.tensor([0]), "x0": torch.tensor([0, 1])}, "same number of rows"),
    ({"class": torch.tensor([[0]])}, "shape"),
    ({"class": Likelihood([0.5, 0.5])}, r"likelihood of node 'class' must have shape \(3,\)"),
    ({"class": Likelihood([0.5, torch.nan, 0.5])}, "finite"),
    ({"class": Likelihood([0.5, -0.1, 0.5])}, "not negative"),
    ({"class": Likelihood([[1, 0, 1], [0, 0, 0]])}, "node 'class' .*not all zero.* in row 1"),
    ({"class": set()}, "empty"),
    ({"class": object()}, "got object"),
]


@pytest.mark.parametrize(("evidence", "message"), BAD)
def test_evidence_that_makes_no_sense_is_refused(evidence: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        naive_bayes(2, torch.float64).log_evidence(evidence)


def test_graphs_and_tables_that_make_no_network_are_refused() -> None:
    half = torch.tensor([0.5, 0.5])
    with pytest.raises(ValueError, match=r"no cycle, got .* -> "):
        NetworkStructure.from_graph(nx.DiGraph([("a", "b"), ("b", "c"), ("c", "a")]))
    with pytest.raises(ValueError, match=r"networkx\.DiGraph"):
        NetworkStructure.from_graph(nx.Graph([("a", "b")]))
    with pytest.raises(ValueError, match="no table for node 'b'"):
        BayesianNetwork(nx.DiGraph([("a", "b")]), {"a": half})
    with pytest.raises(ValueError, match=r"node 'b' must have shape \(\.\.\., 2, 2\)"):
        BayesianNetwork(nx.DiGraph([("a", "b")]), {"a": half, "b": half})
    rows = torch.tensor([[0.5, 0.5], [0.5, 0.50002]])
    with pytest.raises(ValueError, match="row 1 of the table of node 'b'"):
        BayesianNetwork(nx.DiGraph([("a", "b")]), {"a": half, "b": rows})
    with pytest.raises(ValueError, match="string"):
        NetworkStructure.from_graph(nx.DiGraph([(0, 1)]))
    with pytest.raises(ValueError, match="different names"):
        NetworkStructure({"a": ("x", "x")})
    with pytest.raises(ValueError, match="float32 or float64"):
        BayesianNetwork(NetworkStructure({"a": ("x", "y")}), torch.tensor([0, 1]))


def test_orders_of_elimination_are_good_on_grids_and_trees() -> None:
    """A grid of width 6 has tree-width 6, which min-fill misses by two; a tree has one."""
    grid = nx.grid_2d_graph(6, 20)
    scopes = [tuple(sorted(6 * j + i for i, j in edge)) for edge in grid.edges]
    order = ordering.best_order(scopes, [2] * 120, range(120))
    assert order.largest <= 2**9
    tree = nx.random_labeled_tree(300, seed=1)
    assert ordering.best_order(list(tree.edges), [3] * 300, range(300)).largest == 9


def test_barren_nodes_cost_nothing() -> None:
    """The clique over budget is below the evidence."""
    dice = random.Random(0)
    graph = nx.DiGraph((f"a{i}", f"b{j}") for j in range(60) for i in dice.sample(range(60), 4))
    graph.add_edges_from([("top", "a0"), ("top", "seen")])
    structure = NetworkStructure.from_graph(graph)
    network = BayesianNetwork(structure, random_tables(structure))
    assert network.marginals({"seen": "1"}, ["top", "a0"])["top"].sum() == pytest.approx(1)
    assert network.sample_posterior({"seen": "1"}, 10)["b3"].shape == (10,)
