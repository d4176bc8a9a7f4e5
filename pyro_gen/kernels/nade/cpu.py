"""The fields of NADE in torch, some features at a time: few large operations, and
no memory but for those features.

Within a chunk of features the activations are one product with a masked copy of
x, as in a masked network; from chunk to chunk they are handed on. A chunk has
as many features as have room for their hidden layers in a cache, at least one:
then the mask is empty, and each step is a rank-one update, a sigmoid and a
product.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pyro_gen.kernels.nade.reference import Gradients

CHUNK = 2**16
"""Sigmoids that are worked on together."""

LARGEST = 16
"""Features of a chunk: the work of the masked product grows with them, that of all
else does not.
"""


def nade_fields(x: Tensor, weight: Tensor, start: Tensor, output: Tensor) -> Tensor:
    """Fields (n, features, parameters); see :func:`pyro_gen.kernels.nade_fields`."""
    fields = x.new_empty(len(x), len(weight), output.shape[1])
    a = start.clone()
    for chunk in _chunks(x, start):
        h = _activations(a, x[:, chunk], weight[chunk]).sigmoid_()
        fields[:, chunk] = torch.matmul(h, output[chunk].mT).transpose(0, 1)
        a.addmm_(x[:, chunk].flatten(1), weight[chunk].flatten(0, 1))
    return fields


def nade_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, start: Tensor, output: Tensor, need_x: bool = True
) -> Gradients:
    """Gradients of the four arguments; see
    :func:`pyro_gen.kernels.nade.reference.nade_backward`.

    Args:
        gradient: of the fields, (n, features, parameters).
        x: (n, features, width).
        weight: (features, width, hidden).
        start: (n, hidden).
        output: (features, parameters, hidden).
        need_x: whether the gradient of ``x`` is wanted.

    Returns:
        Gradients in the shapes of the arguments; an empty one of ``x`` where it
        is not wanted.
    """
    dx = torch.zeros_like(x) if need_x else x.new_empty(0)
    dweight = torch.empty_like(weight)
    doutput = torch.empty_like(output)
    a = torch.addmm(start, x.flatten(1), weight.flatten(0, 1))
    da = torch.zeros_like(a)
    for chunk in reversed(list(_chunks(x, start))):
        features = x[:, chunk]
        rows = gradient[:, chunk].transpose(0, 1)
        a.addmm_(features.flatten(1), weight[chunk].flatten(0, 1), alpha=-1)
        h = _activations(a, features, weight[chunk]).sigmoid_()
        doutput[chunk] = torch.matmul(rows.mT, h)
        # gradients of the activations
        fields = torch.matmul(rows, output[chunk]).mul_(h).mul_(h.neg_().add_(1))
        if len(fields) == 1:
            later = da.expand(len(fields), -1, -1)
        else:
            later = _later(da, fields)
        dweight[chunk] = torch.matmul(features.permute(1, 2, 0), later)
        if need_x:
            dx[:, chunk] = torch.matmul(later, weight[chunk].mT).transpose(0, 1)
        da += fields.sum(0)
    return dx, dweight, da, doutput


def _chunks(x: Tensor, start: Tensor) -> Iterator[slice]:
    features = x.shape[1]
    size = min(max(CHUNK // max(start.numel(), 1), 1), LARGEST)
    return (slice(first, min(first + size, features)) for first in range(0, features, size))


def _activations(a: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Fresh activations before each feature of a chunk, (chunk, n, hidden), from
    those before the first.
    """
    size = x.shape[1]
    (rows, hidden) = a.shape
    if size == 1:
        return a.clone().unsqueeze(0)
    # (feature, row, feature before it, width)
    earlier = x.new_ones(size, size).tril_(-1)[:, None, :, None] * x
    product = earlier.view(size * rows, -1) @ weight.flatten(0, 1)
    return product.view(size, rows, hidden).add_(a)


def _later(da: Tensor, fields: Tensor) -> Tensor:
    """Gradients of the activations after each feature of a chunk: what later
    features ask, in it and behind it.
    """
    sums = fields.flip(0).cumsum(0).flip(0).add_(da)
    return torch.cat([sums[1:], da.unsqueeze(0)])


__all__ = ["nade_backward", "nade_fields"]
