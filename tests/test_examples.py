"""Every example runs from start to end with small arguments, and none is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.forked import run
from tests.house import ROOT

EXAMPLES = ROOT / "examples"

# One row a script: its arguments for a smoke test. Each gets `--out` and an empty folder besides.
SMOKE: dict[str, tuple[str, ...]] = {
    "autoregressive.py": ("--smoke", "--family", "made"),
    "autoregressive_inpainting.py": ("--smoke",),
    "bayes_classifier.py": ("--smoke",),
    "chow_liu.py": ("--smoke",),
    "bayesian_network.py": ("--smoke",),
    "dbm_mnist.py": ("--smoke",),
    "dbn_mnist.py": ("--smoke", "--awake", "1"),
    "gibbs_expectation.py": ("--smoke",),
    "ising.py": ("--smoke",),
    "iwae.py": ("--smoke",),
    "mixture.py": ("--smoke",),
    "mixture_mcmc_arviz.py": ("--smoke",),
    "pixelcnn_mnist.py": ("--smoke",),
    "ppca.py": ("--smoke",),
    "rbm_alphadigits.py": ("--smoke",),
    "class_rbm.py": ("--smoke",),
    "rbm_bars_and_stripes.py": ("--smoke",),
    "rbm_features.py": ("--smoke",),
    "rbm_hidden_sweep.py": ("--smoke",),
    "rbm_mixing.py": ("--smoke",),
    "rbm_sklearn_pipeline.py": ("--smoke",),
    "rbm_weight_posterior.py": ("--smoke",),
    "rbm_units.py": ("--smoke",),
    "rbm_inpainting.py": ("--smoke",),
    "rbm_recommendation.py": ("--smoke",),
    "character_model.py": ("--smoke",),
    "vae.py": ("--smoke", "--prior", "vamp"),
}

LAST_LINE = re.compile(
    r"test log likelihood: -?\d+\.\d+ nats \(log Z \+/- \d+\.\d+, test rows \+/- \d+\.\d+, N=\d+\)",
)


def run_example(script: Path, *arguments: str) -> str:
    """Runs a script as a user would, on one thread and without a display, and returns what it printed."""
    done = run([str(script), *arguments])
    assert done.returncode == 0, f"{script.name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def without_a_row(folder: Path) -> list[str]:
    """The scripts of a folder that no smoke test covers, and the rows whose script is gone."""
    return sorted({file.name for file in folder.glob("[!_]*.py")} ^ SMOKE.keys())


def test_every_example_has_a_row(tmp_path: Path) -> None:
    assert without_a_row(EXAMPLES) == []
    for name in (*SMOKE, "forgotten.py"):
        (tmp_path / name).touch()
    assert without_a_row(tmp_path) == ["forgotten.py"]


@pytest.mark.parametrize("name", SMOKE)
def test_example_runs(name: str, tmp_path: Path) -> None:
    printed = run_example(EXAMPLES / name, *SMOKE[name], "--out", str(tmp_path / "out"))
    assert printed.strip()
    assert any((tmp_path / "out").rglob("*")), f"{name} wrote nothing into --out"
    if name == "rbm_alphadigits.py":
        assert LAST_LINE.fullmatch(printed.strip().splitlines()[-1])


def test_the_deep_boltzmann_machine_starts_at_the_first_layer_of_the_belief_network(tmp_path: Path) -> None:
    run_example(EXAMPLES / "dbn_mnist.py", "--smoke", "--out", str(tmp_path / "dbn"))
    first = str(tmp_path / "dbn" / "first.pt")
    printed = run_example(EXAMPLES / "dbm_mnist.py", "--smoke", "--first", first, "--out", str(tmp_path / "dbm"))
    assert "log p(v) >=" in printed
