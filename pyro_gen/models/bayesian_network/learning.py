"""Learning the CPDs of a Bayesian network without an optimiser, for tables and Gaussian nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen._module import Module
from pyro_gen._plates import check_rows
from pyro_gen.distributions import NetworkStructure
from pyro_gen.distributions.bayesian_network.tables import by_node
from pyro_gen.models.bayesian_network.gaussian_learning import Regression, regression
from pyro_gen.models.bayesian_network.table_learning import (
    Counts,
    TableLearner,
    checked_weights,
    distinct_rows,
    spread_counts,
)
from pyro_gen.models.em import FitResult
from pyro_gen.nn import CPD, ConditionalGaussianCPD, TabularCPD

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


class NetworkLearning(Module):
    """Learning from counts, for :class:`pyro_gen.models.BayesianNetwork`."""

    structure: NetworkStructure
    skeleton: NetworkStructure
    size: int | None
    max_cells: int

    def fit(
        self,
        data: Any,
        pseudo_count: Counts = 0.0,
        *,
        weights: Tensor | None = None,
        num_starts: int | None = None,
        num_steps: int = 1000,
        tolerance: float = 1e-8,
        batch_size: int = 2000,
    ) -> FitResult:
        r"""Learn the CPDs: from counts where rows are complete, by EM where cells are missing.

        .. math:: \theta_{x | u} = \frac{N_{xu} + a}{\sum_{x'} (N_{x'u} + a)}

        with counts :math:`N`, expected ones given what was observed in EM. That
        is the mode of the posterior under Dirichlet priors with parameters 1 +
        a, maximum likelihood for a = 0; for complete rows it is also the
        posterior mean under Dirichlet(a). EM uses every row and every cell
        seen, so it is right where cells are missing at random: whether one is
        missing may depend on what was seen in the row, not on the missing value
        itself. Dropping incomplete rows, in contrast, is right only where cells
        are missing completely at random.

        Gaussian nodes are regressed on their parents by least squares, in each
        configuration of the discrete ones; rows must then be complete (with
        missing cells use ``SVI`` and ``evidence_model``).

        CPDs whose parameters do not require gradients stay as they are
        (``network.cpd("x").requires_grad_(False)``). A row of a table without
        counts keeps its probabilities. In EM a probability that is zero stays
        zero where ``pseudo_count`` is zero.

        Args:
            data: as for ``model``, -1 where missing; a node that is not there
                was never observed.
            pseudo_count: a, one number, or by node a number or a table (nodes
                left out have 0); for tables only.
            weights: of the rows, (rows,); None for one each.
            num_starts: random starts of EM; 0 starts at the present tables.
                None starts there unless a node was never observed, whose states
                cannot be distinguished in equal tables: then it is 10.
            num_steps: of each start, at most.
            tolerance: gain in nats a row below which EM ends.
            batch_size: distinct rows in one call of exact inference.

        Returns:
            Log likelihood, with the objective of every step.

        Raises:
            ValueError: an argument is out of range, a row has probability zero,
                a clique is too large, a CPD is neither a table nor Gaussian
                (learn that by ``SVI``), or the rows leave a Gaussian node no
                residual.

        References:
            Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete
            data via the EM algorithm. Lauritzen (1995), The EM algorithm for
            graphical association models with missing data. Rubin (1976),
            Inference and missing data.

        Example:
            >>> import networkx as nx, torch
            >>> from pyro_gen.models import BayesianNetwork
            >>> network = BayesianNetwork(nx.DiGraph([("a", "b")]))
            >>> _ = network.fit({"a": torch.tensor([0, 0, 1, 1]), "b": torch.tensor([0, 1,
            ...     1, -1])}, pseudo_count=1.0)
            >>> network.cpd("b").table()  # doctest: +NORMALIZE_WHITESPACE
            tensor([[0.5000, 0.5000],
                    [0.3333, 0.6667]], dtype=torch.float64, grad_fn=<SoftmaxBackward0>)
        """
        num_steps = whole_number("num_steps", num_steps)
        batch_size = whole_number("batch_size", batch_size)
        if num_starts is None:
            num_starts = None
        else:
            num_starts = whole_number("num_starts", num_starts, 0)
        if not tolerance >= 0:
            raise ValueError(f"`tolerance` must not be negative, got {tolerance}")
        columns, count = self._seen(data)
        weights = checked_weights(weights, count)
        regressions = self._regressions(columns, weights)
        result = self._fit_tables(
            columns, weights, pseudo_count, num_starts, num_steps, tolerance, batch_size
        )
        for node, coefficients in regressions.items():
            _set_coefficients(self.cpd(node), coefficients)
        real = self._log_likelihood_of_real(columns, weights)
        return FitResult(
            result.log_likelihood + real,
            result.objective + real,
            result.converged,
            False,
            result.starts + real,
        )

    def _fit_tables(
        self,
        columns: Mapping[str, Tensor],
        weights: Tensor,
        pseudo_count: Counts,
        num_starts: int | None,
        num_steps: int,
        tolerance: float,
        batch_size: int,
    ) -> FitResult:
        """Learn the discrete nodes, if there are any."""
        if not self.structure.nodes:
            return FitResult(0.0, torch.zeros(1).double(), True, False, torch.zeros(1).double())
        learner = self._learner(batch_size)
        rows = self._rows(columns, len(weights))
        pseudo = spread_counts(self.structure, pseudo_count, learner.tables, "pseudo_count")
        counted = distinct_rows(rows, weights.to(learner.tables))
        hidden = (counted.rows < 0).all(0)
        if num_starts is None:
            starts = STARTS * int(hidden.any())
        else:
            starts = num_starts
        try:
            tables, result = learner.fit(counted, pseudo, starts, num_steps, tolerance)
        except ValueError:
            # names the rows of the data, not the distinct ones
            learner.distribution(learner.tables).log_evidence(rows)
            raise
        self._take(tables)
        return result

    def _real(self) -> list[str]:
        """Nodes that are real numbers."""
        return [node for node in self.skeleton.nodes if node not in self.structure.index]

    @torch.no_grad()
    def _regressions(
        self, columns: Mapping[str, Tensor], weights: Tensor
    ) -> dict[str, Regression]:
        """Regressions of the Gaussian nodes that are to be learned.

        Raises:
            ValueError: there are real nodes, and cells are missing or a CPD
                cannot be learned.
        """
        real = self._real()
        for node in self.skeleton.nodes if real else ():
            if node not in columns or (node not in real and (columns[node] < 0).any()):
                raise ValueError(
                    "`data` must be complete where there are real nodes, got missing cells of "
                    f"node {node!r}: use SVI "
                    "with `evidence_model`"
                )
        regressions = {}
        for node in real:
            cpd = self.cpd(node)
            if not learned(cpd):
                continue
            if not isinstance(cpd, ConditionalGaussianCPD):
                raise ValueError(
                    f"the CPD of the real node {node!r} must be Gaussian, got {type(cpd).__name__}"
                )
            parents = [columns[parent] for parent in self.skeleton.parents[node]]
            regressions[node] = regression(cpd, parents, columns[node], weights, node)
        return regressions

    @torch.no_grad()
    def _log_likelihood_of_real(self, columns: Mapping[str, Tensor], weights: Tensor) -> float:
        """Log likelihood of the real nodes given their parents."""
        total = 0.0
        for node in self._real():
            distribution = self.cpd(node)(
                *(columns[parent] for parent in self.skeleton.parents[node])
            )
            total += float((distribution.log_prob(columns[node]) * weights).sum())
        return total

    def sample_cpds(
        self,
        data: Any,
        concentration: Counts = 1.0,
        *,
        num_samples: int = 1000,
        num_chains: int = 4,
        warmup_steps: int = 100,
    ) -> CPDDraws:
        """Draw the tables from their posterior under Dirichlet priors.

        Draws are exact and independent where rows are complete. Where cells are
        missing they come by Gibbs sampling: the missing cells exactly given the
        tables (all of a row together), then the tables exactly given all cells;
        chains start at random. States of a node that was never observed may
        change places from chain to chain. The network keeps its tables;
        ``pyro_gen.arviz.from_cpds`` hands the draws to ArviZ.

        Args:
            data: as for ``model``, -1 where missing.
            concentration: parameters of the Dirichlet priors, positive: one
                number, or by node a number or a table (1 for nodes left out).
            num_samples: draws of each chain that are kept.
            num_chains: chains.
            warmup_steps: sweeps of each chain before them.

        Returns:
            The draws by node.

        Raises:
            ValueError: as :meth:`fit`.

        References:
            Tanner and Wong (1987), The calculation of posterior distributions
            by data augmentation.

        Example:
            >>> import networkx as nx, torch
            >>> from pyro_gen.models import BayesianNetwork
            >>> network = BayesianNetwork(nx.DiGraph([("a", "b")]))
            >>> draws = network.sample_cpds({"a": torch.tensor([0, 1]),
            ...     "b": torch.tensor([1, -1])}, num_samples=50)
            >>> draws.tables["b"].shape  # chains, draws, states of a, states of b
            torch.Size([4, 50, 2, 2])
        """
        num_samples = whole_number("num_samples", num_samples)
        num_chains = whole_number("num_chains", num_chains)
        warmup_steps = whole_number("warmup_steps", warmup_steps, 0)
        if self._real():
            raise ValueError(
                "tables of networks with real nodes are not drawn: use `fit`, or SVI with `model`"
            )
        learner = self._learner()
        (columns, count) = self._seen(data)
        if isinstance(concentration, Mapping):
            concentration = dict.fromkeys(self.structure.nodes, 1.0) | dict(concentration)
        prior = spread_counts(self.structure, concentration, learner.tables, "concentration")
        if not (prior > 0).all():
            raise ValueError("`concentration` must be positive")
        counted = distinct_rows(self._rows(columns, count), learner.tables.new_ones(count))
        with torch.no_grad():
            draws = by_node(
                self.structure,
                learner.draws(counted, prior, num_samples, num_chains, warmup_steps),
            )
        return CPDDraws(
            self.structure, {node: x for node, x in draws.items() if learned(self.cpd(node))}
        )

    def _columns(self, data: Any) -> tuple[dict[str, Tensor], int]:
        raise NotImplementedError

    def cpd(self, node: str) -> CPD:
        """The CPD of a node."""
        raise NotImplementedError

    def _seen(self, data: Any) -> tuple[dict[str, Tensor], int]:
        """Data by node, without nodes that are missing in all rows, and the number of
        rows, of which there are some.
        """
        if data is None:
            raise ValueError("`data` must hold rows, got None")
        columns, rows = self._columns(data)
        if not rows or not columns:
            raise ValueError(
                "`data` must hold at least one row and one cell that was observed, got none"
            )
        check_rows(self.size, rows)
        return columns, rows

    def _rows(self, columns: Mapping[str, Tensor], count: int) -> Tensor:
        """The discrete nodes as state numbers (rows, nodes)."""
        missing = next(iter(columns.values())).new_full((count,), -1, dtype=torch.int64)
        return torch.stack([columns.get(node, missing) for node in self.structure.nodes], 1)

    def _tabular(self) -> list[TabularCPD]:
        """The tables as modules; CPDs of other kinds only where they are not learned."""
        cpds = [self.cpd(node) for node in self.structure.nodes]
        for node, cpd in zip(self.structure.nodes, cpds, strict=True):
            if not isinstance(cpd, TabularCPD) and learned(cpd):
                raise ValueError(
                    f"the CPD of node {node!r} must be a TabularCPD to be learned from counts, "
                    "got "
                    f"{type(cpd).__name__}: use SVI with `model` or `evidence_model`, or hold it "
                    "fixed by "
                    "requires_grad_(False)"
                )
        return cpds  # type: ignore[return-value]  # those of other kinds are never written to

    def _learner(self, batch_size: int = 2000) -> TableLearner:
        cpds = self._tabular()
        with torch.no_grad():
            tables = torch.cat([cpd.table().double().flatten() for cpd in cpds])
        free = torch.tensor([learned(cpd) for cpd in cpds])[self.structure.node_of_cell].to(
            tables.device
        )
        return TableLearner(self.structure, tables, free, self.max_cells, batch_size)

    @torch.no_grad()
    def _take(self, tables: Tensor) -> None:
        for cpd, table in zip(
            self._tabular(), by_node(self.structure, tables).values(), strict=True
        ):
            if learned(cpd):
                cpd.weight.copy_(table.log())


def learned(cpd: CPD) -> bool:
    """True if a CPD is to be learned: its parameters require gradients."""
    return any(p.requires_grad for p in cpd.parameters())


@torch.no_grad()
def _set_coefficients(cpd: CPD, coefficients: Regression) -> None:
    for name, value in coefficients._asdict().items():
        cpd.get_parameter(name).copy_(value)


__all__ = ["CPDDraws", "NetworkLearning"]
