"""A module in Pyro's parameter store, once."""

from __future__ import annotations

import pyro
import torch
from torch import nn


def register(name: str, module: nn.Module) -> None:
    """Call ``pyro.module``, and raise where a module that learns finds another one under its name.

    Pyro would train the other one's parameters and leave these as they are, without a word: a loop over settings makes
    such models. In ``eval()`` or under ``no_grad`` nothing learns, and any number of modules may be judged.

    Args:
        name: the name in the store.
        module: the module whose own parameters learn.

    Raises:
        ValueError: the store's parameters under this name belong to another module.
    """
    pyro.module(name, module)
    if not (module.training and torch.is_grad_enabled()):
        return
    store = pyro.get_param_store()
    for key, parameter in module.named_parameters():
        kept = f"{name}$$${key}"
        if kept in store and store._params[kept] is not parameter:
            raise ValueError(
                f"Pyro's parameter store holds another {name!r}, which would learn in this one's place: call "
                "pyro.clear_param_store() before a second model"
            )


__all__ = ["register"]
