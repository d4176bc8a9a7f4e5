"""Random Bayesian networks whose cliques stay small, for tests and measurements."""

from __future__ import annotations

import random
from collections.abc import Sequence

import networkx as nx
import torch

from pyro_gen.distributions import BayesianNetwork, NetworkStructure


def random_structure(
    num_nodes: int,
    max_parents: int = 3,
    window: int | None = None,
    states: Sequence[int] = (2, 3, 4),
    seed: int = 0,
) -> NetworkStructure:
    """A random graph whose nodes have parents among those shortly before them.

    Args:
        num_nodes: number of nodes.
        max_parents: most parents of a node.
        window: how far before a node its parents lie, which bounds the tree-width; None
            for no bound.
        states: numbers of states to draw from.
        seed: of the draws.

    Returns:
        Nodes ``n0``, ``n1``, ... in a random order that is not topological.

    Example:
        >>> random_structure(5, window=2).nodes
        ('n3', 'n4', 'n0', 'n1', 'n2')
    """
    dice = random.Random(seed)
    graph = nx.DiGraph()
    names = [f"n{i}" for i in range(num_nodes)]
    graph.add_nodes_from(dice.sample(names, num_nodes))
    for i, node in enumerate(names):
        before = names[max(0, i - (window or i)) : i]
        num_parents = min(len(before), dice.randint(0, max_parents))
        for parent in dice.sample(before, num_parents):
            graph.add_edge(parent, node)
    sizes = {node: dice.choice(states) for node in names}
    return NetworkStructure.from_graph(graph, sizes)


def random_tables(
    structure: NetworkStructure,
    zeros: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """Random tables, flattened.

    Args:
        structure: nodes, states, parents.
        zeros: share of cells that are exactly zero; each row keeps one that is not.
        seed: of the draws.
        dtype: of the tables.

    Returns:
        Shape (cells,).
    """
    generator = torch.Generator().manual_seed(seed)
    tables = []
    for size, states in zip(structure.sizes, structure.cardinalities, strict=True):
        rows = torch.empty(size // states, states, dtype=torch.float64).exponential_(
            generator=generator
        )
        is_kept = torch.rand(rows.shape, generator=generator) >= zeros
        is_kept |= rows == rows.amax(-1, keepdim=True)
        rows = rows * is_kept
        tables.append((rows / rows.sum(-1, keepdim=True)).flatten())
    return torch.cat(tables).to(dtype)


def random_network(
    num_nodes: int,
    max_parents: int = 3,
    window: int | None = None,
    states: Sequence[int] = (2, 3, 4),
    zeros: float = 0.0,
    seed: int = 0,
) -> BayesianNetwork:
    """A random network; see :func:`random_structure` and :func:`random_tables` for the arguments.

    Example:
        >>> random_network(5).log_evidence().item()
        0.0
    """
    structure = random_structure(num_nodes, max_parents, window, states, seed)
    return BayesianNetwork(structure, random_tables(structure, zeros, seed))


__all__ = ["random_network", "random_structure", "random_tables"]
