"""Log-sums over many states, in blocks of bounded memory.

Their value, their gradient, and draws from their terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Size, Tensor

BLOCK_BYTES = 2**22
"""Memory of one block's largest array; a few of them live at a time."""

LogTerms = Callable[..., Tensor]
"""``terms(start, stop, *parameters)`` gives log weights of the states numbered so.

They are (..., stop - start), for each row.
"""

Blocks = list[tuple[int, int]]

Value = Callable[..., Tensor | None]
"""``value(*parameters)``: the log-sum by a faster way, or None."""


def blocks(num_states: int, bytes_per_state: int) -> Blocks:
    """Ranges of states whose arrays fit into :data:`BLOCK_BYTES`.

    Args:
        num_states: how many states there are.
        bytes_per_state: memory that one state takes in the largest array.

    Returns:
        Pairs (start, stop) that cover all states.
    """
    return blocks_of(num_states, BLOCK_BYTES // max(1, bytes_per_state))


def blocks_of(num_states: int, size: int) -> Blocks:
    """First and last (exclusive) of blocks of at most ``size`` that cover all states."""
    size = max(1, size)
    return [(start, min(start + size, num_states)) for start in range(0, num_states, size)]


class _Streamed(torch.autograd.Function):
    """Log-sum over all blocks; the backward pass recomputes one block after the other."""

    @staticmethod
    def forward(
        ctx: Any,
        terms: LogTerms,
        ranges: Blocks,
        value: Value | None,
        *parameters: Tensor,
    ) -> Tensor:
        total = value(*parameters) if value else None
        if total is None:
            total = terms(*ranges[0], *parameters).logsumexp(-1)
            # In place: a small survivor of each block would fragment the heap to gigabytes.
            for block in ranges[1:]:
                torch.logaddexp(total, terms(*block, *parameters).logsumexp(-1), out=total)
        ctx.terms = terms
        ctx.ranges = ranges
        ctx.save_for_backward(total, *parameters)
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                f"log Z over {ctx.ranges[-1][1]} states is streamed and can be "
                "differentiated once only (no "
                "`create_graph=True`, no Hessian)"
            )
        total, *parameters = ctx.saved_tensors
        leaves = [p.detach().requires_grad_(p.is_floating_point()) for p in parameters]
        differentiable = [i for i, p in enumerate(leaves) if p.requires_grad]
        gradients = [torch.zeros_like(p) for p in leaves]
        for block in ctx.ranges:
            with torch.enable_grad():
                terms = ctx.terms(*block, *leaves)
            share = grad_output.unsqueeze(-1) * (terms.detach() - total.unsqueeze(-1)).exp()
            leaf_gradients = torch.autograd.grad(
                terms, [leaves[i] for i in differentiable], share, materialize_grads=True
            )
            for i, part in zip(differentiable, leaf_gradients, strict=True):
                gradients[i].add_(part)
        return (
            None,
            None,
            None,
            *(g if p.requires_grad else None for g, p in zip(gradients, leaves, strict=True)),
        )


def streamed_log_sum(
    terms: LogTerms,
    ranges: Blocks,
    *parameters: Tensor,
    value: Value | None = None,
) -> Tensor:
    """Log of the sum of all terms of each row.

    One block is left to autograd (so that it can be differentiated twice); more
    have their own backward pass.

    Args:
        terms: log weights of a range of states.
        ranges: the blocks.
        *parameters: what the terms depend on and the gradient is asked for.
        value: a faster way to the value alone, for more than one block, or None
            where it cannot serve.

    Returns:
        Tensor with the batch shape of the terms.
    """
    if len(ranges) == 1:
        return terms(*ranges[0], *parameters).logsumexp(-1)
    total: Tensor = _Streamed.apply(terms, ranges, value, *parameters)
    return total


@torch.no_grad()
def streamed_draw(terms: LogTerms, ranges: Blocks, shape: Size, *parameters: Tensor) -> Tensor:
    """Numbers of states drawn in one pass.

    Probabilities are proportional to the terms' exponentials.

    A block's candidate replaces the one kept so far with the block's share of
    the total up to it: in the end each state is kept with its own share.

    Args:
        terms: log weights of a range of states.
        ranges: the blocks.
        shape: sample shape and batch shape of the draws.
        *parameters: what the terms depend on.

    Returns:
        Integers of the given shape.
    """
    index = torch.zeros(shape, dtype=torch.long, device=parameters[0].device)
    total = None
    for start, stop in ranges:
        logs = terms(start, stop, *parameters).double()
        here = logs.logsumexp(-1)
        inside = draw_index(logs, shape) + start
        total = here if total is None else torch.logaddexp(total, here)
        uniform = torch.rand(shape, dtype=torch.float64, device=index.device)
        index = torch.where(uniform < (here - total).exp(), inside, index)
    return index


def draw_index(logs: Tensor, shape: Size) -> Tensor:
    """Indices of shape ``shape`` with probabilities softmax(logs).

    By inversion in float64; ``logs`` are (..., states).
    """
    cumulative = logs.double().softmax(-1).cumsum(-1)
    batch = Size(shape[len(shape) - cumulative.dim() + 1 :])
    cumulative = cumulative.expand(*batch, -1).contiguous()
    uniform = torch.rand(shape, dtype=torch.float64, device=logs.device) * cumulative[..., -1]
    draws = math.prod(shape[: len(shape) - len(batch)])
    rows = uniform.reshape(draws, *batch).movedim(0, -1).contiguous()
    index = torch.searchsorted(cumulative, rows, right=True).clamp(max=logs.shape[-1] - 1)
    return index.movedim(-1, 0).reshape(shape)


@torch.no_grad()
def streamed_weights(
    terms: LogTerms,
    ranges: Blocks,
    *parameters: Tensor,
) -> Iterator[tuple[int, int, Tensor]]:
    """The normalised weights of all states, block by block.

    Args:
        terms: log weights of a range of states.
        ranges: the blocks.
        *parameters: what the terms depend on.

    Yields:
        The block's range and its weights (..., stop - start); over all blocks
        they sum to one.
    """
    total = streamed_log_sum(terms, ranges, *parameters).unsqueeze(-1)
    for start, stop in ranges:
        yield start, stop, (terms(start, stop, *parameters) - total).exp()


__all__ = [
    "Blocks",
    "LogTerms",
    "blocks",
    "blocks_of",
    "draw_index",
    "streamed_draw",
    "streamed_log_sum",
    "streamed_weights",
]
