"""Every reader of binary files, on damaged ones: what was written comes back, or an error that names the file.

A reader that is new and not in ``READERS`` fails a test. Text formats (BIF, XMLBIF, UAI, CSV) carry no checksum, and a
digit in place of another is a network like any other: they are left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import pyro_gen
from pyro_gen import datasets, interop, saving, training
from pyro_gen.infer import PersistentChains
from pyro_gen.nn import RBM
from tests.interop.damage import damaged, longer_members, overwritten, redirected, refusals, twins
from tests.runs import same

PACKAGE = Path(training.__file__).parent


class Reader(NamedTuple):
    """How a small file is written and read back, and whether it is a zip file."""

    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    is_zip: bool = True


def _rows() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    made: dict[str, Any] = {"D": 11, "shape": np.array([1, 11]), "classes": np.array(["a", "b"])}
    for split in ("train", "valid", "test"):
        made[split] = np.packbits(generator.random((6, 11)) < 0.5, axis=1)
        made[f"y_{split}"] = np.arange(6, dtype=np.uint8) % 2
    return made


def _images() -> dict[str, Any]:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    return {"x_train": images, "y_train": np.arange(2), "x_test": images[:1], "y_test": np.arange(1)}


def _rbm() -> RBM:
    torch.manual_seed(0)
    return RBM(5, 3, negative_phase=PersistentChains(4, 2))


def _read_rbms(path: Path) -> list[Any]:
    torch.manual_seed(1)  # of the key of further chains, which such a file has not
    return _of_module(interop.read_rbms(path))


def _of_module(rbm: RBM) -> list[Any]:
    return [rbm.state_dict(), str(rbm.negative_phase), rbm.training]


class _Run:
    """A run of two epochs that writes a checkpoint, or goes on from one without a step."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.weight = torch.nn.Linear(3, 2)
        self.optimizer = torch.optim.Adam(self.weight.parameters())

    def step(self, x: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = self.weight(x).square().sum()
        loss.backward()
        self.optimizer.step()
        return loss

    def fit(self, path: Path) -> Any:
        state = {"weight": self.weight, "optimizer": self.optimizer}
        history = training.fit(self.step, [torch.eye(3)], 2, state=state, checkpoint=path, progress=False)
        return [history, self.weight.state_dict(), self.optimizer.state_dict()]

    def read(self, path: Path) -> Any:
        history = training.read_checkpoint(path, {"weight": self.weight, "optimizer": self.optimizer})
        return [history, self.weight.state_dict(), self.optimizer.state_dict()]

    def save(self, path: Path) -> None:
        training.Checkpoint(path, {"weight": self.weight, "optimizer": self.optimizer}).save(step=3)

    def restore(self, path: Path) -> Any:
        state = {"weight": self.weight, "optimizer": self.optimizer}
        numbers = training.Checkpoint(path, state).restore(step=0)
        return [numbers, self.weight.state_dict(), self.optimizer.state_dict()]


READERS = {
    "datasets.load": Reader(lambda path: np.savez(path, **_rows()), lambda path: vars(datasets.load(path))),
    "datasets.load, deflated": Reader(
        lambda path: np.savez_compressed(path, **_rows()), lambda path: vars(datasets.load(path))
    ),
    "datasets.load_gray": Reader(lambda path: np.savez(path, **_images()), lambda path: vars(datasets.load_gray(path))),
    "interop.read_rbms": Reader(lambda path: interop.write_rbms(path, _rbm()), _read_rbms, False),
    "saving.load": Reader(
        lambda path: pyro_gen.save(_rbm(), path), lambda path: _of_module(pyro_gen.load(path)), False
    ),
    "training.read_checkpoint": Reader(lambda path: _Run(0).fit(path) and None, lambda path: _Run(1).read(path)),
    "training.Checkpoint": Reader(lambda path: _Run(0).save(path), lambda path: _Run(1).restore(path)),
    "training.fit": Reader(lambda path: _Run(0).fit(path) and None, lambda path: _Run(1).fit(path)),
}


def test_every_reader_of_binary_files_is_tested_here() -> None:
    """Public functions whose module opens zip, HDF5 or safetensors files, and that take a path or a name of one."""
    found = set()
    for module in (datasets, interop, saving, training):
        for name in module.__all__:
            function = getattr(module, name)
            taken = inspect.signature(function).parameters if inspect.isfunction(function) else {}
            if name.split("_")[0] not in ("write", "save") and {"path", "name", "checkpoint"} & set(taken):
                found.add(f"{module.__name__.removeprefix('pyro_gen.')}.{name}")
    found.remove("saving.parts")  # which opens as `load` does
    found -= {"datasets.load_images", "datasets.split", "datasets.available"}  # these open none but by `load`
    found.add("training.Checkpoint")
    assert found == {name.split(",")[0] for name in READERS}
    opening = ("zipfile.", "np.load(", "torch.load(", "h5py.File(", "safe_open(")
    files = {str(f.relative_to(PACKAGE)) for f in PACKAGE.rglob("*.py") if any(x in f.read_text() for x in opening)}
    known = {"_archives.py", "_sources.py", "training.py", "interop/rbms_files.py", "saving.py"}
    assert files - {"testing/checks/placement.py"} == known  # a round trip through memory


def contents(good: bytes, is_zip: bool, flips: int) -> Iterator[bytes]:
    yield from damaged(good, flips)
    yield from overwritten(good, flips // 3)
    if is_zip:
        yield from list(redirected(good))[:: 1 if flips > 1000 else 5]
        yield from longer_members(good)
        yield from twins(good)


@pytest.mark.filterwarnings("ignore:.* checksum, as files of the package rbms are")
@pytest.mark.parametrize("flips", [60, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_gives_what_was_written_or_an_error_that_names_it(name: str, flips: int, tmp_path: Path) -> None:
    reader, file = READERS[name], tmp_path / ("file.npz" if "datasets" in name else "file")
    reader.write(file)
    good = file.read_bytes()
    written = reader.read(file)
    refused = refusals(file, contents(good, reader.is_zip, flips), reader.read, lambda back: same(back, written))
    assert refused > 60
