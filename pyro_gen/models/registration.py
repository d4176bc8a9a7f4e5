"""A module in Pyro's parameter store: the one that is called is the one that learns."""

from __future__ import annotations

import pyro
from torch import nn


def register(name: str, module: nn.Module) -> None:
    """Call ``pyro.module`` after parameters of another module under this name have left the store.

    Pyro keeps the first module of a name, so of two models in one program (a loop over settings makes such) the second
    would compute with its own parameters while SVI trains the first one's, without a word.

    Args:
        name: the name in the store.
        module: the module whose own parameters learn.
    """
    store = pyro.get_param_store()
    for key, parameter in module.named_parameters():
        kept = f"{name}$$${key}"
        if kept in store and store[kept] is not parameter:
            del store[kept]
    pyro.module(name, module)


__all__ = ["register"]
