"""The Ising lattice of 64 x 64 sites against Onsager's energy and Yang's magnetisation of the infinite lattice."""

from __future__ import annotations

import importlib.util
import math
from types import ModuleType

import pytest
import torch

from pyro_gen.distributions import ising_lattice
from pyro_gen.infer import BlockGibbs, SwendsenWang
from tests.house import ROOT
from tests.marks import slow


def example() -> ModuleType:
    """The script that holds the exact curves."""
    spec = importlib.util.spec_from_file_location("ising", ROOT / "examples" / "ising.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_exact_curves_have_their_known_values() -> None:
    """Energy -sqrt(2) at the critical temperature, -2 in the cold, -2/T in the heat; and by the slope of log Z."""
    ising = example()
    assert pytest.approx(2.269185314213022) == ising.CRITICAL
    assert ising.onsager_energy(ising.CRITICAL) == pytest.approx(-math.sqrt(2), abs=1e-6)
    assert ising.onsager_energy(0.5) == pytest.approx(-2, abs=1e-5)
    assert ising.onsager_energy(50.0) == pytest.approx(-2 / 50, rel=2e-3)
    assert ising.yang_magnetisation(2.0) == pytest.approx(0.911319377877496)
    assert ising.yang_magnetisation(2.3) == 0
    lattice = ising_lattice(6, 6, torch.tensor(1 / 10, dtype=torch.float64, requires_grad=True))
    coupling = lattice.coupling
    (slope,) = torch.autograd.grad(lattice.log_partition().value, coupling)
    assert ising.onsager_energy(10.0) == pytest.approx(-slope.sum().item() / 36, abs=1e-4)  # hot: a small lattice does


@pytest.mark.parametrize(
    ("kind", "temperature"),
    [
        (BlockGibbs, 2.1),
        (BlockGibbs, 2.6),
        (SwendsenWang, 2.1),
        *slow((SwendsenWang, 2.6), *((kind, t) for kind in (BlockGibbs, SwendsenWang) for t in (2.0, 3.0))),
    ],
)
def test_lattices_have_the_exact_energy_and_magnetisation(kind: type[BlockGibbs], temperature: float) -> None:
    """Within 6 standard errors over 32 independent chains (t with 31 degrees: false alarm below 2e-6 each).

    Sweeps of single units start at all up: from noise they stay in stripes below the critical temperature. The
    correlation length is below 6 sites at these temperatures, the finite size makes no difference that could be seen.
    """
    exact = example()
    machine = ising_lattice(64, 64, 1 / temperature)
    start = torch.ones(32, 64 * 64)
    kernel = kind(machine, num_chains=32, num_steps=10 if kind is BlockGibbs else 1, start=start)
    found = exact.run(kernel, 20, 30)
    mean, error = exact.mean_and_error(found["energy"])
    assert error < 3e-3
    assert abs(mean - exact.onsager_energy(temperature)) < 6 * error
    if temperature < exact.CRITICAL:
        mean, error = exact.mean_and_error(found["magnetisation"].abs())
        assert error < 3e-3
        assert abs(mean - exact.yang_magnetisation(temperature)) < 6 * error
