"""Files of the package rbms: read as it writes them, written as it reads them, and refused with a reason."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from pyro_gen import interop
from pyro_gen.infer import ContrastiveDivergence, PersistentChains
from pyro_gen.nn import RBM
from tests.interop.damage import damaged, refusals

pytestmark = pytest.mark.filterwarnings("ignore:.* has no checksum, as files of the package rbms are")  # `layout` is
WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 7


def layout(path: Path, updates: tuple[int, ...] = (1, 20, 3), **changes: Any) -> Path:
    """A file in the layout of rbms 0.5; update n has n times the weights. `changes` replace entries, None drops one."""
    entries: dict[str, Any] = {
        "model_type": "BBRBM",
        "parallel_chains": np.eye(5, 4, dtype=np.float32),
        "hyperparameters/gibbs_steps": 7,
    }
    for n in updates:
        entries |= {
            f"update_{n}/params/weight_matrix": n * WEIGHT,
            f"update_{n}/params/vbias": n * np.ones(4, np.float32),
            f"update_{n}/params/hbias": -n * np.ones(3, np.float32),
        }
    with h5py.File(path, "w") as file:
        for name, value in (entries | changes).items():
            if value is not None:
                file[name] = value
    return path


def test_the_last_update_is_read_with_its_chains_and_sweeps(tmp_path: Path) -> None:
    rbm = interop.read_rbms(layout(tmp_path / "RBM.h5"))
    assert torch.equal(rbm.weight, torch.from_numpy(20 * WEIGHT))
    assert torch.equal(rbm.vbias, torch.full((4,), 20.0))
    assert torch.equal(rbm.hbias, torch.full((3,), -20.0))
    assert rbm.negative_phase == PersistentChains(num_chains=5, num_steps=7)
    assert torch.equal(rbm.chains, torch.eye(5, 4))
    assert torch.equal(rbm.base_rates, torch.full((4,), 2 / 7))


def test_an_earlier_update_is_read(tmp_path: Path) -> None:
    assert torch.equal(interop.read_rbms(layout(tmp_path / "RBM.h5"), update=3).weight, torch.from_numpy(3 * WEIGHT))


def test_settings_go_to_the_module(tmp_path: Path) -> None:
    rbm = interop.read_rbms(layout(tmp_path / "RBM.h5"), negative_phase=ContrastiveDivergence(2), num_steps=9)
    assert (rbm.negative_phase, rbm.num_steps, len(rbm.chains)) == (ContrastiveDivergence(2), 9, 0)
    other = interop.read_rbms(tmp_path / "RBM.h5", negative_phase=PersistentChains(50))
    assert (other.chains.sum(-1) <= 1).all()  # rows of the file's chains


def test_files_of_older_versions_are_read(tmp_path: Path) -> None:
    old: dict[str, Any] = {"update_2/weight_matrix": WEIGHT, "update_2/vbias": np.zeros(4, np.float32)}
    old |= {"update_2/hbias": np.zeros(3, np.float32), "model_type": None, "hyperparameters/gibbs_steps": None}
    rbm = interop.read_rbms(layout(tmp_path / "RBM.h5", updates=(), **old))
    assert torch.equal(rbm.weight, torch.from_numpy(WEIGHT))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("phase", [PersistentChains(11, 3), ContrastiveDivergence(3)], ids=str)
def test_there_and_back_is_bit_for_bit(dtype: torch.dtype, phase: Any, tmp_path: Path) -> None:
    rbm = RBM(6, 3, negative_phase=phase).to(dtype)
    interop.write_rbms(tmp_path / "RBM.h5", rbm, update=40)
    back = interop.read_rbms(tmp_path / "RBM.h5", update=40)
    for one, other in zip(rbm.uncentred, back.parameters(), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert back.negative_phase == PersistentChains(len(rbm.chains) or 100, 3)
    assert torch.equal(back.chains[: len(rbm.chains)], rbm.chains)


def test_a_failing_write_spares_the_file(tmp_path: Path) -> None:
    file = layout(tmp_path / "RBM.h5")
    before = file.read_bytes()
    with pytest.raises(TypeError):
        interop.write_rbms(file, RBM(6, 3), hyperparameters={"seed": object()})
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["RBM.h5"]


def test_updates_count_from_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`update` must be at least 1, got 0"):
        interop.write_rbms(tmp_path / "RBM.h5", RBM(6, 3), update=0)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "potts": ({"model_type": "PBRBM"}, r"must hold a Bernoulli-Bernoulli RBM \(BBRBM\), got PBRBM"),
    "weights": ({"update_20/params/weight_matrix": WEIGHT.T}, r"visible biases must have shape \(3,\), got \(4,\)"),
    "bias": ({"update_20/params/hbias": np.zeros(2)}, r"hidden biases must have shape \(3,\), got \(2,\)"),
    "nan": ({"update_20/params/vbias": np.full(4, np.nan)}, "visible biases must be finite"),
    "dropped": ({"update_20/params/vbias": None}, "has no vbias in /update_20/params, only hbias, weight_matrix"),
    "width": (
        {"parallel_chains": np.zeros((5, 3))},
        r"`parallel_chains` must hold .* of shape \(chains, 4",
    ),
    "spins": ({"parallel_chains": -np.ones((5, 4))}, "`parallel_chains` must hold zeros and ones"),
    "sweeps": ({"hyperparameters/gibbs_steps": "many"}, "is not a readable rbms file: invalid literal"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_with_another_content_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    changes, message = WRONG[name]
    with pytest.raises(ValueError, match=rf"RBM\.h5.*{message}"):
        interop.read_rbms(layout(tmp_path / "RBM.h5", **changes))


def test_a_missing_update_is_an_error_that_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"RBM\.h5 has no update 2, only 1, 3, 20"):
        interop.read_rbms(layout(tmp_path / "RBM.h5"), update=2)
    with pytest.raises(ValueError, match=r"RBM\.h5 has no update None, only none at all"):
        interop.read_rbms(layout(tmp_path / "RBM.h5", updates=()))


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no rbms file .*RBM\.h5"):
        interop.read_rbms(tmp_path / "RBM.h5")


def test_a_damaged_file_gives_the_weights_or_an_error_that_names_it(tmp_path: Path) -> None:
    """Truncated anywhere, one bit flipped anywhere: checksums lie over all arrays that this package writes."""
    file, rbm = tmp_path / "RBM.h5", RBM(40, 30)
    interop.write_rbms(file, rbm)

    def same(back: RBM) -> bool:
        return all(map(torch.equal, (*rbm.uncentred, rbm.chains), (*back.parameters(), back.chains)))

    assert refusals(file, damaged(file.read_bytes(), 200), interop.read_rbms, same) > 100


def test_a_file_without_a_checksum_is_read_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"RBM\.h5 has no checksum"):
        interop.read_rbms(layout(tmp_path / "RBM.h5"))


@pytest.mark.parametrize("name", ["hyperparameters/gibbs_steps", "parallel_chains", "update_1/params/weight_matrix"])
def test_the_checksum_lies_over_numbers_that_are_written_in_place(name: str, tmp_path: Path) -> None:
    file = tmp_path / "RBM.h5"
    interop.write_rbms(file, RBM(6, 3))
    interop.read_rbms(file)
    with h5py.File(file, "a") as opened:
        opened[name][...] = opened[name][()] + 1
    with pytest.raises(ValueError, match=r"RBM\.h5 is corrupt: its checksum does not fit"):
        interop.read_rbms(file)


def test_a_file_that_the_package_wrote_on_warns_and_a_lost_update_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "RBM.h5"
    interop.write_rbms(file, RBM(6, 3), update=5)
    with h5py.File(file, "a") as opened:
        opened.copy("update_5", "update_9")
        opened["parallel_chains"][...] = 1 - opened["parallel_chains"][()]
    with pytest.warns(UserWarning, match="was written to after its checksum"):
        interop.read_rbms(file)
    with h5py.File(file, "a") as opened:
        del opened["update_5"]
    with pytest.raises(ValueError, match="corrupt"):
        interop.read_rbms(file)


def elsewhere(kind: str, path: Path, other: Path) -> None:
    """A data set of the file in another place: of this file by a soft link, of another one in four ways."""
    name = "update_20/params/weight_matrix"
    (other.parent / "raw").write_bytes(WEIGHT.tobytes())
    with h5py.File(path, "a") as file:
        del file[name]
        if kind == "external link":
            file[name] = h5py.ExternalLink(str(other), f"/{name}")
        elif kind == "soft link":
            file[name] = h5py.SoftLink("/update_1/params/weight_matrix")
        elif kind == "external storage":
            file.create_dataset(name, (4, 3), "f4", external=[(str(other.parent / "raw"), 0, 48)])
        elif kind == "virtual":
            virtual = h5py.VirtualLayout((4, 3), "f4")
            virtual[:] = h5py.VirtualSource(str(other), name, (4, 3))
            file.create_virtual_dataset(name, virtual)
        else:
            del file["update_20"]
            file["update_20"] = h5py.ExternalLink(str(other), "/update_20")


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual", "external group"])
def test_what_lies_elsewhere_is_not_read(kind: str, tmp_path: Path) -> None:
    file, other = layout(tmp_path / "RBM.h5"), layout(tmp_path / "other.h5")
    elsewhere(kind, file, other)
    with pytest.raises(ValueError, match=r"RBM\.h5.*(links are not followed|in other files, which are not read)"):
        interop.read_rbms(file)


def test_a_shape_beyond_what_is_stored_is_refused_before_it_is_made(tmp_path: Path) -> None:
    file = layout(tmp_path / "RBM.h5")
    with h5py.File(file, "a") as opened:
        del opened["parallel_chains"]
        opened.create_dataset("parallel_chains", (10**9, 10**6), "f4", chunks=(10, 10))
    with pytest.raises(ValueError, match=r"RBM\.h5: `parallel_chains` must hold 4e?0*.* bytes for its shape"):
        interop.read_rbms(file)
    with h5py.File(file, "a") as opened:
        del opened["parallel_chains"]
        opened.create_dataset("parallel_chains", data=np.zeros((5, 4)), compression="gzip")
    assert not interop.read_rbms(file).chains.any()


@pytest.fixture
def package() -> Any:
    """The package itself, which the extra `bench` brings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it scripts functions, which torch deprecates
        pytest.importorskip("rbms")
        import rbms.io
        import rbms.training.utils
        import rbms.utils
    return rbms


@pytest.fixture
def quietly() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_the_package_loads_what_is_written_here(package: Any, quietly: None, tmp_path: Path) -> None:
    rbm, file = RBM(6, 3, negative_phase=PersistentChains(11, 4)), tmp_path / "RBM.h5"
    with torch.no_grad():
        rbm.weight.normal_()
    interop.write_rbms(file, rbm, update=500, hyperparameters={"learning_rate": 0.5})
    assert package.utils.get_saved_updates(str(file)).tolist() == [500]
    theirs, chains, elapsed, settings = package.io.load_model(
        str(file), 500, torch.device("cpu"), torch.float32, restore=True
    )
    assert torch.equal(theirs.weight_matrix, rbm.weight)
    assert torch.equal(theirs.vbias, rbm.uncentred[1])
    assert torch.equal(theirs.hbias, rbm.uncentred[2])
    assert torch.equal(chains["visible"], rbm.chains)
    assert (settings["gibbs_steps"], settings["learning_rate"], elapsed) == (4, 0.5, 0.0)
    x = torch.eye(6)
    torch.testing.assert_close(theirs.compute_energy_visibles(x), rbm.eval()().free_energy(x))


def test_what_the_package_writes_is_read_here(package: Any, quietly: None, tmp_path: Path) -> None:
    file, theirs = str(tmp_path / "RBM.h5"), None
    kind: Callable[..., Any] = package.bernoulli_bernoulli.classes.BBRBM
    theirs = kind(torch.randn(6, 3), torch.randn(6), torch.randn(3))
    sizes: dict[str, int] = {"num_visibles": 6, "num_hiddens": 3, "num_chains": 8, "batch_size": 5, "gibbs_steps": 2}
    rates: dict[str, Any] = {"learning_rate": 0.1, "train_size": 0.5, "seed": 0, "L1": 0.0, "L2": 0.0}
    package.training.utils.create_machine(file, theirs, log=False, flags=["checkpoint"], **sizes, **rates)
    chains = theirs.init_chains(8)
    theirs.weight_matrix += 1
    package.io.save_model(file, theirs, chains, 60, 1.0)
    rbm = interop.read_rbms(file)
    assert torch.equal(rbm.weight, theirs.weight_matrix)
    assert torch.equal(rbm.chains, chains["visible"])
    torch.testing.assert_close(interop.read_rbms(file, update=1).weight, theirs.weight_matrix - 1)


HEAPS = """
import sys, warnings
from pathlib import Path
from pyro_gen import interop
warnings.simplefilter("ignore")
file, good = Path(sys.argv[1]), Path(sys.argv[1]).read_bytes()
heap = good.index(b"GCOL")
for place in (*range(0, 4), *range(8, 18), *range(24, 32), *range(40, 56)):
    for change in (1, 16, 128, 255):
        bad = bytearray(good)
        bad[heap + place] ^= change
        file.write_bytes(bad)
        try:
            interop.read_rbms(file)
        except ValueError as error:
            print("refused" if str(file) in str(error) else f"{place}, {change}: {error}")
"""
"""Reads a file once for each damage to the heap of its text; in a process of its own, as HDF5 cannot be interrupted."""


def test_a_damaged_heap_is_refused_where_hdf5_would_read_for_ever(tmp_path: Path) -> None:
    """Files of `rbms` keep the text `model_type` in a heap without checksums, whose lengths HDF5 believes."""
    file = layout(tmp_path / "RBM.h5", updates=(1,))
    command = [sys.executable, "-c", HEAPS, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    lines = done.stdout.split("\n")[:-1]
    assert set(lines) == {"refused"}
    assert len(lines) > 80
