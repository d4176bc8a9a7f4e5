"""Draws of a model's latent sites as unconstrained vectors, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import biject_to

from pyro_gen.arviz.groups import array


class _Part(NamedTuple):
    """One site: its map from unconstrained values, their shape, and the type of the site."""

    transform: Any
    shape: torch.Size
    like: Tensor

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Unconstrained:
    """Map between draws of latent sites and vectors without constraints.

    Args:
        trace: a run of the model.
        names: the latent sites.

    Raises:
        ValueError: if a site is discrete.
    """

    def __init__(self, trace: Trace, names: Sequence[str]) -> None:
        nodes: dict[str, Any] = trace.nodes
        if discrete := [name for name in names if nodes[name]["fn"].support.is_discrete]:
            raise ValueError(
                f"the draws must be of continuous sites, which can be moved, got discrete "
                f"{discrete}; leave them to enumeration, or use `reloo`"
            )
        self._parts: dict[str, _Part] = {}
        for name in names:
            value = nodes[name]["value"].detach()
            transform = biject_to(nodes[name]["fn"].support)
            shape = transform.inverse_shape(value.shape)
            self._parts[name] = _Part(transform, torch.Size(shape), value)

    def vectors(self, draws: Mapping[str, Tensor]) -> np.ndarray:
        """Return the draws (draw, ...) as vectors (draw, parameters) in float64.

        Raises:
            ValueError: if a draw is on the boundary of its support or outside.
        """
        columns = []
        for name, part in self._parts.items():
            values = part.transform.inv(draws[name].to(part.like.device, torch.float64))
            if not values.isfinite().all():
                raise ValueError(
                    f"draws of site {name!r} must lie inside of its support, got some on its "
                    "boundary or outside"
                )
            columns.append(array(values).reshape(len(values), -1))
        return np.concatenate(columns, 1)

    def draws(self, vectors: np.ndarray) -> tuple[dict[str, Tensor], np.ndarray]:
        """Return draws, in the data types of the sites, and the log Jacobian of each."""
        result = {}
        log_jacobian = np.zeros(len(vectors))
        start = 0
        for name, part in self._parts.items():
            columns = torch.as_tensor(vectors[:, start : start + part.size])
            start += part.size
            free = columns.reshape(len(vectors), *part.shape).to(part.like.device)
            values = part.transform(free)
            change = part.transform.log_abs_det_jacobian(free, values)
            log_jacobian += array(change).reshape(len(vectors), -1).sum(1)
            result[name] = values.to(part.like.dtype)
        return result, log_jacobian

    def one(self, draws: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
        """Return the unconstrained values of one draw by site, as NUTS takes them."""
        return {
            name: part.transform.inv(draws[name][index].to(part.like))
            for name, part in self._parts.items()
        }
