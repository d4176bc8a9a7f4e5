"""Location and scale of real features, in units of which networks see rows and give parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_gen._module import Module
from pyro_gen.distributions.autoregressive.conditionals import RealConditional

EVERY = slice(None)
LITTLE = 0.001
"""Share of its random weights with which a readout of real features starts.

The density is within about 1e-3 nats a feature of the marginal distributions,
and no gradient is zero but for rounding, which Adam would make a whole step.
"""


class Frame(NamedTuple):
    """Location and scale of features in some order, and what they make of parameters.

    For one pass of a network.

    ``loc`` and ``scale`` are (features,), ``shift`` and ``factor`` (features,
    parameters); before the features there may be rows, each with an order of
    its own.
    """

    loc: Tensor
    scale: Tensor
    shift: Tensor
    factor: Tensor

    def seen(self, value: Tensor) -> Tensor:
        """Values in units of location and scale, for a network to see."""
        return (value.to(self.loc.dtype) - self.loc) / self.scale

    def raw(self, parameters: Tensor) -> Tensor:
        """Parameters of the distributions of values from those of standardised values."""
        return torch.addcmul(self.shift, parameters, self.factor)

    def at(self, place: int | slice) -> Frame:
        """Frame of one feature, or some, by their places in the order."""
        if self.loc.dim() == 1:
            return Frame(*(x[place] for x in self))
        return Frame(*(x[:, place] for x in self))


class Standardisation(Module):
    r"""Location m and scale s of each feature.

    A network sees (x - m) / s and gives the parameters of that number.

    .. math:: p(x) = \frac{1}{s}\, p_\theta\Big(\frac{x - m}{s}\Big)

    The parameters are turned into those of x itself, so that densities do not
    depend on it. Buffers ``loc`` and ``scale`` are 0 and 1 until
    :meth:`start_at` has seen data, and are part of the state dict.

    Args:
        conditional: the family of the single features' distributions.
        features: number of features.

    Example:
        >>> from pyro_gen.distributions import GaussianConditional
        >>> standard = Standardisation(GaussianConditional(), 2)
        >>> standard.start_at(torch.tensor([[0.0, 10.0], [2.0, 30.0]]))
        tensor([[-1., -1.],
                [ 1.,  1.]])
        >>> standard().raw(torch.zeros(2, 2))  # mean and log standard deviation
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

    def forward(self, features: Tensor | slice = EVERY) -> Frame:
        """Location and scale of some features, in any order.

        Args:
            features: their numbers, (...) of int64; all of them by default.
        """
        loc = self.loc[features]
        scale = self.scale[features]
        return Frame(loc, scale, *self.conditional.affine(loc, scale))

    @torch.no_grad()
    def start_at(self, x: Tensor, event_shape: Sequence[int] = ()) -> Tensor:
        """Set location and scale to those of data.

        Args:
            x: rows of data, (n, features).
            event_shape: of the rows before they were flattened, for messages.

        Returns:
            The rows, standardised.

        Raises:
            ValueError: rows are not finite, or a feature is constant whose
                scale is to be learned.
        """
        loc, scale = self.conditional.location_scale(x, event_shape)
        if not (loc.isfinite().all() and scale.isfinite().all()):
            raise ValueError("`x` must be finite in every row, got NaN or infinite cells")
        self.loc.copy_(loc)
        self.scale.copy_(scale)
        return ((x.double() - loc) / scale).to(self.loc.dtype)

    @property
    def readout_share(self) -> Tensor:
        """Share of the random readout to start with, a scalar.

        Smaller for distributions of a known narrow width.
        """
        return LITTLE * self.conditional.width_at(self.scale).min()

    def extra_repr(self) -> str:
        """Number of features."""
        return f"features={len(self.loc)}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A state without location and scale: the network sees rows as they are."""
        state_dict.setdefault(f"{prefix}loc", torch.zeros_like(self.loc))
        state_dict.setdefault(f"{prefix}scale", torch.ones_like(self.scale))
        super()._load_from_state_dict(state_dict, prefix, *args)


def standardisation(conditional: object, features: int) -> Standardisation | None:
    """The units of features: location and scale of real ones, None for others.

    Args:
        conditional: the family of the single features' distributions.
        features: number of features.
    """
    if not isinstance(conditional, RealConditional):
        return None
    return Standardisation(conditional, features)


__all__ = ["Frame", "Standardisation", "standardisation"]
