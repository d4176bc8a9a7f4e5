"""Block Gibbs sweeps by the compiled kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen.kernels.native import contiguous, in_parts, loaded, parameters_of


def rbm_gibbs(
    v: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    num_steps: int,
    beta: Tensor | None,
    seed: int,
    step: int,
    chain_offset: int,
) -> tuple[Tensor, Tensor]:
    """Sweeps of block Gibbs sampling; see :func:`pyro_gen.kernels.rbm_gibbs`.

    Args:
        v: states (chains, visible).
        weight: (visible, hidden), any strides.
        vbias: (visible,).
        hbias: (hidden,).
        num_steps: sweeps.
        beta: inverse temperature of each chain (chains,), or None for 1.
        seed: 64-bit key.
        step: index of the first sweep.
        chain_offset: global index of the first chain.

    Returns:
        The last visible states and the hidden states they were drawn from.
    """
    lib = loaded()
    weight, vbias, hbias = contiguous(weight, vbias, hbias)
    start = v.contiguous()
    chains, visible = start.shape
    hidden = hbias.shape[0]
    v = torch.empty_like(start)
    h = start.new_empty(chains, hidden)
    parameters = parameters_of(weight, vbias, hbias)
    beta = None if beta is None else beta.contiguous()
    alive = start, v, h, weight, vbias, hbias, beta
    addresses = (
        start.data_ptr(),
        v.data_ptr(),
        h.data_ptr(),
        None if beta is None else beta.data_ptr(),
    )

    def part(first: int, end: int, alive: object = alive) -> int:
        v0, v1, h1, temper = addresses
        rows = 4 * first * visible
        status = lib.pyro_gen_rbm_gibbs(
            *parameters,
            v0 + rows,
            v1 + rows,
            h1 + 4 * first * hidden,
            end - first,
            temper and temper + 4 * first,
            num_steps,
            seed,
            step,
            chain_offset + first,
        )
        return int(status)

    in_parts(part, chains, 64, num_steps * chains * weight.numel())
    return v, h


__all__ = ["rbm_gibbs"]
