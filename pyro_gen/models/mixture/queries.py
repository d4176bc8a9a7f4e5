"""Densities, components of rows, information criteria and samples of a mixture."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pyro_gen._arguments import whole_number
from pyro_gen.models.mixture.distribution import Parameters
from pyro_gen.models.rows import Rows


class MixtureQueries:
    """Methods that need no more than the density of rows.

    All take values or draws of the sites as ``parameters``.
    """

    components: int

    @abstractmethod
    def rows(self, x: object, mask: Tensor | None = None) -> Rows:
        """Check rows, and separate missing cells from observed ones."""

    @abstractmethod
    def point(self) -> dict[str, Tensor]:
        """The values of all continuous sites at the guide's centre."""

    @abstractmethod
    def completed(self, values: Parameters) -> dict[str, Tensor]:
        """The canonical parameters and ``log_weights`` (..., 1, components), from
        values or draws of the sites.
        """

    @abstractmethod
    def checked(
        self, argument: str, values: Parameters, batched: bool = False
    ) -> dict[str, Tensor]:
        """Values or draws of the sites, each inside its support."""

    @abstractmethod
    def log_table(self, rows: Rows, parameters: Parameters) -> Tensor:
        """Log density of the observed cells of every row under every component,
        (..., rows, components).
        """

    @abstractmethod
    def draw(self, z: Tensor, parameters: Parameters) -> Tensor:
        """Rows given their components, shape of ``z`` + (features,)."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Free parameters of the weights and the components."""

    def log_joint(
        self, x: Tensor, mask: Tensor | None = None, parameters: Parameters | None = None
    ) -> Tensor:
        """Log p(x, z) of every row and component, in nats; missing cells are summed out.

        Args:
            x: rows, (rows, features), NaN where a cell is missing.
            mask: True where a cell is observed; None for wherever there is no
                NaN.
            parameters: values or draws of the sites, (...) + their shapes; None
                for the guide's point.

        Returns:
            Shape (..., rows, components).

        Raises:
            ValueError: the rows do not fit this mixture, or a site is missing,
                unknown or outside its support.
        """
        values = self._canonical(parameters)
        return self.log_table(self.rows(x, mask), values) + values["log_weights"]

    def _canonical(self, parameters: Parameters | None) -> dict[str, Tensor]:
        """The canonical parameters at the guide's point, or from values that a user gives."""
        if parameters is None:
            return self.completed(self.point())
        return self.completed(self.checked("parameters", parameters, batched=True))

    def responsibilities(
        self, x: Tensor, mask: Tensor | None = None, parameters: Parameters | None = None
    ) -> Tensor:
        """Probabilities of the components given the rows, p(z | x).

        Args:
            x: rows.
            mask: as for :meth:`log_joint`.
            parameters: as for :meth:`log_joint`.

        Returns:
            Shape (..., rows, components).
        """
        return self.log_joint(x, mask, parameters).softmax(-1)

    def predict(
        self, x: Tensor, mask: Tensor | None = None, parameters: Parameters | None = None
    ) -> Tensor:
        """The most probable component of every row.

        Args:
            x: rows.
            mask: as for :meth:`log_joint`.
            parameters: as for :meth:`log_joint`.

        Returns:
            Components, (..., rows).
        """
        return self.log_joint(x, mask, parameters).argmax(-1)

    def log_likelihood(
        self, x: Tensor, mask: Tensor | None = None, parameters: Parameters | None = None
    ) -> Tensor:
        """Log density of every row, in nats; that of the observed cells where some are missing.

        Args:
            x: rows.
            mask: as for :meth:`log_joint`.
            parameters: as for :meth:`log_joint`.

        Returns:
            Shape (..., rows).
        """
        return self.log_joint(x, mask, parameters).logsumexp(-1)

    @torch.no_grad()
    def score(self, x: Tensor, mask: Tensor | None = None) -> float:
        """Mean log likelihood in nats a row, at the guide's point.

        Args:
            x: rows.
            mask: as for :meth:`log_joint`.
        """
        return self.log_likelihood(x, mask).double().mean().item()

    @torch.no_grad()
    def aic(self, x: Tensor, mask: Tensor | None = None) -> float:
        """Akaike's information criterion at the guide's point; smaller is better.

        Args:
            x: the rows that were fitted, by maximum likelihood.
            mask: as for :meth:`log_joint`.

        References:
            Akaike (1974), A new look at the statistical model identification.
        """
        return 2 * self.num_parameters - 2 * self.log_likelihood(x, mask).double().sum().item()

    @torch.no_grad()
    def bic(self, x: Tensor, mask: Tensor | None = None) -> float:
        """The Bayesian information criterion at the guide's point; smaller is better.

        Args:
            x: the rows that were fitted, by maximum likelihood.
            mask: as for :meth:`log_joint`.

        References:
            Schwarz (1978), Estimating the dimension of a model.
        """
        penalty = self.num_parameters * math.log(len(x))
        return penalty - 2 * self.log_likelihood(x, mask).double().sum().item()

    def sample(self, num_samples: int, parameters: Parameters | None = None) -> Tensor:
        """Draw rows.

        Args:
            num_samples: rows to draw.
            parameters: as for :meth:`sample_joint`.

        Returns:
            Rows (..., num_samples, features).

        Raises:
            ValueError: as for :meth:`sample_joint`.
        """
        return self.sample_joint(num_samples, parameters)[0]

    @torch.no_grad()
    def sample_joint(
        self, num_samples: int, parameters: Parameters | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw rows and their components, (x, z).

        Args:
            num_samples: rows to draw.
            parameters: values of the sites; None for the guide's point. Draws
                (...) give rows of each.

        Returns:
            Rows (..., num_samples, features) and components (..., num_samples).

        Raises:
            ValueError: ``num_samples`` is no whole number of at least 1, or as
                for :meth:`log_joint`.
        """
        num_samples = whole_number("num_samples", num_samples)
        values = self._canonical(parameters)
        log_w = values["log_weights"]
        z = torch.distributions.Categorical(
            logits=log_w.expand(*log_w.shape[:-2], num_samples, -1)
        ).sample()
        return self.draw(z, values), z

    @torch.no_grad()
    def occupied(self, x: Tensor, parameters: Parameters, mask: Tensor | None = None) -> Tensor:
        """Number of components that hold rows, in a draw of z for each draw of the
        parameters: the posterior of K.

        Args:
            x: rows.
            parameters: draws of the sites, (...) + their shapes.
            mask: as for :meth:`log_joint`.

        Returns:
            Counts, (...), int64.
        """
        z = torch.distributions.Categorical(logits=self.log_joint(x, mask, parameters)).sample()
        return one_hot(z, self.components).amax(-2).sum(-1)


__all__ = ["MixtureQueries"]
