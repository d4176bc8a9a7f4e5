"""Public parameters that are whole numbers, read off the annotations of the package."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

PACKAGES = [
    "distributions",
    "distributions.autoregressive.conditionals",
    "distributions.units",
    "nn",
    "infer",
    "infer.mcmc.gibbs",
    "infer.bayesian_network",
    "infer.structure",
    "models",
    "training",
    "datasets",
    "testing",
    "arviz",
    "plotting",
    "estimators",
    "interop",
]
NO_COUNTS = {
    "seed",
    "step",
    "on_step",
    "position",
    "shift",
    "verbose",
    "random_state",
    "axis",
    "axes",
    "order",
    "cache_size",
    "dpi",
    "interventions",
    "numbers",
    "edges",
    "strings",
    "epoch",
    "warmup_steps_of_pyro",
    "parents_absent",
    "present",
    "batch_shape",
    "sample_shape",
    "event_shape",
    "batches",
    "nodes_of",
}
"""Names of parameters that are whole numbers, or hold them, but count nothing."""
INSIDE = {
    "sweep",
    "anneal",
    "pilot",
    "base_states",
    "advance",
    "advanced",
    "snapshot",
    "check",
    "count",
    "num_states",
    "support",
    "valid",
    "noise",
    "states_of",
    "count_states",
    "num_uniforms",
    "roll",
    "states",
    "first",
    "after",
    "begin",
    "known",
    "setup",
    "particles",
}
"""Methods that parts of the package call of each other with sizes that have been checked."""


def counts() -> dict[tuple[str, str], str]:
    """Annotations by (package.qualified name, parameter)."""
    found: dict[tuple[str, str], str] = {}
    for package in PACKAGES:
        module = importlib.import_module(f"pyro_gen.{package}")
        names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
        for name in names:
            for function in _functions(getattr(module, name)):
                key = f"{function.__module__.split('.')[1]}.{function.__qualname__}"
                for parameter, annotation in _annotated(function):
                    found[key, parameter] = annotation
    return found


def _functions(value: Any) -> Iterator[Any]:
    if inspect.isfunction(value):
        yield value
    if not inspect.isclass(value):
        return
    for name in dir(value):
        member = inspect.getattr_static(value, name)
        member = getattr(member, "__func__", member)
        public = name == "__init__" or not (name.startswith("_") or name in INSIDE)
        if public and inspect.isfunction(member) and member.__module__.startswith("pyro_gen"):
            yield member


def _annotated(function: Any) -> Iterator[tuple[str, str]]:
    for name, parameter in inspect.signature(function).parameters.items():
        annotation = str(parameter.annotation)
        if re.search(r"\bint\b", annotation) and name not in NO_COUNTS:
            yield name, annotation


Calls = dict[str, tuple[Any, dict[str, Any]]]
