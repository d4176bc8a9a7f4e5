"""NADE on CUDA: a program keeps the activations of some rows and hidden units in
registers and walks over the features.

Sums over hidden units go into a plane for each tile of them, sums over rows
into a plane for each of a few groups of rows, and the planes are added up at
the end: no atomic addition makes results depend on the order of programs.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyro_gen.kernels.nade.reference import Gradients
from pyro_gen.kernels.triton import blocks

UNITS = 256
"""Hidden units of a program on the way forward, at most."""

ROWS = 4
"""Rows of a program on the way forward."""

BACK_UNITS = 32
BACK_ROWS = 16
"""The tile of the way back, whose sums over rows are wanted too."""

GROUPS = 8
"""Programs that share the rows on the way back; each has room for gradients of its own."""

LARGEST_SAMPLED = 8192
"""Hidden units of a sampler, whose program has them all."""


def _sizes(x: Tensor, start: Tensor, output: Tensor) -> tuple[int, ...]:
    """Rows, features, hidden units, width and parameters."""
    return *x.shape[:2], start.shape[1], x.shape[2], output.shape[1]


def _contiguous(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Operands as the kernels read them."""
    return tuple(x.contiguous() for x in tensors)


def nade_fields(x: Tensor, weight: Tensor, start: Tensor, output: Tensor) -> Tensor:
    """Fields (n, features, parameters), summed in float32; ask the op's paths first.

    Args:
        x: (n, features, width).
        weight: (features, width, hidden).
        start: (n, hidden).
        output: (features, parameters, hidden).

    Returns:
        Fields in the dtype of ``x``.
    """
    sizes = _sizes(x, start, output)
    rows, features, hidden, _, parameters = sizes
    block_h = min(triton.next_power_of_2(hidden), UNITS)
    tiles = triton.cdiv(hidden, block_h)
    fields = x.new_empty((tiles, rows, features, parameters), dtype=torch.float32)
    with torch.cuda.device_of(x):
        _fields[(triton.cdiv(rows, ROWS), tiles)](
            *_contiguous(x, weight, start, output),
            fields,
            *sizes,
            block_m=ROWS,
            block_h=block_h,
        )
    return fields.sum(0).to(x.dtype)


def nade_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, start: Tensor, output: Tensor, need_x: bool = True
) -> Gradients:
    """Gradients of the four arguments; see :func:`pyro_gen.kernels.nade.cpu.nade_backward`."""
    sizes = _sizes(x, start, output)
    rows, features, hidden, width, parameters = sizes
    tiles = triton.cdiv(hidden, BACK_UNITS)
    groups = min(triton.cdiv(rows, BACK_ROWS), GROUPS)
    dx = x.new_zeros((tiles, *x.shape) if need_x else (1,), dtype=torch.float32)
    dweight = x.new_zeros((groups, features, width, hidden), dtype=torch.float32)
    doutput = x.new_empty((groups, features, parameters, hidden), dtype=torch.float32)
    dstart = x.new_empty((rows, hidden), dtype=torch.float32)
    with torch.cuda.device_of(x):
        _backward[(groups, tiles)](
            gradient.contiguous(),
            *_contiguous(x, weight, start, output),
            dx,
            dweight,
            dstart,
            doutput,
            *sizes,
            triton.cdiv(triton.cdiv(rows, BACK_ROWS), groups),
            need_x=need_x,
            block_m=BACK_ROWS,
            block_h=BACK_UNITS,
        )
    dx_total = dx.sum(0).to(x.dtype) if need_x else x.new_empty(0)
    return (
        dx_total,
        dweight.sum(0).to(weight.dtype),
        dstart.to(start.dtype),
        doutput.sum(0).to(output.dtype),
    )


def nade_sample(
    uniforms: Tensor, weight: Tensor, start: Tensor, output: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Binary rows and their fields; see :func:`pyro_gen.kernels.nade_sample`."""
    features, rows = uniforms.shape
    hidden = start.shape[1]
    x, fields = (uniforms.new_empty(rows, features) for _ in range(2))
    with torch.cuda.device_of(uniforms):
        _sample[(rows,)](
            *_contiguous(uniforms, weight, start, output, bias),
            x,
            fields,
            rows,
            features,
            hidden,
            block_h=triton.next_power_of_2(hidden),
        )
    return x, fields


@triton.jit
def _told(
    a: tl.tensor,
    x: tl.tensor,
    live_rows: tl.tensor,
    weight: tl.tensor,
    live: tl.tensor,
    hidden: tl.tensor,
    width: tl.tensor,
) -> tl.tensor:
    """Activations after one feature has been added."""
    for _e in range(width):
        feature = tl.load(x, mask=live_rows, other=0.0).to(tl.float32)
        w = tl.load(weight, mask=live, other=0.0).to(tl.float32)
        a += feature[:, None] * w[None, :]
        x += 1
        weight += hidden
    return a


@triton.jit(do_not_specialize=["rows", "features", "hidden", "width", "parameters"])
def _fields(
    x: tl.tensor,
    weight: tl.tensor,
    start: tl.tensor,
    output: tl.tensor,
    fields: tl.tensor,
    rows: tl.tensor,
    features: tl.tensor,
    hidden: tl.tensor,
    width: tl.tensor,
    parameters: tl.tensor,
    block_m: tl.constexpr,
    block_h: tl.constexpr,
) -> None:
    """All fields of some rows from some hidden units."""
    row = tl.program_id(0).to(tl.int64) * block_m + tl.arange(0, block_m)
    unit = tl.program_id(1) * block_h + tl.arange(0, block_h)
    live_rows = row < rows
    live = unit < hidden
    a = tl.load(
        start + row[:, None] * hidden + unit[None, :],
        mask=live_rows[:, None] & live[None, :],
        other=0.0,
    )
    a = a.to(tl.float32)
    own_x = x + row * features * width
    own_weight = weight + unit
    own_output = output + unit
    own_fields = fields + (tl.program_id(1).to(tl.int64) * rows + row) * features * parameters
    for _k in range(features):
        h = blocks.sigmoid(a)
        for _p in range(parameters):
            v = tl.load(own_output, mask=live, other=0.0).to(tl.float32)
            tl.store(own_fields, tl.sum(h * v[None, :], 1), mask=live_rows)
            own_output += hidden
            own_fields += 1
        a = _told(a, own_x, live_rows, own_weight, live, hidden, width)
        own_x += width
        own_weight += width * hidden


@triton.jit(do_not_specialize=["rows", "features", "hidden", "width", "parameters", "tiles"])
def _backward(
    gradient: tl.tensor,
    x: tl.tensor,
    weight: tl.tensor,
    start: tl.tensor,
    output: tl.tensor,
    dx: tl.tensor,
    dweight: tl.tensor,
    dstart: tl.tensor,
    doutput: tl.tensor,
    rows: tl.tensor,
    features: tl.tensor,
    hidden: tl.tensor,
    width: tl.tensor,
    parameters: tl.tensor,
    tiles: tl.tensor,
    need_x: tl.constexpr,
    block_m: tl.constexpr,
    block_h: tl.constexpr,
) -> None:
    """Gradients of some hidden units' weights over a group of rows, tile after
    tile, and of these rows' activations.
    """
    group = tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * block_h + tl.arange(0, block_h)
    live = unit < hidden
    own_dx = dx + tl.program_id(1).to(tl.int64) * rows * features * width
    for t in range(tiles):
        row = (group * tiles + t) * block_m + tl.arange(0, block_m)
        live_rows = row < rows
        inside = live_rows[:, None] & live[None, :]
        a = tl.load(start + row[:, None] * hidden + unit[None, :], mask=inside, other=0.0).to(
            tl.float32
        )
        x_k = x + row * features * width
        weight_k = weight + unit
        for _k in range(features - 1):
            a = _told(a, x_k, live_rows, weight_k, live, hidden, width)
            x_k += width
            weight_k += width * hidden
        # From here on everything points behind what it last was at, and steps backwards.
        dx_k = own_dx + row * features * width + (features - 1) * width
        dweight_k = dweight + (group * features + features - 1) * width * hidden + unit
        last = features.to(tl.int64) * parameters
        gradient_k = gradient + (row + 1) * last
        output_k = output + last * hidden + unit
        doutput_k = doutput + (group + 1) * last * hidden + unit
        da = tl.zeros((block_m, block_h), tl.float32)
        for k in range(features):
            h = blocks.sigmoid(a)
            dh = tl.zeros((block_m, block_h), tl.float32)
            for _p in range(parameters):
                gradient_k -= 1
                output_k -= hidden
                doutput_k -= hidden
                g = tl.load(gradient_k, mask=live_rows, other=0.0).to(tl.float32)
                dh += g[:, None] * tl.load(output_k, mask=live, other=0.0).to(tl.float32)[None, :]
                before = tl.load(doutput_k, mask=live & (t > 0), other=0.0)
                tl.store(doutput_k, before + tl.sum(g[:, None] * h, 0), mask=live)
            da += dh * h * (1 - h)
            if k + 1 < features:
                x_k -= width
                weight_k -= width * hidden
                dx_k -= width
                dweight_k -= width * hidden
                for e in range(width):
                    feature = tl.load(x_k + e, mask=live_rows, other=0.0).to(tl.float32)
                    w = tl.load(weight_k + e * hidden, mask=live, other=0.0).to(tl.float32)
                    before = tl.load(dweight_k + e * hidden, mask=live & (t > 0), other=0.0)
                    tl.store(
                        dweight_k + e * hidden,
                        before + tl.sum(feature[:, None] * da, 0),
                        mask=live,
                    )
                    if need_x:
                        tl.store(dx_k + e, tl.sum(da * w[None, :], 1), mask=live_rows)
                    a -= feature[:, None] * w[None, :]
        tl.store(dstart + row[:, None] * hidden + unit[None, :], da, mask=inside)
        tl.debug_barrier()  # the next tile adds to what this one wrote


@triton.jit(do_not_specialize=["rows", "features", "hidden"])
def _sample(
    uniforms: tl.tensor,
    weight: tl.tensor,
    start: tl.tensor,
    output: tl.tensor,
    bias: tl.tensor,
    x: tl.tensor,
    fields: tl.tensor,
    rows: tl.tensor,
    features: tl.tensor,
    hidden: tl.tensor,
    block_h: tl.constexpr,
) -> None:
    """One row, feature after feature."""
    row = tl.program_id(0).to(tl.int64)
    unit = tl.arange(0, block_h)
    live = unit < hidden
    a = tl.load(start + row * hidden + unit, mask=live, other=0.0).to(tl.float32)
    own_uniforms = uniforms + row
    offset = row * features
    own_weight = weight + unit
    own_output = output + unit
    for k in range(features):
        v = tl.load(own_output, mask=live, other=0.0).to(tl.float32)
        f = tl.sum(blocks.sigmoid(a) * v, 0) + tl.load(bias + offset + k).to(tl.float32)
        on = (tl.load(own_uniforms).to(tl.float32) < 1 / (1 + tl.exp(-f))).to(tl.float32)
        tl.store(x + offset + k, on)
        tl.store(fields + offset + k, f)
        a += on * tl.load(own_weight, mask=live, other=0.0).to(tl.float32)
        own_uniforms += rows
        own_weight += hidden
        own_output += hidden
