"""Models that SVI has trained, in files and copies."""

from __future__ import annotations

import copy
import io
import pickle

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

from pyro_gen import models
from tests.calls import CALLS
from tests.runs import same


@pytest.mark.parametrize("way", ["torch.save", "pickle", "deepcopy"])
def test_a_model_goes_into_a_file_after_a_step_and_both_go_on(way: str) -> None:
    torch.manual_seed(0)
    x = torch.bernoulli(torch.full((20, 6), 0.4))
    model = models.VAE(6, 2, 20, hidden=(4,))
    pyro.clear_param_store()
    SVI(model.model, model.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO()).step(x)
    if way == "torch.save":
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
    elif way == "pickle":
        loaded = pickle.loads(pickle.dumps(model))
    else:
        loaded = copy.deepcopy(model)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    for one in (model, loaded):
        before = {key: value.clone() for key, value in one.state_dict().items()}
        SVI(one.model, one.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO()).step(x)
        assert any(not torch.equal(before[key], value) for key, value in one.state_dict().items())


CASES = {f"{name}-{number}": call for name, calls in CALLS.items() for number, call in enumerate(calls)}


@pytest.mark.parametrize("name", CASES)
def test_every_module_is_pickled_after_a_bare_pyro_module(name: str) -> None:
    """A program of a user calls pyro.module itself, which leaves weak references on the parameters."""
    module = CASES[name].make()
    pyro.clear_param_store()
    pyro.module("user", module)
    copies = [pickle.loads(pickle.dumps(module)), copy.deepcopy(module)]
    pyro.clear_param_store()  # the references are dead now
    copies.append(pickle.loads(pickle.dumps(module)))
    for other in copies:
        assert same(other.state_dict(), module.state_dict())
        pyro.clear_param_store()
        pyro.module("user", other)
