"""Every distribution of the table passes every check that applies to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyro_gen.testing import CHECKS, Case, Inapplicable
from tests.cases import CASES

SMOKE = ("RBM", "NADE", "BayesianNetwork")
STATISTICAL = ("check_goodness_of_fit", "check_independence")


def variant(case: Case) -> bool:
    """A network of another row that has a context, or pixels of another kind."""
    return case.name.endswith("-labels") or case.name.startswith("PixelCNN-")


def pairs() -> Iterator[Any]:
    """Every check of every case; many draws of variants are for `make evidence`.

    One loop samples all networks, and the family's plain row judges it. What a variant changes, its parameters, is in
    the checks of its density, and in the steps of generation that `tests/nn` compares with whole passes.
    """
    for case, check in itertools.product(CASES, CHECKS):
        marks = []
        if variant(case) and check.__name__ in STATISTICAL:
            marks.append(pytest.mark.slow)
        if case.name in SMOKE:
            marks.append(pytest.mark.smoke)
        yield pytest.param(case, check, marks=marks, id=f"{case.name}-{check.__name__.removeprefix('check_')}")


@pytest.mark.parametrize(("case", "check"), list(pairs()))
def test_conformance(case: Case, check: Callable[[Case], None]) -> None:
    try:
        check(case)
    except Inapplicable as reason:
        pytest.skip(str(reason))
