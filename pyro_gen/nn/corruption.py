"""Noise on the inputs of a network, in training mode only, as dropout is."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen._module import Module


class MaskingNoise(Module):
    """Sets cells to zero, each by itself; what is left keeps its size, unlike under dropout.

    Args:
        rate: probability that a cell is lost.

    Raises:
        ValueError: ``rate`` is no probability.

    References:
        Vincent, Larochelle, Bengio and Manzagol (2008), Extracting and
        composing robust features with denoising autoencoders, section 2.3.

    Example:
        >>> MaskingNoise(1.0)(torch.ones(3)), MaskingNoise(1.0).eval()(torch.ones(3))
        (tensor([0., 0., 0.]), tensor([1., 1., 1.]))
    """

    def __init__(self, rate: float = 0.25) -> None:
        super().__init__()
        self.rate = _probability(rate)

    def forward(self, x: Tensor) -> Tensor:
        """Corrupt rows.

        Args:
            x: rows of any shape.
        """
        if self.training:
            return torch.where(_random_cells(x, self.rate), 0, x)
        return x


class SaltAndPepperNoise(Module):
    """Sets cells to zero or one, evenly, each by itself.

    Args:
        rate: probability that a cell is overwritten.

    Raises:
        ValueError: ``rate`` is no probability.

    References:
        Vincent, Larochelle, Lajoie, Bengio and Manzagol (2010), Stacked denoising
        autoencoders, section 3.3.

    Example:
        >>> SaltAndPepperNoise(1.0)(torch.full((100,), 0.5)).unique()
        tensor([0., 1.])
    """

    def __init__(self, rate: float = 0.25) -> None:
        super().__init__()
        self.rate = _probability(rate)

    def forward(self, x: Tensor) -> Tensor:
        """Corrupt rows.

        Args:
            x: rows of any shape.
        """
        if not self.training:
            return x
        return torch.where(_random_cells(x, self.rate), _random_cells(x, 0.5).to(x.dtype), x)


class GaussianNoise(Module):
    """Adds independent normal noise.

    Args:
        scale: its standard deviation.

    Raises:
        ValueError: ``scale`` is negative.

    Example:
        >>> GaussianNoise(0.1)(torch.zeros(2, 3)).shape
        torch.Size([2, 3])
    """

    def __init__(self, scale: float = 0.1) -> None:
        super().__init__()
        if not scale >= 0:
            raise ValueError(f"`scale` must not be negative, got {scale}")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Corrupt rows.

        Args:
            x: rows of any shape.
        """
        if self.training:
            return x + self.scale * torch.randn_like(x)
        return x


def _probability(rate: float) -> float:
    if not 0 <= rate <= 1:
        raise ValueError(f"`rate` must be between 0 and 1, got {rate}")
    return rate


def _random_cells(x: Tensor, rate: float) -> Tensor:
    """True with that probability, a cell each."""
    return torch.rand(x.shape, device=x.device) < rate


__all__ = ["GaussianNoise", "MaskingNoise", "SaltAndPepperNoise"]
