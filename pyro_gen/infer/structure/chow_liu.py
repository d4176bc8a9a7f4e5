"""Chow-Liu trees: the best tree-shaped distribution of many categorical variables."""

from __future__ import annotations

import networkx as nx
import torch
from torch import Tensor

from pyro_gen.distributions import NetworkStructure
from pyro_gen.distributions.bayesian_network.tables import by_node, counts_of, from_counts
from pyro_gen.infer.structure.table import CategoricalData, CategoricalTable, States

BLOCK = 1 << 24
"""Cells of the indicators that are laid out at once."""
MAX_CELLS = 10**8
"""Cells of the largest conditional table that is made."""
ROUNDING = 1e-12
"""Relative difference of two values of mutual information that are equal up to rounding.

The unit is the largest entropy.
"""


def chow_liu(
    data: CategoricalData,
    *,
    equivalent_sample_size: float = 0.0,
    min_information: float = 0.0,
    root: str | None = None,
    states: States = None,
) -> nx.DiGraph:
    r"""The tree of maximal likelihood: a maximum spanning tree of mutual information.

    .. math:: \max_T \sum_{(u, v) \in T} I(u, v), \qquad
        I(u, v) = \sum_{a, b} p_{uv}(a, b) \log \frac{p_{uv}(a, b)}{p_u(a)\, p_v(b)}

    Pairs of no more information than ``min_information``, up to rounding, are
    not joined, so that the result is a forest where nodes are independent. All
    pairs are counted by one matrix product. Trees that differ only in their
    root are the same distribution.

    Args:
        data: complete rows; see :meth:`CategoricalTable.of`.
        equivalent_sample_size: rows of a uniform distribution that are added to
            the data, as in :func:`conditional_tables`; 4 for binary variables
            adds one to each cell of each pair.
        min_information: nats that an edge must exceed.
        root: where the first tree begins; the first node by default.
        states: of the nodes, where the data do not show all of them.

    Returns:
        A directed tree or forest; its edges have the attribute ``information``
        in nats, its nodes ``states``.

    Raises:
        ValueError: cells are missing, the root is unknown, or a number is
            negative.

    References:
        Chow and Liu (1968), Approximating discrete probability distributions
        with dependence trees, theorem 2.

    Example:
        >>> a = torch.tensor([0, 0, 0, 1, 1, 1])
        >>> tree = chow_liu({"a": a, "copy": a, "coin": torch.tensor([0, 1, 0, 1, 0, 1])})
        >>> [(u, v, round(data["information"], 4)) for u, v, data in tree.edges(data=True)]
        [('a', 'copy', 0.6931), ('a', 'coin', 0.0566)]
    """
    table = CategoricalTable.of(data, states)
    if not 0 <= min_information < float("inf"):
        raise ValueError(f"`min_information` must be at least 0 and finite, got {min_information}")
    first = 0
    if root is not None:
        first = table.number(root)
    information = mutual_information(table, equivalent_sample_size=equivalent_sample_size)
    largest_entropy = float(information.diagonal().max())
    least = min_information + ROUNDING * max(1.0, largest_entropy)
    graph = table.graph()
    for i, j in _spanning_forest(information, first, least):
        if j >= 0:
            value = float(information[j, i])
            graph.add_edge(table.nodes[j], table.nodes[i], information=value)
    return graph


def mutual_information(
    data: CategoricalData, *, equivalent_sample_size: float = 0.0, states: States = None
) -> Tensor:
    """Mutual information of each pair of nodes.

    Args:
        data: complete rows; see :meth:`CategoricalTable.of`.
        equivalent_sample_size: rows of a uniform distribution that are added to
            the data.
        states: of the nodes, where the data do not show all of them.

    Returns:
        Nats, (nodes, nodes), float64; the diagonal is the entropy of each node.

    Raises:
        ValueError: cells are missing, or ``equivalent_sample_size`` is
            negative.

    Example:
        >>> mutual_information(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])).round(decimals=4)
        tensor([[0.6931, 0.0000],
                [0.0000, 0.6931]], dtype=torch.float64)
    """
    table = CategoricalTable.of(data, states)
    check_sample_size(equivalent_sample_size)
    arities = torch.tensor(table.arities, device=table.values.device)
    node = torch.arange(len(arities), device=arities.device)
    node = torch.repeat_interleave(node, arities)
    share = 1 / arities[node].double()
    total = len(table) + equivalent_sample_size
    counts = _pair_counts(table)
    pairs = (counts + equivalent_sample_size * share[:, None] * share) / total
    single = (counts.diagonal() + equivalent_sample_size * share) / total
    # Each node with itself: its own distribution on the diagonal of its block.
    same = node[:, None] == node
    pairs = torch.where(same, torch.diag(single), pairs)
    entropies = _by_node(-torch.xlogy(single, single), node, len(arities))
    rows = _by_node(-torch.xlogy(pairs, pairs), node, len(arities))
    joint = _by_node(rows.T.contiguous(), node, len(arities))
    return (entropies[:, None] + entropies - (joint + joint.T) / 2).clamp(min=0)


def conditional_tables(
    graph: nx.DiGraph,
    data: CategoricalData,
    *,
    equivalent_sample_size: float = 0.0,
    states: States = None,
) -> dict[str, Tensor]:
    r"""Conditional probabilities of each node given its parents, from data and a uniform prior.

    .. math:: p(x_v = k \,|\, \mathrm{pa}_v = j) = \frac{n_{jk} + \alpha / (J K)}{n_j + \alpha / J}

    This is the posterior mean under the prior of :class:`BDeu`; graphs of one
    Markov class get the same distribution. Where nothing is known, because the
    parents' states do not occur and :math:`\alpha = 0`, states are equally
    probable.

    Args:
        graph: directed, acyclic, over the nodes of the data.
        data: complete rows; see :meth:`CategoricalTable.of`.
        equivalent_sample_size: :math:`\alpha`.
        states: of the nodes, where the data do not show all of them.

    Returns:
        For each node a tensor (states of each parent in the order of
        ``graph.predecessors``, own states), float64, as ``BayesianNetwork``
        takes them.

    Raises:
        ValueError: the graph has other nodes than the data, or
            ``equivalent_sample_size`` is negative.

    Example:
        >>> a = torch.tensor([0, 0, 1, 1])
        >>> graph = nx.DiGraph([("a", "copy")])
        >>> conditional_tables(graph, {"a": a, "copy": a}, equivalent_sample_size=4)["copy"]
        tensor([[0.7500, 0.2500],
                [0.2500, 0.7500]], dtype=torch.float64)
    """
    table = CategoricalTable.of(data, states)
    check_sample_size(equivalent_sample_size)
    if not graph.is_directed() or set(graph) != set(table.nodes):
        raise ValueError(f"`graph` must be directed, over the nodes of `data`, got {graph}")
    state_names = dict(zip(table.nodes, table.states, strict=True))
    structure = NetworkStructure.from_graph(graph, state_names)
    for node, cells in zip(structure.nodes, structure.sizes, strict=True):
        if cells > MAX_CELLS:
            raise ValueError(
                f"the table of node {node!r} must have at most {MAX_CELLS:.0e} cells, "
                f"got {cells:.1e}"
            )
    columns = [table.index[node] for node in structure.nodes]
    counts = counts_of(structure, table.values[:, columns])
    owner = structure.node_of_cell.to(counts.device)
    share = 1 / counts.new_tensor(structure.sizes)[owner]
    even = 1 / counts.new_tensor(structure.cardinalities)[owner]
    counts = counts + equivalent_sample_size * share
    return by_node(structure, from_counts(structure, counts, even))


def check_sample_size(equivalent_sample_size: float) -> None:
    """Raise unless it is at least 0 and finite."""
    if not 0 <= equivalent_sample_size < float("inf"):
        raise ValueError(
            f"`equivalent_sample_size` must be at least 0 and finite, got {equivalent_sample_size}"
        )


def _by_node(values: Tensor, node: Tensor, nodes: int) -> Tensor:
    """Sums over the states of each node, along the first dimension."""
    return values.new_zeros(nodes, *values.shape[1:]).index_add_(0, node, values)


def _pair_counts(table: CategoricalTable) -> Tensor:
    """Counts of pairs of states of two nodes, (all states, all states), float64."""
    arities = torch.tensor(table.arities, device=table.values.device)
    width = int(arities.sum())
    first = arities.cumsum(0) - arities
    counts = torch.zeros(width, width, dtype=torch.float64, device=arities.device)
    # At most 2^24 rows at once, whose counts float32 holds exactly.
    for rows in table.values.split(max(1, BLOCK // width)):
        indicators = torch.zeros(len(rows), width, device=arities.device)
        indicators.scatter_(1, rows + first, 1.0)
        counts += indicators.T @ indicators
    return counts


def _spanning_forest(weight: Tensor, root: int, least: float) -> list[tuple[int, int]]:
    """Pairs (node, parent), -1 for roots, by Prim's algorithm; edges exceed ``least``."""
    weight = weight.cpu()
    nodes = len(weight)
    best = torch.full((nodes,), -torch.inf, dtype=weight.dtype)
    parent = torch.full((nodes,), -1)
    outside = torch.ones(nodes, dtype=torch.bool)
    best[root] = torch.inf
    edges = []
    for _ in range(nodes):
        node = int(torch.where(outside, best, -torch.inf).argmax())
        if not outside[node]:  # nothing outside is joined to the trees so far
            node = int(outside.int().argmax())
        outside[node] = False
        edges.append((node, int(parent[node])))
        closer = outside & (weight[node] > best) & (weight[node] > least)
        best = torch.where(closer, weight[node], best)
        parent = torch.where(closer, node, parent)
    return edges


__all__ = ["chow_liu", "conditional_tables", "mutual_information"]
