"""Block Gibbs sampling with weights in two planes of int8: the exact sampler of the quantised weights.

Sums over binary states are exact in int32 and so depend neither on tiles nor on threads; float32 comes in after them,
with the scale and the bias. One product with both planes side by side costs what a bf16 product does.
``torch._int_mm`` is private to torch: it is looked up once, and :func:`impossible` says why it cannot serve. On a CPU
it pays from a few million multiply-adds a half step, with VNNI.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_gen.kernels.quantise import MOST_TERMS, SplitWeight, split
from pyro_gen.kernels.random import HIDDEN, VISIBLE, Uniforms


class _Grain(NamedTuple):
    """Sizes that an integer product needs of its operands: least rows, and the divisor of every other size."""

    rows: int
    multiple: int


_GRAINS = {"cpu": _Grain(0, 1)}
_COARSE = _Grain(32, 16)  # cuBLAS asks for more than 16 rows and for multiples of 8; it is faster on multiples of 16

_int_mm: Callable[..., Tensor] | None = getattr(torch, "_int_mm", None)


def impossible(v: Tensor, weight: Tensor) -> str | None:
    """Reason why this path cannot run on these tensors; None where it can, be it slower than the exact one."""
    if _int_mm is None:
        return "this torch has no _int_mm"
    if v.device.type not in ("cpu", "cuda"):
        return f"torch has no integer product on {v.device.type}"
    if weight.dim() != 2:
        return "there is no integer product for batched weights"
    if torch.float64 in (weight.dtype, v.dtype):
        return "float64 asks for more than 16 bits of a weight"
    if max(weight.shape) > MOST_TERMS:
        return f"sums over more than {MOST_TERMS} units may overflow int32"
    return None


class _Side:
    """One half step's constants and buffers, with every view made once: on small sizes a view costs what a sum does.

    Args:
        planes: (given units, 2 drawn units) in int8, ``hi`` and ``lo`` side by side, padded to the grain.
        scale: of the planes.
        bias: (drawn units,).
        beta: float32 of shape (chains, 1), or None for 1.
        chains: number of chains.
        rows: number of chains, padded to the grain.
    """

    def __init__(self, planes: Tensor, scale: float, bias: Tensor, beta: Tensor | None, chains: int, rows: int) -> None:
        units, width, device = len(bias), planes.shape[1] // 2, planes.device
        self.planes, self.scale, self.bias, self.beta = planes, scale, bias.detach().float(), beta
        self.sums = torch.empty(rows, 2 * width, dtype=torch.int32, device=device)
        self.hi = self.sums[:chains, :units]
        self.lo = self.sums[:chains, width : width + units]
        self.field = torch.empty(chains, units, dtype=torch.float32, device=device)
        self.states = torch.zeros(rows, width, dtype=torch.int8, device=device)
        self.product, self.less = _found(), _less(self.field, self.states[:chains, :units].view(torch.bool))

    def draw(self, states: Tensor, uniform: Tensor) -> Tensor:
        """The drawn states, int8 of shape (rows, padded units), zero in the padding; the next call overwrites them."""
        self.product(states, self.planes, out=self.sums)
        self.field.copy_(self.lo.add_(self.hi, alpha=256))
        torch.add(self.bias, self.field, alpha=self.scale, out=self.field)
        if self.beta is not None:
            self.field.mul_(self.beta)
        self.field.sigmoid_()
        self.less(uniform)
        return self.states


def _found() -> Callable[..., Tensor]:
    if _int_mm is None:
        raise NotImplementedError("the int8 path needs torch._int_mm, which this torch does not have")
    return _int_mm


def _less(probs: Tensor, on: Tensor) -> Callable[[Tensor], object]:
    """Function that writes ``uniform < probs`` to ``on``; numpy is five times faster at it than torch on a CPU."""
    if probs.device.type != "cpu":
        return lambda uniform: torch.lt(uniform, probs, out=on)
    upper, out = probs.numpy(), on.numpy()
    return lambda uniform: np.less(uniform.numpy(), upper, out=out)


def _padded(plane: Tensor, multiple: int) -> Tensor:
    rows, columns = (-size % multiple for size in plane.shape)
    return torch.nn.functional.pad(plane, (0, columns, 0, rows)) if rows or columns else plane


def _beside(hi: Tensor, lo: Tensor) -> Tensor:
    """``[hi, lo]``, each column contiguous on a GPU, whose integer tensor cores want it so."""
    return torch.cat((hi, lo), 1) if hi.device.type == "cpu" else torch.cat((hi.mT, lo.mT)).mT


def _below(hi: Tensor, lo: Tensor) -> Tensor:
    """``[hi', lo']`` for the way down, a view; torch silently leaves a product by one row of strides (1, 1) undone."""
    planes = torch.cat((hi, lo)).mT
    return planes.clone(memory_format=torch.contiguous_format) if len(planes) == 1 else planes


def _binary(v: Tensor, rows: int, columns: int) -> Tensor:
    """The starting states in int8, padded with zeros."""
    states = torch.zeros(rows, columns, dtype=torch.int8, device=v.device)
    buffer = states[: v.shape[0], : v.shape[1]].copy_(v)
    if not torch.equal((buffer & 1).to(v.dtype), v):
        raise ValueError("`v` must hold only zeros and ones for the int8 path, got other values")
    return states


def rbm_gibbs(
    v: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    num_steps: int,
    beta: Tensor | None,
    uniforms: Uniforms,
    step: int,
) -> tuple[Tensor, Tensor]:
    """The reference's sweeps with the quantised ``weight``, for states (chains, visible) and unbatched parameters."""
    return sweeps(v, split(weight), vbias, hbias, num_steps, beta, uniforms, step)


def sweeps(
    v: Tensor,
    weight: SplitWeight,
    vbias: Tensor,
    hbias: Tensor,
    num_steps: int,
    beta: Tensor | None,
    uniforms: Uniforms,
    step: int,
) -> tuple[Tensor, Tensor]:
    """:func:`rbm_gibbs` for callers that keep a quantised weight from call to call.

    Args:
        v: zeros and ones, shape (chains, visible).
        weight: planes of shape (visible, hidden).
        vbias: (visible,).
        hbias: (hidden,).
        num_steps: number of sweeps, at least 1.
        beta: inverse temperature of each chain, or None for 1.
        uniforms: the source of randomness.
        step: index of the first sweep.

    Returns:
        The last visible states and the hidden states they were drawn from, in the dtype of ``v``.

    Raises:
        ValueError: ``v`` holds other numbers than 0 and 1.
        NotImplementedError: this torch has no integer product.
    """
    grain, chains = _GRAINS.get(v.device.type, _COARSE), len(v)
    rows, scale = max(chains, grain.rows), float(weight.scale)
    hi, lo = _padded(weight.hi, grain.multiple), _padded(weight.lo, grain.multiple)
    beta = None if beta is None else beta.detach().float().unsqueeze(-1)
    up = _Side(_beside(hi, lo), scale, hbias, beta, chains, rows)
    down = _Side(_below(hi, lo), scale, vbias, beta, chains, rows)
    visible = _binary(v, rows, len(hi))
    for t in range(step, step + num_steps):
        hidden = up.draw(visible, uniforms(t, HIDDEN, len(hbias)))
        visible = down.draw(hidden, uniforms(t, VISIBLE, len(vbias)))
    return visible[:chains, : len(vbias)].to(v.dtype), hidden[:chains, : len(hbias)].to(v.dtype)
