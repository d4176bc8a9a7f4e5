"""Annealed importance sampling on CUDA: two kernels a temperature, weights in
float64, no wait for the device.

The kernels of the half steps add to the log weights what they have at hand: one
line of float64 sums for each tile of units, so that no atomic addition makes
results depend on the order of programs.
"""

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import Key
from pyro_gen.kernels.triton import blocks, graphs, operands

CHUNK = 128
"""Temperatures of one CUDA graph."""

LARGEST_TILE = 2
"""The first of ``operands.TILES`` whose epilogue needs no more registers than there are."""


def rbm_ais(
    v: Tensor,
    parameters: RBMParameters,
    base: Tensor,
    betas: Tensor,
    key: Key,
    form: str | None = None,
    graph: bool = True,
) -> tuple[Tensor, Tensor]:
    """The reference's path with Philox uniforms.

    Ask :func:`pyro_gen.kernels.triton.refusal` first.

    Args:
        v: starting states, zeros and ones, (chains, visible).
        parameters: with any strides.
        base: logits of the base distribution, (visible,).
        betas: inverse temperatures, one dimension, at least two.
        key: of the random numbers, at step 0.
        form: a name in :data:`pyro_gen.kernels.triton.operands.FORMATS`; None
            for the one exact for the weights' dtype.
        graph: whether runs of ``CHUNK`` temperatures are CUDA graphs.

    Returns:
        Log weights in float64 (chains,) and the last states.
    """
    schedule = betas.to(v.device, torch.float64).contiguous()
    if not len(v) or len(schedule) < 2:
        return schedule.new_zeros(len(v)), v.clone()
    with torch.cuda.device_of(v):
        clock = operands.clock(key, v)
        return _path(v, (*parameters, base), schedule, clock, form, graph)


def _path(
    v: Tensor,
    parameters: tuple[Tensor, ...],
    schedule: Tensor,
    clock: Tensor,
    form: str | None,
    graph: bool,
) -> tuple[Tensor, Tensor]:
    """Chunk after chunk; the clock counts temperatures on the device."""
    weight, vbias, hbias, base = (x.contiguous() for x in parameters)
    log_weight = (v * (vbias - base).to(v.dtype)).sum(-1, dtype=torch.float64) * (
        schedule[1] - schedule[0]
    )
    left = len(schedule) - 1
    while left:
        now = min(left, CHUNK)
        run = partial(anneal, transitions=now, form=form)
        tensors = (v, log_weight, weight, vbias, hbias, base, schedule, clock)
        v, log_weight = graphs.call(run, ("rbm_ais", now, form), tensors, graph)
        clock[1] += now
        left -= now
    return log_weight, v


def anneal(
    v: Tensor,
    log_weight: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    base: Tensor,
    schedule: Tensor,
    clock: Tensor,
    *,
    transitions: int,
    form: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Transitions from temperature number ``clock[1]`` on, as launches on the
    current stream, two each.
    """
    rows = len(v)
    up, down = operands.sides(RBMParameters(weight, vbias, hbias), form)
    visible = operands.pad(v, up.form.dtype)
    hidden = visible.new_zeros((len(visible), operands.padded(len(hbias))))
    upwards, downwards = (_sums(visible, rows, side) for side in (up, down))
    for t in range(transitions):
        for side, states, out, sums in (
            (up, visible, hidden, upwards),
            (down, hidden, visible, downwards),
        ):
            side.launch(
                _annealed_half_step,
                states,
                rows,
                base,
                schedule,
                clock,
                out,
                sums,
                t,
                len(schedule),
                largest=LARGEST_TILE,
                out_stride=out.stride(0),
                sums_stride=sums.stride(0),
                upwards=side is up,
            )
    gained = upwards[:, :rows].sum(0) + downwards[:, :rows].sum(0)
    return operands.cut(visible, rows, v.shape[1], v.dtype), log_weight + gained


def _sums(states: Tensor, rows: int, side: operands.LayerOperands) -> Tensor:
    """A line of float64 zeros for each tile of units."""
    lines = triton.cdiv(len(side.bias), side.tile(rows, LARGEST_TILE).block_n)
    return states.new_zeros((lines, len(states)), dtype=torch.float64)


@triton.jit
def _growth(z: tl.tensor, beta: tl.tensor, following: tl.tensor) -> tl.tensor:
    """softplus(following z) - softplus(beta z): by its series where the difference
    would cancel.
    """
    d = ((following - beta).to(tl.float32)) * z
    s = blocks.sigmoid(beta.to(tl.float32) * z)
    series = d * s * (1 + d * (1 - s) * (0.5 + d * (1 - 2 * s) / 6))
    difference = blocks.softplus(following.to(tl.float32) * z) - blocks.softplus(
        beta.to(tl.float32) * z
    )
    return tl.where(tl.abs(d) < 0.03, series, difference)


@triton.jit(do_not_specialize=["t", "temperatures", "num_rows", "units"])
def _annealed_half_step(
    states: tl.tensor,
    weight: tl.tensor,
    largest: tl.tensor,
    bias: tl.tensor,
    num_rows: tl.tensor,
    units: tl.tensor,
    base: tl.tensor,
    schedule: tl.tensor,
    clock: tl.tensor,
    out: tl.tensor,
    sums: tl.tensor,
    t: tl.tensor,
    temperatures: tl.tensor,
    depth: tl.tensor,
    stride: tl.tensor,
    plane_stride: tl.tensor,
    out_stride: tl.tensor,
    sums_stride: tl.tensor,
    upwards: tl.constexpr,
    storage: tl.constexpr,
    planes: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """One tile: total input, its part of the log weights, the draw.

    Upwards the hidden units add softplus(beta' z) - softplus(beta z). Downwards
    the new visible states add what they will weigh at the next temperature,
    (beta'' - beta') v . (a - c).
    """
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
    number = tl.load(clock + 1) + t
    following = tl.load(schedule + number + 1)
    if upwards:
        beta = tl.load(schedule + number)
        growth = tl.sum(tl.where((unit < units)[None, :], _growth(z, beta, following), 0.0), 1)
        gain = growth.to(tl.float64)
        is_on = blocks.draw(following.to(tl.float32) * z, clock, t, 0, rows, first, units)
    else:
        logits = tl.load(base + unit, mask=unit < units, other=0.0).to(tl.float32)
        offset = tl.load(bias + unit, mask=unit < units, other=0.0).to(tl.float32) - logits
        field = logits[None, :] + following.to(tl.float32) * (z - logits[None, :])
        is_on = blocks.draw(field, clock, t, 1, rows, first, units)
        later = tl.load(schedule + number + 2, mask=number + 2 < temperatures, other=following)
        gain = (later - following) * tl.sum(tl.where(is_on, offset[None, :], 0.0), 1).to(
            tl.float64
        )
    line = sums + unit_tile.to(tl.int64) * sums_stride + rows
    tl.store(line, tl.load(line) + gain)
    is_on = is_on & (rows < num_rows)[:, None]
    tl.store(
        out + rows.to(tl.int64)[:, None] * out_stride + unit[None, :],
        is_on.to(out.dtype.element_ty),
    )
