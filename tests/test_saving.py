"""Every public module comes back from its file bit for bit; damaged and foreign files are refused."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import safetensors
import safetensors.torch
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.nn.module import PyroSample, to_pyro_module_
from torch import Tensor
from torch.nn.utils.parametrizations import spectral_norm

import pyro_gen
from pyro_gen import models, nn, saving
from pyro_gen.distributions import GaussianUnits, PottsUnits, ReLUUnits
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
from tests.calls import CALLS, Call
from tests.interop.damage import damaged, refusals
from tests.models.public import TABLE
from tests.runs import same

CASES = {f"{name}-{number}": call for name, calls in CALLS.items() for number, call in enumerate(calls)}
NO_MODULES = {"BayesianRBM", "CPDDraws", "Diagnostics", "FitResult", "LatentUse", "warm_up"}
ABSTRACT = {"AutoregressiveNetwork", "CPD", "DiscreteCPD", "LinearGaussian", "Mixture"}
WITHOUT_CALL = {"Dense", "ConvolutionalDecoder", "ConvolutionalEncoder", "GaussianNoise", "MaskingNoise"}
WITHOUT_CALL |= {"SaltAndPepperNoise"}
OTHERS: dict[str, Callable[[], torch.nn.Module]] = {
    "Dense": lambda: nn.Dense(3, [4], 2, torch.nn.Tanh),
    "ConvolutionalDecoder": lambda: nn.ConvolutionalDecoder(2, (1, 8, 8), channels=(4, 2), hidden=5),
    "ConvolutionalEncoder": lambda: nn.ConvolutionalEncoder((1, 8, 8), 2, channels=(2, 4), hidden=5),
    "GaussianNoise": lambda: nn.GaussianNoise(0.3),
    "MaskingNoise": lambda: nn.MaskingNoise(0.1),
    "SaltAndPepperNoise": lambda: nn.SaltAndPepperNoise(0.1),
}


def check(module: torch.nn.Module, loaded: torch.nn.Module) -> None:
    """Equal class, representation, state, modes and flags."""
    assert type(loaded) is type(module)
    assert repr(loaded) == repr(module)
    assert same(loaded.state_dict(), module.state_dict())
    assert [name for name, _ in loaded.named_parameters()] == [name for name, _ in module.named_parameters()]
    assert [part.training for part in loaded.modules()] == [part.training for part in module.modules()]
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in module.parameters()]


@torch.no_grad()
def disturb(module: torch.nn.Module) -> None:
    for parameter in module.parameters():
        parameter.copy_(0.5 * torch.randn_like(parameter))


def test_every_public_module_is_tested_here() -> None:
    public = {*nn.__all__, *models.__all__} - NO_MODULES - ABSTRACT
    assert public <= {*CALLS, *TABLE, *OTHERS}


@pytest.mark.parametrize("name", CASES)
def test_round_trip(name: str, tmp_path: Path) -> None:
    call: Call = CASES[name]
    torch.manual_seed(0)
    module = call.make().double().eval()
    disturb(module)
    pyro_gen.save(module, tmp_path / "module.safetensors")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    loaded = pyro_gen.load(tmp_path / "module.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    check(module, loaded)
    torch.manual_seed(2)
    expected = call.score(call.call(module))
    torch.manual_seed(2)
    assert torch.equal(call.score(call.call(loaded)), expected)


@pytest.mark.parametrize("name", OTHERS)
def test_round_trip_of_networks(name: str, tmp_path: Path) -> None:
    module = OTHERS[name]()
    pyro_gen.save(module, tmp_path / "module.safetensors")
    check(module, pyro_gen.load(tmp_path / "module.safetensors"))


@pytest.mark.parametrize("name", sorted(TABLE.keys() - NO_MODULES))
def test_networks_of_a_user_are_loaded_into_those_given(name: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    torch.manual_seed(0)
    module = TABLE[name].make(20)
    disturb(module)
    pyro_gen.save(module, file)
    twin = TABLE[name].make(20)
    parts = {}
    for part in saving.parts(file):
        parts[part] = twin.cpd("b").network if part == "cpds.b.network" else attrgetter(part)(twin)
    loaded = pyro_gen.load(file, **parts)
    check(module, loaded)
    assert getattr(loaded, "size", None) == getattr(module, "size", None)
    for part, network in parts.items():
        assert part == "cpds.b.network" or attrgetter(part)(loaded) is network


def test_a_part_that_is_missing_unknown_or_does_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "vae.safetensors"
    pyro_gen.save(models.VAE(6, 2, 10, encoder=torch.nn.Linear(6, 4)), file)
    with pytest.raises(ValueError, match=r"vae\.safetensors was saved with a Linear of yours as `encoder`: pass load"):
        pyro_gen.load(file)
    with pytest.raises(ValueError, match=r"has no part 'decoder', only \['encoder'\]"):
        pyro_gen.load(file, encoder=torch.nn.Linear(6, 4), decoder=torch.nn.Linear(2, 6))
    other = torch.nn.Sequential(torch.nn.Linear(6, 4))
    kept = other.state_dict()["0.weight"].clone()
    with pytest.raises(ValueError, match=r"vae\.safetensors, written by pyro_gen .*, (?s:cannot be read: .*encoder)"):
        pyro_gen.load(file, encoder=other)
    assert torch.equal(other.state_dict()["0.weight"], kept)


def test_learning_goes_on_after_svi(tmp_path: Path) -> None:
    """What SVI has registered is saved, and both go on with equal steps."""
    rbm, x = nn.RBM(6, 3), torch.eye(6)
    step(rbm, x)
    pyro_gen.save(rbm, tmp_path / "rbm.safetensors")
    loaded = pyro_gen.load(tmp_path / "rbm.safetensors")
    for module in (rbm, loaded):
        step(module, x)
    check(rbm, loaded)


def step(rbm: nn.RBM, x: Tensor) -> None:
    pyro.clear_param_store()

    def model() -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", len(x)):
            pyro.sample("v", rbm(), obs=x)

    SVI(model, lambda: None, pyro.optim.SGD({"lr": 0.1}), Trace_ELBO()).step()


def test_settings_changed_later_and_frozen_parameters(tmp_path: Path) -> None:
    rbm = nn.RBM(6, 3)
    rbm.negative_phase = ContrastiveDivergence(4)
    rbm.num_steps = 17
    rbm.hbias.requires_grad_(False)
    pyro_gen.save(rbm, tmp_path / "rbm.safetensors")
    loaded = pyro_gen.load(tmp_path / "rbm.safetensors")
    check(rbm, loaded)
    assert (loaded.negative_phase, loaded.num_steps) == (ContrastiveDivergence(4), 17)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"negative_phase": ContrastiveDivergence(3), "evaluation": Exact(), "num_steps": 50},
        {"negative_phase": PersistentChains(7, 2), "evaluation": AIS(20, 30)},
        {"evaluation": AIS(base_rates=torch.full((6,), 0.3))},
        {"negative_phase": None},
        {"visible_units": GaussianUnits(0.5), "negative_phase": FastPersistentChains(5)},
        {"visible_units": PottsUnits(3), "hidden_units": ReLUUnits()},
        {"negative_phase": WeightedChains(5), "centring": True},
        {"negative_phase": TemperedChains(5)},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_units_and_phases(settings: dict[str, Any], dtype: torch.dtype, tmp_path: Path) -> None:
    units = settings.get("visible_units", pyro_gen.distributions.BernoulliUnits())
    x = units.conditional(torch.zeros(9, 6)).sample().to(dtype)
    rbm = nn.RBM.from_data(x, 3, **settings)
    if rbm.negative_phase is not None:
        contrastive_gradient(rbm, x)
    pyro_gen.save(rbm, tmp_path / "rbm.safetensors")
    loaded = pyro_gen.load(tmp_path / "rbm.safetensors")
    check(rbm, loaded)
    for module in (rbm, loaded) if rbm.negative_phase is not None else ():
        contrastive_gradient(module, x)
    assert same(loaded.state_dict(), rbm.state_dict())


def test_other_programs_read_the_tensors(tmp_path: Path) -> None:
    rbm, file = nn.RBM(6, 3), tmp_path / "rbm.safetensors"
    rbm.weight = torch.nn.Parameter(torch.randn(3, 6).T)  # not contiguous
    pyro_gen.save(rbm, file)
    assert torch.equal(safetensors.torch.load_file(file)["weight"], rbm.weight)
    with safetensors.safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata()
    header = json.loads(metadata["header"])
    assert header["module"]["class"] == "RBM"
    assert (metadata["format"], metadata["version"]) == ("pt", pyro_gen.__version__)


def test_damaged_files_are_errors_that_name_them(tmp_path: Path) -> None:
    file = tmp_path / "network.safetensors"
    module = nn.MADE(6, [8])
    pyro_gen.save(module, file)
    good = file.read_bytes()
    contents = [b"", bytes(len(good)), good + b"x", *damaged(good, 300)]
    refused = refusals(file, contents, pyro_gen.load, lambda back: same(back.state_dict(), module.state_dict()))
    assert refused > 315


def forged(path: Path, module: torch.nn.Module | None = None, **changes: Any) -> Path:
    """A file with a right checksum over a wrong content, as another version or a stranger might write it."""
    pyro_gen.save(nn.RBM(6, 3) if module is None else module, path)
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    del metadata["sha256"]
    header = json.loads(metadata["header"])
    header["module"]["arguments"].update(changes.pop("arguments", {}))
    header["module"].update(changes.pop("content", {}))
    metadata["header"] = json.dumps(header)
    tensors = {name: tensor for name, tensor in (tensors | changes).items() if tensor is not None}
    safetensors.torch.save_file(tensors, path, metadata | {"sha256": saving._checksum(tensors, metadata)})
    return path


FORGERIES: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"weight": torch.zeros(5, 3)}, "size mismatch for weight"),
    "missing": ({"hbias": None}, "Missing key.*hbias"),
    "extra": ({"more": torch.zeros(1)}, "Unexpected key.*more"),
    "sizes": ({"arguments": {"visible": -6}}, "must be at least 1"),
    "absurd sizes": ({"arguments": {"visible": 10**6, "hidden": 10**6}}, "too large for its data"),
    "unknown setting": ({"arguments": {"colour": 1}}, "colour"),
    "private class": ({"content": {"class": "LearningRBM"}}, "LearningRBM"),
    "no class": ({"content": {"class": "os.system"}}, "os.system"),
    "setting": ({"arguments": {"evaluation": {"setting": "system", "fields": {}}}}, "system"),
    "field": ({"arguments": {"evaluation": {"setting": "Exact", "fields": {"speed": 3}}}}, "speed"),
    "function": ({"arguments": {"evaluation": {"function": "load"}}}, "load"),
    "torch": ({"arguments": {"evaluation": {"torch": "functional"}}}, "functional"),
    "dtype": ({"arguments": {"evaluation": {"dtype": "load"}}}, "dtype"),
    "tag": ({"arguments": {"evaluation": {"pickle": "x"}}}, "pickle"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_files_are_errors_that_name_them(name: str, tmp_path: Path) -> None:
    changes, message = FORGERIES[name]
    file = forged(tmp_path / "rbm.safetensors", **changes)
    with pytest.raises(ValueError, match=rf"(?s)rbm\.safetensors, written by pyro_gen .*, cannot be read: .*{message}"):
        pyro_gen.load(file)
    pyro_gen.load(forged(file))


HUGE: dict[str, tuple[Callable[[], torch.nn.Module], dict[str, Any]]] = {
    "NADE": (lambda: nn.NADE(6, 3), {"features": 10**9}),
    "MADE": (lambda: nn.MADE(6, [8]), {"features": 10**9}),
    "MADE, layers": (lambda: nn.MADE(6, [8]), {"hidden_features": {"tuple": [10**9]}}),
    "FVSBN": (lambda: nn.FVSBN(6), {"features": 10**9}),
    "RecurrentAR": (lambda: nn.RecurrentAR(4, 3), {"hidden_features": 10**9}),
    "TabularAR": (lambda: nn.TabularAR(3), {"features": 40}),
    "CausalTransformer": (lambda: nn.CausalTransformer(4, 4, heads=2), {"num_layers": 10**9}),
    "PixelCNN": (lambda: nn.PixelCNN((1, 4, 4), 4, 1), {"num_layers": 10**9}),
    "BoltzmannMachine": (lambda: nn.BoltzmannMachine(4), {"features": 10**6}),
    "GaussianMixture": (lambda: models.GaussianMixture(2, 2, 5), {"components": 10**9}),
    "PPCA": (lambda: models.PPCA(3, 1, 5), {"features": 10**9}),
}


@pytest.mark.parametrize("name", HUGE)
def test_sizes_that_no_file_fills_are_refused_before_memory_is_taken(name: str, tmp_path: Path) -> None:
    make, arguments = HUGE[name]
    file = forged(tmp_path / "huge.safetensors", make(), arguments=arguments)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"huge\.safetensors, written by pyro_gen .*, cannot be read"):
        pyro_gen.load(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB


def test_what_cannot_be_read_back_is_refused_and_nothing_written(tmp_path: Path) -> None:
    sampled = nn.RBM(6, 3)
    to_pyro_module_(sampled)
    prior: Any = PyroSample(dist.Normal(0.0, 1.0).expand((6, 3)).to_event(2))
    sampled.weight = prior
    with pytest.raises(ValueError, match=r"(?s)`module` could not be read back: .*weight"):
        pyro_gen.save(sampled, tmp_path / "module.safetensors")
    assert os.listdir(tmp_path) == []


def test_a_parametrised_part(tmp_path: Path) -> None:
    file = tmp_path / "vae.safetensors"
    vae = models.VAE(6, 2, size=100, encoder=spectral_norm(torch.nn.Linear(6, 4)))
    pyro_gen.save(vae, file)
    loaded = pyro_gen.load(file, encoder=spectral_norm(torch.nn.Linear(6, 4)))
    assert same(loaded.state_dict(), vae.state_dict())


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*rbm\.safetensors"):
        pyro_gen.load(tmp_path / "rbm.safetensors")
    safetensors.torch.save_file({"weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors must be a file of pyro_gen\.save .*, got None"):
        pyro_gen.load(tmp_path / "other.safetensors")


@dataclass(frozen=True)
class Private(NegativePhase):
    """A setting of a user."""

    num_steps: int = 1


class Mine(nn.RBM):
    """A module of a user."""


def test_what_is_not_of_the_package(tmp_path: Path) -> None:
    file = tmp_path / "module.safetensors"
    for module in (Mine(6, 3), torch.nn.Linear(2, 2)):
        with pytest.raises(ValueError, match=r"of pyro_gen\.nn or pyro_gen\.models, got (Mine|Linear)"):
            pyro_gen.save(module, file)
    assert os.listdir(tmp_path) == []
    pyro_gen.save(nn.RBM(6, 3, negative_phase=Private(3)), file)
    assert pyro_gen.load(file, negative_phase=Private(3)).negative_phase == Private(3)


def test_a_pyro_module_is_read_as_the_plain_one(tmp_path: Path) -> None:
    rbm = nn.RBM(6, 3)
    state = {name: tensor.clone() for name, tensor in rbm.state_dict().items()}
    to_pyro_module_(rbm)
    pyro_gen.save(rbm, tmp_path / "rbm.safetensors")
    loaded = pyro_gen.load(tmp_path / "rbm.safetensors")
    assert type(loaded) is nn.RBM
    assert same(loaded.state_dict(), state)
