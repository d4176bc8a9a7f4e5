"""The table of distributions: one row each, and every check of the conformance suite runs over it."""

from __future__ import annotations

from functools import partial

from pyro_gen.distributions import RBM, Exact
from pyro_gen.testing import Case, normal_parameters, states

CASES = [
    Case("RBM", RBM, normal_parameters(weight=(4, 3), vbias=(4,), hbias=(3,)), states(4)),
    Case(
        "RBM-wide", partial(RBM, partition=Exact()), normal_parameters(weight=(3, 4), vbias=(3,), hbias=(4,)), states(3)
    ),
]
