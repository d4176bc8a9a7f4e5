"""The energy of coupled pairs of binary units, and all that sampling, annealing and exact sums need to know of it."""

from __future__ import annotations

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.distributions.energy.chromatic import ChromaticBatch
from pyro_gen.distributions.energy.coupling_graph import CouplingGraph
from pyro_gen.distributions.energy.coupling_sum import ExactSum
from pyro_gen.distributions.units import SpinUnits
from pyro_gen.distributions.units.binary import BinaryUnits
from pyro_gen.kernels.gibbs.reference import field
from pyro_gen.kernels.random import INITIAL, source


class PairwiseEnergy(EnergyDistribution):
    r"""Binary units with couplings between pairs of them, held as a symmetric matrix or as one number for each edge.

    .. math:: E(x) = -\tfrac12 x J x - b \cdot x = -\sum_{i < j} J_{ij} x_i x_j - \sum_i b_i x_i
    """

    coupling: Tensor
    bias: Tensor
    units: BinaryUnits
    graph: CouplingGraph | None
    _found: list[tuple[Tensor, CouplingGraph]]
    """At most one entry: where a matrix was not zero when last looked at, and the graph of it."""

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
        """Units that an exact sum enumerates: all of a matrix, those outside the largest colour of a graph."""
        return self.bias.shape[-1] if self.graph is None else len(self.graph.rest)

    def energy(self, value: Tensor) -> Tensor:
        """E(x) = -x J x / 2 - b.x.

        Args:
            value: states (..., n).

        Returns:
            Nats, of shape (...).

        Raises:
            ValueError: ``value`` has another width or values that the units cannot take.
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
        """The energy: no unit is hidden, so nothing is summed over and tempering at beta has the energy beta E."""
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
            ValueError: ``value`` has another width or values that the units cannot take.
        """
        self.check_value("value", value)
        return self._field(value)

    def _field(self, value: Tensor) -> Tensor:
        return self._received(self._checked_width(value)) + self.bias

    def as_spins(self) -> tuple[CouplingGraph, Tensor, Tensor]:
        """Equal distribution over s = -1, +1 (up for the larger value): coupled pairs, couplings and fields.

        Returns:
            The graph, couplings (..., m) and fields (..., n).
        """
        graph, values = self._edges()
        if isinstance(self.units, SpinUnits):
            return graph, values, self.bias
        return graph, values / 4, self.bias / 2 + graph.product(torch.ones_like(self.bias), values) / 4

    def log_sum(self) -> Tensor:
        """Exact log Z; the largest colour of a graph is summed in closed form."""
        return self._exact().log_sum(self._matrix(), self.bias).expand(self.parameter_batch_shape)

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
        return self._chromatic().sweep(value, num_steps, seed, step, beta)

    @torch.no_grad()
    def anneal(self, states: Tensor, base: Tensor, betas: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Annealed importance weights and last states, along exp(-beta E(x) + (1 - beta) base.x)."""
        full = states.expand(torch.broadcast_shapes(states.shape[:-1], self.parameter_batch_shape) + self.event_shape)
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
            raise ValueError(f"`value` must have shape (..., {self.bias.shape[-1]}), got {tuple(value.shape)}")
        return value.to(self.bias.dtype)

    def _matrix(self) -> Tensor:
        return self.coupling if self.graph is None else self.graph.matrix(self.coupling)

    def _received(self, value: Tensor) -> Tensor:
        if self.graph is not None and not self.graph.is_dense:
            return self.graph.product(value, self.coupling)
        return field(value, self._matrix(), torch.zeros_like(self.bias))

    def _exact(self) -> ExactSum:
        """Enumerated units of an exact sum; all of a matrix, since its zeros are parameters too."""
        units = torch.arange(self.bias.shape[-1], device=self.bias.device)
        enumerated, free = (units, units[:0]) if self.graph is None else (self.graph.rest, self.graph.free)
        return ExactSum(self.units, enumerated, free)

    def _edges(self) -> tuple[CouplingGraph, Tensor]:
        """The graph and one coupling for each edge; of a matrix, the pairs that are not zero now."""
        if self.graph is not None:
            return self.graph, self.coupling
        nonzero = (self.coupling != 0).flatten(end_dim=-3).any(0) if self.coupling.dim() > 2 else self.coupling != 0
        if not self._found or not torch.equal(nonzero, self._found[0][0]):
            self._found[:] = [(nonzero, CouplingGraph.of_matrix(nonzero))]
        graph = self._found[0][1]
        return graph, self.coupling[..., graph.edges[:, 0], graph.edges[:, 1]]

    def _chromatic(self) -> ChromaticBatch:
        return ChromaticBatch(self.units, *self._edges(), self.bias)


__all__ = ["PairwiseEnergy"]
