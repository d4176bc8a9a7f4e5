"""Greedy and tabu search through directed acyclic graphs, one edge a step."""

from __future__ import annotations

import networkx as nx
import numpy as np
import torch

from pyro_gen._arguments import whole_number
from pyro_gen.infer.structure.equivalence import adjacency, path_counts
from pyro_gen.infer.structure.exact import exact_search
from pyro_gen.infer.structure.rules import EdgeRules, Edges
from pyro_gen.infer.structure.scores import BDeu, FamilyScores, Score
from pyro_gen.infer.structure.table import CategoricalData, CategoricalTable, States

EXACT_NODES = 12
"""Nodes up to which `learn_structure` searches exactly: some seconds."""

ADD, DELETE, REVERSE = range(3)


def hill_climbing(
    data: CategoricalData,
    score: Score | None = None,
    *,
    restarts: int = 0,
    perturbations: int | None = None,
    max_parents: int | None = None,
    forbidden: Edges = (),
    required: Edges = (),
    start: nx.DiGraph | None = None,
    states: States = None,
) -> nx.DiGraph:
    """Add, delete or reverse the edge that raises the score most, until none does.

    An edge that changes the score by no more than 1e-12 of its size is left
    out, or deleted. After a step only the gains of one or two nodes change, and
    scores of families are remembered.

    Args:
        data: complete rows; see :meth:`CategoricalTable.of`.
        score: BDeu of one equivalent row by default.
        restarts: how often to climb again from the best graph so far,
            disturbed; torch's generator decides how.
        perturbations: random steps of a disturbance; twice as many as nodes by
            default.
        max_parents: of each node.
        forbidden: pairs (parent, child) that must not be edges.
        required: pairs (parent, child) that must be edges.
        start: where to begin; the ``required`` edges by default.
        states: of the nodes, where the data do not show all of them.

    Returns:
        The best graph found, its nodes with the attribute ``states``.

    Raises:
        ValueError: cells are missing, the rules contradict each other,
            ``start`` breaks them, or a number is negative.

    References:
        Koller and Friedman (2009), Probabilistic graphical models, section
        18.4.3.

    Example:
        >>> a, b = torch.tensor([0, 0, 1, 1] * 9), torch.tensor([0, 1, 0, 1] * 9)
        >>> data = {"a": a, "b": b, "either": a | b}
        >>> sorted(hill_climbing(data, required=[("a", "either")]).edges)
        [('a', 'either'), ('b', 'either')]
    """
    return tabu_search(
        data,
        score,
        tabu_length=0,
        patience=0,
        restarts=restarts,
        perturbations=perturbations,
        max_parents=max_parents,
        forbidden=forbidden,
        required=required,
        start=start,
        states=states,
    )


def tabu_search(
    data: CategoricalData,
    score: Score | None = None,
    *,
    tabu_length: int | None = None,
    patience: int = 50,
    restarts: int = 0,
    perturbations: int | None = None,
    max_parents: int | None = None,
    forbidden: Edges = (),
    required: Edges = (),
    start: nx.DiGraph | None = None,
    states: States = None,
) -> nx.DiGraph:
    """Take the best step even if it lowers the score; keep the best graph.

    A pair of nodes that changed recently is left alone.

    This escapes local maxima and classes of graphs of equal score, of which
    those with the fewest edges are preferred. A step to a graph better than all
    before is always allowed.

    Args:
        data: complete rows; see :meth:`CategoricalTable.of`.
        score: BDeu of one equivalent row by default.
        tabu_length: steps for which a pair of nodes stays as it is after a
            change; three and half the nodes by default, at most 20.
        patience: steps without a better graph after which the search ends.
        restarts: how often to search again from the best graph so far,
            disturbed; torch's generator decides how.
        perturbations: random steps of a disturbance; twice as many as nodes by
            default.
        max_parents: of each node.
        forbidden: pairs (parent, child) that must not be edges.
        required: pairs (parent, child) that must be edges.
        start: where to begin; the ``required`` edges by default.
        states: of the nodes, where the data do not show all of them.

    Returns:
        The best graph found, its nodes with the attribute ``states``.

    Raises:
        ValueError: cells are missing, the rules contradict each other,
            ``start`` breaks them, or a number is negative.

    References:
        Glover (1989), Tabu search, part I. Scutari, Graafland and Gutierrez
        (2019), Who learns better Bayesian network structures, section 2.

    Example:
        >>> a, b = torch.tensor([0, 0, 1, 1] * 9), torch.tensor([0, 1, 0, 1] * 9)
        >>> sorted(tabu_search({"a": a, "b": b, "either": a | b}).edges)
        [('a', 'either'), ('b', 'either')]
    """
    table = CategoricalTable.of(data, states)
    rules = EdgeRules.of(table, forbidden, required, max_parents)
    nodes = len(table.nodes)
    if tabu_length is None:
        tabu_length = min(20, nodes // 2 + 3)
    if perturbations is None:
        perturbations = 2 * nodes
    numbers = {
        "tabu_length": tabu_length,
        "patience": patience,
        "restarts": restarts,
        "perturbations": perturbations,
    }
    for name, number in numbers.items():
        whole_number(name, number, 0)
    scores = FamilyScores(table, score or BDeu())
    walk = _Walk(scores, rules, _start_graph(table, rules, start))
    best, value = _hill_climb(walk, tabu_length, patience)
    for _ in range(restarts):
        walk.go_to(best)
        walk.disturb(perturbations)
        best_graph, other = _hill_climb(walk, tabu_length, patience)
        if other > value + walk.tolerance:
            best = best_graph
            value = other
    return table.graph_of(best)


def learn_structure(
    data: CategoricalData,
    score: Score | None = None,
    *,
    max_parents: int | None = None,
    forbidden: Edges = (),
    required: Edges = (),
    states: States = None,
) -> nx.DiGraph:
    """Find a directed acyclic graph of a high score: the highest, up to 12 nodes.

    Edges whose direction the data do not determine are directed arbitrarily:
    see :func:`cpdag`. For the uncertainty of edges see :class:`EdgeConfidence`.

    Args:
        data: complete rows; see :meth:`CategoricalTable.of`.
        score: BDeu of one equivalent row by default.
        max_parents: of each node.
        forbidden: pairs (parent, child) that must not be edges.
        required: pairs (parent, child) that must be edges.
        states: of the nodes, where the data do not show all of them.

    Returns:
        The graph, its nodes with the attribute ``states``, as
        ``BayesianNetwork`` takes it.

    Raises:
        ValueError: cells are missing, or the rules contradict each other.

    Example:
        >>> a, b = torch.tensor([0, 0, 1, 1] * 9), torch.tensor([0, 1, 0, 1] * 9)
        >>> sorted(learn_structure({"a": a, "b": b, "either": a | b}).edges)
        [('a', 'either'), ('b', 'either')]
    """
    table = CategoricalTable.of(data, states)
    if len(table.nodes) <= EXACT_NODES:
        return exact_search(
            table, score, max_parents=max_parents, forbidden=forbidden, required=required
        )
    return tabu_search(
        table, score, restarts=10, max_parents=max_parents, forbidden=forbidden, required=required
    )


class _Walk:
    """A graph that changes by one edge at a time, with the gain of every change.

    ``gains[j, i]`` is what node i gains if j becomes its parent, or ceases to be:
    reversing j -> i gains the sum of ``gains[j, i]`` and ``gains[i, j]``.
    """

    def __init__(self, scores: FamilyScores, rules: EdgeRules, graph: np.ndarray) -> None:
        self.scores = scores
        self.rules = rules
        self.nodes = len(graph)
        self.gains = np.zeros((self.nodes, self.nodes))
        self.families = np.zeros(self.nodes)
        self.parents = [-1] * self.nodes
        self.tolerance = scores.edge_cost / 2  # smallest increase that counts
        self.go_to(graph)

    @property
    def value(self) -> float:
        """Score of the graph less the cost of its edges."""
        return float(self.families.sum())

    def go_to(self, graph: np.ndarray) -> None:
        """Make another graph the present one; only families that differ are scored."""
        self.graph = graph.copy()
        self.reach = _closure(graph)
        for i in range(self.nodes):
            if self._parents(i) != self.parents[i]:
                self._rate(i)

    def _parents(self, i: int) -> int:
        return sum(1 << int(j) for j in np.flatnonzero(self.graph[:, i]))

    def _rate(self, i: int) -> None:
        """Score a node's family and all changes of it by one parent."""
        parents = self.parents[i] = self._parents(i)
        score = self.families[i] = self.scores.sparing(i, parents)
        changeable = self.graph[:, i]
        if parents.bit_count() < self.rules.max_parents:
            changeable = changeable | self.rules.allowed[:, i]
        self.gains[:, i] = -np.inf
        for j in np.flatnonzero(changeable):
            changed = parents ^ (1 << int(j))
            self.gains[j, i] = self.scores.sparing(i, changed) - score

    def lawful(self) -> np.ndarray:
        """Steps (kind, parent, child) that are allowed by the rules and close no cycle."""
        allowed = self.rules.allowed
        graph = self.graph
        room = graph.sum(0) < self.rules.max_parents
        free = graph & ~self.rules.required
        # From j to i not by the edge itself.
        detour = path_counts(graph, self.reach) > 0
        added = allowed & ~graph & ~self.reach.T & room
        reversed_ = free & allowed.T & ~detour & room[:, None]
        return np.stack([added, free, reversed_])

    def moves(self) -> np.ndarray:
        """Gains (kind, parent, child) of all steps, -inf where a step is not allowed."""
        gains = self.gains
        return np.where(self.lawful(), np.stack([gains, gains, gains + gains.T]), -np.inf)

    def step(self, kind: int, j: int, i: int) -> None:
        """Change the edge j -> i."""
        self._change(kind, j, i)
        self._rate(i)
        if kind == REVERSE:
            self._rate(j)

    def _change(self, kind: int, j: int, i: int) -> None:
        self.graph[j, i] = kind == ADD
        self.graph[i, j] = kind == REVERSE
        if kind == ADD:
            before = self.reach[:, j].copy()
            after = self.reach[i].copy()
            before[j] = True
            after[i] = True
            self.reach |= before[:, None] & after
        else:
            self.reach = _closure(self.graph)

    def disturb(self, steps: int) -> None:
        """Take random allowed steps."""
        for _ in range(steps):
            possible = np.argwhere(self.lawful())
            if len(possible):
                kind, j, i = possible[int(torch.randint(len(possible), ()))]
                self._change(int(kind), int(j), int(i))
        self.go_to(self.graph)


def _hill_climb(walk: _Walk, tabu_length: int, patience: int) -> tuple[np.ndarray, float]:
    """The best graph on the way, and its score."""
    best = walk.graph.copy()
    value = walk.value
    # The step up to which a pair of nodes stays as it is.
    until = np.zeros((walk.nodes, walk.nodes))
    now = waited = 0
    while True:
        moves = walk.moves()
        if patience == 0:
            moves[moves <= walk.tolerance] = -np.inf
        improves = walk.value + moves > value + walk.tolerance
        moves[(until > now) & ~improves] = -np.inf
        if not moves.size:
            return best, value
        kind, j, i = map(int, np.unravel_index(moves.argmax(), moves.shape))
        if not np.isfinite(moves[kind, j, i]):
            return best, value
        walk.step(kind, j, i)
        now += 1
        until[j, i] = until[i, j] = now + tabu_length
        waited += 1
        if walk.value > value + walk.tolerance:
            best = walk.graph.copy()
            value = walk.value
            waited = 0
        elif waited >= patience:
            return best, value


def _start_graph(
    table: CategoricalTable, rules: EdgeRules, start: nx.DiGraph | None
) -> np.ndarray:
    if start is None:
        return rules.required.copy()
    if (
        not start.is_directed()
        or set(start) != set(table.nodes)
        or not nx.is_directed_acyclic_graph(start)
    ):
        raise ValueError(
            f"`start` must be directed and acyclic over the nodes of `data`, got {start}"
        )
    graph = adjacency(start, table.nodes)
    if (
        (graph & ~rules.allowed).any()
        or (rules.required & ~graph).any()
        or (graph.sum(0) > rules.max_parents).any()
    ):
        raise ValueError("`start` must obey `forbidden`, `required` and `max_parents`")
    return graph


def _closure(graph: np.ndarray) -> np.ndarray:
    """Reachability of nodes along one or more edges."""
    reach = graph.copy()
    while True:
        longer = reach | (path_counts(reach, reach) > 0)
        if (longer == reach).all():
            return reach
        reach = longer


__all__ = ["hill_climbing", "learn_structure", "tabu_search"]
