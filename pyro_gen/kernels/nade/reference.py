"""The fields of NADE in plain torch, feature after feature: the specification of
every faster path.
"""

from __future__ import annotations

import torch
from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of x, weight, start and output."""


def nade_fields(x: Tensor, weight: Tensor, start: Tensor, output: Tensor) -> Tensor:
    """Fields (n, features, parameters); see :func:`pyro_gen.kernels.nade_fields`."""
    a = start
    fields = []
    for k in range(len(weight)):
        fields.append(a.sigmoid() @ output[k].mT)
        a = a + x[:, k] @ weight[k]
    return torch.stack(fields, 1)


def nade_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, start: Tensor, output: Tensor
) -> Gradients:
    """Gradients of the four arguments.

    The activations are computed once more, from the last to the first.

    Args:
        gradient: of the fields, (n, features, parameters).
        x: (n, features, width).
        weight: (features, width, hidden).
        start: (n, hidden).
        output: (features, parameters, hidden).

    Returns:
        Gradients in the shapes of the arguments; those of the last feature and
        of its weights are zero.
    """
    dx = torch.zeros_like(x)
    dweight = torch.zeros_like(weight)
    doutput = torch.zeros_like(output)
    a = start + x[:, :-1].flatten(1) @ weight[:-1].flatten(0, 1)
    da = torch.zeros_like(a)
    for k in reversed(range(len(weight))):
        h = a.sigmoid()
        doutput[k] = gradient[:, k].mT @ h
        da = da + (gradient[:, k] @ output[k]) * h * (1 - h)
        if k:
            dweight[k - 1] = x[:, k - 1].mT @ da
            dx[:, k - 1] = da @ weight[k - 1].mT
            a = a - x[:, k - 1] @ weight[k - 1]
    return dx, dweight, da, doutput


def nade_sample(
    uniforms: Tensor, weight: Tensor, start: Tensor, output: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Binary rows and their fields, both (n, features).

    See :func:`pyro_gen.kernels.nade_sample`.
    """
    a = start
    states = []
    fields = []
    for k in range(len(weight)):
        fields.append(a.sigmoid() @ output[k, 0] + bias[:, k])
        states.append((uniforms[k] < fields[-1].sigmoid()).to(uniforms.dtype))
        a = torch.addmm(a, states[-1].unsqueeze(-1), weight[k])
    return torch.stack(states, 1), torch.stack(fields, 1)
