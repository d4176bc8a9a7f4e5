"""Directed layers of binary units, under independent units (sigmoid belief
network) or an RBM (deep belief network).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pyro_gen._arguments import whole_number, whole_numbers
from pyro_gen._evaluation import reading
from pyro_gen._module import Module
from pyro_gen._rows import as_floating
from pyro_gen.infer.elbo.wake_sleep import Dream
from pyro_gen.models.latent import LatentModel
from pyro_gen.nn import RBM


class IndependentUnits(Module):
    """Independent Bernoulli units with learned logits, as a prior module.

    Args:
        units: how many.

    Example:
        >>> IndependentUnits(3)().log_prob(torch.ones(3)).exp()
        tensor(0.1250, grad_fn=<ExpBackward0>)
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(units))

    def forward(self) -> TorchDistribution:
        """The distribution over the current logits."""
        return dist.Bernoulli(logits=self.logits).to_event(1)


class SigmoidBeliefNetwork(LatentModel):
    r"""Layers of binary units, each independent given the one above: a Helmholtz
    machine with its recognition network.

    .. math:: p(x, h_1, \dots, h_L) = p(h_L) \prod_{l=1}^{L} \prod_i
        \mathrm{Bernoulli}\bigl(h_{l-1,i};
              \sigma(c_{l} + D_l h_l)_i\bigr),
              \qquad q(h_l | h_{l-1}) = \mathrm{Bernoulli}(\sigma(b_l + U_l h_{l-1}))

    with h_0 = x. The sites are ``h1`` ... ``hL`` and ``x`` in the plate
    ``rows``. Train it by ``SVI(..., WakeSleep(K))``, or by Pyro's
    ``ReweightedWakeSleep`` where a batch is one row.

    Args:
        visible: number of observed units.
        hidden: widths of h_1 ... h_L, from the data upwards.
        size: rows of the whole data set, which scales minibatches.
        prior: a module whose call returns the distribution of h_L; None for
            independent units with learned logits.

    Raises:
        ValueError: there is no hidden layer, a size is below 1, or the prior
            cannot serve.

    References:
        Neal (1992), Connectionist learning of belief networks. Dayan, Hinton,
        Neal, Zemel (1995), The Helmholtz machine.

    Example:
        >>> network = SigmoidBeliefNetwork(6, [4, 2], size=100)
        >>> network.sample(5).shape
        torch.Size([5, 6])
        >>> bound = network.lower_bound(torch.eye(6), num_particles=200)
        >>> bound.tighter_value >= bound.value
        True
    """

    generator = "down"
    recogniser = "up"

    def __init__(
        self, visible: int, hidden: Sequence[int], size: int, prior: nn.Module | None = None
    ) -> None:
        hidden = whole_numbers("hidden", hidden)
        super().__init__(visible, size, IndependentUnits(hidden[-1]) if prior is None else prior)
        widths = list(zip((visible, *hidden), hidden, strict=False))
        self.down = nn.ModuleList([nn.Linear(above, below) for below, above in widths])
        self.up = nn.ModuleList([nn.Linear(below, above) for below, above in widths])

    def generate(self, prior: TorchDistribution) -> TorchDistribution:
        """Sample ``hL`` ... ``h1``; the distribution of ``x`` given ``h1``."""
        h: Tensor = pyro.sample(f"h{len(self.down)}", prior)
        for level in range(len(self.down) - 1, 0, -1):
            h = pyro.sample(f"h{level}", self.layer(self.down[level], h))
        return self.layer(self.down[0], h)

    def recognise(self, x: Tensor) -> None:
        """Sample ``h1`` ... ``hL``, each from the layer below."""
        h = x
        for level, up in enumerate(self.up, 1):
            h = pyro.sample(f"h{level}", self.layer(up, h))

    def _read(self, x: Tensor) -> Tensor:
        """Rows in the data type of the weights."""
        weight = cast(Tensor, self.down[0].weight)
        rows: Tensor = as_floating(x, weight)
        return rows.to(weight.dtype)

    def decode(self, z: Tensor) -> TorchDistribution:
        """The distribution of rows given the deepest units; the layers between are sampled.

        Args:
            z: deepest units, (..., hidden[-1]).

        Returns:
            Independent Bernoulli units, event shape (visible,).
        """
        for level in range(len(self.down) - 1, 0, -1):
            z = self.layer(self.down[level], z).sample()
        return self.layer(self.down[0], z)

    @reading
    @torch.no_grad()
    def dream(self, num_samples: int = 100, num_steps: int = 10) -> Dream:
        """Draw rows with their hidden layers from the model, for the sleep phase of
        ``WakeSleep(dream=...)``.

        Args:
            num_samples: rows to draw.
            num_steps: Gibbs sweeps from the prior's chains, where it keeps any.

        Returns:
            The arguments of the guide, and the hidden layers by site.
        """
        h = self.sample_prior(num_samples, num_steps)
        layers = {f"h{len(self.down)}": h}
        for level in range(len(self.down) - 1, 0, -1):
            h = layers[f"h{level}"] = self.layer(self.down[level], h).sample()
        return (self.layer(self.down[0], h).sample(),), layers

    @staticmethod
    def layer(weights: nn.Module, states: Tensor) -> TorchDistribution:
        """Independent Bernoulli units whose logits are a linear map of other units' states."""
        return dist.Bernoulli(logits=weights(states)).to_event(1)


class DeepBeliefNetwork(SigmoidBeliefNetwork):
    r"""Directed layers under a restricted Boltzmann machine, whose visible units are
    the highest directed layer.

    .. math:: p(x, h_1, \dots, h_L) = p_{\mathrm{RBM}}(h_L) \prod_{l=1}^{L} p(h_{l-1} | h_l)

    ``prior`` is the RBM (its hidden layer is summed out). The usual way is
    greedy: train an RBM, train the next on hidden states drawn given the data,
    and stack them by :meth:`from_rbms`. A next RBM that starts as the mirror
    image of the first, :meth:`mirrored`, makes the stack the same model as the
    first RBM alone, with the exact posterior as its guide, so that further
    learning raises the lower bound.

    Args:
        visible: number of observed units.
        hidden: widths of all hidden layers from the data upwards, the RBM's
            hidden layer last: at least two.
        size: rows of the whole data set.
        **settings: ``negative_phase``, ``evaluation`` and ``num_steps`` of the
            RBM.

    Raises:
        ValueError: there are fewer than two hidden layers, a size is below 1,
            or the phase cannot serve a latent layer.

    References:
        Hinton, Osindero, Teh (2006), A fast learning algorithm for deep belief
        nets. Salakhutdinov and Murray (2008), On the quantitative analysis of
        deep belief networks, Section 4.

    Example:
        >>> network = DeepBeliefNetwork(6, [4, 3], size=100)
        >>> network.eval().lower_bound(torch.eye(6), num_particles=200).partition.method
        'exact'
    """

    prior: RBM

    def __init__(self, visible: int, hidden: Sequence[int], size: int, **settings: Any) -> None:
        hidden = whole_numbers("hidden", hidden)
        if len(hidden) < 2:
            raise ValueError(
                "`hidden` must name at least two layers, the RBM's own hidden layer last, got "
                f"{hidden}"
            )
        super().__init__(visible, hidden[:-1], size, RBM(hidden[-2], hidden[-1], **settings))

    @classmethod
    def from_rbms(cls, rbms: Sequence[RBM], size: int) -> DeepBeliefNetwork:
        """Stack trained RBMs, the data's first.

        The last becomes the prior itself, the others are copied.

        Args:
            rbms: at least two, the visible units of each being the hidden units
                of the one before.
            size: rows of the whole data set.

        Returns:
            A network whose directed layers and recognition network hold the
            RBMs' weights.

        Raises:
            ValueError: there are fewer than two RBMs, or their sizes do not
                fit.
        """
        sizes = [tuple(rbm.weight.shape) for rbm in rbms]
        if len(rbms) < 2 or any(low[1] != high[0] for low, high in pairwise(sizes)):
            raise ValueError(
                f"`rbms` must be at least two whose sizes fit onto each other, got {sizes}"
            )
        network = cls(sizes[0][0], [hidden for _, hidden in sizes], size).to(rbms[0].weight)
        network.prior = rbms[-1]
        with torch.no_grad():
            for rbm, down, up in zip(rbms, network.down, network.up, strict=False):
                weight, vbias, hbias = rbm.uncentred
                pairs = (
                    (down.weight, weight),
                    (down.bias, vbias),
                    (up.weight, weight.mT),
                    (up.bias, hbias),
                )
                for target, source in pairs:
                    target.copy_(source)  # type: ignore[operator]  # of nn.Linear, which ModuleList does not know
        return network

    @staticmethod
    @torch.no_grad()
    def mirrored(rbm: RBM, hidden: int, x: Tensor, noise: float = 0.01, **settings: Any) -> RBM:
        """The next RBM of a stack, starting as the mirror image of ``rbm``: visible and
        hidden units exchanged.

        Units beyond the mirror image start with weights of ``noise`` only, and
        change the distribution of the others little.

        Args:
            rbm: the RBM below.
            hidden: hidden units of the next one, at least as many as ``rbm``
                has visible ones.
            x: rows of data, to start chains and base rates from.
            noise: standard deviation of the weights of the additional units.
            **settings: ``negative_phase``, ``evaluation`` and ``num_steps`` of
                the new RBM.

        Returns:
            An RBM with ``rbm``'s hidden units as its visible ones.

        Raises:
            ValueError: ``hidden`` is smaller than ``rbm``'s visible side.

        References:
            Hinton, Osindero, Teh (2006), Section 4.
        """
        visible = len(rbm.vbias)
        hidden = whole_number("hidden", hidden)
        if hidden < visible:
            raise ValueError(
                f"`hidden` must be at least the {visible} visible units of the RBM below, got "
                f"{hidden}"
            )
        above = RBM.from_data(torch.bernoulli(rbm.transform(x)), hidden, **settings)
        below, vbias, hbias = rbm.uncentred
        weight = noise * torch.randn_like(above.weight)
        hidden_bias = torch.zeros_like(above.hbias)
        weight[:, :visible] = below.mT
        hidden_bias[:visible] = vbias
        above.set_uncentred(weight, hbias, hidden_bias)
        return above


__all__ = ["DeepBeliefNetwork", "IndependentUnits", "SigmoidBeliefNetwork"]
