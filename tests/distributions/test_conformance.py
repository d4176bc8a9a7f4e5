"""Every distribution of the table passes every check that applies to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyro_gen.testing import CHECKS, Case, Inapplicable
from pyro_gen.testing.case import support_of
from pyro_gen.testing.checks import placement, programs, sampling
from tests.cases import CASES

SMOKE = ("RBM", "NADE", "BayesianNetwork")
STATISTICAL = {sampling.check_goodness_of_fit, sampling.check_independence}
PROGRAMS = {check for check in CHECKS if check.__module__ == programs.__name__}


def variant(case: Case) -> bool:
    """A network of another row that has a context, or pixels of another kind."""
    return case.name.endswith("-labels") or case.name.startswith("PixelCNN-")


def kind(case: Case) -> tuple[Any, ...]:
    """The distribution as Pyro's programs see it: class, support, whether it enumerates."""
    d = case.distribution()
    support = support_of(d)
    return type(d), type(support), support.is_discrete, d.event_dim, d.has_enumerate_support


def pairs() -> Iterator[Any]:
    """Every check of every case; those that repeat what another row shows are for `make evidence`.

    One loop samples all networks, and the family's plain row judges it. What a variant changes, its parameters, is in
    the checks of its density, and in the steps of generation that `tests/nn` compares with whole passes. Pyro's
    programs call the methods of a class, and see neither networks nor units: one row of each kind runs them. Modules
    of a variant are those that the plain row pickles.
    """
    seen = set()
    for case in CASES:
        first = kind(case) not in seen
        seen.add(kind(case))
        for check in CHECKS:
            repeated = (check in PROGRAMS and not first) or (
                variant(case) and check in STATISTICAL | {placement.check_pickle}
            )
            marks = []
            if repeated:
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
