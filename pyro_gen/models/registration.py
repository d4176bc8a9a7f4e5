"""A module in Pyro's parameter store, once."""

from __future__ import annotations

import pyro
from torch import nn


def register(name: str, module: nn.Module) -> None:
    """Call ``pyro.module``, and raise where the store holds another module under this name.

    Pyro would then train the other one's parameters and leave these as they are, without a word: a loop over settings
    makes such models.

    Args:
        name: the name in the store.
        module: the module whose own parameters learn.

    Raises:
        ValueError: the store's parameters under this name belong to another module.
    """
    pyro.module(name, module)
    store = pyro.get_param_store()
    for key, parameter in module.named_parameters():
        kept = f"{name}$$${key}"
        if kept in store and store._params[kept] is not parameter:
            raise ValueError(
                f"Pyro's parameter store holds another {name!r}, which would learn in this one's place: call "
                "pyro.clear_param_store() before a second model"
            )


__all__ = ["register"]
