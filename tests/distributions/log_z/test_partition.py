"""How log Z is known: exact, annealed forwards and backwards, and contrasts that refuse to pass for probabilities."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import (
    CSIS,
    MCMC,
    NUTS,
    SVI,
    Importance,
    JitTrace_ELBO,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceTailAdaptive_ELBO,
)
from torch import Tensor

from pyro_gen import nn
from pyro_gen.distributions import RBM
from pyro_gen.infer import AIS, ContrastiveDivergence, Exact, Partition, PersistentChains
from tests.kernels.oracle import Z_LIMIT, Weights, bits, joint, log_z

SMALL = Weights.normal(4, 3, seed=3)
V = torch.tensor(bits(4))
RATES = torch.full((4,), 0.4)
Parameters = tuple[Tensor, Tensor, Tensor]


def leaves(weights: Weights = SMALL) -> Parameters:
    weight, vbias, hbias = weights.tensors()
    return weight.requires_grad_(), vbias.requires_grad_(), hbias.requires_grad_()


@pytest.fixture
def anneals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every run of AIS."""
    runs: list[int] = []
    anneal = RBM.anneal

    def counted(self: RBM, *arguments: Any) -> tuple[Tensor, Tensor]:
        runs.append(1)
        return anneal(self, *arguments)

    monkeypatch.setattr(RBM, "anneal", counted)
    return runs


@pytest.mark.parametrize("size", [(4, 3), (3, 6), (1, 1)])
@pytest.mark.parametrize("base_rates", [None, 0.3])
def test_ais_has_the_exact_value_within_its_error(size: tuple[int, int], base_rates: float | None) -> None:
    weights = Weights.normal(*size, seed=7)
    rates = None if base_rates is None else torch.full(size[:1], base_rates)
    estimate = RBM(*weights.tensors(), AIS(1000, 100, rates)).log_partition()
    assert estimate.method == "AIS"
    assert 0 < estimate.standard_error < 0.05
    assert 100 <= estimate.effective_sample_size <= 1000
    assert abs(estimate.value - log_z(weights)) < Z_LIMIT * estimate.standard_error


def exact_rows(weights: Weights, number: int) -> Tensor:
    marginal = joint(weights).sum(1)
    return torch.tensor(bits(len(weights.vbias))[np.random.default_rng(0).choice(len(marginal), number, p=marginal)])


def test_reverse_ais_from_exact_samples_has_the_exact_value_within_its_error() -> None:
    rbm, settings = RBM(*SMALL.tensors()), AIS(1000, 100)
    estimate = settings.reverse(rbm, exact_rows(SMALL, 2000))
    assert estimate.method == "reverse AIS"
    assert 0 < estimate.standard_error < 0.05
    assert abs(estimate.value - log_z(SMALL)) < Z_LIMIT * estimate.standard_error


def test_coarse_paths_err_below_forwards_and_above_backwards() -> None:
    """By Jensen the mean of the log estimates lies below, and of the reverse ones above; 200 runs of 5 chains each."""
    strong, settings = Weights.normal(4, 3, scale=2.0, seed=3), AIS(5, 2, RATES)
    rbm, rows = RBM(*strong.tensors()), exact_rows(strong, 1000).view(200, 5, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # five chains are never trusted
        forward = [RBM(*strong.tensors(), settings).log_partition().value for _ in range(200)]
        backward = [settings.reverse(rbm, sample).value for sample in rows]
    assert torch.stack(forward).mean() < log_z(strong) < torch.stack(backward).mean()


def test_standard_error_is_the_spread_of_the_estimates() -> None:
    """Ratio of the mean reported error to the spread over 200 runs: 1 within 6 of its standard errors 0.05."""
    estimates = [RBM(*SMALL.tensors(), AIS(100, 10, RATES)).log_partition() for _ in range(200)]
    values, errors = (torch.stack(x) for x in list(zip(*estimates, strict=True))[:2])
    assert abs(values.std() / errors.mean() - 1) < 0.3
    assert abs(values.mean() - log_z(SMALL)) < Z_LIMIT * values.std() / 200**0.5 + errors.mean() ** 2


def test_batched_parameters_have_an_estimate_each(anneals: list[int]) -> None:
    weight, vbias, hbias = SMALL.tensors()
    scales = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    rbm = RBM(scales[:, None, None] * weight, vbias, hbias.expand(2, 1, 3), AIS(500, 100))
    estimate = rbm.log_partition()
    assert [x.shape for x in estimate[:3]] == [(2, 3)] * 3
    for k, scale in enumerate(scales.tolist()):
        exact = log_z(Weights(scale * SMALL.weight, SMALL.vbias, SMALL.hbias))
        assert ((estimate.value[:, k] - exact).abs() < Z_LIMIT * estimate.standard_error[:, k]).all()
    assert estimate.value[0, 0] != estimate.value[1, 0]
    assert len(anneals) == 1


def test_reverse_ais_refuses_rows_that_fit_no_batch() -> None:
    """Rows (chains, visible) beside a batch of as many elements must not be taken as one row an element."""
    weight, vbias, hbias = SMALL.tensors()
    rbm = RBM(weight.expand(3, 4, 3), vbias, hbias)
    try:
        estimate = AIS(50, 50).reverse(rbm, exact_rows(SMALL, 3))
    except ValueError:
        return
    assert estimate.value.shape == (3,)


def test_one_run_serves_one_object_and_its_expansions(anneals: list[int]) -> None:
    rbm = RBM(*SMALL.tensors(), AIS(50, 50))
    first = rbm.log_prob(V)
    torch.testing.assert_close(rbm.expand((2, 1)).log_prob(V), first.expand(2, 16), rtol=0, atol=0)
    assert torch.equal(first, rbm.unnormalized_log_prob(V) - rbm.log_partition().value)
    assert rbm.expand((5,)).log_partition().value.shape == (5,)
    assert len(anneals) == 1
    RBM(*SMALL.tensors(), AIS(50, 50)).log_prob(V)
    assert len(anneals) == 2
    assert torch.equal(copy.deepcopy(rbm).log_prob(V), first)


@pytest.mark.parametrize("partition", [AIS(50, 50), Exact()])
def test_changed_parameters_get_a_new_log_z(partition: Partition) -> None:
    weight, vbias, hbias = SMALL.tensors()
    rbm = RBM(weight, vbias, hbias, partition)
    changes: dict[str, Callable[[], object]] = {
        "in place": lambda: weight.mul_(2),
        "a bias": lambda: hbias.add_(1),
        "through an optimiser": lambda: torch._foreach_add_([weight], 0.5),
        "through .data": lambda: weight.data.sub_(1),
        "in inference mode": lambda: torch.inference_mode()(weight.add_)(0.25),
    }
    before = rbm.log_partition().value
    for name, change in changes.items():
        change()
        now = rbm.log_partition().value
        exact = RBM(weight, vbias, hbias).log_partition().value
        assert now != before, name
        assert abs(now - exact) < 1.0, name
        before = now


def test_an_estimate_made_in_inference_mode_serves_outside() -> None:
    for partition in (AIS(50, 50), Exact()):
        rbm = RBM(*leaves(), partition)
        with torch.inference_mode():
            inside = rbm.log_prob(V).clone()
        outside = rbm.log_prob(V)
        outside.sum().backward()
        torch.testing.assert_close(outside.detach(), inside)
        assert rbm.weight.grad is not None


def test_log_prob_and_log_partition_draw_nothing() -> None:
    rbms = [RBM(*leaves(), partition) for partition in (AIS(50, 50), Exact(), ContrastiveDivergence(2), None)]
    state = torch.get_rng_state()
    first = [rbm.log_prob(V) for rbm in rbms]
    again = [rbm.log_prob(V) for rbm in rbms]
    rbms[0].log_partition()
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)


def test_one_seed_fixes_the_run() -> None:
    values = []
    for seed in (1, 1, 2):
        pyro.set_rng_seed(seed)
        values.append(RBM(*SMALL.tensors(), AIS(50, 50)).log_partition().value.item())
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("method", ["log_prob", "log_joint"])
def test_the_gradient_of_an_annealed_probability_is_exact_in_the_mean(method: str) -> None:
    """Mean over 40 runs of 200 chains against the exact gradient; the bias is below a tenth of the mean's spread."""

    def gradients(partition: Partition | None) -> Tensor:
        parameters = leaves()
        rbm = RBM(*parameters, partition)
        value = rbm.log_prob(V[5]) if method == "log_prob" else rbm.log_joint(V[5], torch.ones(3, dtype=torch.float64))
        return torch.cat([x.flatten() for x in torch.autograd.grad(value, parameters)])

    exact = gradients(None)
    runs = torch.stack([gradients(AIS(200, 20, RATES)) for _ in range(40)])
    z = (runs.mean(0) - exact) / (runs.std(0) / 40**0.5)
    assert z.abs().max() < Z_LIMIT, z


def test_an_untrustworthy_estimate_warns() -> None:
    strong = RBM(*Weights.normal(12, 12, scale=4.0).tensors(), AIS(100, 1, torch.full((12,), 0.5)))
    with pytest.warns(UserWarning, match=r"AIS cannot be trusted: effective sample size .* of 100 chains.*`num_betas`"):
        strong.log_partition()


def test_infinite_parameters_give_no_number() -> None:
    weight, vbias, hbias = SMALL.tensors()
    rbm = RBM(weight * float("inf"), vbias, hbias, AIS(50, 50), validate_args=False)
    with pytest.raises(ValueError, match="not finite"):
        rbm.log_partition()


BAD_SETTINGS: dict[str, tuple[Callable[[], object], str]] = {
    "chains": (lambda: AIS(0, 5), "`num_chains` must be at least 1, got 0"),
    "betas": (lambda: AIS(5, -1), "`num_betas` must be at least 1, got -1"),
    "CD": (lambda: ContrastiveDivergence(0), "`num_steps` must be at least 1, got 0"),
    "PCD": (lambda: PersistentChains(num_chains=0), "`num_chains` must be at least 1, got 0"),
    "no module": (lambda: RBM(*SMALL.tensors(), PersistentChains(num_chains=5)), r"pyro_gen\.nn\.RBM"),
    "too many units": (lambda: RBM(*SMALL.tensors(), Exact(2)), r"at most .* got 3"),
    "unbound AIS": (lambda: AIS(5, 5).log_partition(RBM(*SMALL.tensors())), "is a setting"),
    "base rates": (lambda: RBM(*SMALL.tensors(), AIS(5, 5, torch.full((5,), 0.5))).log_partition(), "`base_rates`"),
    "rate above one": (lambda: RBM(*SMALL.tensors(), AIS(5, 5, torch.full((4,), 1.5))).log_partition(), "`base_rates`"),
    "NaN rate": (lambda: RBM(*SMALL.tensors(), AIS(5, 5, torch.full((4,), np.nan))).log_partition(), "`base_rates`"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings_are_named(name: str) -> None:
    call, message = BAD_SETTINGS[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_rates_of_zero_and_one_are_kept_off_certainty() -> None:
    rates = torch.tensor([0.0, 1.0, 0.5, 0.0])
    estimate = RBM(*SMALL.tensors(), AIS(2000, 200, rates)).log_partition()
    assert abs(estimate.value - log_z(SMALL)) < Z_LIMIT * estimate.standard_error


PHASES = [ContrastiveDivergence(1), PersistentChains(num_chains=10)]


@pytest.mark.parametrize("phase", PHASES)
def test_a_contrast_is_no_log_probability(phase: Partition) -> None:
    rbm = nn.RBM(4, 3, negative_phase=phase)()
    for call in (rbm.log_partition, lambda: rbm.log_joint(torch.ones(4), torch.ones(3))):
        with pytest.raises(ValueError, match=r"no log Z.*Exact or AIS"):
            call()


def test_a_contrast_refuses_batched_parameters() -> None:
    weight, vbias, hbias = SMALL.tensors()
    with pytest.raises(ValueError, match=r"no batch dimensions, got batch shape \(5,\)"):
        RBM(weight.expand(5, 4, 3), vbias, hbias, ContrastiveDivergence(1))


def test_the_contrast_of_cd_is_a_pure_function_with_the_gradient_of_its_particles() -> None:
    """Contrast and gradient from the particles, which a second object with the same key shows."""
    pyro.set_rng_seed(1)
    parameters = leaves()
    rbm = RBM(*parameters, ContrastiveDivergence(3))
    pyro.set_rng_seed(1)
    seed = int(torch.randint(-(2**63), 2**63 - 1, ()))
    particles = RBM(*SMALL.tensors()).sweep(V, 3, seed, 0)
    contrast = rbm.log_prob(V)
    expected = rbm.free_energy(particles) - rbm.free_energy(V)
    torch.testing.assert_close(contrast, expected, rtol=0, atol=1e-12)
    ours = torch.autograd.grad(contrast.sum(), parameters)
    theirs = torch.autograd.grad(expected.sum(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def optimiser() -> pyro.optim.PyroOptim:
    return pyro.optim.Adam({"lr": 0.01})


def no_guide() -> None:
    """Everything is observed."""


def with_elbo(elbo: Any) -> Callable[[Callable[[], object]], object]:
    return lambda model: SVI(model, no_guide, optimiser(), elbo).step()


CALLERS: dict[str, Callable[[Callable[[], object]], object]] = {
    "JIT": with_elbo(JitTrace_ELBO()),
    "Renyi": with_elbo(RenyiELBO(alpha=0, num_particles=2)),
    "reweighted wake-sleep": with_elbo(ReweightedWakeSleep(num_particles=2)),
    "tail-adaptive": with_elbo(TraceTailAdaptive_ELBO(num_particles=2, vectorize_particles=True)),
    "importance": lambda model: Importance(model, no_guide, num_samples=2).run(),
    "compiled inference": lambda model: CSIS(model, no_guide, optimiser()).run(),
    "NUTS": lambda model: MCMC(NUTS(model), num_samples=1, warmup_steps=0, disable_progbar=True).run(),
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("caller", CALLERS)
def test_callers_that_need_probabilities_are_refused(caller: str, phase: Partition) -> None:
    rbm = nn.RBM(4, 3, negative_phase=phase)

    def model() -> None:
        if caller == "NUTS":
            pyro.sample("shift", dist.Normal(0, 1))
        pyro.module("rbm", rbm)
        with pyro.plate("rows", 16):
            pyro.sample("v", rbm(), obs=V.float())

    with pytest.raises(ValueError, match=r"needs log probabilities|traced \(JIT\)"):
        CALLERS[caller](model)
    assert rbm.step == 0


def test_a_plain_elbo_takes_every_phase() -> None:
    for phase in (*PHASES, Exact(), AIS(20, 20)):
        rbm = nn.RBM(4, 3, negative_phase=phase)

        def model(rbm: nn.RBM = rbm) -> None:
            pyro.module("rbm", rbm)
            with pyro.plate("rows", 16):
                pyro.sample("v", rbm(), obs=V.float())

        pyro.clear_param_store()
        SVI(model, no_guide, optimiser(), Trace_ELBO()).step()
        assert rbm.weight.grad is not None


def sampled_weights(partition: Partition) -> Callable[[], None]:
    _, vbias, hbias = SMALL.tensors(torch.float32)

    def model() -> None:
        weight = pyro.sample("weight", dist.Normal(torch.zeros(4, 3), 1).to_event(2))
        with pyro.plate("rows", 16):
            pyro.sample("v", RBM(weight, vbias, hbias, partition), obs=V.float())

    return model


def test_nuts_over_weights_takes_exact_and_refuses_ais() -> None:
    with pytest.raises(ValueError, match="AIS"):
        MCMC(NUTS(sampled_weights(AIS(20, 20))), num_samples=2, warmup_steps=1, disable_progbar=True).run()
    exact = MCMC(NUTS(sampled_weights(Exact())), num_samples=2, warmup_steps=1, disable_progbar=True)
    exact.run()
    assert exact.get_samples()["weight"].shape == (2, 4, 3)


def shifted(v: Callable[[], RBM]) -> Callable[[], None]:
    def model() -> None:
        loc = pyro.sample("loc", dist.Normal(0, 1))
        pyro.sample("y", dist.Normal(loc, 1), obs=torch.tensor(1.0))
        pyro.sample("v", v(), obs=torch.ones(4))

    return model


def test_nuts_over_other_latents_sees_one_annealed_log_z(anneals: list[int]) -> None:
    rbm = nn.RBM(4, 3, evaluation=AIS(20, 20)).eval()
    mcmc = MCMC(NUTS(shifted(rbm)), num_samples=5, warmup_steps=5, disable_progbar=True)
    mcmc.run()
    assert mcmc.get_samples()["loc"].shape == (5,)
    assert len(anneals) == 1


def test_a_new_annealed_log_z_for_every_step_of_nuts_is_refused() -> None:
    """Weights at rest but a new object, so a new estimate, at every evaluation: the energy would be noise."""
    weight, vbias, hbias = SMALL.tensors(torch.float32)
    model = shifted(lambda: RBM(weight, vbias, hbias, AIS(20, 20)))
    with pytest.raises(ValueError, match="AIS"):
        MCMC(NUTS(model), num_samples=5, warmup_steps=5, disable_progbar=True).run()


def test_the_gradient_of_an_annealed_probability_weighs_the_particles() -> None:
    """One temperature from far away, so that the weights differ: the mean of 40 runs of 3000 chains is exact."""
    strong = Weights.normal(4, 3, scale=1.5, seed=3)

    def gradient(partition: Partition | None) -> Tensor:
        parameters = leaves(strong)
        return torch.cat(
            [x.flatten() for x in torch.autograd.grad(RBM(*parameters, partition).log_prob(V[5]), parameters)]
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # few effective chains are the point
        runs = torch.stack([gradient(AIS(3000, 1, RATES)) for _ in range(40)])
    z = (runs.mean(0) - gradient(None)) / (runs.std(0) / 40**0.5)
    assert z.abs().max() < Z_LIMIT, z


def test_a_reverse_run_walks_the_forward_run_s_own_path_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Base rates and temperatures come from a pilot of the run's own key, so both runs must use the same key."""
    paths: list[tuple[Tensor, Tensor]] = []
    anneal = RBM.anneal

    def watched(self: RBM, states: Tensor, base: Tensor, betas: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        paths.append((base, betas))
        return anneal(self, states, base, betas, seed)

    monkeypatch.setattr(RBM, "anneal", watched)
    rbm = RBM(*SMALL.tensors(), AIS(50, 300))
    rbm.log_partition()
    (base, betas) = paths[-1]
    assert isinstance(rbm.partition, AIS)
    rbm.partition.reverse_log_weights(rbm, exact_rows(SMALL, 20))
    assert torch.equal(paths[-1][0], base)
    assert torch.equal(paths[-1][1], betas.flip(0))
