"""pyAgrum and pgmpy with the same networks, for evidence and benchmarks.

Imported only where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import UnavailableError
from pyro_gen import datasets
from pyro_gen.distributions import BayesianNetwork

NETWORKS = ("asia", "cancer", "earthquake", "survey", "sachs", "child", "insurance", "alarm")


def bif_file(name: str) -> Path:
    """A network of the bnlearn repository in the data folder.

    Raises:
        UnavailableError: it is not there.
    """
    path = datasets.data_folder() / "bif" / f"{name}.bif"
    if not path.exists():
        raise UnavailableError(f"{path} is not there")
    return path


class Agrum:
    """A network in pyAgrum, with nodes by number and states by number, since it
    refuses some of the files' names.

    Args:
        network: with tables that are not batched.
    """

    def __init__(self, network: BayesianNetwork) -> None:
        import pyagrum as gum

        self.gum = gum
        self.structure = network.structure
        self.bn = gum.BayesNet()
        for i, states in enumerate(self.structure.cardinalities):
            self.bn.add(gum.LabelizedVariable(f"n{i}", "", states))
        for *parents, i in self.structure.families:
            for parent in parents:
                self.bn.addArc(parent, i)
        for i, node in enumerate(network.nodes):
            table = network.table(node).detach()
            axes = [*range(table.dim() - 2, -1, -1), table.dim() - 1]
            # its first variable changes fastest
            self.bn.cpt(i).fillWith(table.permute(axes).flatten().tolist())
        self.engine = gum.LazyPropagation(self.bn)

    def marginals(self, evidence: Mapping[int, int]) -> list[Tensor]:
        """Distributions of all nodes given states by number of the node."""
        self.engine.setEvidence(dict(evidence))
        self.engine.makeInference()
        return [
            torch.as_tensor(self.engine.posterior(i).toarray())
            for i in range(len(self.structure.nodes))
        ]

    def marginal(self, evidence: Mapping[int, int], node: int) -> Tensor:
        """The distribution of one node, which is the only target."""
        self.engine.eraseAllTargets()
        self.engine.addTarget(node)
        self.engine.setEvidence(dict(evidence))
        self.engine.makeInference()
        distribution = torch.as_tensor(self.engine.posterior(node).toarray())
        self.engine.eraseAllTargets()
        self.engine.addAllTargets()
        return distribution

    def evidence_probability(self, evidence: Mapping[int, int]) -> float:
        """P(e)."""
        self.engine.setEvidence(dict(evidence))
        return float(self.engine.evidenceProbability())


def pgmpy_elimination(network: BayesianNetwork) -> Any:
    """Variable elimination of pgmpy on the same network."""
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.inference import VariableElimination
    from pgmpy.models import DiscreteBayesianNetwork

    structure = network.structure
    model = DiscreteBayesianNetwork(list(structure.edges))
    model.add_nodes_from(structure.nodes)
    for node in structure.nodes:
        table = network.table(node).detach()
        columns = table.reshape(-1, table.shape[-1]).T.numpy()
        sizes = list(table.shape[:-1])
        model.add_cpds(
            TabularCPD(
                node,
                table.shape[-1],
                columns,
                list(structure.parents[node]) or None,
                sizes or None,
            )
        )
    return VariableElimination(model)
