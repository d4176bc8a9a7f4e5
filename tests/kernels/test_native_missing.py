"""Without the compiled kernels everything works, and where a compiler was at hand they are there."""

from __future__ import annotations

import importlib.machinery
import shutil
import sys
from pathlib import Path

import pytest
import torch

from pyro_gen.kernels import native, rbm_gibbs
from pyro_gen.kernels.gibbs import reference
from pyro_gen.kernels.random import philox_uniforms
from tests.kernels.test_gibbs import problem


def test_without_the_library_the_torch_path_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    start, parameters = problem(20, 15, 10)
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setattr(native, "best_set", lambda: -1)
    monkeypatch.setenv("PYRO_GEN_RNG", "philox")
    v, _ = rbm_gibbs(start, *parameters, 3, seed=1)
    assert torch.equal(v, reference.rbm_gibbs(start, parameters, 3, None, philox_uniforms(1, 10, 0, start), 0)[0])
    monkeypatch.setenv("PYRO_GEN_BACKEND", "native")
    with pytest.raises(ValueError, match=r"the compiled library is not installed"):
        rbm_gibbs(start, *parameters, 3, seed=1)


def test_a_broken_library_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ("_native" + importlib.machinery.EXTENSION_SUFFIXES[0])).write_bytes(b"not a library")
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    assert native.library.__wrapped__() is None


def test_a_compiler_gives_the_library() -> None:
    if not (shutil.which("cc") or shutil.which("gcc")) or sys.platform == "win32":
        pytest.skip("no C compiler here")
    assert native.library() is not None
