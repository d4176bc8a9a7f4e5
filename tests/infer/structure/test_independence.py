"""Tests of independence against tables, SciPy and their own null distribution; PC on data; edge confidence."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import stats

from pyro_gen.infer.structure import (
    BIC,
    CategoricalTable,
    EdgeConfidence,
    bootstrap_edges,
    cpdag,
    hill_climbing,
    independence_test,
    pc,
)
from tests.infer.structure.graphs import sampled


@pytest.mark.parametrize(("statistic", "power"), [("g2", "log-likelihood"), ("chi2", "pearson")])
def test_full_tables_give_what_scipy_gives(statistic: str, power: str) -> None:
    table = sampled(rows=400, seed=1)
    a, b = table.values[:, 0], table.values[:, 1]
    counts = torch.zeros(2, 3).index_put_((a, b), torch.ones(400), accumulate=True)
    expected = stats.chi2_contingency(counts.numpy(), correction=False, lambda_=power)
    found = independence_test(table, "a", "b", statistic=statistic)  # type: ignore[arg-type]
    assert found == pytest.approx((expected.statistic, expected.dof, expected.pvalue), rel=1e-6)


def test_strata_add_up_and_states_that_do_not_occur_add_no_degrees_of_freedom() -> None:
    table = sampled(rows=80, seed=2)
    whole = independence_test(table, "b", "d", ["a", "c"])
    statistic = freedom = 0.0
    for a in range(2):
        for c in range(2):
            rows = ((table.values[:, 0] == a) & (table.values[:, 2] == c)).nonzero().squeeze(-1)
            if len(rows):
                part = independence_test(table.rows(rows), "b", "d")
                counts = torch.zeros(3, 3).index_put_(
                    (table.values[rows, 1], table.values[rows, 3]), torch.ones(len(rows)), accumulate=True
                )
                seen = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
                assert part.degrees_of_freedom == (seen.shape[0] - 1) * (seen.shape[1] - 1)
                statistic, freedom = statistic + part.statistic, freedom + part.degrees_of_freedom
    assert whole.statistic == pytest.approx(statistic)
    assert whole.degrees_of_freedom == freedom
    wider = CategoricalTable(table.nodes, (9, 9, 9, 9), table.values)
    assert independence_test(wider, "b", "d", ["a", "c"]) == pytest.approx(whole)


def test_p_values_are_uniform_under_conditional_independence() -> None:
    # Kolmogorov and Smirnov: a false alarm with probability 1e-5 for each of the two statistics.
    generator = torch.Generator().manual_seed(0)
    for statistic in ("g2", "chi2"):
        found = []
        for _ in range(300):
            given = torch.randint(3, (3000,), generator=generator)
            x, y = (torch.rand(3000, generator=generator) < 0.2 + 0.2 * given for _ in range(2))
            data = {"x": x.long(), "y": y.long(), "given": given}
            found.append(independence_test(data, "x", "y", ["given"], statistic=statistic).p_value)
        assert stats.kstest(found, "uniform").pvalue > 1e-5


def test_a_node_of_one_state_is_independent_of_all() -> None:
    data = {"one": torch.zeros(9, dtype=torch.long), "other": torch.arange(9) % 2}
    assert independence_test(data, "one", "other") == (0.0, 0, 1.0)
    assert not pc(data).edges


def test_bad_tests_are_named() -> None:
    table = sampled()
    with pytest.raises(ValueError, match="different nodes"):
        independence_test(table, "a", "b", ["a"])
    with pytest.raises(ValueError, match="'g2' or 'chi2'"):
        independence_test(table, "a", "b", statistic="g")  # type: ignore[arg-type]


def collider(rows: int = 4000) -> CategoricalTable:
    generator = torch.Generator().manual_seed(3)
    a, b, coin = (torch.randint(2, (rows,), generator=generator) for _ in range(3))
    noisy = torch.rand(rows, generator=generator) < 0.1
    return CategoricalTable.of({"a": a, "b": b, "c": torch.where(noisy, 1 - (a & b), a & b), "coin": coin})


def test_pc_finds_a_collider_in_data_and_names_the_states() -> None:
    found = pc(collider(), statistic="chi2")
    assert set(found.edges) == {("a", "c"), ("b", "c")}
    assert found.nodes["coin"]["states"] == 2


def test_pc_keeps_the_edges_of_a_node_that_is_a_function_of_its_parents() -> None:
    generator = torch.Generator().manual_seed(5)
    a, b = ((torch.rand(6000, generator=generator) < 0.3).long() for _ in range(2))
    noisy = torch.rand(6000, generator=generator) < 0.1
    either = a | b
    found = pc({"a": a, "b": b, "either": either, "x-ray": torch.where(noisy, 1 - either, either)})
    assert set(found.edges) == {("a", "either"), ("b", "either"), ("either", "x-ray")}


def test_the_bootstrap_is_sure_of_a_collider_and_of_no_edge_to_a_coin() -> None:
    torch.manual_seed(0)
    found = bootstrap_edges(collider(), num_samples=30)
    assert found.edge("a", "c") == (1.0, 1.0)
    assert found.edge("c", "b") == (1.0, 0.0)
    assert (found.strength[3] < 0.5).all()
    network = found.averaged_network()
    assert {("a", "c"), ("b", "c")} == set(network.edges)
    assert network.edges["a", "c"] == {"strength": 1.0, "direction": 1.0}
    torch.manual_seed(0)
    again = bootstrap_edges(collider(), lambda rows: cpdag(hill_climbing(rows, BIC())), num_samples=5)
    assert again.edge("a", "c") == (1.0, 1.0)


def confidence(strengths: list[float], directions: list[float]) -> EdgeConfidence:
    """Three nodes; pairs ab, ac, bc."""
    directed = np.zeros((3, 3))
    for (i, j), strength, direction in zip(((0, 1), (0, 2), (1, 2)), strengths, directions, strict=True):
        directed[i, j], directed[j, i] = strength * direction, strength * (1 - direction)
    table = CategoricalTable.of(torch.zeros(1, 3, dtype=torch.long), {"a": 2, "b": 2, "c": 2})
    return EdgeConfidence(table, directed, 100)


def test_the_averaged_network_has_no_cycle_and_cuts_where_the_strengths_part() -> None:
    # a -> b -> c -> a by majority; the weakest edge is turned round.
    network = confidence([1.0, 0.8, 0.9], [0.9, 0.4, 0.7]).averaged_network(0.5)
    assert set(network.edges) == {("a", "b"), ("b", "c"), ("a", "c")}
    assert confidence([0.02, 0.05, 0.95], [0.5, 0.5, 1.0]).threshold() == pytest.approx(0.05)
    assert set(confidence([0.02, 0.05, 0.95], [0.5, 0.5, 1.0]).averaged_network().edges) == {("b", "c")}
    assert not confidence([0.0, 0.0, 0.0], [0.5] * 3).averaged_network().edges
    assert np.isnan(confidence([0.0, 0.0, 0.0], [0.5] * 3).edge("a", "b")[1])


def test_bad_bootstraps_are_named() -> None:
    with pytest.raises(ValueError, match="`num_samples`"):
        bootstrap_edges(sampled(), num_samples=0)
    with pytest.raises(ValueError, match="`learn`"):
        bootstrap_edges(sampled(), lambda rows: nx.DiGraph([("a", "b")]))
    with pytest.raises(ValueError, match="`threshold`"):
        confidence([0.0] * 3, [0.5] * 3).averaged_network(2.0)
