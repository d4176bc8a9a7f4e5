"""The general Boltzmann machine: binary units with couplings between any of them; the Ising model is one."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints, register_kl
from torch.nn.functional import logsigmoid

from pyro_gen.distributions.chromatic import Chromatic
from pyro_gen.distributions.coupling_graph import CouplingGraph, lattice_edges
from pyro_gen.distributions.energy import EnergyDistribution
from pyro_gen.distributions.enumeration import BLOCK_BYTES
from pyro_gen.distributions.negative_phase import starts_at_data
from pyro_gen.distributions.partition import EXACT_UNITS, Exact, Partition
from pyro_gen.distributions.rbm import RBM, Shape, _draw_index
from pyro_gen.distributions.streaming import blocks_of, streamed_log_sum
from pyro_gen.distributions.units import BernoulliUnits, SpinUnits
from pyro_gen.distributions.units.binary import BinaryUnits
from pyro_gen.kernels import draw_seed
from pyro_gen.kernels.gibbs.reference import field
from pyro_gen.kernels.random import INITIAL, source

if TYPE_CHECKING:
    import networkx

Binary = tuple[CouplingGraph, Tensor, Tensor, Tensor]
"""A machine of zeros and ones: graph, couplings (..., m), bias (..., n) and the constant of its log weight."""


class BoltzmannMachine(EnergyDistribution):
    r"""Boltzmann machine without hidden units: pairs of binary units, {0, 1} or {-1, +1}, with any couplings.

    .. math:: p(x) = \frac1Z e^{-E(x)}, \qquad
              E(x) = -\tfrac12 x J x - b \cdot x = -\sum_{i < j} J_{ij} x_i x_j - \sum_i b_i x_i

    Energies and log probabilities are in nats: an inverse temperature belongs into J and b. The event shape is (n,);
    batch dimensions of the parameters broadcast. Each pair counts once, and the field of a unit is b_i + (J x)_i; with
    spins the log odds of up are *twice* the field, with zeros and ones they are the field.

    Couplings come as a symmetric matrix with zero diagonal, or, with ``graph``, as one number for each edge. Then
    absent edges are no parameters: energies cost as much as there are edges, and an exact sum enumerates all units but
    those of the largest colour (one side of an RBM, half of a square lattice).

    Args:
        coupling: couplings J, shape (..., n, n), or (..., m) for the m edges of ``graph``.
        bias: shape (..., n).
        partition: how log Z is known: ``Exact()``, ``AIS(...)``, a negative phase, or None for exact enumeration where
            at most 20 units have to be enumerated (beyond that only what needs log Z raises).
        num_steps: Gibbs sweeps of ``sample`` where no exact draw is possible.
        validate_args: whether to check parameters and values.
        units: ``BernoulliUnits()`` for {0, 1} or ``SpinUnits()`` for {-1, +1}.
        graph: the coupled pairs.

    Raises:
        ValueError: shapes, dtypes or devices of the parameters do not fit, the matrix is not symmetric with zero
            diagonal, the units are not binary, or ``partition`` cannot serve.

    References:
        Ackley, Hinton, Sejnowski (1985), A learning algorithm for Boltzmann machines, Cognitive Science 9.

    Example:
        >>> ring = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
        >>> ising = BoltzmannMachine.from_edges(ring, torch.full((4,), 0.5), torch.zeros(4), units=SpinUnits())
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
        _check_parameters(coupling, bias, graph)
        if num_steps is not None and num_steps < 1:
            raise ValueError(f"`num_steps` must be at least 1 or None, got {num_steps}")
        if not isinstance(units, BinaryUnits):
            raise ValueError(f"`units` must be binary, BernoulliUnits() or SpinUnits(), got {units}")
        if not isinstance(partition, Partition | None):
            raise ValueError(f"`partition` must be Exact(...), AIS(...), a negative phase or None, got {partition}")
        self.coupling, self.bias, self.num_steps, self.units = coupling, bias, num_steps, units
        self.graph = None if graph is None else graph.to(bias.device)
        self._found: list[tuple[Tensor, CouplingGraph]] = []
        self._memo = []
        if graph is not None:
            self.arg_constraints = _EDGE_CONSTRAINTS  # type: ignore[misc]  # of the class, but for this form
        elif self._validate_args if validate_args is None else validate_args:
            _check_matrix(coupling)
        super().__init__(self.parameter_batch_shape, bias.shape[-1:], validate_args=validate_args)
        self.partition = None if partition is None else partition.bind(self)

    @classmethod
    def from_edges(cls, edges: Tensor, values: Tensor, bias: Tensor, **settings: Any) -> BoltzmannMachine:
        """A machine from a list of its couplings.

        Args:
            edges: pairs of units, each once, integers of shape (m, 2).
            values: their couplings, (..., m).
            bias: shape (..., n).
            **settings: the constructor's other arguments.

        Returns:
            The machine; its parameter ``coupling`` is ``values``.

        Raises:
            ValueError: an edge joins a unit to itself or to one that does not exist, or comes twice.
        """
        return cls(values, bias, graph=CouplingGraph(bias.shape[-1], edges), **settings)

    @classmethod
    def from_networkx(
        cls, graph: networkx.Graph[Any], weight: str = "weight", bias: str = "bias", **settings: Any
    ) -> BoltzmannMachine:
        """A machine from an undirected graph of networkx, units in the order of its nodes.

        Args:
            graph: its edges carry couplings (1 where the attribute is missing), its nodes biases (0 where missing).
            weight: name of the edges' attribute.
            bias: name of the nodes' attribute.
            **settings: the constructor's other arguments.

        Returns:
            The machine, with parameters of torch's default dtype.

        Raises:
            ValueError: the graph is directed, a multigraph, or has an edge from a node to itself.

        Example:
            >>> import networkx as nx
            >>> BoltzmannMachine.from_networkx(nx.star_graph(6)).smaller_side
            1
        """
        if graph.is_directed() or graph.is_multigraph():
            raise ValueError(f"`graph` must be undirected with single edges, got a {type(graph).__name__}")
        place = {node: i for i, node in enumerate(graph)}
        edges = [(place[u], place[v], float(data.get(weight, 1.0))) for u, v, data in graph.edges(data=True)]
        biases = torch.tensor([float(data.get(bias, 0.0)) for _, data in graph.nodes(data=True)])
        pairs = torch.tensor([edge[:2] for edge in edges], dtype=torch.long).view(-1, 2)
        return cls.from_edges(pairs, torch.tensor([edge[2] for edge in edges]), biases, **settings)

    @classmethod
    def from_rbm(cls, rbm: RBM, **settings: Any) -> BoltzmannMachine:
        """The joint law of an RBM's units, visible ones first.

        Args:
            rbm: an RBM of Bernoulli units or of spins on both sides.
            **settings: the constructor's other arguments.

        Returns:
            The machine over (v, h), with an edge for every entry of the weight matrix.

        Example:
            >>> rbm = RBM(torch.ones(3, 2), torch.zeros(3), torch.zeros(2))
            >>> machine = BoltzmannMachine.from_rbm(rbm)
            >>> torch.allclose(machine.log_prob(torch.ones(5)), rbm.log_joint(torch.ones(3), torch.ones(2)))
            True
        """
        if not isinstance(rbm.visible_units, BinaryUnits) or rbm.visible_units != rbm.hidden_units:
            kinds = f"{rbm.visible_units} and {rbm.hidden_units}"
            raise ValueError(f"`rbm` must have binary units of one kind on both sides, got {kinds}")
        visible, hidden = rbm.weight.shape[-2:]
        edges = torch.cartesian_prod(torch.arange(visible), visible + torch.arange(hidden))
        batch = torch.broadcast_shapes(rbm.vbias.shape[:-1], rbm.hbias.shape[:-1])
        bias = torch.cat([rbm.vbias.expand(*batch, -1), rbm.hbias.expand(*batch, -1)], -1)
        return cls.from_edges(edges, rbm.weight.flatten(-2), bias, units=rbm.visible_units, **settings)

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
    def smaller_side(self) -> int:
        """How many units an exact sum enumerates: all of a matrix, those outside the largest colour of a graph."""
        return self.bias.shape[-1] if self.graph is None else len(self.graph.rest)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Batch and event shape from the shapes of the parameters; couplings that end in (n, n) are a matrix."""
        coupling, bias = Size(arg_shapes["coupling"]), Size(arg_shapes["bias"])
        event_dim = 2 if coupling[-2:] == bias[-1:] * 2 else 1
        return torch.broadcast_shapes(coupling[:-event_dim], bias[:-1]), bias[-1:]

    def expand(self, batch_shape: Shape, _instance: Any = None) -> BoltzmannMachine:
        """The same distribution with a larger batch shape; parameters are shared, not copied.

        Args:
            batch_shape: shape to which the present batch shape broadcasts.
            _instance: new instance provided by a subclass that overrides ``expand``.

        Returns:
            A distribution that shares parameters and any estimate of log Z with this one.

        Raises:
            ValueError: the present batch shape does not broadcast to ``batch_shape``.
        """
        new = self._get_checked_instance(BoltzmannMachine, _instance)
        shape = Size(batch_shape)
        if torch.broadcast_shapes(self.batch_shape, shape) != shape:
            raise ValueError(f"`batch_shape` must extend {tuple(self.batch_shape)}, got {tuple(shape)}")
        for name in ("coupling", "bias", "graph", "units", "partition", "num_steps", "shares_memo", "_memo", "_found"):
            setattr(new, name, getattr(self, name))
        if self.graph is not None:
            new.arg_constraints = _EDGE_CONSTRAINTS
        super(BoltzmannMachine, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def energy(self, value: Tensor) -> Tensor:
        """E(x) = -x J x / 2 - b.x.

        Args:
            value: states (..., n).

        Returns:
            Nats, of shape (...).
        """
        value = self._checked_width(value)
        if self.graph is not None and not self.graph.is_dense:
            interaction = (self.graph.pair_products(value) * self.coupling).sum(-1)
        else:
            interaction = (self._received(value) * value).sum(-1) / 2
        return -interaction - (value * self.bias).sum(-1)

    def free_energy(self, value: Tensor) -> Tensor:
        """The energy: no unit is hidden, so nothing is summed over and tempering at beta has the energy beta E."""
        return self.energy(value)

    def field(self, value: Tensor) -> Tensor:
        """Field of every unit given all others, b + J x.

        Args:
            value: states (..., n).

        Returns:
            Nats per unit of x, shape (..., n).
        """
        return self._received(self._checked_width(value)) + self.bias

    def as_spins(self) -> tuple[CouplingGraph, Tensor, Tensor]:
        """The same law over s = -1, +1 (up for the larger value): coupled pairs, their couplings and the fields.

        Returns:
            The graph, couplings (..., m) and fields (..., n).
        """
        graph, values = self._edges()
        if isinstance(self.units, SpinUnits):
            return graph, values, self.bias
        return graph, values / 4, self.bias / 2 + graph.product(torch.ones_like(self.bias), values) / 4

    def pseudo_log_likelihood(self, value: Tensor) -> Tensor:
        r"""Sum over the units of log p(x_i | all other units), which needs no log Z; exact and differentiable.

        .. math:: \sum_i \log \sigma(\pm g f_i), \quad f = b + J x, \quad g = 1 \text{ for } \{0, 1\},
                  \; 2 \text{ for } \{-1, +1\}, \quad \pm \text{ as } x_i \text{ is up or down}

        Args:
            value: states (..., n).

        Returns:
            Nats, of shape (...).

        References:
            Besag (1975), Statistical analysis of non-lattice data. Aurell and Ekeberg (2012), Inverse Ising inference
            using all the data, Physical Review Letters 108.
        """
        self.check_value("value", value)
        sign = 2 * self.units.bits(value.to(self.bias.dtype)) - 1
        return logsigmoid(sign * self.units.logits(self.field(value))).sum(-1)

    @torch.no_grad()
    def gibbs(self, value: Tensor, num_steps: int) -> Tensor:
        """Run sweeps of chromatic Gibbs sampling from given states.

        Args:
            value: states (..., n), each a chain.
            num_steps: sweeps; 0 returns ``value``.

        Returns:
            New states, shape (..., n) broadcast with the batch.

        Raises:
            ValueError: ``num_steps`` is negative, or ``value`` is outside the support.
        """
        if num_steps < 0:
            raise ValueError(f"`num_steps` must not be negative, got {num_steps}")
        self.check_value("value", value)
        value = value.to(self.bias)
        value = value.expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape) + self.event_shape)
        return self.sweep(value, num_steps, draw_seed(), 0) if num_steps else value

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw states: exactly where ``samples_exactly``, else by ``num_steps`` sweeps from free units.

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
            raise ValueError(
                f"`sample` has no exact draw here ({self.smaller_side} units to enumerate, partition "
                f"{self.partition}): give the constructor `num_steps`, the Gibbs sweeps to run from free units, or use "
                "`gibbs` from states of your own"
            )
        start = self.units.conditional(self.bias.expand(shape)).sample()
        return self.sweep(start, self.num_steps, draw_seed(), 0)

    def _sample_exactly(self, shape: Size) -> Tensor:
        """Draw the enumerated units from their marginal, then the others, which are independent given them."""
        rest, free = self._parts()
        parameters = self._matrix(), self.bias
        terms = torch.cat([self._log_terms(*block, *parameters) for block in self._blocks()], -1)
        states = self.units.states(_draw_index(terms, Size(shape[:-1])), len(rest), self.bias)
        value = states.new_zeros(shape).index_copy(-1, rest, states)
        return value.index_copy(-1, free, self.units.conditional(self.field(value)[..., free]).sample())

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # a flag of the class in torch, of the size here
        """Whether the states can be listed: at most 20 units, and no CD, which serves observed rows only."""
        return self.bias.shape[-1] <= EXACT_UNITS and not starts_at_data(self.partition)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All 2^n states.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (2^n,) + batch_shape + (n,), or with ones in place of the batch.

        Raises:
            NotImplementedError: there are more than 20 units, or the particles start at the value (CD).
        """
        num_units = self.bias.shape[-1]
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"states are listed for at most {EXACT_UNITS} units and not under contrastive divergence, got "
                f"{num_units} units and partition {self.partition}"
            )
        values = self.units.states(torch.arange(2**num_units, device=self.bias.device), num_units, self.bias)
        values = values.view(-1, *(1,) * len(self.batch_shape), num_units)
        return values.expand(-1, *self.batch_shape, num_units) if expand else values

    def entropy(self) -> Tensor:
        """Entropy in nats, by enumeration of the states.

        Raises:
            NotImplementedError: there are too many states, or log Z is not exact.
        """
        _check_exact(self)
        log_prob = self.log_prob(self.enumerate_support())
        return -(log_prob.exp() * log_prob).sum(0)

    def log_sum(self) -> Tensor:
        """Exact log Z; the largest colour of a graph is summed in closed form."""
        return streamed_log_sum(self._log_terms, self._blocks(), self._matrix(), self.bias).expand(
            self.parameter_batch_shape
        )

    @torch.no_grad()
    def sweep(self, value: Tensor, num_steps: int, seed: int, step: int, beta: Tensor | None = None) -> Tensor:
        """Sweeps of chromatic Gibbs sampling keyed by (seed, step).

        Args:
            value: states, the parameters' batch shape before the units.
            num_steps: sweeps.
            seed: 64-bit key.
            step: number of the first sweep.
            beta: inverse temperature of each chain, of the shape that ``value`` has before the parameters' batch.

        Returns:
            New states.
        """
        betas = None if beta is None else beta.to(value.dtype).flatten()
        out = [
            machine.run(states, num_steps, seed, step, k * len(states), betas)
            for k, (machine, states) in enumerate(zip(self._machines(value), self._chains(value), strict=True))
        ]
        return self.units.from_bits(torch.stack(out, 1)).view(value.shape)

    @torch.no_grad()
    def anneal(self, states: Tensor, base: Tensor, betas: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Annealed importance weights and last states, along exp(-beta E(x) + (1 - beta) base.x)."""
        full = states.expand(torch.broadcast_shapes(states.shape[:-1], self.parameter_batch_shape) + self.event_shape)
        batch, path, (low, _) = _trailing(full, self.parameter_batch_shape), betas.tolist(), self._levels
        constant = (self._binary()[3] - low * base.sum(-1)).expand(batch).flatten().double()
        logits = self.units.logits(base).expand(*batch, -1).reshape(-1, base.shape[-1])
        runs = [
            machine.anneal(x, logits[k], path, seed, k * len(x))
            for k, (machine, x) in enumerate(zip(self._machines(full), self._chains(full), strict=True))
        ]
        log_weight = torch.stack([run[0] for run in runs], 1) + (path[-1] - path[0]) * constant
        last = self.units.from_bits(torch.stack([run[1] for run in runs], 1))
        return log_weight.view(full.shape[:-1]), last.view(full.shape)

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

    @property
    def _levels(self) -> tuple[float, float]:
        """The lower of the two values, and the difference of the two."""
        return (-1.0, 2.0) if isinstance(self.units, SpinUnits) else (0.0, 1.0)

    def _checked_width(self, value: Tensor) -> Tensor:
        if value.shape[-1:] != self.bias.shape[-1:]:
            raise ValueError(f"`value` must have shape (..., {self.bias.shape[-1]}), got {tuple(value.shape)}")
        return value.to(self.bias.dtype)

    def _matrix(self) -> Tensor:
        return self.coupling if self.graph is None else self.graph.matrix(self.coupling)

    def _received(self, value: Tensor) -> Tensor:
        if self.graph is not None and not self.graph.is_dense:
            return self.graph.product(value, self.coupling)
        return field(value, self._matrix(), torch.zeros_like(self.bias))

    def _parts(self) -> tuple[Tensor, Tensor]:
        """The units that an exact sum enumerates, and those that it sums in closed form."""
        if self.graph is not None:
            return self.graph.rest, self.graph.free
        units = torch.arange(self.bias.shape[-1], device=self.bias.device)
        return units, units[:0]  # an entry of a matrix is a parameter also where it is zero: no unit is left out

    def _log_terms(self, start: int, stop: int, matrix: Tensor, bias: Tensor) -> Tensor:
        """Log weights of the enumerated units' states ``start`` to ``stop - 1``, summed over the others."""
        rest, free = self._parts()
        states = self.units.states(torch.arange(start, stop, device=bias.device), len(rest), bias)
        from_rest = matrix[..., rest, :]
        received = states @ from_rest[..., rest]
        own = (states * (received / 2 + bias[..., None, rest])).sum(-1)
        return own + self.units.cumulant(states @ from_rest[..., free] + bias[..., None, free])

    def _blocks(self) -> list[tuple[int, int]]:
        row = self.bias.element_size() * self.bias.shape[-1] * max(1, self.parameter_batch_shape.numel())
        return blocks_of(2**self.smaller_side, BLOCK_BYTES // row)

    def _edges(self) -> tuple[CouplingGraph, Tensor]:
        """The graph and one coupling for each edge; of a matrix, the pairs that are not zero now."""
        if self.graph is not None:
            return self.graph, self.coupling
        nonzero = (self.coupling != 0).flatten(end_dim=-3).any(0) if self.coupling.dim() > 2 else self.coupling != 0
        if not self._found or not torch.equal(nonzero, self._found[0][0]):
            self._found[:] = [(nonzero, CouplingGraph.of_matrix(nonzero))]
        graph = self._found[0][1]
        return graph, self.coupling[..., graph.edges[:, 0], graph.edges[:, 1]]

    def _binary(self) -> Binary:
        """This machine with units of zeros and ones y, x = low + gap y."""
        graph, values = self._edges()
        low, gap = self._levels
        total = graph.product(torch.ones_like(self.bias), values)
        constant = low * self.bias.sum(-1) + low**2 * values.sum(-1)
        return graph, gap**2 * values, gap * (self.bias + low * total), constant

    def _machines(self, value: Tensor) -> list[Chromatic]:
        """One sampler for each element of the parameters' batch, as ``value`` widens it."""
        graph, values, bias, _ = self._binary()
        batch = _trailing(value, self.parameter_batch_shape)
        values, bias = values.expand(*batch, -1), bias.expand(*batch, -1)
        cells = itertools.product(*map(range, batch))
        return [Chromatic(graph, values[cell], bias[cell]) for cell in cells]

    def _chains(self, value: Tensor) -> list[Tensor]:
        """Zeros and ones (chains, n) for each element of the batch."""
        size = math.prod(_trailing(value, self.parameter_batch_shape))
        return list(self.units.bits(value).reshape(-1, size, value.shape[-1]).unbind(1))


def ising_lattice(
    rows: int,
    columns: int,
    coupling: float | Tensor = 1.0,
    field: float | Tensor = 0.0,
    periodic: bool = True,
    **settings: Any,
) -> BoltzmannMachine:
    r"""The Ising model on a square lattice, its sites numbered row by row.

    .. math:: p(s) \propto \exp\Bigl(K \sum_{\langle i j \rangle} s_i s_j + H \sum_i s_i\Bigr), \quad s_i = \pm 1

    Args:
        rows: number of rows.
        columns: number of columns.
        coupling: K, the coupling over the temperature; a tensor gives a batch of lattices.
        field: H, the magnetic field over the temperature; a tensor gives a batch.
        periodic: whether the last row and column are neighbours of the first.
        **settings: the other arguments of :class:`BoltzmannMachine`.

    Returns:
        A machine of spins with one parameter for each edge and each site.

    Raises:
        ValueError: a side is below 1, or below 3 on a periodic lattice.

    Example:
        >>> ising_lattice(3, 4, coupling=0.44).coupling.shape
        torch.Size([24])
    """
    edges = lattice_edges(rows, columns, periodic)
    dtype = torch.result_type(torch.as_tensor(coupling), torch.as_tensor(field))
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    values = torch.as_tensor(coupling, dtype=dtype).unsqueeze(-1).expand(*torch.as_tensor(coupling).shape, len(edges))
    bias = torch.as_tensor(field, dtype=dtype).unsqueeze(-1).expand(*torch.as_tensor(field).shape, rows * columns)
    return BoltzmannMachine.from_edges(edges, values, bias, units=SpinUnits(), **settings)


_EDGE_CONSTRAINTS: dict[str, constraints.Constraint] = {
    "coupling": constraints.real_vector,
    "bias": constraints.real_vector,
}


def _trailing(value: Tensor, batch: Size) -> Size:
    """The last batch dimensions of ``value``, as many as the parameters have."""
    return Size(value.shape[value.dim() - 1 - len(batch) : -1])


def _check_parameters(coupling: Tensor, bias: Tensor, graph: CouplingGraph | None) -> None:
    """Name the parameter whose shape, device or dtype does not fit."""
    if coupling.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"`coupling` must be float32 or float64, got {coupling.dtype}")
    if (bias.device, bias.dtype) != (coupling.device, coupling.dtype):
        expected = f"{coupling.dtype} on {coupling.device} like `coupling`"
        raise ValueError(f"`bias` must be {expected}, got {bias.dtype} on {bias.device}")
    if not bias.dim() or not bias.shape[-1]:
        raise ValueError(f"`bias` must have shape (..., n) with n positive, got {tuple(bias.shape)}")
    size = bias.shape[-1]
    if graph is not None and graph.num_units != size:
        raise ValueError(f"`bias` must have shape (..., {graph.num_units}) to match `graph`, got {tuple(bias.shape)}")
    expected_shape = (size, size) if graph is None else (graph.num_edges,)
    if tuple(coupling.shape[-len(expected_shape) :]) != expected_shape:
        other = "`bias`" if graph is None else "`graph`"
        form = ", ".join(map(str, expected_shape))
        raise ValueError(f"`coupling` must have shape (..., {form}) to match {other}, got {tuple(coupling.shape)}")
    batches = [tuple(coupling.shape[: -len(expected_shape)]), tuple(bias.shape[:-1])]
    try:
        torch.broadcast_shapes(*batches)
    except RuntimeError as error:
        raise ValueError(f"the batch shapes of `coupling` and `bias` must broadcast, got {batches}") from error


def _check_matrix(coupling: Tensor) -> None:
    if coupling.is_meta:
        return
    if not coupling.isfinite().all():
        raise ValueError("`coupling` must be finite, got NaN or infinite entries")
    if coupling.diagonal(dim1=-2, dim2=-1).any():
        raise ValueError(
            "`coupling` must have a zero diagonal, got other entries there: x_i x_i is no pair, it belongs into `bias` "
            "with zeros and ones and is a constant with spins"
        )
    if not torch.allclose(coupling, coupling.mT):
        raise ValueError(
            "`coupling` must be symmetric, got a matrix that is not: with one number for each pair above the diagonal "
            "give `coupling + coupling.mT`, which the energy -x J x / 2 counts once"
        )


def _check_exact(machine: BoltzmannMachine) -> None:
    if not isinstance(machine._resolve_partition(), Exact):
        raise NotImplementedError(f"this needs the exact log Z, and `partition` is {machine.partition}")


@register_kl(BoltzmannMachine, BoltzmannMachine)
def _kl_boltzmann_boltzmann(p: BoltzmannMachine, q: BoltzmannMachine) -> Tensor:
    """Kullback-Leibler divergence in nats by enumeration of the states."""
    if p.event_shape != q.event_shape or p.units != q.units:
        raise ValueError(
            f"`p` and `q` must have as many units of one kind, got {p.event_shape[0]} {p.units} and "
            f"{q.event_shape[0]} {q.units}"
        )
    _check_exact(p)
    _check_exact(q)
    batch = torch.broadcast_shapes(p.batch_shape, q.batch_shape)
    p, q = p.expand(batch), q.expand(batch)
    values = p.enumerate_support(expand=False)
    log_p, log_q = p.log_prob(values), q.log_prob(values)
    return (log_p.exp() * (log_p - log_q)).sum(0)


__all__ = ["BoltzmannMachine", "ising_lattice"]
