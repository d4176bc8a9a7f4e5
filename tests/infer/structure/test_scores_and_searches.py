"""Scores against their definitions, and searches against all graphs of four nodes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

from pyro_gen.distributions import BayesianNetwork
from pyro_gen.infer.structure import (
    AIC,
    BIC,
    BDeu,
    CategoricalTable,
    QuotientNML,
    Score,
    conditional_tables,
    cpdag,
    exact_search,
    graph_score,
    hill_climbing,
    learn_structure,
    tabu_search,
)
from pyro_gen.infer.structure.scores import log_regret
from tests.infer.structure.graphs import all_dags, independences, random_dag, sampled

SCORES = (BIC(), BIC(0.3), AIC(), BDeu(1), BDeu(30), QuotientNML())


def family_counts(table: CategoricalTable, node: str, parents: list[str]) -> list[list[int]]:
    """Counts of a node's states for every combination of its parents' states, occurring or not."""
    column = {name: table.values[:, i].tolist() for name, i in table.index.items()}
    states = {name: table.arities[i] for name, i in table.index.items()}
    seen = Counter(zip(*(column[name] for name in (*parents, node)), strict=True))
    return [[seen[(*given, k)] for k in range(states[node])] for given in product(*(range(states[p]) for p in parents))]


def by_definition(graph: nx.DiGraph, table: CategoricalTable, term: Callable[[list[list[int]]], float]) -> float:
    return sum(term(family_counts(table, node, list(graph.predecessors(node)))) for node in graph)


def log_likelihood(counts: list[list[int]]) -> float:
    return sum(n * math.log(n / sum(row)) for row in counts for n in row if n)


def bdeu_of_family(counts: list[list[int]], size: float) -> float:
    """Heckerman, Geiger and Chickering (1995), equation 28."""
    rows, states = len(counts), len(counts[0])
    total = 0.0
    for row in counts:
        total += math.lgamma(size / rows) - math.lgamma(size / rows + sum(row))
        total += sum(math.lgamma(size / rows / states + n) - math.lgamma(size / rows / states) for n in row)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_bic_aic_and_bdeu_equal_their_definitions_on_every_graph(seed: int) -> None:
    table = sampled(seed=seed)
    definitions: list[tuple[Score, Callable[[list[list[int]]], float]]] = [
        (BIC(), lambda c: log_likelihood(c) - math.log(len(table)) / 2 * len(c) * (len(c[0]) - 1)),
        (AIC(), lambda c: log_likelihood(c) - len(c) * (len(c[0]) - 1)),
        (BDeu(7.0), lambda c: bdeu_of_family(c, 7.0)),
    ]
    for graph in all_dags(4)[:: 7 + seed]:
        for score, definition in definitions:
            assert graph_score(graph, table, score) == pytest.approx(by_definition(graph, table, definition), abs=1e-8)


def test_the_bdeu_of_a_graph_is_the_probability_of_the_rows_one_after_another() -> None:
    table, graph = sampled(rows=12), nx.DiGraph([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    total = 0.0
    for n in range(12):
        seen = CategoricalTable(table.nodes, table.states, table.values[:n]) if n else None
        if seen is None:
            total -= sum(math.log(k) for k in table.arities)
        else:
            tables = conditional_tables(graph, seen, equivalent_sample_size=3)
            row = table.values[n][[table.index[node] for node in graph]]
            total += (
                BayesianNetwork(graph, tables, {v: table.arities[table.index[v]] for v in graph}).log_prob(row).item()
            )
    assert graph_score(graph, table, BDeu(3)) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_markov_equivalent_graphs_have_one_score_and_others_differ(score: Score) -> None:
    table = sampled(rows=200)
    values: dict[frozenset[tuple[str, ...]], list[float]] = {}
    for graph in all_dags(3):
        values.setdefault(independences(graph), []).append(graph_score(graph, three(table), score))
    assert len(values) == 11
    assert all(max(own) - min(own) < 1e-8 for own in values.values())
    means = sorted(own[0] for own in values.values())
    assert all(b - a > 1e-4 for a, b in pairwise(means))


def three(table: CategoricalTable) -> CategoricalTable:
    return CategoricalTable(table.nodes[:3], table.states[:3], table.values[:, :3])


@pytest.mark.parametrize("outcomes", [2, 3, 4])
def test_the_regret_is_the_log_of_the_sum_of_maximal_likelihoods(outcomes: int) -> None:
    total = sum(
        math.prod((k / 6) ** k for k in (row.count(i) for i in range(outcomes)))
        for row in product(range(outcomes), repeat=6)
    )
    assert log_regret(6, outcomes) == pytest.approx(math.log(total), abs=1e-12)


@pytest.mark.parametrize("rows", [1, 100, 10_000])
def test_the_approximate_regret_continues_the_exact_one(rows: int) -> None:
    below, above, next_one = (log_regret(rows, k) for k in (1000, 1001, 1002))
    assert above - below == pytest.approx(next_one - above, abs=0.05)


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_every_search_finds_the_best_of_all_graphs_of_four_nodes(score: Score, seed: int) -> None:
    table = sampled(seed=seed, rows=100)
    best = max(graph_score(graph, table, score) for graph in all_dags(4))
    torch.manual_seed(seed)
    for found in (exact_search(table, score), tabu_search(table, score), hill_climbing(table, score, restarts=10)):
        assert graph_score(found, table, score) == pytest.approx(best, abs=1e-6)


def test_every_search_finds_the_best_of_all_graphs_that_obey_the_rules() -> None:
    table, forbidden, required = sampled(seed=3, rows=200), [("a", "b"), ("b", "a")], [("d", "a")]
    lawful = [
        graph
        for graph in all_dags(4)
        if not graph.has_edge("a", "b") and not graph.has_edge("b", "a") and graph.has_edge("d", "a")
        if max(dict(graph.in_degree).values()) <= 2
    ]
    best = max(graph_score(graph, table, BDeu(50)) for graph in lawful)
    torch.manual_seed(0)
    for search in (exact_search, learn_structure, tabu_search, hill_climbing):
        more = {"restarts": 5} if search in (tabu_search, hill_climbing) else {}
        found = search(table, BDeu(50), max_parents=2, forbidden=forbidden, required=required, **more)
        assert set(found.edges) in [set(graph.edges) for graph in lawful]
        assert graph_score(found, table, BDeu(50)) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_tabu_search_with_restarts_reaches_the_optimum_of_seven_nodes(seed: int) -> None:
    truth = random_dag(7, seed)
    rows = forward(truth, 500, seed)
    torch.manual_seed(seed)
    best, found = (graph_score(graph, rows, BDeu()) for graph in (exact_search(rows), tabu_search(rows, restarts=10)))
    assert found == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("seed", [3, 11])
def test_restarts_leave_the_maximum_where_climbing_ends_and_lose_no_better_graph(seed: int) -> None:
    rows = forward(random_dag(7, seed), 500, seed)
    best = exact_search(rows)
    highest = graph_score(best, rows, BDeu())
    torch.manual_seed(seed)
    assert graph_score(hill_climbing(rows), rows, BDeu()) < highest - 1
    assert graph_score(hill_climbing(rows, restarts=10), rows, BDeu()) == pytest.approx(highest, abs=1e-6)
    for _ in range(5):
        found = hill_climbing(rows, start=best, restarts=1)
        assert graph_score(found, rows, BDeu()) == pytest.approx(highest, abs=1e-6)


def test_a_search_never_ends_below_its_start() -> None:
    rows, start = forward(random_dag(7, 1), 500, 1), random_dag(7, 100)
    assert graph_score(hill_climbing(rows, start=start), rows, BDeu()) > graph_score(start, rows, BDeu())


def forward(graph: nx.DiGraph, rows: int, seed: int) -> CategoricalTable:
    """Rows of a network with random tables."""
    generator = torch.Generator().manual_seed(seed)
    tables = {}
    for node in graph:
        shape = [2] * (graph.in_degree(node) + 1)
        tables[node] = torch.rand(shape, generator=generator).clamp(0.05)
        tables[node] /= tables[node].sum(-1, keepdim=True)
    torch.manual_seed(seed)
    values = BayesianNetwork(graph, tables, states=2).sample((rows,))
    return CategoricalTable.of(values, dict.fromkeys(graph, 2))


def test_much_data_bring_back_the_markov_class_of_the_network_they_come_from() -> None:
    graph = nx.DiGraph([("a", "c"), ("b", "c"), ("c", "d"), ("c", "e")])
    rows = forward(graph, 20_000, 5)
    for score in (BIC(), BDeu(), QuotientNML()):
        assert set(cpdag(learn_structure(rows, score)).edges) == set(cpdag(graph).edges)


def test_more_nodes_than_an_exact_search_can_take_are_searched_with_restarts() -> None:
    graph = random_dag(15, 0, density=0.15)
    torch.manual_seed(0)
    found = learn_structure(forward(graph, 3000, 0))
    assert graph_score(found, forward(graph, 3000, 0), BDeu()) >= graph_score(graph, forward(graph, 3000, 0), BDeu())


def test_a_score_of_ones_own_serves() -> None:
    def edgeless(counts: torch.Tensor, cells: float, num_rows: int) -> float:
        return -float(math.log(cells) ** 2)

    assert not exact_search(sampled(), edgeless).edges


def test_a_hundred_nodes_of_many_states_are_counted_without_laying_out_their_combinations() -> None:
    values = torch.randint(50, (40, 100), generator=torch.Generator().manual_seed(0))
    found = hill_climbing(values, AIC(), states=50)
    assert not found.edges
    start = nx.DiGraph()
    start.add_nodes_from(found)
    start.add_edges_from((f"x{i}", "x99") for i in range(30))
    assert math.isfinite(graph_score(start, values, BDeu(), states=50))


def test_masked_and_missing_cells_are_no_state_numbers() -> None:
    masked: Any = np.ma.masked_array([0, 1], [True, False])
    columns: list[Any] = [masked, [0, None]]
    for column in columns:
        with pytest.raises(ValueError, match="`data` of node 'a' must hold state numbers, none missing"):
            exact_search({"a": column})


def test_contradictory_rules_and_settings_are_named() -> None:
    table = sampled()
    with pytest.raises(ValueError, match="both `forbidden` and `required`"):
        exact_search(table, forbidden=[("a", "b")], required=[("a", "b")])
    with pytest.raises(ValueError, match="without a cycle"):
        tabu_search(table, required=[("a", "b"), ("b", "a")])
    with pytest.raises(ValueError, match="'b' more parents than `max_parents`, 1"):
        hill_climbing(table, required=[("a", "b"), ("c", "b")], max_parents=1)
    with pytest.raises(ValueError, match="no node 'z'"):
        hill_climbing(table, forbidden=[("a", "z")])
    with pytest.raises(ValueError, match="pairs"):
        hill_climbing(table, forbidden=["ab"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="`start` must obey"):
        hill_climbing(table, start=all_dags(4)[-1], max_parents=0)
    with pytest.raises(ValueError, match="`patience`"):
        tabu_search(table, patience=-1)
    with pytest.raises(ValueError, match="at most 20 nodes"):
        exact_search(torch.zeros(3, 21, dtype=torch.long))
    with pytest.raises(ValueError, match="`equivalent_sample_size`"):
        BDeu(0.0)
    with pytest.raises(ValueError, match="`graph` must be"):
        graph_score(nx.DiGraph([("a", "b")]), table, BIC())
