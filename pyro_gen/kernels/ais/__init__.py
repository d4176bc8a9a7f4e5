"""The op ``rbm_ais``: annealed importance sampling along inverse temperatures, forwards or backwards."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen.kernels import backend, native
from pyro_gen.kernels.ais import reference
from pyro_gen.kernels.random import source

__all__ = ["rbm_ais"]

_PATHS = (
    backend.Path("native", native.impossible, native.slower),
    backend.Path("cpu", backend.anywhere),  # the reference, with the CPU's stream of uniforms
)
_NO_PATHS = tuple(backend.Path(path.name, backend.batched) for path in _PATHS)


@torch.no_grad()
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
    r"""Anneal chains of a Bernoulli RBM along ``betas`` and accumulate their importance weights in float64.

    .. math:: f_\beta(v) = e^{\,v \cdot ((1-\beta) c + \beta a)} \prod_j \bigl(1 + e^{\beta (b_j + (vW)_j)}\bigr),
              \qquad \log w = \sum_t \log f_{\beta_{t+1}}(v_t) - \log f_{\beta_t}(v_t),

    with :math:`v_{t+1}` a Gibbs sweep at :math:`\beta_{t+1}` from :math:`v_t`. Ascending ``betas`` from states of the
    base (logits c) are annealed importance sampling; descending ones from states of the model are its reverse.

    Args:
        v: starting states in {0, 1}, shape (..., visible).
        weight: (visible, hidden), or with batch dimensions that broadcast against those of ``v``.
        vbias: (..., visible).
        hbias: (..., hidden).
        base: logits of the independent base distribution, (..., visible).
        betas: inverse temperatures, one dimension.
        seed: 64-bit key.
        chain_offset: global index of the first chain.

    Returns:
        Log weights in float64, one a chain, and the last states.

    References:
        Salakhutdinov and Murray (2008), On the quantitative analysis of deep belief networks, Section 3.

    Example:
        >>> zero = torch.zeros(4, 3), torch.zeros(4), torch.zeros(3), torch.zeros(4)
        >>> log_weight, v = rbm_ais(torch.ones(2, 4), *zero, torch.linspace(0, 1, 5), seed=0)
        >>> log_weight
        tensor([0., 0.], dtype=torch.float64)
    """
    batched = weight.dim() > 2 or vbias.dim() > 1 or hbias.dim() > 1 or base.dim() > 1
    chosen = backend.choose("rbm_ais", _NO_PATHS if batched else _PATHS, v, weight)
    chains = v.shape[:-1]
    if chosen == "native":
        flat = v.reshape(chains.numel(), v.shape[-1])
        log_weight, flat = native.rbm_ais(flat, weight, vbias, hbias, base, betas.tolist(), seed, chain_offset)
        return log_weight.view(chains), flat.view(v.shape)
    uniforms = source(seed, chains.numel(), chain_offset, v, fast=chosen == "cpu")
    return reference.rbm_ais(v, weight, vbias, hbias, base, betas.tolist(), uniforms)
