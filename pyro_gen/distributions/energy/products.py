"""Log Z of two Bernoulli layers by products instead of logarithms: five times as
fast as a sum of softplus terms.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

TILE = 2**20  # factors of single units at a time, in float64
LOG_LIMIT = 600.0  # float64 holds exp(709)


def fits(weight: Tensor, small: Tensor, large: Tensor) -> bool:
    """True if products of the factors of single units stay within float64:
    unbatched, moderate fields.
    """
    if weight.dim() != 2 or small.dim() != 1 or large.dim() != 1 or not weight.isfinite().all():
        return False
    reach = weight.double().abs().sum(0) + large.double().abs()
    return bool(reach.max() < LOG_LIMIT / 2)


@torch.no_grad()
def log_sum_by_products(weight: Tensor, small: Tensor, large: Tensor) -> Tensor:
    r"""Log of the sum over both layers, in float64, for parameters that :func:`fits` accepts.

    A state s of the small layer is written as (low, high) bits, so that one
    multiplication makes each factor, and the logarithm is taken of products of
    as many factors as float64 can hold:

    .. math:: \prod_i (1 + e^{f_i(s)}), \qquad e^{f_i(s)} = e^{(s_{low} W_{low})_i} \, e^{a_i +
        (s_{high} W_{high})_i}

    Args:
        weight: (small, large).
        small: bias of the enumerated layer, (small,).
        large: bias of the other layer, (large,).

    Returns:
        A scalar in float64.
    """
    weight = weight.double()
    small = small.double()
    large = large.double()
    units = weight.shape[0]
    low_units = min(units, max(0, (TILE // weight.shape[1]).bit_length() - 1))
    low = _states(low_units, weight)
    high = _states(units - low_units, weight)
    group, rows = _groups(softplus(weight.clamp(min=0).sum(0) + large))
    fill = group * rows - weight.shape[1]
    low_factors = pad((low @ weight[:low_units]).exp(), (0, fill)).mT.contiguous()
    low_bias = low @ small[:low_units]
    high_bias = high @ small[low_units:]
    buffer = torch.empty_like(low_factors)
    total = torch.empty_like(high_bias)
    one = weight.new_ones(1, 1)
    for number, state in enumerate(high):
        factors = pad((state @ weight[low_units:] + large).exp(), (0, fill))
        torch.addcmul(one, low_factors, factors.unsqueeze(1), out=buffer)
        product = buffer
        count = group * rows
        while count > rows:
            count //= 2
            product = torch.mul(product[:count], product[count:], out=buffer[:count])
        total[number] = (product.log().sum(0) + low_bias).logsumexp(0) + high_bias[number]
    return total.logsumexp(0)


def _states(units: int, like: Tensor) -> Tensor:
    """All states of a layer, (2**units, units)."""
    numbers = torch.arange(2**units, device=like.device)
    return ((numbers.unsqueeze(-1) >> torch.arange(units, device=like.device)) & 1).to(like.dtype)


def _groups(largest: Tensor) -> tuple[int, int]:
    """Factors of a product, a power of two, and how many products: unit i of
    product r is number i * rows + r.

    ``largest`` bounds the logarithm of each unit's factor.
    """
    group = 1
    units = len(largest)
    while group < units:
        rows = -(-units // (2 * group))
        if (
            pad(largest, (0, 2 * group * rows - units)).view(2 * group, rows).sum(0).max()
            > LOG_LIMIT
        ):
            break
        group *= 2
    return group, -(-units // group)


__all__ = ["fits", "log_sum_by_products"]
