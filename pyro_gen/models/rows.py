"""Rows of data that may have missing cells, and their sums."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen import _columns
from pyro_gen._rows import RowsLike, as_floating

CHUNK = 2**17
"""Numbers that a pass over rows and components holds at a time: they stay in the cache."""


class Pattern(NamedTuple):
    """Rows that miss the same cells."""

    observed: Tensor
    missing: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Rows:
    """A table, its missing cells filled with zeros.

    Args:
        x: (..., rows, features).
        mask: True where a cell is observed, (rows, features); None where all are.
        source: the object that was passed in, to recognise it.
    """

    x: Tensor
    mask: Tensor | None
    source: object

    @cached_property
    def patterns(self) -> list[Pattern]:
        """Rows by the cells that they miss; one pattern where none is missing."""
        if self.mask is None:
            features = torch.arange(self.x.shape[-1], device=self.x.device)
            return [
                Pattern(
                    features, features[:0], torch.arange(self.x.shape[-2], device=self.x.device)
                )
            ]
        kinds, kind = self.mask.unique(dim=0, return_inverse=True)
        order = kind.argsort(stable=True)
        counts = kind.bincount(minlength=len(kinds)).tolist()
        groups = zip(kinds, order.split(counts), strict=True)
        return [
            Pattern(observed.nonzero()[:, 0], (~observed).nonzero()[:, 0], rows)
            for observed, rows in groups
        ]

    def chunks(self, width: int) -> Iterator[slice]:
        """Slices of rows, such that rows times ``width`` stay small."""
        count = self.x.shape[-2]
        step = max(1, CHUNK // max(width, 1))
        return (slice(start, min(start + step, count)) for start in range(0, count, step))

    def column_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of every column over its observed cells.

        Raises:
            ValueError: a column has no observed cell.
        """
        return self._column_moments

    @cached_property
    def _column_moments(self) -> tuple[Tensor, Tensor]:
        if self.mask is None:
            return self.x.mean(0), self.x.var(0, correction=0)
        count = self.mask.sum(0)
        if not count.all():
            empty = _columns.places(count == 0)
            raise ValueError(
                f"`x` must have an observed cell in every column, got none in {empty}"
            )
        mean = self.x.sum(0) / count
        return mean, ((self.x - mean).square() * self.mask).sum(0) / count

    def imputed(self) -> Tensor:
        """The table with the mean of its column in every missing cell."""
        if self.mask is None:
            return self.x
        return torch.where(self.mask, self.x, self.column_moments()[0])


class RowDensity:
    """Score and information criteria of a model with a density of rows."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Free parameters."""

    @abstractmethod
    def log_likelihood(self, x: RowsLike, mask: Tensor | None = None) -> Tensor:
        """Log density of every row, in nats."""

    @torch.no_grad()
    def score(self, x: RowsLike, mask: Tensor | None = None) -> float:
        """Mean log likelihood in nats a row.

        Args:
            x: rows, NaN where a cell is missing.
            mask: True where a cell is observed; None for wherever there is no
                NaN.
        """
        return self.log_likelihood(x, mask).double().mean().item()

    @torch.no_grad()
    def aic(self, x: RowsLike, mask: Tensor | None = None) -> float:
        """Akaike's information criterion; smaller is better.

        Args:
            x: the rows that were fitted, by maximum likelihood.
            mask: as for :meth:`score`.

        References:
            Akaike (1974), A new look at the statistical model identification.
        """
        return 2 * self.num_parameters - 2 * self.log_likelihood(x, mask).double().sum().item()

    @torch.no_grad()
    def bic(self, x: RowsLike, mask: Tensor | None = None) -> float:
        """Bayesian information criterion; smaller is better.

        Args:
            x: the rows that were fitted, by maximum likelihood.
            mask: as for :meth:`score`.

        References:
            Schwarz (1978), Estimating the dimension of a model.
        """
        penalty = self.num_parameters * math.log(len(x))
        return penalty - 2 * self.log_likelihood(x, mask).double().sum().item()


def make_rows(
    x: object, mask: Tensor | None, features: int | None = None, like: Tensor | None = None
) -> Rows:
    """Check a table and say which cells are observed: those that are not NaN and not
    False in ``mask``.

    Args:
        x: (..., rows, features); (rows,) for one feature.
        mask: True where a cell is observed, same shape; None for wherever there
            is no NaN.
        features: columns it must have; None for those that it has.
        like: any parameter of the model that reads them; None where a model is
            made.

    Raises:
        ValueError: ``x`` is not such a table, has infinite cells, or the shape
            of ``mask`` differs.
    """
    source = x
    x = as_floating(x, like)
    if not isinstance(x, Tensor):
        raise ValueError(f"`x` must be a tensor of numbers, got {type(x).__name__}")
    features = features or (x.shape[-1] if x.dim() > 1 else 1)
    table = x.unsqueeze(-1) if x.dim() == 1 and features == 1 else x
    if table.dim() < 2 or table.shape[-1] != features or not table.numel():
        raise ValueError(
            f"`x` must have shape (rows, {features}) with at least one row, got {tuple(x.shape)}"
        )
    observed = ~table.isnan()
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.shape != x.shape or mask.dtype != torch.bool:
            if hasattr(mask, "dtype"):
                got = f"{mask.dtype} {tuple(mask.shape)}"
            else:
                got = type(mask).__name__
            raise ValueError(f"`mask` must be bool of shape {tuple(x.shape)}, got {got}")
        observed = observed & mask.reshape(table.shape)
    complete = bool(observed.all())
    if not complete:
        table = torch.where(observed, table, 0.0)
    if not table.isfinite().all():
        raise ValueError(
            f"`x` must be finite, NaN standing for missing cells, got infinite cells in {x.shape}"
        )
    if not complete and table.dim() > 2:
        raise ValueError(
            f"`x` with missing cells must have shape (rows, {features}), got {tuple(x.shape)}"
        )
    return Rows(table, None if complete else observed, source)


def check_like(rows: Rows, parameter: Tensor, owner: str) -> None:
    """Raise where rows are of another dtype or on another device than the parameters
    of a model.

    Args:
        rows: checked rows.
        parameter: any of the parameters.
        owner: what has them, for the message.

    Raises:
        ValueError: they differ.
    """
    if (rows.x.dtype, rows.x.device) != (parameter.dtype, parameter.device):
        raise ValueError(
            f"`x` must be {parameter.dtype} on {parameter.device} like the {owner}, "
            f"got {rows.x.dtype} on {rows.x.device}"
        )


def single(rows: Rows) -> Rows:
    """Raise where there is a batch of tables: learning and the programs need one.

    Args:
        rows: checked rows.

    Returns:
        The same.

    Raises:
        ValueError: there is a batch.
    """
    if rows.x.dim() > 2:
        raise ValueError(
            f"`x` must be one table, (rows, {rows.x.shape[-1]}), got {tuple(rows.x.shape)}"
        )
    return rows


def check_varied_rows(rows: Rows) -> None:
    """Raise where a column is constant, in which a component could become infinitely narrow.

    Args:
        rows: the table.

    Raises:
        ValueError: a column is constant.
    """
    _columns.check_varied(*rows.column_moments(), rows.x.dtype)


__all__ = [
    "Pattern",
    "RowDensity",
    "Rows",
    "check_like",
    "check_varied_rows",
    "make_rows",
    "single",
]
