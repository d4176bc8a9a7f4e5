"""A module in Pyro's parameter store: the one that is called is the one that learns."""

from __future__ import annotations

import pyro
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

_PLACED = WeakTensorKeyDictionary()
"""Parameters that modules have put into the store, each with the store's contents
since it was last cleared.
"""


def register(name: str, module: nn.Module) -> None:
    """Call ``pyro.module``, so that the store holds this module's own parameters.

    Pyro keeps the first module of a name, so of two models in one program (a
    loop over settings makes such) the second would compute with its own
    parameters while SVI trains the first one's, without a word: parameters that
    another module has put into the store leave it. Those that came by ``load``
    or ``set_state`` are a user's: their values become the module's, as with
    ``update_module_params=True``.

    Args:
        name: the name in the store.
        module: the module whose own parameters learn.

    Raises:
        ValueError: what was loaded has another shape; nothing has changed then.
    """
    store = pyro.get_param_store()
    # a new one with every `clear`; unlike the parameters it keeps no tensor alive
    contents = store._constraints
    stored = dict(store.named_parameters())
    parameters = {f"{name}$$${key}": parameter for key, parameter in module.named_parameters()}
    fresh = [key for key, parameter in parameters.items() if stored.get(key) is not parameter]
    loaded = [key for key in fresh if key in stored and _PLACED.get(stored[key]) is not contents]
    for key in loaded:
        _check_shape(key, stored[key], parameters[key])
    for key in fresh:
        if key in loaded:
            with torch.no_grad():
                parameters[key].copy_(store[key])
        if key in stored:
            del store[key]
    pyro.module(name, module)
    for key, parameter in store.named_parameters() if fresh else ():
        if key in parameters:
            _PLACED[parameter] = contents


def _check_shape(key: str, loaded: Tensor, parameter: Tensor) -> None:
    if loaded.shape != parameter.shape:
        raise ValueError(
            f"the parameter store holds {key!r} in shape {tuple(loaded.shape)}, from a file or "
            f"another program, and the module has shape {tuple(parameter.shape)}: build the "
            "module as it was saved, or call pyro.clear_param_store()"
        )


__all__ = ["register"]
