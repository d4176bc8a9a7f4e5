"""One update of an RBM by contrastive divergence on one batch: this project's, and
what one writes in plain torch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import softplus

from benchmarks.peers import Step
from pyro_gen.infer import contrastive_gradient
from pyro_gen.nn import RBM

RATE = 0.01


def ours(rbm: RBM) -> Step:
    """What a user writes: ``contrastive_gradient`` and the optimiser's step."""
    parameters = list(rbm.parameters())
    optimizer = torch.optim.SGD(parameters, lr=RATE)

    def step(batch: Tensor) -> list[Parameter]:
        contrastive_gradient(rbm, batch)
        optimizer.step()
        return parameters

    return step


def ours_by_hand(rbm: RBM) -> Step:
    """The same gradient with SGD in one line: shows what torch's optimiser costs,
    about 50 microseconds a step.
    """
    parameters = list(rbm.parameters())

    @torch.no_grad()
    def step(batch: Tensor) -> list[Parameter]:
        contrastive_gradient(rbm, batch)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=RATE)
        return parameters

    return step


def textbook(visible: int, hidden: int) -> Step:
    """CD-1 as books have it, without a tape: a positive phase, a negative phase, a
    product of each, the difference.
    """
    weight, vbias, hbias = _start(visible, hidden)

    def step(batch: Tensor) -> list[Tensor]:
        positive = torch.sigmoid(batch @ weight + hbias)
        particles = torch.bernoulli(torch.sigmoid(torch.bernoulli(positive) @ weight.T + vbias))
        negative = torch.sigmoid(particles @ weight + hbias)
        rate = RATE / len(batch)
        weight.add_(batch.T @ positive - particles.T @ negative, alpha=rate)
        vbias.add_((batch - particles).sum(0), alpha=rate)
        hbias.add_((positive - negative).sum(0), alpha=rate)
        return [weight, vbias, hbias]

    return step


def autograd(visible: int, hidden: int, chains: Tensor | None = None) -> Step:
    """What torch peers write: ``bernoulli(sigmoid(.))``, then the difference of free
    energies by autograd and SGD.

    Args:
        visible: number of visible units.
        hidden: number of hidden units.
        chains: where the persistent chains of PCD-1 start; None for CD-1, from
            the batch.

    Returns:
        The update.
    """
    weight, vbias, hbias = (parameter.requires_grad_() for parameter in _start(visible, hidden))
    optimizer = torch.optim.SGD([weight, vbias, hbias], lr=RATE)
    persistent = chains is not None

    def free_energy(v: Tensor) -> Tensor:
        return -v @ vbias - softplus(v @ weight + hbias).sum(-1)

    def step(batch: Tensor) -> list[Tensor]:
        nonlocal chains
        start = chains if persistent and chains is not None else batch
        with torch.no_grad():
            h = torch.bernoulli(torch.sigmoid(start @ weight + hbias))
            chains = torch.bernoulli(torch.sigmoid(h @ weight.T + vbias))
        optimizer.zero_grad()
        (free_energy(batch).mean() - free_energy(chains).mean()).backward()
        optimizer.step()
        return [weight, vbias, hbias]

    return step


def _start(visible: int, hidden: int) -> tuple[Tensor, Tensor, Tensor]:
    return 0.01 * torch.randn(visible, hidden), torch.zeros(visible), torch.zeros(hidden)
