"""Every distribution of the table passes every check that applies to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyro_gen.testing import CHECKS, Case, Inapplicable
from tests.cases import CASES


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_conformance(case: Case, check: Callable[[Case], None]) -> None:
    try:
        check(case)
    except Inapplicable as reason:
        pytest.skip(str(reason))
