"""The variational autoencoder against closed forms and sums over its latent states, in all its variants."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, config_enumerate
from torch import Tensor

from pyro_gen import models, nn
from pyro_gen._evaluation import evaluating
from pyro_gen.datasets import bars_and_stripes
from pyro_gen.distributions import (
    BernoulliConditional,
    CategoricalConditional,
    DiscretizedLogisticConditional,
    GaussianConditional,
)
from pyro_gen.infer import DoublyReparametrizedELBO, ImportanceWeightedELBO, StickingTheLandingELBO, WakeSleep
from pyro_gen.nn.latent_priors import MixtureOfPosteriors
from pyro_gen.testing import states
from pyro_gen.training import fit

DATA = bars_and_stripes(2, 3).repeat(5, 1)
LABELS = torch.randint(3, (40, 5), generator=torch.Generator().manual_seed(0))
NUMBERS = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
IMAGES = torch.rand(12, 2, 9, 7, generator=torch.Generator().manual_seed(2)).round()


class Line(torch.nn.Module):
    """A linear decoder with one scale for all features."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.line = torch.nn.Linear(2, features)
        self.log_scale = torch.nn.Parameter(torch.tensor(-0.3))

    def forward(self, z: Tensor) -> Tensor:
        mean = self.line(z)
        return torch.stack([mean, self.log_scale.expand_as(mean)], -1)


def linear_gaussian(features: int = 3) -> tuple[models.VAE, Any]:
    """A VAE of linear maps in double precision, and its marginal distribution in closed form."""
    pyro.set_rng_seed(5)
    vae: Any = models.VAE(features, 2, 4, likelihood=GaussianConditional(), decoder=Line(features), hidden=()).double()
    with torch.no_grad():  # a guide that is wide everywhere: its weights have a variance
        last = vae.encoder[-1]
        last.weight.mul_(0.1)
        last.bias.copy_(torch.tensor([0.0, 0.1]).repeat(2))
    decoder = vae.decoder
    covariance = decoder.line.weight @ decoder.line.weight.mT + (2 * decoder.log_scale).exp() * torch.eye(features)
    return vae, dist.MultivariateNormal(decoder.line.bias.detach(), covariance.detach())


def steps(vae: models.VAE, loss: Any, x: Tensor, count: int = 3, rate: float = 0.01) -> float:
    pyro.clear_param_store()
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": rate}), loss)
    return float([svi.step(x) for _ in range(count)][-1])


VARIANTS: dict[str, tuple[dict[str, Any], Tensor]] = {
    "Bernoulli": ({}, DATA),
    "labels": ({"likelihood": CategoricalConditional(3)}, LABELS),
    "labels of several kinds": ({"likelihood": CategoricalConditional((3, 4, 3, 5, 3))}, LABELS),
    "Gaussian": ({"likelihood": GaussianConditional()}, NUMBERS),
    "levels": ({"likelihood": DiscretizedLogisticConditional(3, 2)}, LABELS.float()),
    "MADE": ({"likelihood": nn.MADE(6, [6], context=3)}, DATA),
    "NADE": ({"likelihood": nn.NADE(6, 5, context=3)}, DATA),
    "PixelCNN": ({"likelihood": nn.PixelCNN((2, 3), 4, 2, 3, 3, True, 3)}, DATA.unflatten(-1, (2, 3))),
    "images": ({"network": "convolutional"}, IMAGES),
    "images of labels": ({"network": "convolutional", "likelihood": CategoricalConditional(3)}, IMAGES[:, 0].long()),
    "VampPrior": ({"prior": nn.VampPrior(7, 6)}, DATA),
    "one row": ({}, DATA[:1]),
    "one number": ({}, DATA[:, :1]),
}


@pytest.mark.filterwarnings("ignore:the importance weights")  # of few draws, to see that it runs
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_learns_draws_and_is_judged(name: str) -> None:
    settings, x = VARIANTS[name]
    pyro.set_rng_seed(0)
    vae = models.VAE.from_data(x, 2, hidden=(4,), **settings)
    for loss in (
        TraceMeanField_ELBO(),
        ImportanceWeightedELBO(3),
        DoublyReparametrizedELBO(3),
        StickingTheLandingELBO(2),
    ):
        assert math.isfinite(steps(vae, loss, x))
    found = vae.test_log_likelihood(x, num_samples=30)
    assert found.rows.shape == (len(x),)
    assert found.rows.isfinite().all()
    assert ((found.effective_sample_size > 0.99) & (found.effective_sample_size < 30.01)).all()
    assert vae.sample(3).shape == (3, *x.shape[1:])
    assert vae.reconstruct(x).shape == x.shape
    assert vae.conditional.support(vae.visible).check(vae.sample(3).flatten(1)).all()
    assert Predictive(vae.model, num_samples=2)()["x"].shape == (2, len(x), *x.shape[1:])


def test_the_estimate_is_the_log_likelihood_of_a_linear_gaussian_model() -> None:
    # Errors of rows and of their mean within five standard errors: 3e-6.
    vae, marginal = linear_gaussian()
    x = torch.randn(6, 3).double()
    found = vae.test_log_likelihood(x, num_samples=20_000)
    assert ((found.rows - marginal.log_prob(x)).abs() < 5 * found.errors + 1e-3).all()
    assert found.value == pytest.approx(marginal.log_prob(x).mean().item(), abs=5 * found.sampling_error + 1e-3)
    assert found.row_error == pytest.approx(found.rows.std().item() / 6**0.5)
    assert "K=20000" in str(found)


def test_the_reported_error_is_that_of_repetitions() -> None:
    # The ratio of two standard deviations over 200 repetitions is within a fifth of 1: five standard errors, 6e-7.
    vae, _ = linear_gaussian()
    pyro.set_rng_seed(7)
    x = torch.randn(1, 3).double()
    found = [vae.test_log_likelihood(x, num_samples=500) for _ in range(200)]
    spread = torch.tensor([f.value for f in found]).std().item()
    assert spread == pytest.approx(torch.cat([f.errors for f in found]).mean().item(), rel=0.25)


def test_log_likelihood_less_elbo_is_the_divergence_from_the_posterior() -> None:
    # 40,000 draws of four rows, five standard errors below 0.02 each: 3e-7.
    vae, marginal = linear_gaussian()
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(3)).double()
    loss = TraceMeanField_ELBO(num_particles=40_000, vectorize_particles=True, max_plate_nesting=1)
    gap = marginal.log_prob(x).sum().item() + loss.loss(vae.model, vae.guide, x)
    decoder: Any = vae.decoder
    line, variance = decoder.line, (2 * decoder.log_scale).exp()
    covariance = torch.linalg.inv(torch.eye(2).double() + line.weight.mT @ line.weight / variance)
    mean = (x - line.bias) @ line.weight @ covariance / variance
    distribution: Any = vae.encode(x).base_dist
    guide = dist.MultivariateNormal(distribution.loc, torch.diag_embed(distribution.scale**2))
    exact = torch.distributions.kl_divergence(guide, dist.MultivariateNormal(mean, covariance)).sum().item()
    assert gap == pytest.approx(exact, abs=0.1)


def test_minibatches_leave_the_bound_unbiased() -> None:
    # Means over 30 passes of equal shares, five standard errors: 3e-7 each.
    vae, _ = linear_gaussian()
    vae.size, x = 400, torch.randn(400, 3, generator=torch.Generator().manual_seed(4)).double()
    for loss in (TraceMeanField_ELBO(), ImportanceWeightedELBO(5)):
        whole = torch.tensor([loss.loss(vae.model, vae.guide, x) for _ in range(30)])
        parts = torch.tensor([sum(loss.loss(vae.model, vae.guide, b) for b in x.split(100)) / 4 for _ in range(30)])
        error = ((whole.var() + parts.var()) / 30).sqrt().item()
        assert whole.mean().item() == pytest.approx(parts.mean().item(), abs=5 * error)


def test_binary_latent_variables_are_summed_out_exactly_where_they_are_few() -> None:
    pyro.set_rng_seed(1)
    prior = nn.RBM(3, 2)
    torch.nn.init.normal_(prior.weight)
    for own in (None, prior.eval()):
        pyro.clear_param_store()
        vae = models.VAE(6, 3, 10, hidden=(4,), latent_distribution=BernoulliConditional(), prior=own)
        loss = TraceEnum_ELBO(max_plate_nesting=1)
        value = loss.loss(config_enumerate(vae.model), lambda x: None, DATA[:10])
        z = states(3).float()
        joint = vae.prior_distribution().log_prob(z).unsqueeze(1) + vae.decode(z.unsqueeze(1)).log_prob(DATA[:10])
        assert -value == pytest.approx(joint.logsumexp(0).sum().item(), rel=1e-4)


def test_labels_as_latent_variables_learn_by_wake_sleep_and_by_enumeration() -> None:
    pyro.set_rng_seed(2)
    x = bars_and_stripes(2, 2)
    vae = models.VAE(4, 2, len(x), hidden=(16,), latent_distribution=CategoricalConditional(3))
    before = vae.test_log_likelihood(x, 200).value
    steps(vae, WakeSleep(10), x, 200, 0.03)
    assert vae.test_log_likelihood(x, 200).value > before + 0.1
    q = vae.encode(x)
    z = q.enumerate_support(expand=False)
    log_q = q.log_prob(z)
    log_p = vae.prior_distribution().log_prob(z) + vae.decode(z).log_prob(x)
    enumerated = TraceEnum_ELBO(max_plate_nesting=1).loss(vae.model, config_enumerate(vae.guide), x)
    assert enumerated == pytest.approx((log_q.exp() * (log_q - log_p)).sum().item(), rel=1e-4)
    with pytest.raises(ValueError, match="'z' must have a reparametrised distribution"):
        steps(vae, ImportanceWeightedELBO(2), x)
    pyro.clear_param_store()
    empty = SVI(
        config_enumerate(vae.model), lambda x: None, pyro.optim.Adam({"lr": 0.03}), TraceEnum_ELBO(max_plate_nesting=1)
    )
    losses = [empty.step(x) for _ in range(200)]
    assert -losses[-1] / len(x) > -math.log(6) - 0.35


@pytest.mark.filterwarnings("ignore:the importance weights")  # a gain of 0.1 nats is seen all the same
@pytest.mark.smoke
def test_it_learns_bars_and_stripes() -> None:
    pyro.set_rng_seed(3)
    x = bars_and_stripes(2, 2)
    vae = models.VAE.from_data(x, 3, hidden=(32,))
    before = vae.test_log_likelihood(x, 500).value
    steps(vae, TraceMeanField_ELBO(num_particles=10, vectorize_particles=True, max_plate_nesting=1), x, 200)
    assert vae.test_log_likelihood(x, 500).value > before + 0.3


def test_beta_and_free_bits_act_in_training_alone() -> None:
    vae = models.VAE(6, 2, len(DATA), hidden=(4,), beta=0.25)

    def value(loss: Any) -> float:
        pyro.set_rng_seed(4)
        return float(loss.loss(vae.model, vae.guide, DATA))

    weighed = value(TraceMeanField_ELBO())
    vae.beta = 1.0
    whole = value(TraceMeanField_ELBO())
    use = vae.latent_use(DATA)
    assert use.divergence is not None
    divergence = use.divergence.sum().item() * len(DATA)
    assert whole - weighed == pytest.approx(0.75 * divergence, rel=1e-3)
    vae.free_bits = float(use.divergence.max()) + 0.5
    lack = (vae.free_bits - use.divergence).sum().item() * len(DATA)
    for loss in (TraceMeanField_ELBO(), Trace_ELBO()):
        vae.eval()
        plain = value(loss)
        vae.train()
        assert value(loss) - plain == pytest.approx(lack, rel=1e-3)
    with pytest.raises(ValueError, match="'free_bits'"):
        value(ImportanceWeightedELBO(2))
    bound = vae.lower_bound(DATA, 200)
    assert bound.value == pytest.approx(-whole / len(DATA), abs=0.3)
    assert vae.training


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_a_beta_that_is_not_positive_is_refused_where_it_is_written(beta: float) -> None:
    vae = models.VAE(6, 2, len(DATA), hidden=(4,), beta=0.25)
    with pytest.raises(ValueError, match="`beta` must be a positive, finite number"):
        vae.beta = beta
    with pytest.raises(ValueError, match="`beta` must be a positive, finite number"):
        models.VAE(6, 2, len(DATA), hidden=(4,), beta=beta)
    assert vae.beta == 0.25


def test_every_warm_up_is_a_beta() -> None:
    vae = models.VAE(6, 2, len(DATA), hidden=(4,))
    for epochs in (0, 1, 3):
        for epoch in range(1, 5):
            vae.beta = models.warm_up(epoch, epochs)
            assert vae.beta == min(1.0, epoch / epochs if epochs else 1.0)


@pytest.mark.parametrize(
    ("epoch", "epochs"), [(0, 3), (0, 0), (-1, 3), (float("nan"), 3), (1, -1), (1, float("nan")), (1, 2.5)]
)
def test_a_warm_up_before_the_first_epoch_is_refused(epoch: int, epochs: int) -> None:
    wrong = "epochs" if epoch > 0 else "epoch"
    with pytest.raises(ValueError, match=f"`{wrong}` must be "):
        models.warm_up(epoch, epochs)


def test_under_free_bits_the_divergence_has_no_gradient_below() -> None:
    vae: Any = models.VAE(6, 2, len(DATA), hidden=(), free_bits=100.0, decoder=torch.nn.Linear(2, 6))
    torch.nn.init.zeros_(vae.decoder.weight)  # nothing but the divergence reaches the encoder
    TraceMeanField_ELBO().loss_and_grads(vae.model, vae.guide, DATA)
    assert all(p.grad is not None and p.grad.abs().max() < 1e-3 for p in vae.encoder.parameters())


def test_active_units_are_those_whose_means_vary() -> None:
    vae: Any = models.VAE(6, 3, len(DATA), hidden=())
    with torch.no_grad():
        vae.encoder[-1].weight.zero_()
        vae.encoder[-1].weight[0, 0] = 1.0  # the mean of the first dimension
        vae.encoder[-1].bias.zero_()
    use = vae.latent_use(DATA)
    assert use.active.tolist() == [True, False, False]
    assert use.variance[0].item() == pytest.approx(DATA[:, 0].var().item())
    assert use.divergence is not None
    torch.testing.assert_close(use.divergence, torch.tensor([DATA[:, 0].square().mean().item() / 2, 0.0, 0.0]))
    assert str(use).startswith("1 of 3 latent dimensions active")


def test_a_vamp_prior_is_the_mixture_of_the_encoder_s_distributions_and_draws_from_it() -> None:
    # 4000 draws: their mean within five standard errors in each dimension, 1e-6.
    pyro.set_rng_seed(6)
    vae: Any = models.VAE.from_data(DATA, 2, hidden=(4,), prior=nn.VampPrior(5, 6)).double()
    densities = vae.encode(vae.prior.pseudo_inputs)
    z = torch.randn(7, 2).double()
    mixture = (densities.log_prob(z.unsqueeze(1)).logsumexp(-1) - math.log(5)).detach()
    torch.testing.assert_close(vae.prior_distribution().log_prob(z).detach(), mixture)
    draws = vae.sample_prior(4000)
    assert ((draws.mean(0) - densities.mean.mean(0)).abs() < 5 * draws.std(0) / 4000**0.5).all()
    assert len(list(vae.named_parameters())) == len({id(p) for p in vae.parameters()})


def test_the_mode_of_every_part_comes_back_after_an_evaluation() -> None:
    vae = models.VAE(6, 2, 5, hidden=(4,))
    vae.encoder.eval()
    modes = [part.training for part in vae.modules()]
    with evaluating(vae):
        assert not any(part.training for part in vae.modules())
    assert [part.training for part in vae.modules()] == modes


@pytest.mark.filterwarnings("ignore:the importance weights")  # the figures agree all the same
def test_double_precision_gives_the_same_figures() -> None:
    vae = models.VAE(6, 2, 5, hidden=(4,))
    pyro.set_rng_seed(9)
    single = vae.test_log_likelihood(DATA, 3000).value
    double = vae.double().test_log_likelihood(DATA.double(), 3000)
    assert double.value == pytest.approx(single, abs=0.02)
    assert vae.sample(2).dtype == torch.float64


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    def run(epochs: int, name: str) -> models.VAE:
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        vae = models.VAE.from_data(DATA, 2, hidden=(4,), prior=nn.VampPrior(3, 6))
        optimizer = pyro.optim.Adam({"lr": 0.01})
        svi = SVI(vae.model, vae.guide, optimizer, TraceMeanField_ELBO())
        state = {"vae": vae, "optimizer": optimizer}
        fit(svi.step, [DATA], epochs, state=state, checkpoint=tmp_path / name, progress=False)
        return vae

    straight = run(4, "whole.pt")
    run(2, "parts.pt")
    resumed = run(4, "parts.pt")
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_bad_input_is_named() -> None:
    vae = models.VAE(6, 2, 10, hidden=(4,))
    for message, call in {
        "`latent` must be at least 1": lambda: models.VAE(6, 0, 10),
        "`size` must be at least 1": lambda: models.VAE(6, 2, 0),
        "`network`": lambda: models.VAE(6, 2, 10, network="deep"),  # type: ignore[arg-type]
        "`beta` must be a positive": lambda: models.VAE(6, 2, 10, beta=0.0),
        "a sum over latent dimensions, got 1.0 under VampPrior": lambda: models.VAE(
            6, 2, 10, prior=nn.VampPrior(2, 6), free_bits=1.0
        ),
        "with a context": lambda: models.VAE(6, 2, 10, likelihood=nn.MADE(6, [5])),
        "`likelihood` must be a distribution": lambda: models.VAE(6, 2, 10, likelihood="bernoulli"),  # type: ignore[arg-type]
        "unless `latent_distribution` is Gaussian": lambda: models.VAE(
            6, 2, 10, latent_distribution=BernoulliConditional(), prior=nn.VampPrior(2, 6)
        ),
        "`num_samples`": lambda: vae.test_log_likelihood(DATA, 0),
        "got NaN": lambda: vae.test_log_likelihood(torch.full((2, 6), torch.nan)),
        "got other values": lambda: vae.test_log_likelihood(DATA + 1),
        "`x` must have shape": lambda: vae.test_log_likelihood(DATA[:, :5]),
        "with at least one row": lambda: vae.test_log_likelihood(DATA[:0]),
        "`x` must be given": vae.guide,
        "two rows": lambda: vae.latent_use(DATA[:1]),
        "`decoder` must return": lambda: models.VAE(6, 2, 10, decoder=torch.nn.Linear(2, 5)).sample(2),
        "`encoder` must return": lambda: models.VAE(6, 2, 10, encoder=torch.nn.Linear(6, 3)).latent_means(DATA),
        "support of the likelihood": lambda: models.VAE.from_data(DATA + 0.5, 2),
        "`shape` must be": lambda: models.VAE(6, 2, 10, network="convolutional"),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("features", [1, 7, 100, 101, 784])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_gradient_events_have_the_same_log_probability(features: int, dtype: torch.dtype) -> None:
    # Logits of up to 120 nats beside faint ones. A term is rounded where it is small by the one that is added in it;
    # torch's own softplus, with a gradient, leaves out e^-20.
    generator = torch.Generator().manual_seed(0)
    logits = 30 * torch.randn(2, 500, features, dtype=dtype, generator=generator)
    logits[:, ::2] /= 30
    value = torch.bernoulli(torch.full((2, 1, features), 0.3, dtype=dtype), generator=generator)
    distribution = dist.Bernoulli(logits=logits.double()).to_event(1)
    exact = distribution.log_prob(value.double())
    rounding = 4 * torch.finfo(dtype).eps * (1 + logits.double().abs()).sum(-1) + math.exp(-20) * features
    for enabled in (False, True):
        with torch.set_grad_enabled(enabled):
            found = BernoulliConditional().total_log_prob(logits.unsqueeze(-1), value)
            rows = BernoulliConditional().total_log_prob(logits.unsqueeze(-1), value.expand_as(logits))
        assert ((found - exact).abs() <= rounding).all()
        assert ((rows - exact).abs() <= rounding).all()


def test_a_vamp_prior_scores_alike_with_and_without_a_gradient_also_far_from_its_components() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = 20 * torch.randn(300, 3, dtype=torch.float64, generator=generator)
    scale = 0.1 + torch.rand(300, 3, dtype=torch.float64, generator=generator)
    prior = MixtureOfPosteriors(mean, scale)
    z = torch.cat([mean, 100 * torch.ones(1, 3), torch.zeros(800, 3)]).view(3, 367, 3)
    exact = dist.Normal(mean, scale).to_event(1).log_prob(z.unsqueeze(-2)).logsumexp(-1) - math.log(300)
    with torch.no_grad():
        torch.testing.assert_close(prior.log_prob(z), exact)
        torch.testing.assert_close(prior.expand((3, 367)).log_prob(z[0, 0]), exact[0, 0].expand(3, 367))
    torch.testing.assert_close(prior.log_prob(z), exact)


class TwoHeads(torch.nn.Module):
    """The encoder of Pyro's tutorial: location and scale apart."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = torch.nn.Linear(9, 4)
        self.log_scale = torch.nn.Linear(9, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.loc(x), self.log_scale(x).exp()


def test_an_encoder_with_two_heads_gives_location_and_scale() -> None:
    encoder = TwoHeads()
    x = torch.bernoulli(torch.full((20, 9), 0.5))
    vae = models.VAE.from_data(x, 4, encoder=encoder)
    posterior = vae.encode(x)
    loc, scale = encoder(x)
    assert torch.allclose(posterior.mean, loc)
    assert torch.allclose(posterior.stddev, scale)
    with pytest.raises(ValueError, match=r"`encoder` must return a tensor .* got a list"):
        models.VAE.from_data(x, 4, encoder=Listed()).encode(x)
    with pytest.raises(ValueError, match="scales above 0"):
        models.VAE.from_data(x, 4, encoder=Negative()).encode(x)


class Listed(TwoHeads):
    """A list in place of a pair."""

    def forward(self, x: Tensor) -> Any:
        return [self.loc(x)]


class Negative(TwoHeads):
    """Scales that are none."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.loc(x), -self.log_scale(x).exp()
