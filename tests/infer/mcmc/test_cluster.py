"""Cluster moves keep the enumerated distribution, with couplings of either sign, and decorrelate at criticality."""

from __future__ import annotations

import pytest
import torch

from pyro_gen.distributions import RBM, BernoulliUnits, BoltzmannMachine, SpinUnits, ising_lattice, lattice_edges
from pyro_gen.infer import BlockGibbs, SwendsenWang
from pyro_gen.infer.mcmc.block_gibbs import GibbsState
from pyro_gen.infer.mcmc.cluster import clusters_of
from pyro_gen.testing import goodness_of_fit
from tests.marks import slow

P_LIMIT = 1e-7
"""False-alarm rate of each goodness-of-fit test; fewer than 20 are made."""


@pytest.mark.parametrize("units", [BernoulliUnits(), SpinUnits()])
@pytest.mark.parametrize("moves", [3, *slow(1)])
def test_moves_keep_the_enumerated_distribution_and_reach_it(units: BernoulliUnits | SpinUnits, moves: int) -> None:
    n = 20_000
    values, bias = torch.randn(7).double(), torch.randn(6).double()
    machine = BoltzmannMachine.from_edges(lattice_edges(2, 3, periodic=False), values, bias, units=units)
    rows = machine.enumerate_support()
    distribution = machine.log_prob(rows).exp()
    kernel = SwendsenWang(machine, num_steps=moves, num_chains=n)
    for start, steps in ((machine.sample((n,)), 1), (kernel.init(seed=1).value, 60 // moves)):
        state = GibbsState(start, 7, 0)
        for _ in range(steps):
            state, info = kernel.step(state)
        code = (units.bits(state.value)).long() @ (1 << torch.arange(6))
        assert goodness_of_fit(torch.bincount(code, minlength=64), distribution) > P_LIMIT
        torch.testing.assert_close(info.free_energy, machine.energy(state.value))


def test_clusters_are_the_connected_components() -> None:
    import networkx as nx

    edges = lattice_edges(6, 7)
    bound = torch.rand(20, len(edges)) < torch.linspace(0, 1, 20)[:, None]
    found = clusters_of(edges, bound, 42)
    for chain in range(20):
        graph = nx.empty_graph(42)
        graph.add_edges_from(edges[bound[chain]].tolist())
        for component in nx.connected_components(graph):
            assert set(found[chain, list(component)].tolist()) == {min(component)}


def test_at_the_critical_point_clusters_forget_and_single_units_do_not() -> None:
    """From all up, ten moves against ten sweeps of a 24x24 lattice: |mean magnetisation| of 200 chains."""
    machine, start = ising_lattice(24, 24, 0.4407), torch.ones(200, 576)
    means = {}
    for name, kernel in {
        "clusters": SwendsenWang(machine, 10, 200, start),
        "units": BlockGibbs(machine, 10, 200, start),
    }.items():
        state, _ = kernel.step(kernel.init(seed=2))
        means[name] = state.value.mean(-1).mean().item()
    assert abs(means["clusters"]) < 6 / 200**0.5  # symmetric after the first move: false alarm 2e-9
    assert means["units"] > 0.6


def test_other_distributions_are_refused() -> None:
    with pytest.raises(ValueError, match="must be a BoltzmannMachine"):
        SwendsenWang(RBM(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2)))
