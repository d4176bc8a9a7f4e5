"""Learning a Boltzmann machine: exactly, by chains, by pseudo-likelihood; inverse Ising; the state of the module."""

from __future__ import annotations

import copy
import io
import math
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import nn
from pyro_gen.distributions import BernoulliUnits, BoltzmannMachine, SpinUnits, ising_lattice, lattice_edges
from pyro_gen.infer import AIS, ContrastiveDivergence, Exact, PersistentChains, TemperedChains, moment_gradient
from tests.marks import slow

UNITS = [BernoulliUnits(), SpinUnits()]


def rows(units: BernoulliUnits | SpinUnits, count: int = 12, features: int = 6) -> Tensor:
    return units.from_bits(torch.randint(2, (count, features)).double())


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("phase", [PersistentChains(num_chains=20), ContrastiveDivergence(2)])
@pytest.mark.parametrize("edges", [None, lattice_edges(2, 3, periodic=False)])
def test_the_difference_of_moments_is_the_gradient_that_svi_computes(
    units: BernoulliUnits | SpinUnits, phase: PersistentChains | ContrastiveDivergence, edges: Tensor | None
) -> None:
    x = rows(units)
    by_hand = nn.BoltzmannMachine.from_data(x, edges, units=units, negative_phase=phase)
    by_tape = copy.deepcopy(by_hand)
    moment_gradient(by_hand, x)

    def model(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            pyro.sample("x", by_tape(), obs=x)

    Trace_ELBO().differentiable_loss(model, lambda x: None, x).backward()
    for one, other in zip(by_hand.parameters(), by_tape.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad * len(x), other.grad)
    assert torch.equal(by_hand.chains, by_tape.chains)
    assert by_hand.step == by_tape.step == phase.num_steps


@pytest.mark.parametrize("units", UNITS)
def test_exact_maximum_likelihood_matches_the_moments_of_the_data(units: BernoulliUnits | SpinUnits) -> None:
    """Where every state was seen, the maximum has the data's pair means and means, to the optimiser's tolerance."""
    x = torch.cat([rows(units, 200, 4), nn.BoltzmannMachine(4, units=units).double()().enumerate_support()])
    machine = nn.BoltzmannMachine.from_data(x, units=units, negative_phase=None)
    fit(machine, lambda: -machine().log_prob(x).mean())
    with torch.no_grad():
        distribution = machine()
        states = distribution.enumerate_support()
        weight = distribution.log_prob(states).exp()
        graph = machine.graph
        torch.testing.assert_close(weight @ states, x.mean(0), rtol=0, atol=1e-6)
        expected = graph.pair_products(x).mean(0)
        torch.testing.assert_close(weight @ graph.pair_products(states), expected, rtol=0, atol=1e-6)


def fit(machine: nn.BoltzmannMachine, loss: Any) -> None:
    """Minimise a deterministic loss by L-BFGS."""
    optimizer = torch.optim.LBFGS(
        machine.parameters(), max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss()
        value.backward()
        return value

    optimizer.step(closure)


def spin_glass(units: BernoulliUnits | SpinUnits) -> tuple[BoltzmannMachine, Tensor]:
    """A 4x4 lattice with normal couplings and fields, and 20 000 exact draws."""
    torch.manual_seed(1)
    scale = 0.4 if isinstance(units, SpinUnits) else 1.0
    values, bias = scale * torch.randn(32).double(), 0.2 * torch.randn(16).double()
    machine = BoltzmannMachine.from_edges(lattice_edges(4, 4), values, bias, units=units)
    return machine, machine.sample((20_000,))


@pytest.mark.parametrize("units", [UNITS[1], *slow(UNITS[0])])
def test_pseudo_likelihood_solves_the_inverse_ising_problem(units: BernoulliUnits | SpinUnits) -> None:
    """Couplings of absent pairs, too: all 120 pairs within 6 standard errors, sandwich estimate (false alarm 3e-7)."""
    truth, x = spin_glass(units)
    assert truth.graph is not None
    machine = nn.BoltzmannMachine.from_data(x, units=units, negative_phase=None).eval()
    fit(machine, lambda: -machine().pseudo_log_likelihood(x).mean())
    i, j = machine.edges.unbind(-1)
    expected = truth.graph.matrix(truth.coupling)[i, j]
    found, error = machine.coupling.detach(), standard_errors(machine, x)
    assert ((found - expected).abs() / error[: len(found)]).max() < 6
    assert ((machine.bias.detach() - truth.bias).abs() / error[len(found) :]).max() < 6
    assert (found - expected).square().mean().sqrt() < (0.02 if isinstance(units, SpinUnits) else 0.08)
    assert (found - 2 * expected).abs().max() > 0.3  # a factor two would be seen


def standard_errors(machine: nn.BoltzmannMachine, x: Tensor) -> Tensor:
    """Standard errors of the maximum pseudo-likelihood estimate: inverse Hessian, scores, inverse Hessian."""
    size = machine.coupling.numel()

    def one(theta: Tensor, row: Tensor) -> Tensor:
        settings: Any = {"units": machine.units, "graph": machine.graph, "validate_args": False}
        return BoltzmannMachine(theta[:size], theta[size:], **settings).pseudo_log_likelihood(row)

    theta = torch.cat([machine.coupling, machine.bias]).detach()
    scores = torch.func.vmap(torch.func.grad(one), (None, 0))(theta, x[:4000])
    hessian = torch.autograd.functional.hessian(lambda t: one(t, x[:4000]).mean(), theta)
    inverse = torch.linalg.inv(hessian)
    return (inverse @ (scores.mT @ scores / 4000) @ inverse / len(x)).diagonal().sqrt()


@pytest.mark.parametrize("units", [UNITS[1], *slow(UNITS[0])])
def test_persistent_chains_solve_the_inverse_ising_problem(units: BernoulliUnits | SpinUnits) -> None:
    """The known pairs, by a falling step: root mean square error as of the exact maximum, within 30 %."""
    truth, x = spin_glass(units)
    machine = nn.BoltzmannMachine.from_data(
        x, lattice_edges(4, 4), units=units, negative_phase=PersistentChains(1000, 2)
    )
    exact = nn.BoltzmannMachine.from_data(x, lattice_edges(4, 4), units=units, negative_phase=Exact())
    fit(exact, lambda: -exact().log_prob(x).mean())
    optimizer = torch.optim.Adam(machine.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 600)
    for _ in range(600):
        moment_gradient(machine, x)
        optimizer.step()
        schedule.step()
    errors = [(m.coupling.detach() - truth.coupling).square().mean().sqrt() for m in (machine, exact)]
    assert errors[0] < 1.3 * errors[1] + 0.01
    assert errors[1] < (0.02 if isinstance(units, SpinUnits) else 0.06)


def test_svi_with_persistent_chains_learns() -> None:
    x = ising_lattice(3, 3, 0.5).sample((500,))
    machine = nn.BoltzmannMachine.from_data(x, lattice_edges(3, 3), units=SpinUnits())

    def model(x: Tensor) -> None:
        pyro.module("machine", machine)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", machine(), obs=x)

    svi = SVI(model, lambda x: None, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    with torch.no_grad():
        before = machine().log_prob(x).mean()
    for _ in range(100):
        svi.step(x)
    with torch.no_grad():
        after = machine().log_prob(x).mean()
    assert after > before + 1


def test_evaluation_by_annealing_starts_at_the_means_of_the_data() -> None:
    x = ising_lattice(3, 3, 0.3, 0.3).sample((500,))
    machine = nn.BoltzmannMachine.from_data(x, lattice_edges(3, 3), units=SpinUnits(), evaluation=AIS(1000, 50)).eval()
    with torch.no_grad():
        machine.coupling.fill_(0.3)
        estimate = machine().log_partition()
        assert torch.equal(estimate.value, machine().log_partition().value)  # one run for each version
        exact = ising_lattice(3, 3, 0.3).log_partition().value
        machine.bias.zero_()
        again = machine().log_partition()
    assert abs(again.value - exact) < 6 * again.standard_error
    assert not torch.equal(again.value, estimate.value)
    assert (machine.base_rates.abs() <= 1).all()
    assert machine.base_rates.mean() > 0.3


def test_the_state_resumes_bit_for_bit() -> None:
    machine = nn.BoltzmannMachine.from_data(rows(SpinUnits()), units=SpinUnits(), negative_phase=PersistentChains(10))
    moment_gradient(machine, rows(SpinUnits()))
    file = io.BytesIO()
    torch.save(machine.state_dict(), file)
    other = nn.BoltzmannMachine(6, units=SpinUnits(), negative_phase=PersistentChains(10)).double()
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for module in (machine, other):
        module().log_prob(rows(SpinUnits()))
    assert torch.equal(machine.chains, other.chains)


def test_a_state_brings_its_edges() -> None:
    edges = torch.tensor([[0, 1], [1, 2]])
    machine = nn.BoltzmannMachine(3, edges.flip(0).flip(1))
    machine.load_state_dict(nn.BoltzmannMachine(3, edges).state_dict())
    assert torch.equal(machine.graph.edges, edges)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="`features`"):
        nn.BoltzmannMachine(0)
    with pytest.raises(ValueError, match="`units` must be binary"):
        nn.BoltzmannMachine(3, units=4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two layers of an RBM"):
        nn.BoltzmannMachine(3, negative_phase=TemperedChains())
    with pytest.raises(ValueError, match="`evaluation` must know log Z"):
        nn.BoltzmannMachine(3, evaluation=PersistentChains())
    with pytest.raises(ValueError, match="`x` must hold states of SpinUnits, got other values"):
        nn.BoltzmannMachine.from_data(torch.zeros(4, 3), units=SpinUnits())
    with pytest.raises(ValueError, match="`x` must hold zeros and ones only, got NaN"):
        nn.BoltzmannMachine.from_data(torch.full((4, 3), math.nan))
    with pytest.raises(ValueError, match="`batch` must have 3 columns, got 2"):
        moment_gradient(nn.BoltzmannMachine(3), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="must have a negative phase"):
        moment_gradient(nn.BoltzmannMachine(3, negative_phase=None), torch.zeros(4, 3))
    machine = nn.BoltzmannMachine(3)
    machine.negative_phase = PersistentChains(7)
    with pytest.raises(ValueError, match="100 chains"):
        machine()


@pytest.mark.parametrize("phase", [ContrastiveDivergence(2), PersistentChains(8, 2)])
def test_every_update_has_random_numbers_of_its_own(phase: ContrastiveDivergence | PersistentChains) -> None:
    """Free units, so that the particles are the random numbers: 240 bits that agree by chance once in 2^240."""
    x, machine = torch.ones(8, 30), nn.BoltzmannMachine(30, negative_phase=phase)
    torch.nn.init.normal_(machine.bias, std=1e-3)
    assert not torch.equal(machine().log_prob(x), machine().log_prob(x))
    found = []
    for _ in range(2):
        moment_gradient(machine, x)
        assert machine.bias.grad is not None
        found.append(machine.bias.grad)
    assert not torch.equal(found[0], found[1])
