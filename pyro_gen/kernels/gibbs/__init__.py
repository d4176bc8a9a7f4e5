"""The op ``pyro_gen::rbm_gibbs``: k sweeps of block Gibbs sampling of a Bernoulli
RBM in one call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_gen.kernels import backend
from pyro_gen.kernels.checks import check_chains
from pyro_gen.kernels.gibbs import cpu, native, reference
from pyro_gen.kernels.native import impossible, slower
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import Key, source
from pyro_gen.kernels.registry import folded, folded_parameter, register, without_autocast
from pyro_gen.kernels.triton import refusal as refused_by_triton

__all__ = ["rbm_gibbs", "sweep"]

PATHS = (
    backend.Path("native", impossible, slower),
    backend.Path("triton", refused_by_triton),
    backend.Path("cpu", cpu.impossible),
)


def rbm_gibbs(
    v: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    num_steps: int,
    beta: Tensor | None = None,
    *,
    seed: int,
    step: int = 0,
    chain_offset: int = 0,
) -> tuple[Tensor, Tensor]:
    r"""Run block Gibbs sweeps from given visible states.

    .. math:: h_j \sim \sigma\bigl(\beta (b_j + \sum_i v_i w_{ij})\bigr), \quad
              v_i \sim \sigma\bigl(\beta (a_i + \sum_j w_{ij} h_j)\bigr)

    Chains are all but the last dimension of ``v``, numbered in row-major order
    from ``chain_offset``. The randomness of sweep t is keyed by (seed, step +
    t), so k sweeps in one call equal k calls of one sweep with ``step``
    advanced. Under ``torch.vmap`` the slices are further chains.

    Args:
        v: visible states in {0, 1}, shape (..., visible).
        weight: (visible, hidden), or with batch dimensions that broadcast
            against those of ``v``.
        vbias: (..., visible).
        hbias: (..., hidden).
        num_steps: number of sweeps, at least 1.
        beta: inverse temperature of each chain, broadcastable to the chains;
            None for 1.
        seed: 64-bit key.
        step: index of the first sweep.
        chain_offset: global index of the first chain.

    Returns:
        The last visible states and the hidden states they were drawn from, both
        without gradient.

    Raises:
        ValueError: ``num_steps`` is below 1, a size, dtype or device does not
            fit, chain numbers exceed 32 bits, a fast path finds other states
            than 0 and 1, or ``PYRO_GEN_BACKEND`` cannot be obeyed.

    References:
        ``docs/kernels.md`` for the paths: the compiled kernels (Philox), torch
        (SFC64, or Philox by ``PYRO_GEN_RNG=philox``) and the reference (Philox)
        draw from one distribution, each path the same states for one key.

    Example:
        >>> v = torch.zeros(5, 3)
        >>> v, h = rbm_gibbs(v, torch.zeros(3, 2), torch.full((3,), 50.0), torch.zeros(2),
        ...     1, seed=0)
        >>> v.sum().item(), tuple(h.shape)
        (15.0, (5, 2))
    """
    if torch.is_grad_enabled():
        v, weight, vbias, hbias = (x.detach() for x in (v, weight, vbias, hbias))
        beta = None if beta is None else beta.detach()
    states: tuple[Tensor, Tensor] = _op(
        v, weight, vbias, hbias, num_steps, beta, seed, step, chain_offset
    )
    return states


@without_autocast
def sweep(
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
    """:func:`rbm_gibbs` without the dispatcher, for eager callers under ``no_grad``
    that count microseconds.
    """
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {num_steps}")
    parameters = RBMParameters(weight, vbias, hbias)
    key = Key(seed, step, chain_offset)
    check_chains(v, parameters, chain_offset)
    path = backend.choose("rbm_gibbs", PATHS, v, weight, parameters.batched)
    chains = v.shape[:-1]
    beta = None if beta is None else beta.to(v).expand(chains)
    if path == "reference":
        uniforms = source(seed, chains.numel(), chain_offset, v, fast=False)
        v, h = reference.rbm_gibbs(v, parameters, num_steps, beta, uniforms, step)
        return v.contiguous(), h.contiguous()
    flat = v if v.dim() == 2 else v.reshape(chains.numel(), v.shape[-1])
    beta = None if beta is None else beta.reshape(-1)
    if path == "native":
        v, h = native.rbm_gibbs(flat, parameters, num_steps, beta, key)
    elif path == "triton":
        from pyro_gen.kernels.gibbs import triton as cuda

        v, h = cuda.rbm_gibbs(flat, parameters, num_steps, beta, key)
    else:
        uniforms = source(seed, len(flat), chain_offset, v, fast=True)
        v, h = cpu.rbm_gibbs(flat, parameters, num_steps, beta, uniforms, step)
    if len(chains) == 1:
        return (v, h)
    return (v.view(*chains, v.shape[-1]), h.view(*chains, h.shape[-1]))


def _fake_gibbs(
    v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, *_: object
) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape), v.new_empty((*v.shape[:-1], hbias.shape[-1]))


def _vmap_gibbs(
    info: Any,
    in_dims: tuple[int | None, ...],
    v: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    num_steps: int,
    beta: Tensor | None,
    *key: int,
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """Slices are further chains."""
    tensors = folded(info, in_dims[:4], v, weight, vbias, hbias)
    if beta is not None:
        beta = folded_parameter(beta, in_dims[5], 0, tensors[0].dim() - 2)
    return _op(*tensors, num_steps, beta, *key), (0, 0)


_op = register(
    "rbm_gibbs(Tensor v, Tensor weight, Tensor vbias, Tensor hbias, int num_steps, Tensor? beta, "
    "SymInt seed, SymInt step, SymInt chain_offset) -> (Tensor, Tensor)",
    sweep,
    _fake_gibbs,
    _vmap_gibbs,
)
