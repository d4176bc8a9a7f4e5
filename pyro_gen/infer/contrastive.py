"""The contrastive gradient as a step of one's own, without a tape."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gen.distributions.partition import NegativePhase
from pyro_gen.nn import RBM
from pyro_gen.nn.rbm import check_states


@torch.no_grad()
def contrastive_gradient(rbm: RBM, batch: Tensor) -> Tensor:
    r"""Fill ``.grad`` with the gradient of the mean contrast, and advance the negative phase once.

    .. math:: C = \frac1n \sum_i F(v_i) - \frac1m \sum_j F(\tilde v_j), \qquad
              \nabla_W C = -\frac1n \sum_i v_i P(h | v_i)^\top + \frac1m \sum_j \tilde v_j P(h | \tilde v_j)^\top

    This is the gradient that ``SVI`` computes through ``pyro.sample("v", rbm(), obs=batch)``, divided by the number of
    rows. It replaces what ``.grad`` held: add terms of your own afterwards.

    Args:
        rbm: the module; its ``negative_phase`` gives the particles.
        batch: states in {0, 1}, shape (rows, visible).

    Returns:
        The mean contrast C in nats, a scalar.

    Raises:
        ValueError: ``batch`` is empty, has another shape or values outside {0, 1}, or the module has no negative phase.

    References:
        Fischer and Igel (2014), equation 28 and Algorithm 1.

    Example:
        >>> rbm = RBM(4, 3)
        >>> optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1)
        >>> contrast = contrastive_gradient(rbm, torch.ones(8, 4))
        >>> optimizer.step()
    """
    _check_batch(rbm, batch)
    phase = _phase(rbm)
    batch = batch.to(rbm.weight.dtype)
    particles = rbm.advance(phase, rbm.chains if phase.persistent_chains else batch)
    states = torch.cat((batch, particles))
    share = _shares(batch, particles)
    field = torch.addmm(rbm.hbias, states, rbm.weight)
    energy_term = share @ states
    contrast = energy_term @ rbm.vbias + share @ softplus(field).sum(-1)
    hidden = field.sigmoid_().mul_(share.unsqueeze(-1))
    rbm.weight.grad, rbm.vbias.grad, rbm.hbias.grad = states.mT @ hidden, energy_term, hidden.sum(0)
    return contrast


def _shares(batch: Tensor, particles: Tensor) -> Tensor:
    """-1/n for the rows of the data and 1/m for the particles: the signs and weights of -F."""
    negative, positive = (
        batch.new_full((len(batch),), -1 / len(batch)),
        batch.new_full((len(particles),), 1 / len(particles)),
    )
    return torch.cat((negative, positive))


def _phase(rbm: RBM) -> NegativePhase:
    if not isinstance(rbm.negative_phase, NegativePhase):
        raise ValueError(f"`rbm` must have a negative phase such as PersistentChains(...), got {rbm.negative_phase}")
    return rbm.negative_phase


def _check_batch(rbm: RBM, batch: Tensor) -> None:
    if batch.device != rbm.weight.device:
        raise ValueError(f"`batch` must be on {rbm.weight.device} like `rbm`, got {batch.device}")
    check_states("batch", batch)
    if batch.shape[-1] != rbm.vbias.shape[-1]:
        raise ValueError(f"`batch` must have {rbm.vbias.shape[-1]} columns to match `rbm`, got {batch.shape[-1]}")
