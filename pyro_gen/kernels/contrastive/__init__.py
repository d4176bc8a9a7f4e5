"""The op ``pyro_gen::rbm_contrast``: the whole contrastive gradient of an RBM,
chains and statistics, in one call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_gen.kernels import backend
from pyro_gen.kernels.checks import check_chain_numbers, check_parameters, check_units
from pyro_gen.kernels.contrastive import cpu, native, reference
from pyro_gen.kernels.gibbs import cpu as gibbs_cpu
from pyro_gen.kernels.native import impossible, slower
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import Key, source
from pyro_gen.kernels.registry import register, slices, stack_slices, without_autocast
from pyro_gen.kernels.triton import refusal as refused_by_triton

__all__ = ["Gradients", "contrast", "rbm_contrast"]

contrast = reference.contrast

Statistics = tuple[Tensor, Tensor, Tensor]
"""Gradients of weight, visible and hidden biases."""

Gradients = tuple[Tensor, Tensor, Tensor, Tensor]
"""Gradients of weight, visible and hidden biases, and the particles that they were taken at."""

PATHS = (
    backend.Path("native", impossible, slower),
    backend.Path("triton", refused_by_triton),
    backend.Path("cpu", gibbs_cpu.impossible),
)


def rbm_contrast(
    batch: Tensor,
    start: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    num_steps: int,
    *,
    seed: int,
    step: int = 0,
    chain_offset: int = 0,
) -> Gradients:
    r"""Gradient of mean F over ``batch`` minus mean F over particles, ``num_steps``
    sweeps after ``start``.

    .. math:: \nabla_W = \sum_r s_r\, x_r\, \sigma(b + x_r W)^\top, \quad
              s = (-1/n, \dots, -1/n, 1/m, \dots, 1/m), \quad x = (\text{batch}, \text{particles})

    Args:
        batch: rows of data in {0, 1}, (n, visible).
        start: where the particles start, (m, visible): the batch for CD, chains
            for PCD.
        weight: (visible, hidden).
        vbias: (visible,).
        hbias: (hidden,).
        num_steps: sweeps, at least 1.
        seed: 64-bit key.
        step: index of the first sweep.
        chain_offset: global index of the first particle.

    Returns:
        Gradients of the three parameters and the particles, all without
        gradient.

    Raises:
        ValueError: ``num_steps`` is below 1, a size, dtype or device does not
            fit, there is no row, a fast path finds other states than 0 and 1,
            or ``PYRO_GEN_BACKEND`` cannot be obeyed.

    References:
        Fischer and Igel (2014), equation 28 and Algorithm 1.

    Example:
        >>> zero = torch.zeros(3, 2), torch.zeros(3), torch.zeros(2)
        >>> gradients = rbm_contrast(torch.ones(4, 3), torch.ones(4, 3), *zero, 1, seed=0)
        >>> [tuple(x.shape) for x in gradients]
        [(3, 2), (3,), (2,), (4, 3)]
    """
    if torch.is_grad_enabled():
        batch, start, weight, vbias, hbias = (
            x.detach() for x in (batch, start, weight, vbias, hbias)
        )
    gradients: Gradients = _op(
        batch, start, weight, vbias, hbias, num_steps, seed, step, chain_offset
    )
    return gradients


@without_autocast
def gradients(
    batch: Tensor,
    start: Tensor,
    weight: Tensor,
    vbias: Tensor,
    hbias: Tensor,
    num_steps: int,
    seed: int,
    step: int,
    chain_offset: int,
) -> Gradients:
    """:func:`rbm_contrast` without the dispatcher, for eager callers under
    ``no_grad`` that count microseconds.
    """
    if num_steps < 1:
        raise ValueError(f"`num_steps` must be at least 1, got {num_steps}")
    parameters = RBMParameters(weight, vbias, hbias)
    key = Key(seed, step, chain_offset)
    _check_contrast(batch, start, parameters)
    check_chain_numbers(chain_offset, len(start))
    path = backend.choose("rbm_contrast", PATHS, start, weight)
    if path == "native":
        return native.rbm_contrast(batch, start, parameters, num_steps, key)
    if path == "triton":
        from pyro_gen.kernels.contrastive import triton as cuda

        return cuda.rbm_contrast(batch, start, parameters, num_steps, key)
    if path == "cpu":
        uniforms = source(seed, len(start), chain_offset, start, fast=True)
        return cpu.rbm_contrast(batch, start, parameters, num_steps, uniforms, step)
    return reference.rbm_contrast(batch, start, parameters, num_steps, key)


def checks_states(states: Tensor, weight: Tensor) -> bool:
    """True if :func:`gradients` raises by itself, before anything changes, for
    states other than 0 and 1.

    Args:
        states: rows of the call.
        weight: weights of the call.
    """
    return backend.choose("rbm_contrast", PATHS, states, weight) == "native"


@without_autocast
def statistics(
    batch: Tensor, particles: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor
) -> Statistics:
    """The gradients for particles that somebody else has run, for eager callers
    under ``no_grad``.
    """
    parameters = RBMParameters(weight, vbias, hbias)
    _check_contrast(batch, particles, parameters)
    path = backend.choose("rbm_contrast", PATHS, particles, weight)
    if path == "native":
        return native.rbm_contrast(batch, particles, parameters, 0, Key(0))[:3]
    if path == "triton":
        from pyro_gen.kernels.contrastive import triton as cuda

        return cuda.rbm_contrast(batch, particles, parameters, 0, Key(0))[:3]
    torch_path = cpu if path == "cpu" else reference
    return torch_path.statistics(batch, particles, parameters)


def _check_contrast(batch: Tensor, start: Tensor, parameters: RBMParameters) -> None:
    weight, vbias, hbias = parameters
    if weight.dim() != 2 or vbias.dim() != 1 or hbias.dim() != 1:
        raise ValueError(
            "`weight` must have shape (visible, hidden) and biases one dimension, got "
            f"{weight.dim()}"
        )
    check_parameters(parameters)
    for name, rows in (("batch", batch), ("start", start)):
        if rows.dim() != 2 or not rows.shape[0]:
            raise ValueError(
                f"`{name}` must have shape (rows, visible) with at least one row, got "
                f"{tuple(rows.shape)}"
            )
        check_units(name, rows, weight, weight.shape[0])


def _fake_contrast(
    batch: Tensor, start: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor, *_: object
) -> Gradients:
    shapes = weight.shape, vbias.shape, hbias.shape, start.shape
    weight, vbias, hbias, particles = (weight.new_empty(shape) for shape in shapes)
    return weight, vbias, hbias, particles


def _vmap_contrast(
    info: Any, in_dims: tuple[int | None, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """One slice after the other, each with particles of its own numbers."""
    *options, chain_offset = arguments[5:]
    results = []
    for k, tensors in enumerate(slices(info, in_dims[:5], arguments[:5])):
        particles = len(tensors[1])
        results.append(_op(*tensors, *options, chain_offset + k * particles))
    return stack_slices(results)


_op = register(
    "rbm_contrast(Tensor batch, Tensor start, Tensor weight, Tensor vbias, Tensor hbias, "
    "int num_steps, SymInt seed, SymInt step, SymInt chain_offset) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    gradients,
    _fake_contrast,
    _vmap_contrast,
)
