"""The op ``pyro_gen::rbm_ais``: annealed importance sampling along inverse
temperatures, forwards or backwards.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_gen.kernels import backend
from pyro_gen.kernels.ais import native, reference
from pyro_gen.kernels.checks import check_chains, check_units
from pyro_gen.kernels.native import impossible, slower
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import Key, source
from pyro_gen.kernels.registry import folded, register, without_autocast
from pyro_gen.kernels.triton import refusal as refused_by_triton

__all__ = ["rbm_ais"]

PATHS = (
    backend.Path("native", impossible, slower),
    backend.Path("triton", refused_by_triton),
    backend.Path("cpu", backend.anywhere),  # the reference, with the CPU's stream of uniforms
)


def rbm_ais(
    v: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    base: Tensor,
    betas: Tensor,
    *,
    seed: int,
    chain_offset: int = 0,
) -> tuple[Tensor, Tensor]:
    r"""Anneal chains of a Bernoulli RBM along ``betas`` and accumulate their importance
    weights in float64.

    .. math:: f_\beta(v) = e^{\,v \cdot ((1-\beta) c + \beta a)} \prod_j \bigl(1 + e^{\beta
        (b_j + (vW)_j)}\bigr),
              \qquad \log w = \sum_t \log f_{\beta_{t+1}}(v_t) - \log f_{\beta_t}(v_t),

    with :math:`v_{t+1}` a Gibbs sweep at :math:`\beta_{t+1}` from :math:`v_t`.
    Ascending ``betas`` from states of the base (logits c) are annealed
    importance sampling; descending ones from states of the model are its
    reverse.

    Args:
        v: starting states in {0, 1}, shape (..., visible).
        weight: (visible, hidden), or with batch dimensions that broadcast
            against those of ``v``.
        vbias: (..., visible).
        hbias: (..., hidden).
        base: logits of the independent base distribution, (..., visible).
        betas: inverse temperatures, one dimension.
        seed: 64-bit key.
        chain_offset: global index of the first chain.

    Returns:
        Log weights in float64, one a chain, and the last states.

    Raises:
        ValueError: a size, dtype or device does not fit, chain numbers exceed
            32 bits, a fast path finds other states than 0 and 1, or
            ``PYRO_GEN_BACKEND`` cannot be obeyed.

    References:
        Salakhutdinov and Murray (2008), On the quantitative analysis of deep
        belief networks, Section 3.

    Example:
        >>> zero = torch.zeros(4, 3), torch.zeros(4), torch.zeros(3), torch.zeros(4)
        >>> log_weight, v = rbm_ais(torch.ones(2, 4), *zero, torch.linspace(0, 1, 5), seed=0)
        >>> log_weight
        tensor([0., 0.], dtype=torch.float64)
    """
    if torch.is_grad_enabled():
        v, weight, vbias, hbias, base = (x.detach() for x in (v, weight, vbias, hbias, base))
    weights: tuple[Tensor, Tensor] = _op(
        v, weight, vbias, hbias, base, betas.detach(), seed, chain_offset
    )
    return weights


@without_autocast
def _anneal(
    v: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    base: Tensor,
    betas: Tensor,
    seed: int,
    chain_offset: int,
) -> tuple[Tensor, Tensor]:
    parameters = RBMParameters(weight, vbias, hbias)
    key = Key(seed, 0, chain_offset)
    check_chains(v, parameters, chain_offset)
    check_units("base", base, weight, weight.shape[-2])
    path = backend.choose("rbm_ais", PATHS, v, weight, parameters.batched or base.dim() > 1)
    chains = v.shape[:-1]
    flat = v.reshape(chains.numel(), v.shape[-1])
    if path == "native":
        log_weight, flat = native.rbm_ais(flat, parameters, base, betas.tolist(), key)
        return log_weight.view(chains), flat.view(v.shape)
    if path == "triton":
        from pyro_gen.kernels.ais import triton as cuda

        log_weight, flat = cuda.rbm_ais(flat, parameters, base, betas, key)
        return log_weight.view(chains), flat.view(v.shape)
    uniforms = source(seed, chains.numel(), chain_offset, v, fast=path != "reference")
    log_weight, last = reference.rbm_ais(v, parameters, base, betas.tolist(), uniforms)
    return log_weight, last.clone() if last is v else last.contiguous()


def _fake_ais(v: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape[:-1], dtype=torch.float64), v.new_empty(v.shape)


def _vmap_ais(
    info: Any,
    in_dims: tuple[int | None, ...],
    *arguments: Any,
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """Slices are further chains; all anneal along the same temperatures."""
    if in_dims[5] is not None:
        raise NotImplementedError(
            "rbm_ais anneals along one schedule: vmap over `betas` is not supported"
        )
    return _op(*folded(info, in_dims[:5], *arguments[:5]), *arguments[5:]), (0, 0)


_op = register(
    "rbm_ais(Tensor v, Tensor weight, Tensor vbias, Tensor hbias, Tensor base, Tensor betas, "
    "SymInt seed, SymInt chain_offset) -> (Tensor, Tensor)",
    _anneal,
    _fake_ais,
    _vmap_ais,
)
