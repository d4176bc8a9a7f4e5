"""Checks of every op's operands before a path is chosen: the fast paths read memory by address."""

from __future__ import annotations

from torch import Tensor

from pyro_gen.kernels.parameters import RBMParameters


def check_parameters(parameters: RBMParameters) -> None:
    """Check that the biases fit the weights.

    Raises:
        ValueError: a size, dtype or device is another.
    """
    weight, vbias, hbias = parameters
    if weight.dim() < 2:
        raise ValueError(
            f"`weight` must have shape (..., visible, hidden), got {tuple(weight.shape)}"
        )
    check_units("vbias", vbias, weight, weight.shape[-2])
    check_units("hbias", hbias, weight, weight.shape[-1])


def check_chains(v: Tensor, parameters: RBMParameters, chain_offset: int) -> None:
    """Check the operands of a sampler, and that the chains' numbers fit the 32 bits
    that the counter has for them.

    Args:
        v: states (..., visible), a chain a row.
        parameters: of the RBM.
        chain_offset: global index of the first chain.

    Raises:
        ValueError: they do not.
    """
    check_parameters(parameters)
    check_units("v", v, parameters.weight, parameters.weight.shape[-2])
    check_chain_numbers(chain_offset, v.shape[:-1].numel())


def check_units(name: str, x: Tensor, weight: Tensor, units: int) -> None:
    """Check one tensor whose last dimension runs over the units of a side.

    Args:
        name: of the argument, for the message.
        x: the tensor.
        weight: what it must fit.
        units: the size of its last dimension.

    Raises:
        ValueError: size, dtype or device is another.
    """
    if x.dim() < 1 or x.shape[-1] != units:
        raise ValueError(
            f"`{name}` must have shape (..., {units}) to match `weight`, got {tuple(x.shape)}"
        )
    if x.dtype != weight.dtype or x.device != weight.device:
        raise ValueError(
            f"`{name}` must be {weight.dtype} on {weight.device} like `weight`, got {x.dtype} on "
            f"{x.device}"
        )


def check_chain_numbers(chain_offset: int, chains: int) -> None:
    """Check that the chains' numbers fit the 32 bits that the counter has for them.

    Args:
        chain_offset: global index of the first chain.
        chains: how many there are.

    Raises:
        ValueError: they do not.
    """
    if chain_offset < 0 or chain_offset + chains > 2**32:
        raise ValueError(
            f"`chain_offset` must lie in [0, 2**32 - chains], got {chain_offset} with {chains} "
            "chains"
        )
