"""Sums over all states of the smaller side of a two-layer energy model, streamed in blocks of bounded memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_gen.distributions.products import fits, log_sum_by_products
from pyro_gen.distributions.units import BernoulliUnits, Units

BLOCK_BYTES = 2**22
"""Memory of one (states, larger side) array; about four of them live at a time."""


class Side(NamedTuple):
    """The unit types of the enumerated (smaller) side and of the other, and how many units the first has."""

    small: Units
    large: Units
    num_units: int

    @property
    def num_states(self) -> int:
        """States of the smaller side."""
        return 2**self.num_units


def _block_log_terms(side: Side, start: int, stop: int, weight: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Log of the joint summed over the larger side, for the smaller side's states ``start`` to ``stop - 1``."""
    states = side.small.states(torch.arange(start, stop, device=weight.device), side.num_units, weight)
    terms = side.large.cumulant(states @ weight + large.unsqueeze(-2))
    return terms - side.small.energy(states, small.unsqueeze(-2))


def _blocks(side: Side, weight: Tensor, small: Tensor, large: Tensor) -> list[tuple[int, int]]:
    batch = torch.broadcast_shapes(weight.shape[:-2], small.shape[:-1], large.shape[:-1]).numel()
    row = max(1, weight.element_size() * max(weight.shape[-2:]) * batch)
    size = max(1, min(side.num_states, BLOCK_BYTES // row))
    return [(start, min(start + size, side.num_states)) for start in range(0, side.num_states, size)]


def _streamed_sum(side: Side, blocks: list[tuple[int, int]], parameters: tuple[Tensor, ...]) -> Tensor:
    if type(side.small) is type(side.large) is BernoulliUnits and fits(*parameters):
        return log_sum_by_products(*parameters).to(parameters[0].dtype)
    total = _block_log_terms(side, *blocks[0], *parameters).logsumexp(-1)
    for block in blocks[1:]:  # in place: a small survivor of each block would fragment the heap to gigabytes
        torch.logaddexp(total, _block_log_terms(side, *block, *parameters).logsumexp(-1), out=total)
    return total


class _Streamed(torch.autograd.Function):
    """Log-sum over all blocks; the backward pass recomputes one block after the other."""

    @staticmethod
    def forward(ctx: Any, side: Side, blocks: list[tuple[int, int]], *parameters: Tensor) -> Tensor:
        total = _streamed_sum(side, blocks, parameters)
        ctx.side, ctx.blocks = side, blocks
        ctx.save_for_backward(total, *parameters)
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                f"log Z over {ctx.side.num_states} states is streamed and can be differentiated once only (no "
                "`create_graph=True`, no Hessian)"
            )
        total, *parameters = ctx.saved_tensors
        leaves = [p.detach().requires_grad_() for p in parameters]
        gradients = [torch.zeros_like(p) for p in leaves]
        for block in ctx.blocks:
            with torch.enable_grad():
                terms = _block_log_terms(ctx.side, *block, *leaves)
            share = grad_output.unsqueeze(-1) * (terms.detach() - total.unsqueeze(-1)).exp()
            for gradient, part in zip(gradients, torch.autograd.grad(terms, leaves, share), strict=True):
                gradient.add_(part)
        return None, None, *gradients


def log_sum(side: Side, weight: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Log of the sum of exp(-energy) over all states of both sides.

    One block is left to autograd (so that it can be differentiated twice); more have their own backward pass.

    Args:
        side: the unit types and the number of enumerated units.
        weight: (..., small, large).
        small: bias of the smaller side, (..., small).
        large: bias of the larger side, (..., large).

    Returns:
        Tensor with the batch shape of the parameters.
    """
    blocks = _blocks(side, weight, small, large)
    if len(blocks) == 1:
        return _block_log_terms(side, *blocks[0], weight, small, large).logsumexp(-1)
    return _Streamed.apply(side, blocks, weight, small, large)


@torch.no_grad()
def log_terms(side: Side, weight: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Log of the unnormalised marginal of each state of the smaller side, shape (..., states); no gradient."""
    blocks = _blocks(side, weight, small, large)
    return torch.cat([_block_log_terms(side, *block, weight, small, large) for block in blocks], -1)


__all__ = ["Side", "log_sum", "log_terms"]
