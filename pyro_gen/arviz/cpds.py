"""Draws of a Bayesian network's conditional probabilities to ArviZ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyro_gen.arviz.chains import from_chains

if TYPE_CHECKING:
    from pyro_gen.models import CPDDraws


def from_cpds(draws: CPDDraws, attrs: Mapping[str, Any] | None = None) -> Any:
    """Hand draws of conditional probabilities to ArviZ, with the names of nodes and states.

    A table becomes the variable ``p(node | parents)``, with a dimension for each parent and for
    the node; their coordinates are the names of the states. A slash in a node's name, which NetCDF
    cannot store, becomes an underscore, and where a name is taken (a node called "chain" or
    "draw", say) its dimension ends in one.

    Args:
        draws: what ``network.sample_cpds(data)`` returned.
        attrs: attributes of the groups, such as the seed.

    Returns:
        `arviz.InferenceData` with ArviZ 0.2x, `xarray.DataTree` with ArviZ 1.x.

    Raises:
        ImportError: if ArviZ is not installed.

    Example:
        >>> import networkx as nx, torch
        >>> from pyro_gen.models import BayesianNetwork
        >>> network = BayesianNetwork(nx.DiGraph([("rain", "wet")]), states=("no", "yes"))
        >>> days = {"rain": torch.tensor([0, 1]), "wet": torch.tensor([0, 1])}
        >>> draws = network.sample_cpds(days, num_samples=10)
        >>> posterior = from_cpds(draws)["posterior"]
        >>> posterior["p(wet | rain)"].dims
        ('chain', 'draw', 'rain', 'wet')
    """
    names = _dimension_names(draws.structure.nodes)
    families = {
        node: [names[name] for name in (*draws.structure.parents[node], node)]
        for node in draws.tables
    }
    used = {name for family in families.values() for name in family}
    return from_chains(
        {_variable_name(families[node]): table for node, table in draws.tables.items()},
        dims={_variable_name(family): family for family in families.values()},
        coords={
            names[node]: list(states)
            for node, states in draws.structure.states.items()
            if names[node] in used
        },
        attrs=attrs,
    )


def _variable_name(family: list[str]) -> str:
    *parents, node = family
    if not parents:
        return f"p({node})"
    return f"p({node} | {', '.join(parents)})"


def _dimension_names(nodes: tuple[str, ...]) -> dict[str, str]:
    """A dimension's name for each node, all different."""
    taken = {"chain", "draw"}
    names = {}
    for node in nodes:
        name = node.replace("/", "_")
        while name in taken:
            name += "_"
        taken.add(name)
        names[node] = name
    return names
