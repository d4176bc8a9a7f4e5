"""Entries of ``torch.ops.pyro_gen``: how an op becomes known to torch.compile, to
fake tensors and to vmap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

_library = torch.library.Library("pyro_gen", "FRAGMENT")


def without_autocast(implementation: Callable[P, R]) -> Callable[P, R]:
    """Keep autocast out: a sampler's distribution and importance weights are those of
    the dtype that they were given.

    Args:
        implementation: takes tensors first.

    Returns:
        The same function, in whose inside autocast is off.
    """

    @wraps(implementation)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        if not (torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")):
            return implementation(*args, **kwargs)
        first = args[0]
        device = first.device.type if isinstance(first, Tensor) else "cpu"
        with torch.autocast(device, enabled=False):
            return implementation(*args, **kwargs)

    return exact


def register(
    schema: str,
    implementation: Callable[..., Any],
    fake: Callable[..., Any],
    vmap: Callable[..., tuple[Any, Any]],
) -> Callable[..., Any]:
    """Register an op without autograd.

    Args:
        schema: name, arguments and results in torch's notation.
        implementation: what runs, on every device.
        fake: the results' shapes and dtypes, without data.
        vmap: batching rule ``vmap(info, in_dims, *arguments)``.

    Returns:
        The op, looked up once: the way through ``torch.ops`` costs microseconds.
    """
    name = schema.partition("(")[0]
    _library.define(schema)
    _library.impl(name, implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"pyro_gen::{name}", fake, lib=_library)
    torch.library.register_vmap(f"pyro_gen::{name}", vmap, lib=_library)
    return _overload(name)


def register_autograd(
    name: str,
    backward: Callable[..., Any],
    setup_context: Callable[[Any, tuple[Any, ...], Any], None],
) -> None:
    """Give an op of :func:`register` its derivative.

    Args:
        name: of the op.
        backward: ``backward(ctx, *gradients)``, a gradient or None for every
            argument; where it calls registered ops that have derivatives too,
            there are second ones.
        setup_context: ``setup_context(ctx, inputs, output)`` keeps what that
            needs.
    """
    torch.library.register_autograd(
        f"pyro_gen::{name}", backward, setup_context=setup_context, lib=_library
    )


def register_formula(schema: str, implementation: Callable[..., Any]) -> Callable[..., Any]:
    """Register an op that is a formula in torch: autograd, vmap and torch.compile see
    through it.

    Args:
        schema: name, arguments and results in torch's notation.
        implementation: what runs, on every device.

    Returns:
        The op.
    """
    name = schema.partition("(")[0]
    _library.define(schema)
    _library.impl(name, implementation, "CompositeImplicitAutograd")
    return _overload(name)


def _overload(name: str) -> Callable[..., Any]:
    overload: Callable[..., Any] = getattr(torch.ops.pyro_gen, name).default
    return overload


def slices(
    info: Any, in_dims: tuple[int | None, ...], tensors: tuple[Tensor, ...]
) -> list[list[Tensor]]:
    """Arguments of every call that a vmapped one stands for."""
    return [
        [x if dim is None else x.select(dim, i) for x, dim in zip(tensors, in_dims, strict=True)]
        for i in range(info.batch_size)
    ]


def stack_slices(results: Sequence[tuple[Tensor, ...]]) -> tuple[Any, tuple[int, ...]]:
    """Results of a batching rule that calls the op for one slice after the other."""
    outputs = tuple(torch.stack(outputs) for outputs in zip(*results, strict=True))
    return outputs, (0,) * len(outputs)


def folded(
    info: Any, in_dims: tuple[int | None, ...], v: Tensor, weight: Tensor, *biases: Tensor
) -> list[Tensor]:
    """Arguments of a vmapped call with the mapped dimension in front, where it is one
    more dimension of chains: slices are numbered with the others in row-major
    order, and none shares another's uniforms.

    Args:
        info: of the batching rule.
        in_dims: the mapped dimension of each tensor, or None.
        v: states (chains..., visible).
        weight: (..., visible, hidden).
        biases: (..., units).

    Returns:
        The states and the parameters, which broadcast against them.
    """
    chains = v.dim() - (in_dims[0] is not None) - 1
    front = v.expand(info.batch_size, *v.shape) if in_dims[0] is None else v.movedim(in_dims[0], 0)
    return [
        front,
        folded_parameter(weight, in_dims[1], 2, chains),
        *(folded_parameter(x, dim, 1, chains) for x, dim in zip(biases, in_dims[2:], strict=True)),
    ]


def folded_parameter(x: Tensor, dim: int | None, event: int, chains: int) -> Tensor:
    """A parameter of a vmapped call, so that it broadcasts against (mapped, chains...,
    event...).

    Args:
        x: the parameter, with the mapped dimension if it has one.
        dim: the mapped dimension, or None.
        event: number of the parameter's own dimensions: 2 for weights, 1 for
            biases, 0 for one number a chain.
        chains: number of dimensions of chains without the mapped one.

    Returns:
        ``x``, or a view of it.
    """
    if dim is None:
        return x
    front = x.movedim(dim, 0)
    missing = chains - (front.dim() - 1 - event)
    return front.reshape(front.shape[0], *(1,) * missing, *front.shape[1:])
