"""Learning the tables of a Bayesian network: counts, EM where cells are missing, and draws from their posterior."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen.distributions import NetworkStructure
from pyro_gen.distributions.bayesian_network.tables import cells_of, row_sums
from pyro_gen.nn import CPD, TabularCPD

Counts = float | Mapping[str, "float | Tensor"]
"""A number for every cell of every table, or by node a number or a table."""

STARTS = 10
"""Random starts of EM where a node was never observed."""


class NetworkFit(NamedTuple):
    """What :meth:`BayesianNetwork.fit` reached, in nats over all rows.

    Args:
        log_likelihood: of what was observed, under the learned tables.
        objective: what was climbed, log likelihood and log prior, before every step of the best start and at its end.
        converged: whether it stopped by itself.
        starts: objective at the end of every start.
    """

    log_likelihood: float
    objective: Tensor
    converged: bool
    starts: Tensor


class Seen(NamedTuple):
    """Distinct rows (rows, nodes) with -1 where missing, and how often each came."""

    rows: Tensor
    weights: Tensor

    def subset(self, chosen: Tensor) -> Seen:
        """Some of the rows."""
        return Seen(self.rows[chosen], self.weights[chosen])


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

    def law(self, tables: Tensor) -> distributions.BayesianNetwork:
        """The network with given tables."""
        return distributions.BayesianNetwork(self.structure, tables, max_cells=self.max_cells, validate_args=False)

    def complete_counts(self, seen: Seen) -> Tensor:
        """How often each cell was used in complete rows, (cells,)."""
        cells = cells_of(self.structure, seen.rows)
        weights = seen.weights.unsqueeze(1).expand_as(cells)
        return torch.zeros_like(self.tables).index_add(0, cells.flatten(), weights.flatten())

    def expected_counts(self, seen: Seen, tables: Tensor) -> tuple[Tensor, float]:
        """The E-step: expected counts of all cells, theta * d log p / d theta, and the log likelihood."""
        counts, total = torch.zeros_like(tables), 0.0
        ever = (seen.rows >= 0).any(0).tolist()
        for rows, weights in zip(seen.rows.split(self.batch_size), seen.weights.split(self.batch_size), strict=True):
            with torch.enable_grad():
                flat = tables.detach().clone().requires_grad_()
                log_likelihood = (self.law(flat).log_evidence(self._evidence(rows, ever)) * weights).sum()
                (slope,) = torch.autograd.grad(log_likelihood, flat)
            counts += slope * tables
            total += log_likelihood.item()
        return counts, total

    def _evidence(self, rows: Tensor, ever: list[bool]) -> dict[str, Tensor]:
        """Rows by node; one that is missing in this batch alone gets a likelihood, to count as in the others."""
        named = zip(self.structure.nodes, rows.unbind(1), ever, self.structure.cardinalities, strict=True)
        return {
            node: self.tables.new_ones(states) if known and (x < 0).all() else x for node, x, known, states in named
        }

    def maximised(self, counts: Tensor, tables: Tensor) -> Tensor:
        """The M-step: counts over their sums; rows that nothing was counted of stay as they are."""
        sums = row_sums(self.structure, counts)[self.structure.row_of_cell.to(counts.device)]
        return torch.where(self.free & (sums > 0), counts / torch.where(sums > 0, sums, 1.0), tables)

    def log_prior(self, pseudo: Tensor, tables: Tensor) -> float:
        """Log density of the tables under Dirichlet(1 + pseudo counts), up to a constant."""
        return float(torch.where(self.free & (pseudo > 0), pseudo * tables.log(), 0.0).sum())

    def climb(
        self, seen: Seen, pseudo: Tensor, start: Tensor, num_steps: int, tolerance: float
    ) -> tuple[Tensor, NetworkFit]:
        """EM from one start."""
        tables, path, size = start, list[float](), float(seen.weights.sum())
        counts, log_likelihood = self.expected_counts(seen, tables)
        path.append(log_likelihood + self.log_prior(pseudo, tables))
        converged = False
        for _ in range(num_steps):
            tables = self.maximised(counts + pseudo, tables)
            counts, log_likelihood = self.expected_counts(seen, tables)
            path.append(log_likelihood + self.log_prior(pseudo, tables))
            converged = path[-1] - path[-2] <= tolerance * size  # -inf under a prior before the first step is no gain
            if converged:
                break
        objective = torch.tensor(path, dtype=torch.float64)
        return tables, NetworkFit(log_likelihood, objective, converged, objective[-1:])

    def random_start(self) -> Tensor:
        """Rows drawn evenly from all laws, zeros kept."""
        drawn = torch.where(self.tables > 0, torch.empty_like(self.tables).exponential_(), 0.0)
        return self.maximised(drawn, self.tables)

    def fit(self, seen: Seen, pseudo: Tensor, num_starts: int, num_steps: int, tolerance: float) -> Any:
        """The best tables, and what was reached; in closed form where the rows are complete."""
        if not (seen.rows < 0).any():
            tables = self.maximised(self.complete_counts(seen) + pseudo, self.tables)
            log_likelihood = float((self.law(tables).log_prob(seen.rows) * seen.weights).sum())
            found = log_likelihood + self.log_prior(pseudo, tables)
            objective = torch.tensor([found], dtype=torch.float64)
            return tables, NetworkFit(log_likelihood, objective, True, objective)
        starts = [self.random_start() for _ in range(num_starts)] or [self.tables]
        ends = [self.climb(seen, pseudo, start, num_steps, tolerance) for start in starts]
        tables, best = max(ends, key=lambda end: end[1].objective[-1].item())
        return tables, best._replace(starts=torch.cat([end.starts for _, end in ends]))

    def draws(self, seen: Seen, concentration: Tensor, num_samples: int, num_chains: int, warmup: int) -> Tensor:
        """Draws of all tables given the rows, (chains, draws, cells); independent ones where the rows are complete."""
        partial = (seen.rows < 0).any(1)
        known = self.complete_counts(seen.subset(~partial)) + concentration
        if not partial.any():
            return self.dirichlet(known.expand(num_chains, num_samples, -1))
        rows = seen.subset(partial)
        repeated = rows.rows.repeat_interleave(rows.weights.long(), 0)
        return torch.stack([self._chain(repeated, known, num_samples, warmup) for _ in range(num_chains)])

    def _chain(self, rows: Tensor, known: Tensor, num_samples: int, warmup: int) -> Tensor:
        """Gibbs sampling: completions given tables, tables given completions."""
        tables, kept = self.random_start(), []
        for step in range(warmup + num_samples):
            drawn = self.law(tables).sample_posterior(rows)
            complete = torch.stack([drawn[node].squeeze(0) for node in self.structure.nodes], 1)
            ones = torch.ones(len(complete), dtype=known.dtype, device=known.device)
            tables = self.dirichlet(known + self.complete_counts(Seen(complete, ones)))
            if step >= warmup:
                kept.append(tables)
        return torch.stack(kept)

    def dirichlet(self, concentration: Tensor) -> Tensor:
        """One draw of each row of each table, for concentrations (..., cells)."""
        # log Gamma(a) = log Gamma(a + 1) + log(U) / a does not underflow where a is small
        a = concentration.clamp_min(torch.finfo(concentration.dtype).tiny)
        logs = torch._standard_gamma(a + 1).log() + torch.rand_like(a).log() / a
        rows = self.structure.row_of_cell.to(a.device)
        top = torch.full((*a.shape[:-1], self.structure.num_rows), -torch.inf, dtype=a.dtype, device=a.device)
        top = top.scatter_reduce(-1, rows.expand(a.shape), logs, "amax")
        drawn = (logs - top[..., rows]).exp()
        return torch.where(self.free, drawn / row_sums(self.structure, drawn)[..., rows], self.tables)


@dataclass(frozen=True)
class CPDDraws:
    """Draws from the posterior of a network's tables; ``pyro_gen.arviz.from_cpds`` hands them to ArviZ.

    Args:
        structure: nodes, states, parents.
        tables: by node, (chains, draws, states of each parent, own states).
    """

    structure: NetworkStructure
    tables: dict[str, Tensor]

    def mean(self) -> dict[str, Tensor]:
        """Posterior mean of each table: also the predictive probabilities."""
        return {node: table.mean((0, 1)) for node, table in self.tables.items()}


class NetworkLearning(nn.Module):
    """Learning from counts, for :class:`pyro_gen.models.BayesianNetwork`."""

    structure: NetworkStructure
    skeleton: NetworkStructure
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
    ) -> NetworkFit:
        r"""Learn the tables: from counts where rows are complete, by EM where cells are missing.

        .. math:: \theta_{x | u} = \frac{N_{xu} + a}{\sum_{x'} (N_{x'u} + a)}

        with counts :math:`N`, expected ones given what was observed in EM. That is the mode of the posterior under
        Dirichlet priors with parameters 1 + a, maximum likelihood for a = 0; for complete rows it is also the posterior
        mean under Dirichlet(a). EM uses every row and every cell seen, so it is right where cells are missing at
        random: whether one is missing may depend on what was seen in the row, not on the missing value itself. Dropping
        incomplete rows, in contrast, is right only where cells are missing completely at random.

        CPDs whose parameters do not require gradients stay as they are (``network.cpd("x").requires_grad_(False)``).
        A row of a table that nothing was counted of keeps its probabilities. In EM a probability that is zero stays
        zero where ``pseudo_count`` is zero.

        Args:
            data: as for ``model``, -1 where missing; a node that is not there was never observed.
            pseudo_count: a, one number, or by node a number or a table (nodes left out have 0).
            weights: of the rows, (rows,); None for one each.
            num_starts: random starts of EM; 0 starts at the present tables. None starts there unless a node was never
                observed, whose states nothing tells apart in equal tables: then it is 10.
            num_steps: of each start, at most.
            tolerance: gain in nats a row below which EM ends.
            batch_size: distinct rows in one call of exact inference.

        Returns:
            Log likelihood, and how it was climbed.

        Raises:
            ValueError: an argument is out of place, a row has probability zero, a clique is too large, or a CPD is no
                table (learn that by ``SVI``).

        References:
            Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm. Lauritzen
            (1995), The EM algorithm for graphical association models with missing data. Rubin (1976), Inference and
            missing data.

        Example:
            >>> import networkx as nx, torch
            >>> from pyro_gen.models import BayesianNetwork
            >>> network = BayesianNetwork(nx.DiGraph([("a", "b")]))
            >>> _ = network.fit({"a": torch.tensor([0, 0, 1, 1]), "b": torch.tensor([0, 1, 1, -1])}, pseudo_count=1.0)
            >>> network.cpd("b").table()  # doctest: +NORMALIZE_WHITESPACE
            tensor([[0.5000, 0.5000],
                    [0.3333, 0.6667]], dtype=torch.float64, grad_fn=<SoftmaxBackward0>)
        """
        if num_steps < 1 or batch_size < 1 or (num_starts is not None and num_starts < 0) or not tolerance >= 0:
            raise ValueError(
                "`num_steps` and `batch_size` must be at least 1, `num_starts` and `tolerance` not negative, got "
                f"{num_steps}, {batch_size}, {num_starts} and {tolerance}"
            )
        learner, rows = self._learner(batch_size), self._rows(data)
        seen = distinct_rows(rows, weights, learner.tables)
        hidden = (seen.rows < 0).all(0)
        pseudo = spread(self.structure, pseudo_count, learner.tables, "pseudo_count")
        starts = STARTS * int(hidden.any()) if num_starts is None else num_starts
        try:
            tables, result = learner.fit(seen, pseudo, starts, num_steps, tolerance)
        except ValueError:
            learner.law(learner.tables).log_evidence(rows)  # names the rows of the data, not the distinct ones
            raise
        self._take(tables)
        found: NetworkFit = result
        return found

    def sample_cpds(
        self,
        data: Any,
        concentration: Counts = 1.0,
        *,
        num_samples: int = 1000,
        num_chains: int = 4,
        warmup: int = 100,
    ) -> CPDDraws:
        """Draw the tables from their posterior under Dirichlet priors: how sure are the learned probabilities?

        Draws are exact and independent where rows are complete. Where cells are missing they come by Gibbs sampling:
        the missing cells exactly given the tables (all of a row together), then the tables exactly given all cells;
        chains start at random. States of a node that was never observed may change places from chain to chain.
        The network keeps its tables; ``pyro_gen.arviz.from_cpds`` hands the draws to ArviZ.

        Args:
            data: as for ``model``, -1 where missing.
            concentration: parameters of the Dirichlet priors, positive: one number, or by node a number or a table (1
                for nodes left out).
            num_samples: draws of each chain that are kept.
            num_chains: chains.
            warmup: sweeps of each chain before them.

        Returns:
            The draws by node.

        Raises:
            ValueError: as :meth:`fit`.

        References:
            Tanner and Wong (1987), The calculation of posterior distributions by data augmentation.

        Example:
            >>> import networkx as nx, torch
            >>> from pyro_gen.models import BayesianNetwork
            >>> network = BayesianNetwork(nx.DiGraph([("a", "b")]))
            >>> draws = network.sample_cpds({"a": torch.tensor([0, 1]), "b": torch.tensor([1, -1])}, num_samples=50)
            >>> draws.tables["b"].shape  # chains, draws, states of a, states of b
            torch.Size([4, 50, 2, 2])
        """
        if num_samples < 1 or num_chains < 1 or warmup < 0:
            raise ValueError(
                "`num_samples` and `num_chains` must be at least 1 and `warmup` not negative, got "
                f"{num_samples}, {num_chains} and {warmup}"
            )
        learner = self._learner()
        if isinstance(concentration, Mapping):
            concentration = dict.fromkeys(self.structure.nodes, 1.0) | dict(concentration)
        prior = spread(self.structure, concentration, learner.tables, "concentration")
        if not (prior > 0).all():
            raise ValueError("`concentration` must be positive")
        seen = distinct_rows(self._rows(data), None, learner.tables)
        with torch.no_grad():
            drawn = learner.draws(seen, prior, num_samples, num_chains, warmup).split(self.structure.sizes, -1)
        shapes = [self.structure.table_shape(node) for node in self.structure.nodes]
        free = [any(p.requires_grad for p in cpd.parameters()) for cpd in self._tabular()]
        named = zip(self.structure.nodes, drawn, shapes, free, strict=True)
        return CPDDraws(self.structure, {node: x.unflatten(-1, shape) for node, x, shape, learned in named if learned})

    def _columns(self, data: Any) -> tuple[dict[str, Tensor], int]:
        raise NotImplementedError

    def cpd(self, node: str) -> CPD:
        """The CPD of a node."""
        raise NotImplementedError

    def _rows(self, data: Any) -> Tensor:
        """Data as state numbers (rows, nodes)."""
        if data is None:
            raise ValueError("`data` must hold rows, got None")
        columns, rows = self._columns(data)
        if not rows or not columns:
            raise ValueError("`data` must hold at least one row and one cell that was observed, got none")
        missing = torch.full_like(next(iter(columns.values())), -1)
        return torch.stack([columns.get(node, missing) for node in self.structure.nodes], 1)

    def _tabular(self) -> list[TabularCPD]:
        """The tables as modules; CPDs of other kinds only where they are not learned."""
        if len(self.structure.nodes) < len(self.skeleton.nodes):
            raise ValueError("networks with real nodes cannot be learned from counts: use SVI with `model` and `guide`")
        cpds = [self.cpd(node) for node in self.structure.nodes]
        for node, cpd in zip(self.structure.nodes, cpds, strict=True):
            if not isinstance(cpd, TabularCPD) and any(p.requires_grad for p in cpd.parameters()):
                raise ValueError(
                    f"the CPD of node {node!r} must be a TabularCPD to be learned from counts, got "
                    f"{type(cpd).__name__}: use SVI with `model` or `evidence_model`, or hold it fixed by "
                    "requires_grad_(False)"
                )
        return cpds  # type: ignore[return-value]  # those of other kinds are never written to

    def _learner(self, batch_size: int = 2000) -> TableLearner:
        cpds = self._tabular()
        with torch.no_grad():
            tables = torch.cat([cpd.table().double().flatten() for cpd in cpds])
        learned = torch.tensor([any(p.requires_grad for p in cpd.parameters()) for cpd in cpds])
        free = learned[self.structure.node_of_cell].to(tables.device)
        return TableLearner(self.structure, tables, free, self.max_cells, batch_size)

    @torch.no_grad()
    def _take(self, tables: Tensor) -> None:
        for cpd, table in zip(self._tabular(), tables.split(self.structure.sizes), strict=True):
            if any(p.requires_grad for p in cpd.parameters()):
                cpd.weight.copy_(table.view_as(cpd.weight).log())


def distinct_rows(rows: Tensor, weights: Tensor | None, like: Tensor) -> Seen:
    """Equal rows taken together.

    Args:
        rows: state numbers (rows, nodes).
        weights: of the rows, (rows,); None for one each.
        like: a tensor of the dtype and on the device of the weights.

    Raises:
        ValueError: the weights have another shape, or one is negative or no number.
    """
    given = like.new_ones(len(rows)) if weights is None else weights.to(like)
    if given.shape != (len(rows),) or not ((given >= 0) & (given < torch.inf)).all() or not given.sum() > 0:
        raise ValueError(f"`weights` must be {len(rows)} finite numbers, none negative, not all 0")
    kept, inverse = torch.unique(rows.to(like.device), dim=0, return_inverse=True)
    return Seen(kept, like.new_zeros(len(kept)).index_add(0, inverse, given))


def spread(structure: NetworkStructure, given: Counts, like: Tensor, name: str) -> Tensor:
    """A number for each cell of the flattened tables.

    Args:
        structure: nodes, states, parents.
        given: see ``Counts``.
        like: the flattened tables.
        name: of the argument, for messages.

    Raises:
        ValueError: a number is negative or not finite, a node unknown, or a table of another shape.
    """
    by_node = given if isinstance(given, Mapping) else dict.fromkeys(structure.nodes, given)
    result = torch.zeros_like(like)
    for node, value in by_node.items():
        i = structure.number(node)
        table = torch.as_tensor(value, dtype=like.dtype, device=like.device)
        if table.dim() and table.shape != structure.table_shape(node):
            raise ValueError(
                f"`{name}` of node {node!r} must be a number or of shape {structure.table_shape(node)}, got "
                f"{tuple(table.shape)}"
            )
        if not ((table >= 0) & (table < math.inf)).all():
            raise ValueError(f"`{name}` of node {node!r} must be finite and not negative, got {value}")
        result.narrow(0, structure.offsets[i], structure.sizes[i]).copy_(
            table.expand(structure.table_shape(node)).flatten()
        )
    return result


__all__ = ["CPDDraws", "Counts", "NetworkFit", "NetworkLearning", "TableLearner", "distinct_rows", "spread"]
