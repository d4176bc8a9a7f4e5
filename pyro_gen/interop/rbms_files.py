"""HDF5 files of the package ``rbms`` (Python, PyPI): a group of weights for each
saved update, and the chains.

The layout, as its version 0.5 writes it: ``model_type`` ("BBRBM": Bernoulli on
both sides), ``parallel_chains`` (chains, visible) of the last update, the group
``hyperparameters``, and for each saved update a group ``update_<n>`` with
``params/weight_matrix`` (visible, hidden), ``params/vbias``, ``params/hbias``,
the generators' states, ``time``. Older versions kept the weights in
``update_<n>`` itself, and still find them there.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyro_gen._arguments import whole_number
from pyro_gen._files import replacing
from pyro_gen._optional import require
from pyro_gen.distributions.log_z.negative_phase import PersistentChains
from pyro_gen.interop.hdf5_files import WrongFileError, checksum, member, values
from pyro_gen.interop.weights import array, arrays, build, start_chains
from pyro_gen.nn import RBM

WEIGHTS = ("weight_matrix", "vbias", "hbias")
PREFIX = "update_"
CHECKSUM = "pyro_gen_sha256"
"""Attribute of the file with the checksum; a second one names the updates that it lies over."""


def read_rbms(path: str | os.PathLike[str], update: int | None = None, **settings: Any) -> RBM:
    """Read the weights and the chains of a file that the package ``rbms`` wrote.

    Args:
        path: the HDF5 file.
        update: which of the saved updates; the last one by default. The chains
            are those of the last one always, for the file holds no others.
        **settings: ``negative_phase``, ``evaluation`` and further keyword
            arguments of `pyro_gen.nn.RBM`. Without a ``negative_phase`` the
            module goes on with the file's chains and number of Gibbs sweeps.

    Returns:
        A module with the file's dtype.

    Raises:
        ImportError: h5py is not installed.
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, corrupt, of another model than
            Bernoulli-Bernoulli, has no such update, or refers to other files;
            the message names the file and the reason.

    Warns:
        UserWarning: no checksum lies over the content, as `write_rbms` writes
        one and ``rbms`` does not.

    References:
        N. Béreux, A. Decelle, C. Furtlehner, L. Rosset, B. Seoane and others,
        rbms 0.5, https://github.com/DsysDML/rbms

    Example:
        >>> file = getfixture("tmp_path") / "RBM.h5"
        >>> rbm = RBM(6, 3)
        >>> write_rbms(file, rbm)
        >>> torch.equal(read_rbms(file).weight, rbm.weight)
        True
    """
    path = Path(path)
    content = _read_update(path, update)
    chains = content.pop("chains")
    num_steps = content.pop("gibbs_steps")
    if unchecked := content.pop("unchecked"):
        warnings.warn(
            f"{path} {unchecked}, as files of the package rbms are: damage that leaves it "
            "readable would go unseen",
            stacklevel=2,
        )
    settings.setdefault("negative_phase", PersistentChains(max(1, len(chains)), num_steps))
    weight, vbias, hbias = (content[name] for name in WEIGHTS)
    rbm = build(str(path), weight, vbias, hbias, settings)
    if chains.shape[1:] != (len(rbm.vbias),) or not np.isin(chains, (0, 1)).all():
        expected = f"zeros and ones of shape (chains, {len(rbm.vbias)})"
        raise ValueError(
            f"{path}: `parallel_chains` must hold {expected}, got {chains.dtype} of shape "
            f"{chains.shape}"
        )
    start_chains(rbm, torch.from_numpy(chains.astype(np.float64)))
    return rbm


def _read_update(path: Path, update: int | None) -> dict[str, Any]:
    """The arrays of one update; every way in which a broken file fails becomes one error."""
    h5py = require("h5py", "pyro_gen.interop", "interop")
    if not path.is_file():
        raise FileNotFoundError(f"there is no rbms file {path}")
    try:
        with h5py.File(path, "r") as file:
            return _content(file, path, update)
    except WrongFileError as error:
        raise ValueError(str(error)) from None
    except (
        Exception
    ) as error:  # h5py and HDF5 raise half a dozen classes on files that were cut or overwritten
        raise ValueError(f"{path} is not a readable rbms file: {error}") from error


def _content(file: Any, path: Path, update: int | None) -> dict[str, Any]:
    saved = _updates(file)
    update_number = saved[-1] if update is None and saved else update
    if update_number not in saved:
        raise WrongFileError(
            f"{path} has no update {update_number}, only "
            f"{', '.join(map(str, saved)) or 'none at all'}"
        )
    unchecked = _why_unchecked(file, path, saved)
    kind = values(file, "model_type")
    if kind is not None and kind != b"BBRBM":
        raise WrongFileError(
            f"{path} must hold a Bernoulli-Bernoulli RBM (BBRBM), got {kind.decode()}"
        )
    name = f"{PREFIX}{update_number}"
    if member(file, f"{name}/params") is not None:
        name = f"{name}/params"
    content = {key: values(file, f"{name}/{key}") for key in WEIGHTS}
    if missing := [key for key in WEIGHTS if content[key] is None]:
        group = file[name]
        raise WrongFileError(
            f"{path} has no {', '.join(missing)} in {group.name}, only {', '.join(group)}"
        )
    chains = values(file, "parallel_chains")
    sweeps = values(file, "hyperparameters/gibbs_steps")
    content["chains"] = np.empty((0, len(content["vbias"]))) if chains is None else chains
    content["gibbs_steps"] = 1 if sweeps is None else int(sweeps)
    return content | {"unchecked": unchecked}


def _updates(file: Any) -> list[int]:
    """Numbers of the saved updates, ascending."""
    names = [key.removeprefix(PREFIX) for key in file if key.startswith(PREFIX)]
    return sorted(int(name) for name in names if name.isdecimal())


def _why_unchecked(file: Any, path: Path, saved: list[int]) -> str:
    """Reason why no checksum can show damage, empty where one does.

    Raises:
        WrongFileError: the checksum does not fit the content.
    """
    if CHECKSUM not in file.attrs:
        return "has no checksum"
    covered = [int(n) for n in file.attrs[f"{CHECKSUM}_updates"]]
    if set(covered) < set(saved):  # the package rbms trained on, and wrote over the chains
        return "was written to after its checksum"
    if covered != saved or file.attrs[CHECKSUM].decode() != checksum(file, _covered(saved)):
        raise WrongFileError(f"{path} is corrupt: its checksum does not fit its content")
    return ""


def _covered(updates: list[int]) -> list[str]:
    """Names of the data sets that the checksum covers.

    ``rbms`` adds other data sets at the top.
    """
    return ["model_type", "parallel_chains", "hyperparameters", *(f"{PREFIX}{n}" for n in updates)]


def write_rbms(
    path: str | os.PathLike[str],
    rbm: RBM,
    update: int = 1,
    hyperparameters: Mapping[str, Any] | None = None,
) -> None:
    """Write a file that the package ``rbms`` reads, samples from and goes on training.

    The file is new and holds one update; one that was there is replaced, in one
    step. Arrays and headers (those of HDF5 1.10) carry checksums, which HDF5
    itself checks on reading; an attribute of the file holds one over all it
    contains, which `read_rbms` checks.

    Args:
        path: the HDF5 file. Missing folders are made.
        rbm: a module with Bernoulli units. Without chains of its own, the file
            gets 100 rows drawn from the visible biases, since ``rbms`` needs
            some.
        update: number of gradient updates that led here, at least 1.
        hyperparameters: what ``rbms`` goes on with: ``batch_size``,
            ``learning_rate``, ``L1``, ``L2`` and others of its names, over its
            own defaults.

    Raises:
        ImportError: h5py is not installed.
        ValueError: `rbm` is no RBM of Bernoulli units with weights of its own,
            or `update` is below 1.

    Example:
        >>> file = getfixture("tmp_path") / "RBM.h5"
        >>> write_rbms(file, RBM(6, 3), update=500)
        >>> read_rbms(file, update=500).weight.shape
        torch.Size([6, 3])
    """
    h5py = require("h5py", "pyro_gen.interop", "interop")
    update = whole_number("update", update)
    weights = dict(zip(WEIGHTS, arrays(rbm), strict=True))
    chains = array(_chains(rbm))
    with replacing(path) as part, h5py.File(part, "w", libver=("v110", "v110")) as file:
        # of fixed length, as all texts here: see `checksum`
        file["model_type"] = np.bytes_("BBRBM")
        file.create_dataset("parallel_chains", data=chains, fletcher32=True)
        for name, value in (
            _hyperparameters(rbm, len(chains), str(path)) | dict(hyperparameters or {})
        ).items():
            file[f"hyperparameters/{name}"] = _fixed(value)
        group = file.create_group(f"{PREFIX}{update}")
        for name, values in weights.items():
            # one array, two names
            group[name] = group.create_dataset(f"params/{name}", data=values, fletcher32=True)
        group["flags/checkpoint"] = group["save_checkpoint"] = True
        group["time"] = 0.0
        group["torch_rng_state"] = torch.get_rng_state().numpy()
        for number, value in enumerate(np.random.get_state()):
            group[f"numpy_rng_arg{number}"] = _fixed(value)
        file.attrs[CHECKSUM] = np.bytes_(checksum(file, _covered([update])))
        file.attrs[f"{CHECKSUM}_updates"] = [update]


def _fixed(value: Any) -> Any:
    """A text with its length, anything else as it is."""
    if isinstance(value, str):
        return np.bytes_(value.encode())
    return value


@torch.no_grad()
def _chains(rbm: RBM) -> torch.Tensor:
    if len(rbm.chains):
        return rbm.particles()
    return torch.bernoulli(rbm.uncentred[1].sigmoid().expand(100, -1))


def _hyperparameters(rbm: RBM, num_chains: int, filename: str) -> dict[str, Any]:
    """The module's own settings, and the defaults of ``rbms`` for what belongs to its training."""
    visible, hidden = rbm.weight.shape
    return {
        "num_visibles": visible,
        "num_hiddens": hidden,
        "num_chains": num_chains,
        "gibbs_steps": getattr(rbm.negative_phase, "num_steps", 100),
        "filename": filename,
        "batch_size": 2000,
        "learning_rate": 0.01,
        "train_size": 0.6,
        "seed": int(rbm.seed) % 10**12,
        "L1": 0.0,
        "L2": 0.0,
    }


__all__ = ["read_rbms", "write_rbms"]
