"""Block Gibbs sampling of an energy model: a pure step, also as a kernel for Pyro's MCMC."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.infer.mcmc.chains_kernel import ChainsKernel
from pyro_gen.kernels import draw_seed


class GibbsState(NamedTuple):
    """Chains (num_chains, visible), the key of their randomness, and how many sweeps were made."""

    value: Tensor
    seed: int
    step: int


class GibbsInfo(NamedTuple):
    """Report of a step: the free energy of each chain, in nats, and the share of flipped units."""

    free_energy: Tensor
    turnover: Tensor


class BlockGibbs(ChainsKernel[GibbsState, GibbsInfo]):
    """Block Gibbs sampling with many chains as a tensor dimension.

    ``init`` and ``step`` are pure functions of their state. As a kernel of
    ``pyro.infer.MCMC`` (``num_chains=1`` there: the chains live here) each draw of the
    site has shape (num_chains, visible); hand the draws to
    :func:`pyro_gen.arviz.from_chains` as (chain, draw, ...), since Pyro's summary
    treats them as one chain.

    Args:
        distribution: the model, with unbatched parameters.
        num_steps: sweeps between draws (thinning).
        num_chains: chains.
        start: starting states (num_chains, visible); None draws them from uniform noise.
        name: site name of the draws.

    Raises:
        ValueError: a size is below 1, the distribution is batched, or ``start`` has
            another shape.

    References:
        Geman and Geman (1984), Stochastic relaxation, Gibbs distributions, and the
        Bayesian restoration of images.

    Example:
        >>> from pyro.infer import MCMC
        >>> from pyro_gen.distributions import RBM
        >>> rbm = RBM(torch.zeros(4, 3), torch.zeros(4), torch.zeros(3))
        >>> kernel = BlockGibbs(rbm, num_chains=10)
        >>> mcmc = MCMC(kernel, num_samples=5, warmup_steps=2, disable_progbar=True)
        >>> mcmc.run()
        >>> mcmc.get_samples()["v"].shape  # draws, chains, visible
        torch.Size([5, 10, 4])
    """

    def __init__(
        self,
        distribution: EnergyDistribution,
        num_steps: int = 1,
        num_chains: int = 4,
        start: Tensor | None = None,
        name: str = "v",
    ) -> None:
        super().__init__(num_chains)
        num_steps = whole_number("num_steps", num_steps)
        num_chains = self.num_chains
        if distribution.batch_shape:
            raise ValueError(
                f"`distribution` must have no batch shape, got {tuple(distribution.batch_shape)}"
            )
        shape = (num_chains, *distribution.event_shape)
        if start is not None and start.shape != shape:
            raise ValueError(f"`start` must have shape {shape}, got {tuple(start.shape)}")
        if start is not None:
            distribution.check_value("start", start)
        self.distribution = distribution
        self.num_steps = num_steps
        self.start = start
        self.name = name
        self._warmup_steps = 0
        self._free_energy: list[Tensor] = []

    def init(self, seed: int | None = None) -> GibbsState:
        """The first state.

        Args:
            seed: 64-bit key; None takes one from torch's generator.

        Returns:
            Chains at ``start`` or at uniform noise.
        """
        if seed is None:
            seed = draw_seed()
        if self.start is not None:
            return GibbsState(self.start.to(self.distribution.parameters[0]), seed, 0)
        noise = torch.zeros_like(self.distribution.parameters[1])
        value = self.distribution.base_states(noise, self.num_chains, seed)
        return GibbsState(value, seed, 0)

    @torch.no_grad()
    def step(self, state: GibbsState) -> tuple[GibbsState, GibbsInfo]:
        """Run ``num_steps`` sweeps of every chain.

        Args:
            state: where the chains are.

        Returns:
            The new state and diagnostics of the step.
        """
        number = self.num_steps
        value = self.distribution.sweep(state.value, number, state.seed, state.step)
        return self._stepped(state, value, self.distribution._free_energy(value))

    def _stepped(
        self, state: GibbsState, value: Tensor, free_energy: Tensor
    ) -> tuple[GibbsState, GibbsInfo]:
        """The state after a step that ends at ``value``, and its diagnostics."""
        turnover = (value != state.value).to(value.dtype).mean(-1)
        new_state = GibbsState(value, state.seed, state.step + self.num_steps)
        return new_state, GibbsInfo(free_energy, turnover)

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Start the chains; the model takes no arguments."""
        super().setup(warmup_steps)
        self._warmup_steps = warmup_steps
        self._free_energy = []

    def _draws(self, state: GibbsState) -> dict[str, Tensor]:
        return {self.name: state.value}

    def _moved(self, state: GibbsState, draws: Mapping[str, Tensor]) -> GibbsState:
        return state._replace(value=draws[self.name])

    def _start_at(self, params: Mapping[str, Tensor]) -> None:
        start = params[self.name]
        if len(start) != self.num_chains:
            raise ValueError(f"`{self.name}` must hold {self.num_chains} chains, got {len(start)}")
        self.distribution.check_value(self.name, start)
        self.start = start

    def _note(self, info: GibbsInfo) -> None:
        self._free_energy.append(info.free_energy)

    def logging(self) -> OrderedDict[str, str]:
        """Mean free energy of the last draw, for the progress bar."""
        last = "-"
        if self._free_energy:
            last = f"{self._free_energy[-1].mean():.1f}"
        return OrderedDict([("free energy", last)])

    def diagnostics(self) -> dict[str, Any]:
        """Free energies (chain, draw) in nats, and no divergences."""
        energies = self._free_energy[self._warmup_steps :]
        free_energy = torch.stack(energies, 1) if energies else None
        return {**super().diagnostics(), "free_energy": free_energy}


__all__ = ["BlockGibbs", "GibbsInfo", "GibbsState"]
