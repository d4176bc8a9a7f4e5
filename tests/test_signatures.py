"""Every public name has one home."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

import pyro_gen
from pyro_gen import infer

HOMES = ("arviz", "datasets", "distributions", "estimators", "infer", "interop", "kernels", "models", "nn", "plotting")
PAIRS = ({"distributions", "nn"}, {"distributions", "models"})
"""Packages that may share the name of a class: a distribution and the module that returns it."""


def homes() -> dict[str, ModuleType]:
    """The public packages and modules by name."""
    return {name: importlib.import_module(f"{pyro_gen.__name__}.{name}") for name in HOMES}


def shared(modules: dict[str, ModuleType]) -> dict[str, set[str]]:
    """Names that stand in several modules, unless they are a distribution and the module that returns it."""
    places: dict[str, set[str]] = {}
    for home, module in modules.items():
        for name in module.__all__:
            places.setdefault(name, set()).add(home)
    several = {name: where for name, where in places.items() if len(where) > 1}
    return {name: where for name, where in several.items() if not _pair(name, where, modules)}


def _pair(name: str, where: set[str], modules: dict[str, ModuleType]) -> bool:
    members = [getattr(modules[home], name) for home in where]
    return where in PAIRS and len({id(member) for member in members}) == 2


def records(module: ModuleType) -> list[str]:
    """Public tuples of a module: results and states."""
    members = {name: getattr(module, name) for name in module.__all__}
    return [name for name, member in members.items() if inspect.isclass(member) and issubclass(member, tuple)]


def made_up(**members: object) -> ModuleType:
    """A module with these public members."""
    module = ModuleType("made_up")
    module.__dict__.update(members, __all__=list(members))
    return module


def test_each_public_name_has_one_home() -> None:
    assert shared(homes()) == {}


def test_a_name_with_two_homes_is_seen() -> None:
    twice = type("Twice", (), {})
    again = {"distributions": made_up(Twice=twice), "nn": made_up(Twice=twice)}
    assert shared(again) == {"Twice": {"distributions", "nn"}}
    third = {**again, "nn": made_up(Twice=type("Twice", (), {}))}
    assert shared(third) == {}
    assert shared({**third, "infer": made_up(Twice=int)}) == {"Twice": {"distributions", "infer", "nn"}}


def test_results_and_states_stay_in_their_modules() -> None:
    assert records(infer) == []
    assert records(made_up(Pair=type("Pair", (tuple,), {}))) == ["Pair"]
