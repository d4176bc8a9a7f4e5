"""Expansion of distributions to a larger batch shape, and enumerated supports.

Expanded distributions have the same tensors.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor

from pyro_gen.distributions.arguments import Shape


class Expandable(TorchDistribution):
    """Distribution whose expansions share its parameters and cached values."""

    def expand(self, batch_shape: Shape, _instance: Any = None) -> Self:
        """Expand the distribution to a larger batch shape; its tensors are shared, not copied.

        Args:
            batch_shape: shape to which the present batch shape broadcasts.
            _instance: new instance provided by a subclass that overrides
                ``expand``; its attributes are kept.

        Returns:
            A distribution that shares parameters and cached values, such as an
            estimate of log Z.

        Raises:
            ValueError: the present batch shape does not broadcast to
                ``batch_shape``.
        """
        shape = Size(batch_shape)
        if self.batch_shape and torch.broadcast_shapes(self.batch_shape, shape) != shape:
            raise ValueError(
                f"`batch_shape` must extend {tuple(self.batch_shape)}, got {tuple(shape)}"
            )
        new: Self = self._get_checked_instance(type(self), _instance)
        new.__dict__.update(self.__dict__ | new.__dict__)
        TorchDistribution.__init__(new, shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _listed(self, values: Tensor, expand: bool) -> Tensor:
        """A list of events (n, ...) as ``enumerate_support`` gives it.

        Over the batch, or with ones in its place.
        """
        values = values.view(-1, *(1,) * len(self.batch_shape), *self.event_shape)
        if expand:
            return values.expand(-1, *self.batch_shape, *self.event_shape)
        return values


def over_batch(result: Tensor, batch_shape: Size) -> Tensor:
    """Log probabilities over the whole batch.

    Expanded where those of the values alone have a smaller shape.

    Args:
        result: of any shape that broadcasts with the batch.
        batch_shape: of the distribution.
    """
    if result.shape[max(result.dim() - len(batch_shape), 0) :] == batch_shape:
        return result  # beforehand, as `broadcast_shapes` takes longer than some densities
    return result.expand(torch.broadcast_shapes(result.shape, batch_shape))


__all__ = ["Expandable", "over_batch"]
