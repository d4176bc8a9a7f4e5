"""Checks of the parameters of a Boltzmann machine, by name."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen._transforms import batched
from pyro_gen.distributions.energy.coupling_graph import CouplingGraph


def check_parameters(coupling: Tensor, bias: Tensor, graph: CouplingGraph | None) -> None:
    """Name the parameter whose shape, device or dtype does not fit."""
    if coupling.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"`coupling` must be float32 or float64, got {coupling.dtype}")
    if (bias.device, bias.dtype) != (coupling.device, coupling.dtype):
        expected = f"{coupling.dtype} on {coupling.device} like `coupling`"
        raise ValueError(f"`bias` must be {expected}, got {bias.dtype} on {bias.device}")
    if not bias.dim() or not bias.shape[-1]:
        raise ValueError(
            f"`bias` must have shape (..., n) with n positive, got {tuple(bias.shape)}"
        )
    size = bias.shape[-1]
    if graph is not None and graph.num_units != size:
        raise ValueError(
            f"`bias` must have shape (..., {graph.num_units}) to match `graph`, got "
            f"{tuple(bias.shape)}"
        )
    expected_shape = (size, size) if graph is None else (graph.num_edges,)
    if tuple(coupling.shape[-len(expected_shape) :]) != expected_shape:
        other = "`bias`" if graph is None else "`graph`"
        form = ", ".join(map(str, expected_shape))
        raise ValueError(
            f"`coupling` must have shape (..., {form}) to match {other}, got "
            f"{tuple(coupling.shape)}"
        )
    batches = [tuple(coupling.shape[: -len(expected_shape)]), tuple(bias.shape[:-1])]
    try:
        torch.broadcast_shapes(*batches)
    except RuntimeError as error:
        raise ValueError(
            f"the batch shapes of `coupling` and `bias` must broadcast, got {batches}"
        ) from error


def check_matrix(coupling: Tensor) -> None:
    """Raise unless a matrix of couplings is symmetric with zero diagonal."""
    if coupling.is_meta or batched([coupling]):
        return
    if coupling.diagonal(dim1=-2, dim2=-1).any():
        raise ValueError(
            "`coupling` must have a zero diagonal, got other entries there: x_i x_i is no pair, "
            "it belongs into `bias` "
            "with zeros and ones and is a constant with spins"
        )
    if not torch.allclose(coupling, coupling.mT):
        raise ValueError(
            "`coupling` must be symmetric, got a matrix that is not: with one number for each "
            "pair above the diagonal "
            "give `coupling + coupling.mT`, which the energy -x J x / 2 counts once"
        )


def check_finite(**parameters: Tensor) -> None:
    """Raise, naming the parameter, where one holds NaN or infinite numbers: chains
    would not notice.
    """
    for name, x in parameters.items():
        if not x.is_meta and not batched([x]) and not x.isfinite().all():
            raise ValueError(f"`{name}` must be finite, got NaN or infinite entries")


__all__ = ["check_finite", "check_matrix", "check_parameters"]
