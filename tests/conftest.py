"""Every test starts from the same seed, an empty parameter store and validation switched on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyro
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # no test opens a window


@pytest.fixture(autouse=True)
def fresh_pyro() -> Iterator[None]:
    """Seeds every generator, empties the parameter store and validates arguments for the length of one test."""
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    with pyro.validation_enabled(True):
        yield
    pyro.clear_param_store()
