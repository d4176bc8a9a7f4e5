"""Networks of an autoencoder: from rows to distributions of latent variables and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor, nn

from pyro_gen._arguments import whole_number, whole_numbers
from pyro_gen._rows import as_tensor, unfit
from pyro_gen.distributions import Conditional, Factorised, GaussianConditional
from pyro_gen.models.latent import LatentModel
from pyro_gen.nn import (
    AutoregressiveNetwork,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    Dense,
    IndependentPrior,
    StandardNormal,
    VampPrior,
)
from pyro_gen.nn.standardisation import Standardisation, standardisation


class RowCoder(LatentModel):
    """A model/guide pair with an encoder from rows to distributions of z, and a decoder back.

    Args:
        features: number of features of a row, or the shape of an event.
        latent: number of latent variables.
        size: rows of the whole data set, which scales minibatches.
        likelihood: the family of the features' distributions, or an
            autoregressive network with a context.
        latent_distribution: the family of the latent variables.
        prior: a module whose call returns the distribution of z; None for
            standard normal numbers, or independent ones.

    Raises:
        ValueError: a size is below 1, or parts do not fit each other.
    """

    encoder: nn.Module
    decoder: nn.Module
    like: Tensor
    standard: Standardisation | None
    """Location and scale of real features under a :class:`Conditional`.

    An autoregressive likelihood has its own.
    """

    def __init__(
        self,
        features: int | Sequence[int],
        latent: int,
        size: int,
        likelihood: Conditional | AutoregressiveNetwork,
        latent_distribution: Conditional,
        prior: nn.Module | None,
    ) -> None:
        event = Size(whole_numbers("features", features))
        latent = whole_number("latent", latent)
        if prior is None:
            normal = isinstance(latent_distribution, GaussianConditional)
            if normal:
                prior = StandardNormal(latent)
            else:
                prior = IndependentPrior(latent, latent_distribution)
        if isinstance(prior, VampPrior) and not isinstance(
            latent_distribution, GaussianConditional
        ):
            raise ValueError(
                "`prior` must not be a VampPrior unless `latent_distribution` is Gaussian, got "
                f"{latent_distribution}"
            )
        super().__init__(event.numel(), size, prior)
        self.event_shape = event
        self.latent = latent
        self.latent_distribution = latent_distribution
        self.likelihood = likelihood
        self.register_buffer("like", torch.empty(0), persistent=False)
        self._check_likelihood()
        self.standard = standardisation(likelihood, event.numel())

    @property
    def example(self) -> Tensor:
        """Any of the weights: their dtype, and where they are."""
        return next(self.parameters(), self.like)  # weights with priors are no parameters

    @property
    def conditional(self) -> Conditional:
        """The family of the features' distributions."""
        if isinstance(self.likelihood, AutoregressiveNetwork):
            return self.likelihood.conditional
        return self.likelihood

    def inputs(self, x: Tensor) -> Tensor:
        """Encoder's input for rows: standardised where they are real, and as the
        likelihood encodes them.

        Args:
            x: rows, (...) + event shape.

        Returns:
            (...) + event shape, with one dimension behind where a feature has
            several numbers.
        """
        if x.shape[-len(self.event_shape) :] != self.event_shape:
            raise ValueError(
                f"`{self.site}` must have shape (...) + {tuple(self.event_shape)}, got "
                f"{tuple(x.shape)}"
            )
        batch = x.shape[: x.dim() - len(self.event_shape)]
        flat = x.reshape(*batch, -1)
        if isinstance(self.likelihood, AutoregressiveNetwork):
            standard = self.likelihood.standard
        else:
            standard = self.standard
        standardised = flat if standard is None else standard().seen(flat)
        code = self.conditional.encode(standardised).to(self.example.dtype)
        width = code.shape[-1:] if code.shape[-1] > 1 else ()
        return code.reshape(*batch, *self.event_shape, *width)

    def check(self, x: Tensor) -> Tensor:
        """Check rows.

        Args:
            x: the value to check: a tensor, an array, a list or a data frame.

        Returns:
            The rows as a tensor.

        Raises:
            ValueError: it is not (rows,) + event shape, empty, or outside the
                support of the likelihood.
        """
        x = as_tensor(x)
        if not isinstance(x, Tensor) or x.shape[1:] != self.event_shape or not len(x):
            expected = f"(rows,) + {tuple(self.event_shape)} with at least one row"
            raise ValueError(f"`{self.site}` must have shape {expected}, got {described(x)}")
        support = self.conditional.support(self.visible)
        if not support.check(x.flatten(1)).all():
            raise ValueError(
                f"`{self.site}` must lie in the support of the likelihood, {support}, "
                f"got {unfit(x)}"
            )
        return x

    def _distribution(
        self, z: Tensor, code: Tensor, validate_args: bool | None = None
    ) -> TorchDistribution:
        """The distribution of a row from the decoder's inputs."""
        batch = z.shape[:-1]
        out: Tensor = self.decoder(code.reshape(-1, code.shape[-1])).to(code.dtype)
        if isinstance(self.likelihood, AutoregressiveNetwork):
            _check_outputs("decoder", out, (self.likelihood.context,))
            return self.likelihood(out.reshape(*batch, -1))
        shape = self.visible, self.likelihood.num_parameters
        _check_outputs("decoder", out, shape)
        parameters = out.reshape(*batch, *shape)
        valid = self.likelihood.valid(self.visible)
        if valid is not None:
            parameters = parameters.masked_fill(~valid.to(parameters.device), -math.inf)
        if self.standard is not None:
            parameters = self.standard().raw(parameters)
        return Factorised(self.likelihood, parameters, self.event_shape, validate_args)

    def _outputs(self, inputs: Tensor) -> Tensor:
        """Selection of the parameters of the latent variables' distributions, (...,
        latent, parameters).
        """
        batch = inputs.shape[: inputs.dim() - self._input_dim]
        out = self._one_tensor(self.encoder(inputs.reshape(-1, *inputs.shape[len(batch) :])))
        out = out.to(inputs.dtype)
        shape = self.latent, self.latent_distribution.num_parameters
        _check_outputs("encoder", out, shape)
        parameters = out.reshape(*batch, *shape)
        valid = self.latent_distribution.valid(self.latent)
        if valid is None:
            return parameters
        return parameters.masked_fill(~valid.to(parameters.device), -math.inf)

    def _one_tensor(self, out: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Outputs of the encoder as one tensor; it may give a pair (loc, scale)."""
        if isinstance(out, Tensor):
            return out
        if not (self._gaussian and isinstance(out, tuple) and len(out) == 2):
            kind = f"a {type(out).__name__}"
            raise ValueError(
                "`encoder` must return a tensor of the latent variables' parameters, or for "
                f"Gaussian ones a pair (loc, scale), got {kind}"
            )
        loc, scale = out
        if not (scale > 0).all():
            raise ValueError("`encoder` must return (loc, scale) with scales above 0")
        return torch.stack([loc, scale.log()], -1)

    @property
    def _input_dim(self) -> int:
        """Dimensions of what the encoder is given for one row."""
        return len(self.event_shape) + (self.conditional.width > 1)

    def _latent_distribution(self, inputs: Tensor) -> TorchDistribution:
        parameters = self._outputs(inputs)
        if self._gaussian:
            return self.latent_distribution.distribution(parameters).to_event(1)
        return Factorised(self.latent_distribution, parameters)

    def _posterior(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations, for a VampPrior."""
        mean, log_scale = self._outputs(inputs).unbind(-1)
        return mean, log_scale.exp()

    @property
    def _gaussian(self) -> bool:
        return isinstance(self.latent_distribution, GaussianConditional)

    def _check_likelihood(self) -> None:
        likelihood = self.likelihood
        if isinstance(likelihood, Conditional):
            return likelihood.check(self.visible)
        if not isinstance(likelihood, AutoregressiveNetwork):
            raise ValueError(
                "`likelihood` must be a distribution such as BernoulliConditional(), or an "
                "autoregressive network, "
                f"got {type(likelihood).__name__}"
            )
        if likelihood.event_shape != self.event_shape or not likelihood.context:
            raise ValueError(
                f"`likelihood` must be a network of events {tuple(self.event_shape)} with a "
                "context, "
                f"got events {tuple(likelihood.event_shape)} and context {likelihood.context}"
            )

    @property
    def _decoded(self) -> int:
        """Numbers that the decoder gives for a row."""
        if isinstance(self.likelihood, AutoregressiveNetwork):
            return self.likelihood.context
        return self.visible * self.likelihood.num_parameters

    @property
    def _coded(self) -> int:
        """Numbers that the decoder is given for a row."""
        return self.latent * self.latent_distribution.width

    def _encoder(self, network: str, hidden: Sequence[int]) -> nn.Module:
        _check_kind(network)
        outputs = self.latent * self.latent_distribution.num_parameters
        width = self.conditional.width
        if network == "dense":
            return Dense(self.visible * width, hidden, outputs)
        return ConvolutionalEncoder(self.event_shape, outputs, width=width)

    def _decoder(self, network: str, hidden: Sequence[int]) -> nn.Module:
        if network == "dense" or isinstance(self.likelihood, AutoregressiveNetwork):
            return Dense(self._coded, tuple(hidden)[::-1], self._decoded)
        return ConvolutionalDecoder(self._coded, self.event_shape, self.likelihood.num_parameters)


def _check_kind(network: str) -> None:
    """Raise unless it names a kind of network."""
    if network not in ("dense", "convolutional"):
        raise ValueError(f"`network` must be 'dense' or 'convolutional', got {network!r}")


def _check_outputs(name: str, out: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless a network gave as many numbers for a row as it should."""
    if out[0].numel() != math.prod(shape):
        raise ValueError(
            f"`{name}` must return (rows,) + {shape}, in any shape of as many, got "
            f"{tuple(out.shape)}"
        )


def described(x: object) -> object:
    """The shape of a tensor, for a message, or the kind of anything else."""
    if isinstance(x, Tensor):
        return tuple(x.shape)
    return type(x).__name__


__all__ = ["RowCoder", "described"]
