"""Parts of the Triton kernels: Philox uniforms, the total input of a tile of
units, the Bernoulli draw.

The functions are compiled for CUDA, or run by Triton's interpreter on CPU
tensors where ``TRITON_INTERPRET=1`` was set before this module was imported.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def uniforms(
    clock: tl.tensor,
    t: tl.tensor,
    stream: tl.tensor,
    rows: tl.tensor,
    quad: tl.tensor,
    quads: tl.constexpr,
) -> tl.tensor:
    """Uniforms of ``rows`` and of the units of ``quads`` quads from number ``quad``
    on: one Philox call a quad.

    The counter is (unit >> 2, global chain, low word of the step, stream | high
    word of the step << 8), the number of a unit is word unit & 3, as in
    :func:`pyro_gen.kernels.random.philox_uniforms`.
    """
    seed = tl.load(clock)
    step = tl.load(clock + 1) + t
    chain = (rows + tl.load(clock + 2)).to(tl.uint32)[:, None]
    unit = (quad + tl.arange(0, quads)).to(tl.uint32)[None, :]
    low = step.to(tl.uint32)
    high = (stream | ((step >> 32) << 8)).to(tl.uint32)
    first = seed.to(tl.uint32)
    second = (seed >> 32).to(tl.uint32)
    zero = tl.zeros((rows.shape[0], quads), tl.uint32)
    w0, w1, w2, w3 = tl.philox_impl(
        unit + zero, chain + zero, low + zero, high + zero, first, second
    )
    words = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), (rows.shape[0], 4 * quads))
    return (words >> 8).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def draw(
    z: tl.tensor,
    clock: tl.tensor,
    t: tl.tensor,
    stream: tl.tensor,
    rows: tl.tensor,
    first: tl.tensor,
    units: tl.tensor,
) -> tl.tensor:
    """States of the units from number ``first`` on: u < sigmoid(z), written as u + u
    exp(-z) < 1; no unit, no state.
    """
    u = uniforms(clock, t, stream, rows, first // 4, z.shape[1] // 4)
    unit = first + tl.arange(0, z.shape[1])
    return (u + u * tl.exp(-z) < 1) & (unit < units)[None, :]


@triton.jit
def biased(z: tl.tensor, bias: tl.tensor, first: tl.tensor, units: tl.tensor) -> tl.tensor:
    """``z`` plus the biases of the units from number ``first`` on."""
    unit = first + tl.arange(0, z.shape[1])
    return z + tl.load(bias + unit, mask=unit < units, other=0.0).to(tl.float32)[None, :]


@triton.jit
def sigmoid(z: tl.tensor) -> tl.tensor:
    """1 / (1 + exp(-z)), to 1e-6 relative."""
    return 1 / (1 + tl.exp(-z))


@triton.jit
def softplus(z: tl.tensor) -> tl.tensor:
    """log(1 + exp(z)), to 1e-7 absolute."""
    return tl.maximum(z, 0.0) + tl.log(1 + tl.exp(-tl.abs(z)))


@triton.jit
def tile(
    num_rows: tl.tensor, units: tl.tensor, block_m: tl.constexpr, block_n: tl.constexpr
) -> tl.tensor:
    """Tile of this program: (row tile, unit tile), eight row tiles together to keep
    weights in the cache.
    """
    pid = tl.program_id(0)
    tiles_m = tl.cdiv(num_rows, block_m)
    tiles_n = tl.cdiv(units, block_n)
    band = pid // (8 * tiles_n)
    height = min(tiles_m - 8 * band, 8)
    inside = pid % (8 * tiles_n)
    return 8 * band + inside % height, inside // height


@triton.jit
def scale_of(largest: tl.tensor, storage: tl.constexpr) -> tl.tensor:
    """Unit of stored weights, from the largest modulus of a weight; see :mod:`.operands`."""
    if storage == "int8":
        scale = tl.where(largest == 0, 1.0, tl.div_rn(largest, 32639.0))
    elif storage == "fp16":
        # A power of two that brings the largest weight to [2^14, 2^15):
        # products and quotients with it are exact.
        exponent = tl.maximum(largest.to(tl.uint32, bitcast=True) >> 23, 15)
        scale = ((exponent - 14) << 23).to(tl.float32, bitcast=True)
    else:
        scale = tl.full((), 1.0, tl.float32)
    return scale


@triton.jit
def split_weights(weight: tl.tensor, scale: tl.tensor, storage: tl.constexpr) -> tl.tensor:
    """Planes (high, low) of float32 weights in their storage format; see :mod:`.operands`."""
    if storage == "int8":
        # Adding and taking away 1.5 * 2^23 rounds half to even.
        rounded = (tl.div_rn(weight, tl.zeros_like(weight) + scale) + 12582912.0) - 12582912.0
        integer = rounded.to(tl.int32)
        upper = (integer + 128) >> 8
        lower = tl.minimum(tl.maximum(integer - 256 * upper, -127), 127)
        high = upper.to(tl.int8)
        low = lower.to(tl.int8)
    elif storage == "fp16":
        inverse = (0x7F000000 - scale.to(tl.uint32, bitcast=True)).to(tl.float32, bitcast=True)
        integer = weight * inverse
        high = integer.to(tl.float16)
        low = (integer - high.to(tl.float32)).to(tl.float16)
    else:
        high = weight
        low = weight * 0
    return high, low


@triton.jit
def total(
    states: tl.tensor,
    weight: tl.tensor,
    scale: tl.tensor,
    first_row: tl.tensor,
    first_unit: tl.tensor,
    depth: tl.tensor,
    stride: tl.tensor,
    plane_stride: tl.tensor,
    storage: tl.constexpr,
    planes: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> tl.tensor:
    """``states @ weight`` for one tile, in float32: (block_m rows, block_n units);
    weight is stored unit by unit.

    All sizes are padded, so no load is masked; both operands have rows of
    ``stride`` elements. Planes are summed in the order high, low; int8 planes
    in int32.
    """
    k = tl.arange(0, block_k)
    x = (
        states
        + first_row.to(tl.int64) * stride
        + tl.arange(0, block_m)[:, None] * stride
        + k[None, :]
    )
    w = (
        weight
        + first_unit.to(tl.int64) * stride
        + tl.arange(0, block_n)[:, None] * stride
        + k[None, :]
    )
    if storage == "int8":
        high = tl.zeros((block_m, block_n), tl.int32)
        low = tl.zeros((block_m, block_n), tl.int32)
        for start in range(0, depth, block_k):
            block = tl.load(x + start)
            high = tl.dot(block, tl.trans(tl.load(w + start)), high, out_dtype=tl.int32)
            low = tl.dot(
                block, tl.trans(tl.load(w + plane_stride + start)), low, out_dtype=tl.int32
            )
        result = (256 * high + low).to(tl.float32)
    else:
        result = tl.zeros((block_m, block_n), tl.float32)
        for start in range(0, depth, block_k):
            block = tl.load(x + start)
            result = tl.dot(block, tl.trans(tl.load(w + start)), result, input_precision="tf32x3")
            if planes == 2:
                result = tl.dot(block, tl.trans(tl.load(w + plane_stride + start)), result)
    return result * scale


@triton.jit
def fields(
    states: tl.tensor,
    weight: tl.tensor,
    largest: tl.tensor,
    bias: tl.tensor,
    num_rows: tl.tensor,
    units: tl.tensor,
    depth: tl.tensor,
    stride: tl.tensor,
    plane_stride: tl.tensor,
    storage: tl.constexpr,
    planes: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> tl.tensor:
    """Total inputs of this program's tile with their biases, its rows, and the number
    of its tile of units.
    """
    row_tile, unit_tile = tile(num_rows, units, block_m, block_n)
    first_row = row_tile * block_m
    first = unit_tile * block_n
    scale = scale_of(tl.load(largest), storage)
    z = total(
        states,
        weight,
        scale,
        first_row,
        first,
        depth,
        stride,
        plane_stride,
        storage,
        planes,
        block_m,
        block_n,
        block_k,
    )
    return biased(z, bias, first, units), first_row + tl.arange(0, block_m), unit_tile
