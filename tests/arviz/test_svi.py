"""Guides in ArviZ: weights against closed forms, corrected means, and guides whose log q is no density.

Statistical tests allow four standard errors, two-sided: a false alarm in 16,000, about 20 comparisons.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import autoguide
from torch import Tensor

from pyro_gen.arviz import from_mcmc, from_svi, weighted_summary
from tests.arviz.models import arviz, groups_of, loo, prior_run, quietly, values

Y = torch.tensor([0.3, 1.1, 2.0, 1.4, -0.2], dtype=torch.float64)
NUMBER = len(Y)
MEAN, SCALE = float(Y.sum() / (1 + NUMBER)), (1 + NUMBER) ** -0.5
COVARIANCE = torch.eye(NUMBER, dtype=torch.float64) + 1
EVIDENCE = dist.MultivariateNormal(torch.zeros(NUMBER, dtype=torch.float64), COVARIANCE).log_prob(Y).item()
ZERO, ONE = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)


def conjugate(y: Tensor) -> None:
    x = pyro.sample("x", dist.Normal(ZERO, ONE))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(x, ONE), obs=y)


def normal_guide(mean: float, scale: float) -> Callable[[Tensor], None]:
    def guide(y: Tensor) -> None:
        pyro.sample("x", dist.Normal(ZERO + mean, ONE * scale))

    return guide


def attrs(data: Any) -> dict[str, float]:
    return dict(data["sample_stats"].attrs)


def test_the_exact_guide_has_equal_weights_and_the_evidence_without_error() -> None:
    pyro.set_rng_seed(0)
    data = from_svi(conjugate, normal_guide(MEAN, SCALE), Y, num_samples=200)
    about = attrs(data)
    assert about["pareto_k"] == 0
    assert about["log_evidence"] == pytest.approx(EVIDENCE, abs=1e-9)
    assert about["elbo"] == pytest.approx(EVIDENCE, abs=1e-9)
    assert about["importance_ess"] == pytest.approx(200)
    stats = data["sample_stats"]
    assert {"lp", "log_q", "log_weight", "psis_log_weight"} == set(stats.data_vars)
    assert all(stats[name].shape == (1, 200) for name in stats.data_vars)
    assert groups_of(data) == {"posterior", "sample_stats", "log_likelihood", "log_prior", "observed_data"}


def test_a_wrong_guide_is_corrected_within_its_stated_error() -> None:
    pyro.set_rng_seed(1)
    data = from_svi(conjugate, normal_guide(MEAN + 0.4, 1.5 * SCALE), Y, num_samples=2000)
    about, row = attrs(data), weighted_summary(data).loc["x"]
    assert about["pareto_k"] < 0.5
    assert abs(row["mean"] - MEAN) < 4 * row["mcse_mean"] < 0.1
    assert row["sd"] == pytest.approx(SCALE, rel=0.1)
    assert abs(about["log_evidence"] - EVIDENCE) < 4 * about["log_evidence_se"] < 0.2
    assert about["elbo"] < EVIDENCE - 0.1
    raw = values(data, "posterior", "x").mean()
    assert raw > MEAN + 0.3  # what arviz.summary of the guide's draws says
    weight = np.exp(values(data, "sample_stats", "psis_log_weight"))
    assert weight.sum() == pytest.approx(1)


def test_resampled_draws_follow_the_posterior_and_have_no_weights_left() -> None:
    pyro.set_rng_seed(2)
    data = from_svi(conjugate, normal_guide(MEAN + 0.4, 1.5 * SCALE), Y, num_samples=4000, resample=True)
    draws = values(data, "posterior", "x")
    about = attrs(data)
    # both the weights and the drawing anew have an error
    error = SCALE * (1 / about["importance_ess"] + 1 / 4000) ** 0.5
    assert abs(draws.mean() - MEAN) < 4 * error
    assert set(data["sample_stats"].data_vars) == {"lp", "log_q"}
    prior = dist.Normal(0.0, 1.0).log_prob(torch.as_tensor(draws)).numpy()
    joint = prior + values(data, "log_likelihood", "y").sum(-1)
    np.testing.assert_allclose(values(data, "sample_stats", "lp"), joint, rtol=1e-6)
    with pytest.raises(ValueError, match="`data` must have `psis_log_weight`"):
        weighted_summary(data)


def test_a_guide_that_is_too_narrow_is_told_by_its_tail() -> None:
    pyro.set_rng_seed(3)
    data = from_svi(conjugate, normal_guide(MEAN, 0.3 * SCALE), Y, num_samples=2000)
    assert attrs(data)["pareto_k"] > 0.7
    with pytest.warns(UserWarning, match=r"Pareto k-hat .* above 0.7"):
        weighted_summary(data)


def several(y: Tensor) -> None:
    scale = pyro.sample("scale", dist.LogNormal(ZERO, 0.3 * ONE))
    share = pyro.sample("share", dist.Dirichlet(torch.ones(3, dtype=torch.float64) * 4))
    with pyro.plate("row", len(y)):
        x = pyro.sample("x", dist.Normal(ZERO, ONE))
        pyro.sample("y", dist.Normal(x * share[0], scale), obs=y)


def evidence_of_several() -> float:
    """By quadrature: x integrates out in closed form, a share of a symmetric Dirichlet is a beta."""
    log_scale = torch.linspace(-2.5, 2.5, 801, dtype=torch.float64)[:, None]
    share = (torch.arange(800, dtype=torch.float64)[None] + 0.5) / 800
    each = dist.Normal(ZERO, (log_scale.exp() ** 2 + share**2).sqrt()[..., None]).log_prob(Y).sum(-1)
    prior = dist.Normal(ZERO, 0.3 * ONE).log_prob(log_scale) + dist.Beta(4 * ONE, 8 * ONE).log_prob(share)
    return float((each + prior).flatten().logsumexp(0)) + math.log(5 / 800) - math.log(800)


def guide_list(model: Any) -> Any:
    parts = autoguide.AutoGuideList(model)
    parts.append(autoguide.AutoNormal(poutine.block(model, expose=["scale", "x"]), init_scale=0.7))
    parts.append(autoguide.AutoMultivariateNormal(poutine.block(model, expose=["share"]), init_scale=0.4))
    return parts


AUTOGUIDES: dict[str, Callable[[Any], Any]] = {
    "AutoNormal": lambda model: autoguide.AutoNormal(model, init_scale=0.7),
    "AutoDiagonalNormal": lambda model: autoguide.AutoDiagonalNormal(model, init_scale=0.7),
    "AutoMultivariateNormal": lambda model: autoguide.AutoMultivariateNormal(model, init_scale=0.7),
    "AutoLowRankMultivariateNormal": lambda model: autoguide.AutoLowRankMultivariateNormal(model, init_scale=0.7),
    "AutoGuideList": guide_list,
}


@pytest.mark.parametrize("name", AUTOGUIDES)
def test_the_densities_of_autoguides_are_right_also_of_constrained_sites(name: str) -> None:
    """The weights of a guide that was never fitted still estimate the evidence without bias."""
    pyro.clear_param_store()
    pyro.set_rng_seed(4)
    torch.set_default_dtype(torch.float64)
    try:
        guide = AUTOGUIDES[name](several)
        guide(Y)
        data = from_svi(several, guide, Y, num_samples=400)
    finally:
        torch.set_default_dtype(torch.float32)
    about = attrs(data)
    assert abs(about["log_evidence"] - evidence_of_several()) < 4 * about["log_evidence_se"] < 1.5
    assert set(data["posterior"].data_vars) == {"scale", "share", "x"}
    assert data["posterior"]["x"].dims == ("chain", "draw", "row")
    assert [label for label in weighted_summary_labels(data) if label.startswith("share")] == [
        "share[0]",
        "share[1]",
        "share[2]",
    ]


def weighted_summary_labels(data: Any) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some of the guides are poor
        return list(weighted_summary(data).index)


def auxiliary(y: Tensor) -> None:
    u = pyro.sample("u", dist.Normal(ZERO, ONE), infer={"is_auxiliary": True})
    pyro.sample("x", dist.Normal(u, ONE))


def change_of_variables(y: Tensor) -> None:
    u = pyro.sample("u", dist.Normal(ZERO + MEAN, 1.5 * ONE), infer={"is_auxiliary": True})
    pyro.sample("x", dist.Delta(2 * u, log_density=-torch.log(2 * ONE)))


def scaled_guide(y: Tensor) -> None:
    with poutine.scale(scale=0.5):
        pyro.sample("x", dist.Normal(ZERO, ONE))


REASONS: dict[str, tuple[Any, str]] = {
    "point mass": (autoguide.AutoDelta(conjugate), r"point mass at \['x'\], which has no density"),
    "auxiliary": (auxiliary, r"draws \['u'\] beside the model's latents"),
    "scaled": (scaled_guide, r"the guide scales \['x'\]"),
}


@pytest.mark.parametrize("case", REASONS)
def test_where_log_q_is_no_density_there_are_no_weights(case: str) -> None:
    guide, reason = REASONS[case]
    with pytest.warns(UserWarning, match="the importance weights are left out: .*" + reason):
        data = from_svi(conjugate, guide, Y, num_samples=20)
    assert set(data["sample_stats"].data_vars) == {"lp"}
    assert data["log_likelihood"]["y"].shape == (1, 20, NUMBER)
    assert "u" not in data["posterior"]
    with pytest.warns(UserWarning, match="left out"), pytest.raises(ValueError, match="`resample` must have"):
        from_svi(conjugate, guide, Y, num_samples=20, resample=True)


def test_an_auxiliary_site_that_is_a_change_of_variables_counts() -> None:
    pyro.set_rng_seed(5)
    about = attrs(from_svi(conjugate, change_of_variables, Y, num_samples=600))
    assert abs(about["log_evidence"] - EVIDENCE) < 4 * about["log_evidence_se"] < 0.5


def test_missing_and_superfluous_sites_are_errors() -> None:
    with pytest.raises(ValueError, match=r"`guide` must draw all latents .* it lacks \['x'\]"):
        from_svi(conjugate, lambda y: None, Y)
    with pytest.raises(ValueError, match="`guide` must be a Pyro program, got NoneType"):
        from_svi(conjugate, None, Y)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="`num_samples` must be at least 1, got 0"):
        from_svi(conjugate, normal_guide(0, 1), Y, num_samples=0)


def minibatched(y: Tensor, size: int | None = None) -> None:
    x = pyro.sample("x", dist.Normal(ZERO, ONE))
    with pyro.plate("row", len(y), subsample_size=size) as index:
        pyro.sample("y", dist.Normal(x, ONE), obs=y[index])


def test_minibatches_are_refused_for_weights_and_log_likelihoods_and_whole_data_serve() -> None:
    guide = normal_guide(MEAN, SCALE)
    with pytest.warns(UserWarning, match="plate 'row' shows 2 of 5 rows"):
        part = from_svi(minibatched, lambda y, size: guide(y), Y, 2, num_samples=10)
    assert groups_of(part) == {"posterior", "observed_data"}
    whole = from_svi(minibatched, lambda y, size: guide(y), Y, None, num_samples=10)
    assert attrs(whole)["log_evidence"] == pytest.approx(EVIDENCE, abs=1e-9)
    by_keyword = from_svi(minibatched, lambda y, size: guide(y), Y, model_kwargs={"size": 5}, num_samples=10)
    assert attrs(by_keyword)["log_evidence"] == pytest.approx(EVIDENCE, abs=1e-9)


def local(y: Tensor, size: int) -> None:
    x = pyro.sample("x", dist.Normal(ZERO, ONE))
    with pyro.plate("row", len(y), subsample_size=size) as index:
        z = pyro.sample("z", dist.Normal(x, ONE))
        pyro.sample("y", dist.Normal(z, ONE), obs=y[index])


def test_latents_of_a_random_part_of_the_rows_are_no_draws() -> None:
    guide = autoguide.AutoNormal(local)
    guide(Y, 2)
    with pytest.warns(UserWarning, match=r"left out"):
        data = from_svi(local, guide, Y, 2, num_samples=10)
    assert set(data["posterior"].data_vars) == {"x"}
    guide = autoguide.AutoNormal(local)
    guide(Y, 5)
    whole = from_svi(local, guide, Y, 5, num_samples=10)
    assert whole["posterior"]["z"].dims == ("chain", "draw", "row")


def mixture(y: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(torch.zeros(2, dtype=torch.float64), 2.0).to_event(1))
    with pyro.plate("row", len(y)):
        z = pyro.sample("z", dist.Bernoulli(0.3 * ONE))
        pyro.sample("y", dist.Normal(mean[z.long()], ONE), obs=y)


def mixture_guide(y: Tensor) -> None:
    pyro.sample("mean", dist.Normal(ZERO.expand(2), 1.0).to_event(1))


def test_discrete_latents_that_the_guide_does_not_draw_are_summed_out() -> None:
    pyro.set_rng_seed(6)
    data = from_svi(mixture, mixture_guide, Y, num_samples=20)
    mean = torch.as_tensor(values(data, "posterior", "mean")[0])[..., None]
    each = dist.Normal(mean, 1.0).log_prob(Y) + torch.tensor([0.7, 0.3]).log()[:, None]
    np.testing.assert_allclose(values(data, "log_likelihood", "y")[0], each.logsumexp(1), rtol=1e-6)
    prior = dist.Normal(0.0, 2.0).log_prob(mean).sum((1, 2))
    np.testing.assert_allclose(values(data, "sample_stats", "lp")[0], prior + each.logsumexp(1).sum(1), rtol=1e-6)

    def with_states(y: Tensor) -> None:
        mixture_guide(y)
        with pyro.plate("row", len(y)):
            pyro.sample("z", dist.Bernoulli(0.5 * ONE))

    drawn = from_svi(mixture, with_states, Y, num_samples=20)
    assert set(drawn["posterior"].data_vars) == {"mean", "z"}
    assert "log_weight" in drawn["sample_stats"]


def test_cells_that_only_the_model_masks_have_no_density() -> None:
    mask: Any = torch.tensor([True, False, True, True, False])

    def model(y: Tensor) -> None:
        x = pyro.sample("x", dist.Normal(ZERO, ONE))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(x, ONE), obs=y, obs_mask=mask)

    guide = autoguide.AutoNormal(model)
    guide(Y)
    with pytest.warns(UserWarning, match=r"the model masks cells of \['y_unobserved'\]"):
        from_svi(model, guide, Y, num_samples=5)

    def masked(y: Tensor) -> None:
        normal_guide(MEAN, SCALE)(y)
        hidden: Any = ~mask
        with pyro.plate("row", len(y)), poutine.mask(mask=hidden):
            pyro.sample("y_unobserved", dist.Normal(ZERO, ONE))

    assert "log_weight" in from_svi(model, masked, Y, num_samples=30)["sample_stats"]


def test_a_guide_and_a_run_of_one_model_can_be_compared() -> None:
    guide = from_svi(conjugate, normal_guide(MEAN, SCALE), Y, num_samples=400)
    run = from_mcmc(prior_run(conjugate, "x", Y, draws=400))
    assert loo(guide).n_data_points == NUMBER
    table = quietly(arviz.compare, {"guide": guide, "prior": run})
    assert set(table.index) == {"guide", "prior"}
    assert table.index[0] == "guide"
