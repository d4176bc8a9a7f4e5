"""Warm-up of the divergence, and use of the latent dimensions."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from pyro_gen._arguments import whole_number


class LatentUse(NamedTuple):
    """Information in each latent dimension about the rows.

    Args:
        variance: of the posterior mean (or rate) over the rows, (latent,).
        divergence: mean KL divergence from the standard normal prior,
            (latent,), in nats; None under other priors, of which there is none
            for a single dimension.
        threshold: of the variance, above which a dimension counts as active.
    """

    variance: Tensor
    divergence: Tensor | None
    threshold: float

    @property
    def active(self) -> Tensor:
        """Dimensions in use, (latent,) of bool."""
        return self.variance > self.threshold

    def __str__(self) -> str:
        """Number of dimensions in use, and the nats that they carry."""
        if self.divergence is None:
            nats = ""
        else:
            nats = f", {self.divergence.sum():.2f} nats of divergence"
        return f"{int(self.active.sum())} of {len(self.variance)} latent dimensions active{nats}"


def warm_up(epoch: int, epochs: int) -> float:
    """The weight of the divergence in an epoch, rising in equal steps to 1.

    Args:
        epoch: counted from 1.
        epochs: the epoch in which it is 1; 0 for no warm-up.

    Returns:
        A number above 0 and at most 1, for ``VAE.beta``.

    Raises:
        ValueError: ``epoch`` is not above 0, as the first one is 1, or
            ``epochs`` is no whole number or negative.

    References:
        Bowman, Vilnis, Vinyals, Dai, Jozefowicz and Bengio (2016), Generating
        sentences from a continuous space, section 3.1. Sonderby, Raiko, Maaloe,
        Sonderby and Winther (2016), Ladder variational autoencoders.

    Example:
        >>> [warm_up(epoch, 4) for epoch in (1, 2, 4, 9)]
        [0.25, 0.5, 1.0, 1.0]
    """
    epochs = whole_number("epochs", epochs, 0)
    if not 0 < epoch < math.inf:
        raise ValueError(f"`epoch` must be above 0 and finite, got {epoch}")
    if epochs:
        return min(1.0, epoch / epochs)
    return 1.0


__all__ = ["LatentUse", "warm_up"]
