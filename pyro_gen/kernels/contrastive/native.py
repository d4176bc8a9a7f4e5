"""Contrastive gradients by the compiled kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_gen.kernels.native import (
    in_parts,
    loaded,
    parameters_of,
    raise_for,
    threads_for,
)
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import Key

_WHOLE, _SAMPLE, _DIFFERENTIATE = range(3)  # phases of a contrast


def rbm_contrast(
    batch: Tensor,
    start: Tensor,
    parameters: RBMParameters,
    num_steps: int,
    key: Key,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradient of the mean free energy of ``batch`` less that of particles; see
    :func:`pyro_gen.kernels.rbm_contrast`.

    Args:
        batch: rows of data in {0, 1}, (n, visible).
        start: where the particles start, (m, visible); where it is the batch
            itself, a product is saved.
        parameters: with any strides.
        num_steps: sweeps; with 0 ``start`` are the particles.
        key: of the particles' random numbers.

    Returns:
        Gradients of the three parameters, contiguous, and the particles.
    """
    lib = loaded()
    operands, described = parameters_of(parameters)
    weight, vbias, hbias = operands
    same = (
        batch.data_ptr() == start.data_ptr()
        and batch.shape == start.shape
        and batch.stride() == start.stride()
    )
    batch = batch.contiguous()
    start = batch if same else start.contiguous()
    rows = len(batch)
    chains = len(start)
    particles = torch.empty_like(start)
    weight_gradient = weight.new_empty(weight.shape)
    results = particles, weight_gradient, torch.empty_like(vbias), torch.empty_like(hbias)
    arguments = (
        *described,
        *(batch.data_ptr(), rows, start.data_ptr(), chains, num_steps, *key),
        *(result.data_ptr() for result in results),
    )
    work = (2 * num_steps * chains + 2 * (rows + chains)) * weight.numel()
    if threads_for(work) == 1:
        raise_for(lib.pyro_gen_rbm_contrast(*arguments, None, _WHOLE, 0, 0))
    else:
        # as the library sees it
        shared = batch.data_ptr() == start.data_ptr() and rows == chains and num_steps > 0
        space = batch.new_empty(
            lib.pyro_gen_rbm_contrast_space(*weight.shape, rows, chains, shared)
        )
        alive = batch, start, operands, results, space

        def part(phase: int) -> Callable[[int, int], int]:
            def call(first: int, end: int, alive: object = alive) -> int:
                return int(
                    lib.pyro_gen_rbm_contrast(*arguments, space.data_ptr(), phase, first, end)
                )

            return call

        in_parts(part(_SAMPLE), max(rows, chains), 64, work)
        in_parts(part(_DIFFERENTIATE), len(hbias), 16, work)
    return *results[1:], particles


__all__ = ["rbm_contrast"]
