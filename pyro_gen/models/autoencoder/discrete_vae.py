"""A variational autoencoder with binary latent units and an RBM as their prior."""

from __future__ import annotations

from torch import nn

from pyro_gen._arguments import whole_number
from pyro_gen.distributions import BernoulliConditional
from pyro_gen.models.autoencoder.vae import VAE
from pyro_gen.nn import RBM


class DiscreteVAE(VAE):
    r"""Binary latent units under an RBM prior, a decoder network to the data and an
    encoder network as the guide.

    .. math:: p(x, z) = p_{\mathrm{RBM}}(z) \prod_i \mathrm{Bernoulli}\bigl(x_i;
        \sigma(f(z))_i\bigr), \qquad
              q(z | x) = \prod_j \mathrm{Bernoulli}\bigl(z_j; \sigma(g(x))_j\bigr)

    No relaxation is needed: ``WakeSleep(K)`` learns all three parts from
    weighted samples. The sites are ``z`` and ``x`` in the plate ``rows``. It is
    a :class:`VAE` with these choices, and has all its methods.

    Args:
        visible: number of observed units.
        latent: number of binary latent units.
        size: rows of the whole data set, which scales minibatches.
        prior: a module whose call returns the distribution of z; None for an
            RBM with as many hidden as latent units.
        decoder: from z (..., latent) to logits (..., visible); None for one
            hidden layer of 200 units.
        encoder: from x (..., visible) to logits (..., latent); None for one
            hidden layer of 200 units.

    Raises:
        ValueError: a size is below 1, or the prior learns by contrastive
            divergence.

    References:
        Rolfe (2017), Discrete variational autoencoders (the RBM prior).
        Bornschein and Bengio (2015), Reweighted wake-sleep (the way to learn
        it).

    Example:
        >>> import pyro, torch
        >>> from pyro.infer import SVI
        >>> from pyro_gen.infer import WakeSleep
        >>> vae = DiscreteVAE(6, 4, size=100)
        >>> svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.001}), WakeSleep(5))
        >>> _ = svi.step(torch.eye(6))
        >>> vae.eval().reconstruct(torch.eye(6)).shape
        torch.Size([6, 6])
    """

    def __init__(
        self,
        visible: int,
        latent: int,
        size: int,
        prior: nn.Module | None = None,
        decoder: nn.Module | None = None,
        encoder: nn.Module | None = None,
    ) -> None:
        visible = whole_number("visible", visible)
        latent = whole_number("latent", latent)
        super().__init__(
            visible,
            latent,
            size,
            hidden=(200,),
            latent_distribution=BernoulliConditional(),
            prior=RBM(latent, latent) if prior is None else prior,
            encoder=encoder,
            decoder=decoder,
        )


__all__ = ["DiscreteVAE"]
