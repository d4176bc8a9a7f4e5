"""Gradient of a Boltzmann machine as a difference of moments, without autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen.distributions.log_z.negative_phase import NegativePhase
from pyro_gen.nn import BoltzmannMachine
from pyro_gen.nn.learning import check_states


@torch.no_grad()
def moment_gradient(machine: BoltzmannMachine, batch: Tensor) -> None:
    r"""Fill ``.grad`` with the gradient of the mean contrast, and advance the negative phase once.

    .. math:: \partial_{J_{ij}} C = -\overline{x_i x_j} + \overline{\tilde x_i \tilde x_j}, \qquad
              \partial_{b_i} C = -\overline{x_i} + \overline{\tilde x_i}

    with means over the batch and over the particles, each by its own count. This is the
    gradient that ``SVI`` computes through ``pyro.sample("x", machine(), obs=batch)``,
    divided by the number of rows.

    Args:
        machine: the module; its ``negative_phase`` gives the particles.
        batch: states, (rows, features).

    It reduces nothing over the ranks of a process group, and raises where there are
    several.

    Raises:
        ValueError: ``batch`` is empty or holds what the units cannot take, a parameter
            is not finite, or the module has no negative phase; no chain has moved then.
        NotImplementedError: the process group has more than one rank.

    References:
        Ackley, Hinton, Sejnowski (1985), A learning algorithm for Boltzmann machines,
        equation 8.

    Example:
        >>> machine = BoltzmannMachine(4)
        >>> optimizer = torch.optim.SGD(machine.parameters(), lr=0.1)
        >>> moment_gradient(machine, torch.ones(8, 4))
        >>> optimizer.step()
    """
    phase = machine.negative_phase
    if not isinstance(phase, NegativePhase):
        raise ValueError(
            f"`machine` must have a negative phase such as PersistentChains(...), got {phase}"
        )
    check_states("batch", batch, machine.units, len(machine.bias))
    batch = batch.to(machine.bias)
    seed = int(machine.seed)
    step = int(machine.step)
    machine.advance(phase)
    particles = machine.chains
    if not phase.persistent_chains:
        distribution = machine.distribution()
        particles = distribution.sweep(batch, phase.num_steps, seed, step)
    pairs = _pair_means(machine, particles)
    machine.coupling.grad = pairs - _pair_means(machine, batch)
    machine.bias.grad = particles.mean(0) - batch.mean(0)


def _pair_means(machine: BoltzmannMachine, states: Tensor) -> Tensor:
    """Mean of x_i x_j over the rows, for every edge."""
    graph = machine.graph
    if graph.is_dense:
        i, j = graph.edges.unbind(-1)
        return (states.mT @ states)[i, j] / len(states)
    return graph.pair_products(states).mean(0)


__all__ = ["moment_gradient"]
