"""Distribution of rows under a mixture, given their components or with these summed out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from pyro_gen.distributions.expansion import Expandable, over_batch
from pyro_gen.models.rows import Rows

Parameters = Mapping[str, Tensor]


class Emission(Protocol):
    """Family of a mixture's rows; parameters have shape (..., components, ...)."""

    features: int

    @property
    def row_support(self) -> constraints.Constraint:
        """The values that a row may take."""

    def rows(self, x: object, mask: Tensor | None = None) -> Rows:
        """Checked rows."""

    def log_table(self, rows: Rows, parameters: Parameters) -> Tensor:
        """Log density of every row under every component, (..., rows, components)."""

    def draw(self, z: Tensor, parameters: Parameters) -> Tensor:
        """Rows given their components, shape of ``z`` + (features,)."""


class RowDistribution(Expandable):
    r"""Rows given their component z, :math:`p(x | z)`.

    Without ``z``, :math:`\sum_k \pi_k\, p(x | k)`.

    Cells that are NaN, or that the mask of ``checked_rows`` denies, are
    missing: the density is that of the others.

    Args:
        mixture: whose rows these are.
        parameters: its canonical parameters, among them ``log_weights`` (...,
            1, components).
        z: components, of any batch shape that ends in the rows; None to sum
            over them.
        checked_rows: the rows that will be scored, if they are known and
            checked already.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(
        self,
        mixture: Emission,
        parameters: Parameters,
        z: Tensor | None,
        checked_rows: Rows | None = None,
    ) -> None:
        self.mixture = mixture
        self.parameters = parameters
        self.z = z
        self.checked_rows = checked_rows
        batch = parameters["log_weights"].shape[:-1]
        if len(batch) == 1:
            batch = Size()
        if z is not None:
            batch = torch.broadcast_shapes(batch, z.shape)
        super().__init__(batch, Size((mixture.features,)), validate_args=False)

    def __repr__(self) -> str:
        """The mixture that the rows come from, and the shapes."""
        family = type(self.mixture).__name__
        return (
            f"RowDistribution({family}, batch_shape={tuple(self.batch_shape)}, "
            f"event_shape={tuple(self.event_shape)})"
        )

    @property
    def support(self) -> constraints.Constraint:
        """The values that a row may take."""
        return self.mixture.row_support

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of rows (..., rows, features) or of one row (features,), in nats."""
        if value.dim() == 1:
            return over_batch(self.log_prob(value.unsqueeze(0)).squeeze(-1), self.batch_shape)
        is_checked = self.checked_rows is not None and value is self.checked_rows.source
        if is_checked and self.checked_rows is not None:
            rows = self.checked_rows
        else:
            rows = self.mixture.rows(value)
        table = self.mixture.log_table(rows, self.parameters)
        if self.z is None:
            return over_batch(
                (table + self.parameters["log_weights"]).logsumexp(-1), self.batch_shape
            )
        shape = torch.broadcast_shapes(table.shape[:-1], self.z.shape)
        index = self.z.expand(shape).unsqueeze(-1)
        return table.expand(*shape, table.shape[-1]).gather(-1, index).squeeze(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Rows, sample_shape + batch_shape + (features,)."""
        shape = Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            z = self.z
            if z is None:
                weights = self.parameters["log_weights"]
                if shape:
                    logits = weights.expand(*shape, weights.shape[-1])
                else:
                    logits = weights[0]
                z = torch.distributions.Categorical(logits=logits).sample()
            return self.mixture.draw(z.expand(shape), self.parameters)


def take(values: Tensor, z: Tensor, event_dim: int) -> Tensor:
    """Parameters (..., components) + event of the components of rows, shape of ``z`` + event."""
    event = values.shape[values.dim() - event_dim :]
    if z.dim() == 0:
        if event_dim:
            return values.flatten(0, -event_dim - 1)[z]
        return values.flatten()[z]
    batch = torch.broadcast_shapes(values.shape[: values.dim() - event_dim - 1], z.shape[:-1])
    index = z.expand(*batch, z.shape[-1]).reshape(*batch, z.shape[-1], *(1,) * event_dim)
    index = index.expand(*batch, z.shape[-1], *event)
    values = values.expand(*batch, values.shape[values.dim() - event_dim - 1], *event)
    return values.gather(len(batch), index)


__all__ = ["Emission", "Parameters", "RowDistribution", "take"]
