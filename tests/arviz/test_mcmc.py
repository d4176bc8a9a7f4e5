"""Runs of MCMC in ArviZ: a drop-in for `arviz.from_pyro` where that is right, names from plates, statistics."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import HMC, MCMC, NUTS, Predictive
from pyro.infer.mcmc import RandomWalkKernel
from pyro.infer.reparam import LocScaleReparam
from torch import Tensor

from pyro_gen.arviz import SampleStats, from_chains, from_mcmc, from_predictive, from_svi, to_netcdf
from pyro_gen.distributions import RBM
from pyro_gen.infer import BlockGibbs
from tests.arviz.models import TREES, arviz, groups_of, prior_run, values

SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
EFFECT = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
NAMES = ["Choate", "Deerfield", "Phillips Andover", "Phillips Exeter", "Hotchkiss", "Lawrenceville", "St. Paul's", "MH"]


def schools(sigma: Tensor, effect: Tensor | None = None) -> None:
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(torch.tensor(5.0)))
    with pyro.plate("school", len(sigma)):
        eta = pyro.sample("eta", dist.Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        pyro.sample("y", dist.Normal(theta, sigma), obs=effect)


def bare(sigma: Tensor, effect: Tensor | None = None) -> None:
    """The same without plates and deterministic sites: what `arviz.from_pyro` is right on."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    eta = pyro.sample("eta", dist.Normal(torch.zeros(8), 1.0).to_event(1))
    with pyro.plate("school", 8):
        pyro.sample("y", dist.Normal(mu + eta, sigma), obs=effect)


def run(kernel: Any, *args: Any, chains: int = 1, number: int = 20, **kwargs: Any) -> MCMC:
    pyro.set_rng_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # chains that do not fit the machine are drawn one after the other
        mcmc = MCMC(kernel, number, 10, num_chains=chains, disable_progbar=True, **kwargs)
        mcmc.run(*args)
    return mcmc


@pytest.fixture(scope="module")
def eight() -> MCMC:
    return run(SampleStats(NUTS(schools)), SIGMA, EFFECT, chains=2)


def test_it_takes_all_that_from_pyro_takes() -> None:
    known = inspect.signature(from_mcmc).parameters
    groups = {"posterior", "prior", "posterior_predictive", "log_likelihood", "predictions", "constant_data"}
    wanted = groups | {"predictions_constant_data", "coords", "dims", "pred_dims", "num_chains"}
    assert wanted <= set(known)
    if not TREES:
        theirs = inspect.signature(arviz.from_pyro).parameters
        assert set(theirs) == wanted
        assert all(known[name].default == given.default for name, given in theirs.items())


@pytest.mark.skipif(TREES, reason="ArviZ 1.x has no from_pyro")
@pytest.mark.parametrize("chains", [1, 2])
def test_where_from_pyro_is_right_the_numbers_are_identical(chains: int) -> None:
    mcmc = run(NUTS(bare), SIGMA, EFFECT, chains=chains)
    predictive = Predictive(bare, mcmc.get_samples())(SIGMA)
    extras: dict[str, Any] = {
        "posterior_predictive": predictive,
        "prior": Predictive(bare, num_samples=20)(SIGMA),
        "predictions": predictive,
        "constant_data": {"sigma": SIGMA.numpy()},
        "predictions_constant_data": {"sigma": SIGMA.numpy()},
        "coords": {"place": NAMES, "unused": [1, 2]},
        "dims": {"eta": ["place"], "y": ["place"], "sigma": ["place"]},
        "pred_dims": {"y": ["place"]},
    }
    ours, theirs = from_mcmc(mcmc, **extras), arviz.from_pyro(mcmc, **extras)
    assert groups_of(theirs) | {"log_prior"} == groups_of(ours)
    for group in groups_of(theirs):
        for name, variable in theirs[group].data_vars.items():
            if group != "sample_stats":
                assert ours[group][name].dims == variable.dims, (group, name)
            np.testing.assert_array_equal(ours[group][name].values, variable.values, err_msg=f"{group} {name}")
            assert ours[group][name].dtype == variable.dtype


def test_pointwise_log_likelihoods_are_those_by_hand_and_deterministic_sites_are_kept(eight: MCMC) -> None:
    data = from_mcmc(eight, coords={"school": NAMES})
    expected = dist.Normal(torch.as_tensor(values(data, "posterior", "theta")), SIGMA).log_prob(EFFECT)
    np.testing.assert_allclose(values(data, "log_likelihood", "y"), expected, rtol=1e-5)
    assert set(data["posterior"].data_vars) == {"mu", "tau", "eta", "theta"}
    assert set(data["observed_data"].data_vars) == {"y"}
    assert data["posterior"]["theta"].dims == ("chain", "draw", "school")
    assert data["log_likelihood"]["y"].sel(school="MH").shape == (2, 20)
    prior = data["log_prior"]
    np.testing.assert_allclose(
        prior["mu"], dist.Normal(0.0, 5.0).log_prob(torch.as_tensor(data["posterior"]["mu"].values)), rtol=1e-5
    )
    assert prior["eta"].dims == ("chain", "draw", "school")


def test_lp_is_the_log_density_on_the_unconstrained_scale(eight: MCMC) -> None:
    data = from_mcmc(eight)
    tau = torch.as_tensor(values(data, "posterior", "tau"))
    total = sum(values(data, "log_prior", name).sum(-1) for name in ("eta",))
    total = total + values(data, "log_prior", "mu") + values(data, "log_prior", "tau")
    total = total + values(data, "log_likelihood", "y").sum(-1) + tau.log().numpy()
    np.testing.assert_allclose(values(data, "sample_stats", "lp"), total, rtol=1e-4)
    unrecorded = run(NUTS(schools), SIGMA, EFFECT, number=3)
    recorded = run(SampleStats(NUTS(schools)), SIGMA, EFFECT, number=3)
    lp, kept = (values(from_mcmc(mcmc), "sample_stats", "lp") for mcmc in (unrecorded, recorded))
    np.testing.assert_allclose(lp, kept, rtol=1e-4)


def test_recording_changes_no_draw_and_names_statistics_as_arviz_does(eight: MCMC) -> None:
    means: list[float] = []

    def hook(kernel: NUTS, *_: Any) -> None:
        means.append(kernel._mean_accept_prob)

    plain = run(NUTS(schools), SIGMA, EFFECT, number=3, hook_fn=hook)
    recorded = run(SampleStats(NUTS(schools)), SIGMA, EFFECT, number=3)
    rates = values(from_mcmc(recorded), "sample_stats", "acceptance_rate")[0]
    np.testing.assert_allclose(rates.cumsum() / [1, 2, 3], means[-3:], rtol=1e-6)  # Pyro keeps the running mean
    torch.testing.assert_close(plain.get_samples(), recorded.get_samples(), rtol=0, atol=0)
    stats = from_mcmc(eight)["sample_stats"]
    wanted = {"lp", "acceptance_rate", "step_size", "energy", "n_steps", "tree_depth", "diverging"}
    assert set(stats.data_vars) == wanted
    assert all(stats[name].dims == ("chain", "draw") for name in wanted)
    depth, steps = stats["tree_depth"].values, stats["n_steps"].values
    assert ((steps >= 2**depth - 1) & (steps <= 2 ** (depth + 1) - 1)).all()
    assert ((stats["acceptance_rate"] >= -1e-9) & (stats["acceptance_rate"] <= 1 + 1e-9)).all()
    assert (stats["energy"] >= -stats["lp"]).all()  # kinetic energy is not negative
    assert stats["diverging"].dtype == bool
    per_chain = stats["step_size"].values
    assert (per_chain == per_chain[:, :1]).all()


def test_the_recorded_energy_is_conserved_and_the_acceptance_rate_is_its_error() -> None:
    """HMC on a Gaussian with a tiny step: the Hamiltonian hardly changes, every proposal is taken."""
    kernel = SampleStats(
        HMC(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)), step_size=0.01, num_steps=5, adapt_step_size=False)
    )
    stats = from_mcmc(run(kernel))["sample_stats"]
    np.testing.assert_allclose(stats["acceptance_rate"], 1.0, atol=1e-3)
    assert (stats["n_steps"] == 5).all()
    assert "tree_depth" not in stats
    kinetic = stats["energy"].values + stats["lp"].values
    assert 0.2 < kinetic.mean() < 1.2  # half a chi-squared of one degree: mean 0.5, standard error 0.16 of 20 draws
    with pytest.raises(ValueError, match=r"`kernel` must be HMC or NUTS, .* got RandomWalkKernel"):
        SampleStats(RandomWalkKernel(schools))  # type: ignore[arg-type]


def test_statistics_come_back_from_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.multiprocessing, "cpu_count", lambda: 3)
    data = from_mcmc(run(SampleStats(NUTS(schools)), SIGMA, EFFECT, chains=2, number=2, mp_context="fork"))
    assert data["sample_stats"]["tree_depth"].shape == (2, 2)
    assert (values(data, "sample_stats", "step_size")[0] != values(data, "sample_stats", "step_size")[1]).all()


def test_divergences_are_where_pyro_saw_them() -> None:
    mcmc = run(RandomWalkKernel(schools), SIGMA, EFFECT)
    diagnostics: Any = mcmc._diagnostics
    diagnostics[0] = {"divergences": [3, 7]}
    assert np.flatnonzero(values(from_mcmc(mcmc), "sample_stats", "diverging")).tolist() == [3, 7]


def test_kernels_without_divergences_or_transforms_work() -> None:
    walk = from_mcmc(run(RandomWalkKernel(schools), SIGMA, EFFECT))
    assert set(walk["sample_stats"].data_vars) == {"lp"}
    prior = from_mcmc(prior_run(schools, "mu tau eta", SIGMA, EFFECT))
    assert prior["posterior"]["theta"].shape == (1, 6, 8)


def test_chains_of_a_kernel_become_chains() -> None:
    rbm = RBM(torch.zeros(4, 3), torch.zeros(4), torch.zeros(3))
    pyro.set_rng_seed(0)
    mcmc = MCMC(BlockGibbs(rbm, num_chains=5), num_samples=7, warmup_steps=2, disable_progbar=True)
    mcmc.run()
    data = from_mcmc(mcmc)
    assert data["posterior"]["v"].shape == (5, 7, 4)
    np.testing.assert_array_equal(values(data, "posterior", "v"), mcmc.get_samples()["v"].transpose(0, 1))
    assert data["sample_stats"]["free_energy"].shape == (5, 7)
    assert groups_of(data) == {"posterior", "sample_stats"}


def test_a_potential_without_a_model_gives_draws_and_statistics() -> None:
    kernel = NUTS(potential_fn=lambda z: (z["x"] ** 2).sum() / 2)
    data = from_mcmc(run(kernel, initial_params={"x": torch.zeros(3)}))
    assert data["posterior"]["x"].shape == (1, 20, 3)
    assert groups_of(data) == {"posterior", "sample_stats"}


def nested(y: Tensor) -> None:
    rows = pyro.plate("row", 4, dim=-2)
    columns = pyro.plate("column", 3, dim=-1)
    with rows:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with columns:
        b = pyro.sample("b", dist.Normal(torch.zeros(5), 1.0).to_event(1))
    with rows, columns:
        c = pyro.sample("c", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
        pyro.sample("y", dist.Normal(a[..., None] + b[..., :2] + c, 1.0).to_event(1), obs=y)
    pyro.sample("loose", dist.Normal(torch.zeros(2, 6), 1.0).to_event(2))


def test_plates_name_dimensions_from_the_right_and_events_count() -> None:
    data = from_mcmc(prior_run(nested, "a b c loose", torch.zeros(4, 3, 2)))
    posterior = {name: variable.dims[2:] for name, variable in data["posterior"].data_vars.items()}
    assert posterior == {
        "a": ("row", "a_dim_1"),
        "b": ("column", "b_dim_1"),
        "c": ("row", "column", "c_dim_2"),
        "loose": ("loose_dim_0", "loose_dim_1"),
    }
    assert data["log_likelihood"]["y"].dims == ("chain", "draw", "row", "column")
    assert data["observed_data"]["y"].dims == ("row", "column", "y_dim_2")
    assert data["log_prior"]["loose"].dims == ("chain", "draw")


def test_a_users_names_go_before_plates_and_a_gap_keeps_the_default() -> None:
    dims: dict[str, list[str | None]] = {"c": [None, "side", "part"], "y": ["up", "side", "part"]}
    coords = {"part": ["x", "y"], "row": list("abcd")}
    data = from_mcmc(prior_run(nested, "a b c loose", torch.zeros(4, 3, 2)), dims=dims, coords=coords)
    assert data["posterior"]["c"].dims == ("chain", "draw", "row", "side", "part")
    assert data["posterior"]["c"].sel(row="d", part="y").shape == (1, 6, 3)
    assert data["log_likelihood"]["y"].dims == ("chain", "draw", "up", "side")
    assert data["observed_data"]["y"].dims == ("up", "side", "part")


def test_wrong_names_are_errors_and_unknown_ones_are_suspected() -> None:
    mcmc = prior_run(nested, "a b c loose", torch.zeros(4, 3, 2))
    with pytest.raises(ValueError, match=r"`dims` of 'b' must name at most 2 dimensions of \(3, 5\)"):
        from_mcmc(mcmc, dims={"b": ["x", "y", "z"]})
    with pytest.raises(ValueError, match=r"`coords` 'x' must have 3 labels to fit 'b', got 2"):
        from_mcmc(mcmc, dims={"b": ["x"]}, coords={"x": [1, 2]})
    with pytest.raises(ValueError, match=r"dimensions of 'b' must differ .* got \['draw', 'b_dim_1'\]"):
        from_mcmc(mcmc, dims={"b": ["draw"]})
    with pytest.raises(ValueError, match=r"other names than the variables of 'posterior', got \['a'\]"):
        from_mcmc(mcmc, dims={"b": ["a"]})
    with pytest.warns(UserWarning, match=r"`dims` name \['beta'\], which no group has"):
        from_mcmc(mcmc, dims={"beta": ["x"]})


def test_reparametrised_sites_come_back_as_themselves() -> None:
    @poutine.reparam(config={"theta": LocScaleReparam(0.0)})
    def centred(effect: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("school", 8):
            theta = pyro.sample("theta", dist.Normal(mu, 3.0))
            pyro.sample("y", dist.Normal(theta, SIGMA), obs=effect)

    data = from_mcmc(run(RandomWalkKernel(centred), EFFECT, number=5))
    assert set(data["log_likelihood"].data_vars) == {"y"} == set(data["observed_data"].data_vars)
    expected = dist.Normal(torch.as_tensor(values(data, "posterior", "theta")), SIGMA).log_prob(EFFECT)
    np.testing.assert_allclose(values(data, "log_likelihood", "y"), expected, rtol=1e-5)
    assert data["posterior"]["theta"].dims == data["posterior"]["theta_decentered"].dims == ("chain", "draw", "school")


def test_without_a_run_or_anything_else_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="must have at least one of posterior, prior"):
        from_mcmc()
    with pytest.raises(ValueError, match="`posterior` must have draws, got one that was not run"):
        from_mcmc(MCMC(NUTS(schools), 5))
    with pytest.raises(ValueError, match=r"`posterior` must have `get_samples`.* got int"):
        from_mcmc(3)


def test_a_model_that_cannot_run_costs_its_groups_only() -> None:
    mcmc = run(RandomWalkKernel(schools), SIGMA, EFFECT, number=5)
    with pytest.warns(UserWarning, match="what needs the model is left out: it cannot run: "):
        data = from_mcmc(mcmc, model_args=[])
    assert groups_of(data) == {"posterior"}
    other = from_mcmc(mcmc, model_args=[SIGMA, EFFECT + 1])
    np.testing.assert_array_equal(values(other, "observed_data", "y"), EFFECT + 1)


def test_predictive_draws_alone_make_their_groups() -> None:
    prior = Predictive(schools, num_samples=50)(SIGMA)
    data = from_predictive(
        prior, prior=prior, predictions=prior, model=schools, model_args=[SIGMA, EFFECT], coords={"school": NAMES}
    )
    assert groups_of(data) == {"posterior_predictive", "predictions", "prior", "prior_predictive", "observed_data"}
    assert data["prior"]["mu"].shape == (1, 50)
    assert data["prior_predictive"]["y"].dims == ("chain", "draw", "school")
    two = from_predictive(prior, num_chains=2)
    assert two["posterior_predictive"]["y"].shape == (2, 25, 8)
    with pytest.raises(ValueError, match=r"`posterior_predictive` 'y' must have shape \(draws, ...\)"):
        from_predictive({"y": torch.tensor(3.0)})
    with pytest.raises(ValueError, match="`from_predictive` must have draws"):
        from_predictive(model=schools)


def test_predictive_draws_that_do_not_fit_the_chains_are_suspected(eight: MCMC) -> None:
    with pytest.warns(UserWarning, match=r"of shape \(7, 8\) does not fit 2 chains of 20 draws"):
        data = from_mcmc(eight, posterior_predictive={"y": torch.zeros(7, 8)})
    assert data["posterior_predictive"]["y"].shape == (1, 7, 8)
    fits = from_mcmc(eight, posterior_predictive=Predictive(schools, eight.get_samples())(SIGMA))
    assert fits["posterior_predictive"]["y"].dims == ("chain", "draw", "school")
    unseen = from_mcmc(eight, predictions={"y": torch.zeros(40, 3)}, coords={"school": NAMES})
    assert unseen["predictions"]["y"].dims == ("chain", "draw", "y_dim_0")


def test_warnings_point_to_the_users_line(eight: MCMC) -> None:
    def guide(*args: Tensor) -> None:
        pyro.sample("mu", dist.Delta(torch.tensor(0.0)))
        pyro.sample("tau", dist.Delta(torch.tensor(1.0)))
        with pyro.plate("school", 8):
            pyro.sample("eta", dist.Delta(torch.zeros(8)))

    calls: list[Any] = [
        lambda: from_mcmc(eight, model_args=[]),
        lambda: from_mcmc(eight, posterior_predictive={"y": torch.zeros(7, 8)}),
        lambda: from_mcmc(eight, dims={"beta": ["x"]}),
        lambda: from_predictive({"y": torch.zeros(7, 8)}, num_chains=2),
        lambda: from_svi(schools, guide, SIGMA, EFFECT, num_samples=3),
        lambda: from_chains({"v": torch.zeros(3, 2)}),
    ]
    for call in calls:
        with pytest.warns(UserWarning, match="left out|does not fit|which no group has|exchanged") as found:
            call()
        assert {warning.filename for warning in found} == {__file__}


def test_files_hold_all_groups(eight: MCMC, tmp_path: Path) -> None:
    mask: Any = torch.arange(8) % 3 > 0
    hidden: Any = poutine.mask(schools, mask=mask)
    masked = from_mcmc(prior_run(hidden, "mu tau eta", SIGMA, EFFECT))
    for name, data in (("whole", from_mcmc(eight, coords={"school": NAMES})), ("masked", masked)):
        to_netcdf(data, tmp_path / f"{name}.nc")
        back = arviz.from_netcdf(tmp_path / f"{name}.nc")
        assert groups_of(back) == groups_of(data)
        for group in groups_of(data):
            for variable in data[group].data_vars:
                np.testing.assert_array_equal(values(back, group, variable), values(data, group, variable))
        getattr(back, "close", lambda: None)()
    assert masked["log_likelihood"]["y"].shape == (1, 6, 5)
