"""Graphs of equal score: the fewest edges win, in every search, against all graphs of up to four nodes."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor

from pyro_gen.infer import structure
from pyro_gen.infer.structure import AIC, BIC, BDeu, CategoricalTable, QuotientNML, Score, bootstrap_edges, chow_liu
from pyro_gen.infer.structure.scores import FamilyScores
from tests.infer.structure.graphs import all_dags, sampled

SCORES = (BIC(), BIC(0.0), AIC(), BDeu(1.0), BDeu(50.0), QuotientNML())
SEARCHES: dict[str, dict[str, Any]] = {
    "exact_search": {},
    "learn_structure": {},
    "tabu_search": {"restarts": 3},
    "hill_climbing": {"restarts": 8},
}
EQUAL = 1e-10
"""Relative difference of scores that are taken for equal here; those of other graphs lie farther apart."""


def test_every_search_by_score_is_tested_here() -> None:
    functions = {name: getattr(structure, name) for name in structure.__all__}
    searches = {name for name, f in functions.items() if inspect.isfunction(f) and "forbidden" in signature(f)}
    assert searches == SEARCHES.keys()


def signature(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


@cache
def degenerate() -> dict[str, CategoricalTable]:
    """Rows in which edges bring nothing: constant, equal, and exactly independent columns, and a single row."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (200,), generator=generator)
    y = torch.where(torch.rand(200, generator=generator) < 0.9, x, 1 - x)
    zero, three = torch.zeros_like(x), torch.randint(0, 3, (200,), generator=generator)
    even = torch.tensor(list(itertools.product(range(2), range(3), range(2), range(2)))).repeat(8, 1)

    def table(*columns: Tensor, states: Any = None) -> CategoricalTable:
        return CategoricalTable.of(dict(zip("abcd", columns, strict=False)), states)

    return {
        "a constant": table(x, zero, y),
        "a constant with two states": table(x, zero, y, states=2),
        "two constants": table(zero, x, zero, three, states={"a": 3, "b": 2, "c": 1, "d": 3}),
        "all constant": table(zero, zero, zero, zero),
        "copies": table(x, x, y, x),
        "copies and a constant": table(zero, x, y, x),
        "uniform": table(*even.T),
        "uniform but for one edge": table(even[:, 0], even[:, 1], even[:, 2], even[:, 0] ^ (even[:, 1] > 0).long()),
        "one row": table(x[:1], zero[:1], y[:1], states=2),
        "many rows": table(x.repeat(200), zero.repeat(200), x.repeat(200)),
        "dependent": sampled(rows=100),
    }


def scored(table: CategoricalTable, score: Score) -> Callable[[nx.DiGraph], float]:
    families = FamilyScores(table, score)
    index = table.index
    return lambda graph: sum(
        families.family(index[v], sum(1 << index[u] for u in graph.predecessors(v))) for v in graph
    )


def best_of(graphs: list[nx.DiGraph], value: Callable[[nx.DiGraph], float], size: float) -> tuple[float, int]:
    """The highest score of the graphs, and the fewest edges of those that have it."""
    values = [value(graph) for graph in graphs]
    highest = max(values)
    least = highest - EQUAL * max(size, abs(highest))
    return highest, min(g.number_of_edges() for g, v in zip(graphs, values, strict=True) if v >= least)


RULES: list[dict[str, Any]] = [
    {},
    {"max_parents": 1},
    {"forbidden": [("a", "b"), ("b", "a"), ("c", "a")]},
    {"required": [("a", "b")], "max_parents": 2},
]

RULED = ("a constant", "two constants", "copies and a constant", "uniform but for one edge")


def lawful(graph: nx.DiGraph, rules: dict[str, Any]) -> bool:
    most = max(dict(graph.in_degree).values())
    return (
        most <= rules.get("max_parents", 4)
        and not set(graph.edges) & set(rules.get("forbidden", ()))
        and set(graph.edges) >= set(rules.get("required", ()))
    )


@pytest.mark.parametrize("score", SCORES, ids=str)
@pytest.mark.parametrize("name", degenerate())
def test_of_equal_scores_the_fewest_edges_win_in_every_search(name: str, score: Score) -> None:
    table = degenerate()[name]
    value, size = scored(table, score), abs(score(torch.tensor([float(len(table))]).double(), 1.0, len(table)))
    for rules in RULES if name in RULED else RULES[:1]:
        graphs = [graph for graph in all_dags(len(table.nodes)) if lawful(graph, rules)]
        highest, edges = best_of(graphs, value, size)
        for search, settings in SEARCHES.items():
            torch.manual_seed(0)
            found = getattr(structure, search)(table, score, **settings, **rules)
            assert value(found) >= highest - EQUAL * max(size, abs(highest)), search
            assert found.number_of_edges() == edges, f"{search}, {rules}: {list(found.edges)}"


@pytest.mark.parametrize("score", SCORES, ids=str)
def test_edges_that_bring_nothing_are_deleted_from_the_start(score: Score) -> None:
    table = degenerate()["all constant"]
    full = nx.DiGraph(list(itertools.combinations(table.nodes, 2)))
    for search in ("hill_climbing", "tabu_search"):
        assert not getattr(structure, search)(table, score, start=full).edges


def test_a_score_of_zero_everywhere_gives_no_edges() -> None:
    for search in SEARCHES:
        assert not getattr(structure, search)(sampled(), lambda counts, cells, num_rows: 0.0).edges


def test_trees_and_resampled_structures_join_no_constant_and_no_independent_columns() -> None:
    for name, edges in (("a constant", 1), ("two constants", 1), ("all constant", 0), ("copies", 3), ("uniform", 0)):
        assert chow_liu(degenerate()[name]).number_of_edges() == edges, name
    torch.manual_seed(0)
    strength = bootstrap_edges(degenerate()["a constant"], num_samples=5).strength
    assert (strength[1] == 0).all()
    assert strength[0, 2] == 1


def test_a_tree_s_least_information_is_compared_up_to_rounding() -> None:
    """Three states, whose information log 3 is rounded."""
    x = torch.arange(3).repeat(7)
    information = chow_liu({"a": x, "b": x}).edges["a", "b"]["information"]
    for least in (information, information * (1 - 1e-15), information * (1 + 1e-15)):
        assert not chow_liu({"a": x, "b": x}, min_information=least).edges
    assert chow_liu({"a": x, "b": x}, min_information=information - 1e-6).edges
    even = torch.tensor(list(itertools.product(range(40), range(25)))).repeat(3, 1)
    assert not chow_liu(even).edges


def test_qnml_joins_independent_columns_where_rows_are_few_for_their_states() -> None:
    """What its docstring says: of 8 states, at 50 rows most pairs, at 400 none; by BIC none."""
    generator = torch.Generator().manual_seed(0)
    joined = {(rows, score): 0 for rows in (50, 400) for score in (QuotientNML(), BIC())}
    for rows, score in joined:
        for _ in range(60):
            families = FamilyScores(CategoricalTable.of(torch.randint(8, (rows, 2), generator=generator), 8), score)
            joined[rows, score] += families.family(0, 0b10) > families.family(0, 0)
    assert 30 < joined[50, QuotientNML()] < 60
    assert joined[400, QuotientNML()] == joined[50, BIC()] == joined[400, BIC()] == 0
