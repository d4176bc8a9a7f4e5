"""Learning of the CPDs of a Bayesian network without an optimiser: tables and Gaussian nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_gen.distributions import NetworkStructure
from pyro_gen.distributions.bayesian_network.tables import by_node
from pyro_gen.models.bayesian_network.gaussian_learning import Regression, regression
from pyro_gen.models.bayesian_network.table_learning import (
    Counts,
    TableLearner,
    distinct_rows,
    spread_counts,
)
from pyro_gen.models.em import FitResult
from pyro_gen.nn import CPD, ConditionalGaussianCPD, DiscreteCPD, TabularCPD

STARTS = 10
"""Random starts of EM where a node was never observed."""


@dataclass(frozen=True)
class CPDDraws:
    """Draws from the posterior of a network's tables.

    ``pyro_gen.arviz.from_cpds`` hands them to ArviZ.

    Args:
        structure: nodes, states, parents.
        tables: by node, (chains, draws, states of each parent, own states).
    """

    structure: NetworkStructure
    tables: dict[str, Tensor]

    def mean(self) -> dict[str, Tensor]:
        """Posterior mean of each table: also the predictive probabilities."""
        return {node: table.mean((0, 1)) for node, table in self.tables.items()}


@dataclass(frozen=True)
class CPDLearner:
    """The CPDs of a network beside the rows to learn them from.

    Those whose parameters require no gradients are left as they are.

    Args:
        skeleton: all nodes.
        structure: the discrete ones.
        cpds: by node, changed in place.
        columns: state numbers by node, -1 where missing, or real numbers,
            (rows,).
        weights: of the rows, (rows,), float64.
        max_cells: cells of the largest clique allowed.
    """

    skeleton: NetworkStructure
    structure: NetworkStructure
    cpds: Mapping[str, CPD]
    columns: Mapping[str, Tensor]
    weights: Tensor
    max_cells: int

    def fit(
        self,
        pseudo_count: Counts,
        num_starts: int | None,
        num_steps: int,
        tolerance: float,
        batch_size: int,
    ) -> FitResult:
        """Maximum of the posterior of the tables and of the likelihood of the Gaussian nodes."""
        regressions = self._regressions()
        result = self._fit_tables(pseudo_count, num_starts, num_steps, tolerance, batch_size)
        with torch.no_grad():
            for node, coefficients in regressions.items():
                for name, value in coefficients._asdict().items():
                    self.cpds[node].get_parameter(name).copy_(value)
        real = self._log_likelihood_of_real()
        return FitResult(
            result.log_likelihood + real,
            result.objective + real,
            result.converged,
            False,
            result.starts + real,
        )

    @torch.no_grad()
    def sample(
        self, concentration: Counts, num_samples: int, num_chains: int, warmup_steps: int
    ) -> CPDDraws:
        """Draws from the posterior of the tables."""
        learner = self._tables()
        if isinstance(concentration, Mapping):
            concentration = dict.fromkeys(self.structure.nodes, 1.0) | dict(concentration)
        prior = spread_counts(self.structure, concentration, learner.tables, "concentration")
        if not (prior > 0).all():
            raise ValueError("`concentration` must be positive")
        counted = distinct_rows(self._rows(), self.weights.to(learner.tables))
        draws = learner.draws(counted, prior, num_samples, num_chains, warmup_steps)
        tables = by_node(self.structure, draws).items()
        return CPDDraws(
            self.structure, {node: x for node, x in tables if learned(self.cpds[node])}
        )

    def _fit_tables(
        self,
        pseudo_count: Counts,
        num_starts: int | None,
        num_steps: int,
        tolerance: float,
        batch_size: int,
    ) -> FitResult:
        """Learn the discrete nodes, if there are any."""
        if not self.structure.nodes:
            return FitResult(0.0, torch.zeros(1).double(), True, False, torch.zeros(1).double())
        learner = self._tables(batch_size)
        rows = self._rows()
        pseudo = spread_counts(self.structure, pseudo_count, learner.tables, "pseudo_count")
        counted = distinct_rows(rows, self.weights.to(learner.tables))
        if num_starts is None:
            never_observed = (counted.rows < 0).all(0)
            num_starts = STARTS * int(never_observed.any())
        try:
            result, tables = learner.fit(counted, pseudo, num_starts, num_steps, tolerance)
        except ValueError:
            # names the rows of the data, not the distinct ones
            learner.distribution(learner.tables).log_evidence(rows)
            raise
        with torch.no_grad():
            for node, table in by_node(self.structure, tables).items():
                cpd = self.cpds[node]
                if isinstance(cpd, TabularCPD) and learned(cpd):
                    cpd.weight.copy_(table.log())
        return result

    def _tables(self, batch_size: int = 2000) -> TableLearner:
        """The discrete CPDs as tables; raises if one that is to be learned is no table."""
        for node in self.structure.nodes:
            cpd = self.cpds[node]
            if not isinstance(cpd, TabularCPD) and learned(cpd):
                raise ValueError(
                    f"the CPD of node {node!r} must be a TabularCPD to be learned from counts, "
                    f"got {type(cpd).__name__}: use SVI with `model` or `evidence_model`, or hold "
                    "it fixed by requires_grad_(False)"
                )
        cpds = [self.cpds[node] for node in self.structure.nodes]
        with torch.no_grad():
            tables = torch.cat(
                [cpd.table().double().flatten() for cpd in cpds if isinstance(cpd, DiscreteCPD)]
            )
        free = torch.tensor([learned(cpd) for cpd in cpds])[self.structure.node_of_cell]
        return TableLearner(
            self.structure, tables, free.to(tables.device), self.max_cells, batch_size
        )

    def _rows(self) -> Tensor:
        """The discrete nodes as state numbers (rows, nodes)."""
        missing = torch.full_like(next(iter(self.columns.values())), -1, dtype=torch.int64)
        return torch.stack([self.columns.get(node, missing) for node in self.structure.nodes], 1)

    def _real(self) -> list[str]:
        """Nodes that are real numbers."""
        return [node for node in self.skeleton.nodes if node not in self.structure.index]

    def _parents(self, node: str) -> list[Tensor]:
        return [self.columns[parent] for parent in self.skeleton.parents[node]]

    @torch.no_grad()
    def _regressions(self) -> dict[str, Regression]:
        """Regressions of the Gaussian nodes that are to be learned, which need complete rows."""
        real = self._real()
        for node in self.skeleton.nodes if real else ():
            values = self.columns.get(node)
            if values is None or (node not in real and (values < 0).any()):
                raise ValueError(
                    "`data` must be complete where there are real nodes, got missing cells of "
                    f"node {node!r}: use SVI with `evidence_model`"
                )
        regressions = {}
        for node in real:
            cpd = self.cpds[node]
            if not learned(cpd):
                continue
            if not isinstance(cpd, ConditionalGaussianCPD):
                raise ValueError(
                    f"the CPD of the real node {node!r} must be Gaussian, got {type(cpd).__name__}"
                )
            values = self.columns[node]
            regressions[node] = regression(cpd, self._parents(node), values, self.weights, node)
        return regressions

    @torch.no_grad()
    def _log_likelihood_of_real(self) -> float:
        """Log likelihood of the real nodes given their parents."""
        total = 0.0
        for node in self._real():
            log_prob = self.cpds[node](*self._parents(node)).log_prob(self.columns[node])
            total += float((log_prob * self.weights).sum())
        return total


def learned(cpd: CPD) -> bool:
    """True if a CPD is to be learned: its parameters require gradients."""
    return any(p.requires_grad for p in cpd.parameters())


__all__ = ["CPDDraws", "CPDLearner"]
