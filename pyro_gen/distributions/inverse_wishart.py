"""The inverse Wishart distribution of covariance matrices.

With a bijection between vectors and covariance matrices.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.distributions.constraint_registry import biject_to, transform_to
from torch.distributions.transforms import Transform

from pyro_gen.distributions.expansion import Expandable, over_batch


class _Covariance(type(constraints.positive_definite)):  # type: ignore[misc]
    """Positive definite matrices that samplers reach from vectors.

    For `constraints.positive_definite` torch has no bijection: its map starts
    at whole matrices and ignores their upper triangle, along which NUTS would
    drift.
    """


covariance = _Covariance()
"""Constraint on covariance matrices.

The unconstrained space are vectors of D(D + 1) / 2 numbers.
"""


class CovarianceTransform(Transform):
    r"""A bijection from vectors to covariance matrices.

    .. math:: \Sigma = S L L^\top S, \qquad L_{ii} = e^{u_i}, \quad S = \mathrm{diag}(s)

    The vector u holds the logarithms of the diagonal of L, then what stands
    below it, row by row.

    Args:
        scale: deviations s that make u free of units, (features,); None for
            ones.
        cache_size: as of every transform of torch.

    References:
        Pinheiro and Bates (1996), Unconstrained parametrizations for
        variance-covariance matrices, section 2.2.

    Example:
        >>> u = torch.randn(3)
        >>> sigma = CovarianceTransform()(u)
        >>> torch.allclose(CovarianceTransform().inv(sigma), u, atol=1e-5)
        True
    """

    domain = constraints.real_vector
    codomain = covariance
    bijective = True

    def __init__(self, scale: Tensor | None = None, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.scale = scale

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CovarianceTransform) and other.scale is self.scale

    __hash__ = Transform.__hash__

    def with_cache(self, cache_size: int = 1) -> CovarianceTransform:
        """Copy of the map with another size of cache."""
        return CovarianceTransform(self.scale, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        factor = self._factor(x)
        return factor @ factor.mT

    def _factor(self, x: Tensor) -> Tensor:
        features = _side(x.shape[-1])
        row, column = torch.tril_indices(features, features, -1, device=x.device)
        lower = x.new_zeros(*x.shape[:-1], features, features)
        lower[..., row, column] = x[..., features:]
        lower = lower + x[..., :features].exp().diag_embed()
        if self.scale is None:
            return lower
        return self.scale.unsqueeze(-1) * lower

    def _inverse(self, y: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(y)
        if self.scale is not None:
            factor = factor / self.scale.unsqueeze(-1)
        row, column = torch.tril_indices(y.shape[-1], y.shape[-1], -1, device=y.device)
        return torch.cat([factor.diagonal(dim1=-2, dim2=-1).log(), factor[..., row, column]], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log of the volume around ``y``, for a unit of volume around ``x``.

        The volume is that of the symmetric matrices.
        """
        features = y.shape[-1]
        place = torch.arange(features, dtype=x.dtype, device=x.device)
        # dSigma/dL has 2^D prod L_ii^(D - i), i from 0.
        # dL/du has L_ii on the diagonal and s_i below it.
        log_det = features * math.log(2) + (x[..., :features] * (features + 1 - place)).sum(-1)
        if self.scale is None:
            return log_det
        return log_det + (features + 1) * self.scale.log().sum(-1)

    def forward_shape(self, shape: Any) -> Size:
        """Shape of the matrices for a shape of vectors."""
        features = _side(shape[-1])
        return Size((*shape[:-1], features, features))

    def inverse_shape(self, shape: Any) -> Size:
        """Shape of the vectors for a shape of matrices."""
        return Size((*shape[:-2], shape[-1] * (shape[-1] + 1) // 2))


def _side(length: int) -> int:
    """D of a vector of D(D + 1) / 2 numbers."""
    side = (math.isqrt(8 * length + 1) - 1) // 2
    if side * (side + 1) // 2 != length:
        raise ValueError(
            f"a covariance matrix needs D(D + 1) / 2 numbers, 1, 3, 6, 10, ..., got {length}"
        )
    return side


@biject_to.register(_Covariance)
@transform_to.register(_Covariance)
def _to_covariance(constraint: object) -> CovarianceTransform:
    return CovarianceTransform()


class InverseWishart(Expandable):
    r"""The inverse Wishart distribution.

    It is conjugate to the covariance matrix of a normal distribution.

    .. math:: p(\Sigma)
              = \frac{|\Psi|^{\nu/2}}{2^{\nu D/2}\,\Gamma_D(\nu/2)}\,|\Sigma|^{-(\nu + D + 1)/2}
              \exp\bigl(-\tfrac12 \mathrm{tr}(\Psi \Sigma^{-1})\bigr)

    Events are (features, features). HMC and NUTS move in the vectors of
    :class:`CovarianceTransform`.

    Args:
        df: degrees of freedom, above features - 1, of any batch shape.
        scale: Psi, positive definite, (..., features, features).
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: the shapes do not fit, ``df`` is too small, or ``scale`` is
            not positive definite.

    References:
        Gelman et al. (2013), Bayesian data analysis, third edition, section 3.6
        and appendix A. Bartlett (1934) for the draws.

    Example:
        >>> distribution = InverseWishart(torch.tensor(5.0), torch.eye(2))
        >>> distribution.sample().shape, distribution.mean.diagonal()
        (torch.Size([2, 2]), tensor([0.5000, 0.5000]))
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "df": constraints.positive,
        "scale": constraints.positive_definite,
    }
    support = covariance
    has_rsample = True

    def __init__(
        self,
        df: Tensor | float,
        scale: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        if scale.dim() < 2 or scale.shape[-1] != scale.shape[-2]:
            raise ValueError(
                f"`scale` must have shape (..., features, features), got {tuple(scale.shape)}"
            )
        self.df = torch.as_tensor(df, dtype=scale.dtype, device=scale.device)
        self.scale = scale
        batch_shape = torch.broadcast_shapes(self.df.shape, scale.shape[:-2])
        super().__init__(batch_shape, scale.shape[-2:], validate_args=validate_args)
        if self._validate_args and not (self.df > scale.shape[-1] - 1).all():
            raise ValueError(
                f"`df` must be above features - 1 = {scale.shape[-1] - 1}, got "
                f"{self.df.min().item():g}"
            )

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Batch and event shape from the shapes of the parameters."""
        scale = arg_shapes["scale"]
        return torch.broadcast_shapes(arg_shapes["df"], scale[:-2]), Size(scale[-2:])

    @property
    def scale_tril(self) -> Tensor:
        """Cholesky factor of ``scale``."""
        return torch.linalg.cholesky((self.scale + self.scale.mT) / 2)

    @property
    def mean(self) -> Tensor:
        """Psi / (nu - D - 1); infinite where ``df`` is not above D + 1."""
        free = self.df - self.event_shape[-1] - 1
        inverse = torch.where(free > 0, 1 / free, math.inf)
        return (self.scale * inverse[..., None, None]).expand(*self.batch_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in nats, with respect to the cells on and below the diagonal.

        Args:
            value: covariance matrices, (..., features, features).

        Returns:
            Shape of the batch.

        Raises:
            ValueError: a value is not positive definite.
        """
        if self._validate_args:
            self._validate_sample(value)
        factor, singular = torch.linalg.cholesky_ex(value)
        features = self.event_shape[-1]
        half = self.df / 2
        root = self.scale_tril
        normaliser = features * half * math.log(2) + torch.mvlgamma(half, features)
        trace = torch.linalg.solve_triangular(factor, root, upper=False).square().sum((-1, -2))
        log_prob = self.df * _log_diagonal(root) - normaliser
        log_prob = log_prob - (self.df + features + 1) * _log_diagonal(factor) - trace / 2
        log_prob = torch.where(singular == 0, log_prob, -math.inf)
        return over_batch(log_prob, self.batch_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw by Bartlett's decomposition, with gradients to ``df`` and ``scale``.

        Args:
            sample_shape: shape of the draws.

        Returns:
            Covariance matrices, sample_shape + batch_shape + event_shape.
        """
        shape = self._extended_shape(Size(sample_shape))
        df = (self.df.unsqueeze(-1) - torch.arange(shape[-1]).to(self.df)).expand(shape[:-1])
        diagonal = torch.distributions.Chi2(df, validate_args=False).rsample().sqrt()
        bartlett = torch.randn(shape, dtype=self.scale.dtype, device=self.scale.device).tril(-1)
        bartlett = bartlett + diagonal.diag_embed()
        half = torch.linalg.solve_triangular(bartlett, self.scale_tril.mT, upper=False)
        return half.mT @ half


def _log_diagonal(factor: Tensor) -> Tensor:
    """Log determinant of a triangular matrix."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


__all__ = ["CovarianceTransform", "InverseWishart", "covariance"]
