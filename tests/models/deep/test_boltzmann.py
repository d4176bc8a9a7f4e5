"""Deep Boltzmann machines against sums over all states of all layers."""

from __future__ import annotations

import copy
import math
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from torch import Tensor

from pyro_gen import nn
from pyro_gen.datasets import bars_and_stripes
from pyro_gen.distributions import SpinUnits
from pyro_gen.infer import (
    AIS,
    ContrastiveDivergence,
    Exact,
    FastPersistentChains,
    NegativePhase,
    PersistentChains,
    TemperedChains,
    WeightedChains,
)
from pyro_gen.models import DeepBoltzmannMachine
from tests.marks import slow
from tests.models.oracle import boltzmann, states

LAYERS = [[3, 2], [3, 2, 2], [2, 2, 3, 2]]


def wild(hidden: list[int], visible: int = 4, std: float = 1.0) -> DeepBoltzmannMachine:
    """Weights far from zero, in float64."""
    machine = DeepBoltzmannMachine(visible, hidden, size=16, negative_phase=Exact()).double().eval()
    with torch.no_grad():
        for parameter in machine.parameters():
            parameter.normal_(std=std)
        machine.rbm.weight.mul_(machine.rbm.connections)
    return machine


@pytest.mark.parametrize("hidden", LAYERS, ids=str)
def test_the_energy_of_the_rbm_is_the_sum_over_neighbouring_layers(hidden: list[int]) -> None:
    machine = wild(hidden)
    layers = [torch.randint(2, (50, width)).double() for width in machine.widths]
    energy = -sum((x @ bias for x, bias in zip(layers, machine.biases, strict=True)), start=torch.zeros(50))
    for below, weight, above in zip(layers, machine.weights, layers[1:], strict=False):
        energy = energy - ((below @ weight) * above).sum(-1)
    ours = machine.rbm().energy(torch.cat(layers[0::2], -1), torch.cat(layers[1::2], -1))
    torch.testing.assert_close(ours, energy)


@pytest.mark.parametrize("hidden", LAYERS, ids=str)
def test_both_bounds_lie_below_the_exact_log_likelihood_and_close_with_particles(hidden: list[int]) -> None:
    # The mean over 16 rows is at most 5 standard errors above the exact value, 3e-7 each.
    machine, v = wild(hidden, std=0.7), states(4).double()
    exact = boltzmann(machine, v).detach()
    assert exact.exp().sum().item() == pytest.approx(1)
    bound = machine.lower_bound(v, num_particles=2000)
    assert bound.value < exact.mean().item() + 5 * bound.sampling_error
    assert bound.tighter_value == pytest.approx(exact.mean().item(), abs=0.02)


@pytest.mark.parametrize("hidden", LAYERS, ids=str)
def test_ais_agrees_with_the_exact_log_z(hidden: list[int]) -> None:
    # 5 standard errors of AIS: 6e-7 each.
    machine = wild(hidden)
    exact = machine.log_partition()
    machine.rbm.evaluation = AIS(1000, 300)
    estimate = machine.log_partition()
    assert estimate.method == "AIS"
    assert abs(estimate.value - exact.value) < 5 * estimate.standard_error + 1e-6


@pytest.mark.parametrize("hidden", LAYERS, ids=str)
def test_samples_follow_the_exact_distribution(hidden: list[int]) -> None:
    # Frequencies of 16 states in 40,000 draws, each within 5 standard errors: a false alarm of 1e-5.
    machine = wild(hidden)
    frequency = torch.bincount((machine.sample(40_000) @ (2 ** torch.arange(4)).double()).long(), minlength=16) / 40_000
    p = boltzmann(machine, states(4).double()).exp().detach()
    assert ((frequency - p).abs() < 5 * (p * (1 - p) / 40_000).sqrt() + 1e-9).all()


def test_the_mean_field_is_a_fixed_point() -> None:
    machine, v = wild([3, 2, 2], std=0.5), states(4).double()
    machine.mean_field_steps = 200
    layers = [v, *machine.mean_field(v)]
    for level in range(1, 4):
        field = machine.biases[level] + layers[level - 1] @ machine.weights[level - 1]
        if level < 3:
            field = field + layers[level + 1] @ machine.weights[level].mT
        torch.testing.assert_close(layers[level], field.sigmoid(), rtol=1e-6, atol=1e-6)


def learn(machine: DeepBoltzmannMachine, x: Tensor, rate: float, steps: int) -> float:
    """Exact mean log likelihood after steps of SVI with a falling rate."""
    settings = {"lr": rate, "lrd": 0.05 ** (1 / steps), "betas": (0.9, 0.99), "clip_norm": 1e9}
    svi = SVI(machine.model, machine.guide, pyro.optim.ClippedAdam(settings), Trace_ELBO())
    for _ in range(steps):
        svi.step(x)
    return boltzmann(machine.eval(), x).mean().item()


def test_variational_learning_comes_near_the_optimum_of_bars_and_stripes() -> None:
    x = bars_and_stripes(2, 2)
    machine = DeepBoltzmannMachine(4, [4, 3], size=30, negative_phase=Exact())
    torch.nn.init.normal_(machine.rbm.weight, std=0.3)
    reached = learn(machine, x.repeat(5, 1), 0.1, 600)
    assert reached > -torch.tensor(6.0).log().item() - 0.06
    assert machine.lower_bound(x, 1000).tighter_value == pytest.approx(reached, abs=0.05)


@pytest.mark.parametrize("phase", [PersistentChains(num_chains=200, num_steps=5), *slow(Exact())], ids=str)
def test_a_student_comes_as_near_to_its_data_as_the_teacher(phase: Exact | PersistentChains) -> None:
    # With 1000 rows and 20 parameters the maximum is about 0.01 above the teacher.
    teacher = wild([3, 2])
    x = teacher.sample(1000)
    student = DeepBoltzmannMachine(4, [3, 2], size=1000, negative_phase=phase).double()
    torch.nn.init.normal_(student.rbm.weight, std=0.1)
    assert learn(student, x, 0.05, 400) > boltzmann(teacher, x).mean().item() - 0.005
    assert int(student.rbm.step) == (2000 if isinstance(phase, PersistentChains) else 0)


@pytest.mark.parametrize("hidden", [LAYERS[1], *slow(LAYERS[0], LAYERS[2])], ids=str)
def test_the_custom_step_is_the_svi_gradient_and_leaves_missing_couplings_at_zero(hidden: list[int]) -> None:
    # The hidden layers are drawn from different streams, so the means of many draws are compared: |z| < 5 in each entry
    # that is drawn at all, a false alarm of 3e-5.
    v = states(4).double()
    machine = DeepBoltzmannMachine(4, hidden, size=16, negative_phase=PersistentChains(10, 1)).double()
    torch.nn.init.normal_(machine.rbm.weight).data.mul_(machine.rbm.connections)
    ours, theirs = [], []
    for _ in range(300):
        twin = copy.deepcopy(machine)
        twin.contrastive_gradient(v)
        ours.append(torch.cat([p.grad.flatten() for p in twin.parameters() if p.grad is not None]))
        twin = copy.deepcopy(machine)
        pyro.clear_param_store()
        Trace_ELBO().differentiable_loss(twin.model, twin.guide, v).backward()
        theirs.append(torch.cat([p.grad.flatten() / 16 for p in twin.parameters() if p.grad is not None]))
        assert not twin.rbm.weight.grad[machine.rbm.connections == 0].any()  # type: ignore[index]
    a, b = torch.stack(ours), torch.stack(theirs)
    assert a.shape == b.shape
    assert ((a.mean(0) - b.mean(0)).abs() <= 5 * ((a.var(0) + b.var(0)) / 300).sqrt() + 1e-12).all()


def test_it_starts_as_the_rbm_that_it_is_given() -> None:
    v = states(4).double()
    rbm = nn.RBM(4, 3).double()
    torch.nn.init.normal_(rbm.weight)
    machine = DeepBoltzmannMachine.from_rbm(rbm, [5, 2], v, noise=0.0, negative_phase=PersistentChains(20)).eval()
    torch.testing.assert_close(boltzmann(machine, v), rbm.eval()().log_prob(v))
    torch.testing.assert_close(machine.lower_bound(v, 1).rows, rbm().log_prob(v).detach())
    assert machine.size == 16
    assert machine.rbm.chains.shape == (20, 4 + 5)


def test_views_of_the_weights_are_the_weights() -> None:
    machine = wild([3, 2, 2])
    assert [tuple(weight.shape) for weight in machine.weights] == [(4, 3), (3, 2), (2, 2)]
    with torch.no_grad():
        machine.weights[1].fill_(7.0)
    assert (machine.rbm.weight == 7).sum() == 6
    assert [len(bias) for bias in machine.biases] == [4, 3, 2, 2]


def test_predictive_draws_rows() -> None:
    machine = wild([3, 2])
    drawn = Predictive(machine.model, num_samples=3)()
    assert drawn["layers"].shape[-2:] == (16, 6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeepBoltzmannMachine(4, [3], 5), "two layers"),
        (lambda: DeepBoltzmannMachine(4, [3, 0], 5), "at least 1"),
        (lambda: DeepBoltzmannMachine(4, [3, 2], 5, negative_phase=ContrastiveDivergence()), "ContrastiveDivergence"),
        (lambda: DeepBoltzmannMachine(4, [3, 2], 5).lower_bound(torch.zeros(2, 5)), "4 columns"),
        (lambda: DeepBoltzmannMachine(4, [3, 2], 5).guide(), "must be given to the guide"),
        (lambda: DeepBoltzmannMachine(30, [40, 30], 5).lower_bound(torch.zeros(2, 30)), "log Z is not known"),
    ],
)
def test_bad_input_is_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_a_state_dict_resumes_bit_for_bit() -> None:
    def gradient(machine: DeepBoltzmannMachine) -> Tensor:
        torch.manual_seed(3)
        machine.contrastive_gradient(states(4))
        grad = machine.rbm.weight.grad
        assert grad is not None
        return grad

    machine = DeepBoltzmannMachine(4, [3, 2, 2], 5)
    gradient(machine)
    twin = DeepBoltzmannMachine(4, [3, 2, 2], 5)
    twin.load_state_dict(machine.state_dict())
    assert torch.equal(gradient(machine), gradient(twin))


@pytest.mark.parametrize("centring", [False, True], ids=["plain", "centred"])
@pytest.mark.parametrize("phase", [PersistentChains(20), FastPersistentChains(20)], ids=str)
def test_couplings_that_do_not_exist_learn_nothing(phase: NegativePhase, centring: bool) -> None:
    machine, v = DeepBoltzmannMachine(4, [3, 2, 2], size=16, negative_phase=phase, centring=centring), states(4)
    machine.start_at(v)
    absent = machine.rbm.connections == 0
    svi = SVI(machine.model, machine.guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(3):
        svi.step(v)
        machine.contrastive_gradient(v)
        tables = [machine.rbm.weight, machine.rbm.weight.grad, machine.rbm.state().get("fast_weight", torch.zeros(()))]
        assert not any(table.expand(absent.shape)[absent].any() for table in tables if table is not None)


def test_centring_leaves_couplings_that_do_not_exist_out_of_the_biases() -> None:
    machine = DeepBoltzmannMachine(4, [3, 2, 2], size=16, centring=True)
    rbm = machine.rbm
    torch.nn.init.normal_(rbm.weight)  # those that do not exist too
    weight, vbias, hbias = rbm.uncentred
    torch.testing.assert_close(weight, rbm.weight * rbm.connections)
    torch.testing.assert_close(vbias, rbm.vbias - (rbm.weight * rbm.connections) @ rbm.hidden_offset)
    torch.testing.assert_close(hbias, rbm.hbias - (rbm.weight * rbm.connections).mT @ rbm.visible_offset)
    wanted = [x.detach().clone() for x in rbm.uncentred]
    rbm.set_uncentred(*wanted)
    for found, target in zip(rbm.uncentred, wanted, strict=True):
        torch.testing.assert_close(found, target)


def test_samples_start_at_chains_of_the_model_and_not_at_hot_ones() -> None:
    machine = DeepBoltzmannMachine(3, [20, 22], size=8, negative_phase=TemperedChains(2, num_betas=3), num_steps=1)
    machine.eval().rbm.evaluation = AIS()
    machine.rbm.chains.zero_()[-2:] = 1
    assert (machine.rbm.particles(9) == 1).all()
    assert (machine.sample(9, num_steps=0) == 1).all()


def test_samples_are_swept_on_from_the_chains() -> None:
    """Without couplings one sweep makes 900 fair coins of chains that are all on: 6 standard deviations are 0.1."""
    machine = DeepBoltzmannMachine(3, [20, 22], size=8, negative_phase=PersistentChains(5)).eval()
    machine.rbm.evaluation = AIS()
    machine.rbm.chains.fill_(1)
    torch.nn.init.zeros_(machine.rbm.weight)
    assert (machine.sample(300, num_steps=0) == 1).all()
    assert machine.sample(300, num_steps=1).mean() == pytest.approx(0.5, abs=0.1)


def test_base_rates_of_the_visible_layer_are_those_of_the_rows() -> None:
    machine = DeepBoltzmannMachine(4, [3, 2], size=8)
    machine.start_at(torch.tensor([[1.0, 0.0, 1.0, 0.0]] * 8))
    torch.testing.assert_close(machine.rbm.base_rates, torch.tensor([0.9, 0.1, 0.9, 0.1, 0.5, 0.5]))


def test_weighted_chains_start_where_their_log_z_is_known() -> None:
    phase = WeightedChains(50, num_witnesses=50)
    machine = DeepBoltzmannMachine(4, [3, 2], size=8, negative_phase=phase)
    machine.start_at(torch.ones(8, 4))
    wanted = (machine.rbm.base_rates.double().logit().exp() + 1).log().sum() + 3 * math.log(2)
    torch.testing.assert_close(machine.rbm.state()["log_partition"], wanted)


@pytest.mark.parametrize("side", ["visible_units", "hidden_units"])
def test_other_units_are_refused_because_the_mean_field_is_that_of_bernoulli_units(side: str) -> None:
    settings: dict[str, Any] = {side: SpinUnits()}
    with pytest.raises(ValueError, match="Bernoulli units in all layers, got SpinUnits"):
        DeepBoltzmannMachine(4, [3, 2], size=8, **settings)
