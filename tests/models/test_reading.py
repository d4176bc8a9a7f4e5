"""Methods that read a model: they run in evaluation mode, move nothing, and leave every mode as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor, nn

from pyro_gen import models
from pyro_gen._evaluation import evaluating, reading
from pyro_gen._rows import RowsLike
from pyro_gen.arviz import from_svi
from pyro_gen.infer import lower_bound
from tests.models.public import TABLE, bits, public_methods, public_models, vae

pytestmark = pytest.mark.filterwarnings("ignore:the importance weights")  # of few draws, and of no interest here

READS = [(name, read) for name, entry in TABLE.items() for read in entry.reads]


def test_every_public_method_is_in_the_table() -> None:
    assert {name.split(" ")[0] for name in TABLE} == set(public_models())
    for name, entry in TABLE.items():
        known = {*entry.reads, *entry.learns, *entry.parts}
        if known_elsewhere := {"VAE under a VampPrior": {"from_data"}}.get(name):
            known |= known_elsewhere
        if name == "BayesianNetwork":
            known |= {"fit", "sample_cpds"}
        assert known == set(public_methods(getattr(models, name.split(" ")[0]))), name


def module_of(model: Any) -> nn.Module:
    module = model if isinstance(model, nn.Module) else model.rbm
    assert isinstance(module, nn.Module)
    return module


def mixed(module: nn.Module) -> dict[str, bool]:
    """Put a module into training mode, but every third part; the modes."""
    module.train()
    for i, part in enumerate(module.modules()):
        part.training = i % 3 != 2
    return {name: part.training for name, part in module.named_modules()}


def leaves(value: Any) -> Iterator[Any]:
    """Tensors and numbers in a result."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def assert_equal(actual: Any, expected: Any) -> None:
    pairs = list(zip(leaves(actual), leaves(expected), strict=True))
    for new, old in pairs:
        if isinstance(old, Tensor):
            torch.testing.assert_close(new, old, rtol=1e-6, atol=1e-6, equal_nan=True)
        elif isinstance(old, float):
            assert new == pytest.approx(old, nan_ok=True)
        elif isinstance(old, str | int):
            assert new == old


def check_read(name: str, read: Callable[[Any], Any]) -> None:
    pyro.set_rng_seed(0)
    model = TABLE[name].make(3)
    module = module_of(model)
    for buffer_name, buffer in module.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_()
    evaluated = copy.deepcopy(model)
    module_of(evaluated).eval()
    modes = mixed(module)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    torch.manual_seed(1)
    expected = read(evaluated)
    torch.manual_seed(1)
    actual = read(model)
    assert_equal(actual, expected)
    moved = [key for key, value in module.state_dict().items() if not torch.equal(value, before[key])]
    assert not moved, f"{name} has moved {moved}"
    assert modes == {key: part.training for key, part in module.named_modules()}


@pytest.mark.parametrize(("name", "method"), READS)
def test_reading_equals_evaluation_and_moves_nothing(name: str, method: str) -> None:
    check_read(name, TABLE[name].reads[method])


@pytest.mark.parametrize(("name", "method"), READS)
def test_modes_come_back_after_an_error(name: str, method: str) -> None:
    model = TABLE[name].make(3)
    modes = mixed(module_of(model))
    with pytest.raises((TypeError, ValueError, AttributeError)):  # whatever the method says of these
        getattr(model, method)(object(), object(), object(), object(), object())
    assert modes == {key: part.training for key, part in module_of(model).named_modules()}


class Forgetful(models.VAE):
    """A VAE whose way of reading was forgotten."""

    def reconstruct(self, x: RowsLike) -> Tensor:
        return self.decode(self.encode(torch.as_tensor(x)).mean).mean.detach()


def test_a_method_that_forgets_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(size: int) -> models.VAE:
        model = vae(size)
        model.__class__ = Forgetful
        return model

    monkeypatch.setitem(TABLE, "VAE", TABLE["VAE"]._replace(make=forgetful))
    with pytest.raises(AssertionError, match="not close"):
        check_read("VAE", TABLE["VAE"].reads["reconstruct"])


class Counter(nn.Module):
    """A module that counts how often it is read in either mode."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Dropout()

    @reading
    def modes(self, fail: bool = False) -> tuple[bool, bool]:
        """Its mode and its part's."""
        if fail:
            raise ValueError("`fail` is True")
        return self.training, self.part.training


def test_evaluation_is_undone_part_by_part_also_after_an_error() -> None:
    module = Counter()
    module.part.eval()
    assert module.modes() == (False, False)
    with pytest.raises(ValueError, match="`fail`"):
        module.modes(fail=True)
    assert (module.training, module.part.training) == (True, False)
    with evaluating(module.modes, None, len):  # the owner of a method; what owns no module is left alone
        assert not module.training
    assert module.training


def test_the_generic_bound_and_arviz_read_in_evaluation_mode_too() -> None:
    pyro.set_rng_seed(0)
    x, model = bits(5), vae(5)
    calls: dict[str, Callable[[], Any]] = {
        "lower_bound": lambda: lower_bound(model.model, model.guide, x, 3).rows,
        "from_svi": lambda: from_svi(model.model, model.guide, x, num_samples=4)["log_likelihood"]["x"].values,
    }
    for name, call in calls.items():
        with evaluating(model):
            torch.manual_seed(1)
            expected = call()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        torch.manual_seed(1)
        torch.testing.assert_close(call(), expected, msg=name)
        assert model.training
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
