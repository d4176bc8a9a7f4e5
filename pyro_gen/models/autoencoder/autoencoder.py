"""Autoencoders, plain and denoising."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pyro
import torch
from torch import Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen._evaluation import reading
from pyro_gen._module import Module
from pyro_gen._plates import check_rows, rows_plate
from pyro_gen._registration import register
from pyro_gen._rows import RowsLike, as_floating, as_table, as_tensor
from pyro_gen.distributions import Conditional, Factorised
from pyro_gen.models.autoencoder.networks import (
    BERNOULLI,
    as_parameters,
    check_in_support,
    start_decoder,
)
from pyro_gen.nn import Dense, MaskingNoise
from pyro_gen.nn.standardisation import Standardisation, standardisation


class Autoencoder(Module):
    r"""Autoencoder: an encoder network from rows to codes and a decoder network back to
    distributions of rows.

    .. math:: \max_{f, g} \sum_n \log p\big(x_n \,\big|\, f(g(x_n))\big)

    With ``FixedScaleGaussianConditional()`` that is least squares, and without
    hidden layers the decoder then spans the principal subspace. As a Pyro model
    it is a *regression of rows on themselves*: it has no distribution of codes,
    so it has no samples and is not a density of rows.
    :class:`pyro_gen.models.VAE` is the model with both.
    ``SVI(autoencoder.model, autoencoder.guide, ...).step`` is the training
    step; the site is ``x`` in the plate ``rows``.

    Args:
        features: columns of a row.
        latent: numbers in a code.
        size: rows of the whole data set, which scales minibatches.
        hidden: units of each hidden layer of the encoder, and backwards of the
            decoder, where none is given.
        likelihood: the family of the features' distributions.
        encoder: from rows (rows, features) to codes (rows, latent); real rows
            are standardised by the location and scale that :meth:`from_data`
            measured, if it was used.
        decoder: from codes to (rows, features, parameters of a distribution),
            all but the rows in any shape; of real rows to the parameters of
            standardised ones.

    Raises:
        ValueError: a size is below 1, or the likelihood is not one of numbers.

    References:
        Baldi and Hornik (1989), Neural networks and principal component
        analysis: learning from examples without local minima. Hinton and
        Salakhutdinov (2006), Reducing the dimensionality of data with neural
        networks.

    Example:
        >>> from pyro.infer import SVI, Trace_ELBO
        >>> x = torch.eye(6).repeat(10, 1)
        >>> autoencoder = Autoencoder(6, 2, size=60, hidden=(8,))
        >>> svi = SVI(autoencoder.model, autoencoder.guide, pyro.optim.Adam({"lr": 0.01}),
        ...     Trace_ELBO())
        >>> _ = svi.step(x[:20])
        >>> autoencoder.latent_means(x).shape, autoencoder.reconstruct(x).shape
        (torch.Size([60, 2]), torch.Size([60, 6]))
    """

    def __init__(
        self,
        features: int,
        latent: int,
        size: int,
        *,
        hidden: Sequence[int] = (400, 400),
        likelihood: Conditional = BERNOULLI,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.standard: Standardisation | None
        self.features = features = whole_number("features", features)
        self.latent = latent = whole_number("latent", latent)
        self.size = whole_number("size", size)
        if not isinstance(likelihood, Conditional) or likelihood.width > 1:
            raise ValueError(
                "`likelihood` must be a distribution of numbers such as BernoulliConditional(), "
                f"got {likelihood}"
            )
        likelihood.check(features)
        self.likelihood = likelihood
        self.encoder = Dense(features, hidden, latent) if encoder is None else encoder
        out = features * likelihood.num_parameters
        self.decoder = Dense(latent, tuple(hidden)[::-1], out) if decoder is None else decoder
        self.corruption: nn.Module = nn.Identity()
        self.standard = standardisation(likelihood, features)

    @classmethod
    def from_data(cls, x: RowsLike, latent: int, size: int | None = None, **settings: Any) -> Self:
        """A model that starts near the marginal distributions of the features.

        Real ones are standardised. Discrete features have a random readout over
        biases at the marginals.

        Args:
            x: rows, (rows, features).
            latent: numbers in a code.
            size: rows of the whole data set; None for those given.
            **settings: further arguments of the constructor.

        Returns:
            The model, of the rows' dtype and on their device. A decoder that is
            passed in is left unchanged.

        Raises:
            ValueError: ``x`` is not such a table or outside the support, or a
                column is constant whose scale is learned.
        """
        x = as_table(x)
        model = cls(x.shape[1], latent, len(x) if size is None else size, **settings).to(x)
        model.check(x)
        check_rows(model.size, len(x))
        start_decoder(model.decoder, model.likelihood, model.standard, x)
        return model

    def model(self, x: RowsLike | None = None) -> Tensor:
        """Rows given themselves, through the code.

        Args:
            x: rows, (rows, features).

        Returns:
            The rows.

        Raises:
            ValueError: ``x`` is None; rows cannot be drawn.
        """
        if x is None:
            raise ValueError(
                "`x` must be given: an autoencoder has no distribution of codes to draw rows "
                "from, a VAE has one; got None"
            )
        x = self.check(x)
        register("autoencoder", self)
        with rows_plate(self.size, x):
            return pyro.sample("x", self(x), obs=x)

    def guide(self, x: RowsLike | None = None) -> None:
        """Empty guide: the model has no latent variables.

        Args:
            x: rows, of which only the number is used.

        Raises:
            ValueError: there are more rows than ``size``.
        """
        check_rows(self.size, 0 if x is None else len(x))

    def forward(self, x: RowsLike) -> Factorised:
        """The distribution of rows given themselves, corrupted in training mode if the
        class does so.

        Args:
            x: rows, (rows, features).

        Returns:
            Independent distributions of the features, batch shape (rows,).
        """
        return self.decode(self._codes(self.corruption(self._seen(x))))

    def encode(self, x: RowsLike) -> Tensor:
        """Codes of rows.

        Args:
            x: rows, (rows, features).

        Returns:
            (rows, latent).

        Raises:
            ValueError: the rows, or the encoder's outputs, have the wrong shape.
        """
        return self._codes(self._seen(x))

    def _seen(self, x: RowsLike) -> Tensor:
        """Rows as the encoder sees them."""
        rows: Tensor = as_tensor(x)
        if rows.dim() != 2 or rows.shape[-1] != self.features:
            got = tuple(rows.shape)
            raise ValueError(f"`x` must have shape (rows, {self.features}), got {got}")
        rows = as_floating(rows, next(self.parameters(), None))
        if self.standard is None:
            return rows
        return self.standard().seen(rows)

    def _codes(self, inputs: Tensor) -> Tensor:
        """Codes of what the encoder sees."""
        codes: Tensor = self.encoder(inputs)
        if codes.shape != (len(inputs), self.latent):
            raise ValueError(
                f"`encoder` must return (rows, {self.latent}), got {tuple(codes.shape)}"
            )
        return codes

    def decode(self, z: Tensor) -> Factorised:
        """The distribution of a row given its code.

        Args:
            z: codes, (..., latent).

        Returns:
            Independent distributions of the features, batch shape (...).

        Raises:
            ValueError: the codes, or the decoder's outputs, have the wrong shape.
        """
        if z.shape[-1:] != (self.latent,):
            raise ValueError(f"`z` must have shape (..., {self.latent}), got {tuple(z.shape)}")
        out: Tensor = self.decoder(z.reshape(-1, self.latent))
        batch = z.shape[:-1]
        parameters = as_parameters("decoder", out, batch, self.features, self.likelihood)
        if self.standard is not None:
            parameters = self.standard().raw(parameters)
        return Factorised(self.likelihood, parameters)

    @reading
    @torch.no_grad()
    def latent_means(self, x: RowsLike) -> Tensor:
        """Codes of rows in evaluation mode, as features.

        Args:
            x: rows, (rows, features).

        Returns:
            (rows, latent).

        Raises:
            ValueError: ``x`` is not such a table, or outside the support.
        """
        x = self.check(x)
        return self.encode(x)

    @reading
    @torch.no_grad()
    def reconstruct(self, x: RowsLike) -> Tensor:
        """Means of rows given their codes, in evaluation mode.

        Args:
            x: rows, (rows, features).

        Returns:
            Same shape.
        """
        return self.decode(self.latent_means(x)).mean

    @reading
    @torch.no_grad()
    def reconstruction_log_likelihood(self, x: RowsLike) -> Tensor:
        """Log likelihood of rows given their codes, in nats, in evaluation mode.

        Not a log density of rows.

        Args:
            x: rows, (rows, features).

        Returns:
            (rows,).
        """
        x = self.check(x)
        return self.decode(self.latent_means(x)).log_prob(x)

    def check(self, x: RowsLike) -> Tensor:
        """Check rows.

        Args:
            x: the value to check: a tensor, an array, a list or a data frame.

        Returns:
            The rows as a tensor.

        Raises:
            ValueError: it is not (rows, features), empty, or outside the
                support of the likelihood.
        """
        x = as_tensor(x)
        if not isinstance(x, Tensor) or x.dim() != 2 or x.shape[1] != self.features or not len(x):
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"`x` must have shape (rows, {self.features}) with at least one row, got {got}"
            )
        check_in_support(x, self.likelihood)
        return x


class DenoisingAutoencoder(Autoencoder):
    r"""An autoencoder that learns to undo a corruption of its input, as a regulariser.

    .. math:: \max_{f, g} \sum_n E_{\tilde x \sim C(\tilde x | x_n)} \log p\big(x_n \,\big|\,
        f(g(\tilde x))\big)

    Rows are corrupted in training mode only, differently each time; the target
    stays clean. The identity is then not a solution, even with more codes than
    columns. Under :meth:`from_data` real rows are corrupted standardised, as
    the encoder sees them: a masked cell has its column's mean, and noise is in
    units of the scale.

    Args:
        features: columns of a row.
        latent: numbers in a code.
        size: rows of the whole data set, which scales minibatches.
        corruption: from rows to corrupted rows, where it is in training mode,
            such as ``nn.MaskingNoise``, ``nn.SaltAndPepperNoise`` and
            ``nn.GaussianNoise``; None for a quarter of the cells masked.
        hidden: as for :class:`Autoencoder`; so are the others.
        likelihood: the family of the features' distributions.
        encoder: from rows to codes.
        decoder: from codes to the parameters of the distributions.

    Raises:
        ValueError: as :class:`Autoencoder`.

    References:
        Vincent, Larochelle, Bengio and Manzagol (2008), Extracting and
        composing robust features with denoising autoencoders.

    Example:
        >>> from pyro_gen.nn import SaltAndPepperNoise
        >>> autoencoder = DenoisingAutoencoder(6, 2, size=60, corruption=SaltAndPepperNoise(0.2))
        >>> autoencoder(torch.eye(6)).log_prob(torch.eye(6)).shape
        torch.Size([6])
    """

    def __init__(
        self,
        features: int,
        latent: int,
        size: int,
        *,
        corruption: nn.Module | None = None,
        hidden: Sequence[int] = (400, 400),
        likelihood: Conditional = BERNOULLI,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__(
            features,
            latent,
            size,
            hidden=hidden,
            likelihood=likelihood,
            encoder=encoder,
            decoder=decoder,
        )
        self.corruption = MaskingNoise() if corruption is None else corruption


__all__ = ["Autoencoder", "DenoisingAutoencoder"]
