"""Networks that are PyroModules: their weights are drawn when they are called, and looked at afterwards."""

from __future__ import annotations

import copy
from typing import TypeVar

from pyro.nn import PyroModule
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def snapshot(network: M) -> M:
    """The network with the weights that Pyro gives it now, for a density to keep.

    A PyroModule draws weights with priors, and registers the others, when they are read while it is called; a density
    reads them later. Where nothing is a PyroModule the network itself is returned.

    Args:
        network: the network.

    Returns:
        A view of it, whose weights are the values read just now.

    Raises:
        ValueError: weights came in a batch, as under vectorised particles.
    """
    return _view(network) if any(isinstance(module, PyroModule) for module in network.modules()) else network


def _view(module: M) -> M:
    new = copy.copy(module)
    if isinstance(module, PyroModule):
        new.__dict__ |= {name: _drawn(module, name) for name in _weights(module)}
    new.__dict__["_modules"] = {name: child and _view(child) for name, child in module._modules.items()}
    if isinstance(new, nn.RNNBase):  # which keeps a list of its weights besides
        new.__dict__["_flat_weights"] = [getattr(new, name) for name in new._flat_weights_names]
    return new


def _weights(module: PyroModule) -> list[str]:
    """Names of what Pyro gives a module of its own."""
    given = [*module.__dict__.get("_pyro_params", ()), *module.__dict__.get("_pyro_samples", ())]
    return given + [name for name in module._parameters if not name.endswith("_unconstrained")]


def _drawn(module: PyroModule, name: str) -> Tensor | None:
    value: Tensor | None = getattr(module, name)
    prior = module.__dict__.get("_pyro_samples", {}).get(name)
    if value is not None and hasattr(prior, "shape") and value.shape != prior.shape():
        raise ValueError(
            f"weights `{name}` must have shape {tuple(prior.shape())}, got {tuple(value.shape)}: a network takes one "
            "value of each weight, so draw them outside of plates and do not vectorise particles"
        )
    return value


__all__ = ["snapshot"]
