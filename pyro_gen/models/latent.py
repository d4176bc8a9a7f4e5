"""What models with one RBM, or other prior, over the latent units of each row have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen.distributions.partition import LogPartition
from pyro_gen.infer import ContrastiveDivergence, LowerBound, lower_bound
from pyro_gen.nn import RBM
from pyro_gen.nn.rbm import check_states

Observations = Mapping[str, Tensor]


class LatentModel(nn.Module):
    """A model/guide pair over rows of zeros and ones, with a prior module over the deepest units.

    Args:
        visible: number of observed units.
        size: rows of the whole data set, which scales minibatches.
        prior: a module whose call returns a distribution over the deepest units.

    Raises:
        ValueError: a size is below 1, or the prior is an RBM under contrastive divergence, whose stand-in for log Z
            depends on the latent value.
    """

    def __init__(self, visible: int, size: int, prior: nn.Module) -> None:
        super().__init__()
        if visible < 1 or size < 1:
            raise ValueError(f"`visible` and `size` must be at least 1, got {visible} and {size}")
        if isinstance(prior, RBM) and isinstance(prior.negative_phase, ContrastiveDivergence):
            raise ValueError(
                "`prior` must not learn by ContrastiveDivergence, whose particles start at the value, and here that is "
                "latent: use PersistentChains or Exact"
            )
        self.visible, self.size, self.prior = visible, size, prior

    @abstractmethod
    def model(self, v: Tensor | None = None, observations: Observations | None = None) -> Tensor:
        """The generative program."""

    @abstractmethod
    def guide(self, v: Tensor | None = None, observations: Observations | None = None) -> None:
        """The recognition program."""

    @abstractmethod
    def decode(self, h: Tensor) -> TorchDistribution:
        """The law of the observed units given the deepest ones, which are sampled on the way where there are more."""

    def log_partition(self) -> LogPartition | None:
        """Log Z of an energy prior as its ``evaluation`` knows it; None for a prior that is normalised by itself.

        Returns:
            The estimate with its error, or None.
        """
        with torch.no_grad():
            prior = self.prior()
            return prior.log_partition() if isinstance(prior, distributions.RBM) else None

    def lower_bound(self, v: Tensor, num_particles: int = 10, batch_size: int = 100) -> LowerBound:
        """Variational and importance-weighted lower bound of log p(v); see :func:`pyro_gen.infer.lower_bound`.

        Args:
            v: rows of zeros and ones, (rows, visible).
            num_particles: draws from the guide a row.
            batch_size: rows at a time.

        Returns:
            The bounds of each row, with the errors of the rows, of the draws and of log Z.

        Raises:
            ValueError: ``v`` is no such table, or log Z of the prior is not known.
        """
        self.check(v)
        partition = self.log_partition()
        get = None if partition is None else lambda: partition
        return lower_bound(self.model, self.guide, v, num_particles, get, batch_size)

    @torch.no_grad()
    def sample(self, num_samples: int, num_steps: int = 100) -> Tensor:
        """Draw observed units: the prior's chains run on by ``num_steps`` sweeps where it keeps any, then downwards.

        Args:
            num_samples: rows to draw.
            num_steps: Gibbs sweeps of an RBM prior that keeps chains and has no exact draw.

        Returns:
            Zeros and ones, (num_samples, visible).

        Raises:
            ValueError: the prior has neither an exact draw, nor chains, nor ``num_steps`` of its own.
        """
        return self.decode(self.sample_prior(num_samples, num_steps)).sample()

    @torch.no_grad()
    def sample_prior(self, num_samples: int, num_steps: int = 100) -> Tensor:
        """Draw the deepest units.

        Args:
            num_samples: rows to draw.
            num_steps: Gibbs sweeps from the prior's chains, where it keeps any and has no exact draw.

        Returns:
            Shape (num_samples, deepest units).

        Raises:
            ValueError: the prior has neither an exact draw, nor chains, nor ``num_steps`` of its own.
        """
        prior = self.prior()
        if isinstance(self.prior, RBM) and not prior.samples_exactly and len(self.prior.chains):
            return prior.gibbs(self.prior.particles(num_samples), num_steps)
        return prior.sample((num_samples,))

    def check(self, v: Tensor) -> None:
        """Check a table of rows.

        Args:
            v: what came.

        Raises:
            ValueError: it is not (rows, visible) with zeros and ones.
        """
        check_states("v", v)
        if v.shape[-1] != self.visible:
            raise ValueError(f"`v` must have {self.visible} columns, got {v.shape[-1]}")


def observed(v: Tensor | None, observations: Observations | None, name: str = "v") -> Tensor | None:
    """The data, given directly or in the ``observations`` that Pyro's losses of recognition networks hand over.

    Args:
        v: the data, or None.
        observations: values by site, or None.
        name: the site.

    Returns:
        The data, or None where there are none.
    """
    return observations[name] if observations is not None else v


__all__ = ["LatentModel", "Observations", "observed"]
