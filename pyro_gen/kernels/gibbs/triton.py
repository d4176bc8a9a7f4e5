"""Block Gibbs sampling on CUDA: a half step is one kernel of GEMM, bias, beta,
sigmoid and draw.

K steps are one graph.

Where all weights fit into one multiprocessor, all steps are one launch: each
program keeps the weights and its chains.
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import HIDDEN, VISIBLE, Key
from pyro_gen.kernels.triton import blocks, graphs, operands

RESIDENT = 64
"""Units of a side up to which the weights stay in one multiprocessor for all steps."""


def rbm_gibbs(
    v: Tensor,
    parameters: RBMParameters,
    num_steps: int,
    beta: Tensor | None,
    key: Key,
    form: str | None = None,
    graph: bool = True,
) -> tuple[Tensor, Tensor]:
    """The reference's sweeps with Philox uniforms.

    Ask :func:`pyro_gen.kernels.triton.refusal` first.

    Args:
        v: visible states, zeros and ones, (chains, visible).
        parameters: with any strides.
        num_steps: sweeps, at least 1.
        beta: inverse temperatures (chains,), or None for 1.
        key: of the random numbers.
        form: a name in :data:`pyro_gen.kernels.triton.operands.FORMATS`; None
            for the one exact for the weights' dtype.
        graph: whether a call that repeats earlier shapes runs as one CUDA
            graph.

    Returns:
        The last visible states and the hidden states they were drawn from, in
        the dtype of ``v``.
    """
    weight, vbias, hbias = parameters
    if not len(v):
        return torch.empty_like(v), v.new_empty((0, len(hbias)))
    clock = operands.clock(key, v)
    tempering = () if beta is None else (beta.contiguous(),)
    tensors = (v, weight, vbias.contiguous(), hbias.contiguous(), clock, *tempering)
    if max(weight.shape) <= RESIDENT:
        with torch.cuda.device_of(v):
            return resident(*tensors, num_steps=num_steps, form=form)
    run = partial(sweeps, num_steps=num_steps, form=form)
    new_v, new_h = graphs.call(run, ("rbm_gibbs", num_steps, form), tensors, graph)
    return new_v, new_h


def sweeps(
    v: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    clock: Tensor,
    beta: Tensor | None = None,
    *,
    num_steps: int,
    form: str | None = None,
) -> tuple[Tensor, Tensor]:
    """All steps as launches on the current stream, two a step."""
    rows = len(v)
    up, down = operands.sides(RBMParameters(weight, vbias, hbias), form)
    visible = operands.pad(v, up.form.dtype)
    hidden = visible.new_zeros((len(visible), operands.padded(len(hbias))))
    for t in range(num_steps):
        half_step(visible, up, rows, beta, clock, hidden, t, HIDDEN)
        half_step(hidden, down, rows, beta, clock, visible, t, VISIBLE)
    new_v = operands.cut(visible, rows, len(vbias), v.dtype)
    return new_v, operands.cut(hidden, rows, len(hbias), v.dtype)


def half_step(
    states: Tensor,
    side: operands.LayerOperands,
    rows: int,
    beta: Tensor | None,
    clock: Tensor,
    out: Tensor,
    t: int,
    stream: int,
) -> None:
    """Draw the other side of padded ``states`` into ``out``."""
    side.launch(_half_step, states, rows, beta, clock, out, t, stream, out_stride=out.stride(0))


@triton.jit(do_not_specialize=["t", "stream", "num_rows", "units"])
def _half_step(
    states: tl.tensor,
    weight: tl.tensor,
    largest: tl.tensor,
    bias: tl.tensor,
    num_rows: tl.tensor,
    units: tl.tensor,
    beta: tl.tensor,
    clock: tl.tensor,
    out: tl.tensor,
    t: tl.tensor,
    stream: tl.tensor,
    depth: tl.tensor,
    stride: tl.tensor,
    plane_stride: tl.tensor,
    out_stride: tl.tensor,
    storage: tl.constexpr,
    planes: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """One tile: total input, bias, beta, draw."""
    z, rows, unit_tile = blocks.fields(
        states,
        weight,
        largest,
        bias,
        num_rows,
        units,
        depth,
        stride,
        plane_stride,
        storage,
        planes,
        block_m,
        block_n,
        block_k,
    )
    first = unit_tile * block_n
    unit = first + tl.arange(0, block_n)
    if beta is not None:
        z *= tl.load(beta + rows, mask=rows < num_rows, other=0.0).to(tl.float32)[:, None]
    is_on = blocks.draw(z, clock, t, stream, rows, first, units) & (rows < num_rows)[:, None]
    tl.store(
        out + rows.to(tl.int64)[:, None] * out_stride + unit[None, :],
        is_on.to(out.dtype.element_ty),
    )


def resident(
    v: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    clock: Tensor,
    beta: Tensor | None = None,
    *,
    num_steps: int,
    form: str | None = None,
) -> tuple[Tensor, Tensor]:
    """All steps in one launch, for at most ``RESIDENT`` units a side."""
    split = operands.format_of(weight, form)
    new_v = torch.empty_like(v, memory_format=torch.contiguous_format)
    new_h = v.new_empty((len(v), len(hbias)))
    rows = 32 if len(v) > 32 * operands.PROGRAMS else 16
    _resident[(triton.cdiv(len(v), rows),)](
        v,
        weight,
        vbias,
        hbias,
        beta,
        clock,
        new_v,
        new_h,
        num_steps,
        len(v),
        *weight.shape,
        *v.stride(),
        *weight.stride(),
        split.storage,
        split.planes,
        rows,
        RESIDENT,
        num_warps=4,
    )
    return new_v, new_h


@triton.jit
def _product(
    states: tl.tensor,
    high: tl.tensor,
    low: tl.tensor,
    scale: tl.tensor,
    storage: tl.constexpr,
    planes: tl.constexpr,
) -> tl.tensor:
    """``states @ weight`` of weights that are at hand, in float32."""
    if storage == "int8":
        upper = tl.dot(states, high, out_dtype=tl.int32)
        result = (256 * upper + tl.dot(states, low, out_dtype=tl.int32)).to(tl.float32)
    else:
        result = tl.dot(states, high, input_precision="tf32x3")
        if planes == 2:
            result = tl.dot(states, low, result)
    return result * scale


@triton.jit(do_not_specialize=["num_steps", "num_rows", "visible", "hidden"])
def _resident(
    v: tl.tensor,
    weight: tl.tensor,
    vbias: tl.tensor,
    hbias: tl.tensor,
    beta: tl.tensor,
    clock: tl.tensor,
    new_v: tl.tensor,
    new_h: tl.tensor,
    num_steps: tl.tensor,
    num_rows: tl.tensor,
    visible: tl.tensor,
    hidden: tl.tensor,
    v_stride_n: tl.tensor,
    v_stride_i: tl.tensor,
    stride_i: tl.tensor,
    stride_j: tl.tensor,
    storage: tl.constexpr,
    planes: tl.constexpr,
    block_m: tl.constexpr,
    side: tl.constexpr,
) -> None:
    """All steps of one tile of chains; weights are loaded and split once."""
    rows = tl.program_id(0) * block_m + tl.arange(0, block_m)
    unit = tl.arange(0, side)
    live = (rows < num_rows)[:, None]
    row = rows.to(tl.int64)[:, None]
    i, j = unit.to(tl.int64)[:, None], unit.to(tl.int64)[None, :]  # strides of views may be long
    w = tl.load(
        weight + i * stride_i + j * stride_j, mask=(i < visible) & (j < hidden), other=0.0
    ).to(tl.float32)
    scale = blocks.scale_of(tl.max(tl.abs(w)), storage)
    up_high, up_low = blocks.split_weights(w, scale, storage)
    down_high = tl.trans(up_high)
    down_low = tl.trans(up_low)
    a = tl.load(vbias + unit, mask=unit < visible, other=0.0).to(tl.float32)[None, :]
    b = tl.load(hbias + unit, mask=unit < hidden, other=0.0).to(tl.float32)[None, :]
    x = tl.load(v + row * v_stride_n + j * v_stride_i, mask=live & (j < visible), other=0.0).to(
        up_high.dtype
    )
    y = tl.zeros((block_m, side), up_high.dtype)
    factor = tl.full((block_m, 1), 1.0, tl.float32)
    if beta is not None:
        factor = tl.load(beta + rows, mask=rows < num_rows, other=0.0).to(tl.float32)[:, None]
    for t in range(num_steps):
        z = (_product(x, up_high, up_low, scale, storage, planes) + b) * factor
        y = blocks.draw(z, clock, t, 0, rows, 0, hidden).to(up_high.dtype)
        z = (_product(y, down_high, down_low, scale, storage, planes) + a) * factor
        x = blocks.draw(z, clock, t, 1, rows, 0, visible).to(up_high.dtype)
    tl.store(new_v + row * visible + j, x.to(new_v.dtype.element_ty), mask=live & (j < visible))
    tl.store(new_h + row * hidden + j, y.to(new_h.dtype.element_ty), mask=live & (j < hidden))
