"""Network and evidence for approximate inference: tables read row by row, and likelihoods."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from pyro_gen._evaluation import evaluating
from pyro_gen.distributions import BayesianNetwork, NetworkStructure
from pyro_gen.distributions.bayesian_network import Evidence
from pyro_gen.distributions.bayesian_network.evidence import indicator, parse
from pyro_gen.distributions.bayesian_network.messages import IMPOSSIBLE, refuse_rows
from pyro_gen.distributions.bayesian_network.tables import named_rows


def distribution_of(network: BayesianNetwork | nn.Module) -> BayesianNetwork:
    """The distribution with its present tables of one network, or of a module that gives it."""
    with torch.no_grad(), evaluating(network):
        distribution = network() if isinstance(network, nn.Module) else network
    if not isinstance(distribution, BayesianNetwork) or distribution.batch_shape:
        raise ValueError(
            f"`network` must be one Bayesian network of discrete nodes, got {distribution!r}"
        )
    return distribution


@dataclass(frozen=True)
class Problem:
    """Tables of a network, and the likelihood of the evidence for each node in each row.

    Args:
        structure: nodes, states, parents.
        tables: flattened, (cells,).
        likelihoods: by number of the node, (rows or 1, states), largest entry
            1; nodes without evidence are not there.
        rows: how many; None for a single case.
        log_scale: log of the factor that the likelihoods were divided by.
        first: number of the first row, for messages.
    """

    structure: NetworkStructure
    tables: Tensor
    likelihoods: dict[int, Tensor]
    rows: int | None
    log_scale: Tensor | float
    first: int = 0

    @classmethod
    def of(
        cls, network: BayesianNetwork | nn.Module, evidence: Evidence | Tensor | None
    ) -> Problem:
        """Read a network and evidence, which is checked as in exact inference."""
        distribution = distribution_of(network)
        tables = distribution.tables.detach()
        structure = distribution.structure
        observed = parse(structure, evidence, tables)
        likelihoods = {i: vector.mT for i, vector in observed.vectors.items()}
        for i, value in observed.numbers.items():
            states = torch.as_tensor(value, device=tables.device).view(-1)
            if not (states < 0).all():
                likelihood = indicator(states, structure.cardinalities[i])
                likelihoods[i] = likelihood.mT.to(tables.dtype)
        rows = observed.rows
        return cls(structure, tables, likelihoods, rows, observed.log_scale)

    @property
    def count(self) -> int:
        """Rows, one for a single case."""
        return 1 if self.rows is None else self.rows

    def slice(self, start: int, end: int) -> Problem:
        """Some of the rows."""
        if self.rows is None:
            return self
        likelihoods = dict(self.likelihoods)
        for i, likelihood in likelihoods.items():
            if len(likelihood) == self.count:
                likelihoods[i] = likelihood[start:end]
        scale = self.log_scale
        if isinstance(scale, Tensor) and scale.dim() and len(scale) == self.count:
            scale = scale[start:end]
        rows = end - start
        return Problem(self.structure, self.tables, likelihoods, rows, scale, start)

    @cached_property
    def parts(self) -> list[Tensor]:
        """Each node's table as rows, (configurations of the parents, states)."""
        return [rows for _, rows in named_rows(self.structure, self.tables)]

    def rows_of(self, i: int, values: Tensor | dict[int, Tensor]) -> Tensor:
        """Rows of a node's table at its parents' states: their shape + (states of the node,)."""
        code: Tensor | int = 0
        for parent in self.structure.families[i][:-1]:
            code = code * self.structure.cardinalities[parent] + values[parent]
        return self.parts[i][code]

    def wanted(self, nodes: Iterable[str] | None) -> list[int]:
        """Numbers of the requested nodes; all for None."""
        if nodes is None:
            nodes = self.structure.nodes
        elif isinstance(nodes, str):
            nodes = [nodes]
        return [self.structure.number(node) for node in nodes]

    def given(self, x: Tensor) -> Tensor:
        """A result (rows, ...) in the shape of the evidence: without rows for a single case."""
        return x[0] if self.rows is None else x

    def refuse(self, impossible: Tensor, why: str = IMPOSSIBLE) -> None:
        """Raise where rows cannot be worked on; the message names the first ones."""
        refuse_rows(impossible, self.rows is None, why, self.first)


__all__ = ["Problem", "distribution_of"]
