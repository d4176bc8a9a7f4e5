"""The graph of a Bayesian network: nodes, named states, parents."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import networkx as nx
import torch
from torch import Tensor

from pyro_gen.distributions.bayesian_network.messages import some
from pyro_gen.distributions.bayesian_network.plan import Plan, make_plan

PLANS = 512
"""Elimination plans that a structure remembers, the latest ones."""


States = Mapping[str, "int | Sequence[str]"] | int | Sequence[str] | None
"""Names of states or their number, for all nodes or by node; None where given elsewhere."""


class Query(NamedTuple):
    """Key of a plan of elimination, besides the graph."""

    hard: frozenset[int]
    """Nodes observed in every row."""
    soft: frozenset[int]
    """Nodes with a likelihood vector a row."""
    free: tuple[int, ...] = ()
    """Nodes that the result has an axis for."""
    everything: bool = False
    """Whether nodes matter that are neither among those nor their ancestors."""
    quick: bool = False
    """Whether it is for a single case, which is worth less search."""
    droppable: frozenset[int] = frozenset()
    """Nodes whose tables have no zero: parts of them away from free nodes can be left out."""


class NetworkStructure:
    """Nodes in a fixed order, their states by name, and their parents: a directed
    acyclic graph.

    The tables of conditional probabilities are laid out one after another in
    the order of the nodes; that of a node has the shape (states of each parent
    in order, own states). Structures are immutable; elimination plans are
    remembered.

    Args:
        states: names of the states of each node, by node; the order of this
            mapping is the order of the nodes.
        parents: parents of each node in the order of its table's axes; a node
            without an entry has none.

    Raises:
        ValueError: a name is no string or comes twice, a node has no states, a
            parent is unknown, or there is a cycle.

    Example:
        >>> states = {"rain": ("no", "yes"), "wet": ("no", "yes")}
        >>> structure = NetworkStructure(states, {"wet": ["rain"]})
        >>> structure.table_shape("wet")
        (2, 2)
    """

    def __init__(
        self,
        states: Mapping[str, Sequence[str]],
        parents: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        parents = parents or {}
        self.nodes = tuple(states)
        self.states = {node: _checked_states(node, names) for node, names in states.items()}
        self.index = {node: i for i, node in enumerate(self.nodes)}
        if strangers := [node for node in parents if node not in self.index]:
            raise ValueError(f"`parents` names a node without `states`: {strangers[0]!r}")
        self.parents = {
            node: _checked_parents(node, parents.get(node, ()), self.index) for node in self.nodes
        }
        self.cardinalities = tuple(len(self.states[node]) for node in self.nodes)
        self.families = tuple(
            (*(self.index[parent] for parent in self.parents[node]), i)
            for i, node in enumerate(self.nodes)
        )
        self.order = self._topological_order()
        self._plans: dict[Query, Plan] = {}

    @classmethod
    def from_graph(cls, graph: nx.DiGraph, states: States = None) -> NetworkStructure:
        """The structure of a networkx graph; parents in the order of ``graph.predecessors``.

        Args:
            graph: directed, acyclic, its nodes strings.
            states: names of each node's states, or how many there are ("0",
                "1", ...); one for all, or by node; None reads the node
                attribute ``states`` and takes two where there is none.

        Returns:
            The structure.

        Raises:
            ValueError: the graph is not directed, has parallel edges, or as the
                constructor says.
        """
        if not isinstance(graph, nx.Graph) or not graph.is_directed() or graph.is_multigraph():
            raise ValueError(f"`graph` must be a networkx.DiGraph, got {type(graph).__name__}")
        if isinstance(states, Mapping) and (
            missing := [node for node in graph if node not in states]
        ):
            raise ValueError(f"`states` has no entry for node {missing[0]!r}")
        named = {node: _named_states(node, data, states) for node, data in graph.nodes(data=True)}
        return cls(named, {node: list(graph.predecessors(node)) for node in graph})

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Pairs (parent, child)."""
        return tuple((parent, node) for node in self.nodes for parent in self.parents[node])

    @cached_property
    def graph(self) -> nx.DiGraph:
        """The graph for networkx, a node's states as attribute ``states``."""
        graph = nx.DiGraph()
        graph.add_nodes_from((node, {"states": self.states[node]}) for node in self.nodes)
        graph.add_edges_from(self.edges)
        return nx.freeze(graph)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of each node's children."""
        children: list[list[int]] = [[] for _ in self.nodes]
        for *parents, i in self.families:
            for parent in parents:
                children[parent].append(i)
        return tuple(map(tuple, children))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Cells of each node's table."""
        return tuple(math.prod(self.cardinalities[j] for j in family) for family in self.families)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Start of each node's table."""
        return tuple(accumulate(self.sizes, initial=0))[:-1]

    @property
    def cells(self) -> int:
        """Cells of all tables together."""
        return sum(self.sizes)

    @property
    def num_parameters(self) -> int:
        """Free parameters of the tables: a row of K states has K - 1."""
        return sum(
            size // k * (k - 1) for size, k in zip(self.sizes, self.cardinalities, strict=True)
        )

    @property
    def num_states(self) -> int:
        """States of the joint distribution."""
        return math.prod(self.cardinalities)

    def table_shape(self, node: str) -> tuple[int, ...]:
        """Shape of a node's table: states of each parent, own states."""
        return tuple(self.cardinalities[j] for j in self.families[self.number(node)])

    def number(self, node: str) -> int:
        """A node's place in the order.

        Args:
            node: its name.

        Raises:
            ValueError: there is no such node.
        """
        if node not in self.index:
            raise ValueError(f"the network has no node {node!r}; its nodes are {some(self.nodes)}")
        return self.index[node]

    def state_number(self, node: str, state: str) -> int:
        """A state's index.

        Args:
            node: name of the node.
            state: name of the state.

        Raises:
            ValueError: there is no such node or state.
        """
        names = self.states[self.nodes[self.number(node)]]
        if state not in names:
            raise ValueError(f"node {node!r} has no state {state!r}; its states are {some(names)}")
        return names.index(state)

    def ancestors(self, numbers: Iterable[int]) -> set[int]:
        """The nodes given and all their ancestors, by number."""
        ancestors: set[int] = set()
        stack = list(numbers)
        while stack:
            i = stack.pop()
            if i not in ancestors:
                ancestors.add(i)
                stack.extend(self.families[i][:-1])
        return ancestors

    def d_separated(self, x: Iterable[str], y: Iterable[str], given: Iterable[str] = ()) -> bool:
        """True if every path between two sets of nodes is blocked by a third.

        Args:
            x: nodes; a name alone is one node.
            y: nodes.
            given: nodes that are observed.

        Returns:
            True where the graph alone implies that x and y are independent
            given the third set.

        Raises:
            ValueError: a node is unknown, or the sets overlap.

        References:
            Koller and Friedman (2009), Probabilistic graphical models,
            algorithm 3.1.
        """
        a, b, z = (_node_numbers(self, nodes) for nodes in (x, y, given))
        if a & b or a & z or b & z:
            raise ValueError("`x`, `y` and `given` must not overlap")
        return not self._reachable(a, z) & b

    def _reachable(self, start: set[int], given: set[int]) -> set[int]:
        """Nodes that an active trail connects with ``start``, by the Bayes ball."""
        above = self.ancestors(given)
        visited: set[tuple[int, bool]] = set()
        reached: set[int] = set()
        queue = deque((i, True) for i in start)
        while queue:
            i, up = queue.popleft()
            if (i, up) in visited:
                continue
            visited.add((i, up))
            if i not in given:
                reached.add(i)
                queue.extend((child, False) for child in self.children[i])
            if (up and i not in given) or (not up and i in above):
                queue.extend((parent, True) for parent in self.families[i][:-1])
        return reached

    def mutilated(self, nodes: Iterable[str]) -> NetworkStructure:
        """The structure without the edges into some nodes, as after an intervention on them."""
        cut = {self.nodes[i] for i in _node_numbers(self, nodes)}
        return NetworkStructure(self.states, {**self.parents, **dict.fromkeys(cut, ())})

    def plan(self, query: Query) -> Plan:
        """Plan that eliminates all relevant nodes but the free ones; remembered."""
        plan = self._plans.pop(query, None)
        if plan is None:
            plan = make_plan(
                self.families,
                self.cardinalities,
                self._relevant(query),
                query.hard,
                query.soft,
                query.free,
                query.quick,
            )
        while len(self._plans) >= PLANS:
            del self._plans[next(iter(self._plans))]
        self._plans[query] = plan
        return plan

    def _relevant(self, query: Query) -> list[int]:
        """Nodes whose tables matter: not barren ones, nor separate parts that can be dropped."""
        if query.everything:
            return list(range(len(self.nodes)))
        relevant = self.ancestors({*query.hard, *query.soft, *query.free})
        if not query.droppable:
            return sorted(relevant)
        touching: dict[int, list[int]] = {}
        for i in relevant:
            for j in self.families[i]:
                touching.setdefault(j, []).append(i)
        apart = set(relevant)
        touched: set[int] = set()
        for start in (*query.free, *relevant):
            if start not in apart:
                continue
            part = self._part(start, touching, query.hard) & apart
            apart -= part
            if start in query.free or not part <= query.droppable or part & query.soft:
                touched |= part
        return sorted(touched)

    def _part(
        self, start: int, touching: Mapping[int, list[int]], hard: frozenset[int]
    ) -> set[int]:
        """Nodes whose tables share hidden nodes with that of ``start``, or do so by others."""
        part = {start}
        stack = [start]
        visited = set(hard)
        while stack:
            for j in self.families[stack.pop()]:
                if j not in visited:
                    visited.add(j)
                    new = [i for i in touching[j] if i not in part]
                    part.update(new)
                    stack.extend(new)
        return part

    @cached_property
    def cell_indices(self) -> tuple[Tensor, Tensor]:
        """For each node the members of its family and their strides, (nodes, width)."""
        width = max(map(len, self.families), default=0)
        members = []
        strides = []
        for family in self.families:
            shape = [self.cardinalities[j] for j in family]
            family_strides = [math.prod(shape[k + 1 :]) for k in range(len(family))]
            members.append([*family, *[family[-1]] * (width - len(family))])
            strides.append(family_strides + [0] * (width - len(family)))
        return torch.tensor(members).view(-1, width), torch.tensor(strides).view(-1, width)

    @cached_property
    def num_rows(self) -> int:
        """Rows of all tables together."""
        return sum(size // k for size, k in zip(self.sizes, self.cardinalities, strict=True))

    @cached_property
    def row_of_cell(self) -> Tensor:
        """For each cell of the flattened tables the number of its row."""
        states = [
            k
            for size, k in zip(self.sizes, self.cardinalities, strict=True)
            for _ in range(size // k)
        ]
        return torch.repeat_interleave(torch.arange(len(states)), torch.tensor(states))

    @cached_property
    def node_of_cell(self) -> Tensor:
        """For each cell of the flattened tables the number of its node."""
        return torch.repeat_interleave(torch.arange(len(self.nodes)), torch.tensor(self.sizes))

    @cached_property
    def offset_tensor(self) -> Tensor:
        """``offsets`` as a tensor."""
        return torch.tensor(self.offsets)

    def _topological_order(self) -> tuple[int, ...]:
        graph = nx.DiGraph()
        graph.add_nodes_from(range(len(self.nodes)))
        graph.add_edges_from((parent, i) for *parents, i in self.families for parent in parents)
        try:
            return tuple(nx.lexicographical_topological_sort(graph))
        except nx.NetworkXUnfeasible:
            cycle = [self.nodes[i] for i, _ in nx.find_cycle(graph)]
            raise ValueError(
                f"the graph must have no cycle, got {' -> '.join([*cycle, cycle[0]])}"
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_plans": {}}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NetworkStructure):
            return NotImplemented
        return (
            list(self.states.items()) == list(other.states.items())
            and self.parents == other.parents
        )

    def __hash__(self) -> int:
        return hash((self.nodes, tuple(self.parents.items())))

    def __repr__(self) -> str:
        return f"NetworkStructure({len(self.nodes)} nodes, {len(self.edges)} edges)"


def structure_of(
    graph: nx.DiGraph | NetworkStructure,
    states: States,
    shown: Mapping[str, int],
    fixed: Mapping[str, Sequence[str]] | None = None,
) -> NetworkStructure:
    """The structure that users mean by a graph, or the structure itself.

    Args:
        graph: one of these.
        states: of a graph's nodes; None for its attributes ``states``.
        shown: numbers of states that tables show, where neither says them; two
            for nodes that are not there.
        fixed: states of nodes of which nobody needs to say them.
    """
    if isinstance(graph, NetworkStructure):
        if states is not None:
            raise ValueError(
                "`states` must be None where `graph` is a NetworkStructure, which has them"
            )
        return graph
    if not isinstance(graph, nx.Graph):
        raise ValueError(
            f"`graph` must be a networkx.DiGraph or a NetworkStructure, got {type(graph).__name__}"
        )
    if states is None:
        states = {
            node: data.get("states", shown.get(node, 2)) for node, data in graph.nodes(data=True)
        }
    if fixed:
        if not isinstance(states, Mapping):
            states = dict.fromkeys(graph, states)
        states = {**states, **fixed}
    return NetworkStructure.from_graph(graph, states)


def _named_states(node: str, data: Mapping[str, Any], states: Any) -> Sequence[str]:
    if states is None:
        states = data.get("states", 2)
    elif isinstance(states, Mapping):
        states = states[node]
    names: Sequence[str] = states
    if isinstance(states, int):
        names = tuple(map(str, range(states)))
    return names


def _checked_states(node: object, names: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(node, str) or not node:
        raise ValueError(f"nodes must be non-empty strings, got {node!r}")
    if isinstance(names, str) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"the states of node {node!r} must be a list of at least one string, got {names!r}"
        )
    if len(set(names)) < len(names):
        raise ValueError(
            f"the states of node {node!r} must have different names, got {some(names)}"
        )
    return tuple(names)


def _checked_parents(
    node: str, parents: Sequence[str], index: Mapping[str, int]
) -> tuple[str, ...]:
    if isinstance(parents, str):
        raise ValueError(f"the parents of node {node!r} must be a list of names, got {parents!r}")
    for parent in parents:
        if parent not in index:
            raise ValueError(f"node {node!r} has an unknown parent {parent!r}")
    if len(set(parents)) < len(parents):
        raise ValueError(
            f"the parents of node {node!r} must be different nodes, got {some(parents)}"
        )
    return tuple(parents)


def _node_numbers(structure: NetworkStructure, nodes: Iterable[str]) -> set[int]:
    if isinstance(nodes, str):
        nodes = [nodes]
    return {structure.number(node) for node in nodes}


__all__ = ["NetworkStructure", "Query", "States", "structure_of"]
