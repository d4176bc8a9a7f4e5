"""Factor analysis."""

from __future__ import annotations

from torch import Tensor

from pyro_gen.models.em import EMResult
from pyro_gen.models.linear_gaussian.base import LinearGaussian
from pyro_gen.models.pca import complete_rows


class FactorAnalysis(LinearGaussian):
    r"""Factor analysis: a linear map of normal latent variables, with a separate noise variance in every column.

    .. math:: z \sim N(0, I), \quad x | z \sim N(W z + \mu, \mathrm{diag}(\psi)), \quad
              x \sim N(\mu, W W^T + \mathrm{diag}(\psi))

    The factors explain what the columns have in common, whatever their units: rescaling a column rescales its loadings
    and nothing else. W is known up to a rotation. ``fit_em`` finds a maximum of the likelihood, with or without missing
    cells, and ``SVI(analysis.model, analysis.guide, ...)`` climbs it by gradients. Sites are ``z`` and ``x`` in the
    plate ``rows``.

    Args:
        features: columns of a row.
        latent: number of factors, below ``features``; 0 leaves independent columns.
        size: rows of the whole data set, which scales minibatches.

    Raises:
        ValueError: a size is out of range.

    References:
        Spearman (1904), "General intelligence," objectively determined and measured. Rubin and Thayer (1982), EM
        algorithms for ML factor analysis.

    Example:
        >>> import torch
        >>> noise = torch.linspace(0.1, 1.0, 6)
        >>> x = torch.randn(200, 1) @ torch.ones(1, 6) + noise * torch.randn(200, 6)
        >>> analysis = FactorAnalysis(6, 1, size=200)
        >>> analysis.fit_em(x).converged
        True
        >>> analysis.noise_variance.shape, analysis.latent_means(x).shape
        (torch.Size([6]), torch.Size([200, 1]))
    """

    shared_noise = False

    def fit_closed_form(self, x: Tensor) -> EMResult:
        """Maximum likelihood from complete rows by ``fit_em``; only its steps have a closed form.

        Args:
            x: rows, (rows, features), complete.

        Returns:
            The result.

        Raises:
            ValueError: the rows do not fit this model, too few, miss cells, or are constant in a
                column.
        """
        complete_rows(x, self.features, "`fit_em`", self.loc)
        return self.fit_em(x)


__all__ = ["FactorAnalysis"]
