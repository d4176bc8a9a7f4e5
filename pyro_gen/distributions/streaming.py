"""Log-sums over more terms than fit into memory, streamed in blocks, with their gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Terms = Callable[..., Tensor]
"""``terms(start, stop, *parameters)`` gives the log terms ``start`` to ``stop - 1``, shape (..., stop - start)."""


class _Streamed(torch.autograd.Function):
    """Log-sum over all blocks; the backward pass recomputes one block after the other."""

    @staticmethod
    def forward(ctx: Any, terms: Terms, blocks: list[tuple[int, int]], *parameters: Tensor) -> Tensor:
        total = terms(*blocks[0], *parameters).logsumexp(-1)
        for block in blocks[1:]:  # in place: a small survivor of each block would fragment the heap to gigabytes
            torch.logaddexp(total, terms(*block, *parameters).logsumexp(-1), out=total)
        ctx.terms, ctx.blocks = terms, blocks
        ctx.save_for_backward(total, *parameters)
        return total

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                f"log Z over {ctx.blocks[-1][-1]} states is streamed and can be differentiated once only (no "
                "`create_graph=True`, no Hessian)"
            )
        total, *parameters = ctx.saved_tensors
        leaves = [p.detach().requires_grad_() for p in parameters]
        gradients = [torch.zeros_like(p) for p in leaves]
        for block in ctx.blocks:
            with torch.enable_grad():
                terms = ctx.terms(*block, *leaves)
            share = grad_output.unsqueeze(-1) * (terms.detach() - total.unsqueeze(-1)).exp()
            for gradient, part in zip(gradients, torch.autograd.grad(terms, leaves, share), strict=True):
                gradient.add_(part)
        return None, None, *gradients


def blocks_of(count: int, size: int) -> list[tuple[int, int]]:
    """First and last (exclusive) of blocks of at most ``size`` that cover ``count`` terms."""
    return [(start, min(start + size, count)) for start in range(0, count, max(1, size))]


def streamed_log_sum(terms: Terms, blocks: list[tuple[int, int]], *parameters: Tensor) -> Tensor:
    """Log of the sum of exp(terms) over all blocks.

    One block is left to autograd (so that it can be differentiated twice); more have their own backward pass.

    Args:
        terms: gives the log terms of a block.
        blocks: first and last (exclusive) term of every block.
        *parameters: what the terms depend on.

    Returns:
        The log-sum, with the batch shape of the terms.
    """
    if len(blocks) == 1:
        return terms(*blocks[0], *parameters).logsumexp(-1)
    result: Tensor = _Streamed.apply(terms, blocks, *parameters)
    return result


__all__ = ["blocks_of", "streamed_log_sum"]
