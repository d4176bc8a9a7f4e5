"""The Boltzmann machine against sums over all states, pair by pair, and its sampler against their distribution."""

from __future__ import annotations

import math
from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gen.distributions import (
    RBM,
    BernoulliUnits,
    BoltzmannMachine,
    CouplingGraph,
    SpinUnits,
    ising_lattice,
    lattice_edges,
)
from pyro_gen.infer import AIS, BlockGibbs, ContrastiveDivergence, Exact, PersistentChains, log_partition_bracket
from pyro_gen.testing import goodness_of_fit, state_index, states
from tests.marks import slow

UNITS = [BernoulliUnits(), SpinUnits()]
P_LIMIT = 1e-7
"""Goodness-of-fit p-value below which a test fails; fewer than a hundred are taken, so below 1e-5 for all."""


def all_states(num_units: int, units: object) -> Tensor:
    bits = states(num_units)
    return 2 * bits - 1 if isinstance(units, SpinUnits) else bits


def brute(coupling: Tensor, bias: Tensor, rows: Tensor) -> Tensor:
    """Minus the energy of every row, one pair after the other."""
    total = rows @ bias
    for i in range(len(bias)):
        for j in range(i):
            total = total + coupling[i, j] * rows[:, i] * rows[:, j]
    return total


def dense(num_units: int, scale: float = 0.5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A random symmetric matrix and a random bias."""
    rng = np.random.default_rng(seed)
    upper = torch.tensor(scale * rng.normal(size=(num_units, num_units))).triu(1)
    return upper + upper.mT, torch.tensor(scale * rng.normal(size=num_units))


def machines(units: BernoulliUnits | SpinUnits) -> dict[str, tuple[BoltzmannMachine, Tensor, Tensor]]:
    """Machines with their matrix and bias: random ones of ten units, and a lattice with random couplings."""
    found = {}
    coupling, bias = dense(10)
    found["matrix"] = BoltzmannMachine(coupling, bias, units=units), coupling, bias
    for name, edges in {"lattice": lattice_edges(3, 3), "path": lattice_edges(1, 9, periodic=False)}.items():
        values = torch.tensor(np.random.default_rng(1).normal(size=len(edges)))
        bias = dense(9)[1]
        machine = BoltzmannMachine.from_edges(edges, values, bias, units=units)
        matrix = torch.zeros(9, 9, dtype=torch.float64)
        for (i, j), value in zip(edges.tolist(), values.tolist(), strict=True):
            matrix[i, j] = matrix[j, i] = value
        found[name] = machine, matrix, bias
    return found


def leaves_of(machine: BoltzmannMachine) -> tuple[Tensor, Tensor]:
    return machine.coupling.clone().requires_grad_(), machine.bias.clone().requires_grad_()


def counts(draws: Tensor) -> Tensor:
    """How often each state came, in the order of `states`."""
    num_units = draws.shape[-1]
    code = (draws > 0).long() @ (1 << torch.arange(num_units - 1, -1, -1))
    return torch.bincount(code.flatten(), minlength=2**num_units)


KINDS = ["matrix", "lattice", "path"]


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", KINDS)
def test_energies_probabilities_and_conditionals_are_enumerated(kind: str, units: BernoulliUnits | SpinUnits) -> None:
    machine, coupling, bias = machines(units)[kind]
    rows = all_states(len(bias), units)
    scores = brute(coupling, bias, rows)
    torch.testing.assert_close(machine.energy(rows), -scores)
    torch.testing.assert_close(machine.log_prob(rows), scores.log_softmax(0))
    torch.testing.assert_close(machine.log_partition().value, scores.logsumexp(0))
    conditionals = torch.zeros(len(rows), dtype=torch.float64)
    for i in range(len(bias)):
        flipped = rows.clone()
        flipped[:, i] = rows.max() + rows.min() - rows[:, i]
        conditionals += scores - torch.logaddexp(scores, brute(coupling, bias, flipped))
    torch.testing.assert_close(machine.pseudo_log_likelihood(rows), conditionals)


def test_a_coupling_counts_once_and_spins_are_not_zeros_and_ones() -> None:
    """Two spins: log odds of equality 2 J; two units of zeros and ones: log odds of 11 against 00 J."""
    coupling, bias = torch.tensor([[0.0, 0.7], [0.7, 0.0]]), torch.zeros(2)
    spins, bits = BoltzmannMachine(coupling, bias, units=SpinUnits()), BoltzmannMachine(coupling, bias)
    up, down = torch.tensor([1.0, 1.0]), torch.tensor([1.0, -1.0])
    torch.testing.assert_close(spins.log_prob(up) - spins.log_prob(down), torch.tensor(1.4))
    torch.testing.assert_close(bits.log_prob(up) - bits.log_prob(torch.zeros(2)), torch.tensor(0.7))
    field = BoltzmannMachine(torch.zeros(1, 1), torch.tensor([0.7]), units=SpinUnits())
    assert field.log_prob(torch.ones(1)).exp() == pytest.approx(1 / (1 + math.exp(-1.4)))
    share = field.gibbs(-torch.ones(100_000, 1), 1).mean()  # tanh(0.7); a mixed-up factor 2 gives tanh(0.35)
    assert abs(share - math.tanh(0.7)) < 6 * math.sqrt((1 - math.tanh(0.7) ** 2) / 1e5)  # false alarm 2e-9
    with pytest.raises(ValueError, match="value"):
        spins.log_prob(torch.zeros(2))
    with pytest.raises(ValueError, match="value"):
        bits.log_prob(-torch.ones(2))


@pytest.mark.parametrize("kind", KINDS)
def test_spins_are_zeros_and_ones_with_other_parameters(kind: str) -> None:
    """With y = (1 + s) / 2 and J' = 4 J, b' = 2 b - 2 J 1 give the same distribution, pseudo-likelihood included."""
    machine, coupling, bias = machines(SpinUnits())[kind]
    bits = BoltzmannMachine(4 * coupling, 2 * (bias - coupling.sum(-1)))
    rows = states(len(bias))
    torch.testing.assert_close(machine.log_prob(2 * rows - 1), bits.log_prob(rows))
    torch.testing.assert_close(machine.pseudo_log_likelihood(2 * rows - 1), bits.pseudo_log_likelihood(rows))


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_enumerated_likelihood(kind: str, units: BernoulliUnits | SpinUnits) -> None:
    machine, coupling, bias = machines(units)[kind]
    rows = all_states(len(bias), units)
    share = torch.linspace(-1, 2, len(rows), dtype=torch.float64)
    leaves = leaves_of(machine)
    (share * BoltzmannMachine(*leaves, units=units, graph=machine.graph).log_prob(rows)).sum().backward()
    ours = [x.requires_grad_() for x in (coupling.clone(), bias.clone())]
    (share * brute(ours[0], ours[1], rows).log_softmax(0)).sum().backward()
    theirs = ours[0].grad
    assert theirs is not None
    pairs = theirs.tril() + theirs.tril().mT  # the brute force reads only what lies below the diagonal
    expected = pairs / 2 if machine.graph is None else pairs[machine.graph.edges[:, 0], machine.graph.edges[:, 1]]
    found = leaves[0].grad
    assert found is not None
    torch.testing.assert_close(found if machine.graph else found - found.diag().diag(), expected)
    torch.testing.assert_close(leaves[1].grad, ours[1].grad)


@pytest.mark.parametrize("units", UNITS)
def test_an_entry_of_a_matrix_that_is_zero_has_a_gradient(units: BernoulliUnits | SpinUnits) -> None:
    coupling, bias = torch.zeros(3, 3).double().requires_grad_(), dense(3)[1]
    BoltzmannMachine(coupling, bias, units=units).log_partition().value.backward()
    rows = all_states(3, units)
    moments = torch.einsum("s,si,sj->ij", (rows @ bias).softmax(0), rows, rows)
    torch.testing.assert_close(coupling.grad, moments / 2)


def test_a_streamed_sum_is_the_sum_in_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for size in (2**22, 2**9):
        monkeypatch.setattr("pyro_gen.distributions.energy.coupling_sum.BLOCK_BYTES", size)
        machine, _, _ = machines(SpinUnits())["lattice"]
        leaves = leaves_of(machine)
        value = BoltzmannMachine(*leaves, units=SpinUnits(), graph=machine.graph).log_sum()
        value.backward()
        results.append([value.detach(), *(p.grad for p in leaves)])
    for one, many in zip(*results, strict=True):
        torch.testing.assert_close(one, many)


@pytest.mark.parametrize("units", UNITS)
def test_an_rbm_is_the_machine_over_both_its_layers(units: BernoulliUnits | SpinUnits) -> None:
    rng = np.random.default_rng(3)
    weight, vbias, hbias = (torch.tensor(rng.normal(size=shape)) for shape in ((6, 4), (6,), (4,)))
    rbm = RBM(weight, vbias, hbias, visible_units=units, hidden_units=units)
    machine = BoltzmannMachine.from_rbm(rbm)
    v, h = all_states(6, units).unsqueeze(1).expand(-1, 16, -1), all_states(4, units).expand(64, -1, -1)
    joint = torch.cat([v, h], -1)
    torch.testing.assert_close(machine.energy(joint), rbm.energy(v, h), rtol=0, atol=1e-10)
    torch.testing.assert_close(machine.log_prob(joint), rbm.log_joint(v, h), rtol=0, atol=1e-10)
    torch.testing.assert_close(machine.log_prob(joint).logsumexp(1), rbm.log_prob(v[:, 0]), rtol=0, atol=1e-10)
    assert machine.enumerated_units == 4
    assert machine.graph is not None
    assert machine.graph.blocks == [(0, 6), (6, 10)]


def test_a_machine_of_an_rbm_is_exact_where_the_rbm_is() -> None:
    rbm = RBM(torch.randn(784, 10).double() / 10, torch.randn(784).double(), torch.randn(10).double())
    found = BoltzmannMachine.from_rbm(rbm).log_partition()
    torch.testing.assert_close(found.value, rbm.log_partition().value, rtol=1e-12, atol=0)


def test_an_rbm_of_many_rbms_is_a_batch_of_machines() -> None:
    rbm = RBM(torch.randn(3, 1, 4, 2), torch.randn(2, 4), torch.randn(2))
    machine = BoltzmannMachine.from_rbm(rbm)
    assert machine.batch_shape == (3, 2)
    v, h = rbm.sample_joint((5,))
    torch.testing.assert_close(machine.log_prob(torch.cat([v, h], -1)), rbm.log_joint(v, h), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "units"),
    [
        *zip(KINDS, [*UNITS, UNITS[0]], strict=True),
        *slow(*zip(KINDS, [*UNITS[::-1], UNITS[1]], strict=True)),
    ],
)
def test_exact_draws_and_long_chains_have_the_enumerated_distribution(
    kind: str, units: BernoulliUnits | SpinUnits
) -> None:
    machine, coupling, bias = machines(units)[kind]
    rows = all_states(len(bias), units)
    distribution, n = brute(coupling, bias, rows).softmax(0), 40_000
    start = machine.base_states(torch.zeros_like(bias), n, seed=5)
    for name, drawn in {"exact": machine.sample((n,)), "chains": machine.gibbs(start, 150)}.items():
        found = counts(drawn)
        assert goodness_of_fit(found, distribution) > P_LIMIT, name
        assert goodness_of_fit(found, distribution.flip(0)) < P_LIMIT, name  # the test can fail


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_sweep_is_the_product_of_its_conditionals(kind: str, units: BernoulliUnits | SpinUnits) -> None:
    """Stationarity, the distribution after one sweep from a fixed state, and every unit's autocovariance at lag one."""
    machine, coupling, bias = machines(units)[kind]
    rows = all_states(len(bias), units)
    distribution, n = brute(coupling, bias, rows).softmax(0), 200_000
    graph = machine.graph or CouplingGraph.of_matrix(coupling != 0)
    steps = [update(distribution, rows, unit) for unit in graph.order.tolist()]
    source = len(rows) // 3
    now, stationary = torch.eye(len(rows), dtype=torch.float64)[source], distribution
    for flipped, stay in steps:
        now, stationary = (stay * (p + p[flipped]) for p in (now, stationary))
    torch.testing.assert_close(stationary, distribution)
    after = machine.gibbs(rows[source].expand(n, -1), 1)
    assert goodness_of_fit(counts(after), now) > P_LIMIT
    before = machine.sample((n,))
    after = machine.gibbs(before, 1)
    assert goodness_of_fit(counts(after), distribution) > P_LIMIT
    expected = rows
    for flipped, stay in reversed(steps):
        expected = stay[:, None] * expected + (1 - stay)[:, None] * expected[flipped]
    mean, products = distribution @ rows, (before - distribution @ rows) * (after - distribution @ rows)
    error = products.std(0) / math.sqrt(n)
    assert (
        (products.mean(0) - distribution @ ((rows - mean) * (expected - mean))).abs() < 6 * error
    ).all()  # 2e-9 a unit


def update(distribution: Tensor, rows: Tensor, unit: int) -> tuple[Tensor, Tensor]:
    """Where each state is with one unit flipped, and the conditional probability of the unit's value."""
    changed = rows.clone()
    changed[:, unit] = rows.max() + rows.min() - rows[:, unit]
    flipped = state_index(changed, rows)
    return flipped, distribution / (distribution + distribution[flipped])


def test_units_of_one_colour_are_never_neighbours() -> None:
    graphs = {
        "lattice": (lattice_edges(4, 4), 2),
        "odd lattice": (lattice_edges(5, 5), 3),
        "triangle": (torch.tensor([[0, 1], [1, 2], [2, 0]]), 3),
        "path": (lattice_edges(1, 6, periodic=False), 2),
        "no edges": (torch.zeros(0, 2, dtype=torch.long), 1),
    }
    for name, (edges, expected) in graphs.items():
        graph = CouplingGraph(int(edges.max()) + 1 if len(edges) else 4, edges)
        colors = graph.colors
        assert (colors[edges[:, 0]] != colors[edges[:, 1]]).all(), name
        assert expected <= len(graph.blocks) <= expected + 1, (name, len(graph.blocks))
        assert sorted(torch.cat([graph.rest, graph.free]).tolist()) == list(range(graph.num_units))
    assert CouplingGraph.complete(5).colors.tolist() == list(range(5))


def test_the_sampler_depends_neither_on_tiles_nor_on_how_sweeps_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = ising_lattice(6, 6, 0.4)
    start = machine.base_states(torch.zeros(36), 200, seed=1)
    whole = machine.sweep(start, 4, seed=7, step=0)
    halves = machine.sweep(machine.sweep(start, 2, seed=7, step=0), 2, seed=7, step=2)
    assert torch.equal(whole, halves)
    annealed = machine.anneal(start, torch.zeros(36), torch.linspace(0, 1, 5), seed=7)
    monkeypatch.setattr("pyro_gen.distributions.energy.chromatic.TILE_NUMBERS", 64 * 36)
    for one, other in zip(annealed, machine.anneal(start, torch.zeros(36), torch.linspace(0, 1, 5), 7), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whole, machine.sweep(start, 4, seed=7, step=0))
    assert torch.equal(whole[:130], machine.sweep(start[:130], 4, seed=7, step=0))
    assert not torch.equal(whole, machine.sweep(start, 4, seed=8, step=0))


def test_elements_of_a_batch_have_random_numbers_of_their_own() -> None:
    """Free units: 1800 bits a chain of either element, which agree by chance once in 2^1800."""
    machine = BoltzmannMachine.from_edges(lattice_edges(6, 6), torch.zeros(2, 72), torch.zeros(36), units=SpinUnits())
    start = torch.ones(50, 2, 36)
    one, other = machine.sweep(start, 1, 7, 0).unbind(1)
    assert not torch.equal(one, other)
    one, other = machine.anneal(start, torch.zeros(36), torch.linspace(0, 1, 3), 7)[1].unbind(1)
    assert not torch.equal(one, other)


def test_couplings_as_matrix_and_as_edges_give_the_same_chains() -> None:
    edges = lattice_edges(4, 4)
    values, bias = torch.randn(32).double(), torch.randn(16).double()
    sparse = BoltzmannMachine.from_edges(edges, values, bias, units=SpinUnits())
    assert sparse.graph is not None
    full = BoltzmannMachine(sparse.graph.matrix(values), bias, units=SpinUnits())
    start = sparse.base_states(bias, 50, seed=3)
    assert torch.equal(sparse.sweep(start, 3, 1, 0), full.sweep(start, 3, 1, 0))
    torch.testing.assert_close(sparse.energy(start), full.energy(start))
    torch.testing.assert_close(sparse.field(start), full.field(start))


def test_a_matrix_changed_in_place_is_coloured_anew() -> None:
    """Two units that were free get a strong coupling: chains that still took them for independent would show it."""
    coupling = torch.zeros(2, 2).double()
    machine = BoltzmannMachine(coupling, torch.zeros(2).double(), units=SpinUnits())
    start = machine.sample((1000,))
    machine.gibbs(start, 1)
    coupling.copy_(torch.tensor([[0.0, 3.0], [3.0, 0.0]]))
    equal = machine.gibbs(start, 5).prod(-1).mean()
    assert equal > 0.95  # tanh(3) = 0.995, standard error 0.003


@pytest.mark.parametrize("units", UNITS)
def test_batched_parameters_equal_a_loop(units: BernoulliUnits | SpinUnits) -> None:
    edges = lattice_edges(2, 3, periodic=False)
    values, bias = torch.randn(3, 1, 7).double(), torch.randn(2, 6).double()
    batch = BoltzmannMachine.from_edges(edges, values, bias, units=units)
    rows = all_states(6, units)
    n = 20_000
    chains = batch.gibbs(batch.base_states(torch.zeros(6), n, seed=2), 60)
    exact = batch.sample((n,))
    for i in range(3):
        for j in range(2):
            one = BoltzmannMachine.from_edges(edges, values[i, 0], bias[j], units=units)
            torch.testing.assert_close(batch.log_prob(rows[:, None, None])[:, i, j], one.log_prob(rows))
            torch.testing.assert_close(batch.log_partition().value[i, j], one.log_partition().value)
            torch.testing.assert_close(
                batch.pseudo_log_likelihood(rows[:, None, None])[:, i, j], one.pseudo_log_likelihood(rows)
            )
            distribution = one.log_prob(rows).exp()
            assert goodness_of_fit(counts(chains[:, i, j]), distribution) > P_LIMIT
            assert goodness_of_fit(counts(exact[:, i, j]), distribution) > P_LIMIT
    assert batch.expand((4, 3, 2)).sample((5,)).shape == (5, 4, 3, 2, 6)
    assert batch.expand((4, 3, 2)).gibbs(exact[0], 1).shape == (4, 3, 2, 6)


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base_rates", [0.3, *slow(None)])
def test_annealing_finds_the_enumerated_log_z(
    kind: str, units: BernoulliUnits | SpinUnits, base_rates: float | None
) -> None:
    """Forwards and backwards within six standard errors of log Z: the space is the sampler's own, -1/+1 or {0, 1}."""
    machine, coupling, bias = machines(units)[kind]
    rates = None if base_rates is None else torch.full_like(bias, base_rates)  # a mean: 0.3 of a spin is a rate of 0.65
    estimated = BoltzmannMachine(
        machine.coupling, bias, AIS(2000, 100, base_rates=rates), units=units, graph=machine.graph
    )
    exact = brute(coupling, bias, all_states(len(bias), units)).logsumexp(0)
    bracket = log_partition_bracket(estimated, machine.sample((2000,)), burn_in=1)
    for estimate in (bracket.forward, bracket.reverse):
        assert abs(estimate.value - exact) < 6 * estimate.standard_error, estimate
        assert estimate.standard_error < 0.1


def test_annealing_of_a_batch_is_that_of_its_elements() -> None:
    edges = lattice_edges(3, 3)
    values, bias = torch.randn(2, 18).double() / 2, torch.randn(9).double()
    batch = BoltzmannMachine.from_edges(edges, values, bias, units=SpinUnits())
    found = BoltzmannMachine.from_edges(edges, values, bias, units=SpinUnits(), partition=AIS(2000, 100))
    estimate = found.log_partition()
    assert estimate.value.shape == (2,)
    assert ((estimate.value - batch.log_partition().value).abs() < 6 * estimate.standard_error).all()


def test_sums_of_the_4x4_ising_lattice_are_those_of_the_literature() -> None:
    """Beale (1996): a periodic 4x4 lattice has 2 states of energy -32, 32 of energy -24, 64 of energy -20, ..."""
    multiplicity = {-32: 2, -24: 32, -20: 64, -16: 424, -12: 1728, -8: 6688, -4: 13568, 0: 20524}
    table = multiplicity | {-energy: count for energy, count in multiplicity.items()}
    energies, counts = (torch.tensor(list(x), dtype=torch.float64) for x in (table.keys(), table.values()))
    assert counts.sum() == 2**16
    coupling = torch.tensor([0.2, 0.44, 0.8], dtype=torch.float64, requires_grad=True)
    ising = ising_lattice(4, 4, coupling)
    log_z = ising.log_partition().value
    torch.testing.assert_close(log_z, (counts.log() - coupling[:, None] * energies).logsumexp(-1))
    (mean,) = torch.autograd.grad(log_z.sum(), coupling)
    weight = (counts.log() - coupling[:, None] * energies).softmax(-1)
    torch.testing.assert_close(mean, -(weight * energies).sum(-1))


@pytest.mark.slow
def test_chains_of_the_4x4_ising_lattice_have_its_energy_and_magnetisation() -> None:
    """20 000 chains, three temperatures: within 6 standard errors of the enumerated means (false alarm 2e-9 each)."""
    for coupling in (0.2, 0.3, 0.44):
        ising = ising_lattice(4, 4, coupling, field=0.05)
        rows = ising.enumerate_support()
        distribution = ising.log_prob(rows).exp()
        draws = ising.gibbs(ising.base_states(torch.zeros(16), 20_000, seed=1), 200)
        for function in (ising.energy, lambda x: x.mean(-1), lambda x: x.mean(-1).abs()):
            values = function(rows)
            mean = distribution @ values
            error = ((distribution @ (values - mean) ** 2) / 20_000).sqrt()
            assert abs(function(draws).mean() - mean) < 6 * error


def test_block_gibbs_runs_it() -> None:
    machine = ising_lattice(4, 4, 0.3)
    kernel = BlockGibbs(machine, num_steps=100, num_chains=500)
    state, info = kernel.step(kernel.init(seed=1))
    assert set(state.value.unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(info.free_energy, machine.energy(state.value))


@pytest.mark.parametrize("units", UNITS)
def test_contrastive_gradient_is_a_difference_of_moments(units: BernoulliUnits | SpinUnits) -> None:
    edges = lattice_edges(3, 3)
    values, bias = torch.randn(18).double().requires_grad_(), torch.randn(9).double().requires_grad_()
    machine = BoltzmannMachine.from_edges(edges, values, bias, units=units, partition=ContrastiveDivergence(2))
    rows = all_states(9, units)[torch.randint(512, (50,))]
    contrast = machine.log_prob(rows)
    contrast.sum().backward()
    phase = machine.partition
    particles = machine.sweep(rows, 2, getattr(phase, "seed"), 0)  # noqa: B009  # private to the phase
    graph = machine.graph
    assert graph is not None
    torch.testing.assert_close(values.grad, (graph.pair_products(rows) - graph.pair_products(particles)).sum(0))
    torch.testing.assert_close(bias.grad, (rows - particles).sum(0))


def test_entropy_and_divergence_are_sums_over_states() -> None:
    coupling, bias = dense(5)
    p, q = BoltzmannMachine(coupling, bias, units=SpinUnits()), BoltzmannMachine(-coupling, bias, units=SpinUnits())
    rows = all_states(5, SpinUnits())
    log_p, log_q = brute(coupling, bias, rows).log_softmax(0), brute(-coupling, bias, rows).log_softmax(0)
    torch.testing.assert_close(p.entropy(), -(log_p.exp() * log_p).sum())
    torch.testing.assert_close(kl_divergence(p, q), (log_p.exp() * (log_p - log_q)).sum())
    with pytest.raises(ValueError, match="of one kind"):
        kl_divergence(p, BoltzmannMachine(coupling, bias))


def test_a_networkx_graph_brings_couplings_and_biases() -> None:
    graph: nx.Graph[str] = nx.Graph()
    graph.add_node("a", bias=0.5)
    graph.add_edge("a", "b", weight=-1.0)
    graph.add_edge("b", "c")
    machine = BoltzmannMachine.from_networkx(graph, units=SpinUnits())
    assert machine.bias.tolist() == [0.5, 0.0, 0.0]
    value = torch.tensor([1.0, 1.0, -1.0])
    assert machine.energy(value) == -(0.5 - 1.0 - 1.0)
    with pytest.raises(ValueError, match="undirected"):
        BoltzmannMachine.from_networkx(nx.DiGraph([(0, 1)]))
    with pytest.raises(ValueError, match="different units"):
        BoltzmannMachine.from_networkx(nx.Graph([(0, 0)]))


def test_beyond_20_enumerated_units_nothing_is_estimated_unasked() -> None:
    machine = ising_lattice(7, 7, 0.4)
    assert machine.enumerated_units > 20
    with pytest.raises(ValueError, match=r"AIS\(.*Exact\("):
        machine.log_prob(torch.ones(49))
    with pytest.raises(ValueError, match="`num_steps`"):
        machine.sample()
    assert ising_lattice(7, 7, 0.4, num_steps=2).sample((3,)).shape == (3, 49)
    assert ising_lattice(6, 6, 0.4).log_partition().method == "exact"  # 18 of the 36 sites are enumerated


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "asymmetric": (lambda: BoltzmannMachine(torch.ones(3, 3).triu(1), torch.zeros(3)), "must be symmetric"),
    "diagonal": (lambda: BoltzmannMachine(torch.ones(3, 3), torch.zeros(3)), "zero diagonal"),
    "infinite": (lambda: BoltzmannMachine(torch.full((3, 3), math.inf), torch.zeros(3)), "`coupling` must be finite"),
    "shape": (
        lambda: BoltzmannMachine(torch.zeros(3, 2), torch.zeros(3)),
        r"`coupling` must have shape \(\.\.\., 3, 3",
    ),
    "edges": (
        lambda: BoltzmannMachine(torch.zeros(2), torch.zeros(3), graph=CouplingGraph.complete(3)),
        r"`coupling` must have shape \(\.\.\., 3\) to match `graph`",
    ),
    "graph": (
        lambda: BoltzmannMachine(torch.zeros(3), torch.zeros(4), graph=CouplingGraph.complete(3)),
        r"`bias` must have shape \(\.\.\., 3\) to match `graph`",
    ),
    "dtype": (lambda: BoltzmannMachine(torch.zeros(3, 3), torch.zeros(3).double()), "`bias` must be torch.float32"),
    "integers": (lambda: BoltzmannMachine(torch.zeros(3, 3).long(), torch.zeros(3)), "`coupling` must be float32"),
    "scalar bias": (lambda: BoltzmannMachine(torch.zeros(3, 3), torch.zeros(())), "`bias` must have shape"),
    "batches": (lambda: BoltzmannMachine(torch.zeros(2, 3, 3), torch.zeros(4, 3)), "must broadcast"),
    "units": (lambda: BoltzmannMachine(torch.zeros(3, 3), torch.zeros(3), units=3), "`units` must be binary"),  # type: ignore[arg-type]
    "steps": (lambda: BoltzmannMachine(torch.zeros(3, 3), torch.zeros(3), num_steps=0), "`num_steps`"),
    "partition": (lambda: BoltzmannMachine(torch.zeros(3, 3), torch.zeros(3), 3), "`partition` must be"),  # type: ignore[arg-type]
    "phase": (lambda: BoltzmannMachine(torch.zeros(3, 3), torch.zeros(3), PersistentChains()), "needs chains"),
    "exact": (lambda: BoltzmannMachine(torch.zeros(30, 30), torch.zeros(30), Exact()), r"max_units=25"),
    "loop": (lambda: CouplingGraph(3, torch.tensor([[1, 1]])), "unit 1 with itself"),
    "double": (lambda: CouplingGraph(3, torch.tensor([[0, 1], [1, 0]])), r"\(0, 1\) more than once"),
    "stranger": (lambda: CouplingGraph(3, torch.tensor([[0, 3]])), "units 0 to 2"),
    "float edges": (lambda: CouplingGraph(3, torch.zeros(2, 2)), "integers of shape"),
    "no units": (lambda: CouplingGraph(0, torch.zeros(0, 2).long()), "`num_units`"),
    "small torus": (lambda: ising_lattice(2, 5), "double edges"),
    "width": (lambda: BoltzmannMachine(torch.zeros(3, 3), torch.zeros(3)).energy(torch.zeros(4)), "event_shape"),
    "negative sweeps": (lambda: ising_lattice(3, 3).gibbs(torch.ones(9), -1), "`num_steps` must be at least 0"),
    "zeros as spins": (lambda: ising_lattice(3, 3).gibbs(torch.zeros(9), 1), "`value` is no state"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    function, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        function()


def test_states_are_found_in_the_list() -> None:
    machine = ising_lattice(3, 3, 0.1)
    assert (state_index(machine.sample((10,)), machine.enumerate_support()) >= 0).all()
