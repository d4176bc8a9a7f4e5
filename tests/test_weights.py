"""Importance weights of every estimator: an effective sample size, and a warning where it is near 1 alone."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import networkx as nx
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import pyro_gen
from pyro_gen import models, nn
from pyro_gen._weights import too_heavy, too_small, warn_of_weights
from pyro_gen.arviz import from_svi, weighted_summary
from pyro_gen.distributions import RBM, BayesianNetwork, Importance
from pyro_gen.infer import AIS, AmortisedPosterior, AnnealedImportance, likelihood_weighting, lower_bound

X = torch.eye(5)
RESULTS = ("Estimate", "LowerBound", "ImportanceLogLikelihood", "WeightedMarginals")
WORDS = re.compile(r"importance[\s-]sampling|weighted draws", re.IGNORECASE)
EXEMPT = {
    "weighted_marginals": "the work behind likelihood_weighting and AmortisedPosterior.marginals",
    "estimate": "the end of VAE.test_log_likelihood",
    "LowerBound.against": "shifts a result",
    "RowModel.lower_bound": "VAE.lower_bound is one",
    "Completer.evidence_estimate": "ClampedAutoregressive.evidence_estimate is one",
    "AutoregressiveEnsemble.evidence_estimate": "that of ClampedAutoregressive",
    "log_weights": "draws a picture of weights",
    "Exact.log_partition": "exact",
    "Estimate.expand": "repeats a result",
    "expectation": "draws of chains have equal weights",
    "free_energy_gap": "rows of data have equal weights",
    **dict.fromkeys(
        (
            "AIS.log_partition",
            "AIS.reverse",
            "DeepBoltzmannMachine.log_partition",
            "EnergyDistribution.log_partition",
            "NegativePhase.log_partition",
            "Partition.log_partition",
            "RBM.evidence_estimate",
            "forward_estimate",
            "reverse_estimate",
        ),
        "log Z, of which AIS itself warns",
    ),
}
OTHERS = {
    "EnergyDistribution.log_partition",
    "weighted_summary",
    "VAE.lower_bound",  # inherited
}  # estimators whose words and results are of another kind


def autoencoder(shift: float, kind: type[models.VAE] = models.VAE, **settings: Any) -> models.VAE:
    """All weights zero, so that the posterior is the prior; a guide that is narrow and beside it, where asked for."""
    vae = kind(5, 2, 6, hidden=(4,), **settings)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        if shift:
            last: Any = [part for part in vae.encoder.modules() if isinstance(part, torch.nn.Linear)][-1]
            last.bias.copy_(torch.tensor([shift, -4.0]).repeat(2))
    return vae.eval()


def plain(poor: bool) -> Tensor:
    return autoencoder(4.0 * poor).test_log_likelihood(X, 200).effective_sample_size


def with_classes(poor: bool) -> Tensor:
    vae = autoencoder(4.0 * poor, models.SemiSupervisedVAE, classes=2)
    return vae.test_log_likelihood(X, 200).effective_sample_size


def annealed(poor: bool) -> Tensor:
    method = AnnealedImportance(2, 1)
    return autoencoder(4.0 * poor).test_log_likelihood(X, 30, method).effective_sample_size


def bound(poor: bool) -> Tensor:
    return autoencoder(4.0 * poor).lower_bound(X, 50).effective_sample_size


def program_bound(poor: bool) -> Tensor:
    vae = autoencoder(4.0 * poor)
    return lower_bound(vae.model, vae.guide, X, 150).effective_sample_size


def alarms() -> BayesianNetwork:
    """A rare cause of six alarms that hardly ever sound without it."""
    sounds = {f"alarm{i}": torch.tensor([[0.999, 0.001], [0.01, 0.99]]) for i in range(6)}
    graph = nx.DiGraph([("cause", name) for name in sounds])
    return BayesianNetwork(graph, {"cause": torch.tensor([0.999, 0.001])} | sounds)


def evidence(poor: bool) -> dict[str, int] | None:
    return {f"alarm{i}": 1 for i in range(6)} if poor else {"cause": 0}


def weighted(poor: bool) -> Tensor:
    pyro.set_rng_seed(1)
    return likelihood_weighting(alarms(), evidence(poor), 2000).effective_sample_size


def amortised(poor: bool) -> Tensor:
    pyro.set_rng_seed(1)
    return AmortisedPosterior(alarms(), hidden_features=(4,)).marginals(evidence(poor), 2000).effective_sample_size


def sigmoid_network(poor: bool) -> nn.FVSBN:
    """The second feature, which is observed, nearly forces the first, which is rare."""
    network = nn.FVSBN(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        if poor:
            network.weight[0, 0, 1] = 40.0
            network.bias[1] = -20.0  # type: ignore[index]  # there is one
            network.bias[0] = -4.0  # type: ignore[index]
    return network


def completed(poor: bool) -> Tensor:
    network, mask = sigmoid_network(poor), torch.tensor([False, True])
    return network().given(torch.ones(2), mask, Importance(200)).evidence_estimate().effective_sample_size


def density_evidence(poor: bool) -> Tensor:
    network, mask = sigmoid_network(poor), torch.tensor([False, True])
    return network().evidence_estimate(torch.ones(2), mask, Importance(200)).effective_sample_size


def partition(poor: bool) -> Tensor:
    weight = 8.0 * poor * torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    rbm = RBM(weight, torch.zeros(40), torch.zeros(30), AIS(50, 10))
    return rbm.log_partition().effective_sample_size


def arviz(poor: bool) -> Tensor:
    def model() -> None:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(0.0))

    def guide() -> None:
        pyro.sample("z", dist.Normal(9.0, 0.05) if poor else dist.Normal(0.0, 0.75))

    data = from_svi(model, guide, num_samples=500)
    weighted_summary(data)
    return torch.tensor(data["sample_stats"].attrs["importance_ess"])


ESTIMATORS: dict[str, tuple[Callable[[bool], Tensor], ...]] = {
    "VAE.test_log_likelihood": (plain, with_classes, annealed),
    "VAE.lower_bound": (bound,),
    "lower_bound": (program_bound,),
    "likelihood_weighting": (weighted,),
    "AmortisedPosterior.marginals": (amortised,),
    "ClampedAutoregressive.evidence_estimate": (completed,),
    "Autoregressive.evidence_estimate": (density_evidence,),
    "EnergyDistribution.log_partition": (partition,),
    "weighted_summary": (arviz,),
}
RUNS = [pytest.param(run, id=f"{name}-{run.__name__}") for name, runs in ESTIMATORS.items() for run in runs]


@pytest.mark.parametrize("run", RUNS)
def test_every_estimator_says_how_many_draws_are_effective_and_warns_of_few(run: Callable[[bool], Tensor]) -> None:
    pyro.set_rng_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (run(False) >= 25).all()
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        assert run(True).min() < 10
    assert any(re.search("effective|k-hat", str(message.message)) for message in messages)
    assert {message.filename for message in messages} == {__file__}


def public(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """Functions and methods that a module defines, by name."""
    for name, item in vars(module).items():
        if name.startswith("_") or getattr(item, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(item):
            yield from (
                (f"{name}.{key}", f) for key, f in vars(item).items() if inspect.isfunction(f) and key[0] != "_"
            )
        elif inspect.isfunction(item):
            yield name, item


def estimators(modules: list[types.ModuleType]) -> set[str]:
    """Functions that return such a result, or that speak of importance sampling."""
    names = set()
    for module in modules:
        for name, function in public(module):
            summary = (function.__doc__ or "").partition("Args:")[0]
            if inspect.signature(function).return_annotation in RESULTS or WORDS.search(summary):
                names.add(name)
    return names


def modules() -> list[types.ModuleType]:
    names = [found.name for found in pkgutil.walk_packages(pyro_gen.__path__, "pyro_gen.")]
    return [importlib.import_module(name) for name in names if ".kernels" not in name and "._" not in name]


def test_no_estimator_is_left_out() -> None:
    """A function that speaks of importance sampling, or returns such a result, has a row above."""
    assert estimators(modules()) == ESTIMATORS.keys() - OTHERS | EXEMPT.keys()
    forgotten = types.ModuleType("forgotten")
    exec('def f():\n    """Evidence by importance sampling."""', forgotten.__dict__)
    exec('def g() -> LowerBound:\n    """A bound."""', forgotten.__dict__)
    forgotten.f.__module__ = forgotten.g.__module__ = "forgotten"
    assert estimators([forgotten]) == {"f", "g"}


def test_which_weights_are_warned_of() -> None:
    size, heavy = torch.tensor([20.0, 400.0, 990.0]), torch.tensor([0.2, 0.9, torch.inf])
    assert too_small(size, 1000).tolist() == [False, False, False]
    assert too_small(size / 3, 1000).tolist() == [True, False, False]
    assert too_small(torch.tensor([1.9, 2.1]), 4).tolist() == [True, False]
    assert too_small(torch.ones(1), 1).all()
    assert too_small(torch.tensor([torch.nan]), 100).all()
    assert too_heavy(heavy, size, 1000).tolist() == [False, True, False]  # the last are even but for rounding
    assert not too_heavy(heavy, size, 50).any()
    with pytest.warns(UserWarning, match=r"2 of 3 rows .* too small in 1 rows, Pareto k-hat above 0.7 in 1; rows 0, 1"):
        warn_of_weights(size / torch.tensor([3, 1, 1]), 1000, heavy, "x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_weights(torch.full((40,), 400.0), 1000, torch.tensor([0.9] + 39 * [0.1]), "by chance")
