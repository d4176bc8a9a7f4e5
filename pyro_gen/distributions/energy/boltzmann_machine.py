"""The general Boltzmann machine: binary units with couplings between any pairs,
such as the Ising model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints, register_kl
from torch.nn.functional import logsigmoid

from pyro_gen.distributions.arguments import Shape
from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.distributions.energy.chromatic import ChromaticBatch
from pyro_gen.distributions.energy.coupling_checks import (
    check_finite,
    check_matrix,
    check_parameters,
)
from pyro_gen.distributions.energy.coupling_graph import CouplingGraph
from pyro_gen.distributions.energy.coupling_sum import ExactSum
from pyro_gen.distributions.energy.divergence import divergence, entropy
from pyro_gen.distributions.energy.rbm import RBM
from pyro_gen.distributions.log_z.negative_phase import starts_at_data
from pyro_gen.distributions.log_z.partition import EXACT_UNITS, Partition
from pyro_gen.distributions.streaming import draw_index
from pyro_gen.distributions.units import BernoulliUnits, SpinUnits
from pyro_gen.distributions.units.binary import BinaryUnits
from pyro_gen.kernels import draw_seed
from pyro_gen.kernels.gibbs.reference import field
from pyro_gen.kernels.random import INITIAL, source

if TYPE_CHECKING:
    import networkx


class BoltzmannMachine(EnergyDistribution):
    r"""Boltzmann machine without hidden units: pairs of binary units, {0, 1} or {-1,
    +1}, with any couplings.

    .. math:: p(x) = \frac1Z e^{-E(x)}, \qquad
              E(x) = -\tfrac12 x J x - b \cdot x = -\sum_{i < j} J_{ij} x_i x_j - \sum_i b_i x_i

    Energies and log probabilities are in nats: an inverse temperature belongs
    into J and b. The event shape is (n,); batch dimensions of the parameters
    broadcast. Each pair counts once, and the field of a unit is b_i + (J x)_i;
    with spins the log odds of up are *twice* the field, with zeros and ones
    they are the field.

    Couplings come as a symmetric matrix with zero diagonal, or, with ``graph``,
    as one number for each edge. Then absent edges are not parameters: the cost
    of an energy is proportional to the number of edges, and an exact sum
    enumerates all units but those of the largest colour (one side of an RBM,
    half of a square lattice).

    Args:
        coupling: couplings J, shape (..., n, n), or (..., m) for the m edges of
            ``graph``.
        bias: shape (..., n).
        partition: how log Z is known: ``Exact()``, ``AIS(...)``, a negative
            phase, or None for exact enumeration where at most 20 units have to
            be enumerated (beyond that, methods that need log Z raise).
        num_steps: Gibbs sweeps of ``sample`` where no exact draw is possible.
        validate_args: whether to check parameters and values.
        units: ``BernoulliUnits()`` for {0, 1} or ``SpinUnits()`` for {-1, +1}.
        graph: the coupled pairs.

    Raises:
        ValueError: shapes, dtypes or devices of the parameters do not fit, the
            matrix is not symmetric with zero diagonal, the units are not
            binary, or ``partition`` cannot serve.

    References:
        Ackley, Hinton, Sejnowski (1985), A learning algorithm for Boltzmann
        machines, Cognitive Science 9.

    Example:
        >>> from pyro_gen.distributions import SpinUnits
        >>> ring = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
        >>> ising = BoltzmannMachine.from_edges(ring, torch.full((4,), 0.5), torch.zeros(4),
        ...     units=SpinUnits())
        >>> ising.log_partition().value  # log((2 cosh J)^4 + (2 sinh J)^4)
        tensor(3.2976)
        >>> ising.sample((5,)).shape
        torch.Size([5, 4])
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "coupling": constraints.independent(constraints.real, 2),
        "bias": constraints.real_vector,
    }
    has_rsample = False

    coupling: Tensor
    bias: Tensor
    units: BinaryUnits
    graph: CouplingGraph | None
    _found: list[tuple[Tensor, CouplingGraph]]
    """At most one entry: where a matrix was not zero when last looked at, and the graph of it."""

    def __init__(
        self,
        coupling: Tensor,
        bias: Tensor,
        partition: Partition | None = None,
        num_steps: int | None = None,
        validate_args: bool | None = None,
        *,
        units: BinaryUnits = BernoulliUnits(),  # noqa: B008  # an immutable setting
        graph: CouplingGraph | None = None,
    ) -> None:
        check_parameters(coupling, bias, graph)
        if not isinstance(units, BinaryUnits):
            raise ValueError(
                f"`units` must be binary, BernoulliUnits() or SpinUnits(), got {units}"
            )
        self.coupling = coupling
        self.bias = bias
        self.units = units
        self.graph = None if graph is None else graph.to(bias.device)
        self._found = []
        if graph is not None:
            self.arg_constraints = _EDGE_CONSTRAINTS  # type: ignore[misc]  # of the class, but for this form
        if self._validate_args if validate_args is None else validate_args:
            check_finite(coupling=coupling, bias=bias)
            if graph is None:
                check_matrix(coupling)
        super().__init__(
            self.parameter_batch_shape, bias.shape[-1:], partition, num_steps, validate_args
        )

    @classmethod
    def from_edges(
        cls, edges: Tensor, values: Tensor, bias: Tensor, **settings: Any
    ) -> BoltzmannMachine:
        """A machine from a list of its couplings.

        Args:
            edges: pairs of units, each once, integers of shape (m, 2).
            values: their couplings, (..., m).
            bias: shape (..., n).
            **settings: the constructor's other arguments.

        Returns:
            The machine; its parameter ``coupling`` is ``values``.

        Raises:
            ValueError: an edge joins a unit to itself or to one that does not
                exist, or comes twice.
        """
        return cls(values, bias, graph=CouplingGraph(bias.shape[-1], edges), **settings)

    @classmethod
    def from_networkx(
        cls,
        graph: networkx.Graph[Any],
        weight: str = "weight",
        bias: str = "bias",
        **settings: Any,
    ) -> BoltzmannMachine:
        """A machine from an undirected graph of networkx, units in the order of its nodes.

        Args:
            graph: its edges carry couplings (1 where the attribute is missing),
                its nodes biases (0 where missing).
            weight: name of the edges' attribute.
            bias: name of the nodes' attribute.
            **settings: the constructor's other arguments.

        Returns:
            The machine, with parameters of torch's default dtype.

        Raises:
            ValueError: the graph is directed, a multigraph, or has an edge from
                a node to itself.

        Example:
            >>> import networkx as nx
            >>> BoltzmannMachine.from_networkx(nx.star_graph(6)).enumerated_units
            1
        """
        if graph.is_directed() or graph.is_multigraph():
            raise ValueError(
                f"`graph` must be undirected with single edges, got a {type(graph).__name__}"
            )
        place = {node: i for i, node in enumerate(graph)}
        edges = [
            (place[u], place[v], float(data.get(weight, 1.0)))
            for u, v, data in graph.edges(data=True)
        ]
        biases = torch.tensor([float(data.get(bias, 0.0)) for _, data in graph.nodes(data=True)])
        pairs = torch.tensor([edge[:2] for edge in edges], dtype=torch.long).view(-1, 2)
        return cls.from_edges(pairs, torch.tensor([edge[2] for edge in edges]), biases, **settings)

    @classmethod
    def from_rbm(cls, rbm: RBM, **settings: Any) -> BoltzmannMachine:
        """The joint distribution of an RBM's units, visible ones first.

        Args:
            rbm: an RBM with Bernoulli units or spins on both sides.
            **settings: the constructor's other arguments.

        Returns:
            The machine over (v, h), with an edge for every entry of the weight
            matrix.

        Example:
            >>> rbm = RBM(torch.ones(3, 2), torch.zeros(3), torch.zeros(2))
            >>> machine = BoltzmannMachine.from_rbm(rbm)
            >>> torch.allclose(machine.log_prob(torch.ones(5)), rbm.log_joint(torch.ones(3),
            ...     torch.ones(2)))
            True
        """
        if not isinstance(rbm.visible_units, BinaryUnits) or rbm.visible_units != rbm.hidden_units:
            kinds = f"{rbm.visible_units} and {rbm.hidden_units}"
            raise ValueError(
                f"`rbm` must have binary units of one kind on both sides, got {kinds}"
            )
        visible, hidden = rbm.weight.shape[-2:]
        edges = torch.cartesian_prod(torch.arange(visible), visible + torch.arange(hidden))
        batch = torch.broadcast_shapes(rbm.vbias.shape[:-1], rbm.hbias.shape[:-1])
        bias = torch.cat([rbm.vbias.expand(*batch, -1), rbm.hbias.expand(*batch, -1)], -1)
        return cls.from_edges(
            edges, rbm.weight.flatten(-2), bias, units=rbm.visible_units, **settings
        )

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Batch and event shape from the shapes of the parameters.

        Couplings that end in (n, n) are a matrix.
        """
        coupling = Size(arg_shapes["coupling"])
        bias = Size(arg_shapes["bias"])
        event_dim = 2 if coupling[-2:] == bias[-1:] * 2 else 1
        return torch.broadcast_shapes(coupling[:-event_dim], bias[:-1]), bias[-1:]

    def pseudo_log_likelihood(self, value: Tensor) -> Tensor:
        r"""Sum over the units of log p(x_i | all other units), which needs no log Z.

        Exact and differentiable.

        .. math:: \sum_i \log \sigma(\pm g f_i), \quad f = b + J x, \quad g = 1 \text{ for }
            \{0, 1\},
                  \; 2 \text{ for } \{-1, +1\}, \quad \pm \text{ as } x_i \text{ is up or down}

        Args:
            value: states (..., n).

        Returns:
            Nats, of shape (...).

        References:
            Besag (1975), Statistical analysis of non-lattice data. Aurell and
            Ekeberg (2012), Inverse Ising inference using all the data, Physical
            Review Letters 108.
        """
        self.check_value("value", value)
        sign = 2 * self.units.bits(value.to(self.bias.dtype)) - 1
        return logsigmoid(sign * self.units.logits(self._field(value))).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw states: exactly where ``samples_exactly``, else by ``num_steps``
        sweeps from free units.

        Args:
            sample_shape: leading dimensions.

        Returns:
            States of shape sample_shape + batch_shape + (n,).

        Raises:
            ValueError: no exact draw is possible and ``num_steps`` is None.
        """
        shape = self._extended_shape(Size(sample_shape))
        if self.samples_exactly:
            return self._sample_exactly(shape)
        if self.num_steps is None:
            raise self._no_exact_draw("free units")
        start = self.units.conditional(self.bias.expand(shape)).sample()
        return self.sweep(start, self.num_steps, draw_seed(), 0)

    def _sample_exactly(self, shape: Size) -> Tensor:
        """Draw the enumerated units from their marginal, then the others, which are
        independent given them.
        """
        exact = self._exact()
        index = draw_index(exact.log_terms(self._matrix(), self.bias), Size(shape[:-1]))
        states = self.units.states(index, len(exact.rest), self.bias)
        value = states.new_zeros(shape).index_copy(-1, exact.rest, states)
        free = self.units.conditional(self._field(value)[..., exact.free]).sample()
        return value.index_copy(-1, exact.free, free)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # a flag of the class in torch, of the size here
        """True if the states can be listed: at most 20 units, and no CD, which
        serves observed rows only.
        """
        return self.bias.shape[-1] <= EXACT_UNITS and not starts_at_data(self.partition)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All 2^n states.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (2^n,) + batch_shape + (n,), or with ones in place of the
            batch.

        Raises:
            NotImplementedError: there are more than 20 units, or the particles
                start at the value (CD).
        """
        num_units = self.bias.shape[-1]
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"states are listed for at most {EXACT_UNITS} units and not under contrastive "
                "divergence, got "
                f"{num_units} units and partition "
                f"{self.partition}{self._instead(num_units <= EXACT_UNITS)}"
            )
        numbers = torch.arange(2**num_units, device=self.bias.device)
        return self._listed(self.units.states(numbers, num_units, self.bias), expand)

    def entropy(self) -> Tensor:
        """Entropy in nats, by enumeration of the states.

        Raises:
            NotImplementedError: there are too many states, or log Z is not exact.
        """
        return entropy(self)

    @property
    def support(self) -> constraints.Constraint:
        """Vectors of the units' two values."""
        return self.units.support

    @property
    def parameters(self) -> tuple[Tensor, Tensor]:
        """Couplings and bias."""
        return self.coupling, self.bias

    @property
    def parameter_batch_shape(self) -> Size:
        """Broadcast batch shape of the parameters, without what ``expand`` added."""
        event_dim = 2 if self.graph is None else 1
        return Size(torch.broadcast_shapes(self.coupling.shape[:-event_dim], self.bias.shape[:-1]))

    @property
    def enumerated_units(self) -> int:
        """Units that an exact sum enumerates: all of a matrix, those outside the
        largest colour of a graph.
        """
        if self.graph is None:
            return self.bias.shape[-1]
        return len(self.graph.rest)

    def energy(self, value: Tensor) -> Tensor:
        """E(x) = -x J x / 2 - b.x.

        Args:
            value: states (..., n).

        Returns:
            Nats, of shape (...).

        Raises:
            ValueError: ``value`` has another width or values that the units
                cannot take.
        """
        self.check_value("value", value)
        return self._energy(value)

    def _energy(self, value: Tensor) -> Tensor:
        value = self._checked_width(value)
        if self.graph is not None and not self.graph.is_dense:
            interaction = (self.graph.pair_products(value) * self.coupling).sum(-1)
        else:
            interaction = (self._received(value) * value).sum(-1) / 2
        return -interaction - (value * self.bias).sum(-1)

    def free_energy(self, value: Tensor) -> Tensor:
        """The energy: no unit is hidden, so nothing is summed over and tempering at beta
        has the energy beta E.
        """
        return self.energy(value)

    def _free_energy(self, value: Tensor) -> Tensor:
        return self._energy(value)

    def field(self, value: Tensor) -> Tensor:
        """Field of every unit given all others, b + J x.

        Args:
            value: states (..., n).

        Returns:
            Nats per unit of x, shape (..., n).

        Raises:
            ValueError: ``value`` has another width or values that the units
                cannot take.
        """
        self.check_value("value", value)
        return self._field(value)

    def _field(self, value: Tensor) -> Tensor:
        return self._received(self._checked_width(value)) + self.bias

    def as_spins(self) -> tuple[CouplingGraph, Tensor, Tensor]:
        """Equal distribution over s = -1, +1 (up for the larger value): coupled
        pairs, couplings and fields.

        Returns:
            The graph, couplings (..., m) and fields (..., n).
        """
        graph, values = self._edges()
        if isinstance(self.units, SpinUnits):
            return graph, values, self.bias
        return (
            graph,
            values / 4,
            self.bias / 2 + graph.product(torch.ones_like(self.bias), values) / 4,
        )

    def log_sum(self) -> Tensor:
        """Exact log Z; the largest colour of a graph is summed in closed form."""
        return self._exact().log_sum(self._matrix(), self.bias).expand(self.parameter_batch_shape)

    @torch.no_grad()
    def sweep(
        self, value: Tensor, num_steps: int, seed: int, step: int, beta: Tensor | None = None
    ) -> Tensor:
        """Sweeps of chromatic Gibbs sampling keyed by (seed, step).

        Args:
            value: states, the parameters' batch shape before the units.
            num_steps: sweeps.
            seed: 64-bit key.
            step: number of the first sweep.
            beta: inverse temperature of each chain, of the shape that ``value``
                has before the parameters' batch.

        Returns:
            New states.
        """
        return self._chromatic().sweep(value, num_steps, seed, step, beta)

    @torch.no_grad()
    def anneal(
        self, states: Tensor, base: Tensor, betas: Tensor, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Annealed importance weights and last states, along exp(-beta E(x) + (1 - beta)
        base.x).
        """
        full = states.expand(
            torch.broadcast_shapes(states.shape[:-1], self.parameter_batch_shape)
            + self.event_shape
        )
        return self._chromatic().anneal(full, base, betas.tolist(), seed)

    def base_log_partition(self, base: Tensor) -> Tensor:
        """Log Z of free units with fields ``base``, in float64."""
        return self.units.cumulant(base.double())

    def base_states(self, base: Tensor, num_chains: int, seed: int) -> Tensor:
        """Draws from free units with fields ``base``, keyed by ``seed``."""
        shape = Size((num_chains, *self.parameter_batch_shape, *self.event_shape))
        uniforms = source(seed, shape[:-1].numel(), 0, self.bias, fast=True)
        up = uniforms(0, INITIAL, shape[-1]).view(shape) < self.units.logits(base).sigmoid()
        return self.units.from_bits(up.to(self.bias.dtype))

    def pilot(self, num_chains: int, num_steps: int, seed: int) -> Tensor:
        """Short chains from free units with the biases as fields, keyed by ``seed``."""
        return self.sweep(self.base_states(self.bias, num_chains, seed), num_steps, seed, 0)

    @property
    def mean_range(self) -> tuple[float, float]:
        """The units' two values."""
        return self.units.mean_range

    def base(self, mean: Tensor, variance: Tensor | None, margin: float) -> Tensor:
        """Fields of free units with the given means."""
        return self.units.from_moments(mean, None, margin)[0]

    def _checked_width(self, value: Tensor) -> Tensor:
        if value.shape[-1:] != self.bias.shape[-1:]:
            raise ValueError(
                f"`value` must have shape (..., {self.bias.shape[-1]}), got {tuple(value.shape)}"
            )
        return value.to(self.bias.dtype)

    def _matrix(self) -> Tensor:
        if self.graph is None:
            return self.coupling
        return self.graph.matrix(self.coupling)

    def _received(self, value: Tensor) -> Tensor:
        if self.graph is not None and not self.graph.is_dense:
            return self.graph.product(value, self.coupling)
        return field(value, self._matrix(), torch.zeros_like(self.bias))

    def _exact(self) -> ExactSum:
        """Enumerated units of an exact sum.

        All of a matrix, since its zeros are parameters too.
        """
        units = torch.arange(self.bias.shape[-1], device=self.bias.device)
        enumerated, free = (
            (units, units[:0]) if self.graph is None else (self.graph.rest, self.graph.free)
        )
        return ExactSum(self.units, enumerated, free)

    def _edges(self) -> tuple[CouplingGraph, Tensor]:
        """The graph and one coupling for each edge.

        Of a matrix, the pairs that are not zero now.
        """
        if self.graph is not None:
            return self.graph, self.coupling
        if self.coupling.dim() > 2:
            nonzero = (self.coupling != 0).flatten(end_dim=-3).any(0)
        else:
            nonzero = self.coupling != 0
        if not self._found or not torch.equal(nonzero, self._found[0][0]):
            self._found[:] = [(nonzero, CouplingGraph.of_matrix(nonzero))]
        graph = self._found[0][1]
        return graph, self.coupling[..., graph.edges[:, 0], graph.edges[:, 1]]

    def _chromatic(self) -> ChromaticBatch:
        return ChromaticBatch(self.units, *self._edges(), self.bias)


_EDGE_CONSTRAINTS: dict[str, constraints.Constraint] = {
    "coupling": constraints.real_vector,
    "bias": constraints.real_vector,
}


@register_kl(BoltzmannMachine, BoltzmannMachine)
def _kl_boltzmann_boltzmann(p: BoltzmannMachine, q: BoltzmannMachine) -> Tensor:
    return divergence(p, q, (p.units, q.units))


__all__ = ["BoltzmannMachine"]
