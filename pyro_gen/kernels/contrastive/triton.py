"""The contrastive gradient of an RBM on CUDA: chains, probabilities and the
stacked product without leaving the device.

Data and particles stand in one padded buffer of states. Probabilities are kept
as two float16 planes (22 bits), so that the gradient's product runs on tensor
cores with exact products and float32 sums.
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyro_gen.kernels.gibbs.triton import half_step
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import HIDDEN, VISIBLE, Key
from pyro_gen.kernels.triton import blocks, graphs, operands


def rbm_contrast(
    batch: Tensor,
    start: Tensor,
    parameters: RBMParameters,
    num_steps: int,
    key: Key,
    form: str | None = None,
    graph: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The reference's gradient with Philox uniforms.

    Ask :func:`pyro_gen.kernels.triton.refusal` first.

    Args:
        batch: rows of data, zeros and ones, (n, visible), n at least 1.
        start: where the particles start, (m, visible), m at least 1.
        parameters: with any strides.
        num_steps: sweeps.
        key: of the particles' random numbers.
        form: a name in :data:`pyro_gen.kernels.triton.operands.FORMATS`; None
            for the one exact for the weights' dtype.
        graph: whether a call that repeats earlier shapes runs as one CUDA
            graph.

    Returns:
        Gradients of the three parameters and the particles.
    """
    weight, vbias, hbias = parameters
    clock = operands.clock(key, batch)
    tensors = (batch, start, weight, vbias.contiguous(), hbias.contiguous(), clock)
    run = partial(contrast, num_steps=num_steps, form=form)
    results = graphs.call(run, ("rbm_contrast", num_steps, form), tensors, graph)
    return results[0], results[1], results[2], results[3]


def contrast(
    batch: Tensor,
    start: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    clock: Tensor,
    *,
    num_steps: int,
    form: str | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Everything as launches on the current stream."""
    rows = len(batch)
    particles = len(start)
    visible, hidden = weight.shape
    up, down = operands.sides(RBMParameters(weight, vbias, hbias), form)
    below = operands.padded(rows)
    states = torch.cat([operands.pad(x, up.form.dtype) for x in (batch, start)])
    chains = states[below:]
    hidden_states = states.new_zeros((operands.padded(particles), operands.padded(hidden)))
    for t in range(num_steps):
        half_step(chains, up, particles, None, clock, hidden_states, t, HIDDEN)
        half_step(hidden_states, down, particles, None, clock, chains, t, VISIBLE)
    counts = rows, below, particles, len(states)
    probs = _probabilities(states, up, counts)
    return (
        _gradient(states, probs, counts, visible, hidden, batch.dtype),
        _columns(states, states, counts, visible, 1).to(batch.dtype),
        _columns(probs[0], probs[1], counts, hidden, 2).to(batch.dtype),
        operands.cut(chains, particles, visible, batch.dtype),
    )


Counts = tuple[int, int, int, int]
"""Rows of data, row of the first particle, particles, rows with all padding."""


def _probabilities(states: Tensor, up: operands.LayerOperands, counts: Counts) -> Tensor:
    """P(h = 1 | state) as two float16 planes, zero in the rows of the padding."""
    *parts, total = counts
    probs = states.new_empty((2, total, up.planes.shape[1]), dtype=torch.float16)
    up.launch(_probability_planes, states, total, probs, *parts, probs_stride=probs.stride(1))
    return probs


@triton.jit
def _live(
    row: tl.tensor, num_rows: tl.tensor, below: tl.tensor, particles: tl.tensor
) -> tl.tensor:
    """True if a row of the stacked buffer is data or a particle, not padding."""
    return (row < num_rows) | ((row >= below) & (row < below + particles))


@triton.jit(do_not_specialize=["num_rows", "below", "particles", "total_rows", "units"])
def _probability_planes(
    states: tl.tensor,
    weight: tl.tensor,
    largest: tl.tensor,
    bias: tl.tensor,
    total_rows: tl.tensor,
    units: tl.tensor,
    probs: tl.tensor,
    num_rows: tl.tensor,
    below: tl.tensor,
    particles: tl.tensor,
    depth: tl.tensor,
    stride: tl.tensor,
    plane_stride: tl.tensor,
    probs_stride: tl.tensor,
    storage: tl.constexpr,
    planes: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """One tile of probabilities, split into float16 planes."""
    z, rows, unit_tile = blocks.fields(
        states,
        weight,
        largest,
        bias,
        total_rows,
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
    unit = unit_tile * block_n + tl.arange(0, block_n)
    live = _live(rows, num_rows, below, particles)[:, None]
    p = tl.where(live, blocks.sigmoid(z), 0.0)
    high = p.to(tl.float16)
    place = probs + rows.to(tl.int64)[:, None] * probs_stride + unit[None, :]
    tl.store(place, high)
    tl.store(
        place + total_rows.to(tl.int64) * probs_stride, (p - high.to(tl.float32)).to(tl.float16)
    )


GRADIENT_TILES: tuple[operands.Tile, ...] = (
    operands.Tile(128, 128, 8, 3),
    operands.Tile(64, 64, 4, 3),
    operands.Tile(32, 32, 4, 4),
)


def _gradient(
    states: Tensor, probs: Tensor, counts: Counts, visible: int, hidden: int, dtype: torch.dtype
) -> Tensor:
    """``states.T @ (share * probs)``: (visible, hidden)."""
    gradient = torch.empty((visible, hidden), dtype=dtype, device=states.device)
    fits = (x for x in GRADIENT_TILES if operands.grid(visible, hidden, x)[0] >= operands.PROGRAMS)
    shape = next(fits, GRADIENT_TILES[-1])
    _stacked_product[operands.grid(visible, hidden, shape)](
        states,
        probs,
        gradient,
        *counts,
        visible,
        hidden,
        states.stride(0),
        probs.stride(1),
        probs.stride(0),
        shape.block_m,
        shape.block_n,
        32 if shape.block_m > 64 else 64,
        num_warps=shape.num_warps,
        num_stages=shape.num_stages,
    )
    return gradient


@triton.jit
def _phase(
    product: tl.tensor,
    x: tl.tensor,
    y: tl.tensor,
    x_step: tl.tensor,
    y_step: tl.tensor,
    low: tl.tensor,
    count: tl.tensor,
) -> tl.tensor:
    """Add ``states.T @ probs`` of ``count`` blocks of rows to ``product``."""
    for block in range(count):
        states = tl.trans(tl.load(x + block * x_step).to(tl.float16))
        product = tl.dot(states, tl.load(y + block * y_step), product)
        product = tl.dot(states, tl.load(y + low + block * y_step), product)
    return product


@triton.jit(
    do_not_specialize=["num_rows", "below", "particles", "total_rows", "visible", "hidden"]
)
def _stacked_product(
    states: tl.tensor,
    probs: tl.tensor,
    gradient: tl.tensor,
    num_rows: tl.tensor,
    below: tl.tensor,
    particles: tl.tensor,
    total_rows: tl.tensor,
    visible: tl.tensor,
    hidden: tl.tensor,
    states_stride: tl.tensor,
    probs_stride: tl.tensor,
    plane_stride: tl.tensor,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """One tile of the gradient: rows of the data first, weighed against the
    particles' by -particles / rows.
    """
    tile_i, tile_j = blocks.tile(visible, hidden, block_m, block_n)
    i = tile_i * block_m + tl.arange(0, block_m)
    j = tile_j * block_n + tl.arange(0, block_n)
    row = tl.arange(0, block_k)[:, None]
    x = states + row * states_stride + i[None, :]
    y = probs + row * probs_stride + j[None, :]
    x_step = states_stride.to(tl.int64) * block_k
    y_step = probs_stride.to(tl.int64) * block_k
    product = tl.zeros((block_m, block_n), tl.float32)
    first = below // block_k
    product = _phase(product, x, y, x_step, y_step, plane_stride, first)
    product *= -(particles.to(tl.float32) / num_rows)
    x = x + first * x_step
    y = y + first * y_step
    product = _phase(product, x, y, x_step, y_step, plane_stride, (total_rows - below) // block_k)
    inside = (i < visible)[:, None] & (j < hidden)[None, :]
    place = gradient + i.to(tl.int64)[:, None] * hidden + j[None, :]
    tl.store(place, (product / particles).to(gradient.dtype.element_ty), mask=inside)


def _columns(high: Tensor, low: Tensor, counts: Counts, units: int, planes: int) -> Tensor:
    """``share @ (high + low)``: float32 (units,)."""
    sums = torch.empty(units, dtype=torch.float32, device=high.device)
    _column_sums[(triton.cdiv(units, 32),)](
        high,
        low,
        sums,
        *counts,
        units,
        high.stride(0),
        planes,
        64,
        32,
    )
    return sums


@triton.jit(do_not_specialize=["num_rows", "below", "particles", "total_rows", "units"])
def _column_sums(
    high: tl.tensor,
    low: tl.tensor,
    sums: tl.tensor,
    num_rows: tl.tensor,
    below: tl.tensor,
    particles: tl.tensor,
    total_rows: tl.tensor,
    units: tl.tensor,
    stride: tl.tensor,
    planes: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
) -> None:
    """Sums over rows, -1/rows for the data and 1/particles for the particles.

    Rows of the padding hold zeros.
    """
    unit = tl.program_id(0) * block_n + tl.arange(0, block_n)
    data = tl.zeros((block_m, block_n), tl.float32)
    model = tl.zeros((block_m, block_n), tl.float32)
    for start in range(0, total_rows, block_m):
        place = (start + tl.arange(0, block_m)).to(tl.int64)[:, None] * stride + unit[None, :]
        x = tl.load(high + place).to(tl.float32)
        if planes == 2:
            x += tl.load(low + place).to(tl.float32)
        if start < below:
            data += x
        else:
            model += x
    result = tl.sum(model, 0) / particles - tl.sum(data, 0) / num_rows
    tl.store(sums + unit, result, mask=unit < units)
