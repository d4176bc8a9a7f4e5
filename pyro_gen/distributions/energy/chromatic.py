"""Chromatic Gibbs sampling: all units of a colour at once, all chains at once, in plain torch.

States are kept as zeros and ones of shape (units, chains), the units sorted by
colour: a colour is then a block of rows, and the fields of its units are sums
of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from pyro_gen.distributions.energy.coupling_graph import CouplingGraph
from pyro_gen.distributions.units.binary import BinaryUnits
from pyro_gen.kernels.random import BLOCK, VISIBLE, source

TILE_NUMBERS = 2**18
"""Numbers of one tile of chains: small enough for a core's cache, and at least 64 chains."""


class Chromatic:
    r"""The sampler of one machine of zeros and ones, p(y) proportional to exp(y J y / 2 + b y).

    .. math:: P(y_i = 1 \mid \text{rest}) = \sigma\Bigl(\sum_j J_{ij} y_j + b_i\Bigr)

    Args:
        graph: which pairs are coupled.
        values: couplings, (m,).
        bias: (n,).

    References:
        Gonzalez, Low, Gretton, Guestrin (2011), Parallel Gibbs sampling: from
        colored fields to thin junction trees, Section 3 (the chromatic
        sampler).
    """

    def __init__(self, graph: CouplingGraph, values: Tensor, bias: Tensor) -> None:
        self.graph = graph
        self.order = graph.order
        self.bias = bias[self.order].unsqueeze(-1).contiguous()
        if graph.is_dense:
            self.matrix = graph.matrix(values)[self.order][:, self.order].contiguous()
        else:
            self.weights = {block: values[bags.edges] for block, bags in graph.neighbours.items()}

    def received(self, states: Tensor, start: int, stop: int) -> Tensor:
        """Fields of units ``start`` to ``stop - 1``, a block or all, from their
        neighbours in ``states``.
        """
        if self.graph.is_dense:
            return self.matrix[start:stop] @ states
        block = start, stop
        sources, _, offsets = self.graph.neighbours[block]
        if not len(sources):
            return states.new_zeros(stop - start, states.shape[-1])
        return embedding_bag(
            sources, states, offsets, mode="sum", per_sample_weights=self.weights[block]
        )

    def score(self, states: Tensor) -> Tensor:
        """Minus the energy of every chain, in float64."""
        received = self.received(states, 0, len(states))
        return (states * received.mul_(0.5).add_(self.bias)).sum(0, dtype=torch.float64)

    def sweep(
        self,
        states: Tensor,
        uniforms: Tensor,
        beta: Tensor | float = 1.0,
        base: Tensor | None = None,
    ) -> None:
        """Draw every unit once, colour after colour, in place.

        Args:
            states: zeros and ones (n, chains).
            uniforms: numbers in [0, 1) of the same shape.
            beta: inverse temperature, of all chains or of each.
            base: logits (n, 1) of the units at inverse temperature 0; zero by
                default.
        """
        for start, stop in self.graph.blocks:
            field = self.received(states, start, stop).add_(self.bias[start:stop])
            if base is not None or isinstance(beta, Tensor) or beta != 1:
                field.mul_(beta)
            if base is not None:
                field.add_(base[start:stop], alpha=1 - float(beta))
            torch.lt(uniforms[start:stop], field.sigmoid_(), out=states[start:stop])

    def run(
        self,
        states: Tensor,
        num_steps: int,
        seed: int,
        step: int,
        offset: int = 0,
        beta: Tensor | None = None,
    ) -> Tensor:
        """Sweep chains (chains, n) ``num_steps`` times, with randomness keyed by
        (seed, step, chain, unit).

        Args:
            states: zeros and ones.
            num_steps: sweeps.
            seed: 64-bit key.
            step: number of the first sweep.
            offset: global index of the first chain.
            beta: inverse temperature of each chain, (chains,).

        Returns:
            New states of the same shape.
        """
        out = torch.empty_like(states)
        for first, last in self.tiles(len(states)):
            tile = self.sort(states[first:last])
            betas = 1.0 if beta is None else beta[first:last]
            for uniforms in self.uniforms(tile, num_steps, seed, step, offset + first):
                self.sweep(tile, uniforms, betas)
            out[first:last] = self.unsort(tile)
        return out

    def anneal(
        self, states: Tensor, base: Tensor, betas: list[float], seed: int, offset: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Annealed importance weights of chains (chains, n) from independent units with
        logits ``base`` (n,).

        Args:
            states: zeros and ones, draws of the first distribution of the path.
            base: logits at inverse temperature 0.
            betas: inverse temperatures of the path.
            seed: 64-bit key.
            offset: global index of the first chain.

        Returns:
            Log weights (chains,) in float64 and the last states.
        """
        out = torch.empty_like(states)
        log_weights = []
        column = base[self.order].unsqueeze(-1)
        for first, last in self.tiles(len(states)):
            tile = self.sort(states[first:last])
            log_weight = tile.new_zeros(last - first, dtype=torch.float64)
            keyed = self.uniforms(tile, len(betas) - 1, seed, 0, offset + first)
            for (beta, following), uniforms in zip(pairwise(betas), keyed, strict=True):
                log_weight += (following - beta) * (
                    self.score(tile) - (tile * column).sum(0, dtype=torch.float64)
                )
                self.sweep(tile, uniforms, following, column)
            out[first:last] = self.unsort(tile)
            log_weights.append(log_weight)
        return torch.cat(log_weights), out

    def tiles(self, chains: int) -> list[tuple[int, int]]:
        """Chains that are run together; on a CPU few enough for the cache."""
        size = max(1, chains)
        if self.bias.device.type == "cpu":
            size = max(1, TILE_NUMBERS // (BLOCK * len(self.order))) * BLOCK
        return [(first, min(first + size, chains)) for first in range(0, chains, size)]

    def uniforms(
        self, tile: Tensor, num_steps: int, seed: int, step: int, offset: int
    ) -> Iterator[Tensor]:
        """Uniforms of every sweep, (n, chains)."""
        draw = source(seed, tile.shape[-1], offset, self.bias, fast=True)
        for t in range(step, step + num_steps):
            yield draw(t, VISIBLE, len(self.order)).mT.contiguous()

    def sort(self, states: Tensor) -> Tensor:
        """States (chains, n) as (n, chains), sorted by colour."""
        return states[:, self.order].mT.contiguous()

    def unsort(self, tile: Tensor) -> Tensor:
        """Back to (chains, n) and the units' own order."""
        out = torch.empty_like(tile)
        out[self.order] = tile
        return out.mT


class ChromaticBatch:
    """The samplers of a batch of machines, whose units are zeros and ones or spins.

    With x = low + gap y, y = 0, 1, the couplings of y are gap^2 J and its
    biases gap (b + low J 1).

    Args:
        units: type of the units.
        graph: which pairs are coupled.
        values: couplings, (..., m).
        bias: (..., n).
    """

    def __init__(
        self, units: BinaryUnits, graph: CouplingGraph, values: Tensor, bias: Tensor
    ) -> None:
        low, high = units.from_bits(bias.new_tensor([0.0, 1.0])).tolist()
        gap = high - low
        total = graph.product(torch.ones_like(bias), values)
        self.units = units
        self.graph = graph
        self.low = low
        self.values = gap**2 * values
        self.bias = gap * (bias + low * total)
        self.constant = low * bias.sum(-1) + low**2 * values.sum(-1)
        self.dims = max(values.dim(), bias.dim()) - 1

    def sweep(
        self, value: Tensor, num_steps: int, seed: int, step: int, beta: Tensor | None
    ) -> Tensor:
        """Sweep states (..., *batch, n), each element of the batch with chains of its own."""
        betas = None if beta is None else beta.to(value.dtype).flatten()
        out = [
            machine.run(states, num_steps, seed, step, k * len(states), betas)
            for k, (machine, states) in enumerate(self._machines(value))
        ]
        return self.units.from_bits(torch.stack(out, 1)).view(value.shape)

    def anneal(
        self, states: Tensor, base: Tensor, path: list[float], seed: int
    ) -> tuple[Tensor, Tensor]:
        """Log weights along ``path`` from free units with fields ``base``, and last
        states, (..., *batch, n).
        """
        batch = self._batch(states)
        constant = (self.constant - self.low * base.sum(-1)).expand(batch).flatten().double()
        logits = self.units.logits(base).expand(*batch, -1).reshape(-1, base.shape[-1])
        runs = [
            machine.anneal(x, logits[k], path, seed, k * len(x))
            for k, (machine, x) in enumerate(self._machines(states))
        ]
        log_weight = torch.stack([run[0] for run in runs], 1) + (path[-1] - path[0]) * constant
        last = self.units.from_bits(torch.stack([run[1] for run in runs], 1))
        return log_weight.view(states.shape[:-1]), last.view(states.shape)

    def _batch(self, value: Tensor) -> torch.Size:
        """The last dimensions before the units, as many as the parameters have."""
        return value.shape[value.dim() - 1 - self.dims : -1]

    def _machines(self, value: Tensor) -> Iterator[tuple[Chromatic, Tensor]]:
        """The sampler and the chains (chains, n), zeros and ones, of each element of the batch."""
        batch = self._batch(value)
        values = self.values.expand(*batch, -1)
        bias = self.bias.expand(*batch, -1)
        chains = self.units.bits(value).reshape(-1, batch.numel(), value.shape[-1]).unbind(1)
        for cell, states in zip(product(*map(range, batch)), chains, strict=True):
            yield Chromatic(self.graph, values[cell], bias[cell]), states


__all__ = ["Chromatic", "ChromaticBatch"]
