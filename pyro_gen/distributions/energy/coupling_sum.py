"""Exact sums over the states of a Boltzmann machine: some units enumerated, the
others summed in closed form.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen.distributions.streaming import BLOCK_BYTES, blocks_of, streamed_log_sum
from pyro_gen.distributions.units.binary import BinaryUnits


class ExactSum(NamedTuple):
    r"""Sum over enumerated units (``rest``) with the others independent given them (``free``).

    .. math:: \sum_x e^{-E(x)} = \sum_{x_R} e^{x_R J_{RR} x_R / 2 + b_R x_R} \prod_{i \in F}
              \sum_{x_i} e^{x_i (b_i + (x_R J)_i)}
    """

    units: BinaryUnits
    rest: Tensor
    free: Tensor

    def block_terms(self, start: int, stop: int, matrix: Tensor, bias: Tensor) -> Tensor:
        """Log weights of the states ``start`` to ``stop - 1`` of ``rest``, summed
        over ``free``, (..., states).
        """
        states = self.units.states(
            torch.arange(start, stop, device=bias.device), len(self.rest), bias
        )
        from_rest = matrix[..., self.rest, :]
        received = states @ from_rest[..., self.rest]
        enumerated_terms = (states * (received / 2 + bias[..., None, self.rest])).sum(-1)
        return enumerated_terms + self.units.cumulant(
            states @ from_rest[..., self.free] + bias[..., None, self.free]
        )

    def blocks(self, matrix: Tensor, bias: Tensor) -> list[tuple[int, int]]:
        """States that are summed together, in blocks of bounded memory."""
        batch = torch.broadcast_shapes(matrix.shape[:-2], bias.shape[:-1])
        row = bias.element_size() * bias.shape[-1] * max(1, torch.Size(batch).numel())
        return blocks_of(2 ** len(self.rest), BLOCK_BYTES // row)

    def log_sum(self, matrix: Tensor, bias: Tensor) -> Tensor:
        """Log Z with its gradient."""
        return streamed_log_sum(self.block_terms, self.blocks(matrix, bias), matrix, bias)

    @torch.no_grad()
    def log_terms(self, matrix: Tensor, bias: Tensor) -> Tensor:
        """Log weights of all states of ``rest``, (..., states)."""
        return torch.cat(
            [self.block_terms(*block, matrix, bias) for block in self.blocks(matrix, bias)], -1
        )


__all__ = ["ExactSum"]
