"""Parts of a Bayesian network: graph, states and CPDs, checked against one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import networkx as nx
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_gen._transforms import wrapped
from pyro_gen.distributions import NetworkStructure
from pyro_gen.distributions.bayesian_network import GaussianNode
from pyro_gen.distributions.bayesian_network import structure as structures
from pyro_gen.distributions.bayesian_network.observation import plain, read_observation
from pyro_gen.distributions.bayesian_network.structure import States
from pyro_gen.nn import CPD, ConditionalGaussianCPD, DiscreteCPD, TabularCPD

REAL = ("a real number",)
"""Placeholder for the states of real nodes where only the graph is used."""


def structure_with_cpds(
    graph: nx.DiGraph | NetworkStructure, states: States, cpds: Mapping[str, CPD | Tensor]
) -> NetworkStructure:
    """Structure of all nodes; numbers of states that are not given are read from the CPDs."""
    shown = {
        node: cpd.shape[-1] for node, cpd in cpds.items() if isinstance(cpd, Tensor) and cpd.dim()
    }
    shown |= {node: cpd.states for node, cpd in cpds.items() if isinstance(cpd, DiscreteCPD)}
    return structures.structure_of(graph, states, shown, dict.fromkeys(_real(cpds), REAL))


def _real(cpds: Mapping[str, CPD | Tensor]) -> set[str]:
    """Nodes that are real numbers."""
    return {node for node, cpd in cpds.items() if isinstance(cpd, CPD) and cpd.states is None}


def discrete_part(
    skeleton: NetworkStructure, cpds: Mapping[str, CPD | Tensor]
) -> NetworkStructure:
    """The structure of the discrete nodes alone."""
    if not (real := _real(cpds)):
        return skeleton
    discrete = {node: states for node, states in skeleton.states.items() if node not in real}
    for node in discrete:
        if real_parents := real.intersection(skeleton.parents[node]):
            raise ValueError(
                f"the discrete node {node!r} must have no real parent, got "
                f"{sorted(real_parents)[0]!r}"
            )
    return NetworkStructure(discrete, {node: skeleton.parents[node] for node in discrete})


def gaussian(skeleton: NetworkStructure, node: str, cpd: CPD) -> GaussianNode:
    """A real node as exact inference takes it; raises unless it is Gaussian."""
    if not isinstance(cpd, ConditionalGaussianCPD):
        kind = type(cpd).__name__
        raise NotImplementedError(
            f"exact inference supports Gaussian real nodes only, {node!r} has {kind}"
        )
    pairs = list(zip(skeleton.parents[node], cpd.parent_states, strict=True))
    discrete, real = (tuple(p for p, k in pairs if (k is None) == flag) for flag in (False, True))
    # copies, as the tables are
    parameters = (x.clone() for x in (cpd.bias, cpd.weight, cpd.log_scale))
    return GaussianNode(discrete, real, *parameters)


def column(
    skeleton: NetworkStructure,
    states: Mapping[str, Sequence[str]],
    node: str,
    value: Any,
    example: Tensor,
) -> Tensor:
    """Check the observed values of a node.

    Args:
        skeleton: all nodes.
        states: names of the states of the discrete ones.
        node: the node.
        value: one name or number of a state a row, as in evidence; for a real
            node finite floats (rows,).
        example: a tensor on the device of the parameters.

    Returns:
        State numbers (rows,), int64, -1 where missing, or the floats.
    """
    skeleton.number(node)
    if node not in states:
        value = plain(value)
        proper = isinstance(value, Tensor) and value.dim() == 1 and value.is_floating_point()
        if not proper or not value.isfinite().all():
            raise ValueError(
                f"`data` of the real node {node!r} must be finite floats (rows,), got {value!r}; "
                "single cells can be missing in exact inference only (`log_evidence`)"
            )
        return value
    observation = read_observation(skeleton, node, value, example)
    if not isinstance(observation, Tensor):
        raise ValueError(
            f"`data` of node {node!r} must be an integer tensor (rows,), or one name or number of "
            f"a state a row, got {value!r}"
        )
    return observation


def cpd_that_fits(skeleton: NetworkStructure, node: str, cpds: Mapping[str, CPD | Tensor]) -> CPD:
    """The CPD of a node: the one given, a table, or equal probabilities."""
    shape = skeleton.table_shape(node)
    cpd = cpds.get(node)
    if cpd is None:  # of the dtype of the others
        dtypes = [
            x.dtype if isinstance(x, Tensor) else next(x.parameters()).dtype for x in cpds.values()
        ]
        return TabularCPD.uniform(shape[:-1], shape[-1], next(iter(dtypes), torch.float64))
    if isinstance(cpd, Tensor):
        cpd = _table(skeleton, node, cpd)
    if not isinstance(cpd, CPD):
        raise ValueError(
            f"the CPD of node {node!r} must be a CPD or a table, got {type(cpd).__name__}"
        )
    kinds = [_states_seen(skeleton, parent, cpds) for parent in skeleton.parents[node]]
    node_states = None if cpd.states is None else shape[-1]
    if (*cpd.parent_states, cpd.states) != (*kinds, node_states):
        parents = ", ".join(map(repr, skeleton.parents[node])) or "none"
        raise ValueError(
            f"the CPD of node {node!r} must have states {(*kinds, node_states)}, those of its "
            f"parents ({parents}) and its own, got {(*cpd.parent_states, cpd.states)}"
        )
    return cpd


def _states_seen(
    skeleton: NetworkStructure, parent: str, cpds: Mapping[str, CPD | Tensor]
) -> int | None:
    """Number of states of a parent, None for a real one."""
    cpd = cpds.get(parent)
    if isinstance(cpd, CPD) and cpd.states is None:
        return None
    return len(skeleton.states[parent])


def _table(structure: NetworkStructure, node: str, table: Tensor) -> TabularCPD:
    if table.shape != structure.table_shape(node):
        raise ValueError(
            f"the table of node {node!r} must have shape {structure.table_shape(node)}, the "
            "states of its parents "
            f"({', '.join(structure.parents[node])}) and its own, got {tuple(table.shape)}"
        )
    try:
        return TabularCPD(table)
    except ValueError as error:
        raise ValueError(f"the table of node {node!r} does not fit: {error}") from error


def steady_tensors(module: nn.Module) -> list[Tensor] | None:
    """Parameters and buffers, whose versions tell whether a cached value is valid.

    Shared ones appear twice. None where Pyro or a transform of torch.func gives
    them, others at each look.
    """
    tensors = list(_each_tensor(module))
    steady = [x for x in tensors if x is not None]
    if len(steady) < len(tensors) or wrapped(steady):
        return None
    return steady


def _each_tensor(module: nn.Module) -> Iterator[Tensor | None]:
    """Every tensor, read faster than by ``parameters()``; None for weights that Pyro gives."""
    if isinstance(module, PyroModule):
        yield None
    yield from (
        x
        for table in (module._parameters, module._buffers)
        for x in table.values()
        if x is not None
    )
    for part in module._modules.values():
        if part is not None:
            yield from _each_tensor(part)


__all__ = [
    "column",
    "cpd_that_fits",
    "discrete_part",
    "gaussian",
    "steady_tensors",
    "structure_with_cpds",
]
