"""Annealed importance weights by the compiled kernels."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from pyro_gen.kernels.native import in_parts, loaded, parameters_of
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import Key


def rbm_ais(
    v: Tensor,
    parameters: RBMParameters,
    base: Tensor,
    betas: list[float],
    key: Key,
) -> tuple[Tensor, Tensor]:
    """Annealed importance weights; see :func:`pyro_gen.kernels.rbm_ais`.

    Args:
        v: starting states (chains, visible).
        parameters: with any strides.
        base: logits of the base (visible,).
        betas: inverse temperatures.
        key: of the random numbers, at step 0.

    Returns:
        Log weights in float64 (chains,), and the last states.
    """
    lib = loaded()
    operands, arguments = parameters_of(parameters)
    base = base.contiguous()
    start = v.contiguous()
    chains, visible = start.shape
    v = torch.empty_like(start)
    log_weight = start.new_empty(chains, dtype=torch.float64)
    schedule = (ctypes.c_double * len(betas))(*betas)
    v0, v1, weights = start.data_ptr(), v.data_ptr(), log_weight.data_ptr()
    logits = base.data_ptr()
    alive = start, v, log_weight, base, schedule, operands

    def part(first: int, end: int, alive: object = alive) -> int:
        rows = 4 * first * visible
        status = lib.pyro_gen_rbm_ais(
            *arguments,
            v0 + rows,
            logits,
            ctypes.addressof(schedule),
            len(betas),
            v1 + rows,
            weights + 8 * first,
            end - first,
            key.seed,
            key.chain_offset + first,
        )
        return int(status)

    in_parts(part, chains, 64, len(betas) * chains * parameters.weight.numel())
    return log_weight, v


__all__ = ["rbm_ais"]
