"""Shared parts of probabilistic PCA and factor analysis: programs, exact
posterior, learning, criteria.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar, Literal, Self

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_gen._arguments import whole_number
from pyro_gen._columns import constant
from pyro_gen._module import Module
from pyro_gen._plates import check_rows, rows_plate
from pyro_gen._points import Expected, check_agrees, check_point
from pyro_gen._registration import register
from pyro_gen._rows import RowsLike, as_table, as_tensor
from pyro_gen._transforms import batched
from pyro_gen.models.em import FitResult
from pyro_gen.models.linear_gaussian.em import Point, maximise
from pyro_gen.models.linear_gaussian.posterior import Posterior, posterior
from pyro_gen.models.rows import RowDensity, Rows, check_like, check_varied_rows, make_rows

Method = Literal["closed form", "em"]


class LinearGaussian(RowDensity, Module):
    r"""Rows that are linear in standard normal latent variables, and noise; base of the
    families.

    .. math:: z \sim N(0, I), \qquad x | z \sim N(W z + \mu, \Psi), \qquad x \sim N(\mu, W W^T
        + \Psi)

    The guide is the exact posterior at the current parameters and has no
    parameters: every draw from it gives the ELBO of log p(x) exactly, and its
    gradient, so that SVI maximises the likelihood. Sites are ``z`` and ``x`` in
    the plate ``rows``. Missing cells (NaN, or False in a mask) are integrated
    out everywhere.

    Args:
        features: columns of a row.
        latent: number of latent variables, below ``features``; 0 leaves
            independent columns.
        size: rows of the whole data set, which scales minibatches.

    Raises:
        ValueError: a size is out of range.
    """

    shared_noise: ClassVar[bool]
    """Whether one variance serves all columns."""

    def __init__(self, features: int, latent: int, size: int) -> None:
        super().__init__()
        features = whole_number("features", features)
        latent = whole_number("latent", latent, 0)
        if latent >= features:
            raise ValueError(
                "`latent` must be at least 0 and below `features`, or no noise is left to "
                f"explain, got {latent} for {features} features"
            )
        self.features = features
        self.latent = latent
        self.size = whole_number("size", size)
        self.weight = nn.Parameter(torch.randn(features, latent) / max(features, 1) ** 0.5)
        self.loc = nn.Parameter(torch.zeros(features))
        self.log_scale = nn.Parameter(torch.zeros(1 if self.shared_noise else features))

    @classmethod
    def from_data(
        cls, x: RowsLike, latent: int, size: int | None = None, mask: Tensor | None = None
    ) -> Self:
        """Model that starts at the means of the columns with small weights, like the rows
        in dtype and device.

        Args:
            x: rows, (rows, features), NaN where a cell is missing.
            latent: number of latent variables.
            size: rows of the whole data set; None for those given.
            mask: True where a cell is observed; None for wherever there is no
                NaN.

        Returns:
            The model, to be learned by SVI or ``fit``.

        Raises:
            ValueError: ``x`` is not such a table, ``latent`` does not fit it,
                or a column with separate noise is constant.
        """
        x = as_table(x)
        model = cls(x.shape[1], latent, len(x) if size is None else size).to(x)
        check_rows(model.size, len(x))
        rows = model.rows(x, mask)
        model.check_varied(rows)
        mean, variance = rows.column_moments()
        with torch.no_grad():
            scale = (model.pooled(variance) / model.pooled(torch.ones_like(variance))).sqrt()
            model.loc.copy_(mean)
            model.weight.mul_(scale.unsqueeze(-1))
            model.log_scale.copy_(scale[: len(model.log_scale)].log())
        return model

    # ---- the programs

    def model(self, x: RowsLike | None = None, mask: Tensor | None = None) -> Tensor:
        """The generative program.

        Args:
            x: rows to observe, (rows, features), NaN where a cell is missing;
                None draws ``size`` rows.
            mask: True where a cell is observed, same shape; None for wherever
                there is no NaN.

        Returns:
            The rows, with 0 in missing cells.
        """
        if x is None and mask is not None:
            raise ValueError("`mask` must come with `x`, got a mask alone")
        rows = None if x is None else self.rows(x, mask)
        register(type(self).__name__, self)
        with rows_plate(self.size, None if rows is None else rows.x):
            distribution = self._noisy(pyro.sample("z", self._prior()))
            if rows is not None and rows.mask is not None:
                distribution = distribution.mask(rows.mask)
            return pyro.sample("x", distribution.to_event(1), obs=None if rows is None else rows.x)

    def guide(self, x: RowsLike | None = None, mask: Tensor | None = None) -> None:
        """The posterior of the latent variables, exactly.

        Args:
            x: rows, as for :meth:`model`.
            mask: as for :meth:`model`.

        Raises:
            ValueError: there are no rows.
        """
        if x is None:
            raise ValueError("`x` must be given to the guide, which conditions on it, got None")
        register(type(self).__name__, self)
        rows: Tensor = as_tensor(x)
        with rows_plate(self.size, rows):
            pyro.sample("z", self.encode(rows, mask))

    def forward(self) -> TorchDistribution:
        """The density of a complete row, latent variables integrated out, for
        ``pyro.sample("x", ppca(), obs=x)``.

        Returns:
            A normal distribution of low rank, of event shape (features,).
        """
        loc = self.loc.clone()  # a copy, as torch derives other tensors from the scale
        if not self.latent:
            return dist.Normal(loc, self.scale).to_event(1)
        return dist.LowRankMultivariateNormal(loc, self.weight.clone(), self.scale.square())

    # ---- parameters

    @property
    def scale(self) -> Tensor:
        """Standard deviations of the noise, (features,)."""
        return self.log_scale.exp().expand(self.features)

    @property
    def noise_variance(self) -> Tensor:
        """Variances of the noise, (features,)."""
        return self.scale.square()

    @property
    def covariance(self) -> Tensor:
        """Covariance of a row, (features, features)."""
        return self.weight @ self.weight.mT + self.noise_variance.diag()

    @property
    def num_parameters(self) -> int:
        """Free parameters: means, noise, and loadings less the rotations that change nothing."""
        loadings = self.features * self.latent - self.latent * (self.latent - 1) // 2
        covariance = min(
            loadings + self.log_scale.numel(), self.features * (self.features + 1) // 2
        )
        return self.features + covariance

    # ---- learning

    @torch.no_grad()
    def fit(
        self,
        x: RowsLike,
        mask: Tensor | None = None,
        *,
        method: Method | None = None,
        num_steps: int = 2000,
        tolerance: float = 1e-9,
    ) -> FitResult:
        """Maximum likelihood, in closed form or by expectation maximisation.

        Missing cells are integrated out.

        EM starts from the principal axes and works in float64 whatever the
        dtype of the rows. Where its result is ``degenerate``, a column's noise
        is as small as it may get (a millionth of its variance): a Heywood case,
        or too many latent variables for the rows.

        Args:
            x: rows, (rows, features), NaN where a cell is missing (at random).
            mask: True where a cell is observed; None for wherever there is no
                NaN.
            method: "closed form" (complete rows, where the family has one) or
                "em"; None for the first that serves.
            num_steps: of EM, at most.
            tolerance: of EM: stop where a step gains no more than this, in nats
                a row.

        Returns:
            The result, with the objective of every step.

        Raises:
            ValueError: the rows do not fit this model, are too few, or constant
                in a column, or lie in a subspace of ``latent`` dimensions; or
                ``method`` does not serve them.

        References:
            Tipping and Bishop (1999), Probabilistic principal component
            analysis, appendix B. Rubin and Thayer (1982), EM algorithms for ML
            factor analysis.
        """
        if method not in (None, "closed form", "em"):
            raise ValueError(f'`method` must be "closed form", "em" or None, got {method!r}')
        num_steps = whole_number("num_steps", num_steps)
        if not tolerance >= 0:
            raise ValueError(f"`tolerance` must not be negative, got {tolerance}")
        rows = self.rows(x, mask)
        if method is None:
            method = "closed form" if self.shared_noise and rows.mask is None else "em"
        if method == "closed form":
            return self._fit_in_closed_form(rows)
        self.check_enough(rows)
        doubled = replace(rows, x=rows.x.double())
        result, point = maximise(doubled, self.latent, self.pooled, num_steps, tolerance)
        self.set_point(point)
        return result

    @abstractmethod
    def _fit_in_closed_form(self, rows: Rows) -> FitResult:
        """Maximum likelihood from complete rows without steps, where the family has it."""

    def pooled(self, values: Tensor) -> Tensor:
        """Sums over the features that share a variance.

        Args:
            values: (features,).

        Returns:
            Same shape.
        """
        if self.shared_noise:
            return values.sum().expand(self.features)
        return values

    def check_enough(self, rows: Rows) -> None:
        """Raise if the rows determine no noise.

        Args:
            rows: checked rows.

        Raises:
            ValueError: they are fewer than latent + 2 or more than ``size``, or
                do not vary.
        """
        check_rows(self.size, len(rows.x))
        if len(rows.x) < self.latent + 2:
            raise ValueError(
                f"`x` must have at least latent + 2 = {self.latent + 2} rows, or no noise is "
                f"left, got {len(rows.x)}"
            )
        self.check_varied(rows)

    def check_varied(self, rows: Rows) -> None:
        """Raise where the noise of a column, or that of all, would have no variance.

        Args:
            rows: checked rows.

        Raises:
            ValueError: they do not vary.
        """
        if not self.shared_noise:
            check_varied_rows(rows)
        elif constant(*rows.column_moments(), rows.x.dtype).all():
            raise ValueError("`x` must vary, got one value in each column")

    def set_point(self, point: Point) -> None:
        """Set the parameters.

        Args:
            point: means (features,), loadings (features, latent) and variances
                of the noise (features,).

        Raises:
            ValueError: one has another shape, is not finite, or a variance is
                not above 0; or variances differ where one serves all columns.
                No parameter changes then.
        """
        shapes = {"loc": self.loc.shape, "weight": self.weight.shape}
        expected = {
            name: Expected(constraints.real, tuple(shape)) for name, shape in shapes.items()
        }
        variances = Expected(constraints.positive, (self.features,))
        check_point("point", point._asdict(), {**expected, "variance": variances})
        if self.shared_noise:
            logs = point.variance.log()
            check_agrees(
                "`point` of 'variance', of which one serves all columns,",
                logs,
                logs[:1],
                constraints.real,
            )
        with torch.no_grad():
            self.loc.copy_(point.loc)
            self.weight.copy_(point.weight)
            self.log_scale.copy_(point.variance[: len(self.log_scale)].log() / 2)

    # ---- what users read off

    def encode(self, x: RowsLike, mask: Tensor | None = None) -> TorchDistribution:
        """The posterior of the latent variables given the observed cells of rows, exactly.

        Args:
            x: rows, (rows, features), NaN where a cell is missing.
            mask: as for :meth:`model`.

        Returns:
            Normal distributions, batch shape (rows,), event shape (latent,).
        """
        posterior = self._posterior(x, mask)
        if not self.latent:
            return dist.Normal(posterior.mean, 1.0).to_event(1)
        # torch's check looks at the numbers, which vmap hides
        checked = False if batched([posterior.factor]) else None
        precision = posterior.factor @ posterior.factor.mT
        return dist.MultivariateNormal(
            posterior.mean, precision_matrix=precision, validate_args=checked
        )

    def decode(self, z: Tensor) -> TorchDistribution:
        """The distribution of a row given its latent variables.

        Args:
            z: (..., latent).

        Returns:
            Independent normal distributions, event shape (features,).

        Raises:
            ValueError: ``z`` has another number of latent variables.
        """
        if z.shape[-1:] != (self.latent,):
            raise ValueError(f"`z` must have shape (..., {self.latent}), got {tuple(z.shape)}")
        return self._noisy(z).to_event(1)

    @torch.no_grad()
    def latent_means(self, x: RowsLike, mask: Tensor | None = None) -> Tensor:
        """Means of the latent variables given rows, as features for a classifier or for a map.

        Args:
            x: rows, as for :meth:`encode`.
            mask: as for :meth:`encode`.

        Returns:
            (rows, latent).
        """
        return self._posterior(x, mask).mean

    @torch.no_grad()
    def reconstruct(self, x: RowsLike, mask: Tensor | None = None) -> Tensor:
        """Rows at the posterior mean of their latent variables.

        In missing cells their mean given the observed ones.

        Args:
            x: rows, as for :meth:`encode`.
            mask: as for :meth:`encode`.

        Returns:
            (rows, features).
        """
        return self.decode(self._posterior(x, mask).mean).mean

    def log_likelihood(self, x: RowsLike, mask: Tensor | None = None) -> Tensor:
        """Log density of every row, in nats.

        That of the observed cells where some are missing. Exact.

        Args:
            x: rows, as for :meth:`encode`.
            mask: as for :meth:`encode`.

        Returns:
            (rows,).
        """
        return self._posterior(x, mask).log_likelihood

    @torch.no_grad()
    def sample(self, num_samples: int) -> Tensor:
        """Draw rows.

        Args:
            num_samples: how many.

        Returns:
            (num_samples, features).

        Raises:
            ValueError: ``num_samples`` is no whole number of at least 1.
        """
        num_samples = whole_number("num_samples", num_samples)
        return self._noisy(self._prior().sample((num_samples,))).sample()

    def rows(self, x: object, mask: Tensor | None = None) -> Rows:
        """Check rows, and separate missing cells from observed ones.

        Args:
            x: (rows, features), NaN where a cell is missing.
            mask: True where a cell is observed, same shape; None for wherever
                there is no NaN.

        Returns:
            The rows.

        Raises:
            ValueError: they do not fit this model.
        """
        rows = make_rows(x, mask, self.features, self.loc)
        if rows.x.dim() != 2:
            raise ValueError(
                f"`x` must have shape (rows, {self.features}), got {tuple(rows.x.shape)}"
            )
        check_like(rows, self.loc, "model")
        return rows

    def _posterior(self, x: RowsLike, mask: Tensor | None) -> Posterior:
        return posterior(self.rows(x, mask), self.loc, self.weight, self.scale)

    def _prior(self) -> TorchDistribution:
        zero = self.loc.new_zeros(self.latent)
        return dist.Normal(zero, torch.ones_like(zero)).to_event(1)

    def _noisy(self, z: Tensor) -> TorchDistribution:
        return dist.Normal(self.loc + z @ self.weight.mT, self.scale)


__all__ = ["LinearGaussian"]
