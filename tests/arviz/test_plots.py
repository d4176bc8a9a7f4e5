"""LOO, comparison and plots of both lines of ArviZ run on what the bridge makes of NUTS, a guide and chains."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, Predictive
from pyro.ops.indexing import Vindex
from torch import Tensor

from pyro_gen.arviz import SampleStats, from_chains, from_mcmc, from_svi
from tests.arviz.models import TREES, groups_of, loo, quietly, values
from tests.arviz.models import arviz as installed

pytest.importorskip("matplotlib")

arviz: Any = installed  # each line has functions that the other has not

GENERATOR = torch.Generator().manual_seed(1)
X = torch.cat([torch.randn(12, generator=GENERATOR) - 2, torch.randn(18, generator=GENERATOR) + 2])

SIZES = torch.tensor([13.0, 19.0])  # of the two groups, and one for the prior
CENTRES = torch.stack([X[:12].sum() - 2, X[12:].sum() + 2]) / SIZES


def mixture(x: Tensor | None = None, number: int = 30) -> None:
    weight = pyro.sample("weight", dist.Beta(torch.tensor(2.0), 2.0))
    with pyro.plate("component", 2):
        mean = pyro.sample("mean", dist.Normal(torch.tensor([-2.0, 2.0]), 1.0))
    with pyro.plate("row", number):
        z = pyro.sample("z", dist.Bernoulli(weight), infer={"enumerate": "parallel"})
        pyro.sample("x", dist.Normal(Vindex(mean)[..., z.long()], 1.0), obs=x)


def guide(x: Tensor | None = None, number: int = 30) -> None:
    pyro.sample("weight", dist.Beta(torch.tensor(19.0), 13.0))
    with pyro.plate("component", 2):
        pyro.sample("mean", dist.Normal(CENTRES, SIZES**-0.5))


def predictive(samples: dict[str, Tensor]) -> dict[str, Tensor]:
    drawn: dict[str, Tensor] = Predictive(mixture, samples, return_sites=["x"])()
    return drawn


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    pyro.set_rng_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mcmc = MCMC(SampleStats(NUTS(mixture)), 60, 20, num_chains=2, disable_progbar=True)
        mcmc.run(X)
        nuts = from_mcmc(mcmc, posterior_predictive=predictive(mcmc.get_samples()))
    svi = from_svi(mixture, guide, X, num_samples=120)
    draws = {name: torch.as_tensor(svi["posterior"][name].values[0]) for name in ("weight", "mean")}
    svi = from_svi(mixture, guide, X, num_samples=120, posterior_predictive=predictive(draws))
    return {"nuts": nuts, "svi": svi}


def test_nuts_with_enumeration_has_the_marginal_likelihood_row_by_row(runs: dict[str, Any]) -> None:
    data = runs["nuts"]
    mean, weight = (torch.as_tensor(values(data, "posterior", name)) for name in ("mean", "weight"))
    each = dist.Normal(mean[:, :, None], 1.0).log_prob(X[:, None])
    each = each + torch.stack([1 - weight, weight], -1).log()[:, :, None]
    np.testing.assert_allclose(values(data, "log_likelihood", "x"), each.logsumexp(-1), rtol=2e-5)
    lp = each.logsumexp(-1).sum(-1) + dist.Beta(2.0, 2.0).log_prob(weight)
    lp = lp + dist.Normal(torch.tensor([-2.0, 2.0]), 1.0).log_prob(mean).sum(-1) + (weight * (1 - weight)).log()
    np.testing.assert_allclose(values(data, "sample_stats", "lp"), lp, rtol=1e-4)


def test_loo_and_compare_run_and_see_one_model(runs: dict[str, Any]) -> None:
    for data in runs.values():
        assert loo(data).n_data_points == len(X)
    table = quietly(arviz.compare, runs)
    assert set(table.index) == {"nuts", "svi"}
    column = next(name for name in table.columns if name in ("elpd_diff", "elpd_loo_diff"))
    assert abs(table[column]).max() < 1


@pytest.mark.parametrize("name", ["nuts", "svi"])
def test_plots_draw(runs: dict[str, Any], name: str) -> None:
    data = runs[name]
    if TREES:
        quietly(arviz.plot_trace_dist, data, var_names=["weight", "mean"])
        quietly(arviz.plot_ppc_dist, data, num_samples=10)
        quietly(arviz.plot_forest, data, var_names=["mean"])
    else:
        quietly(arviz.plot_trace, data, var_names=["weight", "mean"])
        quietly(arviz.plot_ppc, data, num_pp_samples=10)
        quietly(arviz.plot_forest, data, var_names=["mean"])
    close()


def test_statistics_of_nuts_serve_the_energy_plot_and_chains_the_trace_plot(runs: dict[str, Any]) -> None:
    quietly(arviz.plot_energy, runs["nuts"])
    chains = from_chains({"v": torch.rand(2, 30, 3)})
    quietly(arviz.plot_trace_dist if TREES else arviz.plot_trace, chains)
    close()
    assert groups_of(chains) == {"posterior"}


def test_the_summary_has_the_names_of_plates(runs: dict[str, Any]) -> None:
    table = quietly(arviz.summary, runs["nuts"])
    assert {"weight", "mean[0]", "mean[1]"} <= set(table.index)


def close() -> None:
    import matplotlib.pyplot as plt

    plt.close("all")
