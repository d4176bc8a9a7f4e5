"""A small part of the evidence of calibration, and that a killed run goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pyro
import pytest

from benchmarks.calibration_problems import PROBLEMS, WRONG
from benchmarks.evidence_calibration import picture, ranks_of
from pyro_gen.testing import Calibration
from tests.marks import slow

RIGHT = {
    "CPD posteriors, complete rows": 150,
    "PPCA, latent variables": 60,
    "GaussianMixture, Gibbs (joint)": 40,
}
"""Simulations of problems that take milliseconds each; false alarms 1e-4 each for a fresh seed."""
LONGEST = "GaussianMixture, Gibbs (joint)"


@pytest.mark.parametrize("name", [*[name for name in RIGHT if name != LONGEST], *slow(LONGEST)])
def test_right_samplers_pass(name: str) -> None:
    pyro.set_rng_seed(0)
    ranks, num_draws = PROBLEMS[name](RIGHT[name])
    assert Calibration(ranks, num_draws).passes(1e-4)


@pytest.mark.parametrize(
    ("name", "simulations"), [("mean-field SVI", 300), *slow(("GaussianMixture, a sweep too wide (joint)", 60))]
)
def test_wrong_samplers_fail(name: str, simulations: int) -> None:
    pyro.set_rng_seed(0)
    ranks, num_draws = WRONG[name](simulations)
    assert not Calibration(ranks, num_draws).passes(1e-4)


def test_a_run_goes_on_where_it_was_with_the_same_ranks(tmp_path: Path) -> None:
    name = "CPD posteriors, complete rows"
    (tmp_path / "a").mkdir()
    straight, _ = ranks_of(name, PROBLEMS[name], 6, tmp_path / "a")
    (tmp_path / "b").mkdir()
    ranks_of(name, PROBLEMS[name], 3, tmp_path / "b")
    resumed, _ = ranks_of(name, PROBLEMS[name], 6, tmp_path / "b")
    assert {q: r.tolist() for q, r in resumed.ranks.items()} == {q: r.tolist() for q, r in straight.ranks.items()}
    assert len(picture({name: resumed}).axes) == 3
