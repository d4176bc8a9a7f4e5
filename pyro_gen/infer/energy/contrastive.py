"""Contrastive gradient for a custom training step, without autograd."""

from __future__ import annotations

import math
from typing import Literal, cast, overload

import torch
from torch import Tensor

from pyro_gen._rows import as_tensor
from pyro_gen.distributions.log_z.negative_phase import (
    ContrastiveDivergence,
    NegativePhase,
    Particles,
    PersistentChains,
)
from pyro_gen.distributions.units import BernoulliUnits
from pyro_gen.kernels import contrastive, rbm_free_energy
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.nn import RBM
from pyro_gen.nn.chains import check_chains, refuse_ranks
from pyro_gen.nn.learning import Gradients, check_rows, check_states, check_support


@overload
def contrastive_gradient(
    rbm: RBM, batch: Tensor, return_contrast: Literal[False] = False
) -> None: ...


@overload
def contrastive_gradient(rbm: RBM, batch: Tensor, return_contrast: Literal[True]) -> Tensor: ...


def contrastive_gradient(rbm: RBM, batch: Tensor, return_contrast: bool = False) -> Tensor | None:
    r"""Fill ``.grad`` with the gradient of the mean contrast, and advance the negative
    phase once.

    .. math:: C = \frac1n \sum_i F(v_i) - \frac1m \sum_j F(\tilde v_j), \qquad
              \nabla_W C = -\frac1n \sum_i v_i P(h | v_i)^\top
              + \frac1m \sum_j \tilde v_j P(h | \tilde v_j)^\top

    This is the gradient that ``SVI`` computes through ``pyro.sample("v", rbm(),
    obs=batch)``, divided by the number of rows. It replaces the values of
    ``.grad``: add other terms afterwards. It reduces nothing over the ranks of
    a process group, and raises where there are several.

    Args:
        rbm: the module; its ``negative_phase`` gives the particles.
        batch: states of the visible units, shape (rows, visible).
        return_contrast: whether to compute C as well, a fifth of the time for
            small models.

    Returns:
        The mean contrast C in nats, a scalar, or None.

    Raises:
        ValueError: ``batch`` is empty, has another shape or values outside the
            support, a parameter is not finite, or the module has no negative
            phase; no chain has moved then.
        NotImplementedError: the process group has more than one rank.

    References:
        Fischer and Igel (2014), equation 28 and Algorithm 1.

    Example:
        >>> rbm = RBM(4, 3)
        >>> optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1)
        >>> contrastive_gradient(rbm, torch.ones(8, 4))
        >>> optimizer.step()
    """
    batch = as_tensor(batch, "batch")
    if not (
        isinstance(rbm.visible_units, BernoulliUnits)
        and isinstance(rbm.hidden_units, BernoulliUnits)
    ):
        return _by_autograd(rbm, batch, return_contrast)
    parameters, buffers, phase = _tables(rbm)
    weight = parameters[0]
    _check_batch(weight, batch, type(phase) in FUSED)
    with torch.no_grad():
        batch = batch.to(weight.dtype)
        value = None
        if type(phase) in FUSED:
            gradients, value = _fused(rbm, phase, buffers, batch, return_contrast)
        else:
            rbm.advance(phase)
            particles = phase.particles(rbm.state())
            uncentred = rbm.uncentred
            if return_contrast:
                value = _contrast(batch, particles, *uncentred)
            gradients = rbm.learned(_statistics(batch, particles, *uncentred))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient if parameter.requires_grad else None
    return value


def _by_autograd(rbm: RBM, batch: Tensor, return_contrast: bool) -> Tensor | None:
    """Contrastive gradient by autograd, for other units, whose own parameters learn as well."""
    check_states("batch", batch, rbm.visible_units, rbm.vbias.shape[-1])
    if not isinstance(rbm.negative_phase, NegativePhase):
        raise ValueError(
            "`rbm` must have a negative phase such as PersistentChains(...), "
            f"got {rbm.negative_phase}"
        )
    parameters = [p for p in rbm.parameters() if p.requires_grad]
    with torch.enable_grad():
        contrast = -rbm.learning().log_prob(batch).mean()
    gradients = torch.autograd.grad(contrast, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    if return_contrast:
        return contrast.detach()
    return None


FUSED = (PersistentChains, ContrastiveDivergence)
"""Phases whose whole update is one call of a kernel."""


def _fused(
    rbm: RBM, phase: NegativePhase, buffers: dict[str, Tensor], batch: Tensor, contrast: bool
) -> tuple[Gradients, Tensor | None]:
    """Chains and statistics in one call."""
    chains = buffers["chains"]
    parameters = rbm.uncentred
    weight, vbias, hbias = parameters
    if not math.isfinite(torch.dot(vbias, torch.mv(weight, hbias)).item()):
        # It knows finite parameters whose a . W b overflows.
        rbm.check_finite(parameters)
    start = batch
    if phase.persistent_chains:
        start = chains
    seed = int(buffers["seed"].item())
    step = int(buffers["step"].item())
    try:
        *gradients, particles = contrastive.gradients(
            batch, start, *parameters, phase.num_steps, seed, step, 0
        )
    except ValueError:
        # The kernel does not say which states it cannot take.
        check_support("batch", batch)
        raise
    value = None
    if contrast:
        value = contrastive.contrast(batch, particles, *parameters)
    buffers["step"].add_(phase.num_steps)
    if phase.persistent_chains:
        buffers["chains"] = particles
    rbm.advanced(chains, step)
    weight, vbias, hbias = gradients
    return rbm.learned((weight, vbias, hbias)), value


def _statistics(
    batch: Tensor, particles: Particles, weight: Tensor, vbias: Tensor, hbias: Tensor
) -> Gradients:
    """Gradient of mean F over ``batch`` minus the particles' mean."""
    states, weights = particles
    if weights is None:
        return contrastive.statistics(batch, states, weight, vbias, hbias)
    parameters = RBMParameters(weight, vbias, hbias)
    return contrastive.reference.statistics(batch, states, parameters, weights)


def _contrast(
    batch: Tensor, particles: Particles, weight: Tensor, vbias: Tensor, hbias: Tensor
) -> Tensor:
    """Mean F over ``batch`` minus the particles' mean, in nats."""
    states, weights = particles
    if weights is None:
        return contrastive.contrast(batch, states, weight, vbias, hbias)
    data = rbm_free_energy(batch, weight, vbias, hbias)
    model = rbm_free_energy(states, weight, vbias, hbias)
    return data.mean() - weights @ model


def _tables(rbm: RBM) -> tuple[Gradients, dict[str, Tensor], NegativePhase]:
    """Parameters and buffers from nn.Module's tables: its look-ups cost a tenth of a step."""
    phase = rbm.negative_phase
    if not isinstance(phase, NegativePhase):
        raise ValueError(
            f"`rbm` must have a negative phase such as PersistentChains(...), got {phase}"
        )
    parameters = cast(dict[str, Tensor], rbm._parameters)
    buffers = cast(dict[str, Tensor], rbm._buffers)
    if len(parameters) != 3:
        raise ValueError(
            "`rbm` must hold its weights as parameters to be given gradients, got sampled ones"
        )
    refuse_ranks("`contrastive_gradient`")
    check_chains(phase, buffers["chains"])
    tensors = parameters["weight"], parameters["vbias"], parameters["hbias"]
    return tensors, buffers, phase


def _check_batch(weight: Tensor, batch: Tensor, fused: bool) -> None:
    if batch.device != weight.device:
        raise ValueError(f"`batch` must be on {weight.device} like `rbm`, got {batch.device}")
    check_rows("batch", batch, weight.shape[0])
    if not (fused and contrastive.checks_states(batch, weight)):
        check_support("batch", batch)


__all__ = ["contrastive_gradient"]
