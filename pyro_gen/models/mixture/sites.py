"""The continuous sites of a mixture, and the coordinates in which its guide holds them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import Transform

from pyro_gen._points import Expected

ROWS = ("z", "x")
"""Sites of the rows, which come with draws of a program and are not parameters."""
SERVES = {"weights": ("sticks",), "covariances": ("scales", "correlations")}
"""Derived values, and the sites that they can replace."""


class Site(NamedTuple):
    """A continuous site: support, shape of an event, one a component or shared, coordinates."""

    support: Constraint
    event_shape: tuple[int, ...]
    per_component: bool
    transform: Transform

    @property
    def event_dim(self) -> int:
        """Dimensions of an event."""
        return len(self.event_shape)

    def expected(self, components: int) -> Expected:
        """Support and shape of a value."""
        plate = (components,) if self.per_component else ()
        return Expected(self.support, plate + self.event_shape)

    def coordinates(self, name: str, value: Tensor) -> Tensor:
        """Unconstrained coordinates of a value.

        Weights, sticks and probabilities are moved away from 0 and 1.

        Raises:
            ValueError: the value has no finite coordinates.
        """
        eps = torch.finfo(value.dtype).eps
        if name in ("sticks", "probs"):
            value = value.clamp(eps, 1 - eps)
        elif name == "weights":
            value = value.clamp_min(eps) / value.clamp_min(eps).sum()
        with suppress(torch.linalg.LinAlgError):  # type: ignore[attr-defined]  # torch documents it, but lists it not
            location: Tensor = self.transform.inv(value)
            if location.isfinite().all():
                return location
        raise ValueError(
            f"`values` of {name!r} must be finite, inside its support and, if covariances, not "
            "singular"
        )


def weight_sites(components: int) -> dict[str, Site]:
    """Weights, and the sticks of a Dirichlet process that make them."""
    simplex = constraints.simplex
    unit = constraints.unit_interval
    return {
        "weights": Site(simplex, (components,), False, biject_to(simplex)),
        "sticks": Site(unit, (components - 1,), False, biject_to(unit)),
    }


def without_plates(
    values: Mapping[str, Tensor], expected: Mapping[str, Site]
) -> dict[str, Tensor]:
    """Values without the dimension of 1 that ``Predictive`` leaves where a site is shared."""
    extra = {
        name: value.dim() - expected[name].event_dim
        for name, value in values.items()
        if name in expected
    }
    component_dims = [extra[name] - 1 for name in extra if expected[name].per_component]
    plated = {
        name
        for name in extra
        if not expected[name].per_component and extra[name] == min(component_dims) + 1
    }
    shared = {name: values[name].squeeze(-1 - expected[name].event_dim) for name in plated}
    return {**values, **shared}


__all__ = ["ROWS", "SERVES", "Site", "weight_sites", "without_plates"]
