"""CPDAGs against all graphs of the same independences, and PC with d-separation for a test."""

from __future__ import annotations

from itertools import permutations

import networkx as nx
import pytest

from pyro_gen.infer.structure import cpdag, dag_extension, pc_from_tests, structural_hamming_distance
from tests.infer.structure.graphs import all_dags, independences, random_dag


def classes(size: int) -> list[list[nx.DiGraph]]:
    found: dict[frozenset[tuple[str, ...]], list[nx.DiGraph]] = {}
    for graph in all_dags(size):
        found.setdefault(independences(graph), []).append(graph)
    return list(found.values())


def test_the_cpdag_of_every_graph_of_four_nodes_unites_the_edges_of_its_markov_class() -> None:
    every = classes(4)
    assert len(every) == 185  # Gillispie and Perlman (2001), table 1
    for members in every:
        union = set().union(*(graph.edges for graph in members))
        assert all(set(cpdag(graph).edges) == union for graph in members)


def test_the_extension_of_a_cpdag_lies_in_its_class_and_distances_are_zero_within_classes_only() -> None:
    every = classes(3)
    for members in every:
        assert set(dag_extension(cpdag(members[0])).edges) in [set(graph.edges) for graph in members]
        for other in every:
            near = structural_hamming_distance(members[0], cpdag(other[-1]))
            assert (near == 0) == (other is members)


def test_a_larger_cpdag_is_that_of_its_extension() -> None:
    for seed in range(30):
        graph = random_dag(12, seed, density=0.3)
        whole = cpdag(graph)
        assert set(cpdag(dag_extension(whole)).edges) == set(whole.edges)
        assert structural_hamming_distance(graph, whole) == 0


def test_the_distance_counts_each_pair_once() -> None:
    first = nx.DiGraph([("a", "c"), ("b", "c"), ("c", "d")])
    second = nx.DiGraph([("c", "a"), ("c", "b")])
    second.add_node("d")
    # a - c and b - c lose their direction, c - d is gone.
    assert structural_hamming_distance(first, second) == 3
    assert structural_hamming_distance(first, second, equivalence=False) == 3
    assert structural_hamming_distance(second, first) == 3


def test_bad_graphs_are_named() -> None:
    with pytest.raises(ValueError, match="cycle"):
        cpdag(nx.DiGraph([("a", "b"), ("b", "a")]))
    with pytest.raises(ValueError, match=r"networkx\.DiGraph"):
        cpdag(nx.Graph([("a", "b")]))
    with pytest.raises(ValueError, match="only one of them has c"):
        structural_hamming_distance(nx.DiGraph([("a", "b")]), nx.DiGraph([("a", "c"), ("c", "b")]))
    square = nx.Graph([("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]).to_directed()
    with pytest.raises(ValueError, match="consistent extension"):
        dag_extension(square)
    with pytest.raises(ValueError, match="cycle of directed edges"):
        dag_extension(nx.DiGraph([("a", "b"), ("b", "c"), ("c", "a")]))


@pytest.mark.parametrize("seed", range(40))
def test_pc_with_d_separation_for_a_test_finds_the_exact_cpdag(seed: int) -> None:
    graph = random_dag(3 + seed % 5, seed, density=0.5)

    def oracle(first: str, second: str, given: tuple[str, ...]) -> float:
        return float(nx.is_d_separator(graph, {first}, {second}, set(given)))

    found = pc_from_tests(sorted(graph), oracle)
    assert set(found.edges) == set(cpdag(graph).edges)
    assert found.graph["conflicts"] == []
    for (x, y), given in found.graph["separating_sets"].items():
        assert oracle(x, y, given)


def test_pc_makes_a_cpdag_of_answers_that_no_graph_gives() -> None:
    separated = {("a", "c"): ("b", "d"), ("b", "d"): ("a", "c")}

    def square(first: str, second: str, given: tuple[str, ...]) -> float:
        return float(separated.get((min(first, second), max(first, second))) == tuple(sorted(given)))

    found = pc_from_tests("abcd", square)
    assert {frozenset(edge) for edge in found.edges} == {frozenset(edge) for edge in ("ab", "bc", "cd", "da")}
    assert set(cpdag(dag_extension(found)).edges) == set(found.edges)
    assert found.graph["conflicts"] != []


def test_of_two_colliders_that_contradict_pc_keeps_the_one_of_the_larger_p_value_in_any_order_of_nodes() -> None:
    p_values = {frozenset("xy"): 0.9, frozenset("zw"): 0.4, frozenset("xw"): 0.5}

    def chain(first: str, second: str, given: tuple[str, ...]) -> float:
        return 0.0 if given else p_values.get(frozenset((first, second)), 0.0)

    results = [pc_from_tests(order, chain) for order in permutations("xzyw")]
    assert all(set(found.edges) == {("x", "z"), ("y", "z"), ("y", "w"), ("w", "y")} for found in results)
    assert all(len(found.graph["conflicts"]) == 1 for found in results)


def test_a_bound_on_the_condition_leaves_edges_and_bad_settings_are_named() -> None:
    graph = nx.DiGraph([("a", "b"), ("b", "c")])

    def oracle(first: str, second: str, given: tuple[str, ...]) -> float:
        return float(nx.is_d_separator(graph, {first}, {second}, set(given)))

    assert len(pc_from_tests("abc", oracle, max_given=0).edges) == 6
    for bad, match in (({"alpha": 1.0}, "`alpha`"), ({"max_given": -1}, "`max_given`")):
        with pytest.raises(ValueError, match=match):
            pc_from_tests("abc", oracle, **bad)
    with pytest.raises(ValueError, match="different names"):
        pc_from_tests("aba", oracle)
