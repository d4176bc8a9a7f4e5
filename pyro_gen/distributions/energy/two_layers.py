"""Sampling and annealing of two layers of any unit types, in plain torch: float64
draws from counter-based uniforms.

The fused kernels support Bernoulli units (and spins, by an affine change of
parameters); this is the path for other units.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyro_gen.distributions.units import Units
from pyro_gen.kernels.gibbs.reference import field
from pyro_gen.kernels.random import HIDDEN, INITIAL, VISIBLE, Uniforms, source

Parameters = tuple[Tensor, Tensor, Tensor]


def fine_uniforms(seed: int, chains: int, chain_offset: int, like: Tensor) -> Uniforms:
    """Float64 uniforms inside (0, 1) of 49 bits, each made of two draws: Gaussian
    tails reach 8 standard deviations.

    Args:
        seed: 64-bit key.
        chains: rows of every tensor.
        chain_offset: global index of the first row.
        like: gives the device.

    Returns:
        The source of uniforms, the same for either dtype.
    """
    coarse = source(seed, chains, chain_offset, torch.empty(0, device=like.device), fast=True)

    def uniforms(step: int, stream: int, units: int) -> Tensor:
        pairs = coarse(step, stream, 2 * units).double()
        return pairs[:, :units] + pairs[:, units:] * 2.0**-24 + 2.0**-49

    return uniforms


def _drawn(units: Units, fields: Tensor, uniforms: Uniforms, step: int, stream: int) -> Tensor:
    """States of a layer with these fields, in their dtype."""
    number = units.num_uniforms(fields.shape[-1])
    uniform = uniforms(step, stream, number).view(*fields.shape[:-1], number)
    return units.draw(fields.double(), uniform).to(fields.dtype)


def initial(units: Units, fields: Tensor, seed: int) -> Tensor:
    """States of a layer with these fields, a chain each, keyed by ``seed``."""
    uniforms = fine_uniforms(seed, fields.shape[:-1].numel(), 0, fields)
    return _drawn(units, fields, uniforms, 0, INITIAL)


@torch.no_grad()
def sweep(
    v: Tensor,
    parameters: Parameters,
    visible: Units,
    hidden: Units,
    num_steps: int,
    seed: int,
    step: int,
    chain_offset: int = 0,
) -> Tensor:
    """Block Gibbs sweeps h ~ p(h | v), v ~ p(v | h) with the randomness of sweep t
    keyed by (seed, step + t).

    Args:
        v: visible states (..., visible), chains numbered in row-major order.
        parameters: weight, visible bias and hidden bias, which broadcast
            against the chains.
        visible: unit type of the visible side.
        hidden: unit type of the hidden side.
        num_steps: sweeps.
        seed: 64-bit key.
        step: index of the first sweep.
        chain_offset: global index of the first chain.

    Returns:
        The last visible states.
    """
    weight, vbias, hbias = parameters
    uniforms = fine_uniforms(seed, v.shape[:-1].numel(), chain_offset, v)
    for t in range(step, step + num_steps):
        h = _drawn(hidden, field(v, weight, hbias), uniforms, t, HIDDEN)
        v = _drawn(visible, field(h, weight.mT, vbias), uniforms, t, VISIBLE)
    return v


@torch.no_grad()
def anneal(
    v: Tensor,
    parameters: Parameters,
    visible: Units,
    hidden: Units,
    base: Tensor,
    base_units: Units,
    betas: list[float],
    seed: int,
) -> tuple[Tensor, Tensor]:
    r"""Log weights and last states of chains annealed along ``betas``, in float64 throughout.

    .. math:: \log f_\beta(v) = v \cdot ((1 - \beta) c + \beta a) - (1 - \beta) U_0(v) - \beta U(v)
              + A_h(\beta (b + v W))

    with c and :math:`U_0` the field and the unit energy of the base, and
    :math:`A_h` the cumulant of the hidden units. The path ends at the model, on
    its space of states, for all types of units. It stays normalisable:
    curvatures are interpolated, couplings shrink.

    Args:
        v: starting states (..., visible).
        parameters: weight, visible bias and hidden bias.
        visible: unit type of the visible side.
        hidden: unit type of the hidden side.
        base: field of the independent visible units at beta 0.
        base_units: their unit type, the same but for its parameters.
        betas: inverse temperatures.
        seed: 64-bit key.

    Returns:
        Log weights in float64, and states in the dtype of ``v``.
    """
    weight, vbias, hbias = (x.double() for x in parameters)
    base = base.double()
    x = v.double()
    uniforms = fine_uniforms(seed, v.shape[:-1].numel(), 0, v)
    log_weight = torch.zeros(v.shape[:-1], dtype=torch.float64, device=v.device)
    for t, (beta, following) in enumerate(pairwise(betas)):
        up = field(x, weight, hbias)
        log_weight = log_weight + (following - beta) * (
            base_units.energy(x, base) - visible.energy(x, vbias)
        )
        log_weight = log_weight + hidden.cumulant(following * up) - hidden.cumulant(beta * up)
        h = _drawn(hidden, following * up, uniforms, t, HIDDEN)
        down = torch.lerp(base, field(h, weight.mT, vbias), following)
        x = _drawn(base_units.between(visible, following), down, uniforms, t, VISIBLE)
    return log_weight, x.to(v.dtype)


def pseudo_log_likelihood(
    value: Tensor, parameters: Parameters, visible: Units, hidden: Units
) -> Tensor:
    """Sum over the sites of log p(site | all other sites), with gradient; see the RBM's method."""
    width, num_states = visible.alternatives
    weight, vbias, hbias = parameters
    hidden_field = field(value, weight, hbias)
    cumulant = hidden.cumulant(hidden_field)
    terms = []
    for i in range(0, vbias.shape[-1], width):
        unit = slice(i, i + width)
        gains = []
        for shift in range(1, num_states):
            change = visible.roll(value[..., unit], shift) - value[..., unit]
            changed = hidden.cumulant(field(change, weight[..., unit, :], hidden_field))
            gains.append((change * vbias[..., unit]).sum(-1) + changed - cumulant)
        terms.append(
            -softplus(torch.stack(gains, -1).logsumexp(-1) if len(gains) > 1 else gains[0])
        )
    return torch.stack(terms, -1).sum(-1)


__all__ = ["anneal", "fine_uniforms", "initial", "pseudo_log_likelihood", "sweep"]
