"""Marks of parameters."""

from __future__ import annotations

from typing import Any

import pytest


def slow(*parameters: Any) -> list[Any]:
    """Values of ``parametrize`` that repeat what a value beside them shows: `make evidence` runs them.

    Args:
        parameters: values, or tuples of values where the test takes several.
    """
    return [pytest.param(*(x if isinstance(x, tuple) else (x,)), marks=pytest.mark.slow) for x in parameters]
