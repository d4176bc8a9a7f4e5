"""Modules, densities and data sets print what they are: sizes, names and settings, no numbers of tensors."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from pyro_gen import datasets, models, nn
from pyro_gen._module import Module
from tests.calls import CALLS, Call

CASES = {f"{name}-{number}": call for name, calls in CALLS.items() for number, call in enumerate(calls)}


@pytest.mark.parametrize("name", CASES)
def test_modules_print_their_sizes(name: str) -> None:
    call: Call = CASES[name]
    module = call.make()
    text = repr(module)
    assert "tensor(" not in text
    assert len(text.splitlines()) <= 80
    own = text.splitlines()[1] if text.splitlines()[0].endswith("(") else text
    if isinstance(module, Module) and any(isinstance(value, int) for value in module.construction[0]):
        assert any(character.isdigit() for character in own), text


def test_settings_that_are_not_the_defaults_are_shown() -> None:
    mixture = models.BernoulliMixture(3, 5, 10, concentration=2.0)
    assert "components=3, features=5, size=10, concentration=2.0" in repr(mixture)
    assert repr(models.PPCA(3, 1, 10)) == "PPCA(features=3, latent=1, size=10)"


def test_networks_print_nodes_parents_and_states() -> None:
    graph = nx.DiGraph([("rain", "wet")])
    network = models.BayesianNetwork(graph, states={"rain": ("no", "yes"), "wet": 3})
    assert repr(network).splitlines() == [
        "BayesianNetwork(2 nodes)",
        "  rain: TabularCPD, 'no', 'yes'",
        "  wet | rain: TabularCPD, '0', '1', '2'",
    ]
    assert repr(network()) == "BayesianNetwork(2 nodes: 'rain', 'wet')"
    assert repr(network.cpd("wet")) == "TabularCPD(states=3, parent_states=(2,))"
    chain = models.BayesianNetwork.markov_chain(50, 2)
    assert repr(chain).splitlines()[-1] == "  ... and 30 more"


def test_densities_print_their_network() -> None:
    text = "Autoregressive(NADE, batch_shape=(), event_shape=(6,), conditional=BernoulliConditional())"
    assert repr(nn.NADE(6, 3)()) == text


def test_data_sets_print_shapes() -> None:
    data = datasets.BinaryDataset(
        "toy", torch.zeros(3, 2), torch.zeros(2, 2), torch.zeros(1, 2), classes=tuple("abcdef")
    )
    assert repr(data) == (
        "BinaryDataset(name='toy', train=tensor of shape (3, 2), valid=tensor of shape (2, 2), "
        "test=tensor of shape (1, 2), classes=('a', 'b', 'c', ... 6 in all))"
    )
