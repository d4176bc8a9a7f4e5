"""The whole contrastive gradient of an RBM in one call: chains, and statistics with probabilities."""

from __future__ import annotations

from torch import Tensor

from pyro_gen.kernels import backend, native
from pyro_gen.kernels.contrastive import reference
from pyro_gen.kernels.contrastive.reference import Contrast

__all__ = ["Contrast", "rbm_contrast"]

_PATHS = (
    backend.Path("native", native.impossible, native.slower),
    backend.Path("cpu", backend.anywhere),  # the reference, whose chains are the CPU's
)


def rbm_contrast(
    batch: Tensor,
    start: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    num_steps: int,
    seed: int,
    step: int,
    value: bool = False,
) -> Contrast:
    r"""Gradient of mean F over ``batch`` minus mean F over particles, ``num_steps`` sweeps after ``start``.

    .. math:: \nabla_W = \sum_r s_r\, x_r\, \sigma(b + x_r W)^\top, \quad
              s = (-1/n, \dots, -1/n, 1/m, \dots, 1/m), \quad x = (\text{batch}, \text{particles})

    To be called under ``no_grad``, on parameters without batch dimensions.

    Args:
        batch: rows of data in {0, 1}, (n, visible).
        start: where the particles start, (m, visible).
        weight: (visible, hidden).
        vbias: (visible,).
        hbias: (hidden,).
        num_steps: sweeps.
        seed: 64-bit key.
        step: index of the first sweep.
        value: whether to compute the mean contrast too.

    Returns:
        Gradients of the three parameters, the particles, the mean contrast in nats or None.
    """
    if backend.choose("rbm_contrast", _PATHS, start, weight) != "native":
        return reference.rbm_contrast(batch, start, weight, vbias, hbias, num_steps, seed, step, value)
    particles, _ = native.rbm_gibbs(start, weight, vbias, hbias, num_steps, None, seed, step, 0)
    gradients = native.rbm_statistics(batch, particles, weight, vbias, hbias)
    contrast = reference.contrast(batch, particles, weight, vbias, hbias) if value else None
    return Contrast(*gradients, particles, contrast)
