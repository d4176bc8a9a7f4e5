"""One verb, one signature, one result; every public name has one home."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

import pyro_gen
from pyro_gen import infer
from pyro_gen.distributions import Estimate
from pyro_gen.infer.elbo.importance import LowerBound
from pyro_gen.infer.elbo.importance_sampling import ImportanceLogLikelihood
from pyro_gen.infer.energy.likelihood import LogLikelihood

HOMES = ("arviz", "datasets", "distributions", "estimators", "infer", "interop", "kernels", "models", "nn", "plotting")
PAIRS = ({"distributions", "nn"}, {"distributions", "models"}, {"estimators", "models"})
"""Packages that may share the name of a class: a module, and the distribution that it returns or its estimator."""


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


# ---- one verb, one signature, one result

Rule = tuple[tuple[str, ...], tuple[str, ...]]
FIRST: dict[str, Rule] = {
    "fit": (("x", "data"), ("FitResult",)),
    "sample": (("sample_shape", "num_samples"), ("Tensor",)),
    "sample_joint": (("sample_shape", "num_samples"), ("tuple[Tensor, Tensor]",)),
    "from_data": (("x",), ()),
    "model": (("x", "data", "v"), ()),
    "guide": (("x", "data", "v"), ()),
    "decode": (("z",), ()),
    "reconstruct": (("x",), ("Tensor",)),
    "latent_means": (("x",), ("Tensor",)),
    "predict": (("x",), ("Tensor",)),
    "score": (("x",), ("float",)),
    "log_likelihood": (("x",), ("Tensor",)),
    "lower_bound": (("x",), ("LowerBound",)),
    "log_evidence": (("observed", "evidence", ""), ("Tensor",)),
    "evidence_estimate": (("observed", ""), ("Estimate",)),
    "log_partition": (("", "distribution"), ("Estimate", "Estimate | None")),
}
"""By verb: words for the first argument ("" for none), and annotations of the result (any, where none are named)."""
BOLTZMANN = ("BayesianRBM",)
"""Models whose data may be called v."""
NETWORKS = ("BayesianNetwork", "AmortisedPosterior")
"""Models of named nodes, whose data come by name."""
UNITS = ("ClassRBM", "PottsUnits")
"""Owners of a ``decode`` of one-hot states, which has no latent variable."""
KERNELS = ("BlockGibbs", "Gibbs", "GibbsSampler", "SwendsenWang")
"""MCMC kernels, whose ``sample`` is Pyro's: from parameters to parameters."""


def methods(cls: type) -> dict[str, inspect.Signature]:
    """Signatures of the public methods that a class of this package defines or inherits, without self or cls."""
    signatures = {}
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        function = getattr(member, "__func__", member)
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        if not function.__module__.startswith((pyro_gen.__name__, made_up.__name__)):
            continue
        signature = inspect.signature(function)
        arguments = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
        signatures[name] = signature.replace(parameters=arguments)
    return signatures


def broken(name: str, cls: type) -> list[str]:
    """Verbs of a class whose first argument or result is not that of the table."""
    wrong = []
    for verb, signature in methods(cls).items():
        if verb not in FIRST or _exempt(name, verb):
            continue
        words, results = FIRST[verb]
        first = next(iter(signature.parameters), "")
        result = str(signature.return_annotation).removeprefix("infer.")
        is_known = first in words and (first != "v" or name in BOLTZMANN) and (first != "data" or name in NETWORKS)
        if not is_known or (results and result not in results):
            wrong.append(f"{name}.{verb}{signature}")
    return wrong


def _exempt(name: str, verb: str) -> bool:
    return (verb == "decode" and name in UNITS) or (verb == "sample" and name in KERNELS)


def test_verbs_have_one_signature_and_one_result() -> None:
    wrong = []
    for home in ("distributions", "nn", "infer", "models"):
        module = homes()[home]
        for name in module.__all__:
            if inspect.isclass(member := getattr(module, name)):
                wrong += broken(name, member)
    assert wrong == []


def test_another_signature_or_result_is_seen() -> None:
    source = """
from __future__ import annotations
class Odd:
    def fit(self, rows): ...
    def sample(self, num_samples) -> tuple[Tensor, Tensor]: ...
    def guide(self, v): ...
    def decode(self, z): ...
    def log_evidence(self, evidence) -> Estimate: ...
"""
    module = made_up()
    exec(source, module.__dict__)
    assert [text.split("(")[0] for text in broken("Odd", module.Odd)] == [
        "Odd.fit",
        "Odd.guide",
        "Odd.log_evidence",
        "Odd.sample",
    ]
    assert "BayesianRBM.guide(v)" not in broken("BayesianRBM", module.Odd)


def test_the_design_names_each_verb() -> None:
    text = (Path(__file__).parent.parent / "docs" / "design.md").read_text()
    table = text[text.index("| verb |") : text.index("\n\nData are `x`")]
    named = {word for row in table.splitlines() for word in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert FIRST.keys() <= named
    assert named - FIRST.keys() == {"encode"}


def test_estimates_say_how_good_they_are() -> None:
    estimate = Estimate(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.0]), torch.tensor([80.0, math.inf]), "AIS")
    assert estimate.lower.tolist() == [0.0, 2.0]
    assert estimate.upper.tolist() == [2.0, 2.0]
    assert str(estimate) == "[1 +/- 0.5 (AIS, effective sample size 80), 2 (AIS)]"
    exact = Estimate.exact(torch.tensor(-1.5))
    assert str(exact) == "-1.5 (exact)"
    assert str(exact.expand(torch.Size([5]))).endswith("-1.5 (exact), ... (5 in all)]")
    assert exact.standard_error.item() == 0
    assert math.isinf(exact.effective_sample_size.item())


# ---- estimates are read alike

QUANTITIES = ("value", "standard_error", "lower", "upper", "effective_sample_size")


def result_types() -> list[type]:
    """Tuples of the package with a value and any error: what estimates return."""
    names = [info.name for info in pkgutil.walk_packages(infer.__path__, "pyro_gen.infer.")]
    modules = [importlib.import_module(name) for name in ["pyro_gen.distributions.estimate", *names]]
    members = {id(member): member for module in modules for member in vars(module).values()}
    tuples = [member for member in members.values() if inspect.isclass(member) and issubclass(member, tuple)]
    return [kind for kind in tuples if hasattr(kind, "value") and any("error" in name for name in dir(kind))]


def missing_quantities(kind: type) -> list[str]:
    """Quantities that a result does not have."""
    return [name for name in QUANTITIES if not hasattr(kind, name)]


def test_every_estimate_has_the_same_quantities() -> None:
    assert {kind.__name__ for kind in result_types()} >= {
        "Bracket",
        "Estimate",
        "LogLikelihood",
        "LowerBound",
        "SimulatedGap",
    }
    assert {kind.__name__: missing_quantities(kind) for kind in result_types() if missing_quantities(kind)} == {}
    assert missing_quantities(type("Bare", (tuple,), {"value": 0.0})) == list(QUANTITIES[1:])


def test_bounds_and_likelihoods_say_their_errors() -> None:
    rows = torch.tensor([-3.0, -2.0, -4.0])
    exact = Estimate.exact(torch.tensor(1.0))
    rough = Estimate(torch.tensor(1.0), torch.tensor(0.5), torch.tensor(9.0), "AIS")
    likelihood = LogLikelihood(rows, rough)
    assert likelihood.standard_error == pytest.approx(math.hypot(1 / math.sqrt(3), 0.5))
    assert likelihood.effective_sample_size == 9
    assert LogLikelihood(rows, exact).standard_error == pytest.approx(1 / math.sqrt(3))
    bound = LowerBound(rows, rows, 0.1, rough, torch.ones(3))
    assert (bound.lower, bound.upper) == (bound.value - 2 * bound.standard_error, math.inf)
    draws = ImportanceLogLikelihood(rows, torch.full((3,), 0.3), torch.full((3,), 5.0), 100)
    assert draws.standard_error == pytest.approx(1 / math.sqrt(3))
    assert draws.upper == math.inf
