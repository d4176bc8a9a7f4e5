r"""Operands of the Triton kernels: padded states, and weights split into planes
that tensor cores multiply exactly.

States are zeros and ones, so they are exact in every format, and only the
weights need more than one plane:

- ``fp16x2`` (the default for float32): :math:`W = s (W_1 + W_2)`, s a power of
  two, both planes float16 with 11 bits each: relative error at most 2^-22 of a
  weight (2^-39 of the largest for tiny ones). Products are exact, sums float32.
- ``fp16`` (for float16 and bfloat16 parameters): one plane, exact down to 2^-29
  of the largest weight.
- ``int8x2``: :math:`W \approx s (256 W_1 + W_2)`, s = max|W| / 32639, both
  planes int8; sums are exact in int32, so they depend on neither tiles nor
  devices. An exact sampler of a slightly perturbed RBM.
- ``tf32x3``: float32 weights, three tensor-core products each; for states that
  are not zeros and ones.

Every dimension is padded to a multiple of 128 with zeros, and weights are
stored once in each orientation, K-major (as int8 tensor cores want them): the
main loops have no masks and load 128 bits at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import Key
from pyro_gen.kernels.triton import blocks, capability, graphs

PAD = 128
"""Every dimension of an operand is a multiple of this, the largest side of a tile."""

SPLIT = 32
"""Side of the square tiles in which weights are split: twice that spills registers
over int8's exact division.
"""

PROGRAMS = 128
"""A tile shape is taken if it gives at least as many programs: about the
multiprocessors of an A100 or H200.
"""


class Format(NamedTuple):
    """Storage format of operands, and the first of ``TILES`` that spills no
    registers before Hopper.
    """

    storage: str
    planes: int
    dtype: torch.dtype
    block_k: int
    largest_tile: int


FORMATS = {
    "fp16x2": Format("fp16", 2, torch.float16, 64, 0),
    "fp16": Format("fp16", 1, torch.float16, 64, 0),
    "int8x2": Format("int8", 2, torch.int8, 64, 1),
    "tf32x3": Format("fp32", 1, torch.float32, 32, 2),
}


def format_of(weight: Tensor, name: str | None = None) -> Format:
    """The named format, or the one that is exact for the dtype of ``weight``."""
    if name is None:
        name = "fp16x2" if weight.dtype == torch.float32 else "fp16"
    return FORMATS[name]


class Tile(NamedTuple):
    """Sides of a tile, warps and pipeline stages."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


TILES: tuple[Tile, ...] = (
    Tile(128, 128, 8, 3),
    Tile(64, 128, 4, 3),
    Tile(64, 64, 4, 3),
    Tile(32, 64, 4, 4),
    Tile(32, 32, 4, 4),
)
"""From few large to many small tiles."""

HOPPER = 9
"""Major compute capability whose tensor cores read both operands from shared
memory: any format fits any tile.
"""


def fitting(form: Format, device: torch.device, largest: int = 0) -> tuple[Tile, ...]:
    """The tiles that spill no registers on ``device``, from number ``largest`` of ``TILES`` on."""
    hopper = device.type == "cuda" and capability(device)[0] == HOPPER
    return TILES[largest if hopper else max(form.largest_tile, largest) :]


def tile(rows: int, units: int, form: Format, device: torch.device, largest: int = 0) -> Tile:
    """The largest tile that still fills the device, else the smallest.

    ``largest``: the first of ``TILES`` to try.
    """
    for shape in fitting(form, device, largest):
        if triton.cdiv(rows, shape.block_m) * triton.cdiv(units, shape.block_n) >= PROGRAMS:
            return shape
    return TILES[-1]


def grid(rows: int, units: int, shape: Tile) -> tuple[int]:
    """One program a tile."""
    return (triton.cdiv(rows, shape.block_m) * triton.cdiv(units, shape.block_n),)


def padded(size: int, multiple: int = PAD) -> int:
    """The next multiple."""
    return -(-size // multiple) * multiple


def pad(states: Tensor, dtype: torch.dtype) -> Tensor:
    """States with zeros around them, in an operand's dtype."""
    buffer = states.new_zeros((padded(states.shape[0]), padded(states.shape[1])), dtype=dtype)
    buffer[: states.shape[0], : states.shape[1]] = states
    return buffer


def cut(buffer: Tensor, rows: int, units: int, dtype: torch.dtype) -> Tensor:
    """A fresh contiguous tensor without the padding."""
    return torch.empty((rows, units), dtype=dtype, device=buffer.device).copy_(
        buffer[:rows, :units]
    )


class LayerOperands(NamedTuple):
    """One direction of a half step: split weights, unit by unit, and the biases of the
    units that it leads to, from ``depth`` others.
    """

    planes: Tensor
    largest: Tensor
    bias: Tensor
    depth: int
    form: Format

    def tile(self, rows: int, largest: int = 0) -> Tile:
        """The tile that :meth:`launch` takes."""
        return tile(rows, len(self.bias), self.form, self.bias.device, largest)

    def launch(
        self,
        kernel: Any,
        states: Tensor,
        rows: int,
        *arguments: Tensor | int | None,
        largest: int = 0,
        **named: int,
    ) -> None:
        """Launch a kernel that calls :func:`.blocks.fields`, one program a tile.

        Args:
            kernel: takes the arguments of that function except ``arguments``,
                which come after the units.
            states: padded, in the weights' storage format.
            rows: of ``states`` that are of interest.
            arguments: further ones.
            largest: the first of ``TILES`` to try.
            named: further ones by name.
        """
        units = len(self.bias)
        shape = self.tile(rows, largest)
        kernel[grid(rows, units, shape)](
            states,
            self.planes,
            self.largest,
            self.bias,
            rows,
            units,
            *arguments,
            depth=padded(self.depth, self.form.block_k),
            stride=self.planes.shape[2],
            plane_stride=self.planes.shape[1] * self.planes.shape[2],
            storage=self.form.storage,
            planes=self.form.planes,
            block_k=self.form.block_k,
            **shape._asdict(),
            **named,
        )


class Weights(NamedTuple):
    """Split weights in both orientations, unit by unit, and their largest modulus."""

    up: Tensor
    down: Tensor
    largest: Tensor
    form: Format


def weights(weight: Tensor, form: Format) -> Weights:
    """Split, pad and transpose.

    Args:
        weight: (visible, hidden), any strides.
        form: how to store it.

    Returns:
        Planes (planes, hidden, visible) and (planes, visible, hidden), padded.
    """
    visible, hidden = weight.shape
    rows = padded(visible)
    columns = padded(hidden)
    up = torch.empty((form.planes, columns, rows), dtype=form.dtype, device=weight.device)
    down = torch.empty((form.planes, rows, columns), dtype=form.dtype, device=weight.device)
    largest = torch.linalg.vector_norm(weight, torch.inf, dtype=torch.float32)
    _split[(rows // SPLIT, columns // SPLIT)](
        weight,
        largest,
        up,
        down,
        visible,
        hidden,
        *weight.stride(),
        rows,
        columns,
        form.storage,
        form.planes,
        SPLIT,
    )
    return Weights(up, down, largest, form)


def sides(parameters: RBMParameters, form: str | None) -> tuple[LayerOperands, LayerOperands]:
    """The ways from the visible to the hidden units and back, their weights in the
    named format.
    """
    weight, vbias, hbias = parameters
    up, down, largest, split = weights(weight, format_of(weight, form))
    return LayerOperands(up, largest, hbias, len(vbias), split), LayerOperands(
        down, largest, vbias, len(hbias), split
    )


@triton.jit(do_not_specialize=["visible", "hidden"])
def _split(
    weight: tl.tensor,
    largest: tl.tensor,
    up: tl.tensor,
    down: tl.tensor,
    visible: tl.tensor,
    hidden: tl.tensor,
    stride_i: tl.tensor,
    stride_j: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    storage: tl.constexpr,
    planes: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One square tile of the weights into both orientations; zeros outside."""
    i = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)[:, None]
    j = tl.program_id(1).to(tl.int64) * block + tl.arange(0, block)[None, :]
    w = tl.load(
        weight + i * stride_i + j * stride_j, mask=(i < visible) & (j < hidden), other=0.0
    ).to(tl.float32)
    high, low = blocks.split_weights(w, blocks.scale_of(tl.load(largest), storage), storage)
    tl.store(down + i * columns + j, high)
    tl.store(up + tl.trans(j) * rows + tl.trans(i), tl.trans(high))
    if planes == 2:
        size = rows.to(tl.int64) * columns
        tl.store(down + size + i * columns + j, low)
        tl.store(up + size + tl.trans(j) * rows + tl.trans(i), tl.trans(low))


def clock(key: Key, like: Tensor) -> Tensor:
    """Values of a key on the device, so that a captured graph can be replayed."""
    numbers = [(key.seed + 2**63) % 2**64 - 2**63, key.step, key.chain_offset]
    # a graph would keep the address of a copy's source, which is gone when it is replayed
    if graphs.capturing():
        return torch.stack(
            [torch.full((), x, dtype=torch.int64, device=like.device) for x in numbers]
        )
    # A blocking copy would wait for all work on the stream; three numbers are
    # copied before the call returns.
    return torch.tensor(numbers, device="cpu").to(like.device, non_blocking=True)
