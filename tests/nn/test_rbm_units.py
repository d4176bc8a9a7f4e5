"""The module with other units than Bernoulli: learned precisions, start at the data, phases, checks."""

from __future__ import annotations

import copy

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import nn
from pyro_gen.distributions import (
    BernoulliUnits,
    GaussianUnits,
    MultinomialUnits,
    NReLUUnits,
    PottsUnits,
    ReLUUnits,
    SpinUnits,
    Units,
)
from pyro_gen.infer import (
    AIS,
    ContrastiveDivergence,
    Exact,
    FastPersistentChains,
    NegativePhase,
    PersistentChains,
    TemperedChains,
    WeightedChains,
    contrastive_gradient,
)
from tests.marks import slow

TYPES: dict[str, Units] = {
    "spin": SpinUnits(),
    "Potts": PottsUnits(3),
    "Gaussian": GaussianUnits(),
    "ReLU": ReLUUnits(),
    "NReLU": NReLUUnits(),
    "multinomial": MultinomialUnits(4),
}
CHAINS = PersistentChains(num_chains=200, num_steps=10)


def data(name: str, rows: int = 400) -> Tensor:
    """Draws of a mixture of two layers of six units."""
    units, fields = TYPES[name], torch.tensor([[1.4, -1.4, 0, 1.4, 0.7, -1.4], [-1.4, 1.4, 1.4, 0, -1.4, 0.7]])
    return units.conditional(fields[torch.randint(2, (rows,))].double()).sample()


def observe(rbm: nn.RBM, x: Tensor) -> None:
    pyro.module("rbm", rbm)
    with pyro.plate("rows", len(x)):
        pyro.sample("v", rbm(), obs=x)


def no_guide(rbm: nn.RBM, x: Tensor) -> None:
    """Everything is observed."""


@pytest.mark.parametrize(
    ("phase", "name"),
    [
        *((CHAINS, name) for name in ("Potts", "Gaussian")),
        *slow(*((CHAINS, name) for name in TYPES if name not in ("Potts", "Gaussian"))),
        *slow(*((phase, name) for phase in (ContrastiveDivergence(10), Exact()) for name in TYPES)),
    ],
)
def test_every_unit_type_learns_through_svi(phase: PersistentChains | ContrastiveDivergence | Exact, name: str) -> None:
    """A mixture of two layers, whose modes the chains can leave: the exact log likelihood rises from independence."""
    x = data(name)
    rbm = nn.RBM.from_data(x, 3, negative_phase=phase, evaluation=Exact(), visible_units=TYPES[name])
    before = rbm.eval()().log_prob(x).mean().item()
    svi = SVI(observe, no_guide, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    rbm.train()
    for _ in range(200):
        svi.step(rbm, x)
    after = rbm.eval()().log_prob(x).mean().item()
    assert after > before + 0.05, (before, after)
    assert rbm.visible_units.support.check(rbm.chains).all()


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("hidden", [BernoulliUnits(), SpinUnits()])
def test_from_data_starts_at_the_moments_of_the_data(name: str, hidden: Units) -> None:
    x = data(name)
    phase = PersistentChains(num_chains=30)
    rbm = nn.RBM.from_data(x, 2, visible_units=TYPES[name], hidden_units=hidden, negative_phase=phase)
    start = rbm.units["visible_units"].mean(rbm.vbias)
    torch.testing.assert_close(start, x.mean(0), rtol=0.1, atol=0.1)
    if name in ("Gaussian", "ReLU"):
        assert rbm.get_parameter("visible_log_precision").requires_grad
        distribution = rbm.units["visible_units"].conditional(rbm.vbias)
        torch.testing.assert_close(distribution.sample((100_000,)).var(0), x.var(0), rtol=0.2, atol=0.02)
    assert all((x == chain).all(-1).any() for chain in rbm.chains)


def test_precisions_are_parameters_of_the_module() -> None:
    rbm = nn.RBM(6, 3, visible_units=GaussianUnits(0.5), hidden_units=ReLUUnits(torch.ones(3)), num_steps=1)
    names = {"weight", "vbias", "hbias", "visible_log_precision", "hidden_log_precision"}
    assert {name for name, _ in rbm.named_parameters()} == names
    assert torch.equal(rbm.get_parameter("visible_log_precision").detach(), torch.full((6,), 0.5))
    rbm().log_prob(torch.randn(5, 6)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in rbm.parameters())
    other = nn.RBM(6, 3, visible_units=GaussianUnits(), hidden_units=ReLUUnits())
    other.load_state_dict(rbm.state_dict())
    assert torch.equal(*(x.get_parameter("visible_log_precision") for x in (other, rbm)))
    twin, x = copy.deepcopy(rbm), torch.randn(5, 6)
    rbm().log_prob(x)
    twin().log_prob(x)
    assert torch.equal(twin.chains, rbm.chains)


def test_ais_of_a_module_runs_once_for_each_version_of_the_precisions() -> None:
    x = data("Gaussian")
    rbm = nn.RBM.from_data(x, 2, evaluation=AIS(200, 50), visible_units=GaussianUnits()).eval()
    first = rbm().log_partition()
    assert torch.equal(first.value, rbm().log_partition().value)
    exact = Exact()
    rbm.evaluation = exact
    assert abs(first.value - rbm().log_partition().value) < 6 * first.standard_error + 1e-6
    rbm.evaluation = AIS(200, 50)
    with torch.no_grad():
        rbm.get_parameter("visible_log_precision").add_(0.1)
    assert not torch.equal(first.value, rbm().log_partition().value)


def test_transform_and_reconstruction_follow_the_units() -> None:
    x = data("Gaussian")
    rbm = nn.RBM.from_data(x, 2, visible_units=GaussianUnits(), hidden_units=SpinUnits())
    distribution = rbm().hidden_given_visible(x)
    torch.testing.assert_close(rbm.transform(x), distribution.mean)
    with torch.no_grad():
        rbm.weight.zero_()
    expected = (x - x.mean(0)).square().sum(-1).mean()
    torch.testing.assert_close(rbm.reconstruction_error(x).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TYPES)
def test_from_data_names_values_of_another_space(name: str) -> None:
    x = torch.full((3, 6), -0.5)
    if name == "Gaussian":
        x[0, 0] = torch.nan
    with pytest.raises(ValueError, match=rf"`x` must hold states of {type(TYPES[name]).__name__}"):
        nn.RBM.from_data(x, 2, visible_units=TYPES[name])


@pytest.mark.parametrize("name", ["Potts", "Gaussian", "spin"])
@pytest.mark.parametrize(
    "phase", [PersistentChains(10, 2), FastPersistentChains(10, 2), ContrastiveDivergence(2)], ids=str
)
def test_the_gradient_step_is_that_of_svi_for_other_units_too(name: str, phase: NegativePhase) -> None:
    """One-hot rows are zeros and ones: they must not pass for Bernoulli units."""
    x = data(name)
    rbm = nn.RBM.from_data(x, 2, negative_phase=phase, visible_units=TYPES[name], centring=True)
    twin = copy.deepcopy(rbm)
    contrast = contrastive_gradient(rbm, x, return_contrast=True)
    loss = -twin().log_prob(x).mean()
    loss.backward()
    assert torch.equal(contrast, loss.detach())
    for ours, theirs in zip(rbm.parameters(), twin.parameters(), strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("phase", [TemperedChains(5, num_betas=2), WeightedChains(5)], ids=lambda p: type(p).__name__)
def test_phases_that_temper_or_weigh_expect_bernoulli_units(phase: NegativePhase) -> None:
    message = f"{type(phase).__name__} expects Bernoulli units on both sides, got PottsUnits and BernoulliUnits"
    with pytest.raises(ValueError, match=message):
        nn.RBM(6, 2, phase, visible_units=PottsUnits(3))


def test_learning_that_leaves_the_normalisable_joints_is_stopped() -> None:
    rbm = nn.RBM(3, 2, visible_units=GaussianUnits(), hidden_units=GaussianUnits())
    with torch.no_grad():
        rbm.weight.fill_(0.6)
    with pytest.raises(ValueError, match="normalisable"):
        rbm()


@pytest.mark.parametrize("units", [GaussianUnits(), ReLUUnits()], ids=str)
def test_a_state_with_variances_of_data_goes_into_a_fresh_module_and_back(units: Units) -> None:
    fitted = nn.RBM.from_data(torch.rand(9, 4), 2, visible_units=units)
    fresh = nn.RBM(4, 2, visible_units=units)
    empty = fresh.state_dict()
    fresh.load_state_dict(fitted.state_dict())
    assert fresh.base_variances is not None
    assert torch.equal(fresh.base_variances, torch.as_tensor(fitted.base_variances))
    fitted.load_state_dict(empty)
    assert fitted.base_variances is None
