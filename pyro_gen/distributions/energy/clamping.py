"""Two ways to sum an RBM over its missing cells: over the hidden states, or over
the cells themselves.

Each is a set of numbered states with the log weight of every state for every
row, as :mod:`streaming` wants it. Rows are clamped at different cells; the
hidden states serve all rows at once (one matrix product), the missing cells are
gathered row by row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Size, Tensor
from torch.nn.functional import softplus

from pyro_gen.distributions.streaming import Blocks, blocks
from pyro_gen.distributions.units import BernoulliUnits
from pyro_gen.kernels.gibbs.reference import field

_BITS = BernoulliUnits()


class Evidence(NamedTuple):
    """Observed cells: zeros and ones with 0 in every missing cell, and True where a
    cell was observed.
    """

    observed: Tensor
    mask: Tensor

    def complete(self, value: Tensor) -> Tensor:
        """``value`` with the observed cells put in."""
        return torch.where(self.mask, self.observed, value)

    @property
    def most_missing(self) -> int:
        """The largest number of missing cells of a row."""
        if self.mask.is_meta or not self.mask.numel():
            return self.mask.shape[-1]
        return int((~self.mask).sum(-1).max())


class HiddenStates(NamedTuple):
    r"""Sum over the hidden states h, given which the missing cells M are independent.

    .. math:: \log w_r(h) = h \cdot (b + v_r W) + \sum_{i \in M_r} \log(1 + e^{a_i + (W h)_i})
    """

    evidence: Evidence
    units: int

    def blocks(self, parameters: tuple[Tensor, ...], batch: Size) -> Blocks:
        """Ranges of hidden states."""
        weight, vbias, _ = parameters
        parameter_batch = torch.broadcast_shapes(weight.shape[:-2], vbias.shape[:-1]).numel()
        return blocks(
            2**self.units,
            weight.element_size() * max(batch.numel(), parameter_batch * max(weight.shape[-2:])),
        )

    def log_weights(
        self, start: int, stop: int, weight: Tensor, vbias: Tensor, hbias: Tensor
    ) -> Tensor:
        """Log weights (..., stop - start)."""
        h = _BITS.states(torch.arange(start, stop, device=weight.device), self.units, weight)
        clamped = field(self.evidence.observed, weight, hbias)
        return clamped @ h.mT + _against(
            self._missing(weight), softplus(self.fields(h, weight, vbias))
        )

    def expectation(
        self, start: int, stop: int, share: Tensor, weight: Tensor, vbias: Tensor
    ) -> Tensor:
        """Contribution of the states of a block with these shares (..., stop -
        start) to P(v_i = 1).
        """
        h = _BITS.states(torch.arange(start, stop, device=weight.device), self.units, weight)
        probs = self.fields(h, weight, vbias).sigmoid()
        if probs.dim() == 2:
            return share @ probs
        return (share.unsqueeze(-2) @ probs).squeeze(-2)

    def finish(self, expectation: Tensor) -> Tensor:
        """Probabilities of all cells from the sum of all blocks' expectations."""
        return self.evidence.complete(expectation)

    def fill(self, number: Tensor, weight: Tensor, vbias: Tensor) -> Tensor:
        """Visible states drawn given the hidden states of these numbers."""
        h = _BITS.states(number, self.units, weight)
        return self.evidence.complete(torch.bernoulli(field(h, weight.mT, vbias).sigmoid()))

    def _missing(self, weight: Tensor) -> Tensor:
        return (~self.evidence.mask).to(weight.dtype)

    @staticmethod
    def fields(h: Tensor, weight: Tensor, vbias: Tensor) -> Tensor:
        """Fields of the visible units for each state: (states, visible), with the
        parameters' batch in front.
        """
        return h @ weight.mT + vbias.unsqueeze(-2)


class MissingCells(NamedTuple):
    r"""Sum over the states of the missing cells themselves; at most ``units`` of them in a row.

    .. math:: \log w_r(v_M) = a_M \cdot v_M + \sum_j \log(1 + e^{b_j + (v_r W)_j + (v_M W_M)_j})

    Rows with fewer missing cells are padded with cells that change nothing;
    double counts are subtracted.
    """

    evidence: Evidence
    units: int

    def blocks(self, parameters: tuple[Tensor, ...], batch: Size) -> Blocks:
        """Ranges of states of the missing cells."""
        weight = parameters[0]
        return blocks(
            2**self.units,
            weight.element_size() * batch.numel() * max(self.units, weight.shape[-1]),
        )

    def log_weights(
        self, start: int, stop: int, weight: Tensor, vbias: Tensor, hbias: Tensor
    ) -> Tensor:
        """Log weights (..., stop - start)."""
        cells, live = self._cells()
        bits = self._states(torch.arange(start, stop, device=weight.device), weight)
        rows = _rows(weight, cells) * live.unsqueeze(-1)
        bias = _rows(vbias.unsqueeze(-1), cells) * live.unsqueeze(-1)
        clamped = field(self.evidence.observed, weight, hbias).unsqueeze(-2)
        terms = (bits @ bias).squeeze(-1) + softplus(clamped + bits @ rows).sum(-1)
        return terms - math.log(2) * (~live).to(weight.dtype).sum(-1, keepdim=True)

    def expectation(
        self, start: int, stop: int, share: Tensor, weight: Tensor, vbias: Tensor
    ) -> Tensor:
        """Contribution of the states of a block with these shares to the missing
        cells' probabilities.
        """
        return share @ self._states(torch.arange(start, stop, device=weight.device), weight)

    def finish(self, expectation: Tensor) -> Tensor:
        """Probabilities of all cells from the sum of all blocks' expectations."""
        return self._place(expectation)

    def fill(self, number: Tensor, weight: Tensor, vbias: Tensor) -> Tensor:
        """Visible states whose missing cells have the states of these numbers."""
        return self._place(self._states(number, weight))

    def _states(self, number: Tensor, like: Tensor) -> Tensor:
        return _BITS.states(number, self.units, like)

    def _cells(self) -> tuple[Tensor, Tensor]:
        """Positions of the missing cells of each row first, (..., units), and
        whether a position is one.
        """
        cells = self.evidence.mask.to(torch.uint8).argsort(dim=-1, stable=True)[..., : self.units]
        return cells, ~self.evidence.mask.gather(-1, cells)

    def _place(self, states: Tensor) -> Tensor:
        """States of the missing cells (..., units) in rows of all cells, beside
        what was observed.
        """
        cells, live = self._cells()
        batch = torch.broadcast_shapes(states.shape[:-1], cells.shape[:-1])
        observed = self.evidence.observed.expand(*batch, -1)
        cells = cells.expand(*batch, -1)
        return observed.scatter(-1, cells, torch.where(live, states, observed.gather(-1, cells)))


def _against(missing: Tensor, table: Tensor) -> Tensor:
    """Sum of a table (..., states, visible) over the missing cells of each row: (..., states)."""
    if table.dim() == 2:
        return missing @ table.mT
    return (table @ missing.unsqueeze(-1)).squeeze(-1)


def _rows(matrix: Tensor, index: Tensor) -> Tensor:
    """Rows (..., units, columns) of a matrix at the indices of each batch element."""
    if matrix.dim() == 2:
        return matrix[index]
    batch = torch.broadcast_shapes(matrix.shape[:-2], index.shape[:-1])
    matrix = matrix.expand(*batch, -1, -1)
    index = index.expand(*batch, -1).unsqueeze(-1)
    return matrix.gather(-2, index.expand(*index.shape[:-1], matrix.shape[-1]))


__all__ = ["Evidence", "HiddenStates", "MissingCells"]
