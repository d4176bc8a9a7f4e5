"""Transforms of ``torch.func`` at work: whose tensors are theirs, and refusals by
name of what cannot run there.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def active() -> bool:
    """True if a transform is at work; what is being compiled is never asked."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def wrapped(tensors: Iterable[Tensor | None]) -> bool:
    """True if one of the tensors belongs to a transform (vmap, grad, jvp), and must
    not outlive it.

    Args:
        tensors: any, None among them too.
    """
    return active() and any(
        x is not None and torch._C._functorch.is_functorch_wrapped_tensor(x) for x in tensors
    )


def batched(tensors: Iterable[Tensor | None]) -> bool:
    """True if vmap holds one of the tensors, so that nothing can be decided by its numbers.

    Args:
        tensors: any, None among them too.
    """
    return active() and any(x is not None and _is_batched(x) for x in tensors)


def _is_batched(x: Tensor) -> bool:
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return True
        x = functorch.get_unwrapped(x)
    return False


def plain(x: Tensor) -> Tensor:
    """The tensor inside the wraps of all transforms, of which vmap's has further dimensions.

    Args:
        x: any.
    """
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


def differentiating() -> bool:
    """True if torch.func's grad or jvp (or one made of them) is at work, which
    refuse every change of a state.
    """
    if not active():
        return False
    kinds = torch._C._functorch.TransformType
    levels = torch._C._functorch.get_interpreter_stack() or ()
    return any(level.key() in (kinds.Grad, kinds.Jvp) for level in levels)


def refusal(
    name: str, reason: str, instead: str, transforms: str = "vmap, grad and the like"
) -> NotImplementedError:
    """The error for what cannot run under a transform.

    Args:
        name: what cannot.
        reason: why.
        instead: what to do.
        transforms: which transforms.
    """
    return NotImplementedError(
        f"{name} cannot run under {transforms} of torch.func, as {reason}: {instead}"
    )


__all__ = ["active", "batched", "differentiating", "plain", "refusal", "wrapped"]
