"""The contrastive gradient as a step of one's own, without a tape."""

from __future__ import annotations

from typing import Literal, cast, overload

import torch
from torch import Tensor

from pyro_gen.distributions.negative_phase import NegativePhase
from pyro_gen.distributions.units import BernoulliUnits
from pyro_gen.kernels import contrastive
from pyro_gen.nn import RBM
from pyro_gen.nn.rbm import check_chains, check_states


@overload
def contrastive_gradient(rbm: RBM, batch: Tensor, return_contrast: Literal[False] = False) -> None: ...


@overload
def contrastive_gradient(rbm: RBM, batch: Tensor, return_contrast: Literal[True]) -> Tensor: ...


def contrastive_gradient(rbm: RBM, batch: Tensor, return_contrast: bool = False) -> Tensor | None:
    r"""Fill ``.grad`` with the gradient of the mean contrast, and advance the negative phase once.

    .. math:: C = \frac1n \sum_i F(v_i) - \frac1m \sum_j F(\tilde v_j), \qquad
              \nabla_W C = -\frac1n \sum_i v_i P(h | v_i)^\top + \frac1m \sum_j \tilde v_j P(h | \tilde v_j)^\top

    This is the gradient that ``SVI`` computes through ``pyro.sample("v", rbm(), obs=batch)``, divided by the number of
    rows. It replaces what ``.grad`` held: add terms of your own afterwards.

    Args:
        rbm: the module; its ``negative_phase`` gives the particles.
        batch: states in {0, 1}, shape (rows, visible).
        return_contrast: whether to compute C as well, a fifth of the time for small models.

    Returns:
        The mean contrast C in nats, a scalar, or None.

    Raises:
        ValueError: ``batch`` is empty, has another shape or values outside {0, 1}, or the module has no negative phase.

    References:
        Fischer and Igel (2014), equation 28 and Algorithm 1.

    Example:
        >>> rbm = RBM(4, 3)
        >>> optimizer = torch.optim.SGD(rbm.parameters(), lr=0.1)
        >>> contrastive_gradient(rbm, torch.ones(8, 4))
        >>> optimizer.step()
    """
    (weight, vbias, hbias), buffers, phase = _tables(rbm)
    _check_batch(weight, batch)
    with torch.no_grad():
        batch = batch if batch.dtype == weight.dtype else batch.to(weight.dtype)
        start = buffers["chains"] if phase.persistent_chains else batch
        seed, step = int(buffers["seed"].item()), int(buffers["step"].item())
        found = contrastive.gradients(batch, start, weight, vbias, hbias, phase.num_steps, seed, step, 0)
        value = contrastive.contrast(batch, found[3], weight, vbias, hbias) if return_contrast else None
        buffers["step"].add_(phase.num_steps)
    if phase.persistent_chains:
        buffers["chains"] = found[3]
    weight.grad = found[0] if weight.requires_grad else None
    vbias.grad = found[1] if vbias.requires_grad else None
    hbias.grad = found[2] if hbias.requires_grad else None
    return value


def _tables(rbm: RBM) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Tensor], NegativePhase]:
    """Parameters and buffers straight from nn.Module's tables: its attribute look-ups cost a tenth of a small step."""
    phase = rbm.negative_phase
    if not isinstance(phase, NegativePhase):
        raise ValueError(f"`rbm` must have a negative phase such as PersistentChains(...), got {phase}")
    if not (isinstance(rbm.visible_units, BernoulliUnits) and isinstance(rbm.hidden_units, BernoulliUnits)):
        raise ValueError(
            f"`rbm` must have Bernoulli units on both sides, got {type(rbm.visible_units).__name__} and "
            f"{type(rbm.hidden_units).__name__}: train it through SVI, or by the gradient of "
            "-rbm().log_prob(batch).mean()"
        )
    parameters, buffers = cast(dict[str, Tensor], rbm._parameters), cast(dict[str, Tensor], rbm._buffers)
    if len(parameters) != 3:
        raise ValueError("`rbm` must hold its weights as parameters to be given gradients, got sampled ones")
    check_chains(phase, buffers["chains"])
    return (parameters["weight"], parameters["vbias"], parameters["hbias"]), buffers, phase


def _check_batch(weight: Tensor, batch: Tensor) -> None:
    if batch.device != weight.device:
        raise ValueError(f"`batch` must be on {weight.device} like `rbm`, got {batch.device}")
    check_states("batch", batch)
    if batch.shape[-1] != weight.shape[0]:
        raise ValueError(f"`batch` must have {weight.shape[0]} columns to match `rbm`, got {batch.shape[-1]}")


__all__ = ["contrastive_gradient"]
