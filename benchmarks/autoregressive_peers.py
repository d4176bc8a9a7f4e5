"""Peers' autoregressive networks: their log probability of binary rows, and their
draws as their users get them.

pytorch-generative is on no package index; its checkout must be importable. Its
NADE and its MADE give probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from benchmarks.timing import UnavailableError

LONGEST = 400
"""Features up to which a network of convolutions draws by a whole pass for each:
beyond, a draw takes a minute.
"""


class Peer(NamedTuple):
    """A network by features and hidden units, its log probability of rows, and a
    draw of that many.
    """

    network: Callable[[int, int], Any]
    log_prob: Callable[[Any, Tensor], Tensor]
    sample: Callable[[Any, int], Tensor]


def sides(features: int) -> tuple[int, int]:
    """Rows and columns of an image of that many pixels, as square as can be."""
    rows = next(rows for rows in range(int(features**0.5), 0, -1) if features % rows == 0)
    return rows, features // rows


def _images(x: Tensor) -> Tensor:
    return x.view(len(x), 1, *sides(x.shape[1]))


def _generative(name: str, *arguments: Any) -> Any:
    """A model of pytorch-generative, told the images' shape by a first call."""
    return getattr(import_module("pytorch_generative.models"), name)(*arguments)


def _told(model: Any, features: int) -> Any:
    model(torch.zeros(1, 1, *sides(features)))
    return model


def _of_probabilities(network: nn.Module, x: Tensor) -> Tensor:
    return -binary_cross_entropy(network(_images(x)).flatten(1), x, reduction="none").sum(-1)


def _of_logits(network: nn.Module, x: Tensor) -> Tensor:
    return -binary_cross_entropy_with_logits(network(x), x, reduction="none").sum(-1)


def _of_images(network: nn.Module, x: Tensor) -> Tensor:
    return -binary_cross_entropy_with_logits(
        network(_images(x)).flatten(1), x, reduction="none"
    ).sum(-1)


def _own(network: Any, rows: int) -> Tensor:
    drawn: Tensor = network.sample(rows)
    return drawn


def _short(network: Any, rows: int) -> Tensor:
    features = network._h * network._w
    if features > LONGEST:
        raise UnavailableError(
            f"a draw of {features} features is {features} passes, too long to be repeated"
        )
    return _own(network, rows)


@torch.no_grad()
def _by_passes(order: Callable[[Any, int], list[int]], network: Any, rows: int) -> Tensor:
    """The loop that a user writes: a pass for each feature."""
    x = torch.zeros(rows, network.features)
    for feature in order(network, network.features):
        x[:, feature] = torch.bernoulli(network(x)[:, feature].sigmoid())
    return x


def _pyro(features: int, hidden: int) -> Any:
    """Pyro's network, which refuses fewer hidden units than features: then it has as many."""
    network = import_module("pyro.nn").AutoRegressiveNN(
        features, [max(hidden, features)], param_dims=[1]
    )
    network.features = features
    return network


def _nflows(features: int, hidden: int) -> Any:
    """One layer without activation, one with: the least that it has."""
    made = import_module("nflows.nn.nde.made").MADE
    network = made(features, hidden, num_blocks=1, use_residual_blocks=False)
    network.features = features
    return network


def _zuko(features: int, hidden: int) -> Any:
    return import_module("zuko.flows").MAF(features, transforms=1, hidden_features=[hidden])


def _flow_sample(flow: Any, rows: int) -> Tensor:
    with torch.no_grad():
        drawn: Tensor = flow().sample((rows,))
    return drawn


PEERS = {
    "pytorch-generative NADE": Peer(
        lambda d, h: _told(_generative("NADE", d, h), d), _of_probabilities, _own
    ),
    "pytorch-generative MADE": Peer(
        lambda d, h: _told(_generative("MADE", d, [h]), d), _of_probabilities, _own
    ),
    "pytorch-generative PixelCNN": Peer(
        lambda d, _: _told(_generative("PixelCNN", 1, 1, 4, 16, 16), d), _of_images, _short
    ),
    "nflows MADE": Peer(
        _nflows, _of_logits, partial(_by_passes, lambda _, features: list(range(features)))
    ),
    "pyro AutoRegressiveNN": Peer(
        _pyro,
        _of_logits,
        partial(_by_passes, lambda network, _: network.get_permutation().tolist()),
    ),
    "zuko MAF": Peer(_zuko, lambda flow, x: flow().log_prob(x), _flow_sample),
}
"""By their names.

Zuko's flow is a density of numbers, not of bits, of one transform with as many
hidden units.
"""
