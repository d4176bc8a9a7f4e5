"""A model that has no tractable density of a row says so when it is called, and names what to use instead."""

from __future__ import annotations

import inspect

import pytest
import torch

from pyro_gen import infer, models, nn

from .public import TABLE, public_models

REFUSED = {
    "VAE": "lower_bound",
    "VAE under a VampPrior": "lower_bound",
    "DiscreteVAE": "lower_bound",
    "SemiSupervisedVAE": "lower_bound",
    "SigmoidBeliefNetwork": "lower_bound",
    "DeepBeliefNetwork": "lower_bound",
    "DeepBoltzmannMachine": "lower_bound",
    "BayesianRBM": "log_predictive",
    "PCA": "PPCA",
}
TAKE_ROWS = ("Autoencoder", "DenoisingAutoencoder", "BayesClassifier")
"""Models whose call is a conditional distribution given rows."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_call_names_the_method_to_use(name: str) -> None:
    with pytest.raises(NotImplementedError, match=REFUSED[name]):
        TABLE[name].make(10)()


@pytest.mark.parametrize("name", sorted(set(TABLE) - set(REFUSED) - set(TAKE_ROWS)))
def test_all_other_calls_are_distributions(name: str) -> None:
    assert isinstance(TABLE[name].make(10)(), torch.distributions.Distribution)


def undefined(classes: list[type]) -> list[str]:
    """Modules that leave their call to torch, which says that it is missing."""
    modules = [cls for cls in classes if issubclass(cls, torch.nn.Module)]
    return [cls.__name__ for cls in modules if cls.forward is torch.nn.Module.forward]


def test_no_public_module_leaves_its_call_to_torch() -> None:
    classes = [
        member
        for home in (models, nn, infer)
        for name in home.__all__
        if inspect.isclass(member := getattr(home, name))
    ]
    assert undefined(classes) == []
    assert undefined([type("Silent", (torch.nn.Module,), {})]) == ["Silent"]
    assert {name.split(" ")[0] for name in TABLE} == set(public_models())
