"""Chow-Liu trees against all trees of five nodes, and what every function accepts as data."""

from __future__ import annotations

from collections import Counter
from itertools import product

import networkx as nx
import numpy as np
import pytest
import torch

from pyro_gen.distributions import BayesianNetwork
from pyro_gen.infer.structure import CategoricalTable, chow_liu, conditional_tables, learn_structure, mutual_information

STATES = {"v 0": 2, "v 1": 3, "v 2": 2, "v 3": 4, "v 4": 2}


def five(rows: int = 300, seed: int = 0) -> CategoricalTable:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randint(4, (rows, 2), generator=generator)
    columns = [
        torch.where(
            torch.rand(rows, generator=generator) < 0.5,
            hidden[:, i % 2],
            torch.randint(4, (rows,), generator=generator),
        )
        % states
        for i, states in enumerate(STATES.values())
    ]
    return CategoricalTable.of(torch.stack(columns, -1), STATES)


def density(tree: nx.DiGraph, table: CategoricalTable, size: float) -> BayesianNetwork:
    return BayesianNetwork(tree, conditional_tables(tree, table, equivalent_sample_size=size))


@pytest.mark.parametrize("size", [0.0, 20.0])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.smoke
def test_no_tree_of_five_nodes_has_a_higher_likelihood(size: float, seed: int) -> None:
    table = five(seed=seed)
    # Rows and prior together are the distribution that the tree projects: rows of each pair of nodes, weighed by its
    # counts.
    information = mutual_information(table, equivalent_sample_size=size)
    found = chow_liu(table, equivalent_sample_size=size)
    own = sum(information[table.index[u], table.index[v]] for u, v in found.edges)
    best = -np.inf
    for code in product(range(5), repeat=3):
        tree = nx.bfs_tree(nx.from_prufer_sequence(code), 0)
        best = max(best, float(sum(information[u, v] for u, v in tree.edges)))
        if size == 0:
            named = table.graph(tree.edges)
            assert density(named, table, 0).log_prob(table.values).sum() <= likelihood(found, table) + 1e-8
    assert own == pytest.approx(best, abs=1e-12)


def likelihood(tree: nx.DiGraph, table: CategoricalTable) -> float:
    values = table.values[:, [table.index[node] for node in tree]]
    return float(density(tree, table, 0).log_prob(values).sum())


def test_mutual_information_is_that_of_the_smoothed_pairs() -> None:
    table, size = five(), 12.0
    information = mutual_information(table, equivalent_sample_size=size)
    for i, j in ((0, 1), (1, 3), (2, 4)):
        ki, kj = table.arities[i], table.arities[j]
        pairs = np.full((ki, kj), size / ki / kj)
        for (a, b), n in Counter(map(tuple, table.values[:, [i, j]].tolist())).items():
            pairs[a, b] += n
        pairs /= pairs.sum()
        expected = (pairs * np.log(pairs / pairs.sum(1, keepdims=True) / pairs.sum(0))).sum()
        assert information[i, j] == pytest.approx(expected, abs=1e-12)
        assert information[j, i] == information[i, j]


def test_the_distribution_does_not_depend_on_the_root() -> None:
    table = five()
    distributions = []
    for root in table.nodes:
        tree = chow_liu(table, equivalent_sample_size=3, root=root)
        assert tree.in_degree(root) == 0
        distributions.append(density(tree, table, 3).log_prob(table.values))
    assert all(torch.allclose(distribution, distributions[0], atol=1e-10) for distribution in distributions)


def test_independent_nodes_make_a_forest() -> None:
    grid = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(2))
    assert not chow_liu(grid).edges
    doubled = torch.cat([grid, grid[:, :1], torch.zeros(12, 1, dtype=torch.long)], -1)
    assert set(chow_liu(doubled).edges) == {("x0", "x3")}
    assert not chow_liu(doubled, min_information=0.7).edges
    assert chow_liu(torch.tensor([[1, 0]])).number_of_edges() == 0


@pytest.mark.parametrize("columns", [180, 400])
def test_hundreds_of_columns_give_the_maximum_spanning_tree_of_their_information(columns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(500, columns, generator=generator) + torch.rand(500, 1, generator=generator) < 0.8).long()
    information = mutual_information(x)
    tree = chow_liu(x)
    assert nx.is_arborescence(tree)
    every = nx.from_numpy_array(information.numpy())
    best = nx.maximum_spanning_tree(every).size("weight") if columns < 200 else None
    found = sum(data["information"] for _, _, data in tree.edges(data=True))
    assert best is None or found == pytest.approx(best, abs=1e-9)


def test_tables_where_nothing_is_known_are_uniform() -> None:
    table = CategoricalTable.of({"a": torch.zeros(3, dtype=torch.long), "b": torch.zeros(3, dtype=torch.long)}, 2)
    tables = conditional_tables(nx.DiGraph([("a", "b")]), table)
    assert tables["b"].tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_a_learned_graph_makes_a_bayesian_network_with_named_states() -> None:
    states = {"Asia visited": ("no", "yes"), "Asy/Patch": ("<5", "12+", ">=7.5")}
    a = torch.tensor([0, 1, 1, 0] * 5)
    data = {"Asia visited": a, "Asy/Patch": a + 1}
    graph = learn_structure(data, states=states)
    network = BayesianNetwork(graph, conditional_tables(graph, data, equivalent_sample_size=1, states=states))
    assert network.states == states
    assert network.marginals({"Asy/Patch": "12+"})["Asia visited"][0] > 0.9


def test_columns_tables_arrays_and_flags_are_the_same_data() -> None:
    table = five(seed=4)
    columns = {node: table.values[:, i] for node, i in table.index.items()}
    for data in (columns, table.values, table.values.int(), table.values.numpy()):
        own = CategoricalTable.of(data, STATES)
        assert own.nodes == table.nodes
        assert torch.equal(own.values, table.values)
    assert CategoricalTable.of(torch.tensor([[True], [False]])).arities == (2,)
    assert CategoricalTable.of(torch.tensor([[0, 4]]), [3, 5]).arities == (3, 5)


@pytest.mark.parametrize(
    ("data", "states", "match"),
    [
        (torch.rand(3, 2), None, "integer dtype"),
        (torch.tensor([[0, 1], [-1, 0]]), None, r"missing cells \(-1\); got -1 for node 'x0' in row 1"),
        (torch.tensor([[0, 3]]), 3, "node 'x1' must be below its 3 states, got 3 in row 0"),
        (torch.zeros(3, dtype=torch.long), None, r"shape \(rows, nodes\)"),
        (torch.zeros(0, 2, dtype=torch.long), None, "at least one row"),
        (torch.zeros(2, 0, dtype=torch.long), None, "at least one row and one node"),
        ({}, None, "at least one row"),
        ({"a": torch.zeros(2, dtype=torch.long), "b": torch.zeros(3, dtype=torch.long)}, None, "same number of rows"),
        ({"a": torch.zeros(2, dtype=torch.long)}, {"b": 2}, "no entry for node 'a'"),
        ({"a": torch.zeros(2, dtype=torch.long)}, {"a": "yes"}, "list of names"),
        ({"": torch.zeros(2, dtype=torch.long)}, None, "non-empty strings"),
        ({"a": "rain"}, None, "integer tensor"),
        (torch.zeros(2, 2, dtype=torch.long), {"a": 2}, "must name the 2 columns"),
        (torch.zeros(2, 2, dtype=torch.long), [2], "a number for each node"),
    ],
)
def test_bad_data_are_named(data: object, states: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        chow_liu(data, states=states)  # type: ignore[arg-type]


def test_bad_settings_are_named() -> None:
    table = five()
    for settings, match in (
        ({"equivalent_sample_size": -1.0}, "`equivalent_sample_size`"),
        ({"min_information": float("nan")}, "`min_information`"),
        ({"root": "v 9"}, "no node 'v 9'"),
        ({"states": 2}, "`states` must be None"),
    ):
        with pytest.raises(ValueError, match=match):
            chow_liu(table, **settings)
    with pytest.raises(ValueError, match="over the nodes of `data`"):
        conditional_tables(nx.DiGraph([("a", "b")]), table)
