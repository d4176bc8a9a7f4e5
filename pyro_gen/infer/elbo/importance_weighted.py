"""Importance-weighted bounds as losses for ``pyro.infer.SVI``, row by row, so that
they hold for minibatches too.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from pyro.infer.elbo import ELBO
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.infer.elbo.importance import (
    Program,
    RowWeights,
    draws,
    replayed,
    sampled_sites,
    weights_of,
)


class RowBound(ELBO):
    """A bound on the log likelihood of rows in a plate, from reparametrised draws of the guide.

    All latent sites stand in one plate at dimension -1, the rows; the particles
    are one vectorised trace, at -2. The plate's scale multiplies the bound of
    each row, so that the bound of a minibatch is right on average.

    Args:
        num_particles: draws from the guide for each row.

    Raises:
        ValueError: ``num_particles`` is below 1.
    """

    def __init__(self, num_particles: int) -> None:
        num_particles = whole_number("num_particles", num_particles)
        super().__init__(
            num_particles=num_particles, max_plate_nesting=1, vectorize_particles=True
        )

    @abstractmethod
    def bound(self, log_weight: Tensor) -> Tensor:
        """The bound of each row, (rows,), from its log weights, (particles, rows)."""

    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Minus the bound, in nats, without a gradient.

        Args:
            model: a Pyro program.
            guide: a Pyro program.
            *args: arguments of both.
            **kwargs: arguments of both.

        Returns:
            Nats, summed over the rows and scaled by the plate.
        """
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def differentiable_loss(
        self, model: Program, guide: Program, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Minus the bound, whose gradient is that of the draws themselves (IWAE's, with
        one particle the ELBO's).

        Args:
            model: a Pyro program.
            guide: a Pyro program.
            *args: arguments of both.
            **kwargs: arguments of both.

        Returns:
            A scalar, in nats.

        Raises:
            ValueError: a latent site cannot be reparametrised or stands outside
                the plate, or the sites' scales differ.
        """
        guide_trace = self._draws(guide, *args, **kwargs)
        scored = replayed(model, guide_trace, self.num_particles, *args, **kwargs)
        guide_trace.compute_log_prob()
        rows = weights_of(scored, guide_trace, self.num_particles)
        return self._negative(rows)

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """The loss, with gradients added to ``.grad`` of the parameters.

        Args:
            model: a Pyro program.
            guide: a Pyro program.
            *args: arguments of both.
            **kwargs: arguments of both.

        Returns:
            Minus the bound, in nats.
        """
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        if loss.requires_grad:
            loss.backward()
        return loss.item()

    def _negative(self, rows: RowWeights) -> Tensor:
        return -rows.scale * self.bound(rows.log_joint - rows.log_guide).sum() - rows.rest

    def _draws(self, guide: Program, *args: Any, **kwargs: Any) -> Any:
        """A trace of the guide; raises if it cannot be used."""
        guide_trace = draws(guide, self.num_particles, *args, **kwargs)
        for name, site in guide_trace.nodes.items():
            if site["type"] != "sample":
                continue
            if site["is_observed"]:
                raise ValueError(
                    "the guide must not hold factors or observations under "
                    f"{type(self).__name__}, got the site "
                    f"{name!r}: free bits, for example, need TraceMeanField_ELBO or Trace_ELBO"
                )
            if not site["fn"].has_rsample:
                raise ValueError(
                    f"the latent site {name!r} must have a reparametrised distribution "
                    f"under {type(self).__name__}, got "
                    f"{site['fn']}: for discrete variables use WakeSleep, or TraceEnum_ELBO "
                    "where they are few"
                )
        return guide_trace

    def _get_trace(self, model: Program, guide: Program, args: Any, kwargs: Any) -> Any:
        """Pyro's hook for losses that read one trace after the other.

        Here the particles are one trace.
        """
        raise NotImplementedError(f"{type(self).__name__} draws all its particles in one trace")


class ImportanceWeightedELBO(RowBound):
    r"""The importance-weighted bound of each row, by its own weights.

    .. math:: \mathcal L_K = \sum_n \frac{N}{|B|} \log \frac1K \sum_k w_{nk}, \qquad
              w_{nk} = \frac{p(x_n, z_{nk})}{q(z_{nk} | x_n)}

    It rises with K from the ELBO (K = 1) to the log likelihood. Pyro's
    ``RenyiELBO(alpha=0)`` puts the plate's scale into the exponent and weights
    whole batches, which is not a bound.

    Args:
        num_particles: draws K for each row.

    Raises:
        ValueError: ``num_particles`` is below 1.

    References:
        Burda, Grosse and Salakhutdinov (2016), Importance weighted
        autoencoders, equations 8 and 13.

    Example:
        >>> import pyro
        >>> from pyro.infer import SVI
        >>> from pyro_gen.models import VAE
        >>> vae = VAE(6, 2, size=4)
        >>> svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.001}),
        ...     ImportanceWeightedELBO(5))
        >>> svi.step(torch.eye(4, 6)) > 0
        True
    """

    def __init__(self, num_particles: int = 5) -> None:
        super().__init__(num_particles)

    def bound(self, log_weight: Tensor) -> Tensor:
        """The log of the mean weight.

        Args:
            log_weight: (particles, rows).

        Returns:
            (rows,), in nats.
        """
        return log_weight.logsumexp(0) - math.log(self.num_particles)


class _PathOnly(RowBound):
    """Bound whose guide learns through its draws only, not through its density at the draws.

    The guide's gradient is that of the log weights in the draws, each times its
    ``share`` again if required; the model's is that of its log joint times the
    shares. One pass backwards through the model serves both.
    """

    @abstractmethod
    def shares(self, log_weight: Tensor) -> Tensor:
        """The weight of each particle in the gradient, (particles, rows), which
        sums to 1 over the particles.
        """

    @abstractmethod
    def again(self, share: Tensor) -> Tensor:
        """Factor of the gradient in the draws, beside the share."""

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """The loss, with gradients added to ``.grad`` of the parameters.

        Args:
            model: a Pyro program.
            guide: a Pyro program.
            *args: arguments of both.
            **kwargs: arguments of both.

        Returns:
            Minus the bound, in nats.
        """
        guide_trace = self._draws(guide, *args, **kwargs)
        sites = [site for site in sampled_sites(guide_trace) if site["value"].requires_grad]
        latents = [site["value"] for site in sites]
        for site in sites:
            site["value"] = site["value"].detach().requires_grad_()
        leaves = [site["value"] for site in sites]
        scored = replayed(model, guide_trace, self.num_particles, *args, **kwargs)
        if (
            len(sites) > 1
            # distributions of later sites may depend on earlier draws: only a run
            # on the leaves knows how
        ):
            guide_trace = replayed(guide, guide_trace, self.num_particles, *args, **kwargs)
        else:
            guide_trace.compute_log_prob()
        rows = weights_of(scored, guide_trace, self.num_particles)
        log_weight = (rows.log_joint - rows.log_guide).detach()
        share = self.shares(log_weight)
        of_model = -rows.scale * (share * rows.log_joint).sum() - rows.rest
        if of_model.requires_grad:
            of_model.backward()
        if leaves:
            in_density = torch.autograd.grad(
                (share * rows.log_guide).sum(), leaves, allow_unused=True
            )
            torch.autograd.backward(
                latents,
                [
                    self._through(z, d, share, rows.scale)
                    for z, d in zip(leaves, in_density, strict=True)
                ],
            )
        return self._negative(rows).item()

    def _through(
        self, leaf: Tensor, in_density: Tensor | None, share: Tensor, scale: float
    ) -> Tensor:
        """The gradient of the loss in a draw."""
        gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        if in_density is not None:
            gradient = gradient + scale * in_density
        again = self.again(share)
        if leaf.dim() > 1:
            return gradient * again.reshape(*again.shape, *(1,) * (leaf.dim() - 2))
        return gradient


class DoublyReparametrizedELBO(_PathOnly, ImportanceWeightedELBO):
    r"""The importance-weighted bound (IWAE) with the doubly reparametrised gradient
    (DReG) for the guide.

    .. math:: \nabla_\phi \mathcal L_K = E \sum_k \tilde w_k^2 \, \frac{\partial \log
        w_k}{\partial z_k}
              \frac{\partial z_k}{\partial \phi}, \qquad \tilde w_k = \frac{w_k}{\sum_j w_j}

    Unbiased for the gradient of :class:`ImportanceWeightedELBO`, whose
    signal-to-noise ratio for the guide falls as K grows; here it does not. The
    model's gradient is the same. Parameters that model and guide share through
    the prior (as under a VampPrior) get both parts.

    Args:
        num_particles: draws K for each row.

    Raises:
        ValueError: ``num_particles`` is below 1.

    References:
        Tucker, Lawson, Gu and Maddison (2019), Doubly reparameterized gradient
        estimators for Monte Carlo objectives, equation 8.
    """

    def shares(self, log_weight: Tensor) -> Tensor:
        """Normalised weights."""
        return log_weight.softmax(0)

    def again(self, share: Tensor) -> Tensor:
        """The share, so that it enters squared."""
        return share


class StickingTheLandingELBO(_PathOnly):
    r"""The ELBO with the gradient of the guide through its draws alone.

    .. math:: \nabla_\phi \mathcal L = E \, \frac{\partial}{\partial z} \big[\log p(x, z) -
        \log q(z | x)\big]
              \frac{\partial z}{\partial \phi}

    The term that is left out has mean zero; where the guide is the exact
    posterior, what remains is zero in every draw.

    Args:
        num_particles: draws for each row, over which the bound is averaged.

    Raises:
        ValueError: ``num_particles`` is below 1.

    References:
        Roeder, Wu and Duvenaud (2017), Sticking the landing, equation 7.
    """

    def __init__(self, num_particles: int = 1) -> None:
        super().__init__(num_particles)

    def bound(self, log_weight: Tensor) -> Tensor:
        """The mean log weight.

        Args:
            log_weight: (particles, rows).

        Returns:
            (rows,), in nats.
        """
        return log_weight.mean(0)

    def shares(self, log_weight: Tensor) -> Tensor:
        """Equal weights."""
        return torch.full_like(log_weight, 1 / self.num_particles)

    def again(self, share: Tensor) -> Tensor:
        """One: the share enters once."""
        return torch.ones_like(share)


__all__ = ["DoublyReparametrizedELBO", "ImportanceWeightedELBO", "StickingTheLandingELBO"]
