"""The tables of a Bayesian network from rows: counts, EM where cells are missing,
and draws from their posterior.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_gen import distributions
from pyro_gen.distributions import Likelihood, NetworkStructure
from pyro_gen.distributions.bayesian_network.tables import counts_of, from_counts, row_sums
from pyro_gen.models.em import FitResult, best_of

Counts = float | Mapping[str, "float | Tensor"]
"""A number for every cell of every table, or by node a number or a table."""


class Seen(NamedTuple):
    """Distinct rows (rows, nodes) with -1 where missing, and how often each occurs."""

    rows: Tensor
    weights: Tensor

    def subset(self, index: Tensor) -> Seen:
        """Some of the rows."""
        return Seen(self.rows[index], self.weights[index])


@dataclass(frozen=True)
class TableLearner:
    """The tables of a network one after another, and which of them are to be learned.

    Args:
        structure: nodes, states, parents.
        tables: present ones, (cells,), float64.
        free: for each cell whether its table is learned, (cells,).
        max_cells: cells of the largest clique allowed.
        batch_size: distinct rows in one call of exact inference.
    """

    structure: NetworkStructure
    tables: Tensor
    free: Tensor
    max_cells: int
    batch_size: int = 2000

    def distribution(self, tables: Tensor) -> distributions.BayesianNetwork:
        """The network with given tables."""
        return distributions.BayesianNetwork(
            self.structure, tables, max_cells=self.max_cells, validate_args=False
        )

    def expected_counts(self, counted: Seen, tables: Tensor) -> tuple[Tensor, float]:
        """The E-step: expected counts, theta * d log p / d theta, and the log likelihood."""
        counts = torch.zeros_like(tables)
        total = 0.0
        ever = (counted.rows >= 0).any(0).tolist()
        for rows, weights in zip(
            counted.rows.split(self.batch_size),
            counted.weights.split(self.batch_size),
            strict=True,
        ):
            with torch.enable_grad():
                flat = tables.detach().clone().requires_grad_()
                log_likelihood = (
                    self.distribution(flat).log_evidence(self._evidence(rows, ever)) * weights
                ).sum()
                (slope,) = torch.autograd.grad(log_likelihood, flat)
            counts += slope * tables
            total += log_likelihood.item()
        return counts, total

    def _evidence(self, rows: Tensor, ever: list[bool]) -> dict[str, Tensor | Likelihood]:
        """Rows by node; those missing in this batch alone get a likelihood, to count too."""
        named = zip(
            self.structure.nodes, rows.unbind(1), ever, self.structure.cardinalities, strict=True
        )
        return {
            node: Likelihood(self.tables.new_ones(states))
            if ever_observed and (x < 0).all()
            else x
            for node, x, ever_observed, states in named
        }

    def maximised(self, counts: Tensor, tables: Tensor) -> Tensor:
        """The M-step: counts over their sums; rows without counts are left unchanged."""
        return torch.where(self.free, from_counts(self.structure, counts, tables), tables)

    def log_prior(self, pseudo: Tensor, tables: Tensor) -> float:
        """Log density of the tables under Dirichlet(1 + pseudo counts), up to a constant."""
        return float(torch.where(self.free & (pseudo > 0), pseudo * tables.log(), 0.0).sum())

    def climb(
        self, counted: Seen, pseudo: Tensor, start: Tensor, num_steps: int, tolerance: float
    ) -> tuple[FitResult, Tensor]:
        """EM from one start."""
        tables = start
        path = list[float]()
        size = float(counted.weights.sum())
        counts, log_likelihood = self.expected_counts(counted, tables)
        path.append(log_likelihood + self.log_prior(pseudo, tables))
        converged = False
        for _ in range(num_steps):
            tables = self.maximised(counts + pseudo, tables)
            counts, log_likelihood = self.expected_counts(counted, tables)
            path.append(log_likelihood + self.log_prior(pseudo, tables))
            # a step from -inf under a prior is not a gain
            converged = path[-1] - path[-2] <= tolerance * size
            if converged:
                break
        objective = torch.tensor(path, dtype=torch.float64)
        return FitResult(log_likelihood, objective, converged, False, objective[-1:]), tables

    def random_start(self) -> Tensor:
        """Rows drawn evenly from all distributions, zeros kept."""
        weights = torch.where(self.tables > 0, torch.empty_like(self.tables).exponential_(), 0.0)
        return self.maximised(weights, self.tables)

    def fit(
        self, counted: Seen, pseudo: Tensor, num_starts: int, num_steps: int, tolerance: float
    ) -> tuple[FitResult, Tensor]:
        """The result and the best tables; in closed form if the rows are complete."""
        if not (counted.rows < 0).any():
            tables = self.maximised(counts_of(self.structure, *counted) + pseudo, self.tables)
            log_likelihood = float(
                (self.distribution(tables).log_prob(counted.rows) * counted.weights).sum()
            )
            value = log_likelihood + self.log_prior(pseudo, tables)
            objective = torch.tensor([value], dtype=torch.float64)
            return FitResult(log_likelihood, objective, True, False, objective), tables
        starts = [self.random_start() for _ in range(num_starts)] or [self.tables]
        return best_of(
            [self.climb(counted, pseudo, start, num_steps, tolerance) for start in starts]
        )

    def draws(
        self, counted: Seen, concentration: Tensor, num_samples: int, num_chains: int, warmup: int
    ) -> Tensor:
        """Draws of all tables given rows, (chains, draws, cells); independent if complete."""
        partial = (counted.rows < 0).any(1)
        posterior = counts_of(self.structure, *counted.subset(~partial)) + concentration
        if not partial.any():
            return self.dirichlet(posterior.expand(num_chains, num_samples, -1))
        rows = counted.subset(partial)
        repeated = rows.rows.repeat_interleave(rows.weights.long(), 0)
        return torch.stack(
            [self._chain(repeated, posterior, num_samples, warmup) for _ in range(num_chains)]
        )

    def _chain(self, rows: Tensor, posterior: Tensor, num_samples: int, warmup: int) -> Tensor:
        """Gibbs sampling: completions given tables, tables given completions."""
        tables = self.random_start()
        draws = []
        for step in range(warmup + num_samples):
            completion = self.distribution(tables).sample_posterior(rows)
            complete = torch.stack(
                [completion[node].squeeze(0) for node in self.structure.nodes], 1
            )
            tables = self.dirichlet(posterior + counts_of(self.structure, complete))
            if step >= warmup:
                draws.append(tables)
        return torch.stack(draws)

    def dirichlet(self, concentration: Tensor) -> Tensor:
        """One draw of each row of each table, for concentrations (..., cells)."""
        # log Gamma(a) = log Gamma(a + 1) + log(U) / a does not underflow where a is small
        a = concentration.clamp_min(torch.finfo(concentration.dtype).tiny)
        logs = torch._standard_gamma(a + 1).log() + torch.rand_like(a).log() / a
        rows = self.structure.row_of_cell.to(a.device)
        top = torch.full(
            (*a.shape[:-1], self.structure.num_rows), -torch.inf, dtype=a.dtype, device=a.device
        )
        top = top.scatter_reduce(-1, rows.expand(a.shape), logs, "amax")
        gammas = (logs - top[..., rows]).exp()
        return torch.where(
            self.free, gammas / row_sums(self.structure, gammas)[..., rows], self.tables
        )


def checked_weights(weights: Tensor | None, count: int) -> Tensor:
    """Weights of rows, (rows,), float64; None for one each."""
    if weights is None:
        result = torch.ones(count, dtype=torch.float64)
    else:
        result = torch.as_tensor(weights).double()
    if (
        result.shape != (count,)
        or not ((result >= 0) & (result < torch.inf)).all()
        or not result.sum() > 0
    ):
        raise ValueError(
            f"`weights` must be {count} finite numbers, none negative, not all 0, got {weights}"
        )
    return result


def distinct_rows(rows: Tensor, weights: Tensor) -> Seen:
    """Equal rows (rows, nodes) taken together, with their weights (rows,)."""
    distinct, inverse = torch.unique(rows.to(weights.device), dim=0, return_inverse=True)
    return Seen(distinct, weights.new_zeros(len(distinct)).index_add(0, inverse, weights))


def spread_counts(structure: NetworkStructure, counts: Counts, like: Tensor, name: str) -> Tensor:
    """A number for each cell of the flattened tables ``like``; ``name`` is for messages."""
    if isinstance(counts, Mapping):
        named = counts
    else:
        named = dict.fromkeys(structure.nodes, counts)
    result = torch.zeros_like(like)
    for node, value in named.items():
        i = structure.number(node)
        table = torch.as_tensor(value, dtype=like.dtype, device=like.device)
        if table.dim() and table.shape != structure.table_shape(node):
            raise ValueError(
                f"`{name}` of node {node!r} must be a number or of shape "
                f"{structure.table_shape(node)}, got {tuple(table.shape)}"
            )
        if not ((table >= 0) & (table < math.inf)).all():
            raise ValueError(
                f"`{name}` of node {node!r} must be finite and not negative, got {value}"
            )
        result.narrow(0, structure.offsets[i], structure.sizes[i]).copy_(
            table.expand(structure.table_shape(node)).flatten()
        )
    return result


__all__ = ["Counts", "TableLearner", "checked_weights", "distinct_rows", "spread_counts"]
