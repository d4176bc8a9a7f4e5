"""The op ``pyro_gen::nade_fields``: total inputs of all output units of a neural
autoregressive density estimator.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_gen.kernels import backend
from pyro_gen.kernels.nade import cpu, native, reference
from pyro_gen.kernels.nade.reference import Gradients
from pyro_gen.kernels.native import impossible, slower
from pyro_gen.kernels.registry import (
    register,
    register_autograd,
    slices,
    stack_slices,
    without_autocast,
)
from pyro_gen.kernels.triton import refusal as refused_by_triton

__all__ = ["PATHS", "check", "nade_fields"]


def _refused_by_triton(x: Tensor, weight: Tensor) -> str | None:
    return refused_by_triton(x, weight.reshape(-1, weight.shape[-1]))


PATHS = (
    backend.Path("native", impossible, slower),
    backend.Path("triton", _refused_by_triton),
    backend.Path("cpu", backend.anywhere),  # in torch, so it serves other devices too
)


def nade_fields(x: Tensor, weight: Tensor, start: Tensor, output: Tensor) -> Tensor:
    r"""Total inputs of the output units of NADE, differentiable in all arguments.

    .. math:: a_1 = s, \qquad f_k = V_k\, \sigma(a_k), \qquad a_{k+1} = a_k + x_k W_k

    in O(n D H) operations and O(n (D + H)) memory, forwards and backwards: the
    activations are not kept but computed once more on the way back, from the
    last to the first. Second derivatives go by the reference, which keeps them.

    Args:
        x: features as the network sees them, (n, features, width); many zeros
            make it faster.
        weight: W, (features, width, hidden); the last feature's is not used.
        start: activations before any feature is known, (n, hidden).
        output: V, (features, parameters, hidden).

    Returns:
        f, of shape (n, features, parameters), without biases.

    Raises:
        ValueError: a size, dtype or device does not fit, or
            ``PYRO_GEN_BACKEND`` cannot be obeyed.

    References:
        Larochelle and Murray (2011), The neural autoregressive distribution
        estimator, Algorithm 1.

    Example:
        >>> x = torch.tensor([[[1.0], [0.0], [1.0]]])
        >>> nade_fields(x, torch.ones(3, 1, 2), torch.zeros(1, 2), torch.ones(3, 1, 2)).squeeze()
        tensor([1.0000, 1.4621, 1.4621])
    """
    return _fields(x, weight, start, output)


def _transformed() -> bool:
    """True under a transform of torch.func, which asks for another kind of
    derivative than a registered op has.
    """
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def _fields(*tensors: Tensor) -> Tensor:
    fields: Tensor = (_Fields.apply if _transformed() else _op)(*tensors)
    return fields


def _gradients(*arguments: Any) -> Gradients:
    gradients: Gradients = (_Gradients.apply if _transformed() else _backward_op)(*arguments)
    return gradients


@without_autocast
def _forward(x: Tensor, weight: Tensor, start: Tensor, output: Tensor) -> Tensor:
    check(x, weight, start, output)
    path = backend.choose("nade_fields", PATHS, x, weight)
    if not x.numel() or not start.numel():
        path = "reference"  # there is nothing to launch
    if path == "native":
        return native.nade_fields(x, weight, start, output)
    if path == "triton":
        from pyro_gen.kernels.nade import triton as cuda

        return cuda.nade_fields(x, weight, start, output)
    return (reference if path == "reference" else cpu).nade_fields(x, weight, start, output)


@without_autocast
def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, start: Tensor, output: Tensor, need_x: bool
) -> Gradients:
    path = backend.choose("nade_fields", PATHS, x, weight)
    if not x.numel() or not start.numel():
        path = "reference"
    # data are given; for the gradient of x the torch path serves
    if path == "native" and not need_x:
        return x.new_empty(0), *native.nade_backward(gradient, x, weight, start, output)
    if path == "triton":
        from pyro_gen.kernels.nade import triton as cuda

        return cuda.nade_backward(gradient, x, weight, start, output, need_x)
    if path == "reference":
        dx, *gradients = reference.nade_backward(gradient, x, weight, start, output)
        return dx if need_x else x.new_empty(0), gradients[0], gradients[1], gradients[2]
    return cpu.nade_backward(gradient, x, weight, start, output, need_x)


def check(x: Tensor, weight: Tensor, start: Tensor, output: Tensor) -> None:
    """Raise, naming the argument, unless these fit together."""
    if weight.dim() != 3 or not len(weight):
        raise ValueError(
            f"`weight` must have shape (features, width, hidden), got {tuple(weight.shape)}"
        )
    features, width, hidden = weight.shape
    if x.dim() != 3 or x.shape[1:] != (features, width):
        raise ValueError(
            f"`x` must have shape (n, {features}, {width}) to match `weight`, got {tuple(x.shape)}"
        )
    if start.shape != (len(x), hidden):
        raise ValueError(
            f"`start` must have shape ({len(x)}, {hidden}) to match `weight`, got "
            f"{tuple(start.shape)}"
        )
    if output.dim() != 3 or output.shape[::2] != (features, hidden):
        shape = f"({features}, parameters, {hidden})"
        raise ValueError(
            f"`output` must have shape {shape} to match `weight`, got {tuple(output.shape)}"
        )
    for name, other in (("x", x), ("start", start), ("output", output)):
        if other.dtype != weight.dtype or other.device != weight.device:
            raise ValueError(
                f"`{name}` must be {weight.dtype} on {weight.device} like `weight`, got "
                f"{other.dtype} on {other.device}"
            )


def _fake_nade_fields(x: Tensor, weight: Tensor, start: Tensor, output: Tensor) -> Tensor:
    return x.new_empty(len(x), len(weight), output.shape[1])


def _fake_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, start: Tensor, output: Tensor, need_x: bool
) -> Gradients:
    dx = x.new_empty(x.shape if need_x else 0)
    return (
        dx,
        weight.new_empty(weight.shape),
        start.new_empty(start.shape),
        output.new_empty(output.shape),
    )


def _vmap_nade_fields(
    info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor
) -> tuple[Tensor, int]:
    """Rows of all slices together where they share the weights, otherwise one slice
    after the other.
    """
    x, weight, start, output = tensors
    if in_dims[1] is None and in_dims[3] is None:
        rows, starts = (
            y.expand(info.batch_size, *y.shape) if dim is None else y.movedim(dim, 0)
            for y, dim in ((x, in_dims[0]), (start, in_dims[2]))
        )
        return _fields(rows.flatten(0, 1), weight, starts.flatten(0, 1), output).unflatten(
            0, rows.shape[:2]
        ), 0
    return torch.stack([_fields(*arguments) for arguments in slices(info, in_dims, tensors)]), 0


def _vmap_backward(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
    """One slice after the other: each has gradients of the weights of its own."""
    results = [
        _gradients(*tensors, arguments[5]) for tensors in slices(info, in_dims[:5], arguments[:5])
    ]
    return stack_slices(results)


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, start, output = ctx.saved_tensors
    need_x = ctx.needs_input_grad[0]
    dx, dweight, dstart, doutput = _gradients(gradient, x, weight, start, output, need_x)
    return dx if need_x else None, dweight, dstart, doutput


def _remember_all(ctx: Any, inputs: tuple[Any, ...], output: Gradients) -> None:
    *tensors, ctx.need_x = inputs
    ctx.save_for_backward(*tensors)


def _differentiate_twice(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
    """By torch, through the reference: right to any order, and as large and slow as a
    tape of all steps.
    """
    tensors = ctx.saved_tensors

    def first(gradient: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        pulled: tuple[Tensor, ...] = torch.func.vjp(reference.nade_fields, *inputs)[1](gradient)
        return pulled

    dense = [
        torch.zeros_like(x) if c is None else c
        for c, x in zip(cotangents, tensors[1:], strict=True)
    ]
    if not ctx.need_x:
        dense[0] = torch.zeros_like(tensors[1])
    return *torch.func.vjp(first, *tensors)[1](tuple(dense)), None


class _Fields(torch.autograd.Function):
    """The op with its derivative, as torch.func wants it."""

    setup_context = staticmethod(_remember)
    backward = staticmethod(_differentiate)
    vmap = staticmethod(_vmap_nade_fields)

    @staticmethod
    def forward(*tensors: Tensor) -> Tensor:
        """The op."""
        fields: Tensor = _op(*tensors)
        return fields


class _Gradients(torch.autograd.Function):
    """The op of the way back, likewise."""

    setup_context = staticmethod(_remember_all)
    backward = staticmethod(_differentiate_twice)
    vmap = staticmethod(_vmap_backward)

    @staticmethod
    def forward(*arguments: Any) -> Gradients:
        """The op."""
        gradients: Gradients = _backward_op(*arguments)
        return gradients


_op = register(
    "nade_fields(Tensor x, Tensor weight, Tensor start, Tensor output) -> Tensor",
    _forward,
    _fake_nade_fields,
    _vmap_nade_fields,
)
_backward_op = register(
    "nade_backward(Tensor gradient, Tensor x, Tensor weight, Tensor start, Tensor output, bool "
    "need_x) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _fake_backward,
    _vmap_backward,
)
register_autograd("nade_fields", _differentiate, _remember)
register_autograd("nade_backward", _differentiate_twice, _remember_all)
