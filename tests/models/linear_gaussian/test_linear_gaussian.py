"""Probabilistic PCA and factor analysis against dense normal distributions, scikit-learn and their own gradients."""

from __future__ import annotations

import warnings
from typing import Any

import mpmath
import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from scipy.stats import chi2, kstest, multivariate_normal
from sklearn import decomposition
from sklearn.datasets import load_iris
from torch import Tensor

from pyro_gen.datasets import minibatches
from pyro_gen.infer import lower_bound
from pyro_gen.models import PPCA, FactorAnalysis, LinearGaussian
from pyro_gen.training import fit
from tests.marks import slow

FAMILIES = (PPCA, FactorAnalysis)
Family = type[LinearGaussian]


def wild(family: Family, features: int = 5, latent: int = 2, size: int = 8) -> LinearGaussian:
    model = family(features, latent, size).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def linear_rows(rows: int, features: int, latent: int) -> Tensor:
    """Rows of a factor model of unlike noises, far from the origin."""
    noise = torch.linspace(0.2, 1.0, features)
    x = torch.randn(rows, latent) @ torch.randn(latent, features) + noise * torch.randn(rows, features)
    return x.double() + 3


def holed(x: Tensor, share: float = 0.3) -> Tensor:
    return x.masked_fill(torch.rand(x.shape) < share, torch.nan)


def dense_log_likelihood(model: LinearGaussian, x: Tensor) -> list[float]:
    """By scipy, a row at a time, from the observed cells' own block of the covariance."""
    loc, covariance = model.loc.detach().numpy(), model.covariance.detach().numpy()
    rows = []
    for row in x.numpy():
        seen = ~np.isnan(row)
        distribution = multivariate_normal(loc[seen], covariance[np.ix_(seen, seen)]) if seen.any() else None
        rows.append(0.0 if distribution is None else float(distribution.logpdf(row[seen])))
    return rows


def slope(model: LinearGaussian, x: Tensor) -> float:
    """The largest partial derivative of the mean log likelihood, in standardised units."""
    model.zero_grad()
    model.log_likelihood(x).mean().backward()
    return max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None and p.numel())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("features", "latent"), [(5, 2), (5, 0), (5, 4), (1, 0), (40, 3)])
def test_the_log_likelihood_is_that_of_the_dense_normal_distribution(
    family: Family, features: int, latent: int
) -> None:
    model, x = wild(family, features, latent), torch.randn(6, features).double()
    missing = holed(x).index_fill(0, torch.tensor([2]), torch.nan)  # a row of which nothing is known
    for rows in (x, missing, x[:1]):
        torch.testing.assert_close(model.log_likelihood(rows).tolist(), dense_log_likelihood(model, rows))
    torch.testing.assert_close(model().log_prob(x), model.log_likelihood(x))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.smoke
def test_the_posterior_is_that_of_the_joint_normal_distribution(family: Family) -> None:
    model, x = wild(family), holed(torch.randn(6, 5).double())
    distribution = model.encode(x)
    for row, mean, covariance in zip(x, distribution.mean, distribution.covariance_matrix, strict=True):
        seen = ~row.isnan()
        weight = model.weight[seen]
        gain = weight.mT @ model.covariance[seen][:, seen].inverse()
        torch.testing.assert_close(mean, gain @ (row - model.loc)[seen])
        torch.testing.assert_close(covariance, torch.eye(2).double() - gain @ weight)
    torch.testing.assert_close(model.latent_means(x), distribution.mean)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_cell_is_rebuilt_as_its_mean_given_the_others(family: Family) -> None:
    model, x = wild(family), torch.randn(1, 5).double()
    x[0, 3] = torch.nan
    seen = torch.tensor([0, 1, 2, 4])
    covariance = model.covariance.detach()
    expected = model.loc[3] + covariance[3, seen] @ covariance[seen][:, seen].inverse() @ (x[0] - model.loc)[seen]
    torch.testing.assert_close(model.reconstruct(x)[0, 3], expected.detach())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("latent", [0, 2])
def test_every_draw_of_the_guide_gives_the_elbo_of_log_p(family: Family, latent: int) -> None:
    model, x = wild(family, 5, latent, size=60), torch.randn(6, 5).double()
    for rows in (x, holed(x)):
        exact = 10 * model.log_likelihood(rows).sum().item()  # six rows stand for sixty
        many = Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
        for elbo in (Trace_ELBO(), TraceMeanField_ELBO(), many) if latent else (Trace_ELBO(),):
            assert elbo.loss(model.model, model.guide, rows) == pytest.approx(-exact, rel=1e-9)
    bound = lower_bound(model.model, model.guide, x, num_particles=4)
    torch.testing.assert_close(bound.rows, model.log_likelihood(x).detach())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_of_the_elbo_is_that_of_the_exact_log_likelihood(family: Family) -> None:
    model, x = wild(family, size=6), holed(torch.randn(6, 5).double())
    parameters = list(model.parameters())
    loss = Trace_ELBO().differentiable_loss(model.model, model.guide, x)
    exact = torch.autograd.grad(-model.log_likelihood(x).sum(), parameters)
    for found, expected in zip(torch.autograd.grad(loss, parameters), exact, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("rows", "features", "latent"), [(200, 6, 2), (200, 6, 5), (30, 100, 4), (50, 3, 0)])
def test_the_closed_form_is_a_maximum(rows: int, features: int, latent: int) -> None:
    x = linear_rows(rows, features, min(latent, 2))
    model = PPCA(features, latent, rows).double()
    result = model.fit(x)
    assert slope(model, x) < 1e-9 * features
    assert result.log_likelihood == pytest.approx(model.log_likelihood(x).sum().item())
    climbed = PPCA(features, latent, rows).double().fit(x, method="em")
    assert climbed.log_likelihood == pytest.approx(result.log_likelihood, abs=1e-6 * rows)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("features", [1, 3])
def test_without_latent_variables_it_is_independent_columns(family: Family, features: int) -> None:
    x = holed(linear_rows(50, features, 1), 0.1)
    model = family(features, 0, 50).double()
    assert model.fit(x, method="em").converged
    torch.testing.assert_close(model.loc.detach(), x.nanmean(0))
    centred = (x - x.nanmean(0)).square()
    expected = centred.nanmean().expand(features) if family is PPCA else centred.nanmean(0)
    torch.testing.assert_close(model.noise_variance.detach(), expected)


def test_scikit_learn_s_pca_has_the_same_axes_and_almost_the_same_score() -> None:
    x = linear_rows(300, 8, 3)
    model, peer = PPCA(8, 3, 300).double(), decomposition.PCA(3).fit(x.numpy())
    model.fit(x)
    ours = model.score(x)
    assert 0 <= ours - peer.score(x.numpy()) < 1e-4  # it divides by n - 1, which is not the maximum
    with torch.no_grad():
        axes, variances = torch.from_numpy(peer.components_), torch.from_numpy(peer.explained_variance_)
        model.weight.copy_(axes.mT * (variances - peer.noise_variance_).sqrt())
        model.log_scale.fill_(np.log(peer.noise_variance_) / 2)
    assert model.score(x) == pytest.approx(peer.score(x.numpy()))


@pytest.mark.parametrize(("rows", "features", "latent"), [(300, 8, 3), (30, 60, 4)])
def test_em_reaches_what_scikit_learn_s_factor_analysis_reaches(rows: int, features: int, latent: int) -> None:
    x = linear_rows(rows, features, latent)
    model = FactorAnalysis(features, latent, rows).double()
    result = model.fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its tolerance is out of its reach at times
        peer = decomposition.FactorAnalysis(latent, tol=1e-10, max_iter=5000, svd_method="lapack").fit(x.numpy())
    assert result.converged
    assert not result.degenerate
    assert result.log_likelihood / rows == pytest.approx(peer.score(x.numpy()), abs=1e-4)
    assert model.score(x) == pytest.approx(result.log_likelihood / rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_em_with_missing_cells_climbs_to_a_maximum_of_the_observed_cells(family: Family) -> None:
    x = holed(linear_rows(400, 8, 2), 0.2)
    model = family(8, 2, 400).double()
    result = model.fit(x, tolerance=1e-10, method="em")
    assert result.converged
    assert result.objective.diff().min() > -1e-7
    assert result.log_likelihood == pytest.approx(sum(dense_log_likelihood(model, x)))
    assert slope(model, x) < 1e-4
    filled = model.reconstruct(x)
    assert filled.isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_serves_as_well_as_nan(family: Family) -> None:
    x = linear_rows(50, 5, 2)
    mask = torch.rand(x.shape) < 0.8
    first, second = family(5, 2, 50).double(), family(5, 2, 50).double()
    first.fit(x, mask, num_steps=20, method="em")
    second.fit(x.masked_fill(~mask, torch.nan), num_steps=20, method="em")
    torch.testing.assert_close(first.covariance, second.covariance)
    torch.testing.assert_close(first.log_likelihood(x, mask), second.log_likelihood(x.masked_fill(~mask, torch.nan)))


@pytest.mark.parametrize("family", [FactorAnalysis, *slow(PPCA)])
def test_svi_agrees_with_the_direct_fit_within_a_hundredth_of_a_nat(family: Family) -> None:
    x = linear_rows(300, 6, 2)
    direct, learned = (family.from_data(x, 2) for _ in range(2))
    direct.fit(x)
    optimizer = pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.97})
    svi = SVI(learned.model, learned.guide, optimizer, Trace_ELBO())
    fit(svi.step, minibatches(x, 100), 150, scheduler=optimizer, state={"model": learned}, progress=False)
    assert 0 <= direct.score(x) - learned.score(x) < 0.01


def test_factor_analysis_does_not_mind_units_and_ppca_does() -> None:
    x = linear_rows(200, 5, 1)
    units = torch.tensor([1e-3, 1.0, 10.0, 1e4, 1.0]).double()
    for family, alike in ((FactorAnalysis, True), (PPCA, False)):
        plain, scaled = family(5, 1, 200).double(), family(5, 1, 200).double()
        plain.fit(x, method="em")
        scaled.fit(x * units, method="em")
        gap = scaled.score(x * units) + units.log().sum().item() - plain.score(x)
        assert (abs(gap) < 1e-6) is alike


def test_a_heywood_case_ends_soon_and_above_scikit_learn() -> None:
    # On the irises the best factor model leaves a column without noise; plain EM creeps there.
    x = torch.from_numpy(load_iris().data)
    for latent in (1, 2):
        result = FactorAnalysis(4, latent, 150).double().fit(x, method="em")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it runs into its limit
            peer = decomposition.FactorAnalysis(latent, tol=1e-10, max_iter=1000, svd_method="lapack").fit(x.numpy())
        assert result.converged
        assert len(result.objective) < 500
        assert result.log_likelihood / 150 > peer.score(x.numpy()) - 1e-4


def test_bic_finds_the_number_of_latent_variables() -> None:
    x = linear_rows(1000, 8, 3)
    for family in FAMILIES:
        scores = []
        for latent in range(6):
            model = family(8, latent, 1000).double()
            model.fit(x, method="em")
            scores.append(model.bic(x))
            assert model.aic(x) < scores[-1]
        assert family is PPCA or int(np.argmin(scores)) == 3  # PPCA has but one noise for eight
    y = torch.randn(1000, 3).double() @ torch.randn(3, 8).double() + 0.5 * torch.randn(1000, 8).double()
    models = [PPCA(8, latent, 1000).double() for latent in range(6)]
    for model in models:
        model.fit(y)
    assert int(np.argmin([model.bic(y) for model in models])) == 3


def test_parameters_are_counted_without_the_rotations() -> None:
    assert PPCA(5, 0, 1).num_parameters == 5 + 1
    assert PPCA(5, 2, 1).num_parameters == 5 + 10 - 1 + 1
    assert FactorAnalysis(5, 2, 1).num_parameters == 5 + 10 - 1 + 5
    for family in FAMILIES:
        assert family(5, 4, 1).num_parameters == 5 + 15  # a full covariance


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_have_the_covariance_of_the_model(family: Family) -> None:
    # Kolmogorov-Smirnov on the squared distances of 5000 draws: false alarm 1e-6 each.
    model = wild(family, size=5000)
    drawn = Predictive(model.model, num_samples=1)()["x"].reshape(-1, 5)
    for x in (model.sample(5000), drawn, model().sample((5000,))):
        centred = (x - model.loc).detach()
        distance = (centred @ model.covariance.detach().inverse() * centred).sum(-1)
        assert kstest(distance.numpy(), chi2(5).cdf).pvalue > 1e-6


def test_float32_rows_lose_no_more_than_their_own_digits() -> None:
    x = linear_rows(100, 20, 3)
    single, double = PPCA(20, 3, 100), PPCA(20, 3, 100).double()
    single.fit(x.float())
    double.fit(x)
    assert single.score(x.float()) == pytest.approx(double.score(x), abs=1e-3)
    assert single.weight.dtype == torch.float32


def test_small_noise_costs_no_digits() -> None:
    model = wild(PPCA, 6, 2)
    with torch.no_grad():
        model.log_scale.fill_(-12.0)
    point = model.decode(torch.randn(4, 2).double()).sample()
    with mpmath.workdps(60):
        weight, loc = (mpmath.matrix(p.tolist()) for p in (model.weight, model.loc))
        covariance = weight * weight.T + mpmath.exp(2 * mpmath.mpf(model.log_scale.item())) * mpmath.eye(6)
        constant = mpmath.log(mpmath.det(2 * mpmath.pi * covariance))
        rows = [mpmath.matrix(row) - loc for row in point.tolist()]
        exact = [float(-(constant + (row.T * mpmath.inverse(covariance) * row)[0]) / 2) for row in rows]
    torch.testing.assert_close(model.log_likelihood(point).tolist(), exact, rtol=1e-8, atol=0)


def test_one_model_stands_in_a_larger_program() -> None:
    model, x = PPCA(4, 1, 10), torch.randn(10, 4)

    def program() -> None:
        pyro.module("ppca", model)
        with pyro.plate("rows", 10):
            pyro.sample("x", model(), obs=x)

    total = torch.as_tensor(poutine.trace(program).get_trace().log_prob_sum())
    assert total.item() == pytest.approx(model.log_likelihood(x).sum().item(), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_leave_no_noise_are_refused(family: Family) -> None:
    x = linear_rows(20, 5, 2)
    with pytest.raises(ValueError, match=r"at least latent \+ 2 = 4 rows"):
        family(5, 2, 3).double().fit(x[:3], method="em")
    with pytest.raises(ValueError, match="must vary"):
        family(5, 2, 20).double().fit(torch.ones(20, 5).double())
    with pytest.raises(ValueError, match=r"must be complete|no closed form"):
        family(5, 2, 20).double().fit(holed(x), method="closed form")
    with pytest.raises(ValueError, match="an observed cell in every column"):
        family(5, 2, 20).double().fit(x.index_fill(1, torch.tensor([1]), torch.nan), method="em")


def test_rank_deficient_rows_say_so() -> None:
    for dtype in (torch.float32, torch.float64):
        x = (torch.randn(50, 2, dtype=dtype) @ torch.randn(2, 6, dtype=dtype)) + 1
        for latent in (2, 3):
            with pytest.raises(ValueError, match="the rank of the centred rows, 2"):
                PPCA(6, latent, 50).to(dtype).fit(x)
        assert np.isfinite(PPCA(6, 1, 50).to(dtype).fit(x).log_likelihood)
        assert PPCA(6, 2, 50).to(dtype).fit(x, method="em").degenerate


def test_a_constant_column_is_no_matter_for_ppca_and_one_for_factor_analysis() -> None:
    x = linear_rows(50, 5, 2)
    x[:, 2] = 7.0
    assert np.isfinite(PPCA(5, 2, 50).double().fit(x).log_likelihood)
    with pytest.raises(ValueError, match="column 2"):
        FactorAnalysis(5, 2, 50).double().fit(x, method="em")


BAD: dict[str, tuple[str, Any]] = {
    "latent too large": ("below `features`", lambda: PPCA(3, 3, 10)),
    "latent negative": ("`latent` must be at least 0", lambda: FactorAnalysis(3, -1, 10)),
    "no rows": ("`size` must be at least 1", lambda: PPCA(3, 1, 0)),
    "columns": (r"shape \(rows, 3\)", lambda: PPCA(3, 1, 4).log_likelihood(torch.zeros(4, 2))),
    "empty": ("at least one row", lambda: PPCA(3, 1, 4).log_likelihood(torch.zeros(0, 3))),
    "dtype": ("must be torch.float32", lambda: PPCA(3, 1, 4).log_likelihood(torch.zeros(4, 3).double())),
    "complex": ("must be real numbers", lambda: PPCA(2, 1, 3).fit(torch.ones(3, 2) * 1j, method="em")),
    "infinite": ("finite", lambda: PPCA(3, 1, 4).encode(torch.full((4, 3), torch.inf))),
    "mask": ("`mask` must be bool", lambda: PPCA(3, 1, 4).fit(torch.randn(4, 3), torch.ones(4, 3), method="em")),
    "mask alone": ("must come with `x`", lambda: PPCA(3, 1, 4).model(mask=torch.ones(4, 3).bool())),
    "guide": ("must be given to the guide", lambda: PPCA(3, 1, 4).guide()),
    "code": ("`z` must have shape", lambda: PPCA(3, 1, 4).decode(torch.zeros(4, 2))),
    "samples": ("`num_samples`", lambda: PPCA(3, 1, 4).sample(0)),
    "steps": ("`num_steps`", lambda: PPCA(3, 1, 4).fit(torch.randn(4, 3), num_steps=0, method="em")),
    "table": (r"shape \(rows, features\)", lambda: PPCA.from_data(torch.zeros(3), 1)),
    "no table": ("must be a tensor of shape", lambda: PPCA.from_data(torch.zeros(3), 1)),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    message, call = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
