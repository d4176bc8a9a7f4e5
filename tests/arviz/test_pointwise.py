"""The pointwise log likelihood against closed forms and sums over states written out here."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from pyro.ops.indexing import Vindex
from torch import Tensor

from pyro_gen.arviz import from_mcmc
from pyro_gen.arviz.program import Program
from tests.arviz.models import draws, groups_of, loo, prior_run, values

X = torch.tensor([-2.0, -1.0, 0.5, 1.0, 2.5, 4.0, 4.5])
MASK = torch.tensor([True, True, False, True, False, True, True])


def mixture(x: Tensor, mask: Any = None) -> None:
    weight = pyro.sample("weight", dist.Dirichlet(torch.ones(3, dtype=x.dtype)))
    scale = pyro.sample("scale", dist.LogNormal(torch.zeros((), dtype=x.dtype), 0.3))
    with pyro.plate("component", 3):
        mean = pyro.sample("mean", dist.Normal(torch.zeros((), dtype=x.dtype), 2.0))
    with pyro.plate("row", len(x)), poutine.mask(mask=True if mask is None else mask):
        z = pyro.sample("z", dist.Categorical(weight), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(Vindex(mean)[..., z], scale), obs=x)


def marginal(mcmc: Any, x: Tensor) -> np.ndarray:
    weight, mean, scale = (draws(mcmc, name) for name in ("weight", "mean", "scale"))
    each = dist.Normal(mean[:, None], scale[:, None, None]).log_prob(x[:, None])
    return (weight.log()[:, None] + each).logsumexp(-1).numpy()


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_enumerated_mixture_has_its_marginal_likelihood_row_by_row(rows: int, dtype: torch.dtype) -> None:
    x = X[:rows].to(dtype)
    mcmc = prior_run(mixture, "weight mean scale", x)
    data = from_mcmc(mcmc)
    assert data["log_likelihood"]["x"].dims == ("chain", "draw", "row")
    np.testing.assert_allclose(values(data, "log_likelihood", "x")[0], marginal(mcmc, x), rtol=2e-6)
    assert set(data["posterior"].data_vars) == {"weight", "mean", "scale"}
    assert data["posterior"]["mean"].dims == ("chain", "draw", "component")
    assert values(data, "posterior", "mean").dtype == str(dtype).split(".")[1]


def test_loo_of_a_mixture_is_that_of_the_marginal_likelihood_twice_in_a_row() -> None:
    mcmc = prior_run(mixture, "weight mean scale", X.double(), draws=100)
    first, second = (loo(from_mcmc(mcmc)) for _ in range(2))
    data = from_mcmc(mcmc)
    data["log_likelihood"]["x"].values[...] = marginal(mcmc, X.double())[None]
    by_hand = loo(data)
    read = "elpd" if hasattr(first, "elpd") else "elpd_loo"
    assert getattr(first, read) == getattr(second, read)
    assert getattr(first, read) == pytest.approx(getattr(by_hand, read), abs=1e-6)
    assert first.n_data_points == len(X)


def test_masked_rows_are_dropped_and_their_places_kept() -> None:
    x = torch.where(MASK, X, torch.nan)
    mcmc = prior_run(mixture, "weight mean scale", x, MASK, draws=40)
    data = from_mcmc(mcmc)
    likelihood = data["log_likelihood"]["x"]
    assert likelihood.dims == ("chain", "draw", "x_datum")
    assert likelihood["x_datum_row"].values.tolist() == [0, 1, 3, 5, 6]
    np.testing.assert_allclose(likelihood.values[0], marginal(mcmc, X)[:, MASK.numpy()], rtol=2e-6)
    assert np.isnan(values(data, "observed_data", "x")).tolist() == (~MASK).tolist()
    assert loo(data).n_data_points == 5


def pair(x: Tensor, y: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
    with pyro.plate("row", len(x)):
        z = pyro.sample("z", dist.Bernoulli(0.3))
        pyro.sample("x", dist.Normal(mean * z, 1.0), obs=x)
        with pyro.plate("feature", y.shape[0]):
            pyro.sample("y", dist.Normal(z - mean, 2.0), obs=y)


def test_sites_that_share_a_state_are_one_term_of_their_common_plates() -> None:
    y = torch.arange(14.0).reshape(2, 7) / 5
    mcmc = prior_run(pair, "mean", X, y)
    variable = from_mcmc(mcmc)["log_likelihood"]["x+y"]
    mean = draws(mcmc, "mean")[:, None]
    terms = [
        dist.Bernoulli(0.3).log_prob(z)
        + dist.Normal(mean * z, 1.0).log_prob(X)
        + dist.Normal((z - mean)[:, None], 2.0).log_prob(y).sum(1)
        for z in (torch.tensor(0.0), torch.tensor(1.0))
    ]
    np.testing.assert_allclose(variable.values[0], torch.logaddexp(*terms), rtol=1e-5)
    assert variable.dims == ("chain", "draw", "row")
    assert list(variable.attrs["sites"]) == ["x", "y"]


def hmm(sequences: Tensor, lengths: Tensor | None = None) -> None:
    stay = pyro.sample("stay", dist.Beta(torch.tensor(2.0), 2.0))
    transition = torch.stack([torch.stack([stay, 1 - stay]), torch.stack([1 - stay, stay])])
    number, steps = sequences.shape
    with pyro.plate("sequence", number):
        z: Any = 0
        for t in pyro.markov(range(steps)):
            shown: Any = torch.ones(number).bool() if lengths is None else t < lengths
            with poutine.mask(mask=shown):
                z = pyro.sample(f"z_{t}", dist.Categorical(Vindex(transition)[z]), infer={"enumerate": "parallel"})
                pyro.sample(f"y_{t}", dist.Normal(2.0 * z, 1.0), obs=sequences[:, t])


def forward(mcmc: Any, sequence: Tensor) -> Tensor:
    stay = draws(mcmc, "stay")
    table = torch.stack([torch.stack([stay, 1 - stay], -1), torch.stack([1 - stay, stay], -1)], -2).log()
    paths = []
    for path in itertools.product((0, 1), repeat=len(sequence)):
        before = (0, *path[:-1])
        moves = sum(table[:, a, b] for a, b in zip(before, path, strict=True))
        paths.append(moves + dist.Normal(2.0 * torch.tensor(path), 1.0).log_prob(sequence).sum())
    return torch.stack(paths).logsumexp(0)


def test_each_sequence_of_a_markov_chain_is_one_datum_also_where_lengths_differ() -> None:
    sequences, lengths = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)) + 1, torch.tensor([4, 2, 3])
    mcmc = prior_run(hmm, "stay", sequences)
    variable = from_mcmc(mcmc)["log_likelihood"]["y_0+...+y_3"]
    expected = torch.stack([forward(mcmc, row) for row in sequences], 1)
    np.testing.assert_allclose(variable.values[0], expected, rtol=1e-5)
    ragged = prior_run(hmm, "stay", sequences, lengths)
    data = from_mcmc(ragged)
    short = data["log_likelihood"]["y_0+...+y_3"]
    expected = torch.stack([forward(ragged, row[:n]) for row, n in zip(sequences, lengths, strict=True)], 1)
    np.testing.assert_allclose(short.values[0], expected, rtol=1e-5)
    joint = values(data, "log_prior", "stay")[0] + expected.sum(1).numpy()
    np.testing.assert_allclose(values(data, "sample_stats", "lp")[0], joint, rtol=1e-5)


def shared_state(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    z = pyro.sample("z", dist.Bernoulli(0.3))
    with pyro.plate("row", len(x)):
        pyro.sample("x", dist.Normal(mean + z, 1.0), obs=x)


def test_data_that_share_a_state_across_all_plates_are_left_out_with_the_reason() -> None:
    mcmc = prior_run(shared_state, "mean", X)
    with pytest.warns(UserWarning, match=r"log_likelihood of 'x' is left out: .* share the enumerated site 'z'"):
        data = from_mcmc(mcmc)
    assert "log_likelihood" not in groups_of(data)
    drawn = prior_run(shared_state, "mean z", X)
    expected = dist.Normal(draws(drawn, "mean")[:, None] + draws(drawn, "z")[:, None], 1.0).log_prob(X)
    np.testing.assert_allclose(values(from_mcmc(drawn), "log_likelihood", "x")[0], expected, rtol=1e-5)


def pulled(x: Tensor, strength: float = 2.0) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    pyro.factor("pull", -strength * mean.abs())
    with pyro.plate("row", len(x)):
        z = pyro.sample("z", dist.Bernoulli(0.3))
        local = pyro.sample("local", dist.Normal(z, 1.0))
        pyro.factor("tilt", strength * z)
        pyro.sample("x", dist.Normal(mean * z + local, 1.0), obs=x)


def test_factors_are_no_data_and_drawn_latents_below_a_state_are_given() -> None:
    mcmc = prior_run(pulled, "mean local", X)
    data = from_mcmc(mcmc)
    assert set(data["log_likelihood"].data_vars) == {"x"} == set(data["observed_data"].data_vars)
    mean, local = draws(mcmc, "mean")[:, None], draws(mcmc, "local")
    rest = [
        dist.Bernoulli(0.3).log_prob(z) + dist.Normal(z, 1.0).log_prob(local) + 2.0 * z
        for z in torch.tensor([0.0, 1.0])
    ]
    joint = [
        r + dist.Normal(mean * z + local, 1.0).log_prob(X) for r, z in zip(rest, torch.tensor([0.0, 1.0]), strict=True)
    ]
    np.testing.assert_allclose(
        values(data, "log_likelihood", "x")[0], torch.logaddexp(*joint) - torch.logaddexp(*rest), atol=2e-5
    )
    assert set(data["log_prior"].data_vars) == {"mean"}  # that of `local` given the draws alone is no product


def partly(x: Tensor, mask: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)):
        pyro.sample("by_distribution", dist.Normal(mean, 1.0).mask(mask), obs=x)
        pyro.sample(
            "by_cells",
            dist.Normal(mean, 1.0).expand([len(x), 2]).mask(mask[:, None]).to_event(1),
            obs=x.expand(2, -1).T,
        )
        with poutine.mask(mask=False):
            pyro.sample("hidden", dist.Normal(mean, 1.0), obs=x)
        pyro.sample("whole", dist.Normal(mean, 1.0), obs=torch.where(mask, x, 0.0))


def test_masks_inside_distributions_count_too() -> None:
    mcmc = prior_run(partly, "mean", torch.where(MASK, X, torch.nan), MASK)
    data = from_mcmc(mcmc)
    sizes = {name: variable.shape for name, variable in data["log_likelihood"].data_vars.items()}
    assert sizes == {"by_distribution": (1, 6, 5), "by_cells": (1, 6, 5), "whole": (1, 6, 7)}
    expected = dist.Normal(draws(mcmc, "mean")[:, None], 1.0).log_prob(X[MASK])
    np.testing.assert_allclose(values(data, "log_likelihood", "by_distribution")[0], expected, rtol=1e-5)
    np.testing.assert_allclose(values(data, "log_likelihood", "by_cells")[0], 2 * expected, rtol=1e-5)


def imputed(x: Tensor, mask: Any) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x, obs_mask=mask)


def test_obs_mask_counts_observed_cells_and_keeps_the_imputed_ones_in_the_posterior() -> None:
    mcmc = prior_run(imputed, "mean x_unobserved", torch.where(MASK, X, torch.nan), MASK)
    data = from_mcmc(mcmc)
    expected = dist.Normal(draws(mcmc, "mean")[:, None], 1.0).log_prob(X[MASK])
    np.testing.assert_allclose(values(data, "log_likelihood", "x_observed")[0], expected, rtol=1e-5)
    filled = torch.where(MASK, X, draws(mcmc, "x_unobserved"))
    np.testing.assert_array_equal(values(data, "posterior", "x")[0], filled)
    assert data["posterior"]["x"].dims == ("chain", "draw", "row")
    assert set(data["observed_data"].data_vars) == {"x_observed"}


@config_enumerate
def missing_parent(x: Tensor, mask: Any, y: Tensor) -> None:
    rate = pyro.sample("rate", dist.Beta(torch.tensor(2.0), 2.0))
    with pyro.plate("row", len(x)):
        parent = pyro.sample("x", dist.Bernoulli(rate), obs=x, obs_mask=mask)
        pyro.sample("y", dist.Normal(parent, 1.0), obs=y)


def test_a_missing_discrete_parent_is_summed_out_and_an_observed_one_is_not() -> None:
    x = (X > 0).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mcmc = prior_run(missing_parent, "rate", x, MASK, X)
        data = from_mcmc(mcmc)
    rate = draws(mcmc, "rate")[:, None]
    sums = torch.logaddexp(
        (1 - rate).log() + dist.Normal(0.0, 1.0).log_prob(X), rate.log() + dist.Normal(1.0, 1.0).log_prob(X)
    )
    expected = torch.where(MASK, dist.Normal(x, 1.0).log_prob(X), sums)
    np.testing.assert_allclose(values(data, "log_likelihood", "y")[0], expected, rtol=1e-5)
    np.testing.assert_allclose(
        values(data, "log_likelihood", "x_observed")[0], dist.Bernoulli(rate).log_prob(x)[:, MASK], rtol=1e-5
    )


def far_apart(x: Tensor) -> None:
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.1))
    with pyro.plate("row", len(x)):
        z = pyro.sample("z", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(40 * z, scale), obs=x)
        pyro.sample("y", dist.Normal(40 * (1 - z), scale), obs=x)


def test_factors_hundreds_of_nats_apart_do_not_underflow() -> None:
    mcmc = prior_run(far_apart, "scale", X)
    scale = draws(mcmc, "scale")[:, None]
    one, two = dist.Normal(0.0, scale).log_prob(X), dist.Normal(40.0, scale).log_prob(X)
    np.testing.assert_allclose(values(from_mcmc(mcmc), "log_likelihood", "x+y")[0], one + two, rtol=1e-5)


def regression(x: Tensor, y: Tensor) -> None:
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.1))
    if scale > 1:  # control flow on a draw: only a loop over draws is right
        scale = scale * 2
    pyro.sample("y", dist.Normal(x @ slope, scale), obs=y)


@pytest.mark.parametrize("number", [6, 7])
def test_models_that_no_batch_of_draws_can_run_are_right(number: int) -> None:
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    mcmc = prior_run(regression, "slope scale", x, X, draws=number)
    scale = draws(mcmc, "scale")
    assert (scale > 1).any()
    assert (scale < 1).any()
    scale = torch.where(scale > 1, 2 * scale, scale)
    expected = dist.Normal(draws(mcmc, "slope") @ x.T, scale[:, None]).log_prob(X)
    np.testing.assert_allclose(values(from_mcmc(mcmc), "log_likelihood", "y")[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", [lambda values: values + 1, lambda values: values.unsqueeze(1)])
def test_a_batch_of_draws_that_disagrees_with_a_single_one_is_not_believed(
    change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(function: Any, **settings: Any) -> Any:
        return lambda rows: {
            group: {name: change(torch.stack([value] * 6)) for name, value in members.items()}
            for group, members in function({name: row[0] for name, row in rows.items()}).items()
        }

    mcmc = prior_run(mixture, "weight mean scale", X)
    right = values(from_mcmc(mcmc), "log_likelihood", "x")
    monkeypatch.setattr(torch, "vmap", changed)
    np.testing.assert_allclose(values(from_mcmc(mcmc), "log_likelihood", "x"), right, rtol=1e-5)


def mask_of_state(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)):
        z: Any = pyro.sample("z", dist.Bernoulli(0.3))
        with poutine.mask(mask=(z == 1) & MASK):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


def test_a_row_that_some_states_show_counts_and_says_nothing_in_the_others() -> None:
    mcmc = prior_run(mask_of_state, "mean", X)
    variable = from_mcmc(mcmc)["log_likelihood"]["x"]
    assert variable["x_datum_row"].values.tolist() == MASK.nonzero().flatten().tolist()
    shown = dist.Normal(draws(mcmc, "mean")[:, None], 1.0).log_prob(X[MASK]).exp()
    np.testing.assert_allclose(variable.values[0], (0.7 + 0.3 * shown).log(), rtol=1e-5)


@pytest.mark.parametrize(("told", "first"), [(None, -3), (1, -3), (2, -3), (3, -4)])
def test_enumerated_dimensions_lie_left_of_the_plates_and_of_what_the_kernel_was_told(
    told: int | None, first: int
) -> None:
    program = Program(pair, (X, X.expand(2, 7)), max_plate_nesting=told)
    assert program.first_dim(program.trace({})) == first


def scaled(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)), poutine.scale(scale=0.5):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


def minibatch(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x), subsample_size=3) as index:
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x[index])


def lacking(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 0.1))
    with pyro.plate("row", len(x)):
        pyro.sample("x", dist.Normal(mean, scale), obs=x)


def without_plates(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    z = pyro.sample("z", dist.Bernoulli(torch.full((len(x),), 0.3)))
    pyro.sample("x", dist.Normal(mean * z, 1.0), obs=x)


def all_masked(x: Tensor) -> None:
    nothing: Any = torch.zeros(len(x)).bool()
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)), poutine.mask(mask=nothing):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


def nan_data(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)):
        pyro.sample("x", dist.Normal(mean, 1.0, validate_args=False), obs=torch.where(MASK, x, torch.nan))


class Patchy(dist.Normal):
    """Takes NaN for a missing cell, as mixtures do."""

    def log_prob(self, value: Tensor) -> Tensor:
        score: Tensor = super().log_prob(value.nan_to_num())
        return torch.where(value.isnan(), 0.0, score)


@pytest.mark.parametrize("summed", [False, True])
def test_rows_whose_distribution_takes_nan_for_missing_cells_are_dropped_where_nothing_is_seen(summed: bool) -> None:
    def model(x: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(x)):
            z = pyro.sample("z", dist.Bernoulli(0.3)) if summed else torch.ones(())
            loc = (mean * z).unsqueeze(-1).expand(*(mean * z).shape, 2)
            pyro.sample("x", Patchy(loc, 1.0, validate_args=False).to_event(1), obs=x)

    x = torch.stack([torch.where(MASK, X, torch.nan), X.roll(1)], -1)
    x[2] = torch.nan
    mcmc = prior_run(model, "mean", x)
    variable = from_mcmc(mcmc)["log_likelihood"]["x"]
    assert variable["x_datum_row"].values.tolist() == [0, 1, 3, 4, 5, 6]
    kept, mean = x[[0, 1, 3, 4, 5, 6]], draws(mcmc, "mean")[:, None, None]
    with_cells = [torch.where(kept.isnan(), 0.0, dist.Normal(m, 1.0).log_prob(kept.nan_to_num())) for m in (mean, 0.0)]
    one, none = (cells.sum(-1) for cells in with_cells)
    mixed = torch.logaddexp(one + np.log(0.3), none + np.log(0.7))
    np.testing.assert_allclose(variable.values[0], mixed if summed else one, rtol=1e-5)


def mask_of_draw(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    above: Any = x > 3 * mean
    with pyro.plate("row", len(x)), poutine.mask(mask=above):
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x)


LEFT_OUT: dict[str, tuple[Any, str]] = {
    "mask of the draw": (mask_of_draw, r"log_likelihood of 'x' is left out: its mask depends on the draw"),
    "scaled": (scaled, r"log_likelihood of 'x' is left out: site 'x' is scaled"),
    "minibatch": (minibatch, r"log_likelihood, log_prior and lp is left out: plate 'row' shows 3 of 7 rows"),
    "lacking": (lacking, r"the draws lack the latent sites \['scale'\]"),
    "without plates": (without_plates, r"site 'z' has dimensions of sizes \[7\] outside of plates"),
    "all masked": (all_masked, r"all elements of site 'x' are masked"),
    "nan": (nan_data, r"12 of its 42 values are NaN"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_has_no_right_answer_is_left_out_with_its_reason(case: str) -> None:
    model, reason = LEFT_OUT[case]
    mcmc = prior_run(model, "mean", X)
    with pytest.warns(UserWarning, match=reason):
        data = from_mcmc(mcmc)
    assert "log_likelihood" not in groups_of(data)
    assert set(data["posterior"].data_vars) == {"mean"}


def unequal(x: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(x)):
        z = pyro.sample("z", dist.Bernoulli(0.3))
        pyro.deterministic("level", mean * z)
        pyro.deterministic("double", 2 * mean)
        pyro.sample("x", dist.Normal(mean * z, 1.0), obs=x)


def test_a_deterministic_site_of_a_summed_latent_is_left_out_and_others_are_kept() -> None:
    mcmc = prior_run(unequal, "mean", X)
    with pytest.warns(UserWarning, match=r"posterior of 'level' is left out: .* depends on an enumerated latent"):
        data = from_mcmc(mcmc)
    np.testing.assert_array_equal(values(data, "posterior", "double"), 2 * values(data, "posterior", "mean"))
    assert "level" not in data["posterior"]


def test_names_choose_variables_and_a_wrong_one_is_an_error() -> None:
    mcmc = prior_run(partly, "mean", torch.where(MASK, X, torch.nan), MASK)
    assert set(from_mcmc(mcmc, log_likelihood=["whole"])["log_likelihood"].data_vars) == {"whole"}
    assert "log_likelihood" not in groups_of(from_mcmc(mcmc, log_likelihood=False))
    with pytest.raises(ValueError, match=r"`log_likelihood` must name some of .*'whole'.*, got unknown \['hidden'\]"):
        from_mcmc(mcmc, log_likelihood=["hidden"])
