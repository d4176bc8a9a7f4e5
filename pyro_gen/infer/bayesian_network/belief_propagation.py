"""Loopy belief propagation: messages between nodes and their tables until they stop changing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen.distributions import BayesianNetwork
from pyro_gen.distributions.bayesian_network import Evidence
from pyro_gen.distributions.bayesian_network.elimination import safe_log
from pyro_gen.infer.bayesian_network.problem import Problem


class BeliefMarginals(NamedTuple):
    """Beliefs of the nodes, and the convergence of the messages.

    Args:
        marginals: by node, (rows, states), or (states,) for one case.
        log_evidence: Bethe's approximation, (rows,) or (); exact if the
            undirected graph has no loop.
        converged: whether the last round changed no message by more than the
            tolerance, (rows,) or ().
        residual: largest change of a message in the last round, (rows,) or ().
        num_iterations: rounds.
    """

    marginals: dict[str, Tensor]
    log_evidence: Tensor
    converged: Tensor
    residual: Tensor
    num_iterations: int


@torch.no_grad()
def belief_propagation(
    network: BayesianNetwork | nn.Module,
    evidence: Evidence | Tensor | None = None,
    num_iterations: int = 200,
    damping: float = 0.0,
    tolerance: float = 1e-9,
    nodes: Iterable[str] | None = None,
) -> BeliefMarginals:
    r"""Approximate marginals given evidence by passing messages, as if the graph were a tree.

    .. math:: m_{f \to v}(x_v) \propto \sum_{x_{f \setminus v}} p_f(x_f)
              \prod_{u \in f \setminus v} \ell_u(x_u)
              \prod_{g \ne f} m_{g \to u}(x_u)

    for every table f and node v in it; the belief of v is the product of its
    messages and its likelihood :math:`\ell_v`. A round goes through the tables
    from roots to leaves and back, each message using the latest ones. If the
    undirected graph is a tree or a forest (a polytree), the answers are exact.
    With loops they are approximate and messages may not converge: see
    ``converged``; damping helps.

    Args:
        network: a Bayesian network, the distribution or the model.
        evidence: as in exact inference.
        num_iterations: rounds, at most.
        damping: share of the old message in the new one, from 0 up to below 1.
        tolerance: largest change of messages (they sum to 1) at which iteration
            stops.
        nodes: which marginals; None for all.

    Returns:
        Beliefs, Bethe's log evidence, and whether messages converged.

    Raises:
        ValueError: evidence is malformed or impossible, or an argument is out
            of range.

    References:
        Pearl (1988), Probabilistic reasoning in intelligent systems, chapter 4.
        Murphy, Weiss and Jordan (1999), Loopy belief propagation for
        approximate inference. Yedidia, Freeman and Weiss (2005), Constructing
        free-energy approximations and generalized belief propagation algorithms
        (Bethe).

    Example:
        >>> import networkx as nx
        >>> wet = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
        >>> tables = {"rain": torch.tensor([0.8, 0.2]), "wet": wet}
        >>> network = BayesianNetwork(nx.DiGraph([("rain", "wet")]), tables)
        >>> result = belief_propagation(network, {"wet": 1}, tolerance=1e-6)
        >>> result.marginals["rain"], result.converged
        (tensor([0.3333, 0.6667]), tensor(True))
    """
    num_iterations = whole_number("num_iterations", num_iterations)
    if not 0 <= damping < 1 or not tolerance > 0:
        raise ValueError(
            "`damping` must be from 0 to below 1 and `tolerance` positive, "
            f"got {damping} and {tolerance}"
        )
    problem = Problem.of(network, evidence)
    queried = problem.wanted(nodes)
    messages = Messages(problem)
    rounds = 0
    residual = torch.full((problem.count,), torch.inf)
    while rounds < num_iterations and (residual > tolerance).any():
        rounds += 1
        residual = messages.round(damping)
    beliefs = {}
    for i in queried:
        belief = _normalised(messages.at(i).exp())
        beliefs[problem.structure.nodes[i]] = problem.given(belief)
    log_evidence = messages.log_evidence() + problem.log_scale
    return BeliefMarginals(
        marginals=beliefs,
        log_evidence=problem.given(log_evidence),
        converged=problem.given(residual <= tolerance),
        residual=problem.given(residual),
        num_iterations=rounds,
    )


@dataclass
class Messages:
    """Log messages from each table to each node in it, (rows, states), the largest entry 0."""

    problem: Problem
    logs: list[dict[int, Tensor]] = field(default_factory=list)
    tables: list[Tensor] = field(default_factory=list)
    evidence: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        structure = self.problem.structure
        like = self.problem.tables
        sizes = structure.cardinalities
        rows = self.problem.count
        for part, family in zip(self.problem.parts, structure.families, strict=True):
            self.logs.append({i: like.new_zeros(rows, sizes[i]) for i in family})
            self.tables.append(part.view([sizes[i] for i in family]))
        likelihoods = self.problem.likelihoods
        self.evidence = {i: safe_log(x) for i, x in likelihoods.items()}

    def at(self, i: int, but: int | None = None) -> Tensor:
        """Product of messages to a node from evidence and its tables but one, (rows, states)."""
        structure = self.problem.structure
        shape = self.problem.count, structure.cardinalities[i]
        result = self.problem.tables.new_zeros(shape)
        if i in self.evidence:
            result = result + self.evidence[i]
        for j in (i, *structure.children[i]):
            if j != but:
                result = result + self.logs[j][i]
        return result

    def round(self, damping: float) -> Tensor:
        """Send all messages once down and once up; the largest change of each row."""
        order = self.problem.structure.order
        residual = self.problem.tables.new_zeros(self.problem.count)
        for j in (*order, *reversed(order)):
            residual = torch.maximum(residual, self._send(j, damping))
        return residual

    def _send(self, j: int, damping: float) -> Tensor:
        family = self.problem.structure.families[j]
        heard = [self._shifted(self.at(i, but=j))[0].exp() for i in family]
        change = []
        for place, i in enumerate(family):
            new = _normalised(self._contract(j, heard, place))
            old = _normalised(self.logs[j][i].exp())
            new = (1 - damping) * new + damping * old
            change.append((new - old).abs().amax(-1))
            self.logs[j][i] = self._shifted(safe_log(new))[0]
        return torch.stack(change).amax(0)

    def _shifted(self, logs: Tensor) -> tuple[Tensor, Tensor]:
        """Log messages with the largest entry of each row 0, and the constant subtracted."""
        top = logs.amax(-1, keepdim=True)
        self.problem.refuse((top == -torch.inf).squeeze(-1))
        return logs - top, top.squeeze(-1)

    def _contract(self, j: int, heard: list[Tensor], target: int | None) -> Tensor:
        """Sum over all but the target of a table times messages, (rows, states) or (rows,)."""
        row = len(heard)
        operands: list[Tensor | list[int]] = [self.tables[j], list(range(row))]
        for place, message in enumerate(heard):
            if place != target:
                operands += [message, [row, place]]
        if target is None:
            total: Tensor = torch.einsum(*operands, [row])
            return total
        # The table alone has no rows.
        dims = [row, target] if row > 1 else [target]
        message = torch.einsum(*operands, dims)
        return message.expand(self.problem.count, -1)

    def log_evidence(self) -> Tensor:
        """Bethe's approximation: log Z of tables, less that of nodes counted too often."""
        return torch.stack(list(self._terms())).sum(0)

    def _terms(self) -> Iterator[Tensor]:
        structure = self.problem.structure
        for i in range(len(structure.nodes)):
            logs, scale = self._shifted(self.at(i))
            log_total = logs.exp().sum(-1).log() + scale
            yield -len(structure.children[i]) * log_total
        for j, family in enumerate(structure.families):
            pairs = [self._shifted(self.at(i, but=j)) for i in family]
            total = self._contract(j, [logs.exp() for logs, _ in pairs], None)
            self.problem.refuse(total <= 0)
            scales = torch.stack([scale for _, scale in pairs])
            yield total.log() + scales.sum(0)


def _normalised(x: Tensor) -> Tensor:
    total = x.sum(-1, keepdim=True)
    return x / torch.where(total > 0, total, 1.0)


__all__ = ["BeliefMarginals", "Messages", "belief_propagation"]
