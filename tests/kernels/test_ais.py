"""The annealed importance weights: step by step in numpy with the same uniforms, and unbiased for the enumerated Z."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_gen.kernels import rbm_ais
from pyro_gen.kernels.ais import reference
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import HIDDEN, VISIBLE
from tests.kernels.oracle import DEVICES, Z_LIMIT, Array, Weights, bits, fixed_uniforms, joint, log_z, sigmoid

BASE = np.array([0.4, -0.7, 0.2, 1.1])
WEIGHTS = Weights.normal(4, 3, scale=1.2, seed=3)


def tempered(weights: Weights, base: Array, beta: float) -> Weights:
    """The RBM whose free energy is that of the path at ``beta``."""
    return Weights(beta * weights.weight, (1 - beta) * base + beta * weights.vbias, beta * weights.hbias)


def log_f(weights: Weights, v: Array) -> float:
    """Log of the sum over all hidden states of exp(-E(v, h)), one state after the other."""
    terms = [weights.vbias @ v + weights.hbias @ h + v @ weights.weight @ h for h in bits(len(weights.hbias))]
    return float(np.logaddexp.reduce(terms))


def slow_ais(
    start: Array, weights: Weights, base: Array, betas: Array, uniforms: tuple[Array, Array]
) -> tuple[Array, Array]:
    """One chain after the other; ``uniforms`` are (steps, chains, hidden) and (steps, chains, visible)."""
    log_weight, last = np.zeros(len(start)), start.copy()
    for chain in range(len(start)):
        v = start[chain]
        for t, (beta, following) in enumerate(itertools.pairwise(betas)):
            here, there = tempered(weights, base, beta), tempered(weights, base, following)
            log_weight[chain] += log_f(there, v) - log_f(here, v)
            h = (uniforms[0][t, chain] < sigmoid(v @ there.weight + there.hbias)).astype(float)
            v = (uniforms[1][t, chain] < sigmoid(there.weight @ h + there.vbias)).astype(float)
        last[chain] = v
    return log_weight, last


@pytest.mark.parametrize("betas", [[0.0, 0.2, 0.5, 0.9, 1.0], [1.0, 0.7, 0.1, 0.0], [0.0, 1.0], [0.3]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_weights_equal_the_slow_ones(betas: list[float], dtype: torch.dtype) -> None:
    chains, steps = 9, len(betas) - 1
    start = np.random.default_rng(0).integers(0, 2, (chains, 4)).astype(float)
    drawn = fixed_uniforms(chains, dtype)
    sheets = [np.array([drawn(t, s, n).double().numpy() for t in range(steps)]) for s, n in ((HIDDEN, 3), (VISIBLE, 4))]
    expected = slow_ais(start, WEIGHTS, BASE, np.array(betas), (sheets[0], sheets[1]))
    v, base = torch.tensor(start, dtype=dtype), torch.tensor(BASE, dtype=dtype)
    log_weight, last = reference.rbm_ais(v, WEIGHTS.tensors(dtype), base, betas, drawn)
    assert log_weight.dtype == torch.float64
    assert last.dtype == dtype
    np.testing.assert_allclose(log_weight.numpy(), expected[0], atol=2e-6 if dtype == torch.float32 else 1e-12)
    np.testing.assert_array_equal(last.double().numpy(), expected[1])


def base_draws(chains: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.tensor((rng.random((chains, 4)) < sigmoid(BASE)).astype(float))


def model_draws(chains: int, seed: int) -> Tensor:
    marginal = joint(WEIGHTS).sum(1)
    return torch.tensor(bits(4)[np.random.default_rng(seed).choice(16, chains, p=marginal)])


def z_of_mean(weights: Array, expected: float) -> float:
    return float((weights.mean() - expected) / (weights.std(ddof=1) / len(weights) ** 0.5))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("num_betas", [1, 5, 20])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_weights_are_unbiased_for_the_ratio_of_partition_functions(device: str, num_betas: int, direction: str) -> None:
    forward, chains = direction == "forward", 20_000
    start = (base_draws if forward else model_draws)(chains, num_betas).to(device)
    betas = torch.linspace(0, 1, num_betas + 1) if forward else torch.linspace(1, 0, num_betas + 1)
    base = torch.tensor(BASE, device=device)
    log_weight, _ = rbm_ais(start, *WEIGHTS.tensors(device=device), base, betas, seed=num_betas)
    log_ratio = log_z(WEIGHTS) - (np.log1p(np.exp(BASE)).sum() + 3 * np.log(2))
    expected = np.exp(log_ratio if forward else -log_ratio)
    assert abs(z_of_mean(log_weight.exp().cpu().numpy(), expected)) < Z_LIMIT


def test_a_wrong_base_is_caught() -> None:
    """The same statistic sees that half the chains started at other base rates."""
    start = base_draws(40_000, 1)
    start[::2] = base_draws(20_000, 2).flip(-1)
    log_weight, _ = rbm_ais(start, *WEIGHTS.tensors(), torch.tensor(BASE), torch.linspace(0, 1, 2), seed=1)
    log_ratio = log_z(WEIGHTS) - (np.log1p(np.exp(BASE)).sum() + 3 * np.log(2))
    assert abs(z_of_mean(log_weight.exp().numpy(), np.exp(log_ratio))) > Z_LIMIT


def test_base_equal_to_the_model_gives_exact_weights() -> None:
    zero = torch.zeros(4, 3, dtype=torch.float64), torch.tensor(BASE), torch.zeros(3, dtype=torch.float64)
    log_weight, _ = rbm_ais(base_draws(10, 0), *zero, torch.tensor(BASE), torch.linspace(0, 1, 50), seed=0)
    assert torch.equal(log_weight, torch.zeros(10, dtype=torch.float64))


@pytest.mark.parametrize("rng", ["fast", "philox"])
def test_splits_of_the_chains_give_the_same_weights(monkeypatch: pytest.MonkeyPatch, rng: str) -> None:
    monkeypatch.setenv("PYRO_GEN_RNG", rng)
    start, base, betas = base_draws(150, 0), torch.tensor(BASE), torch.linspace(0, 1, 6)
    whole = rbm_ais(start, *WEIGHTS.tensors(), base, betas, seed=4, chain_offset=3)
    part = rbm_ais(start[80:], *WEIGHTS.tensors(), base, betas, seed=4, chain_offset=83)
    torch.testing.assert_close(part[0], whole[0][80:], rtol=0, atol=1e-13)
    assert torch.equal(part[1], whole[1][80:])


def test_batched_parameters_equal_a_loop() -> None:
    scales = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    weight, vbias, hbias = WEIGHTS.tensors()
    weights = scales[:, None, None] * weight
    start, base, betas = base_draws(10, 0), torch.tensor(BASE), [0.0, 0.5, 1.0]
    drawn = fixed_uniforms(30)

    def cell(k: int) -> tuple[Tensor, Tensor]:
        def uniforms(step: int, stream: int, units: int) -> Tensor:
            return drawn(step, stream, units).view(10, 3, units)[:, k]

        return reference.rbm_ais(start, RBMParameters(weights[k], vbias, hbias), base, betas, uniforms)

    batched = RBMParameters(weights, vbias, hbias)
    together = reference.rbm_ais(start[:, None].expand(10, 3, 4), batched, base, betas, drawn)
    for k in range(3):
        torch.testing.assert_close(together[0][:, k], cell(k)[0], rtol=0, atol=1e-13)
        assert torch.equal(together[1][:, k], cell(k)[1])


def test_float32_rounding_stays_small() -> None:
    """The same path of 400 temperatures in both dtypes; no uniform of this seed lies within rounding."""
    weights, betas = Weights.normal(30, 20, scale=0.3), torch.linspace(0, 1, 401, dtype=torch.float64)
    start = fixed_uniforms(2)(0, 0, 30).round()
    results = []
    for dtype in (torch.float32, torch.float64):
        drawn, base = fixed_uniforms(2, dtype), torch.zeros(30, dtype=dtype)
        results.append(reference.rbm_ais(start.to(dtype), weights.tensors(dtype), base, betas.tolist(), drawn))
    assert torch.equal(results[0][1].double(), results[1][1])
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-4)


def test_no_gradient_and_no_change_of_the_arguments() -> None:
    parameters = [x.requires_grad_() for x in (*WEIGHTS.tensors(), torch.tensor(BASE))]
    start, state = base_draws(5, 0), torch.get_rng_state()
    before = start.clone()
    weight, vbias, hbias, base = parameters
    log_weight, last = rbm_ais(start, weight, vbias, hbias, base, torch.linspace(0, 1, 4), seed=0)
    assert not log_weight.requires_grad
    assert not last.requires_grad
    assert torch.equal(start, before)
    assert torch.equal(torch.get_rng_state(), state)
