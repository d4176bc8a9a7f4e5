"""Annealed importance weights by the compiled kernels."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from pyro_gen.kernels.native import contiguous, in_parts, loaded, parameters_of


def rbm_ais(
    v: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    base: Tensor,
    betas: list[float],
    seed: int,
    chain_offset: int,
) -> tuple[Tensor, Tensor]:
    """Annealed importance weights; see :func:`pyro_gen.kernels.rbm_ais`.

    Args:
        v: starting states (chains, visible).
        weight: (visible, hidden), any strides.
        vbias: (visible,).
        hbias: (hidden,).
        base: logits of the base (visible,).
        betas: inverse temperatures.
        seed: 64-bit key.
        chain_offset: global index of the first chain.

    Returns:
        Log weights in float64 (chains,), and the last states.
    """
    lib = loaded()
    weight, vbias, hbias = contiguous(weight, vbias, hbias)
    base = base.contiguous()
    start = v.contiguous()
    chains, visible = start.shape
    v = torch.empty_like(start)
    log_weight = start.new_empty(chains, dtype=torch.float64)
    schedule = (ctypes.c_double * len(betas))(*betas)
    parameters = parameters_of(weight, vbias, hbias)
    addresses = start.data_ptr(), v.data_ptr(), log_weight.data_ptr(), base.data_ptr()
    alive = start, v, log_weight, base, schedule, weight, vbias, hbias

    def part(first: int, end: int, alive: object = alive) -> int:
        v0, v1, weights, logits = addresses
        rows = 4 * first * visible
        status = lib.pyro_gen_rbm_ais(
            *parameters,
            v0 + rows,
            logits,
            ctypes.addressof(schedule),
            len(betas),
            v1 + rows,
            weights + 8 * first,
            end - first,
            seed,
            chain_offset + first,
        )
        return int(status)

    in_parts(part, chains, 64, len(betas) * chains * weight.numel())
    return log_weight, v


__all__ = ["rbm_ais"]
