"""Probabilistic principal component analysis."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_gen.models.em import FitResult
from pyro_gen.models.linear_gaussian.base import LinearGaussian
from pyro_gen.models.linear_gaussian.em import Point
from pyro_gen.models.linear_gaussian.pca import PrincipalAxes, principal_axes
from pyro_gen.models.rows import Rows


class PPCA(LinearGaussian):
    r"""Probabilistic principal component analysis: linear in normal latent variables,
    with equal noise in all cells.

    .. math:: z \sim N(0, I), \qquad x | z \sim N(W z + \mu, \sigma^2 I), \qquad x \sim N(\mu,
        W W^T + \sigma^2 I)

    At the maximum of the likelihood the columns of W span the principal
    subspace and :math:`\sigma^2` is the mean variance off it. ``fit`` computes
    this maximum, by EM where cells are missing, and ``SVI(ppca.model,
    ppca.guide, ...)`` by gradients, with minibatches and as part of larger
    programs. W is known up to a rotation. Sites are ``z`` and ``x`` in the
    plate ``rows``.

    Args:
        features: columns of a row.
        latent: number of latent variables, below ``features``; 0 leaves noise
            alone.
        size: rows of the whole data set, which scales minibatches.

    Raises:
        ValueError: a size is out of range.

    References:
        Tipping and Bishop (1999), Probabilistic principal component analysis,
        equations 3 to 8.

    Example:
        >>> import pyro
        >>> x = torch.randn(200, 2) @ torch.randn(2, 6) + 0.1 * torch.randn(200, 6)
        >>> ppca = PPCA(6, 2, size=200)
        >>> ppca.fit(x).converged
        True
        >>> x[0, 3] = torch.nan
        >>> ppca.log_likelihood(x).shape, ppca.reconstruct(x).shape, ppca.sample(3).shape
        (torch.Size([200]), torch.Size([200, 6]), torch.Size([3, 6]))
    """

    shared_noise = True

    def _fit_in_closed_form(self, rows: Rows) -> FitResult:
        r"""The maximum of the likelihood.

        .. math:: \sigma^2 = \frac{1}{d - k} \sum_{j > k} \lambda_j, \qquad W = U_k (\Lambda_k
            - \sigma^2 I)^{1/2}

        with the eigenvalues and eigenvectors of the covariance of complete rows
        (divided by their number), from a singular value decomposition in
        float64.

        References:
            Tipping and Bishop (1999), Probabilistic principal component
            analysis, equations 7 and 8.
        """
        if rows.mask is not None:
            missing = int((~rows.mask).sum())
            raise ValueError(
                f'`x` must be complete, got {missing} cells of NaN: `method="em"` takes them'
            )
        self.check_enough(rows)
        axes = principal_axes(rows.x)
        noise = self._noise(axes, rows)
        weight = (
            axes.components[: self.latent].mT
            * (axes.variances[: self.latent] - noise).clamp(min=0).sqrt()
        )
        self.set_point(Point(axes.loc, weight, noise.expand(self.features)))
        objective = torch.tensor([self.score(rows.x) * len(rows.x)], dtype=torch.float64)
        return FitResult(objective.item(), objective, True, False, objective)

    def _noise(self, axes: PrincipalAxes, rows: Rows) -> Tensor:
        """Variance off the principal subspace, where it is more than rounding."""
        noise = axes.variances[self.latent :].sum() / (self.features - self.latent)
        rounding = torch.finfo(rows.x.dtype).eps * rows.x.double().square().mean().sqrt()
        decomposition = (
            torch.finfo(torch.float64).eps * max(rows.x.shape) * axes.variances.max().sqrt()
        )
        if noise <= (4 * rounding).square() + decomposition.square():
            rank = int(
                (
                    axes.variances
                    > (4 * rounding).square() * self.features + decomposition.square()
                ).sum()
            )
            raise ValueError(
                f"`latent` must be below the rank of the centred rows, {rank}, or the noise has "
                "no variance and the "
                f"likelihood no bound, got {self.latent} for {len(rows.x)} rows"
            )
        return noise


__all__ = ["PPCA"]
