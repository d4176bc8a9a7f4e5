"""Safetensors: the whole module comes back bit for bit, others read its tensors, and no damage goes unseen."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pyro_gen import interop
from pyro_gen.distributions import BernoulliUnits, GaussianUnits, PottsUnits, ReLUUnits
from pyro_gen.infer import (
    AIS,
    ContrastiveDivergence,
    Exact,
    FastPersistentChains,
    NegativePhase,
    PersistentChains,
    TemperedChains,
    WeightedChains,
    contrastive_gradient,
)
from pyro_gen.models import DeepBoltzmannMachine
from pyro_gen.nn import RBM
from tests.interop.damage import damaged, refusals
from tests.runs import same

SETTINGS: list[dict[str, Any]] = [
    {},
    {"negative_phase": ContrastiveDivergence(3), "evaluation": Exact(), "num_steps": 50},
    {"negative_phase": PersistentChains(7, 2), "evaluation": AIS(20, 30)},
    {"negative_phase": None},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_there_and_back_is_the_module(settings: dict[str, Any], dtype: torch.dtype, tmp_path: Path) -> None:
    rbm = RBM(6, 3, **settings).to(dtype).eval()
    interop.save_safetensors(rbm, tmp_path / "rbm.safetensors")
    generator = torch.get_rng_state()
    back = interop.load_safetensors(tmp_path / "rbm.safetensors")
    assert torch.equal(torch.get_rng_state(), generator)
    assert same(back.state_dict(), rbm.state_dict())
    assert repr(back) == repr(rbm)
    assert (back.negative_phase, back.num_steps, back.training) == (rbm.negative_phase, rbm.num_steps, False)


def test_learning_goes_on_bit_for_bit(tmp_path: Path) -> None:
    rbm, x = RBM(6, 3), torch.eye(6)
    contrastive_gradient(rbm, x)
    interop.save_safetensors(rbm, tmp_path / "rbm.safetensors")
    back = interop.load_safetensors(tmp_path / "rbm.safetensors")
    for module in (rbm, back):
        contrastive_gradient(module, x)
    assert torch.equal(rbm.chains, back.chains)
    assert same([p.grad for p in rbm.parameters()], [p.grad for p in back.parameters()])


def test_others_read_the_tensors_and_the_settings(tmp_path: Path) -> None:
    rbm, file = RBM(6, 3), tmp_path / "rbm.safetensors"
    rbm.weight = torch.nn.Parameter(torch.randn(3, 6).T)  # not contiguous
    interop.save_safetensors(rbm, file)
    assert torch.equal(safetensors.torch.load_file(file)["weight"], rbm.weight)
    with safetensors.safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata()
    assert [metadata[name] for name in ("class", "visible", "hidden")] == ["RBM", "6", "3"]
    phase = {"class": "PersistentChains", "num_chains": 100, "num_steps": 1}
    assert json.loads(metadata["settings"])["negative_phase"] == phase


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Every truncation and every flipped bit, because a checksum lies over all of it but the padding."""
    file, rbm = tmp_path / "rbm.safetensors", RBM(6, 3)
    interop.save_safetensors(rbm, file)
    good = file.read_bytes()
    contents = [b"", bytes(len(good)), good + b"x", *damaged(good, 300)]

    def unharmed(back: RBM) -> bool:  # where only a space of the header became another one
        return same(back.state_dict(), rbm.state_dict())

    assert refusals(file, contents, interop.load_safetensors, unharmed) > 315


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no safetensors file .*rbm\.safetensors"):
        interop.load_safetensors(tmp_path / "rbm.safetensors")


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors must be a file of save_safetensors .* got .*: None"):
        interop.load_safetensors(tmp_path / "other.safetensors")


def forged(path: Path, state: dict[str, Tensor], **metadata: str) -> Path:
    """A file with a right checksum over a wrong content, as another version might write it."""
    from pyro_gen.interop.safetensors_files import FORMAT, content_checksum

    kept = {"format": "pt", "pyro_gen": FORMAT, "class": "RBM", "visible": "6", "hidden": "3", "training": "true"}
    kept |= {"settings": "{}"} | metadata
    safetensors.torch.save_file(state, path, kept | {"sha256": content_checksum(state, kept)})
    return path


FORGERIES: dict[str, tuple[dict[str, Tensor | None], dict[str, str], str]] = {
    "shape": ({"weight": torch.zeros(5, 3)}, {}, "size mismatch for weight"),
    "missing": ({"hbias": None}, {}, "Missing key.*hbias"),
    "extra": ({"more": torch.zeros(1)}, {}, "Unexpected key.*more"),
    "sizes": ({}, {"visible": "-6"}, "must be at least 1"),
    "absurd sizes": ({}, {"visible": "1000000000000", "hidden": "1000000"}, "size mismatch for weight"),
    "setting": ({}, {"settings": '{"colour": 1}'}, "unexpected keyword argument 'colour'"),
    "class": ({}, {"settings": '{"evaluation": {"class": "system"}}'}, "'system'"),
    "field": ({}, {"settings": '{"evaluation": {"class": "Exact", "speed": 3}}'}, "speed"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_content_that_is_no_module_is_an_error_that_names_the_file(name: str, tmp_path: Path) -> None:
    changes, metadata, message = FORGERIES[name]
    entries = RBM(6, 3).state_dict() | changes
    state = {key: tensor for key, tensor in entries.items() if tensor is not None}
    file = forged(tmp_path / "rbm.safetensors", state, **metadata)
    with pytest.raises(ValueError, match=rf"(?s)rbm\.safetensors does not fit this version of pyro_gen: .*{message}"):
        interop.load_safetensors(file)


def test_a_forgery_without_a_fault_is_read(tmp_path: Path) -> None:
    state = RBM(6, 3).state_dict()
    assert same(interop.load_safetensors(forged(tmp_path / "rbm.safetensors", state)).state_dict(), state)


@dataclass(frozen=True)
class Private(NegativePhase):
    """A setting that no reader would know."""

    num_steps: int = 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negative_phase": Private()}, "`negative_phase` cannot be saved, for it holds a Private"),
        ({"evaluation": AIS(base_rates=torch.rand(6))}, "`evaluation.base_rates` cannot be saved, .* a Tensor"),
    ],
)
def test_a_setting_that_could_not_be_read_back_is_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        interop.save_safetensors(RBM(6, 3, **settings), tmp_path / "rbm.safetensors")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"visible_units": GaussianUnits(0.5), "negative_phase": FastPersistentChains(5)},
        {"visible_units": PottsUnits(3), "hidden_units": ReLUUnits()},
        {"negative_phase": WeightedChains(5), "centring": True},
        {"negative_phase": TemperedChains(5)},
    ],
    ids=str,
)
def test_units_phases_and_centring_come_back(settings: dict[str, Any], tmp_path: Path) -> None:
    units = settings.get("visible_units", BernoulliUnits())
    x = units.conditional(torch.zeros(9, 6)).sample()
    rbm = RBM.from_data(x, 3, **settings)
    contrastive_gradient(rbm, x)
    interop.save_safetensors(rbm, tmp_path / "rbm.safetensors")
    back = interop.load_safetensors(tmp_path / "rbm.safetensors")
    assert same(back.state_dict(), rbm.state_dict())
    assert (type(back.visible_units), type(back.hidden_units)) == (type(rbm.visible_units), type(rbm.hidden_units))
    for module in (rbm, back):
        contrastive_gradient(module, x)
    assert same(back.state_dict(), rbm.state_dict())


def test_a_subclass_is_refused_because_it_would_not_be_read_back(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="subclass _LayeredRBM"):
        interop.save_safetensors(DeepBoltzmannMachine(4, [3, 2], size=1).rbm, tmp_path / "rbm.safetensors")
