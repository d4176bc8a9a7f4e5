"""The state of whatever learning changes: taken as tensors and plain values, put back into the same objects in place.

Modules, torch optimisers and schedulers, Pyro's optimisers and parameter store, generators: each under a name.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from pyro.optim import PyroOptim
from pyro.params.param_store import ParamStoreDict
from torch import Tensor

METHODS = (("state_dict", "load_state_dict"), ("get_state", "set_state"))


def collect(state: Mapping[str, Any], scheduler: Any) -> dict[str, Any]:
    """Name everything that learning changes, the scheduler included, and see that each thing has a state."""
    entries = dict(state)
    if scheduler is not None and all(scheduler is not entry for entry in entries.values()):
        if "scheduler" in entries:
            raise ValueError("`state` must not call another object 'scheduler' than the one given as `scheduler`")
        entries["scheduler"] = scheduler
    for name, entry in entries.items():
        if not any(all(hasattr(entry, method) for method in pair) for pair in METHODS):
            methods = "state_dict and load_state_dict, or get_state and set_state"
            raise ValueError(f"`state` must hold objects with {methods}, got {type(entry).__name__} as {name!r}")
    return entries


def kinds(entries: Mapping[str, Any]) -> dict[str, str]:
    """Name the class of every entry."""
    return {name: _kind(entry) for name, entry in entries.items()}


def _kind(entry: Any) -> str:
    """Pyro's optimisers are known by the torch classes that they construct."""
    makers = [getattr(entry, name, None) for name in ("pt_scheduler_constructor", "pt_optim_constructor")]
    names = [getattr(kind, "__name__", "") for kind in (type(entry), *makers)]
    return " of ".join(filter(None, names))


def capture(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Give the state of every entry; its tensors are the entry's own."""
    return {name: _get(entry) for name, entry in entries.items()}


def load(entries: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Load every entry, or raise a ValueError and leave all of them as they were."""
    before = deepcopy(capture(entries))
    _check_layout(before, saved)
    for name in entries:
        try:
            _set(entries[name], saved[name])
        except Exception as error:  # whatever a foreign load_state_dict raises
            for other in entries:
                _set(entries[other], before[other])
            hint = "what makes its parameters at its first call, as an autoguide does, must be called once before"
            raise ValueError(f"`{name}` cannot take the state that was saved ({hint}): {error}") from error


def _check_layout(expected: Any, saved: Any) -> None:
    """A tensor that is in both must have the same type and shape: torch would cast and broadcast silently."""
    ours, theirs = _layout(expected), _layout(saved)
    for path in ours:
        if path in theirs and ours[path] != theirs[path]:
            raise ValueError(f"`{path}` must be {ours[path]}, got {theirs[path]}")


def _layout(state: Any, path: str = "") -> dict[str, str]:
    """Describe every tensor in nested mappings by its dotted path."""
    if isinstance(state, Tensor):
        return {path: f"{str(state.dtype).removeprefix('torch.')} of shape {tuple(state.shape)}"}
    items = state.items() if isinstance(state, Mapping) else ()
    return {key: text for name, value in items for key, text in _layout(value, f"{path}.{name}".lstrip(".")).items()}


def _get(entry: Any) -> Any:
    if isinstance(entry, ParamStoreDict):  # its own get_state holds constraints, which weights_only refuses
        return {name: parameter.detach() for name, parameter in entry.named_parameters()}
    if isinstance(entry, PyroOptim):  # a loaded state waits there until its parameter is stepped
        return entry._state_waiting_to_be_consumed | entry.get_state()
    return entry.state_dict() if hasattr(entry, "state_dict") else entry.get_state()


def _set(entry: Any, saved: Any) -> None:
    if isinstance(entry, ParamStoreDict):
        _set_parameters(dict(entry.named_parameters()), saved)
    elif isinstance(entry, PyroOptim):
        entry.optim_objs.clear()  # it takes up a waiting state only where it has not seen the parameter yet
        entry._state_waiting_to_be_consumed.clear()
        entry.set_state(saved)
    elif hasattr(entry, "load_state_dict"):
        entry.load_state_dict(saved)
    else:
        entry.set_state(saved)


def _set_parameters(parameters: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    """Copy in place, because modules and guides hold the very tensors of the parameter store."""
    if parameters.keys() != saved.keys():
        raise ValueError(f"the parameters must be {sorted(parameters)}, got {sorted(saved)}")
    with torch.no_grad():
        for name, value in saved.items():
            parameters[name].copy_(value)


def get_random() -> dict[str, Any]:
    """Give the states of the global generators of torch, numpy and Python."""
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": random.getstate(),
    }


def set_random(saved: Mapping[str, Any]) -> None:
    """Put back what `get_random` gave, on as many CUDA devices as there are now."""
    torch.set_rng_state(saved["torch"])
    torch.cuda.set_rng_state_all(saved["cuda"][: torch.cuda.device_count()])
    np.random.set_state(tuple(saved["numpy"]))
    random.setstate(saved["python"])
