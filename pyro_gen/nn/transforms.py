"""Negative phases under the transforms of ``torch.func``, which are refused by name."""

from __future__ import annotations

from torch import nn

from pyro_gen._transforms import differentiating, refusal, wrapped


def refuse_transforms(module: nn.Module) -> None:
    """Raise where a call would advance a module's chains inside a transform.

    The weights are those that a transform of ``torch.func`` holds.

    Args:
        module: in training mode, with a negative phase.

    Raises:
        NotImplementedError: weights or chains are batched by vmap, or grad or
            jvp is at work.
    """
    if differentiating() or wrapped([*module.parameters(), *module.buffers()]):
        raise refusal(
            f"{type(module).__name__} in training mode",
            "a call advances one set of chains in place",
            "put it in eval(), where log Z is that of `evaluation`, or call one module "
            "after the other; gradients of "
            "the negative phase are those of backward()",
        )


__all__ = ["refuse_transforms"]
