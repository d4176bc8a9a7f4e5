"""The op ``pyro_gen::nade_sample``: binary draws from a neural autoregressive
density estimator in one call.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pyro_gen.kernels import backend
from pyro_gen.kernels.nade import native, reference
from pyro_gen.kernels.nade.fields import PATHS, check
from pyro_gen.kernels.registry import register, slices, stack_slices, without_autocast

Drawn = tuple[Tensor, Tensor]
"""States and fields."""


def nade_sample(
    uniforms: Tensor, weight: Tensor, start: Tensor, output: Tensor, bias: Tensor
) -> Drawn:
    r"""Draws of binary features, one after the other, and the logits that they were drawn from.

    Without gradient.

    .. math:: f_k = b_k + V_k\, \sigma(a_k), \qquad x_k = [u_k < \sigma(f_k)], \qquad a_{k+1} =
        a_k + x_k W_k

    in O(n D H) operations: the result of D steps of :func:`nade_fields`, at the
    cost of one.

    Args:
        uniforms: u, numbers in [0, 1), feature by feature, (features, n).
        weight: W, (features, 1, hidden).
        start: activations before any feature is known, (n, hidden).
        output: V, (features, 1, hidden).
        bias: b, (n, features).

    Returns:
        Zeros and ones, and logits, both (n, features).

    Raises:
        ValueError: a size, dtype or device does not fit, or
            ``PYRO_GEN_BACKEND`` cannot be obeyed.

    References:
        Larochelle and Murray (2011), The neural autoregressive distribution
        estimator, Section 3.

    Example:
        >>> import torch
        >>> uniforms = torch.tensor([[0.4], [0.8], [0.9]])
        >>> nade_sample(uniforms, torch.ones(3, 1, 2), torch.zeros(1, 2), torch.ones(3, 1,
        ...     2), torch.zeros(1, 3))
        (tensor([[1., 1., 0.]]), tensor([[1.0000, 1.4621, 1.7616]]))
    """
    draws: Drawn = _op(uniforms, weight, start, output, bias)
    return draws


@without_autocast
def _run(uniforms: Tensor, weight: Tensor, start: Tensor, output: Tensor, bias: Tensor) -> Drawn:
    check(uniforms.mT.unsqueeze(-1), weight, start, output)
    features, rows = uniforms.shape
    if weight.shape[1] != 1 or output.shape[1] != 1:
        shapes = f"{tuple(weight.shape)} and {tuple(output.shape)}"
        raise ValueError(
            "`weight` and `output` must have shape (features, 1, hidden) for binary draws, got "
            f"{shapes}"
        )
    if (
        bias.shape != (rows, features)
        or bias.dtype != weight.dtype
        or bias.device != weight.device
    ):
        expected = f"({rows}, {features}) and {weight.dtype} on {weight.device}"
        raise ValueError(
            f"`bias` must be {expected}, got {tuple(bias.shape)} and {bias.dtype} on {bias.device}"
        )
    if rows and start.shape[1]:
        path = backend.choose("nade_sample", PATHS, uniforms, weight)
    else:
        path = "reference"
    if path == "native":
        return native.nade_sample(uniforms, weight, start, output, bias)
    if path == "triton":
        from pyro_gen.kernels.nade import triton as cuda

        if start.shape[1] <= cuda.LARGEST_SAMPLED:
            return cuda.nade_sample(uniforms, weight, start, output, bias)
    return reference.nade_sample(uniforms, weight, start, output, bias)


def _fake_nade_sample(
    uniforms: Tensor, weight: Tensor, start: Tensor, output: Tensor, bias: Tensor
) -> Drawn:
    shape = bias.shape
    return uniforms.new_empty(shape), uniforms.new_empty(shape)


def _vmap_nade_sample(
    info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor
) -> tuple[Any, Any]:
    """One slice after the other."""
    return stack_slices([_op(*arguments) for arguments in slices(info, in_dims, tensors)])


_op = register(
    "nade_sample(Tensor uniforms, Tensor weight, Tensor start, Tensor output, Tensor bias) -> "
    "(Tensor, Tensor)",
    _run,
    _fake_nade_sample,
    _vmap_nade_sample,
)

__all__ = ["nade_sample"]
