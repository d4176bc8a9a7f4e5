"""Negative phases beyond CD and PCD, and centring: enumerated distributions, updates by hand, diagnostics, resume."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from typing import Any, cast

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, distributions, nn
from pyro_gen.distributions.log_z import tempering
from pyro_gen.distributions.log_z.tempering import tempered_sweep
from pyro_gen.infer import (
    ContrastiveDivergence,
    Exact,
    FastPersistentChains,
    NegativePhase,
    PersistentChains,
    TemperedChains,
    WeightedChains,
    contrastive_gradient,
)
from pyro_gen.kernels import rbm_gibbs
from pyro_gen.testing import multinomial_floor, states, total_variation
from tests.phases import LAYERED, PHASES, gradients


def rows(count: int = 12, visible: int = 6) -> Tensor:
    return torch.randint(2, (count, visible)).double()


def setting(phase: NegativePhase, centring: bool = False, scale: float = 1.0) -> tuple[nn.RBM, Tensor]:
    x = rows()
    rbm = nn.RBM.from_data(x, 4, negative_phase=phase, centring=centring)
    with torch.no_grad():
        rbm.weight.normal_().mul_(scale)
        rbm.hbias.normal_()
    return rbm, x


def descend(rbm: nn.RBM, x: Tensor, rate: float = 0.1) -> None:
    contrastive_gradient(rbm, x)
    with torch.no_grad():
        for p in rbm.parameters():
            p.sub_(rate * p.grad if p.grad is not None else 0)


def learn(rbm: nn.RBM, x: Tensor, updates: int) -> None:
    """Advance the phase without moving the weights."""
    for _ in range(updates):
        contrastive_gradient(rbm, x)


def svi_step(rbm: nn.RBM, x: Tensor, scale: float) -> None:
    """Fill ``.grad`` by Pyro, with rows weighed so that they count ``scale``."""

    def model(x: Tensor) -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", int(scale), subsample=x):
            pyro.sample("v", rbm(), obs=x)

    rbm.zero_grad()
    Trace_ELBO().differentiable_loss(model, lambda x: None, x).backward()


def test_the_centred_gradient_is_that_of_the_parameters_of_the_centred_energy() -> None:
    rbm, x = setting(PersistentChains(20, 2), centring=True)
    rbm.visible_offset.copy_(torch.rand(6)), rbm.hidden_offset.copy_(torch.rand(4))
    rbm.step += 2  # between two moves of the offsets
    twin = copy.deepcopy(rbm)
    contrastive_gradient(rbm, x)

    def free_energy(v: Tensor) -> Tensor:
        """Minus the log of the sum over all h of exp(-E), with E as Montavon and Mueller (2012) write it."""
        v, h = v - rbm.visible_offset, states(4) - rbm.hidden_offset
        return -((v @ rbm.vbias).unsqueeze(-1) + h @ rbm.hbias + v @ rbm.weight @ h.mT).logsumexp(-1)

    wanted = torch.autograd.grad(free_energy(x).mean() - free_energy(rbm.chains).mean(), list(rbm.parameters()))
    for found, gradient in zip(gradients(rbm), wanted, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-12, atol=1e-12)
    svi_step(twin, x, 100)
    for ours, theirs in zip(gradients(rbm), gradients(twin), strict=True):
        torch.testing.assert_close(100 * ours, theirs, rtol=1e-9, atol=1e-12)


def test_moving_the_offsets_leaves_the_machine_as_it_is() -> None:
    rbm, x = setting(PersistentChains(20, 2), centring=True)
    before = rbm.eval()().log_prob(x), rbm.visible_offset.clone(), rbm.vbias.detach().clone()
    rbm.train()().log_prob(x)  # the first update moves them
    assert not torch.equal(rbm.visible_offset, before[1])
    assert not torch.equal(rbm.vbias, before[2])
    torch.testing.assert_close(rbm.eval()().log_prob(x), before[0])


def test_natural_biases_are_set_and_read_whatever_the_offsets() -> None:
    rbm, _ = setting(PersistentChains(20, 2), centring=True)
    rbm.visible_offset.copy_(torch.rand(6)), rbm.hidden_offset.copy_(torch.rand(4))
    wanted = torch.randn(6, 4).double(), torch.randn(6).double(), torch.randn(4).double()
    rbm.set_uncentred(*wanted)
    for found, own, target in zip(rbm.uncentred, rbm().parameters, wanted, strict=True):
        torch.testing.assert_close(found, target)
        torch.testing.assert_close(own, target)


@pytest.mark.parametrize("phase", [PersistentChains(20), WeightedChains(20, 1, 5)], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("by_svi", [False, True], ids=["step", "svi"])
def test_visible_biases_that_nobody_set_start_at_the_first_batch(phase: NegativePhase, by_svi: bool) -> None:
    x = torch.bernoulli(torch.tensor([0.05, 0.3, 0.5, 0.6, 0.8, 1.0]).expand(200, -1)).double()
    rbm = nn.RBM(6, 4, phase).double()
    for batch in x.split(50)[:2]:
        svi_step(rbm, batch, 50) if by_svi else contrastive_gradient(rbm, batch)
    wanted = (x[:50].mean(0) * 100 + 1) / 102
    torch.testing.assert_close(rbm.vbias.detach(), wanted.logit())
    torch.testing.assert_close(rbm.base_rates, wanted)
    assert torch.equal(rbm.visible_offset, rbm.base_rates)
    mine = nn.RBM(6, 4, phase).double()
    with torch.no_grad():
        mine.vbias[0] = 1e-3  # somebody set them
    contrastive_gradient(mine, x)
    assert mine.vbias.abs().max() < 2e-3


@pytest.mark.parametrize("scale", [1, 10, 60_000])
def test_the_start_at_the_first_batch_does_not_know_how_its_loss_is_scaled(scale: int) -> None:
    x = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0]).expand(10, -1).double()
    rbm = nn.RBM(6, 4).double()
    with pyro.poutine.scale(scale=scale / 10):
        svi_step(rbm, x, 10)
    torch.testing.assert_close(rbm.base_rates, (100 * x[0] + 1) / 102)


def test_the_first_batch_of_contrastive_divergence_is_told_from_its_mirror_image() -> None:
    """By SVI the module sees only the gradient; the particles are what units without field are, up to their noise."""
    x = torch.bernoulli(torch.tensor([0.05, 0.3, 0.5, 0.6, 0.8, 1.0]).expand(2000, -1)).double()
    rbm = nn.RBM(6, 4, ContrastiveDivergence(1)).double()
    svi_step(rbm, x, 2000)
    torch.testing.assert_close(rbm.base_rates, x.mean(0), rtol=0, atol=0.06)  # five standard errors of 2000 coins


@pytest.mark.slow
def test_adam_learns_centred_parameters_as_well() -> None:
    x = datasets.bars_and_stripes(3, 3)
    found = []
    for centring in (False, True):
        torch.manual_seed(0)
        rbm = nn.RBM(9, 8, TemperedChains(20, 2), Exact(), centring=centring)
        optimizer = torch.optim.Adam(rbm.parameters(), lr=0.01)
        for _ in range(600):
            contrastive_gradient(rbm, x)
            optimizer.step()
        found.append(rbm.eval()().log_prob(x).mean().item())
    plain, centred = found
    assert centred > max(plain, -3.6)  # the optimum is -2.64, independent pixels have -6.24


@pytest.mark.parametrize(
    "phase",
    [
        PersistentChains(20, 2),
        ContrastiveDivergence(2),
        TemperedChains(5, 2, num_betas=4),
        WeightedChains(20, 2, 10, resample_below=0.0),
    ],
    ids=lambda p: type(p).__name__,
)
def test_offsets_are_sliding_means_of_the_particles_in_every_tenth_update(phase: NegativePhase) -> None:
    """Of the cold, the weighted particles; of the base rates under CD, which keeps none."""
    rbm, x = setting(phase, centring=True)
    visible, hidden = rbm.base_rates.clone(), torch.full((4,), 0.5).double()
    assert torch.equal(rbm.visible_offset, visible)
    for update in range(21):
        contrastive_gradient(rbm, x)
        if update % 10 == 0:
            states, weights = phase.particles(rbm.state()) if phase.persistent_chains else (rbm.base_rates[None], None)
            share = torch.full((len(states),), 1 / len(states)).double() if weights is None else weights
            on = rbm.transform(states).detach()
            present = 0.1 / (1 + update / 1000)
            visible = (1 - present) * visible + present * share @ states
            hidden = (1 - present) * hidden + present * share @ on
        torch.testing.assert_close(rbm.visible_offset, visible)
        torch.testing.assert_close(rbm.hidden_offset, hidden)
        with torch.no_grad():
            for p in rbm.parameters():
                p.sub_(0.1 * p.grad if p.grad is not None else 0)


def test_centring_makes_learning_blind_to_flips_of_the_data() -> None:
    x = datasets.bars_and_stripes(3, 3).double()
    start = torch.randn(9, 5).double() * 0.5
    found = []
    for data, sign in ((x, 1.0), (1 - x, -1.0)):
        rbm = nn.RBM.from_data(data, 5, negative_phase=Exact(), evaluation=Exact(), centring=True)
        with torch.no_grad():
            rbm.weight.copy_(sign * start)
            rbm.hbias.zero_()
        for _ in range(600):
            rbm.zero_grad()
            (-rbm().log_prob(data).mean()).backward()
            with torch.no_grad():
                for p in rbm.parameters():
                    p.sub_(0.5 * cast(Tensor, p.grad))
        found.append(rbm.eval()().log_prob(data).mean().item())
    assert found[0] == pytest.approx(found[1], abs=1e-9)
    assert found[0] > -5.0  # and it did learn: independent pixels have -6.24


@pytest.mark.parametrize("centring", [False, True], ids=["plain", "centred"])
@pytest.mark.parametrize("phase", PHASES, ids=lambda p: type(p).__name__)
def test_svi_and_the_custom_step_walk_together(phase: NegativePhase, centring: bool) -> None:
    rbm, x = setting(phase, centring)
    twin = copy.deepcopy(rbm)
    optimizers = [torch.optim.SGD(r.parameters(), lr=0.05) for r in (rbm, twin)]
    for _ in range(12):
        contrastive_gradient(rbm, x)
        svi_step(twin, x, 50)
        for p in twin.parameters():
            assert p.grad is not None
            p.grad /= 50
        for optimizer in optimizers:
            optimizer.step()
    for (name, ours), (_, theirs) in zip(rbm.state_dict().items(), twin.state_dict().items(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12, msg=name)


def test_a_step_of_fast_weights_is_five_lines() -> None:
    phase = FastPersistentChains(num_chains=30, num_steps=2, fast_rate=0.2, decay=0.9)
    rbm, x = setting(phase)
    w, a, b = (p.detach().clone() for p in (rbm.weight, rbm.vbias, rbm.hbias))
    wf, af, bf = torch.zeros_like(w), torch.zeros_like(a), torch.zeros_like(b)
    chains, seed, rate = rbm.chains.clone(), int(rbm.seed), 0.1
    for t in range(5):
        chains, _ = rbm_gibbs(chains, w + wf, a + af, b + bf, 2, seed=seed, step=2 * t)
        h, g = torch.sigmoid(x @ w + b), torch.sigmoid(chains @ w + b)
        dw, da, db = x.T @ h / 12 - chains.T @ g / 30, x.mean(0) - chains.mean(0), h.mean(0) - g.mean(0)
        w, a, b = w + rate * dw, a + rate * da, b + rate * db
        wf, af, bf = 0.9 * wf + 0.2 * dw, 0.9 * af + 0.2 * da, 0.9 * bf + 0.2 * db
        descend(rbm, x, rate)
    for ours, theirs in ((rbm.weight, w), (rbm.vbias, a), (rbm.hbias, b), (rbm.get_buffer("fast_weight"), wf)):
        torch.testing.assert_close(ours.detach(), theirs, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(rbm.get_buffer("fast_vbias"), af)
    torch.testing.assert_close(rbm.get_buffer("fast_hbias"), bf)


def moderate_rbm(scale: float = 1.0) -> distributions.RBM:
    """6x4 units whose distribution shows a wrong rule of exchange."""
    generator = torch.Generator().manual_seed(1)
    shapes = (6, 4), (6,), (4,)
    weight, vbias, hbias = (scale * torch.randn(shape, generator=generator) for shape in shapes)
    return distributions.RBM(weight, vbias, hbias)


def distribution_of(rbm: distributions.RBM) -> Tensor:
    return rbm.log_prob(rbm.enumerate_support()).exp().double()


def numbers(v: Tensor) -> Tensor:
    return (v.long() << torch.arange(v.shape[-1])).sum(-1)


def histogram(v: Tensor) -> Tensor:
    return torch.bincount(numbers(v), minlength=2 ** v.shape[-1]).double() / len(v)


def tempered_run(rbm: distributions.RBM, ladders: int) -> Tensor:
    """Marginal of the cold chains after 40 sweeps from zeros."""
    phase, betas = TemperedChains(ladders, 40, num_betas=3), torch.tensor([0.0, 0.5, 1.0])
    state = {"chains": torch.zeros(3 * ladders, 6), "betas": betas, "swap_rates": torch.full((2,), 0.5)}
    state |= phase.advance(rbm, state | {"base_rates": torch.full((6,), 0.5)}, seed=11, step=0)
    return histogram(phase.particles(state).states)


def test_tempered_chains_keep_the_distribution_at_the_noise_floor() -> None:
    """False-alarm rate 1e-4: the distance of as many independent draws has this quantile."""
    rbm, ladders = moderate_rbm(), 50_000
    distribution = distribution_of(rbm)
    assert total_variation(tempered_run(rbm, ladders), distribution) < multinomial_floor(distribution, ladders, 0.9999)


def test_hot_chains_are_drawn_anew_at_the_base_rates() -> None:
    rbm, ladders = moderate_rbm(), 20_000
    rates = torch.tensor([0.2, 0.5, 0.7, 0.4, 0.6, 0.5])
    state = {"chains": torch.zeros(3 * ladders, 6), "betas": torch.tensor([0.0, 0.3, 1.0])}
    state |= {"base_rates": rates, "swap_rates": torch.full((2,), 0.5)}
    after = TemperedChains(ladders, 1, num_betas=3).advance(rbm, state, seed=5, step=1)  # the hot ones do not swap
    z = (after["chains"][:ladders].mean(0) - rates) / (rates * (1 - rates) / ladders).sqrt()
    assert z.abs().max() < 5.0  # six numbers: a false alarm of 3e-6


def test_swaps_by_the_marginal_free_energy_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peers' defect: sweeps at beta on the joint energy, swaps by another distribution."""
    rbm, ladders = moderate_rbm(), 50_000
    distribution = distribution_of(rbm)

    def mistaken(chains: Tensor, *settings: Any) -> tuple[Tensor, Tensor]:
        chains, _ = tempered_sweep(chains, *settings)
        return chains, rbm.free_energy(chains)

    monkeypatch.setattr(tempering, "tempered_sweep", mistaken)
    assert total_variation(tempered_run(rbm, ladders), distribution) > 1.5 * multinomial_floor(
        distribution, ladders, 0.9999
    )


def test_the_ladder_moves_to_even_swap_rates_and_is_reported() -> None:
    rbm = nn.RBM(6, 4, negative_phase=TemperedChains(100, 1, num_betas=4))
    with torch.no_grad():
        for p, q in zip(rbm.parameters(), moderate_rbm(2.0).parameters, strict=True):
            p.copy_(q)
    for _ in range(1000):
        rbm.advance(cast(NegativePhase, rbm.negative_phase))
    known = rbm.diagnostics().phase
    assert known["betas"][0] == 0
    assert known["betas"][-1] == 1
    assert (known["betas"].diff() > 0).all()
    rates = known["swap_rates"]
    assert rates.max() - rates.min() < 0.1
    assert rates.min() > 0.2


def tracking_errors(runs: int, chains: int, witnesses: int) -> Tensor:
    """Estimated minus exact log Z after 100 updates of bars and stripes."""
    x, errors = datasets.bars_and_stripes(3, 3), []
    for seed in range(runs):
        pyro.set_rng_seed(seed)
        phase = WeightedChains(chains, num_witnesses=witnesses)
        rbm = nn.RBM.from_data(x, 6, negative_phase=phase, evaluation=Exact())
        for _ in range(100):
            descend(rbm, x, 0.3)
        rbm.advance(phase)  # weighs by the last update
        known = phase.diagnostics(rbm.state())
        if not witnesses:  # the naive estimate, from the very chains that the gradients were taken at
            known = {"log_partition": rbm.state()["log_partition"] + rbm.state()["log_weights"].exp().mean().log()}
        errors.append(known["log_partition"].item() - rbm.eval()().log_partition().value.item())
    return torch.tensor(errors)


def test_witnesses_track_log_z_along_learning() -> None:
    """The mean of 10 runs; a bound of 5 standard errors (t with 9 degrees) has a false-alarm rate below 1e-3."""
    errors = tracking_errors(10, 100, 200)
    assert abs(errors.mean()) < 5 * errors.std() / math.sqrt(len(errors))
    assert errors.std() < 0.1


def test_without_witnesses_log_z_comes_out_too_small() -> None:
    errors = tracking_errors(5, 100, 0)
    assert errors.mean() < -0.2


def test_weighted_chains_weigh_the_particles() -> None:
    rbm, x = setting(WeightedChains(5, 1, 4, resample_below=0.0))
    rbm().log_prob(x)
    buffers = rbm.state()
    weights = buffers["log_weights"][:5].softmax(0)
    assert weights.max() > weights.min()
    contrastive_gradient(rbm, x)
    weights = rbm.state()["log_weights"][:5].softmax(0)
    wanted = -(x.mean(0) - weights @ rbm.chains[:5])
    torch.testing.assert_close(gradients(rbm)[1], wanted)


@pytest.mark.parametrize("phase", PHASES, ids=lambda p: type(p).__name__)
def test_a_resumed_run_goes_on_bit_for_bit(phase: NegativePhase) -> None:
    rbm, x = setting(phase, centring=True)
    for _ in range(15):
        descend(rbm, x)
    saved = copy.deepcopy(rbm.state_dict())
    for _ in range(15):
        descend(rbm, x)
    other = nn.RBM.from_data(x, 4, negative_phase=phase, centring=True)
    other.load_state_dict(saved)
    for _ in range(15):
        descend(other, x)
    for name, value in rbm.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_diagnostics_tell_turnover_and_norms() -> None:
    rbm, x = setting(PersistentChains(20, 2))
    assert math.isnan(rbm.diagnostics().turnover)
    before = rbm.chains.clone()
    contrastive_gradient(rbm, x)
    found = rbm.diagnostics()
    assert found.turnover == pytest.approx((before != rbm.chains).double().mean().item())
    norms = [g.norm() for g in gradients(rbm)]
    assert found.gradient_norm == pytest.approx(torch.stack(norms).norm().item())
    assert found.step == 2


@pytest.fixture
def loud() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_frozen_chains_warn() -> None:
    rbm, x = setting(PersistentChains(20, 1))
    with torch.no_grad():
        rbm.vbias.fill_(1000.0)
    with pytest.warns(UserWarning, match="20 of 20 persistent chains are where they were 256 updates ago"):
        learn(rbm, x, 600)


@pytest.mark.usefixtures("loud")
def test_moving_chains_do_not_warn() -> None:
    rbm, x = setting(PersistentChains(20, 1), scale=0.1)
    learn(rbm, x, 600)


def test_diverged_weights_stop_learning() -> None:
    rbm, x = setting(PersistentChains(20, 1))
    with torch.no_grad():
        rbm.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match="`weight` is no longer finite: learning has diverged"):
        learn(rbm, x, 300)


def test_saturating_weights_warn() -> None:
    rbm, x = setting(PersistentChains(20, 1), scale=0.1)
    with torch.no_grad():
        rbm.weight[0, 0] = 60.0
    with pytest.warns(UserWarning, match="the largest weight is 60: units saturate"):
        learn(rbm, x, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FastPersistentChains(fast_rate=-1.0), "`fast_rate` must not be negative, got -1.0"),
        (lambda: FastPersistentChains(decay=1.0), r"`decay` must lie in \[0, 1\), got 1.0"),
        (lambda: TemperedChains(num_betas=1), "`num_betas` must be at least 2, got 1"),
        (lambda: TemperedChains(num_chains=0), "`num_chains` must be at least 1, got 0"),
        (lambda: WeightedChains(num_witnesses=-1), "`num_witnesses` must be at least 0, got -1"),
        (lambda: WeightedChains(resample_below=2.0), r"`resample_below` must lie in \[0, 1\], got 2.0"),
    ],
)
def test_settings_name_what_is_wrong(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("phase", LAYERED, ids=lambda p: type(p).__name__)
def test_chains_need_a_module(phase: NegativePhase) -> None:
    with pytest.raises(ValueError, match=f"`partition` {type(phase).__name__} needs chains"):
        distributions.RBM(torch.zeros(4, 3), torch.zeros(4), torch.zeros(3), phase)


@pytest.mark.parametrize("phase", PHASES, ids=lambda p: type(p).__name__)
def test_every_phase_trains_through_svi(phase: NegativePhase) -> None:
    x = datasets.bars_and_stripes(3, 3)
    rbm = nn.RBM.from_data(x, 8, negative_phase=phase, evaluation=Exact(), centring=True)

    def model(x: Tensor) -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", len(x)):
            pyro.sample("v", rbm(), obs=x)

    with torch.no_grad():
        rbm.weight.normal_().mul_(0.3)
    svi = SVI(model, lambda x: None, pyro.optim.SGD({"lr": 0.3 / len(x)}), Trace_ELBO())
    before = rbm.eval()().log_prob(x).mean()
    rbm.train()
    for _ in range(250):
        svi.step(x)
    assert rbm.eval()().log_prob(x).mean() > before + 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_cast_of_the_module_leaves_log_z_in_double_precision(dtype: torch.dtype) -> None:
    rbm, x = setting(WeightedChains(20, 2, 10))
    contrastive_gradient(rbm, x)
    before = {name: rbm.state()[name].clone() for name in WeightedChains.exact}
    rbm.to(dtype)
    assert rbm.weight.dtype == dtype
    for name, value in before.items():
        assert rbm.state()[name].dtype == torch.float64
        assert torch.equal(rbm.state()[name], value)


def test_particles_are_drawn_by_their_weights() -> None:
    rbm = nn.RBM(2, 2, WeightedChains(4, 1, 3))
    rbm.chains.zero_()[2] = 1
    rbm.state()["log_weights"][:] = torch.tensor([-500.0, -500, 0, -500, 9, 9, 9])
    assert (rbm.particles(6) == 1).all()
    assert (rbm.particles() == 1).all()
    assert rbm.particles().shape == (4, 2)


@pytest.mark.parametrize("phase", LAYERED, ids=str)
def test_modules_with_plain_chains_refuse_phases_that_they_would_take_for_pcd(phase: NegativePhase) -> None:
    for make in (
        lambda: nn.ClassRBM(4, 3, 2, negative_phase=phase),
        lambda: nn.BoltzmannMachine(4, negative_phase=phase),
        lambda: nn.ConditionalRBM(4, 3, 2, negative_phase=phase),
    ):
        with pytest.raises(ValueError, match="must be ContrastiveDivergence"):
            make()
