"""Plan of a sweep over discrete sites: variables drawn together, and their states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints

from pyro_gen.infer.mcmc.gibbs.coupling import Coupling
from pyro_gen.infer.mcmc.gibbs.joint import Site, Values, plates


class Layout(NamedTuple):
    """Split of a site's value: dimensions updated at once, variables, the event of a variable.

    ``order`` permutes the value's dimensions so, ``kept`` are the sizes of the first
    kind, ``rest`` those of the second and ``event`` those of the last.
    """

    order: tuple[int, ...]
    free: tuple[int, ...]
    variables: tuple[int, ...]
    event: tuple[int, ...]

    @classmethod
    def of(cls, value: Tensor, free: Sequence[int], batch: int, event: int) -> Layout:
        """For a value of so many batch dimensions, free ones, and dimensions of one event."""
        plate_dims = [batch + dim for dim in free]
        cells = range(value.dim() - event)
        order = (
            *plate_dims,
            *(dim for dim in cells if dim not in plate_dims),
            *range(value.dim() - event, value.dim()),
        )
        sizes = tuple(value.shape[dim] for dim in order)
        return cls(
            order,
            sizes[: len(plate_dims)],
            sizes[len(plate_dims) : len(cells)],
            sizes[len(cells) :],
        )

    def flatten(self, value: Tensor) -> Tensor:
        """(kept..., variables, event...)."""
        shape = (*self.free, math.prod(self.variables), *self.event)
        return value.permute(self.order).reshape(shape)

    def restore(self, flat: Tensor) -> Tensor:
        """Undo :meth:`flatten`."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        shape = (*self.free, *self.variables, *self.event)
        return flat.reshape(shape).permute(inverse)

    def select(self, flat: Tensor, variable: int) -> Tensor:
        """The values of one variable, (kept..., event...)."""
        return flat.select(len(self.free), variable)


Variable = tuple[str, int]
"""A site and the number of one of its variables."""


class SweepPlan(NamedTuple):
    """Order of a sweep over some sites: variables drawn together, one group after the other."""

    layouts: dict[str, Layout]
    groups: tuple[tuple[Variable, ...], ...]
    factors: frozenset[str]
    free: tuple[int, ...]
    reasons: dict[str, str]


def keep(factor: Tensor, plan: SweepPlan) -> Tensor:
    """Sum a log probability, in float64, over all but the dimensions updated at once."""
    dims = max([factor.dim(), *(-dim for dim in plan.free)])
    factor = factor.double().reshape((1,) * (dims - factor.dim()) + factor.shape)
    summed = [dim for dim in range(-dims, 0) if dim not in plan.free]
    if not summed:
        return factor
    return factor.sum(summed)


def put(
    plan: SweepPlan,
    group: tuple[Variable, ...],
    values: Values,
    proposal: Sequence[Tensor],
) -> dict[str, Tensor]:
    """Values with others put in for the variables of a group."""
    flats: dict[str, Tensor] = {}
    for (name, variable), new in zip(group, proposal, strict=True):
        layout = plan.layouts[name]
        if name not in flats:
            flats[name] = layout.flatten(values[name]).clone()
        layout.select(flats[name], variable).copy_(new)
    new_values = dict(values)
    for name, flat in flats.items():
        new_values[name] = plan.layouts[name].restore(flat).contiguous()
    return new_values


def current_states(
    plan: SweepPlan,
    group: tuple[Variable, ...],
    values: Values,
    tables: list[Tensor],
) -> Tensor:
    """Numbers of the present joint states, (kept...)."""
    plate_sizes = next(iter(plan.layouts.values())).free
    shape = (len(tables[0]), *plate_sizes)
    same = torch.ones(shape, dtype=torch.bool, device=tables[0].device)
    for (name, variable), table in zip(group, tables, strict=True):
        layout = plan.layouts[name]
        value = layout.select(layout.flatten(values[name]), variable)
        same &= _equal(table, value, len(plate_sizes))
    return same.long().argmax(0)


def match_states(states: Tensor, value: Tensor) -> Tensor:
    """Numbers of the states that the cells of a value are in."""
    return _equal(states, value, value.dim() - states.dim() + 1).long().argmax(0)


def _equal(states: Tensor, value: Tensor, cells: int) -> Tensor:
    """Mask of cells that equal states: (states, cells...)."""
    shape = (len(states), *(1,) * cells, *states.shape[1:])
    same = states.reshape(shape) == value
    if states.dim() == 1:
        return same
    return same.flatten(cells + 1).all(-1)


def common_dims(trace_sites: dict[str, Site], couplings: dict[str, Coupling]) -> set[int]:
    """Dimensions that are free for all sites, by one and the same plate."""
    frames = [set(plates(trace_sites[name]).values()) for name in couplings]
    shared = {frame.dim for frame in set.intersection(*frames)}
    return shared.intersection(*(each.free for each in couplings.values()))


def _support(distribution: Any) -> Any:
    try:
        return distribution.support
    except (NotImplementedError, AttributeError):
        return None


def check_discrete(name: str, distribution: Any) -> None:
    """Refuse a continuous site."""
    if not getattr(_support(distribution), "is_discrete", False):
        raise ValueError(
            f"`{name}` must be discrete for DiscreteGibbs, "
            f"got {type(distribution).__name__}: "
            "give continuous sites to NUTS, HMC or CustomGibbs"
        )


def states_of(name: str, distribution: Any, max_states: int) -> Tensor:
    """All states of a single variable, (states, event...), the most that any of the cells has."""
    support = _support(distribution)
    event = len(distribution.event_shape)
    if isinstance(support, constraints.integer_interval):
        low = int(torch.as_tensor(support.lower_bound).min())
        high = int(torch.as_tensor(support.upper_bound).max())
        count = high - low + 1
        if count <= max_states:
            return torch.arange(low, high + 1)
    elif distribution.has_enumerate_support:
        states: Tensor = distribution.enumerate_support(expand=False)
        count = len(states)
        if count <= max_states:
            return states.reshape(count, *states.shape[states.dim() - event :])
    else:
        raise ValueError(
            f"`{name}` must have a finite support for enumeration, "
            f"got {type(distribution).__name__}: "
            "DiscreteGibbs(width=...) walks over integers without an end"
        )
    raise ValueError(
        f"`{name}` must have at most max_states={max_states} states, "
        f"got {count}: raise it, or use "
        "DiscreteGibbs(random_walk=True, max_states=...) or DiscreteGibbs(width=...)"
    )


__all__ = [
    "Layout",
    "SweepPlan",
    "Variable",
    "check_discrete",
    "common_dims",
    "current_states",
    "keep",
    "match_states",
    "put",
    "states_of",
]
