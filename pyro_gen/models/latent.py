"""Models of binary rows, with a prior over the latent units of each row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NoReturn

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen._arguments import whole_number
from pyro_gen._evaluation import reading
from pyro_gen._module import Module
from pyro_gen._plates import rows_plate
from pyro_gen._registration import register
from pyro_gen._rows import RowsLike, as_tensor
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.infer import ContrastiveDivergence, lower_bound
from pyro_gen.infer.elbo.importance import LowerBound
from pyro_gen.nn import RBM
from pyro_gen.nn.learning import check_states

Observations = Mapping[str, Tensor]


class RowModel(Module):
    """A model/guide pair over rows of zeros and ones.

    Args:
        visible: number of observed units.
        size: rows of the whole data set, which scales minibatches.

    Raises:
        ValueError: a size is below 1.
    """

    def __init__(self, visible: int, size: int) -> None:
        super().__init__()
        self.visible = whole_number("visible", visible)
        self.size = whole_number("size", size)

    @abstractmethod
    def model(self, x: RowsLike | None = None, observations: Observations | None = None) -> Tensor:
        """The generative program."""

    @abstractmethod
    def guide(self, x: RowsLike | None = None, observations: Observations | None = None) -> None:
        """The recognition program."""

    @abstractmethod
    def log_partition(self) -> Estimate | None:
        """Log Z by the ``evaluation`` of the prior, or None if the model is normalised."""

    def forward(self, *args: object, **kwargs: object) -> NoReturn:
        """Refusal: the density of a row is an intractable sum over its latent variables.

        Args:
            *args: ignored.
            **kwargs: ignored.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no tractable density of its rows to return: put `model` "
            "and `guide` into SVI, "
            "and take `lower_bound` for a log likelihood and `sample` for rows"
        )

    @reading
    def lower_bound(
        self, x: RowsLike, num_particles: int = 10, batch_size: int = 100
    ) -> LowerBound:
        """Variational and importance-weighted lower bound of log p(x).

        See :func:`pyro_gen.infer.lower_bound`.

        Args:
            x: rows of zeros and ones, (rows, visible).
            num_particles: draws from the guide a row.
            batch_size: rows at a time.

        Returns:
            The bounds of each row, with the errors of the rows, of the draws
            and of log Z.

        Raises:
            ValueError: ``x`` is not such a table, or log Z is not known.
        """
        x = self.check(x)
        partition = self.log_partition()
        get = None if partition is None else lambda: partition
        return lower_bound(self.model, self.guide, x, num_particles, get, batch_size)

    def check(self, x: RowsLike) -> Tensor:
        """Rows as a tensor, checked.

        Args:
            x: a tensor, an array, a list or a data frame.

        Raises:
            ValueError: it is not (rows, visible) with zeros and ones.
        """
        rows: Tensor = as_tensor(x)
        check_states("x", rows, columns=self.visible)
        return rows


class LatentModel(RowModel):
    """A model/guide pair over rows with a prior module over the deepest units.

    Args:
        visible: number of observed units.
        size: rows of the whole data set, which scales minibatches.
        prior: a module whose call returns a distribution over the deepest
            units.

    Raises:
        ValueError: a size is below 1, or the prior is an RBM under contrastive
            divergence, whose surrogate of log Z depends on the latent value.
    """

    generator: ClassVar[str]
    """The attribute that holds the network from latent units to rows."""
    recogniser: ClassVar[str]
    """The attribute that holds the network from rows to latent units."""
    site: ClassVar[str] = "x"
    """The observed site."""

    def __init__(self, visible: int, size: int, prior: nn.Module) -> None:
        super().__init__(visible, size)
        if isinstance(prior, RBM) and isinstance(prior.negative_phase, ContrastiveDivergence):
            raise ValueError(
                "`prior` must not learn by ContrastiveDivergence, whose particles start at the "
                "value, and here that is "
                "latent: use PersistentChains or Exact"
            )
        self.prior = prior

    def model(self, x: RowsLike | None = None, observations: Observations | None = None) -> Tensor:
        """The generative program: the prior, then downwards to ``x``.

        Args:
            x: rows to observe, (rows, visible); None draws ``size`` rows.
            observations: the same by site name, as ``ReweightedWakeSleep``
                gives them.

        Returns:
            The rows.
        """
        rows = observed(x, observations, self.site)
        if rows is not None:
            rows = self._read(rows)
        for name in (self.generator, "prior", *self.shared):
            register(name, getattr(self, name))
        with rows_plate(self.size, rows):
            return pyro.sample(self.site, self.generate(self.prior_distribution()), obs=rows)

    def guide(self, x: RowsLike | None = None, observations: Observations | None = None) -> None:
        """The recognition program, from ``x`` upwards.

        Args:
            x: rows, (rows, visible).
            observations: the same by site name.

        Raises:
            ValueError: there are no rows to recognise.
        """
        rows = self._read(recognised(x, observations, self.site))
        register(self.recogniser, getattr(self, self.recogniser))
        with rows_plate(self.size, rows):
            self.recognise(rows)

    def _read(self, x: Tensor) -> Tensor:
        """Rows in the data type that the programs compute with; here their own."""
        return x

    @property
    def shared(self) -> tuple[str, ...]:
        """Further attributes whose parameters the generative program uses."""
        return ()

    def prior_distribution(self) -> TorchDistribution:
        """The distribution of the deepest units, over the prior's current parameters."""
        distribution: TorchDistribution = self.prior()
        return distribution

    @abstractmethod
    def generate(self, prior: TorchDistribution) -> TorchDistribution:
        """Sample the latent sites of rows from the prior downwards.

        The distribution of ``x`` given the lowest.
        """

    @abstractmethod
    def recognise(self, x: Tensor) -> None:
        """Sample the latent sites of rows from ``x`` upwards."""

    @abstractmethod
    def decode(self, z: Tensor) -> TorchDistribution:
        """The distribution of the observed units given the deepest ones.

        Layers between are sampled on the way.
        """

    @reading
    def log_partition(self) -> Estimate | None:
        """Log Z of an energy prior by its ``evaluation``; None for a normalised prior.

        Returns:
            The estimate with its error, or None.
        """
        with torch.no_grad():
            prior = self.prior_distribution()
            if isinstance(prior, distributions.RBM):
                return prior.log_partition()
            return None

    @reading
    @torch.no_grad()
    def sample(self, num_samples: int, num_steps: int = 100) -> Tensor:
        """Draw observed units: the prior's chains run on by ``num_steps`` sweeps where it
        keeps any, then downwards.

        Args:
            num_samples: rows to draw.
            num_steps: Gibbs sweeps of an RBM prior that keeps chains and has no
                exact draw.

        Returns:
            Zeros and ones, (num_samples, visible).

        Raises:
            ValueError: the prior has neither an exact draw, nor chains, nor
                ``num_steps``.
        """
        return self.decode(self.sample_prior(num_samples, num_steps)).sample()

    @reading
    @torch.no_grad()
    def sample_prior(self, num_samples: int, num_steps: int = 100) -> Tensor:
        """Draw the deepest units.

        Args:
            num_samples: rows to draw.
            num_steps: Gibbs sweeps from the prior's chains, where it keeps any
                and has no exact draw.

        Returns:
            Shape (num_samples, deepest units).

        Raises:
            ValueError: the prior has neither an exact draw, nor chains, nor
                ``num_steps``.
        """
        num_samples = whole_number("num_samples", num_samples)
        num_steps = whole_number("num_steps", num_steps, 0)
        if isinstance(self.prior, RBM):
            return drawn(self.prior, num_samples, num_steps)
        draws: Tensor = self.prior_distribution().sample((num_samples,))
        return draws


def observed(
    x: RowsLike | None, observations: Observations | None, name: str = "x"
) -> Tensor | None:
    """The data of a site as a tensor: given directly, or in the ``observations`` that
    Pyro's losses of recognition networks hand over.
    """
    rows: Tensor | None = as_tensor(x if observations is None else observations[name])
    return rows


def recognised(x: RowsLike | None, observations: Observations | None, name: str = "x") -> Tensor:
    """The data by :func:`observed`; raises if there are none."""
    rows = observed(x, observations, name)
    if rows is None:
        raise ValueError(
            f"`{name}` must be given to the guide, which draws the latent units from it, got None"
        )
    return rows


def drawn(rbm: RBM, num_samples: int, num_steps: int) -> Tensor:
    """Visible states of a module: exact draws where there are any, else its chains run
    on where it keeps any.

    Args:
        rbm: the module.
        num_samples: rows to draw.
        num_steps: Gibbs sweeps from the chains.

    Raises:
        ValueError: there is neither an exact draw, nor chains, nor
            ``num_steps`` among the module's settings.
    """
    distribution = rbm()
    if distribution.samples_exactly or not len(rbm.chains):
        return distribution.sample((num_samples,))
    return distribution.gibbs(rbm.particles(num_samples), num_steps)


__all__ = ["LatentModel", "Observations", "RowModel", "drawn", "observed", "recognised"]
