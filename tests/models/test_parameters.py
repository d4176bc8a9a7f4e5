"""Parameters that a user sets or scores by: every way in refuses what lies outside the support, and moves nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS, Predictive
from torch import Tensor

import pyro_gen.models
import pyro_gen.nn
from pyro_gen.models import PPCA, BayesianRBM, BernoulliMixture, CategoricalMixture, FactorAnalysis, GaussianMixture
from pyro_gen.models.linear_gaussian.em import Point
from pyro_gen.models.mixture import Mixture
from pyro_gen.models.mixture.gaussian import COVARIANCES
from pyro_gen.nn import RBM, VampPrior

Values = dict[str, Tensor]
WAYS: dict[str, Callable[[Any, Any, Values], Any]] = {
    "Mixture.set_point": lambda model, x, values: model.set_point(values),
    "Mixture.log_prior": lambda model, x, values: model.log_prior(values),
    "Mixture.gibbs_sweep": lambda model, x, values: model.gibbs_sweep(x, values),
    "Mixture.log_joint": lambda model, x, values: model.log_joint(x, parameters=values),
    "Mixture.log_likelihood": lambda model, x, values: model.log_likelihood(x, parameters=values),
    "Mixture.responsibilities": lambda model, x, values: model.responsibilities(x, parameters=values),
    "Mixture.predict": lambda model, x, values: model.predict(x, parameters=values),
    "Mixture.occupied": lambda model, x, values: model.occupied(x, values),
    "Mixture.sample": lambda model, x, values: model.sample(3, values),
    "Mixture.sample_joint": lambda model, x, values: model.sample_joint(3, values),
    "LinearGaussian.set_point": lambda model, x, values: model.set_point(Point(**values)),
    "BayesianRBM.at": lambda model, x, values: model.at(values),
    "BayesianRBM.log_predictive": lambda model, x, values: model.log_predictive(x, values),
    "RBM.set_uncentred": lambda model, x, values: model.set_uncentred(**values),
}
"""Public methods that take parameters by name."""
PARTS = ("canonical", "checked", "completed", "conditional_draw", "derived", "draw", "floor_reached", "implied")
INSIDE = (*PARTS, "log_prior_of", "log_table", "m_step", "maximised", "pooled", "set_extra_state")
"""Steps of a family's own, which get values that have been checked, and what is no parameter."""
BOUNDED = ("weights", "sticks", "probs", "covariances", "scales", "correlations")
"""Sites whose values cannot all be negative."""
NAMES = {"parameters", "values", "point", "draws", "init"}


def ways_in() -> Iterator[str]:
    """Public methods of public models and modules that take parameters, by the names of methods and arguments."""
    for package in (pyro_gen.models, pyro_gen.nn):
        for cls in (getattr(package, name) for name in package.__all__):
            for name, method in inspect.getmembers(cls, inspect.isfunction) if inspect.isclass(cls) else ():
                own = method.__module__.startswith("pyro_gen") and not name.startswith("_") and name not in INSIDE
                if own and (name.startswith("set_") or NAMES & set(inspect.signature(method).parameters)):
                    yield method.__qualname__


def test_every_way_in_is_known() -> None:
    assert set(ways_in()) == set(WAYS)


X = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
BITS = (X > 0).double()
PROCESS: dict[str, Any] = {"weights": "dirichlet process"}
MIXTURES: dict[str, tuple[Callable[[], Mixture], Tensor]] = {
    **{name: (partial(GaussianMixture.from_data, X, 3, name), X) for name in COVARIANCES},
    "lkj": (lambda: GaussianMixture.from_data(X, 3, prior="lkj"), X),
    "tied lkj": (lambda: GaussianMixture.from_data(X, 3, "tied", prior="lkj"), X),
    "process": (lambda: GaussianMixture.from_data(X, 3, **PROCESS), X),
    "one": (lambda: GaussianMixture.from_data(X, 1), X),
    "binary": (lambda: BernoulliMixture.from_data(BITS, 3), BITS),
    "categorical": (lambda: CategoricalMixture.from_data(BITS, 3, **PROCESS), BITS),
}


def damaged(value: Tensor) -> dict[str, Tensor]:
    """Values that lie in no support of a parameter, or have another shape."""
    faults = {"NaN": torch.full_like(value, torch.nan), "infinite": torch.full_like(value, torch.inf)}
    return {**faults, "whole": value.long(), "longer": torch.cat([value, value])}


def faults_of(point: Values) -> Iterator[tuple[str, Values]]:
    """Points with one fault, and the site that must be named."""
    for name, value in point.items():
        for wrong in damaged(value).values():
            yield name, {**point, name: wrong}
        if name in BOUNDED:
            yield name, {**point, name: -value}
        if name in ("weights", "sticks", "probs"):
            yield name, {**point, name: value + 1}
    yield "foo", {**point, "foo": torch.zeros(3)}


def mixture_faults(point: Values) -> Iterator[tuple[str, Values]]:
    yield from faults_of(point)
    yield "weights", {**point, "weights": 2 * point["weights"]}
    if "sticks" in point:
        yield "weights", {**point, "weights": torch.tensor([0.7, 0.2, 0.1]).double()}  # not those of the sticks
    if "covariances" in point and point["covariances"].shape[-2:] == (2, 2):
        skew = point["covariances"].clone()
        skew[..., 0, 1] += 0.7
        yield "covariances", {**point, "covariances": skew}
    if "scales" in point:
        yield "covariances", {**point, "covariances": 2 * point["covariances"]}


@pytest.mark.parametrize("name", MIXTURES)
def test_no_mixture_takes_a_point_outside_its_support(name: str) -> None:
    make, x = MIXTURES[name]
    mixture = make()
    point = {key: value.detach() for key, value in mixture.point().items()}
    before = {key: value.clone() for key, value in mixture.state_dict().items()}
    ways = [way for key, way in WAYS.items() if key.startswith("Mixture")]
    for way in ways if name in ("full", "process", "binary") else ways[:4:3]:
        for site, values in mixture_faults(point):
            with pytest.raises(ValueError, match=f"{site}'"):
                way(mixture, x, values)
        for site in mixture.sites():
            if site not in ("sticks", "scales", "correlations"):  # weights and covariances serve for these
                with pytest.raises(ValueError, match=f"none for .*'{site}'"):
                    way(mixture, x, {key: value for key, value in point.items() if key != site})
    assert all(torch.equal(value, before[key]) for key, value in mixture.state_dict().items())


@pytest.mark.parametrize("name", MIXTURES)
def test_the_point_itself_passes_in_either_precision(name: str) -> None:
    make, x = MIXTURES[name]
    mixture = make()
    point = {key: value.detach() for key, value in mixture.point().items()}
    expected = mixture.log_likelihood(x).detach()
    for dtype, error in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        rounded = {key: value.to(dtype) for key, value in point.items()}
        found = mixture.log_likelihood(x, parameters=rounded).detach()
        torch.testing.assert_close(found, expected, atol=error, rtol=error)
        other = make()
        other.set_point(rounded)
        torch.testing.assert_close(other.log_likelihood(x).detach(), expected, atol=error, rtol=error)


def test_weights_serve_for_sticks_and_covariances_for_scales() -> None:
    for name, drop in (("process", {"sticks"}), ("lkj", {"scales", "correlations"})):
        make, x = MIXTURES[name]
        mixture, other = make(), make()
        point = {key: value.detach() for key, value in mixture.point().items()}
        other.set_point({key: value for key, value in point.items() if key not in drop})
        torch.testing.assert_close(other.log_likelihood(x), mixture.log_likelihood(x))


def test_draws_of_samplers_in_float32_pass() -> None:
    pyro.set_rng_seed(0)
    x = X.float()
    for mixture in (
        GaussianMixture.from_data(x, 3),
        GaussianMixture.from_data(x, 3, "tied", prior="lkj", **PROCESS),
        CategoricalMixture.from_data(BITS.float(), 3, **PROCESS),
    ):
        rows = BITS.float() if isinstance(mixture, CategoricalMixture) else x
        mcmc = MCMC(NUTS(mixture.marginal, max_tree_depth=2), num_samples=5, warmup_steps=5, disable_progbar=True)
        mcmc.run(rows)
        draws = mcmc.get_samples()
        assert mixture.log_likelihood(rows, parameters=draws).isfinite().all()
        everything = Predictive(mixture.marginal, draws)(rows)  # weights, covariances and rows too
        assert mixture.log_likelihood(rows, parameters={**draws, **everything}).isfinite().all()
        mixture.set_point({name: value[-1] for name, value in draws.items()})


@pytest.mark.parametrize("kind", [PPCA, FactorAnalysis])
def test_no_linear_model_takes_a_point_outside_its_support(kind: type[PPCA | FactorAnalysis]) -> None:
    model = kind(3, 1, size=4)
    point = {"loc": torch.zeros(3), "weight": torch.ones(3, 1), "variance": torch.ones(3)}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    faults = [(name, {**point, name: wrong}) for name in point for wrong in damaged(point[name]).values()]
    faults += [("variance", {**point, "variance": torch.tensor([1.0, 0.0, 1.0])})]
    uneven = {**point, "variance": torch.tensor([1.0, 2.0, 3.0])}
    for name, values in [*faults, *([("variance", uneven)] if kind is PPCA else [])]:
        with pytest.raises(ValueError, match=f"'{name}'"):
            WAYS["LinearGaussian.set_point"](model, X, values)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.set_point(Point(**(point if kind is PPCA else uneven)))
    torch.testing.assert_close(model.noise_variance, (point if kind is PPCA else uneven)["variance"])


def test_no_bayesian_rbm_scores_draws_that_are_none() -> None:
    model, v = BayesianRBM(3, 2, size=4), torch.eye(4, 3)
    draws = {"weight": torch.zeros(5, 3, 2), "vbias": torch.zeros(5, 3), "hbias": torch.zeros(5, 2)}
    faults = [(name, {**draws, name: wrong}) for name in draws for wrong in damaged(draws[name][0]).values()]
    faults += [("foo", {**draws, "foo": v}), ("hbias", {k: x for k, x in draws.items() if k != "hbias"})]
    for way in ("BayesianRBM.at", "BayesianRBM.log_predictive"):
        for name, values in faults:
            with pytest.raises(ValueError, match=f"'{name}'"):
                WAYS[way](model, v, values)
    assert model.log_predictive(v, draws).isfinite().all()


@pytest.mark.parametrize("centring", [False, True])
def test_no_rbm_takes_parameters_of_other_shapes_or_without_numbers(centring: bool) -> None:
    rbm = RBM(3, 2, centring=centring)
    parameters = dict(zip(("weight", "vbias", "hbias"), (x.detach() for x in rbm.uncentred), strict=True))
    before = {key: value.clone() for key, value in rbm.state_dict().items()}
    for name, value in parameters.items():
        for wrong in [*damaged(value).values(), value[:1], value.sum()]:  # which would broadcast
            with pytest.raises(ValueError, match=f"`{name}`"):
                WAYS["RBM.set_uncentred"](rbm, X, {**parameters, name: wrong})
    assert all(torch.equal(value, before[key]) for key, value in rbm.state_dict().items())


def test_no_vamp_prior_starts_at_rows_of_another_shape() -> None:
    prior = VampPrior(2, 3)
    for rows in (torch.zeros(4, 1), torch.full((4, 3), torch.nan)):
        with pytest.raises(ValueError, match="`x` must"):
            prior.start_at(rows)
