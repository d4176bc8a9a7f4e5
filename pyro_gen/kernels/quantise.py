"""Weights in two planes of int8, the one format of every fast integer path.

A weight is about ``scale * (256 * hi + lo)``: 16 bits less a little, with one scale for the whole tensor, so that both
conditionals of an RBM are those of the same, slightly moved, weights. States in {0, 1} are exact in int8 and sums
of products are exact in int32, whatever the order they are added in.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 127 * 256 + 127
"""Largest magnitude of ``256 * hi + lo``: both planes at 127."""

MOST_TERMS = (2**31 - 1) // LARGEST
"""How many weights can be added before an int32 overflows."""

_TINY = torch.finfo(torch.float32).tiny


class SplitWeight(NamedTuple):
    """A quantised weight: ``scale * (256 * hi + lo)``.

    Args:
        hi: int8 in [-127, 127], shape of the weight, contiguous.
        lo: int8 in [-127, 127], likewise.
        scale: positive float32 of shape ().
    """

    hi: Tensor
    lo: Tensor
    scale: Tensor


def split(weight: Tensor) -> SplitWeight:
    r"""Quantise a weight to two planes of int8 with one scale.

    .. math:: s = \max|W| / 32639, \quad q = \mathrm{round}(W / s), \quad
              \mathrm{hi} = \lfloor (q + 128) / 256 \rfloor, \quad \mathrm{lo} = \max(q - 256\,\mathrm{hi}, -127)

    Division and rounding (half to even) are those of float32. A quantised weight is off by at most s/2, but by up to
    3 s/2 where ``lo`` was -128: int8 products of some processors need the symmetric range. The scale is 1 where W is
    all zero, and at least float32's least normal number: weights below 4e-34 keep fewer bits.

    Args:
        weight: finite numbers of any shape and floating dtype.

    Returns:
        The planes and the scale, without gradient.

    Raises:
        ValueError: ``weight`` is not floating, or NaN, infinite or beyond float32.

    Example:
        >>> split(torch.tensor([1.0, -1.0, 0.5, 0.0])).hi.tolist()
        [127, -127, 64, 0]
    """
    if not weight.is_floating_point():
        raise ValueError(f"`weight` must be of a floating dtype to be quantised, got {weight.dtype}")
    single = weight.detach().float()
    scale = _scale(single)
    q = (single / scale).round_().to(torch.int16).contiguous()  # 32639 + 128 is the largest int16
    lo = q.to(torch.int8).clamp_(min=-127)  # the low byte, read as a signed number, is q - 256 hi
    hi = q.add_(128).bitwise_right_shift_(8).to(torch.int8)
    return SplitWeight(hi, lo, scale)


def _scale(weight: Tensor) -> Tensor:
    if not weight.numel():
        return weight.new_ones(())
    least, most = weight.aminmax()
    largest = torch.maximum(-least, most)
    if not largest.isfinite():
        raise ValueError(f"`weight` must be finite in float32 to be quantised, got an entry of magnitude {largest}")
    return largest.div_(LARGEST).clamp_(min=_TINY) if largest else torch.ones_like(largest)


def merge(planes: SplitWeight, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight that the planes stand for, ``scale * (256 * hi + lo)``.

    Args:
        planes: a quantised weight.
        dtype: of the result. float64 holds it exactly; float32 rounds the product with the scale once.

    Returns:
        Tensor of the planes' shape.

    Example:
        >>> merge(split(torch.tensor([2.0, -1.0]))).tolist()[0]
        2.0
    """
    return planes.hi.to(dtype).mul_(256).add_(planes.lo).mul_(planes.scale.to(dtype))
