"""Conversion between modules and arrays that every foreign format shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_gen.distributions.units import BernoulliUnits
from pyro_gen.nn import RBM


def build(source: str, weight: Any, vbias: Any, hbias: Any, settings: dict[str, Any]) -> RBM:
    """Make a module of foreign weights.

    Args:
        source: where they come from, for the messages.
        weight: shape (visible, hidden); its floating dtype becomes the
            module's.
        vbias: shape (visible,).
        hbias: shape (hidden,).
        settings: keyword arguments of `pyro_gen.nn.RBM`; ``centring`` is off
            unless given, so that the parameters are bit for bit the input.

    Returns:
        The module, with fresh chains.

    Raises:
        ValueError: shapes or dtypes do not fit, or a number is infinite or
            missing.
    """
    shape = np.shape(weight)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"{source}: the weights must be a matrix (visible, hidden), got shape {shape}"
        )
    for side in ("visible_units", "hidden_units"):
        if not isinstance(settings.get(side, BernoulliUnits()), BernoulliUnits):
            raise ValueError(
                f"{source}: `{side}` must be BernoulliUnits(), as in the file's model, got "
                f"{settings[side]}"
            )
    visible, hidden = shape
    tensors = {
        "weight": _tensor(source, "weights", weight, shape),
        "vbias": _tensor(source, "visible biases", vbias, (visible,)),
        "hbias": _tensor(source, "hidden biases", hbias, (hidden,)),
    }
    rbm = RBM(visible, hidden, **{"centring": False, **settings}).to(tensors["weight"].dtype)
    rbm.set_uncentred(**tensors)
    return rbm


def _tensor(source: str, name: str, values: Any, shape: tuple[int, ...]) -> Tensor:
    array = np.asarray(values)
    if array.shape != shape:
        raise ValueError(f"{source}: the {name} must have shape {shape}, got {array.shape}")
    if array.dtype.kind != "f":
        raise ValueError(f"{source}: the {name} must be floating point numbers, got {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"{source}: the {name} must be finite, got NaN or infinite values")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


@torch.no_grad()
def start_chains(rbm: RBM, states: Tensor) -> None:
    """Start persistent chains, and the rates that AIS anneals from, at states that the
    model visited elsewhere.

    Args:
        rbm: the module; one without chains keeps only the rates.
        states: visible states (rows, visible) in {0, 1}; nothing is done where
            there are none.
    """
    if not len(states):
        return
    states = states.to(rbm.weight.dtype)
    rbm.base_rates.copy_((states.sum(0) + 1) / (len(states) + 2))
    rbm.start_chains(states)


def arrays(rbm: RBM) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Copy the weights of a module of Bernoulli units into numpy.

    Args:
        rbm: the module.

    Returns:
        weight (visible, hidden), vbias and hbias, in double precision where the
        module is, else in single.

    Raises:
        ValueError: it is no RBM, it holds no weights of its own, or its units
            are not Bernoulli.
    """
    check_module(rbm)
    for side in ("visible_units", "hidden_units"):
        units = getattr(rbm, side, None) or BernoulliUnits()
        if not isinstance(units, BernoulliUnits):
            raise ValueError(
                f"`rbm` must have Bernoulli units on both sides for this format, got {side} "
                f"{units}"
            )
    weight, vbias, hbias = (array(x) for x in rbm.uncentred)
    return weight, vbias, hbias


def array(tensor: Tensor) -> np.ndarray:
    """Copy a tensor of any device into numpy, which has single and double precision.

    Args:
        tensor: the tensor.

    Returns:
        An array of its own.
    """
    tensor = tensor.detach().cpu()
    return (
        (tensor if tensor.dtype == torch.float64 else tensor.float()).contiguous().numpy().copy()
    )


def check_module(rbm: Any) -> None:
    """Check that there are weights to take.

    Args:
        rbm: the value to check.

    Raises:
        ValueError: it is no RBM, or its weights are sampled.
    """
    if not isinstance(rbm, RBM):
        raise ValueError(f"`rbm` must be a pyro_gen.nn.RBM, got {type(rbm).__name__}")
    if missing := {"weight", "vbias", "hbias"} - rbm._parameters.keys():
        raise ValueError(
            f"`rbm` must hold its weights as parameters, got none for {', '.join(sorted(missing))}"
        )
