"""Modules in files: what a module was constructed with as JSON, and every tensor
of its state, in one safetensors file.

Reading runs no code from the file: only public classes of the package are
called, with plain values. Over header and tensors lies a checksum, which the
format itself has not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import cache, singledispatchmethod
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import networkx as nx
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

import pyro_gen.nn
from pyro_gen import distributions, infer, models
from pyro_gen._files import json_text, replacing
from pyro_gen._module import Module

FORMAT = "pyro_gen.save, version 1"
ARGUMENT = "construction/"
"""Before the names of tensors that are arguments of constructors; the others are the state."""
FUNCTIONS = {name: getattr(torch, name) for name in ("exp", "relu", "sigmoid", "tanh")}
FUNCTIONS |= {name: getattr(nn.functional, name) for name in ("elu", "gelu", "silu", "softplus")}
PLAIN = bool | int | float | str
T = TypeVar("T")


def save(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a module of `pyro_gen.nn` or `pyro_gen.models` into a file.

    The file is in the safetensors format, which other programs read too. It
    holds every parameter and buffer, Markov chains and random keys included,
    under their names in ``state_dict``, and the arguments of the constructor.
    An existing file is replaced in one step.

    Networks and functions of your own, such as an encoder, cannot be written:
    their parameters are, and `load` takes an object of the same kind for each.

    Args:
        module: the module, on any device and in any dtype.
        path: the file, usually with the ending ``.safetensors``. Missing
            folders are made.

    Raises:
        ValueError: `module` is not of a public class of the package, its
            state holds more than tensors, or it could not be read back, as
            when a weight is sampled. Nothing is written then.

    Example:
        >>> file = getfixture("tmp_path") / "made.safetensors"
        >>> made = pyro_gen.nn.MADE(6, [20])
        >>> save(made, file)
        >>> x = torch.ones(2, 6)
        >>> torch.equal(load(file)().log_prob(x), made().log_prob(x))
        True
    """
    writer = _Writer()
    content = writer.module(module, "")
    if "class" not in content:
        raise ValueError(
            "`module` must be a module of pyro_gen.nn or pyro_gen.models, got "
            f"{type(module).__name__}"
        )
    state = module.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(
                f"`module` must have a state of tensors, got {type(value).__name__} as {name!r}"
            )
    tensors = {name: _on_cpu(tensor) for name, tensor in (state | writer.tensors).items()}
    header = {
        "module": content,
        "training": [name for name, part in module.named_modules() if part.training],
        "shared": _shared(module),
        "frozen": [
            name for name, parameter in module.named_parameters() if not parameter.requires_grad
        ],
    }
    metadata = {
        "format": "pt",
        "pyro_gen": FORMAT,
        "version": pyro_gen.__version__,
        "header": json_text(header),
    }
    with replacing(path) as part:
        save_file(tensors, part, metadata | {"sha256": _checksum(tensors, metadata)})
        try:
            load(part, **deepcopy(writer.parts))
        except ValueError as error:
            raise ValueError(f"`module` could not be read back: {error.__cause__}") from error


def load(path: str | os.PathLike[str], **parts: Any) -> Any:
    """Read a module that `save` wrote, bit for bit.

    No generator is touched. The file may come from a stranger: nothing in it is
    executed, and no tensor much larger than the file is made.

    Args:
        path: the file.
        **parts: the networks and functions of your own that the module was
            constructed with, each under the name of its argument:
            ``encoder=...``. The parameters in the file are loaded into them.
            Parts of parts have dotted names: ``**{"density.encoder": ...}``.

    Returns:
        The module on the CPU, with the dtypes, settings and modes that were
        saved.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or foreign, or a part is missing,
            unknown or does not fit. The message names the file; the parts stay
            as they were.

    Example:
        >>> file = getfixture("tmp_path") / "vae.safetensors"
        >>> vae = models.VAE(6, 2, size=100, encoder=nn.Linear(6, 4))
        >>> save(vae, file)
        >>> load(file, encoder=nn.Linear(6, 4)).encoder.weight.equal(vae.encoder.weight)
        True
    """
    path = Path(path)
    tensors, header, version = _opened(path)
    _check_parts(path, header["module"], parts)
    arguments = {name: tensor for name, tensor in tensors.items() if name.startswith(ARGUMENT)}
    state = {name: tensor for name, tensor in tensors.items() if name not in arguments}
    reader = _Reader(arguments, parts)
    try:
        with torch.random.fork_rng(devices=[]), _Bounded(tensors):
            module = reader.value(header["module"])
            _share(module, header["shared"])
        _load_state(module, state)
    except Exception as error:  # whatever the constructor of another version says
        raise ValueError(
            f"{path}, written by pyro_gen {version}, cannot be read: {error}"
        ) from error
    for name, part in module.named_modules():
        part.training = name in header["training"]
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in header["frozen"])
    return module


def parts(path: str | os.PathLike[str]) -> dict[str, str]:
    """Names and classes of the networks and functions of your own that `load` needs for a file.

    Args:
        path: the file.

    Returns:
        The class or function by the name of the argument.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or foreign.
    """
    return dict(_named_parts(_opened(Path(path))[1]["module"]))


class _Writer:
    """Construction of a module as JSON; the tensors among its arguments are collected."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.parts: dict[str, Any] = {}

    def module(self, module: nn.Module, path: str) -> dict[str, Any]:
        """A module of the package by its class and arguments.

        Any other is a part that `load` is given.
        """
        name = _public_name(module, _modules())
        if name is None or not isinstance(module, Module):
            return self.part(module, path)
        arguments, settings = module.construction
        kind = _modules()[name]
        bound = inspect.signature(kind).bind(*arguments, **settings)
        bound.apply_defaults()
        content = {}
        for argument, value in _named_arguments(bound):
            dotted = f"{path}.{argument}".lstrip(".")
            content[argument] = self.value(_present(module, argument, value), dotted)
        return {"class": name, "arguments": content}

    def part(self, value: Any, path: str) -> dict[str, str]:
        """An object of a user's, which `load` is given."""
        self.parts[path] = value
        return {"part": path, "kind": getattr(value, "__name__", type(value).__name__)}

    @singledispatchmethod
    def value(self, value: Any, path: str) -> Any:
        """A setting of the package by its class and fields, a class or function of torch
        by its name, or a part.
        """
        if _public_name(value, _settings()) is not None:
            fields = {
                key: self.value(entry, f"{path}.{key}")
                for key, entry in _setting_fields(value).items()
            }
            return {"setting": type(value).__name__, "fields": fields}
        name = getattr(value, "__name__", type(value).__name__)
        if isinstance(value, type) and vars(nn).get(name) is value:
            return {"torch": name}
        for key, function in FUNCTIONS.items():
            if function is value:
                return {"function": key}
        return self.part(value, path)

    value.register(nn.Module)(module)

    @value.register(type(None) | bool | int | str)
    def _plain(self, value: Any, path: str) -> Any:
        return value

    @value.register
    def _float(self, value: float, path: str) -> Any:
        if math.isfinite(value):
            return value
        return {"float": str(value)}

    @value.register
    def _number(self, value: np.generic, path: str) -> Any:
        return self.value(value.item(), path)

    @value.register(Tensor | np.ndarray)
    def _tensor(self, value: Any, path: str) -> dict[str, str]:
        self.tensors[ARGUMENT + path] = torch.as_tensor(value)
        return {"tensor": ARGUMENT + path}

    @value.register
    def _dtype(self, value: torch.dtype, path: str) -> dict[str, str]:
        return {"dtype": str(value).removeprefix("torch.")}

    @value.register
    def _graph(self, value: nx.DiGraph, path: str) -> dict[str, Any]:
        return {"graph": self.value([list(value.nodes), list(value.edges)], path)}

    @value.register
    def _list(self, value: list, path: str) -> list[Any]:
        return [self.value(entry, f"{path}.{index}") for index, entry in enumerate(value)]

    @value.register
    def _tuple(self, value: tuple, path: str) -> dict[str, Any]:
        return {"tuple": self.value(list(value), path)}

    @value.register
    def _mapping(self, value: Mapping, path: str) -> dict[str, Any]:
        return {
            "dict": [
                [self.value(key, path), self.value(entry, f"{path}.{key}")]
                for key, entry in value.items()
            ]
        }


class _Reader:
    """Values from JSON, tensors of the file and parts that the user gives."""

    def __init__(self, tensors: Mapping[str, Tensor], parts: Mapping[str, Any]) -> None:
        self.tensors = tensors
        self.parts = parts

    def value(self, content: Any) -> Any:
        """The value that `_Writer.value` wrote."""
        if isinstance(content, list):
            return [self.value(entry) for entry in content]
        if not isinstance(content, dict):
            return content
        for tag, read in self.readers().items():
            if tag in content:
                return read(content)
        raise ValueError(f"its header holds {content}")

    def readers(self) -> dict[str, Callable[[dict[str, Any]], Any]]:
        """Readers of objects, by the key that tells their kind."""
        return {
            "class": lambda content: self.call(_modules(), content["class"], content["arguments"]),
            "setting": lambda content: self.call(
                _settings(), content["setting"], content["fields"]
            ),
            "part": lambda content: self.parts[content["part"]],
            "tensor": lambda content: self.tensors[content["tensor"]].clone(),
            "tuple": lambda content: tuple(self.value(content["tuple"])),
            "dict": lambda content: {
                self.value(key): self.value(entry) for key, entry in content["dict"]
            },
            "float": lambda content: float(content["float"]),
            "dtype": lambda content: _typed(getattr(torch, content["dtype"]), torch.dtype),
            "torch": lambda content: _network(content["torch"]),
            "function": lambda content: FUNCTIONS[content["function"]],
            "graph": lambda content: _graph(*self.value(content["graph"])),
        }

    def call(self, public: Mapping[str, type], name: str, arguments: Mapping[str, Any]) -> Any:
        """An object of a public class."""
        kind = public[name]
        values = {key: self.value(value) for key, value in arguments.items()}
        extra = [
            p.name
            for p in inspect.signature(kind).parameters.values()
            if p.kind is p.VAR_POSITIONAL
        ]
        positional = [entry for key in extra for entry in values.pop(key, ())]
        return kind(*positional, **values)


class _Bounded(TorchDispatchMode):
    """Refusal of constructors that want much more than a file of this size can fill.

    Each operation is run on the meta device first, which tells the size of its results
    before they are allocated; so many layers that no file has them run out of operations.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.most = 1_000_000 + 16 * sum(tensor.numel() for tensor in tensors.values())
        self.operations = 10_000 + 1_000 * len(tensors)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Check the results' sizes, then run the operation."""
        self.operations -= 1
        for size in self._sizes(func, args, kwargs or {}):
            if size > self.most:
                raise ValueError(
                    f"its settings ask for a tensor of {size} numbers, too large for its data"
                )
        if self.operations < 0:
            raise ValueError("its settings ask for more layers than it has data")
        return func(*args, **(kwargs or {}))

    def _sizes(self, func: Any, args: Any, kwargs: Any) -> list[int]:
        """Numbers in the results, as far as the meta device can tell without values."""
        if func.is_view:
            return []
        if "device" in kwargs or not any(
            isinstance(x, Tensor) for x in tree_leaves((args, kwargs))
        ):
            kwargs = {**kwargs, "device": "meta"}
        try:
            moved = tree_map_only(Tensor, lambda x: x.to("meta"), (args, kwargs))
            results = func(*moved[0], **moved[1])
        except (NotImplementedError, RuntimeError, TypeError):
            return []
        return [result.numel() for result in tree_leaves(results) if isinstance(result, Tensor)]


def _named_arguments(bound: inspect.BoundArguments) -> Iterator[tuple[str, Any]]:
    """Arguments by name, those of ``**settings`` among them."""
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            yield from value.items()
        else:
            yield name, value


def _present(module: nn.Module, name: str, value: Any) -> Any:
    """A setting as it is now, where the module keeps it under the argument's name
    and it may have been changed.
    """
    now = getattr(module, name, value)
    if isinstance(now, PLAIN) and (value is None or type(now) is type(value)):
        return now
    if _public_name(now, _settings()) is not None:
        return now
    return value


def _setting_fields(setting: Any) -> dict[str, Any]:
    """Fields of a setting that its constructor takes, but for an identity that it made itself."""
    fields = [field for field in dataclasses.fields(setting) if field.init]
    return {
        field.name: getattr(setting, field.name)
        for field in fields
        if field.default_factory is not object
    }


def _public_name(value: Any, public: Mapping[str, type]) -> str | None:
    """Name of the class of an object, also where Pyro has made the module a PyroModule."""
    kind = type(value)
    if (
        kind.__name__.startswith("Pyro")
        and len(kind.__mro__) > 1
        and kind.__module__.startswith("pyro.")
    ):
        kind = next(
            (base for base in kind.__mro__[1:] if not base.__name__.startswith("Pyro")), kind
        )
    if public.get(kind.__name__) is kind:
        return kind.__name__
    return None


@cache
def _modules() -> dict[str, type]:
    """Public modules by name."""
    return _public(lambda kind: issubclass(kind, nn.Module), pyro_gen.nn, models)


@cache
def _settings() -> dict[str, type]:
    """Public frozen settings by name: units, conditional distributions, negative
    phases, structures.
    """
    return _public(dataclasses.is_dataclass, distributions, infer, pyro_gen.nn, models)


def _public(fits: Callable[[type], bool], *homes: Any) -> dict[str, type]:
    public = {name: getattr(home, name) for home in homes for name in home.__all__}
    return {name: kind for name, kind in public.items() if isinstance(kind, type) and fits(kind)}


def _typed(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"its header holds {value!r} for a {kind.__name__}")
    return value


def _network(name: str) -> type[nn.Module]:
    kind = getattr(nn, name)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"its header holds {name!r} for a module of torch")
    return kind


def _graph(nodes: list[Any], edges: list[Any]) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(edges)
    return graph


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()


def _content_of(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except Exception as error:  # a broken header raises whatever its first broken part raises
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error


def _opened(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Tensors, header and the version that wrote it, with the checksum verified."""
    tensors, metadata = _content_of(path)
    checksum = metadata.pop("sha256", "")
    if metadata.get("pyro_gen") != FORMAT:
        raise ValueError(
            f"{path} must be a file of pyro_gen.save ({FORMAT}), got {metadata.get('pyro_gen')!r}"
        )
    if checksum != _checksum(tensors, metadata):
        raise ValueError(f"{path} is corrupt: its checksum does not fit its content")
    return tensors, json.loads(metadata["header"]), metadata["version"]


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of metadata and tensors, whatever their order."""
    digest = hashlib.sha256(json_text(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_parts(path: Path, content: Any, supplied: Mapping[str, Any]) -> None:
    """Every part that the file names is supplied, and no other."""
    kinds = dict(_named_parts(content))
    for name, kind in kinds.items():
        if name not in supplied:
            raise ValueError(
                f"{path} was saved with a {kind} of yours as `{name}`: pass load(path, {name}=...)"
            )
    if unknown := sorted(supplied.keys() - kinds.keys()):
        raise ValueError(f"{path} has no part {unknown[0]!r}, only {sorted(kinds)}")


def _named_parts(content: Any) -> Iterator[tuple[str, str]]:
    if isinstance(content, dict) and "part" in content:
        yield content["part"], content["kind"]
        return
    for entry in (
        content.values()
        if isinstance(content, dict)
        else content
        if isinstance(content, list)
        else ()
    ):
        yield from _named_parts(entry)


def _shared(module: nn.Module) -> list[list[str]]:
    """Names of the same module or parameter, where there are several."""
    names: dict[int, list[str]] = {}
    for name, part in [
        *module.named_modules(remove_duplicate=False),
        *module.named_parameters(remove_duplicate=False),
    ]:
        names.setdefault(id(part), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _share(module: nn.Module, groups: list[list[str]]) -> None:
    """Make the names of a group one module or parameter."""
    for first, *others in groups:
        for name in others:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, attrgetter(first)(module))


@torch.no_grad()
def _load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state in its own dtypes and numbers of chains.

    After an error the module is as it was.
    """
    parameters = [*module.named_parameters(remove_duplicate=False)]
    buffers = [*module.named_buffers(remove_duplicate=False)]
    before = [(tensor, tensor.data, tensor.data.clone()) for _, tensor in parameters + buffers]
    for name, tensor in parameters + buffers:
        if name in state:
            tensor.data = tensor.data.to(state[name].dtype)
    for name, tensor in buffers:
        if name in state and tensor.ndim and tensor.shape[1:] == state[name].shape[1:]:
            tensor.data = torch.empty_like(state[name])
    try:
        module.load_state_dict(dict(state))
    except Exception:
        for tensor, data, values in before:
            tensor.data = data.copy_(values)
        raise


__all__ = ["load", "parts", "save"]
