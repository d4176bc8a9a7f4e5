"""A variational autoencoder with binary latent units and an RBM as their prior."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pyro_gen.models.latent import LatentModel
from pyro_gen.nn import RBM


class DiscreteVAE(LatentModel):
    r"""Binary latent units under an RBM prior, a decoder network to the data and an encoder network as the guide.

    .. math:: p(v, z) = p_{\mathrm{RBM}}(z) \prod_i \mathrm{Bernoulli}\bigl(v_i; \sigma(f(z))_i\bigr), \qquad
              q(z | v) = \prod_j \mathrm{Bernoulli}\bigl(z_j; \sigma(g(v))_j\bigr)

    No relaxation is needed: ``WakeSleep(K)`` learns all three parts from weighted samples. The sites are ``z`` and
    ``v`` in the plate ``rows``.

    Args:
        visible: number of observed units.
        latent: number of binary latent units.
        size: rows of the whole data set, which scales minibatches.
        prior: a module whose call returns the distribution of z; None for an RBM with as many hidden as latent units.
        decoder: from z (..., latent) to logits (..., visible); None for one hidden layer of 200 units.
        encoder: from v (..., visible) to logits (..., latent); None for one hidden layer of 200 units.

    Raises:
        ValueError: a size is below 1, or the prior learns by contrastive divergence.

    References:
        Rolfe (2017), Discrete variational autoencoders (the RBM prior). Bornschein and Bengio (2015), Reweighted
        wake-sleep (the way to learn it).

    Example:
        >>> import torch
        >>> from pyro.infer import SVI
        >>> from pyro_gen.infer import WakeSleep
        >>> vae = DiscreteVAE(6, 4, size=100)
        >>> svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.001}), WakeSleep(5))
        >>> _ = svi.step(torch.eye(6))
        >>> vae.eval().reconstruct(torch.eye(6)).shape
        torch.Size([6, 6])
    """

    generator = "decoder"
    recogniser = "encoder"

    def __init__(
        self,
        visible: int,
        latent: int,
        size: int,
        prior: nn.Module | None = None,
        decoder: nn.Module | None = None,
        encoder: nn.Module | None = None,
    ) -> None:
        if latent < 1:
            raise ValueError(f"`latent` must be at least 1, got {latent}")
        super().__init__(visible, size, RBM(latent, latent) if prior is None else prior)
        self.decoder = _network(latent, visible) if decoder is None else decoder
        self.encoder = _network(visible, latent) if encoder is None else encoder

    def generate(self, prior: TorchDistribution) -> TorchDistribution:
        """Sample ``z``; the law of ``v`` given it."""
        return self.decode(pyro.sample("z", prior))

    def recognise(self, v: Tensor) -> None:
        """Sample ``z`` from the encoder's law."""
        pyro.sample("z", self.encode(v))

    def decode(self, h: Tensor) -> TorchDistribution:
        """The law of v given the latent units.

        Args:
            h: latent units, (..., latent).

        Returns:
            Independent Bernoulli units, event shape (visible,).
        """
        return dist.Bernoulli(logits=self.decoder(h)).to_event(1)

    def encode(self, v: Tensor) -> TorchDistribution:
        """The guide's law of the latent units given v.

        Args:
            v: rows, (..., visible).

        Returns:
            Independent Bernoulli units, event shape (latent,).
        """
        return dist.Bernoulli(logits=self.encoder(v)).to_event(1)

    def reconstruct(self, v: Tensor) -> Tensor:
        """Probabilities of the observed units, by way of one draw of the latent ones.

        Args:
            v: rows, (rows, visible).

        Returns:
            Probabilities, (rows, visible).
        """
        self.check(v)
        return self.decoder(self.encode(v).sample()).sigmoid()


def _network(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 200), nn.ReLU(), nn.Linear(200, outputs))


__all__ = ["DiscreteVAE"]
