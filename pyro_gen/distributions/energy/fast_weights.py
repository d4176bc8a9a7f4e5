"""Fast weights: persistent chains whose weights push them away from their present states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from torch import Tensor

from pyro_gen.distributions.energy.rbm import RBM
from pyro_gen.distributions.log_z.negative_phase import PersistentChains, State

if TYPE_CHECKING:
    from pyro_gen.distributions.log_z.energy import Energy

FAST = ("fast_weight", "fast_vbias", "fast_hbias")


@dataclass(frozen=True)
class FastPersistentChains(PersistentChains):
    r"""FPCD-k: the weights of the chains include fast weights, which learn and decay quickly.

    .. math:: \theta_F \leftarrow \gamma\, \theta_F - \epsilon_F\, g, \qquad \tilde v \sim p(v;
        \theta + \theta_F)

    with g the gradient of the mean contrast at the weights themselves, for
    weight and both biases. The statistics are taken at the weights alone; the
    fast weights are buffers of the module and invisible to the optimiser.

    Args:
        num_chains: number of chains.
        num_steps: sweeps k of every chain an update.
        fast_rate: learning rate of the fast weights, epsilon_F, per nat of the
            mean contrast.
        decay: share of the fast weights, gamma, that an update leaves.

    References:
        Tieleman and Hinton (2009), Using fast weights to improve persistent
        contrastive divergence, Section 3.

    Example:
        >>> FastPersistentChains(num_chains=10, fast_rate=0.02).decay
        0.95
    """

    moved_by: ClassVar[tuple[str, ...]] = FAST

    fast_rate: float = 0.01
    decay: float = 0.95

    def __post_init__(self) -> None:
        """Check the sizes and the rates."""
        super().__post_init__()
        if not (self.fast_rate >= 0 and self.fast_rate < float("inf")):
            raise ValueError(f"`fast_rate` must not be negative, got {self.fast_rate}")
        if not 0 <= self.decay < 1:
            raise ValueError(f"`decay` must lie in [0, 1), got {self.decay}")

    def initial_state(self, distribution: Energy, base_rates: Tensor) -> State:
        """Fast weights of zero."""
        uncentred = cast(RBM, distribution).uncentred
        return {
            name: p.detach().new_zeros(p.shape) for name, p in zip(FAST, uncentred, strict=True)
        }

    def advance(self, distribution: Energy, state: State, seed: int, step: int) -> State:
        """Sweeps under the sum of both."""
        rbm = cast(RBM, distribution)
        weight, vbias, hbias = (
            p + state[name] for name, p in zip(FAST, rbm.uncentred, strict=True)
        )
        moved = RBM(
            weight,
            vbias,
            hbias,
            validate_args=False,
            visible_units=rbm.visible_units,
            hidden_units=rbm.hidden_units,
        )
        return {"chains": moved.sweep(state["chains"], self.num_steps, seed, step)}

    def learn(self, state: State, gradients: tuple[Tensor, Tensor, Tensor]) -> State:
        """Decay the fast weights, then update them."""
        pairs = zip(FAST, gradients, strict=True)
        return {
            name: (self.decay * state[name]).sub_(g, alpha=self.fast_rate) for name, g in pairs
        }

    def diagnostics(self, state: State) -> State:
        """The norm of the fast weights."""
        return {"fast_weight_norm": state["fast_weight"].norm()}


__all__ = ["FastPersistentChains"]
