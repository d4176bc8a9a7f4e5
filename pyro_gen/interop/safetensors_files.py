"""A whole module in one safetensors file: every tensor of its state, and its sizes and settings as metadata.

Reading such a file runs no code. Over names, metadata and tensors lies a checksum, which the format itself has not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pyro.nn import PyroModule
from torch import Tensor

from pyro_gen import distributions, infer
from pyro_gen._files import json_text, replacing
from pyro_gen.distributions.units import Units
from pyro_gen.interop.weights import check_module, require
from pyro_gen.nn import RBM

FORMAT = "pyro_gen.interop, version 2"
SIZES = ("visible", "hidden")
PLAIN = (bool, int, float, str, type(None))


def save_safetensors(rbm: RBM, path: str | os.PathLike[str]) -> None:
    """Write a module with its chains, key and settings into a safetensors file.

    An existing file is replaced in one step. Other readers find the tensors ``weight`` (visible, hidden), ``vbias`` and
    ``hbias``, and the settings as JSON in the metadata.

    Args:
        rbm: the module, on any device.
        path: the file, usually with the ending ``.safetensors``. Missing folders are made.

    Raises:
        ImportError: safetensors is not installed.
        ValueError: `rbm` is no RBM with weights of its own, or a setting holds more than plain values.

    Example:
        >>> file = getfixture("tmp_path") / "rbm.safetensors"
        >>> rbm = RBM(6, 3)
        >>> save_safetensors(rbm, file)
        >>> torch.equal(load_safetensors(file).chains, rbm.chains)
        True
    """
    save_file = require("safetensors.torch", "interop").save_file
    check_module(rbm)
    if type(rbm) is not RBM and not isinstance(rbm, PyroModule):
        raise ValueError(
            f"`rbm` must be a pyro_gen.nn.RBM itself to be read back, got its subclass {type(rbm).__name__}"
        )
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in rbm.state_dict().items()}
    metadata = {
        "format": "pt",  # what transformers and others look for
        "pyro_gen": FORMAT,
        "class": "RBM",
        **{name: str(size) for name, size in zip(SIZES, rbm.weight.shape, strict=True)},
        "training": json_text(rbm.training),
        "settings": json_text({name: _encode(name, getattr(rbm, name)) for name in _settings(rbm)}),
    }
    with replacing(path) as part:
        save_file(state, part, metadata | {"sha256": content_checksum(state, metadata)})


def load_safetensors(path: str | os.PathLike[str]) -> RBM:
    """Read a module that `save_safetensors` wrote, bit for bit; no generator is touched.

    Args:
        path: the file.

    Returns:
        The module, on the CPU, with the dtype, the chains and the settings that were saved.

    Raises:
        ImportError: safetensors is not installed.
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, corrupt or not of a module of pyro_gen; the message names the file.

    Example:
        >>> file = getfixture("tmp_path") / "rbm.safetensors"
        >>> save_safetensors(RBM(6, 3, evaluation=infer.Exact()), file)
        >>> load_safetensors(file)
        RBM(visible=6, hidden=3, ... evaluation=Exact(...))
    """
    path = Path(path)
    state, metadata = _read_tensors(path)
    if metadata.get("pyro_gen") != FORMAT or metadata.get("class") != "RBM":
        header = {name: metadata.get(name) for name in ("pyro_gen", "class")}
        raise ValueError(f"{path} must be a file of save_safetensors ({FORMAT}, class RBM), got {header}")
    if metadata.pop("sha256", "") != content_checksum(state, metadata):
        raise ValueError(f"{path} is corrupt: its checksum does not fit its content")
    try:
        return _module(state, metadata)
    except Exception as error:  # settings or shapes of another version
        raise ValueError(f"{path} does not fit this version of pyro_gen: {error}") from error


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    safe_open = require("safetensors", "interop").safe_open
    if not path.is_file():
        raise FileNotFoundError(f"there is no safetensors file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except Exception as error:  # a broken header raises whatever its first broken part raises
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error


def _module(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> RBM:
    settings = {name: _decode(value) for name, value in json.loads(metadata["settings"]).items()}
    visible, hidden = (int(metadata[name]) for name in SIZES)
    shape = tuple(state["weight"].shape)
    if min(visible, hidden) > 0 and shape != (visible, hidden):  # before anything of that size is made
        raise ValueError(f"size mismatch for weight: metadata say {(visible, hidden)}, got {shape}")
    with torch.random.fork_rng(devices=[]):  # the constructor draws what the state replaces
        rbm = RBM(visible, hidden, **settings).to(state["weight"].dtype)
    rbm.load_state_dict(state)
    return rbm.train(json.loads(metadata["training"]))


def _settings(rbm: RBM) -> list[str]:
    """The constructor's arguments that the module keeps under the same name: all but the sizes."""
    return [name for name in inspect.signature(RBM).parameters if name not in SIZES and hasattr(rbm, name)]


def _encode(name: str, value: Any) -> Any:
    """Plain values as they are; settings, which are frozen dataclasses, by their name and fields."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, tuple):
        return {"tuple": [_encode(name, entry) for entry in value]}
    if type(value) not in _known_settings().values():
        raise ValueError(f"the setting `{name}` cannot be saved, for it holds a {type(value).__name__}: {value}")
    fields = dataclasses.fields(value)
    # What does not show is state of the setting, such as an AIS' identity, unless it was given.
    shown = {f.name for f in fields if f.repr or (f.default is None and getattr(value, f.name) is not None)}
    if isinstance(value, Units):  # whose tensors are parameters of the module, and in its state
        shown -= value.parameters.keys()
    return {"class": type(value).__name__, **{key: _encode(f"{name}.{key}", getattr(value, key)) for key in shown}}


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(_decode(entry) for entry in value["tuple"])
    fields = {key: _decode(entry) for key, entry in value.items() if key != "class"}
    return _known_settings()[value["class"]](**fields)


def _known_settings() -> dict[str, type]:
    """The public settings by name: nothing else is ever called on reading."""
    public = {name: getattr(module, name) for module in (distributions, infer) for name in module.__all__}
    return {name: kind for name, kind in public.items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}


def content_checksum(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of metadata and tensors, whatever their order."""
    digest = hashlib.sha256(json_text(sorted(metadata.items())).encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


__all__ = ["load_safetensors", "save_safetensors"]
