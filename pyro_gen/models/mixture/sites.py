"""The continuous sites of a mixture, and the coordinates in which its guide holds them."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions.transforms import Transform


class Site(NamedTuple):
    """A continuous site: dimensions of its event, whether it has one for each component, and its coordinates."""

    event_dim: int
    per_component: bool
    transform: Transform

    def coordinates(self, name: str, value: Tensor) -> Tensor:
        """Unconstrained coordinates of a value; weights, sticks and probabilities come off the very ends.

        Args:
            name: of the site.
            value: of the site.

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
        raise ValueError(f"`values` of {name!r} must be finite, inside its support and, if covariances, not singular")


__all__ = ["Site"]
