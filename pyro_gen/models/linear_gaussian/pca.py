"""Principal component analysis, exact."""

from __future__ import annotations

from typing import NamedTuple, NoReturn, Self

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen._module import Module
from pyro_gen._rows import RowsLike, as_floating
from pyro_gen.models.rows import Rows, make_rows


class PrincipalAxes(NamedTuple):
    """The eigen-decomposition of a covariance of rows, divided by their number, largest first.

    Args:
        loc: means of the columns, (features,).
        components: axes of unit length as rows, (min(rows, features),
            features).
        variances: along the axes, (min(rows, features),); all others are 0.
    """

    loc: Tensor
    components: Tensor
    variances: Tensor


def principal_axes(x: Tensor) -> PrincipalAxes:
    """Principal axes of complete rows, by a QR and a singular value decomposition in float64.

    No covariance is formed, so small variances keep their digits. The largest
    entry of every axis is positive.
    """
    rows = x.double()
    loc = rows.mean(0)
    _, singular, components = torch.linalg.svd(
        torch.linalg.qr(rows - loc, mode="r").R, full_matrices=False
    )
    largest = components.gather(-1, components.abs().argmax(-1, keepdim=True))
    return PrincipalAxes(loc, components * largest.sign(), singular.square() / len(x))


def complete_rows(x: RowsLike, features: int, instead: str, like: Tensor | None = None) -> Rows:
    """Check rows none of whose cells may be missing; ``instead`` names what takes missing ones."""
    rows = make_rows(x, None, features, like)
    if rows.mask is not None:
        raise ValueError(
            f"`x` must be complete, got {int((~rows.mask).sum())} cells of NaN: {instead} takes "
            "them"
        )
    if rows.x.dim() != 2:
        raise ValueError(f"`x` must have shape (rows, {features}), got {tuple(rows.x.shape)}")
    return rows


class PCA(Module):
    r"""Principal component analysis: the subspace with the least squared error of
    reconstruction.

    .. math:: z = V (x - \mu), \qquad \hat x = \mu + V^T z

    It is not a density and has no samples; it is the noiseless limit of
    :class:`pyro_gen.models.PPCA`. scikit-learn's ``PCA`` has more solvers; here
    mean and axes are buffers of a module, on any device.

    Args:
        loc: means of the columns, (features,).
        components: orthonormal axes as rows, (latent, features).
        variances: of the rows along the axes (their squared deviations divided
            by the number of rows), (latent,).

    Raises:
        ValueError: the shapes do not fit.

    References:
        Pearson (1901), On lines and planes of closest fit to systems of points
        in space. Hotelling (1933), Analysis of a complex of statistical
        variables into principal components.

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
        >>> pca = PCA.from_data(x, 1)
        >>> pca.components
        tensor([[0.4472, 0.8944]])
        >>> torch.allclose(pca.reconstruct(x), x, atol=1e-6)
        True
    """

    loc: Tensor
    components: Tensor
    variances: Tensor

    def __init__(self, loc: Tensor, components: Tensor, variances: Tensor) -> None:
        super().__init__()
        if (
            components.dim() != 2
            or loc.shape != components.shape[1:]
            or variances.shape != components.shape[:1]
        ):
            got = f"{tuple(loc.shape)}, {tuple(components.shape)} and {tuple(variances.shape)}"
            raise ValueError(
                "`loc`, `components` and `variances` must have shapes (features,), (latent, "
                f"features) and (latent,), got {got}"
            )
        for name, value in (("loc", loc), ("components", components), ("variances", variances)):
            self.register_buffer(name, value)

    @classmethod
    def from_data(cls, x: RowsLike, latent: int) -> Self:
        """The axes of rows.

        Args:
            x: rows, (rows, features), floating and complete.
            latent: number of axes.

        Returns:
            The module, of the rows' dtype and on their device.

        Raises:
            ValueError: ``x`` is not such a table, or has fewer rows or columns
                than ``latent``.
        """
        x = as_floating(x)
        if not isinstance(x, Tensor) or x.dim() != 2:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"`x` must have shape (rows, features), got {got}")
        rows = complete_rows(x, x.shape[1], "PPCA(...).fit").x
        latent = whole_number("latent", latent, 0)
        if latent > min(x.shape):
            raise ValueError(
                f"`latent` must be between 0 and {min(x.shape)} for rows {tuple(x.shape)}, got "
                f"{latent}"
            )
        axes = principal_axes(rows)
        return cls(axes.loc.to(x), axes.components[:latent].to(x), axes.variances[:latent].to(x))

    @property
    def latent(self) -> int:
        """Number of axes."""
        return len(self.components)

    def forward(self, *args: object, **kwargs: object) -> NoReturn:
        """Refusal: the model is no density.

        Args:
            *args: ignored.
            **kwargs: ignored.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "PCA has no density to return: take `latent_means` and `reconstruct`, or PPCA, whose "
            "call is a distribution"
        )

    def latent_means(self, x: RowsLike) -> Tensor:
        """Coordinates of rows along the axes.

        Args:
            x: (rows, features).

        Returns:
            (rows, latent).

        Raises:
            ValueError: ``x`` is not such a table.
        """
        rows = complete_rows(x, len(self.loc), "PPCA(...).latent_means", self.loc)
        return (rows.x - self.loc) @ self.components.mT

    def decode(self, z: Tensor) -> Tensor:
        """The points of the subspace with these coordinates.

        Args:
            z: (..., latent).

        Returns:
            (..., features).

        Raises:
            ValueError: ``z`` has another number of coordinates.
        """
        if z.shape[-1:] != (self.latent,):
            raise ValueError(f"`z` must have shape (..., {self.latent}), got {tuple(z.shape)}")
        return self.loc + z @ self.components

    def reconstruct(self, x: RowsLike) -> Tensor:
        """The points of the subspace that are nearest to rows.

        Args:
            x: (rows, features).

        Returns:
            Same shape.
        """
        return self.decode(self.latent_means(x))


__all__ = ["PCA", "PrincipalAxes", "complete_rows", "principal_axes"]
