"""Free energies of a Bernoulli RBM on CUDA: GEMM, bias, softplus and row sums in one kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.triton import blocks, operands


def rbm_free_energy(v: Tensor, parameters: RBMParameters, form: str = "tf32x3") -> Tensor:
    r"""Forward pass only; ask :func:`pyro_gen.kernels.triton.refusal` first.

    .. math:: F(v) = -v \cdot a - \sum_j \log\bigl(1 + e^{b_j + (vW)_j}\bigr)

    Args:
        v: (chains, visible); with the default format any numbers, with the
            others zeros and ones.
        parameters: with any strides.
        form: a name in :data:`pyro_gen.kernels.triton.operands.FORMATS`.

    Returns:
        Free energies (chains,) in the dtype of ``v``, summed in float32.
    """
    if not len(v):
        return v.new_empty(0)
    with torch.cuda.device_of(v):
        weight, vbias, hbias = parameters
        up, _ = operands.sides(RBMParameters(weight, vbias, hbias.contiguous()), form)
        states = operands.pad(v, up.form.dtype)
        lines = triton.cdiv(len(hbias), up.tile(len(v)).block_n)
        sums = states.new_empty((lines, len(states)), dtype=torch.float32)
        up.launch(_hidden_sums, states, len(v), sums, sums_stride=len(states))
        hidden = sums[:, : len(v)].sum(0)
        return (-torch.mv(v.float(), vbias.float()) - hidden).to(v.dtype)


@triton.jit(do_not_specialize=["num_rows", "units"])
def _hidden_sums(
    states: tl.tensor,
    weight: tl.tensor,
    largest: tl.tensor,
    bias: tl.tensor,
    num_rows: tl.tensor,
    units: tl.tensor,
    sums: tl.tensor,
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
    live = (unit_tile * block_n + tl.arange(0, block_n) < units)[None, :]
    row_sums = tl.sum(tl.where(live, blocks.softplus(z), 0.0), 1)
    tl.store(sums + unit_tile.to(tl.int64) * sums_stride + rows, row_sums)
