"""Gaussian nodes, linear in their real parents.

They have other coefficients for every state of their discrete ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_gen.nn.cpds.base import CPD


class ConditionalGaussianCPD(CPD):
    r"""A real node that is linear in its real parents z.

    It has coefficients for each configuration u of the others.

    .. math:: p(x | u, z) = \mathrm{N}\bigl(x;\ b_u + w_u \cdot z,\ s_u^2\bigr)

    Args:
        parent_states: number of states of each parent in order, None for a real
            one.
        bias: b, (states of each discrete parent).
        weight: w, (states of each discrete parent, real parents); None for
            zeros.
        scale: s, of the shape of ``bias``; None for ones. The parameter is its
            logarithm.

    Raises:
        ValueError: shapes do not fit the parents, or a scale is not positive.

    References:
        Lauritzen and Wermuth (1989), Graphical models for associations between
        variables, some of which are qualitative and some quantitative.

    Example:
        >>> bias, weight = torch.tensor([0.0, 5.0]), torch.tensor([[1.0], [2.0]])
        >>> cpd = ConditionalGaussianCPD([2, None], bias, weight)
        >>> cpd(torch.tensor(1), torch.tensor(10.0)).mean
        tensor(25., grad_fn=<AddBackward0>)
    """

    def __init__(
        self,
        parent_states: Sequence[int | None],
        bias: Tensor,
        weight: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> None:
        super().__init__(parent_states, None)
        shape = tuple(k for k in self.parent_states if k is not None)
        width = len(self.parent_states) - len(shape)
        if weight is None:
            weight = bias.new_zeros(*shape, width)
        if scale is None:
            scale = torch.ones_like(bias)
        for name, x, expected in (
            ("bias", bias, shape),
            ("weight", weight, (*shape, width)),
            ("scale", scale, shape),
        ):
            if tuple(x.shape) != expected or x.dtype not in (torch.float32, torch.float64):
                raise ValueError(
                    f"`{name}` must be of float32 or float64 and shape {expected}, got "
                    f"{tuple(x.shape)}"
                )
        if not (scale > 0).all() or not all(x.isfinite().all() for x in (bias, weight, scale)):
            raise ValueError("`bias`, `weight` and `scale` must be finite, and `scale` positive")
        self.bias = nn.Parameter(bias.detach().clone())
        self.weight = nn.Parameter(weight.detach().clone())
        self.log_scale = nn.Parameter(scale.detach().log())

    def forward(self, *parents: Tensor) -> dist.Normal:
        """The distribution of the node given its parents."""
        parents = self.checked(parents)
        bias, weight, log_scale = self.coefficients(
            *(x for x, k in zip(parents, self.parent_states, strict=True) if k)
        )
        mean = bias.clone()  # a copy, as the scale is
        pairs = zip(parents, self.parent_states, strict=True)
        for i, x in enumerate(value for value, states in pairs if states is None):
            mean = mean + weight[..., i] * x
        return dist.Normal(mean, log_scale.exp().expand(mean.shape))

    def coefficients(self, *states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bias, weight and log scale at states of the discrete parents.

        Args:
            *states: state numbers; they broadcast.
        """
        if not states:
            return self.bias, self.weight, self.log_scale
        return self.bias[states], self.weight[states], self.log_scale[states]


class LinearGaussianCPD(ConditionalGaussianCPD):
    r"""A real node that is linear in its parents, all of them real.

    .. math:: p(x | z) = \mathrm{N}(x;\ b + w \cdot z,\ s^2)

    Args:
        weight: w, one for each parent, in order.
        bias: b.
        scale: s, positive.
        dtype: of the parameters.

    Example:
        >>> LinearGaussianCPD([2.0], bias=1.0, scale=0.5)(torch.tensor(3.0)).mean.item()
        7.0
    """

    def __init__(
        self,
        weight: Sequence[float] | Tensor = (),
        bias: float | Tensor = 0.0,
        scale: float | Tensor = 1.0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        weight, bias, scale = (torch.as_tensor(x, dtype=dtype) for x in (weight, bias, scale))
        super().__init__([None] * len(weight), bias, weight, scale)


__all__ = ["ConditionalGaussianCPD", "LinearGaussianCPD"]
