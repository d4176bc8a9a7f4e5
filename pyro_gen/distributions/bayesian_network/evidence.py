"""Evidence on nodes, the vectors that elimination takes, and the way from distinct rows back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor
from torch.nn.functional import one_hot

from pyro_gen.distributions.bayesian_network.elimination import EvidenceRows
from pyro_gen.distributions.bayesian_network.messages import refuse_rows
from pyro_gen.distributions.bayesian_network.observation import (
    Likelihood,
    missing,
    read_observation,
)
from pyro_gen.distributions.bayesian_network.structure import NetworkStructure

Evidence = Mapping[str, Any]
"""For each node one of these.

- the name of a state (a string), or its number (an integer): one case;
- a set or frozenset of names or numbers: one of these states, one case;
- a list, a tuple, an array, a tensor or a column of a table (a pandas Series):
  one name or number
    a row, with -1, None
  or NaN among names where missing. Truth values are the numbers 0 and 1 of two
  states;
- a :class:`~pyro_gen.distributions.Likelihood` (states,) or (rows, states): of
  what was seen given
    each state;
- None: nothing.

Strings are names and integers numbers, whatever the names look like. Floats are
neither: the error names the cast and ``Likelihood``. What is about one case
holds for every row beside evidence of rows.
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
        if self.rows is None:
            return 1
        return self.rows


def parse(
    structure: NetworkStructure, evidence: Evidence | Tensor | None, like: Tensor
) -> Observed:
    """Evidence as given by the user; ``like`` has the dtype and device of the tables.

    Raises:
        ValueError: a node or state is unknown, or a value is not a possible
            one; it names the node.
    """
    numbers: dict[int, int | Tensor] = {}
    likelihoods: dict[int, Tensor] = {}
    counts: dict[str, int] = {}
    for node, value in by_name(structure.nodes, evidence).items():
        i = structure.number(node)
        if missing(value):
            continue
        observation = read_observation(structure, node, value, like)
        rows = rows_of(observation)
        if rows is not None:
            counts[node] = rows
        if isinstance(observation, Likelihood):
            likelihoods[i] = observation.values.view(-1, observation.values.shape[-1]).mT
        else:
            numbers[i] = observation
    if len(set(counts.values())) > 1:
        raise ValueError(f"all evidence must have the same number of rows, got {counts}")
    vectors, log_scale = _scaled(likelihoods, like)
    return Observed(next(iter(counts.values()), None), numbers, vectors, log_scale)


def by_name(nodes: Sequence[str], evidence: Any, name: str = "evidence") -> Mapping[str, Any]:
    """Evidence as a mapping from nodes; ``name`` is that of the argument, for messages.

    Args:
        nodes: names of all nodes in order.
        evidence: such a mapping; a data frame of pandas (``items()``) or
            polars; state numbers (rows, nodes); None.
        name: see above.
    """
    if evidence is None or isinstance(evidence, Mapping):
        return evidence or {}
    if isinstance(evidence, Tensor | np.ndarray):
        if evidence.ndim != 2 or evidence.shape[1] != len(nodes):
            raise ValueError(
                f"`{name}` must have shape (rows, {len(nodes)}), got {tuple(evidence.shape)}"
            )
        return dict(zip(nodes, evidence.T, strict=True))
    if hasattr(evidence, "get_columns"):
        return {column.name: column for column in evidence.get_columns()}
    if not hasattr(evidence, "items"):
        raise ValueError(
            f"`{name}` must be a mapping from nodes to what is observed, "
            f"got {type(evidence).__name__}"
        )
    columns = list(evidence.items())
    if len(dict(columns)) < len(columns):
        raise ValueError(f"`{name}` must have each column once, got {[key for key, _ in columns]}")
    return dict(columns)


def rows_of(observation: int | Tensor | Likelihood) -> int | None:
    """Rows that what was read of a node is about, None for one case."""
    if isinstance(observation, Likelihood):
        return observation.rows
    if isinstance(observation, Tensor):
        return len(observation)
    return None


def _scaled(
    likelihoods: Mapping[int, Tensor], like: Tensor
) -> tuple[dict[int, Tensor], Tensor | float]:
    """Likelihoods divided by their largest entries, and the logarithms of these."""
    scale: Tensor | float = 0.0
    vectors = {}
    for i, vector in likelihoods.items():
        top = vector.detach().amax(0, keepdim=True)
        scale = scale + top.squeeze(0).log().to(like.dtype)
        vectors[i] = (vector / top).to(like.dtype)
    return vectors, scale


def distinct(observed: Observed) -> tuple[Observed, Tensor | None]:
    """Equal rows taken together, and the distinct row of each; None where that gains nothing."""
    columns = [x for x in observed.numbers.values() if isinstance(x, Tensor)]
    if (
        observed.rows is None
        or observed.rows < 2
        or any(x.shape[1] > 1 for x in observed.vectors.values())
    ):
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
    numbers = dict(observed.numbers)
    for i, states in numbers.items():
        if isinstance(states, Tensor):
            numbers[i] = states[first]
    return Observed(count, numbers, observed.vectors, observed.log_scale), inverse


def split_evidence(
    observed: Observed, cardinalities: tuple[int, ...], like: Tensor
) -> EvidenceRows:
    """Evidence for elimination: numbers of nodes seen in every row, likelihoods of others."""
    hard: dict[int, int | Tensor] = {}
    soft = dict(observed.vectors)
    for i, value in observed.numbers.items():
        if not isinstance(value, Tensor):
            hard[i] = value
            continue
        unseen = value < 0
        if not unseen.any():
            hard[i] = value
        elif not unseen.all():
            soft[i] = indicator(value, cardinalities[i]).to(like.dtype)
    return EvidenceRows(observed.count, hard, soft)


def indicator(value: Tensor, states: int) -> Tensor:
    """Possible states, (states, rows): the one observed, or all where it is missing (-1)."""
    return (value == torch.arange(states, device=value.device).unsqueeze(1)) | (value < 0)


@dataclass(frozen=True)
class EvidenceCase:
    """Evidence on its way through a query.

    Args:
        observed: as it was given.
        rows: the distinct rows.
        inverse: for each given row its distinct one; None where they are the
            same.
        log_scale: what likelihood vectors were divided by, as a logarithm.
    """

    observed: Observed
    rows: EvidenceRows
    inverse: Tensor | None
    log_scale: Tensor | float

    def check(self, log: Tensor) -> None:
        """Raise where the log probability of a distinct row is -inf; it names the rows."""
        impossible = log.detach() == -torch.inf
        if self.inverse is not None:
            impossible = impossible[self.inverse]
        refuse_rows(impossible, self.observed.rows is None)

    def finish(self, log: Tensor) -> Tensor:
        """Log probabilities of the given rows, or of the one case; checked."""
        self.check(log)
        return self.spread(log + self.log_scale)

    def spread(self, x: Tensor) -> Tensor:
        """From distinct rows, the first axis, to those given, or to no such axis for one case."""
        if self.observed.rows is None:
            return x[0]
        if self.inverse is None:
            return x
        return x[self.inverse]

    def number(self, i: int, device: torch.device) -> Tensor:
        """State of a node that every row observes, (rows,) in distinct rows."""
        value = self.rows.hard[i]
        if isinstance(value, Tensor):
            return value
        return torch.full((self.rows.count,), value, device=device)

    def one_hot(self, i: int, states: int, like: Tensor) -> Tensor:
        """The distribution of a node that every row observes, (states, rows) in distinct rows."""
        return one_hot(self.number(i, like.device), states).mT.to(like.dtype)

    def weigh(self, weights: Tensor | None, like: Tensor) -> Tensor:
        """Weights of the distinct rows: sums of those given, (rows,); None for one each."""
        count = self.observed.count
        if weights is None:
            weights = like.new_ones(count)
        weights = weights.to(like)
        if weights.shape != (count,):
            raise ValueError(f"`weights` must have shape ({count},), got {tuple(weights.shape)}")
        if self.inverse is None:
            return weights
        return like.new_zeros(self.rows.count).index_add(0, self.inverse, weights)


def stack(answers: list[Any], batch: Size, expanded: Size) -> Any:
    """Answers for each set of tables as one, with the batch in front and expanded."""
    if not expanded:
        return answers[0]
    if isinstance(answers[0], dict):
        return {
            key: stack([answer[key] for answer in answers], batch, expanded) for key in answers[0]
        }
    trailing = answers[0].shape
    return torch.stack(answers).view((*batch, *trailing)).expand((*expanded, *trailing))


__all__ = [
    "Evidence",
    "EvidenceCase",
    "Observed",
    "by_name",
    "distinct",
    "indicator",
    "parse",
    "rows_of",
    "split_evidence",
    "stack",
]
