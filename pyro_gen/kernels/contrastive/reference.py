"""The contrastive gradient of an RBM in plain torch: the specification of every faster path."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gen.kernels.gibbs import sweep
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import Key


def rbm_contrast(
    batch: Tensor,
    start: Tensor,
    parameters: RBMParameters,
    num_steps: int,
    key: Key,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`pyro_gen.kernels.rbm_contrast`.

    One product of K = n + m rows serves both phases.
    """
    particles, _ = sweep(start, *parameters, num_steps, None, *key)
    return *statistics(batch, particles, parameters), particles


def statistics(
    batch: Tensor,
    particles: Tensor,
    parameters: RBMParameters,
    shares: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients alone, for given particles.

    ``shares`` (particles,) weighs them where they are not alike.
    """
    states, share = stacked(batch, particles)
    if shares is not None:
        share = torch.cat((share[: len(batch)], shares.unsqueeze(-1)))
    weight, _, hbias = parameters
    return products(states, torch.addmm(hbias, states, weight).sigmoid_(), share)


def stacked(batch: Tensor, particles: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of both, and of each its share of the contrast with the sign of -F, (rows, 1)."""
    return torch.cat((batch, particles)), _shares(
        len(batch), len(particles), batch.dtype, batch.device
    )


def products(states: Tensor, hidden: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of weight and biases from the rows, their hidden probabilities
    (overwritten) and their shares.
    """
    hidden.mul_(share)
    return torch.mm(states.mT, hidden), torch.mm(share.mT, states).squeeze(0), hidden.sum(0)


def contrast(
    batch: Tensor, particles: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor
) -> Tensor:
    """Mean F over ``batch`` minus mean F over ``particles``, a scalar in nats."""
    states, share = stacked(batch, particles)
    free = states @ vbias + softplus(torch.addmm(hbias, states, weight)).sum(-1)
    return torch.dot(share.squeeze(-1), free)


_kept_shares: dict[tuple[int, int, torch.dtype, torch.device], Tensor] = {}


def _shares(rows: int, particles: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A column of -1/n for the rows of the data and 1/m for the particles: the
    signs and weights of -F.
    """
    key = rows, particles, dtype, device
    shares = _kept_shares.get(key)
    if shares is None:
        with torch.inference_mode(False):
            negative = torch.full((rows, 1), -1 / rows, dtype=dtype, device=device)
            shares = torch.cat(
                (negative, torch.full((particles, 1), 1 / particles, dtype=dtype, device=device))
            )
        if type(shares) is Tensor:  # a tracer's tensor must not outlive its trace
            if len(_kept_shares) == 16:
                _kept_shares.clear()
            _kept_shares[key] = shares
    return shares
