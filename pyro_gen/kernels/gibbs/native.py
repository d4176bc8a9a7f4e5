"""Block Gibbs sweeps by the compiled kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen.kernels.native import in_parts, loaded, parameters_of
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import Key


def rbm_gibbs(
    v: Tensor,
    parameters: RBMParameters,
    num_steps: int,
    beta: Tensor | None,
    key: Key,
) -> tuple[Tensor, Tensor]:
    """Sweeps of block Gibbs sampling; see :func:`pyro_gen.kernels.rbm_gibbs`.

    Args:
        v: states (chains, visible).
        parameters: with any strides.
        num_steps: sweeps.
        beta: inverse temperature of each chain (chains,), or None for 1.
        key: of the random numbers.

    Returns:
        The last visible states and the hidden states they were drawn from.
    """
    lib = loaded()
    operands, arguments = parameters_of(parameters)
    start = v.contiguous()
    chains, visible = start.shape
    hidden = arguments[-1]
    v = torch.empty_like(start)
    h = start.new_empty(chains, hidden)
    beta = None if beta is None else beta.contiguous()
    seed, step, chain_offset = key
    v0, v1, h1 = start.data_ptr(), v.data_ptr(), h.data_ptr()
    temper = None if beta is None else beta.data_ptr()

    def part(first: int, end: int, alive: object = (start, v, h, operands, beta)) -> int:
        rows = 4 * first * visible
        status = lib.pyro_gen_rbm_gibbs(
            *arguments,
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

    in_parts(part, chains, 64, num_steps * chains * visible * hidden)
    return v, h


__all__ = ["rbm_gibbs"]
