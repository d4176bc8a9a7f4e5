"""Location and scale of real features, in units of which networks see rows and give parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyro_gen.distributions.conditionals import RealConditional

EVERY = slice(None)


class Standardisation(nn.Module):
    r"""Location m and scale s of each feature: a network sees (x - m) / s and gives the parameters of that number.

    .. math:: p(x) = \frac{1}{s}\, p_\theta\Big(\frac{x - m}{s}\Big)

    The parameters are turned into those of x itself, so that densities know nothing of it. Buffers ``loc`` and
    ``scale`` are 0 and 1 until :meth:`start_at` has seen data, and are part of the state dict.

    Args:
        conditional: the family of the single features' distributions.
        features: number of features.

    Example:
        >>> from pyro_gen.distributions import GaussianConditional
        >>> units = Standardisation(GaussianConditional(), 2)
        >>> units.start_at(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
        tensor([[-1., -1.],
                [ 1.,  1.]])
        >>> units.parameters_of_raw(torch.zeros(2, 2))  # mean and log standard deviation
        tensor([[ 1.0000,  0.0000],
                [20.0000,  2.3026]])
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, conditional: RealConditional, features: int) -> None:
        super().__init__()
        self.conditional = conditional
        self.register_buffer("loc", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))

    def forward(self, value: Tensor, features: Tensor | slice = EVERY) -> Tensor:
        """Values in units of location and scale.

        Args:
            value: (..., features).
            features: which of them these are; indices broadcast with the values.
        """
        return (value.to(self.loc.dtype) - self.loc[features]) / self.scale[features]

    def parameters_of_raw(self, parameters: Tensor, features: Tensor | slice = EVERY) -> Tensor:
        """Parameters of the distributions of values from those of standardised values.

        Args:
            parameters: (..., features, parameters).
            features: which of them these are.
        """
        return self.conditional.rescaled(parameters, self.loc[features], self.scale[features])

    @torch.no_grad()
    def start_at(self, x: Tensor, event_shape: Sequence[int] = ()) -> Tensor:
        """Set location and scale to those of data.

        Args:
            x: rows of data, (n, features).
            event_shape: of the rows before they were flattened, for messages.

        Returns:
            The rows, standardised.

        Raises:
            ValueError: rows are not finite, or a feature is constant whose scale is to be learned.
        """
        loc, scale = self.conditional.location_scale(x, event_shape)
        if not (loc.isfinite().all() and scale.isfinite().all()):
            raise ValueError("`x` must be finite in every row, got NaN or infinite cells")
        self.loc.copy_(loc)
        self.scale.copy_(scale)
        return ((x.double() - loc) / scale).to(self.loc.dtype)

    def extra_repr(self) -> str:
        """Number of features."""
        return f"features={len(self.loc)}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A state that holds neither location nor scale is of a network that sees rows as they are."""
        state_dict.setdefault(f"{prefix}loc", torch.zeros_like(self.loc))
        state_dict.setdefault(f"{prefix}scale", torch.ones_like(self.scale))
        super()._load_from_state_dict(state_dict, prefix, *args)


__all__ = ["Standardisation"]
