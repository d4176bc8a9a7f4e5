"""The contrastive gradient on a CPU in torch: the Gibbs path's fused half steps,
five products for CD, not six.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen.kernels.contrastive.reference import products, stacked
from pyro_gen.kernels.gibbs.cpu import mean_field, rbm_gibbs
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import HIDDEN, VISIBLE, Uniforms


def rbm_contrast(
    batch: Tensor,
    start: Tensor,
    parameters: RBMParameters,
    num_steps: int,
    uniforms: Uniforms,
    step: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`pyro_gen.kernels.rbm_contrast`.

    Chains that start from the data share its hidden probabilities.
    """
    if (
        batch.data_ptr() != start.data_ptr()
        or batch.shape != start.shape
        or batch.stride() != start.stride()
    ):
        particles, _ = rbm_gibbs(start, parameters, num_steps, None, uniforms, step)
        return *statistics(batch, particles, parameters), particles
    weight, vbias, hbias = parameters
    positive = mean_field(batch, weight, hbias)
    hidden = uniforms(step, HIDDEN, hbias.shape[0]).lt_(positive)
    particles = uniforms(step, VISIBLE, vbias.shape[0]).lt_(mean_field(hidden, weight.mT, vbias))
    particles, _ = rbm_gibbs(particles, parameters, num_steps - 1, None, uniforms, step + 1)
    states, share = stacked(batch, particles)
    probs = torch.cat((positive, mean_field(particles, weight, hbias)))
    return *products(states, probs, share), particles


def statistics(
    batch: Tensor, particles: Tensor, parameters: RBMParameters
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients alone, for given particles."""
    states, share = stacked(batch, particles)
    return products(states, mean_field(states, parameters.weight, parameters.hbias), share)
