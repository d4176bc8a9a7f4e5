"""Removal of label switching: permutations of components for every draw, and their application.

Components of a mixture have no order, so every draw of a sampler may number them
differently, and means over draws are meaningless. The functions here take arrays or
tensors whose leading dimensions are the draws, [chain, draw] for instance, and return
arrays for arrays and tensors for tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from pyro_gen._arguments import whole_number

Array = TypeVar("Array", Tensor, np.ndarray)


def order_components(key: Array) -> Array:
    """Permutations that put components in the order of a key.

    Args:
        key: a number for each component of each draw, (..., components), such as a
            mean's first coordinate.

    Returns:
        Permutations, (..., components), int64: component j becomes what was component
        ``permutations[..., j]``.

    Raises:
        ValueError: ``key`` has no components, or NaN.

    Example:
        >>> order_components(torch.tensor([[2.0, 0.0, 1.0]]))
        tensor([[1, 2, 0]])
    """
    values = _checked_draws("key", key, 1)
    return _like(key, values.argsort(dim=-1, stable=True))


def relabel_iteratively(
    assignments: Array,
    components: int,
    start: Array | None = None,
    num_steps: int = 100,
) -> Array:
    """Equivalence classes representatives (ECR), iterated until nothing changes.

    Each round permutes every draw so that its assignments agree best with the most
    frequent component of each row.

    Args:
        assignments: components of the rows, (..., rows), integers.
        components: their number.
        start: permutations to start from, (..., components); None for none.
        num_steps: rounds at most.

    Returns:
        Permutations, (..., components), int64.

    Raises:
        ValueError: an assignment is out of range, or ``start`` has another shape.

    References:
        Papastamoulis (2016), label.switching: an R package for dealing with the label
        switching problem in MCMC outputs, Journal of Statistical Software 69, algorithm
        ECR-ITERATIVE-1.

    Example:
        >>> relabel_iteratively(torch.tensor([[0, 0, 1], [1, 1, 0], [0, 0, 1]]), 2)
        tensor([[0, 1],
                [1, 0],
                [0, 1]])
    """
    components = whole_number("components", components)
    num_steps = whole_number("num_steps", num_steps, 0)
    z = _assignments(assignments, components)
    flat = z.reshape(-1, z.shape[-1])
    permutations = _start_permutations(start, z.shape[:-1], components)
    for _ in range(num_steps):
        relabelled = _renumber(flat, permutations)
        votes = [(relabelled == k).sum(0) for k in range(components)]
        pivot = torch.stack(votes, -1).argmax(-1)
        improved = _best_agreement(flat, pivot, components)
        if torch.equal(improved, permutations):
            break
        permutations = improved
    return _like(assignments, permutations.view(*z.shape[:-1], components))


def relabel_by_probabilities(
    responsibilities: Array, start: Array | None = None, num_steps: int = 100
) -> Array:
    r"""Permutations that bring the draws' classification probabilities close to their mean.

    They minimise the Kullback-Leibler divergence


    .. math:: \min_{\tau, q} \sum_t \sum_i \sum_j
              p^{(t)}_{i \tau_t(j)} \log \frac{p^{(t)}_{i \tau_t(j)}}{q_{ij}}

    Args:
        responsibilities: p(z = k | x_i) of each row under each draw, (..., rows,
            components).
        start: permutations to start from, (..., components); None for none.
        num_steps: rounds at most.

    Returns:
        Permutations, (..., components), int64.

    Raises:
        ValueError: the probabilities are negative or do not sum to one, or ``start``
            has another shape.

    References:
        Stephens (2000), Dealing with label switching in mixture models, Journal of the
        Royal Statistical Society B 62, algorithm 2.

    Example:
        >>> p = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.1, 0.9], [0.7, 0.3]]])
        >>> relabel_by_probabilities(p)
        tensor([[0, 1],
                [1, 0]])
    """
    num_steps = whole_number("num_steps", num_steps, 0)
    p = _checked_draws("responsibilities", responsibilities, 2).double()
    sums_to_one = torch.allclose(p.sum(-1), p.new_ones(()), atol=1e-3)
    if not (p >= 0).all() or not sums_to_one:
        raise ValueError(
            "`responsibilities` must be probabilities, (..., rows, components), that sum to one"
        )
    batch = p.shape[:-2]
    components = p.shape[-1]
    flat = p.reshape(-1, *p.shape[-2:])
    permutations = _start_permutations(start, batch, components)
    tiny = torch.finfo(flat.dtype).tiny
    negative_entropy = torch.xlogy(flat, flat.clamp_min(tiny)).sum(1)
    for _ in range(num_steps):
        relabelled = flat.gather(-1, permutations.unsqueeze(1).expand_as(flat))
        log_q = relabelled.mean(0).clamp_min(tiny).log()
        cross_entropy = torch.einsum("tia,ij->taj", flat, log_q)
        improved = _assign(negative_entropy.unsqueeze(-1) - cross_entropy)
        if torch.equal(improved, permutations):
            break
        permutations = improved
    return _like(responsibilities, permutations.view(*batch, components))


def permute_components(values: Array, permutations: Array, axis: int | None = None) -> Array:
    """Put the components of draws in the order that permutations say.

    Args:
        values: draws of a site, (...) + its shape, with the leading dimensions of the
            permutations.
        permutations: (..., components).
        axis: the site's dimension of components, counted from the first dimension of
            ``values``; None for the first one after the draws.

    Returns:
        Shape of ``values``; component j is what was component ``permutations[..., j]``.

    Raises:
        ValueError: shapes do not fit.

    Example:
        >>> permute_components(torch.tensor([[10.0, 20.0]]), torch.tensor([[1, 0]]))
        tensor([[20., 10.]])
    """
    x = torch.as_tensor(values)
    order = _permutations(permutations)
    batch = order.dim() - 1
    place = batch if axis is None else axis % x.dim()
    if (
        x.shape[:batch] != order.shape[:-1]
        or place < batch
        or x.dim() <= place
        or x.shape[place] != order.shape[-1]
    ):
        raise ValueError(
            f"`values` must have shape {tuple(order.shape[:-1])} + "
            f"(..., {order.shape[-1]}, ...) with the components "
            f"at `axis` {place}, got {tuple(x.shape)}"
        )
    shape = [1] * x.dim()
    shape[:batch] = order.shape[:-1]
    shape[place] = order.shape[-1]
    index = order.to(x.device).view(shape).expand(x.shape)
    return _like(values, x.gather(place, index))


def permute_assignments(assignments: Array, permutations: Array) -> Array:
    """Renumber the components that rows are assigned to.

    Args:
        assignments: components of the rows, (..., rows), integers.
        permutations: (..., components).

    Returns:
        Shape of ``assignments``; what was component ``permutations[..., j]`` is j.

    Raises:
        ValueError: shapes do not fit, or an assignment is out of range.

    Example:
        >>> permute_assignments(torch.tensor([[0, 0, 1]]), torch.tensor([[1, 0]]))
        tensor([[1, 1, 0]])
    """
    order = _permutations(permutations)
    z = _assignments(assignments, order.shape[-1])
    if z.shape[:-1] != order.shape[:-1]:
        raise ValueError(
            f"`assignments` must have shape {tuple(order.shape[:-1])} "
            f"+ (rows,), got {tuple(z.shape)}"
        )
    return _like(assignments, _renumber(z, order))


def permute_draws(
    draws: Mapping[str, Array],
    permutations: Array,
    axes: Mapping[str, int | None],
) -> dict[str, Array]:
    """Put the components of several sites in the order that permutations say.

    Other sites are left alone.

    Args:
        draws: by site, (...) + its shape.
        permutations: (..., components).
        axes: for each site with components its dimension of them, as in
            :func:`permute_components`.

    Returns:
        All sites.

    Raises:
        ValueError: ``axes`` names an unknown site, or shapes do not fit.

    Example:
        >>> draws = {"locs": torch.tensor([[1.0, 2.0]]), "noise": torch.tensor([0.5])}
        >>> permute_draws(draws, torch.tensor([[1, 0]]), {"locs": None})
        {'locs': tensor([[2., 1.]]), 'noise': tensor([0.5000])}
    """
    if unknown := sorted(axes.keys() - draws.keys()):
        raise ValueError(f"`axes` must name sites among {sorted(draws)}, got unknown {unknown}")
    permuted = dict(draws)
    for name, axis in axes.items():
        permuted[name] = permute_components(draws[name], permutations, axis)
    return permuted


def _best_agreement(z: Tensor, pivot: Tensor, components: int) -> Tensor:
    """Permutations of draws (draws, rows) that agree best with the pivot."""
    pairs = z * components + pivot
    ones = torch.ones_like(pairs, dtype=torch.float64)
    table = ones.new_zeros(len(z), components * components)
    table.scatter_add_(1, pairs, ones)
    return _assign(-table.view(-1, components, components))


def _assign(cost: Tensor) -> Tensor:
    """The cheapest permutations: cost (draws, old component, new component)."""
    try:
        solve: Any = import_module("scipy.optimize").linear_sum_assignment
    except ImportError as error:
        message = f"relabelling needs SciPy: pip install scipy ({error})"
        raise ImportError(message) from error
    table = cost.mT.cpu().numpy()
    permutations = np.stack([solve(cost_matrix)[1] for cost_matrix in table])
    return torch.from_numpy(permutations).long().to(cost.device)


def _renumber(z: Tensor, permutations: Tensor) -> Tensor:
    return permutations.argsort(-1).to(z.device).gather(-1, z)


def _start_permutations(
    start: Tensor | np.ndarray | None, batch: torch.Size, components: int
) -> Tensor:
    if start is None:
        return torch.arange(components).expand(batch.numel(), components)
    order = _permutations(start)
    if order.shape != (*batch, components):
        raise ValueError(
            f"`start` must have shape {(*batch, components)}, got {tuple(order.shape)}"
        )
    return order.reshape(-1, components)


def _checked_draws(name: str, values: Tensor | np.ndarray, least: int) -> Tensor:
    x = torch.as_tensor(values)
    if x.dim() < least or 0 in x.shape or x.isnan().any():
        raise ValueError(
            f"`{name}` must have at least {least} dimensions, "
            f"none empty, and no NaN, got {tuple(x.shape)}"
        )
    return x


def _assignments(values: Tensor | np.ndarray, components: int) -> Tensor:
    z = _checked_draws("assignments", values, 1)
    if z.is_floating_point() or not ((z >= 0) & (z < components)).all():
        raise ValueError(
            f"`assignments` must be integers from 0 to {components - 1}, "
            f"got {z.dtype} or other values"
        )
    return z.long()


def _permutations(values: Tensor | np.ndarray) -> Tensor:
    order = _checked_draws("permutations", values, 1)
    numbers = torch.arange(order.shape[-1], device=order.device)
    if not torch.equal(order.sort(-1).values, numbers.expand_as(order)):
        raise ValueError(
            f"`permutations` must hold 0 to {order.shape[-1] - 1} "
            "once in every draw, got other numbers"
        )
    return order.long()


def _like(array: Array, result: Tensor) -> Array:
    if isinstance(array, np.ndarray):
        return result.cpu().numpy()
    return result


__all__ = [
    "order_components",
    "permute_assignments",
    "permute_components",
    "permute_draws",
    "relabel_by_probabilities",
    "relabel_iteratively",
]
