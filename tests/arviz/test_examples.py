"""What users do with the examples' models in ArviZ, on both lines: LOO, comparison, trace and predictive plots.

The models are those that the examples make, small and untrained: whether ArviZ can be used does not depend on that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive
from torch import Tensor

from pyro_gen import models, nn
from pyro_gen.arviz import from_chains, from_mcmc, from_svi
from pyro_gen.infer import GibbsSampler
from tests.arviz.models import TREES, groups_of, loo, prior_run, quietly, values
from tests.arviz.models import arviz as installed
from tests.house import ROOT

plt: Any = pytest.importorskip("matplotlib.pyplot")

arviz: Any = installed  # each line has functions that the other has not

ROWS = 7
BITS = torch.bernoulli(torch.full((ROWS, 4), 0.5), generator=torch.Generator().manual_seed(1))
NUMBERS = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(2)).double()
HOLES = torch.where(torch.tensor([[True, True], [False, True], [False, False]]).repeat(3, 1)[:ROWS], NUMBERS, torch.nan)


class Case(NamedTuple):
    """A model and its guide, their data, the observed site, and how many data LOO has to count."""

    model: Callable[..., Any]
    guide: Callable[..., Any]
    x: Tensor
    site: str = "x"
    data: int = ROWS


def vae(**settings: Any) -> Case:
    pair = models.VAE.from_data(BITS, 2, **{"hidden": (5,), **settings}).eval()
    return Case(pair.model, pair.guide, BITS)


def ppca(x: Tensor, data: int) -> Case:
    pair = models.PPCA.from_data(x, 1)
    return Case(pair.model, pair.guide, x, data=data)


def mixture(x: Tensor = NUMBERS, marginal: bool = False, data: int = ROWS, **settings: Any) -> Case:
    pair = models.GaussianMixture.from_data(x, 2, "diagonal", **settings)
    return Case(pair.marginal if marginal else pair.model, pair.guide, x, data=data)


def bayesian_rbm() -> Case:
    pair = models.BayesianRBM(4, 1, ROWS)
    pair.guide(BITS)
    return Case(pair.model, pair.guide, BITS, "v")


def belief_network() -> Case:
    # With few hidden states draws repeat themselves, and ArviZ 1.x refuses tails of equal values.
    pair = models.DeepBeliefNetwork(4, [12, 2], ROWS).eval()
    return Case(pair.model, pair.guide, BITS)


WHOLE = int((~HOLES.isnan()).any(-1).sum())
"""Rows of which some cell is seen."""

CASES: dict[tuple[str, str], Callable[[], Case]] = {
    ("vae.py", "normal prior"): vae,
    ("vae.py", "VampPrior"): lambda: vae(prior=nn.VampPrior(3, 4)),
    ("vae.py", "MADE"): lambda: vae(likelihood=nn.MADE(4, [5], context=3)),
    ("iwae.py", "two layers"): lambda: vae(hidden=(5, 5)),
    ("ppca.py", "PPCA"): lambda: ppca(NUMBERS, ROWS),
    ("ppca.py", "PPCA, missing cells"): lambda: ppca(HOLES, WHOLE),
    ("ppca.py", "VAE"): vae,
    ("mixture.py", "conjugate"): mixture,
    ("mixture.py", "missing cells"): lambda: mixture(HOLES, data=WHOLE),
    ("mixture.py", "Dirichlet process"): lambda: mixture(weights="dirichlet process"),
    ("mixture_mcmc_arviz.py", "summed out"): lambda: mixture(marginal=True),
    ("rbm_weight_posterior.py", "weights"): bayesian_rbm,
    ("dbn_mnist.py", "layers"): belief_network,
}

NO_POSTERIOR = "its weights are parameters, and nothing else is latent"
WITHOUT = {
    **dict.fromkeys(("autoregressive.py", "autoregressive_inpainting.py", "bayes_classifier.py"), NO_POSTERIOR),
    **dict.fromkeys(("character_model.py", "chow_liu.py", "class_rbm.py", "pixelcnn_mnist.py"), NO_POSTERIOR),
    **dict.fromkeys(("rbm_alphadigits.py", "rbm_bars_and_stripes.py", "rbm_features.py"), NO_POSTERIOR),
    **dict.fromkeys(
        ("rbm_hidden_sweep.py", "rbm_inpainting.py", "rbm_mixing.py", "rbm_recommendation.py"), NO_POSTERIOR
    ),
    **dict.fromkeys(("rbm_sklearn_pipeline.py", "rbm_units.py"), NO_POSTERIOR),
    "bayesian_network.py": "draws of tables, without a program: tests of from_cpds",
    "dbm_mnist.py": "its likelihood is a contrast, no density",
    "gibbs_expectation.py": "chains without data",
    "ising.py": "chains without data",
}


@pytest.fixture(scope="module", params=CASES, ids=": ".join)
def case(request: pytest.FixtureRequest) -> Case:
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    return CASES[request.param]()


@pytest.fixture(scope="module")
def data(case: Case) -> Any:
    """Draws of the guide with what they predict."""
    draws = from_svi(case.model, case.guide, case.x, num_samples=40, log_likelihood=False)["posterior"]
    latent = {name: torch.as_tensor(draws[name].values[0]) for name in draws.data_vars}
    predicted = Predictive(case.model, latent, return_sites=[case.site])()
    pyro.set_rng_seed(0)
    return from_svi(case.model, case.guide, case.x, num_samples=40, posterior_predictive=predicted)


def test_every_example_has_a_case_or_a_reason() -> None:
    covered = {script for script, _ in CASES}
    assert not covered & WITHOUT.keys()
    assert {file.name for file in (ROOT / "examples").glob("[!_]*.py")} == covered | WITHOUT.keys()


def test_loo_counts_the_rows_of_which_something_is_seen(case: Case, data: Any) -> None:
    assert loo(data).n_data_points == case.data


def test_draws_of_the_guide_compare_with_a_run_of_the_same_model(case: Case, data: Any) -> None:
    sites = " ".join(data["posterior"].data_vars)
    run = from_mcmc(prior_run(case.model, sites, case.x, draws=40))
    assert values(run, "log_likelihood", case.site).shape == values(data, "log_likelihood", case.site).shape
    table = quietly(arviz.compare, {"guide": data, "run": run})
    assert set(table.index) == {"guide", "run"}
    assert np.isfinite(table[next(name for name in table.columns if name in ("elpd", "elpd_loo"))]).all()


def test_trace_and_predictive_plots_draw(data: Any) -> None:
    name = next(iter(data["posterior"].data_vars))
    quietly(arviz.plot_trace_dist if TREES else arviz.plot_trace, data, var_names=[name])
    quietly(arviz.plot_ppc_dist, data, num_samples=5) if TREES else quietly(arviz.plot_ppc, data, num_pp_samples=5)
    plt.close("all")


def test_chains_of_bare_conditionals_have_a_trace_plot() -> None:
    sampler = GibbsSampler(
        {"x": lambda y: dist.Binomial(16, y), "y": lambda x: dist.Beta(x + 2.0, 20.0 - x)}, start={"y": 0.5}
    )
    chains = from_chains(sampler.run(10))
    quietly(arviz.plot_trace_dist if TREES else arviz.plot_trace, chains)
    plt.close("all")
    assert groups_of(chains) == {"posterior"}
