"""Queries about one network by elimination: posteriors, evidence, best states, draws."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pyro_gen.distributions.bayesian_network.elimination import (
    LINEAR,
    LOG,
    PEAK,
    SAFE,
    EvidenceRows,
    Prepared,
    Semiring,
    forward,
    prepare,
    row_blocks,
    safe_log,
    trace_back,
)
from pyro_gen.distributions.bayesian_network.plan import Plan
from pyro_gen.distributions.bayesian_network.structure import NetworkStructure, Query
from pyro_gen.distributions.bayesian_network.tables import by_node

REMEMBERED = 512
"""Prepared plans that are kept."""
TINY = 2**12
"""States of a network whose whole joint is the fastest way to one case's marginals."""
SMALL_NODES = 64
SMALL_CELLS = 2**11
"""Nodes and cells of the largest clique where a new plan costs more than it saves."""
KEEP_CELLS = 2**14
"""Cells of the largest clique of a plan whose prepared form is kept."""


@dataclass
class Engine:
    """A network's tables, one after another, and what was prepared of them.

    Args:
        structure: nodes, states, parents.
        flat: all tables, (cells,).
        max_cells: cells of the largest clique that is allowed.
    """

    structure: NetworkStructure
    flat: Tensor
    max_cells: int
    memo: dict[tuple[int, int, torch.dtype], tuple[Plan, Prepared]] = field(default_factory=dict)
    views: list[Tensor] = field(default_factory=list)
    version: int = -1
    positive: frozenset[int] = frozenset()
    zeros_version: int = -1

    def plan(
        self,
        rows: EvidenceRows,
        free: tuple[int, ...] = (),
        everything: bool = False,
        probed: Collection[int] = (),
        droppable: frozenset[int] = frozenset(),
    ) -> Plan:
        """The plan for evidence of this kind, ``probed`` nodes with likelihood vectors too."""
        hard = frozenset(rows.hard)
        soft = frozenset((*rows.soft, *probed))
        quick = rows.count == 1 and bool(hard)
        query = Query(hard, soft, free, everything, quick, droppable)
        plan = self.structure.plan(query)
        if plan.largest > self.max_cells:
            names = [self.structure.nodes[i] for i in plan.clique]
            shown = ", ".join(map(repr, names[:8]))
            if len(names) > 8:
                shown += ", ..."
            raise ValueError(
                f"exact inference needs a clique of {plan.largest:.4g} cells ({len(names)} nodes: "
                f"{shown}), and `max_cells` is {self.max_cells:.4g}; nothing was allocated: raise "
                "`max_cells`, observe more nodes, or use an approximate method"
            )
        return plan

    def joint(self, rows: EvidenceRows, free: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Distribution of nodes given evidence, (states of each, rows), and log evidence.

        Where nodes are asked for, parts of the network that do not touch them
        are left out if they cannot be impossible: the log probability is then
        that of the rest.
        """
        droppable: frozenset[int] = frozenset()
        if free:
            droppable = self._positive()
        plan = self.plan(rows, free, droppable=droppable)
        cuts = row_blocks(plan, rows, self.flat.device)
        # keeps one block's factors at a time, the others are made again
        if len(cuts) > 1 and self._tracks(rows):
            settings: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
            results = [
                checkpoint(self._joint, plan, rows.slice(*cut), LINEAR, **settings) for cut in cuts
            ]
        else:
            results = [self._joint(plan, rows.slice(*cut), LINEAR) for cut in cuts]
        distributions, logs = zip(*results, strict=True)
        return torch.cat(distributions, -1), torch.cat(logs)

    def _joint(
        self, plan: Plan, rows: EvidenceRows, ring: Semiring, tables: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        flat = self.flat
        if tables is not None:
            flat = tables
        value = self._forward(plan, rows, ring, flat)
        total = value
        if plan.free:
            total = ring.sum(value.flatten(0, -2), 0)
        if ring is LOG:
            finite = torch.where(total > -torch.inf, total, 0.0)
            return (value - finite).exp(), total
        good = total > SAFE[flat.dtype]
        if good.all():
            return value / total, total.log()
        total = torch.where(good, total, 1.0)
        distribution = torch.where(good, value / total, 0.0)
        log = total.log()
        bad = (~good).nonzero().squeeze(1)
        exact, exact_log = self._joint(plan, rows.pick(bad).to(torch.float64), *_next(flat))
        distribution = distribution.index_copy(-1, bad, exact.to(distribution.dtype))
        log = log.index_copy(0, bad, exact_log.to(log.dtype))
        return distribution, log

    def marginals(
        self, rows: EvidenceRows, nodes: Collection[int]
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Distributions of single nodes given evidence, (states, rows), and log evidence.

        They are derivatives of the log probability in the nodes' likelihood
        vectors, all by one backward pass.
        """
        if len(nodes) == 1:
            (node,) = nodes
            distribution, log = self.joint(rows, (node,))
            return {node: distribution}, log
        if rows.count == 1 and self.structure.num_states <= TINY:
            joint, log = self.joint(rows, tuple(nodes))
            single_nodes = {}
            for axis, i in enumerate(nodes):
                single_nodes[i] = joint.sum(
                    [other for other in range(len(nodes)) if other != axis]
                )
            return single_nodes, log
        rows, nodes = self._with_one_plan(_tracked(rows), nodes)
        plan = self.plan(rows, probed=nodes)
        sizes = [self.structure.cardinalities[i] for i in nodes]
        keep = self._tracks(rows)
        with torch.inference_mode(False), torch.enable_grad():
            flat = self.flat
            if not keep:
                flat = flat.detach()
            if flat.is_inference():
                flat = flat.clone()
            cuts = row_blocks(plan, rows, flat.device)
            results = [
                self._marginals(plan, rows.slice(*cut), nodes, LINEAR, flat, keep) for cut in cuts
            ]
        distributions, logs = zip(*results, strict=True)
        return dict(zip(nodes, torch.cat(distributions, -1).split(sizes), strict=True)), torch.cat(
            logs
        )

    def _tracks(self, rows: EvidenceRows) -> bool:
        """True if somebody may ask for a gradient."""
        return torch.is_grad_enabled() and any(
            x.requires_grad for x in (self.flat, *rows.soft.values())
        )

    def _with_one_plan(
        self, rows: EvidenceRows, nodes: Collection[int]
    ) -> tuple[EvidenceRows, Collection[int]]:
        """One case of a small network as likelihood vectors: one plan serves all evidence."""
        all_nodes = range(len(self.structure.nodes))
        if rows.count != 1 or not rows.hard or len(all_nodes) > SMALL_NODES:
            return rows, nodes
        query = Query(frozenset(), frozenset(all_nodes))
        if self.structure.plan(query).largest > SMALL_CELLS:
            return rows, nodes
        soft = dict(rows.soft)
        with torch.inference_mode(False):
            for i, state in rows.hard.items():
                soft[i] = self.flat.new_zeros(self.structure.cardinalities[i], 1)
                soft[i][state] = 1
        return EvidenceRows(1, {}, soft), all_nodes

    def _marginals(
        self,
        plan: Plan,
        rows: EvidenceRows,
        nodes: Collection[int],
        ring: Semiring,
        flat: Tensor,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        """Distributions, (states of all nodes, rows), and log probabilities, (rows,)."""
        sizes = [self.structure.cardinalities[i] for i in nodes]
        probes = torch.ones(
            sum(sizes), rows.count, dtype=flat.dtype, device=flat.device, requires_grad=True
        )
        soft = dict(rows.soft)
        for i, probe in zip(nodes, probes.split(sizes), strict=True):
            if i in soft:
                soft[i] = soft[i] * probe
            else:
                soft[i] = probe
        total = self._forward(plan, EvidenceRows(rows.count, rows.hard, soft), ring, flat)
        least = SAFE[flat.dtype]
        if ring is LOG:
            least = -torch.inf
        good = total > least
        log = torch.where(good, total, 1.0)
        if ring is not LOG:
            log = log.log()
        (distributions,) = torch.autograd.grad(log.sum(), probes, create_graph=keep)
        if not keep:
            log = log.detach()
        if good.all():
            return distributions, log
        bad = (~good).nonzero().squeeze(1)
        if ring is LOG:
            return distributions, log.index_fill(0, bad, -torch.inf)
        bad_rows = rows.pick(bad).to(torch.float64)
        exact, exact_log = self._marginals(plan, bad_rows, nodes, *_next(flat), keep)
        distributions = distributions.index_copy(-1, bad, exact.to(distributions.dtype))
        log = log.index_copy(0, bad, exact_log.to(log.dtype))
        return distributions, log

    def expected_counts(self, rows: EvidenceRows, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted sum over rows of all families' distributions, (cells,), and log evidence."""
        rows = _tracked(rows)
        plan = self.plan(rows, everything=True)
        with torch.inference_mode(False), torch.enable_grad():
            flat = self.flat.detach().clone().requires_grad_()
            weights = weights.clone()
            counts = torch.zeros_like(flat)
            logs = []
            for start, end in row_blocks(plan, rows, flat.device):
                log = self._joint(plan, rows.slice(start, end), LINEAR, flat)[1]
                possible = torch.where(log > -torch.inf, log, 0.0)
                (slope,) = torch.autograd.grad((possible * weights[start:end]).sum(), flat)
                counts += slope
                logs.append(log.detach())
            return counts * flat.detach(), torch.cat(logs)

    def best(self, rows: EvidenceRows) -> tuple[dict[int, Tensor], Tensor]:
        """Most probable states of the hidden nodes, (rows,) each, and their log probability."""
        with torch.no_grad():
            plan = self.plan(rows, everything=True)
            results = [
                self._traced(plan, rows.slice(*cut), PEAK, 1)
                for cut in row_blocks(plan, rows, self.flat.device)
            ]
        states, logs = zip(*results, strict=True)
        return {i: torch.cat([part[i][0] for part in states]) for i in states[0]}, torch.cat(logs)

    def draw(self, rows: EvidenceRows, num_samples: int) -> tuple[dict[int, Tensor], Tensor]:
        """Exact draws of the nodes above the evidence, (num_samples, rows), and log evidence.

        What is below neither evidence nor draws is left to ancestral sampling.
        """
        with torch.no_grad():
            plan = self.plan(rows)
            cuts = row_blocks(plan, rows, self.flat.device)
            results = [self._traced(plan, rows.slice(*cut), LOG, num_samples) for cut in cuts]
        states, logs = zip(*results, strict=True)
        return {i: torch.cat([part[i] for part in states], 1) for i in states[0]}, torch.cat(logs)

    def _traced(
        self, plan: Plan, rows: EvidenceRows, ring: Semiring, draws: int
    ) -> tuple[dict[int, Tensor], Tensor]:
        value, slots = forward(plan, self._prepared(plan, ring, self.flat), _logs(rows), ring)
        states: dict[int, Tensor] = {}

        def choose(logits: Tensor) -> Tensor:
            if ring is LOG:
                logits = logits.expand(-1, draws, rows.count)
                logits = logits - torch.empty_like(logits).exponential_().log()
            return logits.argmax(0).expand(draws, rows.count)

        trace_back(plan, slots, states, choose)
        return states, value.expand(rows.count)

    def _forward(self, plan: Plan, rows: EvidenceRows, ring: Semiring, flat: Tensor) -> Tensor:
        if ring is not LINEAR:
            rows = _logs(rows)
        value, _ = forward(plan, self._prepared(plan, ring, flat), rows, ring)
        return value.expand(*value.shape[:-1], rows.count)

    def _positive(self) -> frozenset[int]:
        """Nodes whose tables have no zero."""
        if self.flat.is_inference() or self.zeros_version != self.flat._version:
            zeros = self.structure.node_of_cell.to(self.flat.device)[self.flat.detach() == 0]
            self.positive = frozenset(range(len(self.structure.nodes))).difference(zeros.tolist())
            self.zeros_version = -1
            if not self.flat.is_inference():
                self.zeros_version = self.flat._version
        return self.positive

    def _prepared(self, plan: Plan, ring: Semiring, flat: Tensor) -> Prepared:
        """From memory where the tables are still the same and no gradient is asked for."""
        if (
            (flat.requires_grad and torch.is_grad_enabled())
            or self.flat.is_inference()
            or plan.largest > KEEP_CELLS
        ):
            return prepare(plan, self.tables(flat), ring)
        if self.version != self.flat._version:
            self.memo.clear()
            self.views = self.tables(self.flat.detach())
            self.version = self.flat._version
        key = id(plan), id(ring), flat.dtype
        if key not in self.memo:
            while len(self.memo) >= REMEMBERED:
                del self.memo[next(iter(self.memo))]
            with torch.no_grad():
                views = self.views
                if flat.dtype != self.flat.dtype:
                    views = self.tables(flat)
                self.memo[key] = plan, prepare(plan, views, ring)
        return self.memo[key][1]

    def tables(self, flat: Tensor) -> list[Tensor]:
        """The table of each node."""
        return list(by_node(self.structure, flat).values())


def _next(flat: Tensor) -> tuple[Semiring, Tensor]:
    """Fallback for rows whose sum of products is too small: float64, then logarithms."""
    if flat.dtype == torch.float32:
        return LINEAR, flat.double()
    return LOG, flat.double()


def _tracked(rows: EvidenceRows) -> EvidenceRows:
    """Rows with tensors for autograd in place of those of ``torch.inference_mode``."""
    with torch.inference_mode(False):
        hard = {i: _outside_inference(x) for i, x in rows.hard.items()}
        soft = {i: _outside_inference(x) for i, x in rows.soft.items()}
        return EvidenceRows(rows.count, hard, soft)


def _outside_inference(x: Any) -> Any:
    if isinstance(x, Tensor) and x.is_inference():
        return x.clone()
    return x


def _logs(rows: EvidenceRows) -> EvidenceRows:
    vectors: Mapping[int, Tensor] = {i: safe_log(x) for i, x in rows.soft.items()}
    return EvidenceRows(rows.count, rows.hard, dict(vectors))


__all__ = ["Engine"]
