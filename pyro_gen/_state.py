"""The state of whatever learning changes: taken as tensors and plain values, put
back into the same objects in place.

Modules, torch optimisers and schedulers, Pyro's optimisers and parameter store,
generators: each under a name. What learns behind a training step is found in
its closure, in the globals that it names, in the attributes of the object that
it is bound to, and in containers of these.
"""

from __future__ import annotations

import dis
import random
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import pyro
import torch
from pyro.optim import PyroOptim
from pyro.optim.multi import MultiOptimizer
from pyro.optim.optim import _load_state_dict
from pyro.params.param_store import ParamStoreDict
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import register_optimizer_step_post_hook

METHODS = (("state_dict", "load_state_dict"), ("get_state", "set_state"))
_DEPTH = 6  # objects between the step and what it holds
_LONGEST = 100  # longer containers hold data
_KEPT = Optimizer, LRScheduler, PyroOptim, GradScaler, nn.Module, torch.Generator
_WITHOUT_STATE = MultiOptimizer, np.random.Generator, np.random.RandomState, random.Random
_CLOSED = Tensor, np.ndarray, str, bytes, int, float, complex, type, ModuleType, *_WITHOUT_STATE


def collect(state: Mapping[str, Any], scheduler: Any) -> dict[str, Any]:
    """Name everything that learning changes, the scheduler included, and see that
    each thing has a state.
    """
    entries = dict(state)
    if scheduler is not None and all(scheduler is not entry for entry in entries.values()):
        if "scheduler" in entries:
            raise ValueError(
                "`state` must not call another object 'scheduler' than the one given as "
                "`scheduler`"
            )
        entries["scheduler"] = scheduler
    for name, entry in entries.items():
        if not any(all(hasattr(entry, method) for method in pair) for pair in METHODS):
            methods = "state_dict and load_state_dict, or get_state and set_state"
            raise ValueError(
                f"`state` must hold objects with {methods}, got {type(entry).__name__} as {name!r}"
            )
    return entries


def kinds(entries: Mapping[str, Any]) -> dict[str, str]:
    """Name the class of every entry."""
    return {name: _kind(entry) for name, entry in entries.items()}


def _kind(entry: Any) -> str:
    """Pyro's optimisers are known by the torch classes that they construct."""
    makers = [
        getattr(entry, name, None) for name in ("pt_scheduler_constructor", "pt_optim_constructor")
    ]
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
            hint = (
                "what makes its parameters at its first call, as an autoguide does, must be "
                "called once before"
            )
            raise ValueError(
                f"`{name}` cannot take the state that was saved ({hint}): {error}"
            ) from error
    modules = {name: entry for name, entry in entries.items() if isinstance(entry, nn.Module)}
    for entry in entries.values():
        if isinstance(entry, PyroOptim):
            _take_up(entry, modules)


def _take_up(optim: PyroOptim, modules: dict[str, nn.Module]) -> None:
    """Give a waiting state to the parameters now, those of `pyro.module` included.

    Pyro itself does at a step.
    """
    store = pyro.get_param_store()
    waiting = optim._state_waiting_to_be_consumed
    for prefix, paths in _by_module([name for name in waiting if name not in store]).items():
        fitting = {id(part): part for part in _with_parameters(modules, paths)}
        called = {id(part): part for part in _with_parameters(modules, paths, prefix)}
        for networks in (called, fitting):
            if len(networks) == 1:
                pyro.module(prefix, next(iter(networks.values())))
                break
    for name in [name for name in waiting if name in store]:
        parameter = store._params[name]
        optim.optim_objs[parameter] = optim._get_optim(parameter)
        optim.grad_clip[parameter] = optim._get_grad_clip(parameter)
        _load_state_dict(optim.optim_objs[parameter], waiting.pop(name))


def _with_parameters(
    modules: dict[str, nn.Module], paths: set[str], name: str = ""
) -> Iterator[nn.Module]:
    """The modules with parameters of just these paths, of this name if one is given."""
    for entry, module in modules.items():
        for path, part in module.named_modules():
            learning = {
                path for path, parameter in part.named_parameters() if parameter.requires_grad
            }
            if learning == paths and name in {"", path.rpartition(".")[2] or entry}:
                yield part


def _by_module(names: list[str]) -> dict[str, set[str]]:
    """Paths of parameters by the name that their module has in Pyro's parameter store."""
    paths: dict[str, set[str]] = {}
    for name in names:
        prefix, mark, path = name.partition("$$$")
        if mark:
            paths.setdefault(prefix, set()).add(path)
    return paths


def _check_layout(expected: Any, saved: Any) -> None:
    """A tensor that is in both must have the same type and shape: torch would cast and
    broadcast silently.
    """
    expected_layout = _layout(expected)
    saved_layout = _layout(saved)
    for path in expected_layout:
        if path in saved_layout and expected_layout[path] != saved_layout[path]:
            raise ValueError(f"`{path}` must be {expected_layout[path]}, got {saved_layout[path]}")


def _layout(state: Any, path: str = "") -> dict[str, str]:
    """Describe every tensor in nested mappings by its dotted path."""
    if isinstance(state, Tensor):
        return {path: f"{str(state.dtype).removeprefix('torch.')} of shape {tuple(state.shape)}"}
    items = state.items() if isinstance(state, Mapping) else ()
    return {
        key: text
        for name, value in items
        for key, text in _layout(value, f"{path}.{name}".lstrip(".")).items()
    }


def _get(entry: Any) -> Any:
    # its own get_state holds constraints, which weights_only refuses
    if isinstance(entry, ParamStoreDict):
        return {name: parameter.detach() for name, parameter in entry.named_parameters()}
    if isinstance(entry, PyroOptim):  # a loaded state waits there until its parameter is stepped
        return entry._state_waiting_to_be_consumed | entry.get_state()
    if hasattr(entry, "state_dict"):
        return entry.state_dict()
    return entry.get_state()


def _set(entry: Any, saved: Any) -> None:
    if isinstance(entry, ParamStoreDict):
        _set_parameters(dict(entry.named_parameters()), saved)
    elif isinstance(entry, PyroOptim):
        # it takes up a waiting state only where it has not seen the parameter
        # yet
        entry.optim_objs.clear()
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
    kind, keys, *position = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [kind, np.asarray(keys).tolist(), *position],
        "python": random.getstate(),
    }


def set_random(saved: Mapping[str, Any]) -> None:
    """Put back what `get_random` gave, on as many CUDA devices as there are now."""
    torch.set_rng_state(saved["torch"])
    torch.cuda.set_rng_state_all(saved["cuda"][: torch.cuda.device_count()])
    np.random.set_state(tuple(saved["numpy"]))
    random.setstate(saved["python"])


def learners(
    roots: Mapping[str, Any], entries: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Find what learns behind `roots` and is not among `entries`.

    Args:
        roots: by name, the step and what else may lead to something that
            learns.
        entries: by name, what a checkpoint holds already.

    Returns:
        By the names of the variables: what has a state that can be kept, and
        what has none.
    """
    named_ids = {id(entry) for entry in entries.values()}
    reached = [pair for pair in _reached(roots) if id(pair[1]) not in named_ids]
    savable = {
        name: thing
        for name, thing in reached
        if _keeps(thing) and not isinstance(thing, nn.Module)
    }
    for name, thing in reached:  # the parts of a module come after it and are then covered
        if (
            isinstance(thing, nn.Module)
            and not _frozen(thing)
            and not _covers(entries | savable, thing)
        ):
            savable[name] = thing
    taken = set(entries)
    named = {_free(name, taken): thing for name, thing in savable.items()}
    return named, {name: thing for name, thing in reached if isinstance(thing, _WITHOUT_STATE)}


def _keeps(thing: Any) -> bool:
    duck = not isinstance(thing, type) and any(
        all(hasattr(thing, method) for method in pair) for pair in METHODS
    )
    return duck and not isinstance(thing, _WITHOUT_STATE)


def _frozen(module: nn.Module) -> bool:
    """True if a module has parameters, none of which learns."""
    flags = [parameter.requires_grad for parameter in module.parameters()]
    return bool(flags) and not any(flags)


def _covers(entries: Mapping[str, Any], module: nn.Module) -> bool:
    return {t.data_ptr() for t in _tensors(module.state_dict())} <= pointers(entries)


def pointers(entries: Mapping[str, Any]) -> set[int]:
    """Addresses of the tensors whose values a checkpoint holds."""
    return {tensor.data_ptr() for tensor in _tensors(capture(entries))}


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for value in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors(value)


def _free(name: str, taken: set[str]) -> str:
    """The last part of a path as a name, and more of the path where that name is taken."""
    path = name.split(".")
    names = [".".join(path[-count:]) for count in range(1, len(path) + 1)]
    numbered = (f"{name}#{number}" for number in range(2, len(taken) + 3))
    free = next(one for one in [*names, *numbered] if one not in taken)
    taken.add(free)
    return free


def _reached(roots: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Everything that learns, or moves as a random number generator does, breadth
    first, each object once.
    """
    visited: set[int] = set()
    level = list(roots.items())
    for _ in range(_DEPTH):
        following = []
        for path, thing in level:
            if id(thing) in visited:
                continue
            visited.add(id(thing))
            if isinstance(thing, _KEPT + _WITHOUT_STATE) or (_foreign(thing) and _keeps(thing)):
                yield path, thing
            following += [(f"{path}.{name}", value) for name, value in _parts(thing)]
        level = following


def _foreign(thing: Any) -> bool:
    """True for an object of a class that neither torch, Pyro nor this package made."""
    return not isinstance(thing, _CLOSED) and _package(type(thing)) not in {
        "torch",
        "pyro",
        "builtins",
        "pyro_gen",
    }


def _package(kind: Any) -> str:
    return str(getattr(kind, "__module__", "")).partition(".")[0]


def _parts(thing: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(thing, MethodType):
        return [("self", thing.__self__), (thing.__name__, thing.__func__)]
    if isinstance(thing, partial):
        return [("func", thing.func), *_numbered(thing.args), *thing.keywords.items()]
    if isinstance(thing, FunctionType):
        return _variables(thing)
    if isinstance(thing, dict | list | tuple | set | frozenset):
        named = thing.items() if isinstance(thing, dict) else enumerate(thing)
        if len(thing) <= _LONGEST:
            return [(str(name), value) for name, value in named]
        return []
    return _attributes(thing)


def _attributes(thing: Any) -> list[tuple[str, Any]]:
    if isinstance(thing, LRScheduler):
        return [("optimizer", thing.optimizer)]
    if isinstance(thing, (*_CLOSED, Optimizer, PyroOptim)):
        return []
    attributes = getattr(thing, "__dict__", {})
    return [(name, value) for name, value in attributes.items() if not _internal(thing, name)]


def _internal(thing: Any, name: str) -> bool:
    """True for an attribute that is torch's own book-keeping of a module.

    Its parts are in its state.
    """
    return isinstance(thing, nn.Module) and name.startswith("_")


def _numbered(things: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(str(number), thing) for number, thing in enumerate(things)]


def _variables(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Variables of the closure, defaults, and the globals that the code names."""
    if _package(function) in {"torch", "pyro", "numpy", "pyro_gen"}:
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from _numbered(function.__defaults__ or ())
    yield from (function.__kwdefaults__ or {}).items()
    yield from (
        (name, function.__globals__[name])
        for name in _globals(function.__code__)
        if name in function.__globals__
    )
    yield from function.__dict__.items()  # what `functools.wraps` wraps


def _globals(code: CodeType) -> list[str]:
    names = [step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"]
    inner = [_globals(part) for part in code.co_consts if isinstance(part, CodeType)]
    return list(dict.fromkeys([*names, *(name for part in inner for name in part)]))


class Steps:
    """The torch optimisers that step while the object is entered, with the
    variables that hold them.
    """

    def __init__(self) -> None:
        self.optimizers: dict[int, tuple[Optimizer, str]] = {}

    def __enter__(self) -> Steps:
        self._handle = register_optimizer_step_post_hook(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.remove()

    def _note(self, optimizer: Optimizer, *_: Any) -> None:
        if id(optimizer) not in self.optimizers:
            self.optimizers[id(optimizer)] = optimizer, _variable(optimizer, sys._getframe(1))


def _variable(thing: Any, frame: FrameType | None) -> str:
    """The variable of a caller outside torch and Pyro that holds an object, or an
    attribute of one.
    """
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] not in {"torch", "pyro"}:
            for name, value in [*frame.f_locals.items(), *frame.f_globals.items()]:
                if value is thing:
                    return name
                attributes = [
                    key for key, part in getattr(value, "__dict__", {}).items() if part is thing
                ]
                if attributes and not isinstance(value, ModuleType):
                    return f"{name}.{attributes[0]}"
        frame = frame.f_back
    return ""


def missing(steps: Steps, entries: Mapping[str, Any], stateless: Mapping[str, Any]) -> list[str]:
    """Describe what learned in the steps that were watched and is in no checkpoint of
    `entries`.
    """
    covered = {id(part) for entry in entries.values() for part in _torch_optimizers(entry)}
    schedulers = {id(getattr(entry, "optimizer", None)) for entry in entries.values()}
    inside = {
        id(part)
        for e in entries.values()
        if isinstance(e, PyroOptim)
        for part in _torch_optimizers(e)
    }
    saved = pointers(entries)
    lines = [_line(thing, name) for name, thing in stateless.items()]
    for optimizer, name in steps.optimizers.values():
        if id(optimizer) not in covered:
            lines.append(_line(optimizer, name))
        elif (
            getattr(optimizer.step, "_wrapped_by_lr_sched", False)
            and id(optimizer) not in schedulers | inside
        ):
            lines.append(f"the scheduler of {_line(optimizer, name)}")
        lost = [
            p
            for group in optimizer.param_groups
            for p in group["params"]
            if p.data_ptr() not in saved
        ]
        if lost:
            lines.append(
                f"{len(lost)} parameters that {_line(optimizer, name)} moves, {_shapes(lost)}"
            )
    return lines


def _torch_optimizers(entry: Any) -> list[Any]:
    if isinstance(entry, PyroOptim):
        optimizers = list(entry.optim_objs.values())
    else:
        optimizers = [entry]
    return [getattr(part, "optimizer", part) if part is not entry else part for part in optimizers]


def _line(thing: Any, name: str) -> str:
    variable = name.rpartition(".")[2] if name.startswith("step") else name
    return f"{type(thing).__name__}" + (f" `{variable}`" if variable else "")


def _shapes(tensors: list[Tensor]) -> str:
    shown = ", ".join(str(tuple(tensor.shape)) for tensor in tensors[:3])
    return f"of shape {shown}" + (", ..." if len(tensors) > 3 else "")


def warn_of(lines: Iterable[str], message: Callable[[str], str]) -> None:
    """Warn once for all of `lines`, at the caller of `fit`."""
    text = "; ".join(dict.fromkeys(lines))
    if text:
        warnings.warn(message(text), UserWarning, stacklevel=3)
