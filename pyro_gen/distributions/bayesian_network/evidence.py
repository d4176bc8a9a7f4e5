"""What users may say of nodes, and what elimination makes of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_gen.distributions.bayesian_network.elimination import Rows
from pyro_gen.distributions.bayesian_network.structure import NetworkStructure

Evidence = Mapping[str, Any]
"""For each node one of these.

- the name of a state, or its number: observed;
- an integer tensor (rows,) of state numbers, -1 where missing;
- a set, list or tuple of state names: one of these;
- a bool tensor (states,) or (rows, states): one of the states that are True;
- a float tensor (states,) or (rows, states): likelihood of what was seen given each state, up to a factor;
- None: nothing.
"""


@dataclass(frozen=True)
class Observed:
    """Evidence by number of the node; ``rows`` is None where it is about a single case."""

    rows: int | None
    numbers: dict[int, int | Tensor]
    vectors: dict[int, Tensor]
    """Likelihoods (states, rows or 1)."""
    log_scale: Tensor | float = 0.0
    """Of the vectors, which are at most one."""

    @property
    def count(self) -> int:
        """Rows, one for a single case."""
        return 1 if self.rows is None else self.rows


def parse(structure: NetworkStructure, evidence: Evidence | Tensor | None, like: Tensor) -> Observed:
    """Evidence as given by the user.

    Args:
        structure: the network's nodes and states.
        evidence: see :data:`Evidence`; or an integer tensor (rows, nodes) with -1 where missing; None for nothing.
        like: a tensor of the dtype and on the device of the tables.

    Raises:
        ValueError: a node or state is unknown, or a value is none of the possible ones; it names the node.
    """
    if isinstance(evidence, Tensor):
        evidence = _by_columns(structure, evidence)
    if evidence is not None and not isinstance(evidence, Mapping):
        raise ValueError(f"`evidence` must be a mapping from nodes to what is observed, got {type(evidence).__name__}")
    numbers: dict[int, int | Tensor] = {}
    vectors: dict[int, Tensor] = {}
    counts: dict[str, int] = {}
    for node, value in (evidence or {}).items():
        i = structure.number(node)
        if value is None:
            continue
        found, rows = _read(structure, node, value, like)
        if rows is not None:
            counts[node] = rows
        if isinstance(found, Tensor) and found.is_floating_point():
            vectors[i] = found
        else:
            numbers[i] = found
    if len(set(counts.values())) > 1:
        raise ValueError(f"all evidence must have the same number of rows, got {counts}")
    return _scaled(Observed(next(iter(counts.values()), None), numbers, vectors))


def _by_columns(structure: NetworkStructure, value: Tensor) -> Evidence:
    if value.dim() != 2 or value.shape[1] != len(structure.nodes):
        raise ValueError(f"`evidence` must have shape (rows, {len(structure.nodes)}), got {tuple(value.shape)}")
    return dict(zip(structure.nodes, value.unbind(1), strict=True))


def _read(structure: NetworkStructure, node: str, value: Any, like: Tensor) -> tuple[int | Tensor, int | None]:
    """A state number, numbers of rows, or a likelihood (states, rows or 1); and how many rows, None for no rows."""
    states = structure.states[node]
    if isinstance(value, str):
        return structure.state_number(node, value), None
    if isinstance(value, set | frozenset | list | tuple) and all(isinstance(x, str) for x in value):
        return _subset(structure, node, value, like), None
    if isinstance(value, bool):
        raise ValueError(f"evidence on node {node!r} must be a state's name or number, got {value}")
    if isinstance(value, int | np.integer):
        return _number(node, int(value), len(states)), None
    if isinstance(value, np.ndarray | list | tuple):
        value = torch.as_tensor(value)
    if not isinstance(value, Tensor):
        raise ValueError(
            f"evidence on node {node!r} must be a state, a set of states, a tensor or None, got {type(value).__name__}"
        )
    value = value.to(like.device)
    if value.is_floating_point() or value.dtype == torch.bool:
        return _likelihood(node, value, len(states), like), len(value) if value.dim() == 2 else None
    if value.is_complex() or value.dim() > 1:
        shape = tuple(value.shape)
        raise ValueError(f"states of node {node!r} must be integers of shape (rows,), got {value.dtype} {shape}")
    if value.dim() == 0:
        return _number(node, int(value), len(states)), None
    value = value.long()
    if value.numel() and (value.min() < -1 or value.max() >= len(states)):
        bad = (value < -1) | (value >= len(states))
        row = int(bad.nonzero()[0])
        raise ValueError(
            f"states of node {node!r} must be from 0 to {len(states) - 1}, or -1 where missing, got "
            f"{int(value[row])} in row {row}"
        )
    return value, len(value)


def _number(node: str, value: int, states: int) -> int:
    if not 0 <= value < states:
        raise ValueError(f"the state of node {node!r} must be from 0 to {states - 1}, got {value}")
    return value


def _subset(structure: NetworkStructure, node: str, names: Collection[str], like: Tensor) -> Tensor:
    if not names:
        raise ValueError(f"the set of states of node {node!r} must not be empty")
    vector = like.new_zeros(len(structure.states[node]), 1)
    vector[[structure.state_number(node, name) for name in names]] = 1
    return vector


def _likelihood(node: str, value: Tensor, states: int, like: Tensor) -> Tensor:
    if value.dim() not in (1, 2) or value.shape[-1] != states:
        raise ValueError(
            f"the likelihood of node {node!r} must have shape ({states},) or (rows, {states}), got {tuple(value.shape)}"
        )
    value = value.to(like.dtype)
    if not ((value >= 0) & (value < torch.inf)).all():
        raise ValueError(f"the likelihood of node {node!r} must be finite and not negative, got {value}")
    return value.unsqueeze(1) if value.dim() == 1 else value.mT


def _scaled(observed: Observed) -> Observed:
    """Likelihoods divided by their largest entry, so that all factors are at most one."""
    scale: Tensor | float = 0.0
    vectors = {}
    for i, vector in observed.vectors.items():
        top = vector.detach().amax(0, keepdim=True)
        top = torch.where(top > 0, top, 1.0)
        scale = scale + top.squeeze(0).log()
        vectors[i] = vector / top
    return Observed(observed.rows, observed.numbers, vectors, scale)


def distinct(observed: Observed) -> tuple[Observed, Tensor | None]:
    """Equal rows taken together.

    Args:
        observed: evidence of rows.

    Returns:
        The distinct rows, and for each row which of them it is, or None where nothing was gained.
    """
    columns = [x for x in observed.numbers.values() if isinstance(x, Tensor)]
    if observed.rows is None or observed.rows < 2 or any(x.shape[1] > 1 for x in observed.vectors.values()):
        return observed, None
    table = torch.stack(columns, 1)
    generator = torch.Generator().manual_seed(len(columns))
    hashes = torch.randint(-(2**62), 2**62, (len(columns),), generator=generator).to(table.device)
    _, inverse = torch.unique((table * hashes).sum(1), return_inverse=True)
    count = int(inverse.max()) + 1
    first = torch.zeros(count, dtype=torch.int64, device=table.device)
    first[inverse] = torch.arange(len(table), device=table.device)
    if count > 0.9 * observed.rows or not torch.equal(table[first[inverse]], table):
        return observed, None
    numbers = {i: x[first] if isinstance(x, Tensor) else x for i, x in observed.numbers.items()}
    return Observed(count, numbers, observed.vectors, observed.log_scale), inverse


def split(observed: Observed, cardinalities: tuple[int, ...], like: Tensor) -> Rows:
    """Evidence as elimination takes it: nodes observed in every row are looked up, the others get likelihoods.

    Args:
        observed: evidence.
        cardinalities: states of each node.
        like: a tensor of the dtype and on the device of the tables.
    """
    hard: dict[int, int | Tensor] = {}
    soft = dict(observed.vectors)
    for i, value in observed.numbers.items():
        if not isinstance(value, Tensor):
            hard[i] = value
            continue
        missing = value < 0
        if not missing.any():
            hard[i] = value
        elif not missing.all():
            soft[i] = indicator(value, cardinalities[i]).to(like.dtype)
    return Rows(observed.count, hard, soft)


def indicator(value: Tensor, states: int) -> Tensor:
    """Whether each state is possible, (states, rows): the one observed, or all where it is missing (-1)."""
    return (value == torch.arange(states, device=value.device).unsqueeze(1)) | (value < 0)


__all__ = ["Evidence", "Observed", "distinct", "indicator", "parse", "split"]
