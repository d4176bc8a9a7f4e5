"""Exact log likelihoods of small deep models, by summing over all hidden states."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from pyro_gen.models import DeepBoltzmannMachine, SigmoidBeliefNetwork
from pyro_gen.models.latent import LatentModel


def states(units: int) -> Tensor:
    """All binary vectors, (2**units, units)."""
    return ((torch.arange(2**units).unsqueeze(-1) >> torch.arange(units)) & 1).to(torch.get_default_dtype())


def belief_network(network: SigmoidBeliefNetwork, v: Tensor) -> Tensor:
    """Log p(v) of a network of any depth, differentiable: a matrix of conditionals a layer."""
    widths = [cast(nn.Linear, layer).in_features for layer in network.down]
    like = next(network.parameters())
    log_p = network.prior().log_prob(states(widths[-1]).to(like))
    for level in range(len(widths) - 1, 0, -1):
        above, below = states(widths[level]).to(like), states(widths[level - 1]).to(like)
        table = network.layer(network.down[level], above.unsqueeze(1)).log_prob(below)
        log_p = (log_p.unsqueeze(1) + table).logsumexp(0)
    rows = network.layer(network.down[0], states(widths[0]).to(like).unsqueeze(1)).log_prob(v)
    return (log_p.unsqueeze(1) + rows).logsumexp(0)


def shallow(model: LatentModel, units: int, v: Tensor) -> Tensor:
    """Log p(v) of a model with one latent layer."""
    h = states(units).to(v)
    return (model.prior().log_prob(h).unsqueeze(1) + model.decode(h.unsqueeze(1)).log_prob(v)).logsumexp(0)


def boltzmann(machine: DeepBoltzmannMachine, v: Tensor) -> Tensor:
    """Log p(v) from the layers' own energy, with a log Z of its own: nothing of the RBM behind it is used."""
    layers = [states(width).to(v) for width in machine.widths]
    log_joint = _log_sum(machine, layers, layers[0])
    return _log_sum(machine, layers, v) - log_joint.logsumexp(0)


def _log_sum(machine: DeepBoltzmannMachine, layers: list[Tensor], v: Tensor) -> Tensor:
    """Log of the sum of exp(-E) over all hidden layers, layer by layer from the top, for rows v."""
    tail = layers[-1] @ machine.biases[-1]
    for level in range(len(layers) - 2, -1, -1):
        below = v if level == 0 else layers[level]
        pair = below @ machine.weights[level] @ layers[level + 1].mT
        tail = below @ machine.biases[level] + (pair + tail).logsumexp(1)
    return tail
