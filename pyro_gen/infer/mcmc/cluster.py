"""Cluster moves for Boltzmann machines, which avoid critical slowing down."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen.distributions.energy.boltzmann_machine import BoltzmannMachine
from pyro_gen.infer.mcmc.block_gibbs import BlockGibbs, GibbsInfo, GibbsState
from pyro_gen.kernels.random import HIDDEN, VISIBLE, source


class SwendsenWang(BlockGibbs):
    r"""Swendsen-Wang moves, with couplings of either sign and with fields.

    With spins s = -1, +1: every satisfied pair (K s s' > 0) is bound with probability
    1 - exp(-2 abs(K)); each cluster of bound units then turns as one, up or down by the
    sum of its fields. Many clusters form where chains of single units are slow, on
    ferromagnets near or below the critical temperature; frustrated couplings gain
    nothing.

    .. math:: P(\text{cluster keeps its state } s) = \sigma\Bigl(2 \sum_{i \in C} H_i s_i\Bigr)

    Args:
        distribution: a Boltzmann machine with unbatched parameters; zeros and ones are
            turned into spins.
        num_steps: moves between draws.
        num_chains: chains.
        start: starting states (num_chains, n); None draws them from uniform noise.
        name: site name of the draws.

    Raises:
        ValueError: a size is below 1, the distribution is batched or not a Boltzmann
            machine, or ``start`` has another shape.

    References:
        Swendsen and Wang (1987), Nonuniversal critical dynamics in Monte Carlo
        simulations, Physical Review Letters 58. Edwards and Sokal (1988), Physical
        Review D 38 (the joint distribution of units and bonds).

    Example:
        >>> from pyro_gen.distributions import ising_lattice
        >>> kernel = SwendsenWang(ising_lattice(8, 8, 0.44), num_chains=10)
        >>> state, info = kernel.step(kernel.init())
        >>> state.value.shape
        torch.Size([10, 64])
    """

    def __init__(
        self,
        distribution: BoltzmannMachine,
        num_steps: int = 1,
        num_chains: int = 4,
        start: Tensor | None = None,
        name: str = "v",
    ) -> None:
        if not isinstance(distribution, BoltzmannMachine):
            raise ValueError(
                f"`distribution` must be a BoltzmannMachine, got a {type(distribution).__name__}"
            )
        super().__init__(distribution, num_steps, num_chains, start, name)
        self.machine = distribution

    @torch.no_grad()
    def step(self, state: GibbsState) -> tuple[GibbsState, GibbsInfo]:
        """Run ``num_steps`` moves of every chain.

        Args:
            state: where the chains are.

        Returns:
            The new state and diagnostics of the step.
        """
        units = self.machine.units
        spins = 2 * units.bits(state.value) - 1
        graph, coupling, field = self.machine.as_spins()
        uniforms = source(state.seed, len(spins), 0, spins, fast=True)
        for t in range(state.step, state.step + self.num_steps):
            satisfied = coupling * graph.pair_products(spins)
            probs = -torch.expm1(-2 * satisfied)
            bound = uniforms(t, HIDDEN, graph.num_edges) < probs
            clusters = clusters_of(graph.edges, bound, graph.num_units)
            total = torch.zeros_like(spins)
            total.scatter_add_(-1, clusters, field * spins)
            keep = uniforms(t, VISIBLE, graph.num_units) < (2 * total).sigmoid()
            spins = torch.where(keep.gather(-1, clusters), spins, -spins)
        value = units.from_bits((spins + 1) / 2)
        return self._stepped(state, value, self.machine._energy(value))


def clusters_of(edges: Tensor, bound: Tensor, num_units: int) -> Tensor:
    """The connected components of graphs with the same possible edges.

    Labels are propagated along bonds, with pointer jumping, until nothing changes.

    Args:
        edges: pairs of units, (m, 2).
        bound: which of the edges there are, (chains, m).
        num_units: number of units n.

    Returns:
        The smallest unit of every unit's component, (chains, n).
    """
    chain, edge = bound.nonzero().unbind(-1)
    first, second = (chain * num_units + edges[edge, end] for end in (0, 1))
    labels = torch.arange(len(bound) * num_units, device=bound.device)
    while len(first):
        pairs = torch.stack([labels[first], labels[second]])
        low, high = torch.aminmax(pairs, dim=0)
        differ = low != high
        if not differ.any():
            break
        # Equal labels are one cluster for ever.
        first = first[differ]
        second = second[differ]
        labels.scatter_reduce_(0, high[differ], low[differ], "amin")
        labels = _roots(labels)
    return labels.view(len(bound), num_units) % num_units


def _roots(labels: Tensor) -> Tensor:
    """Follow every label to the root of its component."""
    while not torch.equal(labels, following := labels[labels]):
        labels = following
    return labels


__all__ = ["SwendsenWang", "clusters_of"]
