"""Networks of an autoencoder: defaults, start, and outputs as parameters of distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Size, Tensor, nn

from pyro_gen._rows import unfit
from pyro_gen.distributions import BernoulliConditional, Conditional, GaussianConditional
from pyro_gen.nn import (
    AutoregressiveNetwork,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    Dense,
    IndependentPrior,
    StandardNormal,
    VampPrior,
)
from pyro_gen.nn.standardisation import Standardisation

BERNOULLI = BernoulliConditional()
RowLikelihood = Conditional | AutoregressiveNetwork


def latent_prior(prior: nn.Module | None, latent: int, family: Conditional) -> nn.Module:
    """The prior of latent variables: the one given, or independent ones of their family."""
    gaussian = isinstance(family, GaussianConditional)
    if prior is None:
        return StandardNormal(latent) if gaussian else IndependentPrior(latent, family)
    if isinstance(prior, VampPrior) and not gaussian:
        raise ValueError(
            "`prior` must not be a VampPrior unless `latent_distribution` is Gaussian, got "
            f"{family}"
        )
    return prior


def check_likelihood(likelihood: RowLikelihood, event_shape: Size) -> None:
    """Raise unless a likelihood is a family or a network with a context, of rows of a shape."""
    if isinstance(likelihood, Conditional):
        return likelihood.check(event_shape.numel())
    if not isinstance(likelihood, AutoregressiveNetwork):
        raise ValueError(
            "`likelihood` must be a distribution such as BernoulliConditional(), or an "
            f"autoregressive network, got {type(likelihood).__name__}"
        )
    if likelihood.event_shape != event_shape or not likelihood.context:
        raise ValueError(
            f"`likelihood` must be a network of events {tuple(event_shape)} with a context, "
            f"got events {tuple(likelihood.event_shape)} and context {likelihood.context}"
        )


def check_in_support(x: Tensor, family: Conditional) -> None:
    """Raise unless rows (rows, ...) lie in the support of a family."""
    support = family.support(x[0].numel())
    if not support.check(x.flatten(1)).all():
        raise ValueError(
            f"`x` must lie in the support of the likelihood, {support}, got {unfit(x)}"
        )


def default_encoder(
    network: str, hidden: Sequence[int], event_shape: Size, width: int, outputs: int
) -> nn.Module:
    """A network from rows, of ``width`` numbers a feature, to ``outputs`` numbers."""
    if network == "dense":
        return Dense(event_shape.numel() * width, hidden, outputs)
    if network == "convolutional":
        return ConvolutionalEncoder(event_shape, outputs, width=width)
    raise ValueError(f"`network` must be 'dense' or 'convolutional', got {network!r}")


def default_decoder(
    network: str, hidden: Sequence[int], inputs: int, event_shape: Size, likelihood: RowLikelihood
) -> nn.Module:
    """A network from ``inputs`` numbers to the parameters, or the context, of a likelihood."""
    if isinstance(likelihood, AutoregressiveNetwork):
        return Dense(inputs, tuple(hidden)[::-1], likelihood.context)
    if network == "dense":
        outputs = event_shape.numel() * likelihood.num_parameters
        return Dense(inputs, tuple(hidden)[::-1], outputs)
    return ConvolutionalDecoder(inputs, event_shape, likelihood.num_parameters)


def check_outputs(name: str, out: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless a network gave as many numbers for a row as it should."""
    if out[:1].numel() != min(len(out), 1) * math.prod(shape):
        raise ValueError(
            f"`{name}` must return (rows,) + {shape}, in any shape of as many, got "
            f"{tuple(out.shape)}"
        )


def as_parameters(
    name: str, out: Tensor, batch: Size, variables: int, family: Conditional
) -> Tensor:
    """A network's outputs as parameters of distributions, batch + (variables, parameters)."""
    shape = variables, family.num_parameters
    check_outputs(name, out, shape)
    parameters = out.reshape(*batch, *shape)
    valid = family.valid(variables)
    if valid is None:
        return parameters
    return parameters.masked_fill(~valid.to(parameters.device), -math.inf)


def joined(out: Tensor | tuple[Tensor, Tensor], family: Conditional) -> Tensor:
    """An encoder's outputs as one tensor; of Gaussian variables it may give (loc, scale)."""
    if isinstance(out, Tensor):
        return out
    pair = isinstance(out, tuple) and len(out) == 2
    if not pair or not isinstance(family, GaussianConditional):
        raise ValueError(
            "`encoder` must return a tensor of the latent variables' parameters, or for "
            f"Gaussian ones a pair (loc, scale), got a {type(out).__name__}"
        )
    loc, scale = out
    if not (scale > 0).all():
        raise ValueError("`encoder` must return (loc, scale) with scales above 0")
    return torch.stack([loc, scale.log()], -1)


def described(x: object) -> object:
    """The shape of a tensor, for a message, or the kind of anything else."""
    if isinstance(x, Tensor):
        return tuple(x.shape)
    return type(x).__name__


@torch.no_grad()
def start_decoder(
    decoder: nn.Module, likelihood: Conditional, standard: Standardisation | None, x: Tensor
) -> None:
    """Start a decoder at the marginal distributions of rows, real features at their
    location and scale.

    A decoder of real features then gives hardly more than the marginal
    distributions. One of discrete features keeps its random weights, which add
    to the bias. Convolutional decoders of discrete features and custom networks
    are left unchanged.

    Args:
        decoder: from latent variables to parameters.
        likelihood: the family of the features' distributions.
        standard: units of real features; None for others.
        x: rows, (rows,) + event shape.
    """
    rows = x.flatten(1)
    if standard is None:
        if isinstance(decoder, Dense):
            decoder.start_at(likelihood.start(rows))
        return
    rows = standard.start_at(rows, x.shape[1:])
    if isinstance(decoder, Dense | ConvolutionalDecoder):
        decoder.start_at(likelihood.start(rows), standard.readout_share)


__all__ = [
    "BERNOULLI",
    "RowLikelihood",
    "as_parameters",
    "check_in_support",
    "check_likelihood",
    "check_outputs",
    "default_decoder",
    "default_encoder",
    "described",
    "joined",
    "latent_prior",
    "start_decoder",
]
