"""Block Gibbs draws from the enumerated conditionals and keeps the enumerated distribution; single mistakes are caught.

Every test here judges a sampler through three statistics, and the negative controls go through the same three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_gen.kernels import rbm_gibbs
from pyro_gen.kernels.gibbs.reference import field, half_step
from pyro_gen.kernels.random import HIDDEN, VISIBLE, sfc64_uniforms
from pyro_gen.testing import goodness_of_fit
from tests.kernels.oracle import (
    BACKENDS,
    DEVICES,
    P_LIMIT,
    Z_LIMIT,
    Array,
    Weights,
    bits,
    code,
    end_distribution,
    joint,
    sigmoid,
)

N, MANY = 40_000, 200_000
STRONG = Weights.normal(4, 4, scale=1.5, seed=5)

Parameters = tuple[Tensor, Tensor, Tensor]
Sampler = Callable[[Tensor, Parameters, int, int], tuple[Tensor, Tensor]]
"""``sampler(v, parameters, num_steps, seed)`` gives the last visible and hidden states."""


class Verdict(NamedTuple):
    """Smallest p-value of the two distributions, and the largest |z| of the conditionals."""

    end_distribution: float
    stationarity: float
    conditional: float

    @property
    def passes(self) -> bool:
        return min(self.end_distribution, self.stationarity) > P_LIMIT and self.conditional < Z_LIMIT


def fit(states: NDArray[np.int64], probs: Array) -> float:
    counts = np.bincount(states.reshape(-1), minlength=probs.size)
    return goodness_of_fit(torch.from_numpy(counts), torch.from_numpy(probs.reshape(-1)))


def end_distribution_p(sampler: Sampler, weights: Weights, device: str = "cpu") -> float:
    """p-value of the pair (visible, hidden) after one and three sweeps from the first and the last visible state."""
    parameters, states, ps = weights.tensors(torch.float32, device), bits(len(weights.vbias)), []
    for start in (0, len(states) - 1):
        v0 = torch.tensor(states[start], dtype=torch.float32, device=device).expand(N, -1)
        for sweeps in (1, 3):
            v, h = sampler(v0, parameters, sweeps, 100 * start + sweeps)
            distribution = end_distribution(weights, start, sweeps)
            ps.append(fit(code(v) * distribution.shape[1] + code(h), distribution))
    return min(ps)


def exact_samples(weights: Weights, number: int, seed: int, device: str) -> Tensor:
    marginal, states = joint(weights).sum(1), bits(len(weights.vbias))
    drawn = np.random.default_rng(seed).choice(len(marginal), number, p=marginal)
    return torch.tensor(states, dtype=torch.float32, device=device)[torch.from_numpy(drawn).to(device)]


def stationarity_p(sampler: Sampler, weights: Weights, number: int, seeds: int, device: str = "cpu") -> float:
    """p-value of the joint distribution after one sweep from exact samples: of each seed, and of all seeds together."""
    parameters, distribution = weights.tensors(torch.float32, device), joint(weights)
    all_states = []
    for seed in range(seeds):
        v, h = sampler(exact_samples(weights, number, seed, device), parameters, 1, seed)
        all_states.append(code(v) * distribution.shape[1] + code(h))
    return min(fit(np.stack(all_states), distribution), *(fit(states, distribution) for states in all_states))


def regression_z(drawn: Array, probs: Array, given: Array) -> float:
    """Largest |z| of drawn - probs against each given unit and each other drawn unit; all zero for Bernoulli(probs)."""
    residual, variance = drawn - probs, probs * (1 - probs)
    given = np.column_stack((np.ones(len(given)), given))
    linear = np.abs(given.T @ residual) / np.sqrt((given**2).T @ variance + 1e-300)
    pairs = np.abs(residual.T @ residual) / np.sqrt(variance.T @ variance + 1e-300)
    return float(max(linear.max(), (pairs - np.diag(np.diag(pairs))).max()))


def conditional_z(sampler: Sampler, weights: Weights, device: str = "cpu") -> float:
    """Largest |z| of h against p(h | v) and of v against p(v | h), one sweep from uniform states."""
    start = torch.tensor(np.random.default_rng(1).integers(0, 2, (N, len(weights.vbias))), dtype=torch.float32)
    v, h = sampler(start.to(device), weights.tensors(torch.float32, device), 1, 77)
    v0, v1, h1 = (x.cpu().double().numpy() for x in (start, v, h))
    upwards = sigmoid(v0 @ weights.weight + weights.hbias)
    downwards = sigmoid(h1 @ weights.weight.T + weights.vbias)
    return max(regression_z(h1, upwards, v0), regression_z(v1, downwards, h1))


def judge(sampler: Sampler, weights: Weights) -> Verdict:
    return Verdict(
        end_distribution_p(sampler, weights), stationarity_p(sampler, weights, N, 2), conditional_z(sampler, weights)
    )


def op(v: Tensor, parameters: Parameters, num_steps: int, seed: int) -> tuple[Tensor, Tensor]:
    return rbm_gibbs(v, *parameters, num_steps, seed=seed)


@pytest.fixture(params=["fast", *BACKENDS])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every backend with Philox, and the torch path with its own stream."""
    fast = request.param == "fast"
    monkeypatch.setenv("PYRO_GEN_RNG", "fast" if fast else "philox")
    monkeypatch.setenv("PYRO_GEN_BACKEND", "cpu" if fast else request.param)
    return str(request.param)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("size", [(1, 1), (2, 4)])
def test_the_distribution_after_k_sweeps_is_enumerated(size: tuple[int, int]) -> None:
    assert end_distribution_p(op, Weights.normal(*size)) > P_LIMIT


@pytest.mark.usefixtures("path")
def test_one_sweep_keeps_the_joint_distribution() -> None:
    assert stationarity_p(op, Weights.normal(6, 5), N, 2) > P_LIMIT


@pytest.mark.parametrize("weights", [Weights.normal(6, 5), STRONG], ids=["normal", "strong"])
def test_one_sweep_keeps_the_joint_distribution_over_many_seeds(weights: Weights) -> None:
    assert stationarity_p(op, weights, MANY, 20) > P_LIMIT


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("size", [(6, 5), (1, 6), (21, 10)])
def test_each_conditional_is_its_formula(size: tuple[int, int]) -> None:
    assert conditional_z(op, Weights.normal(*size, scale=1 / size[0] ** 0.5)) < Z_LIMIT


@pytest.mark.parametrize("device", [d for d in DEVICES if d != "cpu"])
def test_the_same_distributions_hold_on_an_accelerator(device: str) -> None:
    assert end_distribution_p(op, STRONG, device) > P_LIMIT
    assert stationarity_p(op, STRONG, MANY, 20, device) > P_LIMIT
    assert conditional_z(op, STRONG, device) < Z_LIMIT


def test_beta_tempers_the_conditionals() -> None:
    weights, n = Weights.normal(3, 3), N // 2
    betas = [0.0, 0.3, 1.0, 2.0]
    beta = torch.tensor(betas).repeat_interleave(n)
    v, h = rbm_gibbs(torch.zeros(4 * n, 3), *weights.tensors(torch.float32), 2, beta, seed=2)
    for rung, value in enumerate(betas):
        distribution = end_distribution(weights, 0, 2, value)
        rows = slice(rung * n, (rung + 1) * n)
        assert fit(code(v[rows]) * 8 + code(h[rows]), distribution) > P_LIMIT


Halves = Callable[[Tensor, Parameters, Tensor, Tensor], tuple[Tensor, Tensor]]


def mutant(sweep: Halves, restart: bool = False, streams: tuple[int, int] = (HIDDEN, VISIBLE)) -> Sampler:
    """A sampler from the reference's parts with one sweep exchanged."""

    def sampler(v: Tensor, parameters: Parameters, num_steps: int, seed: int) -> tuple[Tensor, Tensor]:
        uniforms, start, h = sfc64_uniforms(seed, len(v), 0, v), v, v
        for t in range(num_steps):
            up = uniforms(t, streams[0], parameters[2].shape[-1])
            down = uniforms(t, streams[1], parameters[1].shape[-1])
            v, h = sweep(start if restart else v, parameters, up, down)
        return v, h

    return sampler


def right(v: Tensor, parameters: Parameters, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    weight, vbias, hbias = parameters
    h = half_step(field(v, weight, hbias), None, up)
    return half_step(field(h, weight.mT, vbias), None, down), h


def swapped_bias(v: Tensor, parameters: Parameters, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    weight, vbias, hbias = parameters
    return right(v, (weight, hbias, vbias), up, down)


def transposed_weight(v: Tensor, parameters: Parameters, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    weight, vbias, hbias = parameters
    return right(v, (weight.mT, vbias, hbias), up, down)


def biased_hidden_threshold(v: Tensor, parameters: Parameters, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    return right(v, parameters, up / 1.05, down)


def biased_visible_threshold(v: Tensor, parameters: Parameters, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    return right(v, parameters, up, down / 1.05)


def same_word_for_two_units(v: Tensor, parameters: Parameters, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    return right(v, parameters, up[:, [0, 0, 2, 3]], down)


def hidden_of_the_new_visible(v: Tensor, parameters: Parameters, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Returns hidden states drawn with the same uniforms from the new visible states: v is used twice."""
    new_v, _ = right(v, parameters, up, down)
    return new_v, right(new_v, parameters, up, down)[1]


def test_the_parts_put_together_rightly_pass() -> None:
    assert judge(mutant(right), STRONG).passes


MUTANTS = {
    "swapped bias": mutant(swapped_bias),
    "transposed weight": mutant(transposed_weight),
    "hidden threshold 5 % off": mutant(biased_hidden_threshold),
    "visible threshold 5 % off": mutant(biased_visible_threshold),
    "a random word used for two units": mutant(same_word_for_two_units),
    "one stream for both half steps": mutant(right, streams=(HIDDEN, HIDDEN)),
    "v used twice": mutant(hidden_of_the_new_visible),
    "every sweep from the first v": mutant(right, restart=True),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_sampler_with_one_mistake_is_caught(name: str) -> None:
    verdict = judge(MUTANTS[name], STRONG)
    assert not verdict.passes, verdict
