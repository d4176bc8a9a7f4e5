"""Annealed importance sampling and bidirectional Monte Carlo against a log likelihood in closed form."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_gen.models.autoencoder.vae as vae_module
from benchmarks.evidence_annealed import bracketed, linear
from pyro_gen import models, nn
from pyro_gen.distributions import BernoulliConditional
from pyro_gen.infer import AnnealedImportance
from pyro_gen.infer.elbo.annealed import AnnealingPath, anneal_backward, anneal_forward, hamiltonian_move

FEW = "ignore:the importance weights"


def spread(vae: models.VAE, mean: float, scale: float) -> models.VAE:
    """The same decoder under a guide with this mean and scale for all latent variables."""
    encoder: Any = vae.encoder
    with torch.no_grad():
        encoder[-1].weight.zero_()
        encoder[-1].bias.copy_(torch.tensor([mean, math.log(scale)]).repeat(vae.latent))
    return vae


@pytest.mark.filterwarnings(FEW)
@pytest.mark.parametrize(("start", "scale", "off"), [("prior", 0.14, 20.0), ("guide", 0.4, 1.0)])
def test_annealing_is_right_where_plain_importance_sampling_is_nats_off(start: Any, scale: float, off: float) -> None:
    """From the prior under a guide that is far too narrow, from a guide that is a little so: within half a nat."""
    vae, exact = linear(3, 6, 2)
    spread(vae, 1.0, scale)
    x = exact.sample((10,))
    truth = exact.log_prob(x).mean().item()
    assert vae.test_log_likelihood(x, 1000).value < truth - off
    result = vae.test_log_likelihood(x, 16, AnnealedImportance(30, 3, start))
    assert truth - 0.5 < result.value < truth + 0.2
    assert result.acceptance is not None
    assert ((result.acceptance > 0.3) & (result.acceptance < 0.95)).all()
    assert "acceptance" in str(result)
    assert "lower bound" in str(result)


def test_more_temperatures_come_nearer() -> None:
    """The mean gap on the rows of one model falls to less than two thirds from 10 to 40 temperatures."""
    few, many = (bracketed(0, AnnealedImportance(count, 2, "prior"), 20, 8) for count in (10, 40))
    assert many.gap + 2 * many.error > 0
    assert many.gap < few.gap / 1.5
    assert many.upper - many.lower < few.upper - few.lower


def test_the_bracket_on_simulated_rows_holds_the_truth() -> None:
    """Five models, of which four must hold: at a coverage of 95 % a false alarm in 44, at that of the 100 runs none."""
    runs = [bracketed(seed, AnnealedImportance(15, 3, "prior"), 20, 8) for seed in range(5)]
    assert sum(run.holds for run in runs) >= 4
    assert max(run.upper - run.lower for run in runs) < 5  # so that it says something


@pytest.mark.slow
@pytest.mark.parametrize("start", ["prior", "guide"])
def test_the_bracket_holds_the_truth_in_95_of_100_runs(start: Any) -> None:
    method = AnnealedImportance(50, 3, start)
    assert sum(bracketed(seed, method, 20, 16).holds for seed in range(100)) >= 95


@pytest.mark.parametrize("wrong", ["below", "above"])
def test_a_wrong_bound_is_caught(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four nats too many in the weights of one side: no bracket holds."""
    name = "anneal_forward" if wrong == "below" else "anneal_backward"
    right = getattr(vae_module, name)

    def shifted(*args: Any) -> Any:
        result = right(*args)
        return (result[0] + 4.0, result[1]) if wrong == "below" else result + 4.0

    monkeypatch.setattr(vae_module, name, shifted)
    runs = [bracketed(seed, AnnealedImportance(15, 2, "prior"), 20, 8) for seed in range(2)]
    assert not any(run.holds for run in runs)


def gaussian_path() -> AnnealingPath:
    """From N(0, 1) to 3 N(1, 1/4), unnormalised, with latent dimension 1."""
    target = dist.Normal(torch.ones(1).double(), 0.5).to_event(1)
    start = dist.Normal(torch.zeros(1).double(), 1.0).to_event(1)
    return AnnealingPath(start.log_prob, lambda z: target.log_prob(z) + math.log(3), torch.ones(1, 1).double())


def test_mean_weights_are_the_constant_and_its_inverse() -> None:
    """20,000 chains of 8 temperatures: within five standard errors, a false alarm in 10^6."""
    pyro.set_rng_seed(0)
    path, method = gaussian_path(), AnnealedImportance(8, 3)
    steps = [torch.full((1, 1), 0.5).double()] * 8
    forward, _ = anneal_forward(path, torch.randn(20_000, 1, 1).double(), steps, method)
    backward = anneal_backward(path, 1 + 0.5 * torch.randn(20_000, 1, 1).double(), steps, method)
    for log_weight, expected in ((forward, 3.0), (backward, 1 / 3)):
        weight = log_weight.exp()
        assert abs(weight.mean().item() - expected) < 5 * weight.std().item() / 20_000**0.5


def test_a_move_leaves_its_distribution_as_it_is() -> None:
    """Mean and variance after ten moves of 20,000 chains from exact draws: within five standard errors."""
    pyro.set_rng_seed(1)
    z = 1 + 0.5 * torch.randn(20_000, 1, 1).double()
    for _ in range(10):
        z, _, acceptance = hamiltonian_move(gaussian_path(), z, 1.0, torch.full((1, 1), 0.7).double(), 3)
    assert acceptance.mean() < 0.99  # so that the decision to accept matters
    assert abs(z.mean().item() - 1) < 5 * 0.5 / 20_000**0.5
    assert abs(z.var().item() - 0.25) < 5 * 0.25 * (2 / 20_000) ** 0.5


SMALL = AnnealedImportance(10, 2)
X = (torch.rand(6, 5, generator=torch.Generator().manual_seed(0)) < 0.5).float()


@pytest.mark.filterwarnings(FEW)
@pytest.mark.parametrize(
    "make",
    [
        lambda: models.VAE(5, 2, 6, hidden=(4,)),
        lambda: models.VAE(5, 2, 6, hidden=(4,), prior=nn.VampPrior(3, 5)),
        lambda: models.VAE(5, 2, 6, hidden=(4,), likelihood=nn.MADE(5, [5], context=3)),
        lambda: models.SemiSupervisedVAE(5, 2, 6, classes=3, hidden=(4,)),
    ],
)
@pytest.mark.parametrize("start", ["guide", "prior"])
def test_annealing_agrees_with_many_draws(make: Any, start: Any) -> None:
    """A guide that is the prior: each row within five standard errors, a false alarm in 10^5."""
    pyro.set_rng_seed(4)
    vae = spread(make(), 0.0, 1.0)
    method = AnnealedImportance(10, 2, start)
    plain, annealed = vae.test_log_likelihood(X, 4000), vae.test_log_likelihood(X, 64, method)
    error = (plain.errors.square() + annealed.errors.square()).sqrt()
    assert ((annealed.rows - plain.rows).abs() < 5 * error + 1e-3).all()
    assert (error < 0.15).all()
    gap = vae.simulated_gap(8, 8, method)
    assert gap.value > -5 * gap.standard_error
    assert str(gap).startswith("gap on simulated rows")


def test_what_cannot_be_annealed_is_refused() -> None:
    discrete = models.VAE(5, 2, 6, hidden=(4,), latent_distribution=BernoulliConditional())
    for run in (lambda: discrete.test_log_likelihood(X, 4, SMALL), lambda: discrete.simulated_gap(3, 4, SMALL)):
        with pytest.raises(ValueError, match="unless `latent_distribution` is Gaussian"):
            run()
    for settings, match in (
        ({"num_temperatures": 0}, "`num_temperatures`"),
        ({"num_leapfrog": 2.5}, "`num_leapfrog`"),
        ({"start": "posterior"}, "`start` must be"),
    ):
        with pytest.raises(ValueError, match=match):
            AnnealedImportance(**settings)
