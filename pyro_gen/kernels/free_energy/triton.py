"""Free energies of a Bernoulli RBM on CUDA: GEMM, bias, softplus and row sums in one kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyro_gen.kernels.triton import blocks, operands


def rbm_free_energy(
    v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, form: str = "tf32x3"
) -> Tensor:
    r"""Forward pass only; ask :func:`pyro_gen.kernels.triton.refusal` first.

    .. math:: F(v) = -v \cdot a - \sum_j \log\bigl(1 + e^{b_j + (vW)_j}\bigr)

    Args:
        v: (chains, visible); with the default format any numbers, with the
            others zeros and ones.
        weight: (visible, hidden), any strides.
        vbias: (visible,).
        hbias: (hidden,).
        form: a name in :data:`pyro_gen.kernels.triton.operands.FORMATS`.

    Returns:
        Free energies (chains,) in the dtype of ``v``, summed in float32.
    """
    if not len(v):
        return v.new_empty(0)
    with torch.cuda.device_of(v):
        split = operands.weights(weight, operands.FORMATS[form])
        states = operands.pad(v, split.form.dtype)
        hidden = hidden_sums(states, split, hbias.contiguous(), len(v), v.shape[1])
        return (-torch.mv(v.float(), vbias.float()) - hidden).to(v.dtype)


def hidden_sums(
    states: Tensor, split: operands.Weights, hbias: Tensor, rows: int, depth: int
) -> Tensor:
    """Softplus of the hidden units' total input, summed: float32 (rows,), from
    padded states of ``depth`` units.
    """
    units = len(hbias)
    shape = operands.tile(rows, units, split.form, states.device)
    sums = torch.empty(
        (triton.cdiv(units, shape.block_n), len(states)), dtype=torch.float32, device=states.device
    )
    _hidden_sums[operands.grid(rows, units, shape)](
        states,
        split.up,
        split.largest,
        hbias,
        sums,
        rows,
        units,
        sums_stride=len(states),
        **operands.product(split.up, depth, split.form, shape),
    )
    return sums[:, :rows].sum(0)


@triton.jit(do_not_specialize=["num_rows", "units"])
def _hidden_sums(
    states: tl.tensor,
    weight: tl.tensor,
    largest: tl.tensor,
    bias: tl.tensor,
    sums: tl.tensor,
    num_rows: tl.tensor,
    units: tl.tensor,
    depth: tl.tensor,
    stride: tl.tensor,
    plane_stride: tl.tensor,
    sums_stride: tl.tensor,
    storage: tl.constexpr,
    planes: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """One tile's row sums into the line of its unit tile."""
    row_tile, unit_tile = blocks.tile(num_rows, units, block_m, block_n)
    first_row = row_tile * block_m
    first = unit_tile * block_n
    scale = blocks.scale_of(tl.load(largest), storage)
    z = blocks.total(
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
    z = blocks.biased(z, bias, first, units)
    live = (first + tl.arange(0, block_n) < units)[None, :]
    row_sums = tl.sum(tl.where(live, blocks.softplus(z), 0.0), 1)
    tl.store(
        sums + unit_tile.to(tl.int64) * sums_stride + first_row + tl.arange(0, block_m), row_sums
    )
