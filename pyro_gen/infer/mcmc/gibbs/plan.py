"""Plan of a sweep over discrete sites: variables drawn together, the split of a
value, and their states.
"""

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
    """Split of the value of a site: dimensions updated at once, then variables, then
    the event of one variable.

    ``order`` permutes the value's dimensions so, ``kept`` are the sizes of the
    first kind, ``rest`` those of the second and ``event`` those of the last.
    """

    order: tuple[int, ...]
    kept: tuple[int, ...]
    rest: tuple[int, ...]
    event: tuple[int, ...]

    @classmethod
    def of(cls, value: Tensor, free: Sequence[int], batch: int, event: int) -> Layout:
        """For a value with so many batch dimensions, the free ones among them, and so many
        of a single event.
        """
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
        return value.permute(self.order).reshape((*self.kept, math.prod(self.rest), *self.event))

    def restore(self, flat: Tensor) -> Tensor:
        """Undo :meth:`flatten`."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return flat.reshape((*self.kept, *self.rest, *self.event)).permute(inverse)

    def select(self, flat: Tensor, variable: int) -> Tensor:
        """The values of one variable, (kept..., event...)."""
        return flat.select(len(self.kept), variable)


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
    """Sum a log probability, in double precision, over all but the dimensions that are
    updated at once.
    """
    dims = max([factor.dim(), *(-dim for dim in plan.free)])
    factor = factor.double().reshape((1,) * (dims - factor.dim()) + factor.shape)
    summed = [dim for dim in range(-dims, 0) if dim not in plan.free]
    if summed:
        return factor.sum(summed)
    return factor


def put(
    plan: SweepPlan, group: tuple[Variable, ...], values: Values, proposal: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Values with others put in for the variables of a group."""
    flats = {name: plan.layouts[name].flatten(values[name]).clone() for name, _ in group}
    for (name, variable), new in zip(group, proposal, strict=True):
        plan.layouts[name].select(flats[name], variable).copy_(new)
    return {
        **values,
        **{name: plan.layouts[name].restore(flat).contiguous() for name, flat in flats.items()},
    }


def current_states(
    plan: SweepPlan, group: tuple[Variable, ...], values: Values, tables: list[Tensor]
) -> Tensor:
    """Numbers of the present joint states, (kept...)."""
    plate_sizes = next(iter(plan.layouts.values())).kept
    same = torch.ones(len(tables[0]), *plate_sizes, dtype=torch.bool, device=tables[0].device)
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
    if states.dim() > 1:
        return same.flatten(cells + 1).all(-1)
    return same


def common_dims(trace_sites: dict[str, Site], couplings: dict[str, Coupling]) -> set[int]:
    """Dimensions that are free for all sites, by one and the same plate."""
    frames = [set(plates(trace_sites[name]).values()) for name in couplings]
    shared = set.intersection(*frames)
    return {
        frame.dim for frame in shared if all(frame.dim in each.free for each in couplings.values())
    }


def _support(distribution: Any) -> Any:
    try:
        return distribution.support
    except (NotImplementedError, AttributeError):
        return None


def check_discrete(name: str, distribution: Any) -> None:
    """Refuse a continuous site."""
    if not getattr(_support(distribution), "is_discrete", False):
        raise ValueError(
            f"`{name}` must be discrete for DiscreteGibbs, got {type(distribution).__name__}: "
            "give continuous sites to NUTS, HMC or CustomGibbs"
        )


def states_of(name: str, distribution: Any, max_states: int) -> Tensor:
    """All states of a single variable, (states, event...), the most that any of the cells has."""
    support = _support(distribution)
    event = len(distribution.event_shape)
    if isinstance(support, constraints.integer_interval):
        low, high = (
            torch.as_tensor(bound) for bound in (support.lower_bound, support.upper_bound)
        )
        count = int(high.max()) - int(low.min()) + 1
        if count <= max_states:
            return torch.arange(int(low.min()), int(high.max()) + 1)
    elif distribution.has_enumerate_support:
        states: Tensor = distribution.enumerate_support(expand=False)
        count = len(states)
        if count <= max_states:
            return states.reshape(count, *states.shape[states.dim() - event :])
    else:
        raise ValueError(
            f"`{name}` must have a finite support for enumeration, got "
            f"{type(distribution).__name__}: "
            "DiscreteGibbs(width=...) walks over integers without an end"
        )
    raise ValueError(
        f"`{name}` must have at most max_states={max_states} states, got {count}: raise it, or "
        "use "
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
