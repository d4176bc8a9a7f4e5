"""Factor analysis."""

from __future__ import annotations

from pyro_gen.models.em import FitResult
from pyro_gen.models.linear_gaussian.base import LinearGaussian
from pyro_gen.models.rows import Rows


class FactorAnalysis(LinearGaussian):
    r"""Factor analysis: a linear map of normal latent variables, with a separate noise
    variance in every column.

    .. math:: z \sim N(0, I), \quad x | z \sim N(W z + \mu, \mathrm{diag}(\psi)), \quad
              x \sim N(\mu, W W^T + \mathrm{diag}(\psi))

    The factors explain what the columns have in common, whatever their units:
    rescaling a column rescales its loadings and nothing else. W is known up to
    a rotation. ``fit`` finds a maximum of the likelihood, with or without
    missing cells, and ``SVI(analysis.model, analysis.guide, ...)`` climbs it by
    gradients. Sites are ``z`` and ``x`` in the plate ``rows``.

    Args:
        features: columns of a row.
        latent: number of factors, below ``features``; 0 leaves independent
            columns.
        size: rows of the whole data set, which scales minibatches.

    Raises:
        ValueError: a size is out of range.

    References:
        Spearman (1904), "General intelligence," objectively determined and
        measured. Rubin and Thayer (1982), EM algorithms for ML factor analysis.

    Example:
        >>> import torch
        >>> noise = torch.linspace(0.1, 1.0, 6)
        >>> x = torch.randn(200, 1) @ torch.ones(1, 6) + noise * torch.randn(200, 6)
        >>> analysis = FactorAnalysis(6, 1, size=200)
        >>> analysis.fit(x).converged
        True
        >>> analysis.noise_variance.shape, analysis.latent_means(x).shape
        (torch.Size([6]), torch.Size([200, 1]))
    """

    shared_noise = False

    def _fit_in_closed_form(self, rows: Rows) -> FitResult:
        """Raise: the maximum has no closed form."""
        raise ValueError(
            '`method` of FactorAnalysis must be "em", as its maximum has no closed form'
        )


__all__ = ["FactorAnalysis"]
