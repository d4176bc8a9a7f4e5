"""Maximum likelihood of Gaussian nodes: a least-squares regression for each
configuration of the discrete parents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_gen.nn import ConditionalGaussianCPD

ROUNDING = 1e-20
"""Share of the mean square below which a residual variance is attributed to rounding."""


class Regression(NamedTuple):
    """Coefficients for each configuration, as a ``ConditionalGaussianCPD`` holds them."""

    bias: Tensor
    weight: Tensor
    log_scale: Tensor


@torch.no_grad()
def regression(
    cpd: ConditionalGaussianCPD,
    parents: Sequence[Tensor],
    value: Tensor,
    weights: Tensor,
    node: str,
) -> Regression:
    r"""The coefficients of the highest likelihood of complete rows.

    .. math:: (w_u, b_u) = \arg\min \sum_{r:\, u_r = u} g_r (x_r - b_u - w_u \cdot z_r)^2, \qquad
              s_u^2 = \frac{\sum_r g_r (x_r - b_u - w_u \cdot z_r)^2}{\sum_r g_r}

    with weights g of the rows, float64. Of several solutions, where parents are
    linearly dependent, it is the one of the smallest :math:`|w_u|`. A
    configuration without rows keeps its coefficients.

    Raises:
        ValueError: the rows of a configuration lie on a plane, so that the
            likelihood has no maximum; it names the node.
    """
    kinds = list(zip(parents, cpd.parent_states, strict=True))
    states = [x for x, k in kinds if k is not None]
    sizes = [k for _, k in kinds if k is not None]
    code = torch.zeros(len(value), dtype=torch.int64, device=value.device)
    for x, size in zip(states, sizes, strict=True):
        code = code * size + x
    real = [x.double() for x, k in kinds if k is None]
    if real:
        design = torch.stack(real, 1)
    else:
        design = torch.zeros(len(value), 0, dtype=torch.float64, device=value.device)
    result = Regression(
        *(x.detach().double().clone() for x in (cpd.bias, cpd.weight, cpd.log_scale))
    )
    for u in code[weights > 0].unique().tolist():
        at = tuple(int(i) for i in np.unravel_index(u, sizes)) if sizes else ()
        rows = (code == u) & (weights > 0)
        slope, intercept, variance = _fitted(design[rows], value[rows], weights[rows])
        if variance is None:
            raise ValueError(
                f"the likelihood of node {node!r} has no maximum where its discrete parents have "
                f"states {at}: the {int(rows.sum())} rows of `data` there leave no residual; give "
                "more rows, or hold its CPD fixed by requires_grad_(False)"
            )
        result.bias[at] = intercept
        result.weight[at] = slope
        result.log_scale[at] = math.log(variance) / 2
    return result


def _fitted(z: Tensor, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, float | None]:
    """Slope, intercept and residual variance, None if it is only rounding in ``x``'s dtype."""
    if x.is_floating_point():
        rounding = max(ROUNDING, (4 * torch.finfo(x.dtype).eps) ** 2)
    else:
        rounding = ROUNDING
    x = x.double()
    share = weights / weights.sum()
    centre = share @ z
    mean = share @ x
    root = share.sqrt()
    slope = torch.linalg.pinv((z - centre) * root.unsqueeze(1)) @ ((x - mean) * root)
    variance = float(share @ (x - mean - (z - centre) @ slope).square())
    enough = variance > rounding * float(share @ x.square())
    return slope, mean - centre @ slope, variance if enough else None


__all__ = ["Regression", "regression"]
