"""The table of distributions: one row each, and every check of the conformance suite runs over it."""

from __future__ import annotations

from functools import partial

import torch

from pyro_gen.distributions import RBM, BoltzmannMachine, CouplingGraph, Exact, SpinUnits, lattice_edges
from pyro_gen.testing import Case, normal_parameters, states
from pyro_gen.testing.case import Parameters


def symmetric_parameters(batch_shape: torch.Size) -> Parameters:
    """A symmetric matrix with zero diagonal, and a bias, of four units."""
    drawn = normal_parameters(coupling=(4, 4), bias=(4,))(batch_shape)
    upper = drawn["coupling"].triu(1)
    return drawn | {"coupling": upper + upper.mT}


CASES = [
    Case("RBM", RBM, normal_parameters(weight=(4, 3), vbias=(4,), hbias=(3,)), states(4)),
    Case(
        "RBM-wide", partial(RBM, partition=Exact()), normal_parameters(weight=(3, 4), vbias=(3,), hbias=(4,)), states(3)
    ),
    Case("BoltzmannMachine", BoltzmannMachine, symmetric_parameters, states(4)),
    Case(
        "BoltzmannMachine-spins", partial(BoltzmannMachine, units=SpinUnits()), symmetric_parameters, 2 * states(4) - 1
    ),
    Case(
        "BoltzmannMachine-edges",
        partial(BoltzmannMachine, units=SpinUnits(), graph=CouplingGraph(6, lattice_edges(2, 3, periodic=False))),
        normal_parameters(coupling=(7,), bias=(6,)),
        2 * states(6) - 1,
    ),
]
