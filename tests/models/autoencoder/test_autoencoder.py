"""Autoencoders: the linear ones against PCA and the Wiener filter, the corruptions against their distributions."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

from pyro_gen.datasets import minibatches
from pyro_gen.distributions import CategoricalConditional, FixedScaleGaussianConditional, GaussianConditional
from pyro_gen.models import PCA, Autoencoder, DenoisingAutoencoder
from pyro_gen.nn import GaussianNoise, MaskingNoise, SaltAndPepperNoise
from pyro_gen.training import fit

SQUARED = FixedScaleGaussianConditional()


def correlated(rows: int, features: int) -> Tensor:
    """Rows whose variances fall by a factor of two from axis to axis."""
    scales = 2.0 ** (1 - torch.arange(features) / 2)
    return (torch.randn(rows, features) * scales) @ torch.linalg.qr(torch.randn(features, features)).Q + 1


def weight_of(network: nn.Module) -> Tensor:
    layer = next(part for part in network.modules() if isinstance(part, nn.Linear))
    return layer.weight.detach()


def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    """Angles between the column spaces of two matrices, in radians."""
    cosines = torch.linalg.svdvals(torch.linalg.qr(a).Q.mT @ torch.linalg.qr(b).Q)
    return cosines.clamp(max=1).acos()


def descend(model: Autoencoder, x: Tensor) -> None:
    """Full-batch quasi-Newton steps on the ELBO of a deterministic pair."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=500, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )
    elbo = Trace_ELBO()

    def closure() -> float:
        optimizer.zero_grad()
        loss = elbo.differentiable_loss(model.model, model.guide, x) / len(x)
        loss.backward()
        return loss.item()

    optimizer.step(closure)


@pytest.mark.parametrize("latent", [1, 3])
def test_a_linear_autoencoder_spans_the_principal_subspace(latent: int) -> None:
    x = correlated(200, 6).double()
    model = Autoencoder(6, latent, 200, hidden=(), likelihood=SQUARED).double()
    descend(model, x)
    pca = PCA.from_data(x, latent)
    assert principal_angles(weight_of(model.decoder), pca.components.mT).max() < 1e-3
    torch.testing.assert_close(model.reconstruct(x), pca.reconstruct(x), atol=1e-3, rtol=1e-3)


class OnceDrawn(nn.Module):
    """The same noise at every call, so that the optimum is known exactly."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        return x + self.noise if self.training else x


def test_a_linear_denoising_autoencoder_is_the_regression_of_clean_on_noisy_rows() -> None:
    x, noise = correlated(60, 3).double(), torch.randn(60, 3).double()
    model = DenoisingAutoencoder(3, 3, 60, hidden=(), likelihood=SQUARED, corruption=OnceDrawn(noise)).double()
    descend(model, x)
    clean, noisy = x - x.mean(0), x + noise - (x + noise).mean(0)
    expected = clean.mT @ noisy @ (noisy.mT @ noisy).inverse()
    torch.testing.assert_close(weight_of(model.decoder) @ weight_of(model.encoder), expected, atol=1e-3, rtol=0)
    assert (torch.linalg.svdvals(expected) < 0.95).all()  # it shrinks, where a plain one would be the identity


def test_the_step_of_svi_trains_in_the_loop_with_minibatches() -> None:
    x = torch.eye(8).repeat(20, 1)
    for model in (Autoencoder(8, 3, 160, hidden=(16,)), DenoisingAutoencoder(8, 3, 160, hidden=(16,))):
        svi = SVI(model.model, model.guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        before = model.reconstruction_log_likelihood(x).mean()
        history = fit(svi.step, minibatches(x, 40), 30, state={"model": model}, progress=False)
        after = model.reconstruction_log_likelihood(x).mean()
        assert after > before + 1
        assert history[-1]["loss"] < history[0]["loss"]


def test_the_loss_is_minus_the_log_likelihood_of_all_rows() -> None:
    x = (torch.rand(10, 6) < 0.5).float()
    model = Autoencoder(6, 2, size=100, hidden=(4,))
    expected = -10 * model.reconstruction_log_likelihood(x).sum().item()  # ten rows stand for a hundred
    assert Trace_ELBO().loss(model.model, model.guide, x) == pytest.approx(expected, rel=1e-5)


def test_rows_are_corrupted_in_training_only_and_the_target_never() -> None:
    x = torch.ones(5, 4)
    model = DenoisingAutoencoder(4, 2, 5, hidden=(), likelihood=SQUARED, corruption=MaskingNoise(1.0))
    blank = model.decode(model.encode(torch.zeros(5, 4)))
    torch.testing.assert_close(model(x).mean, blank.mean)
    torch.testing.assert_close(model(x).log_prob(x), blank.log_prob(x))
    assert not torch.equal(model.reconstruct(x), blank.mean)
    assert model.training
    torch.testing.assert_close(model.eval()(x).mean, model.reconstruct(x))


def test_corruptions_have_their_rates() -> None:
    # 200,000 cells each: five standard errors, 6e-7 for each of the comparisons.
    x = torch.full((1000, 200), 0.5)
    masked, peppered, blurred = MaskingNoise(0.3)(x), SaltAndPepperNoise(0.4)(x), GaussianNoise(0.2)(x)
    assert (masked == 0).float().mean().item() == pytest.approx(0.3, abs=5 * (0.21 / 2e5) ** 0.5)
    for value in (0, 1):
        assert (peppered == value).float().mean().item() == pytest.approx(0.2, abs=5 * (0.16 / 2e5) ** 0.5)
    assert blurred.std().item() == pytest.approx(0.2, abs=5 * 0.2 / 4e5**0.5)
    for noise in (MaskingNoise(), SaltAndPepperNoise(), GaussianNoise()):
        assert torch.equal(noise.eval()(x), x)


def test_networks_of_the_user_and_other_likelihoods_serve() -> None:
    x = torch.randn(7, 4).double()
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Unflatten(1, (4, 2)))
    model = Autoencoder(4, 2, 7, likelihood=GaussianConditional(), encoder=nn.Linear(4, 2), decoder=decoder).double()
    assert model(x).log_prob(x).shape == (7,)
    assert model.decode(torch.zeros(3, 5, 2).double()).batch_shape == (3, 5)
    assert model.latent_means(x).shape == (7, 2)


def test_it_starts_at_the_means_of_the_columns() -> None:
    x = correlated(50, 4).double()
    model = Autoencoder.from_data(x, 2, hidden=(), likelihood=SQUARED)
    assert model.size == 50
    torch.testing.assert_close(model.decode(torch.zeros(2).double()).mean, x.mean(0))


def test_bad_input_is_named() -> None:
    model = Autoencoder(4, 2, 7)
    for message, call in {
        "must be given": model.model,
        "got NaN": lambda: model.model(torch.full((3, 4), torch.nan)),
        "got other values": lambda: model.reconstruct(torch.full((3, 4), 0.5)),
        r"shape \(rows, 4\) with": lambda: model.model(torch.zeros(3, 5)),
        r"shape \(rows, 4\), got": lambda: model.encode(torch.zeros(3, 5)),
        "at least one row": lambda: model.model(torch.zeros(0, 4)),
        "`z` must": lambda: model.decode(torch.zeros(3)),
        "at least 1, got 0": lambda: Autoencoder(0, 2, 7),
        "distribution of numbers": lambda: Autoencoder(4, 2, 7, likelihood=CategoricalConditional(3)),
        "`encoder` must": lambda: Autoencoder(4, 2, 7, encoder=nn.Linear(4, 3)).encode(torch.zeros(3, 4)),
        "`decoder` must": lambda: Autoencoder(4, 2, 7, decoder=nn.Linear(2, 3)).decode(torch.zeros(3, 2)),
        "must be a tensor of shape": lambda: Autoencoder.from_data(torch.zeros(3), 1),
        "`rate`": lambda: MaskingNoise(1.5),
        "`scale`": lambda: GaussianNoise(-1.0),
        "`scale` must be positive": lambda: FixedScaleGaussianConditional(0.0),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
