"""Sphinx configuration; `make docs` builds with warnings as errors."""

from __future__ import annotations

import importlib
from typing import Any

from pyro_gen import __version__

project = "pyro_gen"
author = "The pyro_gen authors"
project_copyright = "The pyro_gen authors"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = f"pyro_gen {release}"

PUBLIC = (
    "distributions",
    "nn",
    "infer",
    "models",
    "saving",
    "training",
    "datasets",
    "plotting",
    "arviz",
    "interop",
    "estimators",
    "testing",
    "kernels",
)


def public_names() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Public names of every module: those documented there, those of an earlier module."""
    own: dict[str, list[str]] = {}
    shared: dict[str, list[str]] = {}
    first: dict[int, str] = {}
    for name in (f"pyro_gen.{part}" for part in PUBLIC):
        module = importlib.import_module(name)
        homes = {
            member: first.setdefault(id(getattr(module, member)), name)
            for member in module.__all__
        }
        own[name] = [member for member, home in homes.items() if home == name]
        shared[name] = [f"{home}.{member}" for member, home in homes.items() if home != name]
    return own, shared


# A public module is documented by its __all__: one page a name, under the name that users import.
own, shared = public_names()
autosummary_generate = True
autosummary_context = {"own": own, "shared": shared}
# Without this the docstrings of torch and Pyro would be printed (and checked) as ours.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3


def skip_foreign(
    app: Any, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what a class inherits from torch, Pyro or scikit-learn."""
    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
    builtin = getattr(function, "__objclass__", None)  # tuple.count and the like have no module
    home: str = (
        getattr(function, "__module__", None) or getattr(builtin, "__module__", None) or "pyro_gen"
    )
    return None if home.partition(".")[0] == "pyro_gen" else True


def setup(app: Any) -> None:
    """Sphinx calls this with its application."""
    app.connect("autodoc-skip-member", skip_foreign)
