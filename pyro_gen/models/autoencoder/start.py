"""Initialisation of a decoder at the marginal distributions of the features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyro_gen.distributions import Conditional
from pyro_gen.nn import ConvolutionalDecoder, Dense
from pyro_gen.nn.standardisation import Standardisation


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


__all__ = ["start_decoder"]
