"""The Boltzmann machine as a module: couplings, chains and the distribution over
their current values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen._arguments import whole_number
from pyro_gen._rows import as_floating
from pyro_gen._transforms import batched, plain, refusal
from pyro_gen.distributions.energy.coupling_graph import CouplingGraph
from pyro_gen.distributions.log_z.annealing import with_base_rates
from pyro_gen.distributions.log_z.energy import Energy
from pyro_gen.distributions.log_z.negative_phase import (
    NegativePhase,
    PersistentChains,
    check_plain_phase,
)
from pyro_gen.distributions.log_z.partition import Partition
from pyro_gen.distributions.units import BernoulliUnits
from pyro_gen.distributions.units.binary import BinaryUnits
from pyro_gen.nn.chains import ChainModule, _Kept
from pyro_gen.nn.learning import check_evaluation, check_states


class BoltzmannMachine(ChainModule):
    """Couplings and biases to be learned.

    Calling it returns :class:`pyro_gen.distributions.BoltzmannMachine`.

    As with :class:`pyro_gen.nn.RBM`, the distribution of a call in training
    mode with gradients enabled advances the negative phase when it is first
    scored, and gives a contrast; in ``eval()`` or under ``no_grad`` it carries
    ``evaluation``. The pseudo-likelihood,
    ``machine().pseudo_log_likelihood(x)``, needs neither.

    The parameter ``coupling`` (m,) holds one number for each pair of the buffer
    ``edges`` (m, 2). The buffers ``chains`` (num_chains, features), ``step``
    and ``seed`` hold all that learning needs besides; ``base_rates``
    (features,), the mean of the data, is where AIS anneals from.

    Args:
        features: number of units.
        edges: the pairs that may be coupled, (m, 2); None couples all.
        units: ``BernoulliUnits()`` for {0, 1} or ``SpinUnits()`` for {-1, +1}.
        negative_phase: how log Z is replaced in training: ``PersistentChains``,
            ``ContrastiveDivergence``, or a way to know it after all (``Exact``,
            ``AIS``, None).
        evaluation: how log Z is known in ``eval()``: ``Exact``, ``AIS`` or None
            (exact where at most 20 units have to be enumerated).
        num_steps: Gibbs sweeps of the distribution's ``sample`` where no exact
            draw is possible.

    Raises:
        ValueError: there are no units, the units are not binary, an edge does
            not fit, ``negative_phase`` is one that works on the two layers of
            an RBM, or ``evaluation`` is a negative phase.

    References:
        Ackley, Hinton, Sejnowski (1985), A learning algorithm for Boltzmann
        machines. Hyvarinen (2006), Consistency of pseudolikelihood estimation
        of fully visible Boltzmann machines, Neural Computation 18.

    Example:
        >>> machine = BoltzmannMachine(6)
        >>> machine.coupling.shape, machine().log_prob(torch.ones(2, 6)).shape, machine.step.item()
        (torch.Size([15]), torch.Size([2]), 1)
    """

    edges: Tensor
    base_rates: Tensor

    def __init__(
        self,
        features: int,
        edges: Tensor | None = None,
        units: BinaryUnits = BernoulliUnits(),  # noqa: B008  # an immutable setting
        negative_phase: Partition | None = PersistentChains(),  # noqa: B008  # an immutable setting
        evaluation: Partition | None = None,
        num_steps: int | None = None,
    ) -> None:
        super().__init__(negative_phase, evaluation, num_steps)
        features = whole_number("features", features)
        if not isinstance(units, BinaryUnits):
            raise ValueError(
                f"`units` must be binary, BernoulliUnits() or SpinUnits(), got {units}"
            )
        check_plain_phase(negative_phase)
        check_evaluation(evaluation)
        self.units = units
        if edges is None:
            self._graph = CouplingGraph.complete(features)
        else:
            self._graph = CouplingGraph(features, edges)
        self.coupling = nn.Parameter(torch.zeros(self._graph.num_edges))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("edges", self._graph.edges.clone())
        self._keep_chains(
            units.from_bits(torch.randint(2, (self.num_chains, features)).to(self.bias.dtype))
        )
        self.register_buffer("base_rates", units.mean(torch.zeros(features)))

    @classmethod
    def from_data(
        cls, x: Tensor, edges: Tensor | None = None, **settings: Any
    ) -> BoltzmannMachine:
        """Start at free units with the data's means, chains at random rows.

        Args:
            x: states, (rows, features).
            edges: the pairs that may be coupled; None couples all.
            **settings: the constructor's other arguments.

        Returns:
            A module with the dtype and on the device of ``x``.

        Raises:
            ValueError: ``x`` is empty, has another number of dimensions or
                values that the units cannot take.

        Example:
            >>> BoltzmannMachine.from_data(torch.eye(4)).base_rates
            tensor([0.3333, 0.3333, 0.3333, 0.3333])
        """
        x = as_floating(x)
        machine = cls(x.shape[-1] if x.dim() else 0, edges, **settings).to(x)
        check_states("x", x, machine.units)
        with torch.no_grad():
            x = x.to(machine.bias)
            bits = machine.units.bits(x)
            machine.base_rates.copy_(machine.units.from_bits((bits.sum(0) + 1) / (len(x) + 2)))
            machine.bias.copy_(machine.units.from_moments(machine.base_rates, None, 0.0)[0])
            machine.chains.copy_(x[torch.randint(len(x), (len(machine.chains),)).to(x.device)])
        return machine

    @property
    def graph(self) -> CouplingGraph:
        """The pairs of ``edges``, with their colouring.

        Raises:
            NotImplementedError: vmap holds other edges than the module's own.
        """
        if batched([self.edges]):
            return self._same_graph()
        if self._graph.edges.device != self.edges.device:
            self._graph = self._graph.to(self.edges.device)
        if not torch.equal(self._graph.edges, self.edges):  # a state of other edges was loaded
            self._graph = CouplingGraph(self._graph.num_units, self.edges)
        return self._graph

    def _same_graph(self) -> CouplingGraph:
        """The module's own graph, where all the graphs that vmap goes over are this one."""
        edges = self._graph.edges.flatten()
        stacked = plain(self.edges).reshape(-1, len(edges))
        if not torch.equal(stacked, edges.expand_as(stacked)):
            raise refusal(
                "BoltzmannMachine",
                "its `edges` differ",
                "stack machines of the same edges",
                "vmap",
            )
        return self._graph

    def forward(self) -> distributions.BoltzmannMachine:
        """The distribution over the current couplings.

        Returns:
            The distribution, with ``evaluation`` as its ``partition``; in
            training mode with gradients the contrast of the negative phase,
            which advances when the first log probability is asked for.

        Raises:
            ValueError: the caller cannot work with a negative phase (HMC,
                traced ELBOs, importance weights, batched parameters).
            NotImplementedError: a negative phase is to advance in a process
                group of more than one rank.
        """
        partition = self.partition
        if isinstance(partition, NegativePhase):
            check_plain_phase(partition)
            partition = self._defer(partition)
        else:
            partition = with_base_rates(partition, self.base_rates)
            if isinstance(self.coupling, nn.Parameter) and isinstance(self.bias, nn.Parameter):
                # one run of AIS for each version of the parameters
                partition = _Kept(partition, self._memo)
        return self._plain(partition)

    def distribution(self) -> distributions.BoltzmannMachine:
        """The distribution over the current couplings, with the default method for log Z.

        No chains advance.
        """
        return self._plain()

    def advance(self, phase: NegativePhase, distribution: Energy | None = None) -> tuple[int, int]:
        """Run the sweeps of one update with the module's key, and count them.

        Args:
            phase: the settings.
            distribution: what the chains follow; None for the one over the
                current parameters.

        Returns:
            The key: the seed, and the index of the first sweep.
        """
        check_plain_phase(phase)
        return super().advance(phase, distribution)

    def _plain(self, partition: Partition | None = None) -> distributions.BoltzmannMachine:
        settings: dict[str, Any] = {
            "num_steps": self.num_steps,
            "units": self.units,
            "graph": self.graph,
        }
        return distributions.BoltzmannMachine(self.coupling, self.bias, partition, **settings)

    def extra_repr(self) -> str:
        """Sizes and settings."""
        sizes = f"features={self.bias.shape[-1]}, edges={len(self.edges)}, units={self.units}"
        return f"{sizes}, negative_phase={self.negative_phase}, evaluation={self.evaluation}"


__all__ = ["BoltzmannMachine"]
