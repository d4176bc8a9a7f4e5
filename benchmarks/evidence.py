"""Every reported figure but those on test rows: one command after another.

    python -m benchmarks.evidence --list                 # names, minutes, commands, what is done
    python -m benchmarks.evidence                        # all of them: a day or more on one core
    python -m benchmarks.evidence --only iwae galaxies   # these two

A command that is done at this commit is skipped, unless `--again` is given. One
that fails does not stop the others: it is named at the end, and the exit status
is 1. Records of commit, command and minutes lie in `out/evidence/done`. With
uncommitted changes nothing counts as done; what the commands write themselves,
in `benchmarks/results` and `docs/images`, is no such change.

The test rows are left alone. Their one evaluation has commands of its own, with
`--split test`, which add to the ledger.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import ROOT
from pyro_gen._files import json_text

RECORDS = ROOT / "out" / "evidence" / "done"
WRITTEN = ("benchmarks/results", "docs/images")
FOR_TESTS = {"PYRO_GEN_EVIDENCE": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


@dataclass(frozen=True)
class Evidence:
    """A command behind reported figures."""

    name: str
    template: str
    """What Python is started with; `{}` stands for the files, in their order."""
    minutes: float | None
    """On one core, about; None where it was not timed."""
    files: tuple[str, ...] = ()
    """Committed files: JSON in `benchmarks/results`, pictures in `docs/images`.

    An example writes into its `--out`, and what it makes is copied by hand.
    """

    @property
    def writes(self) -> tuple[str, ...]:
        """The committed files, from the root of the project."""
        json_folder, image_folder = WRITTEN
        return tuple(
            f"{image_folder if file.endswith('.png') else json_folder}/{file}"
            for file in self.files
        )

    @property
    def arguments(self) -> list[str]:
        """What Python is started with."""
        return self.template.format(*self.writes).split()

    @property
    def record(self) -> Path:
        """The file that says when it was done."""
        return RECORDS / f"{self.name}.json"


TESTS = Evidence(
    "tests",
    "-m pytest -m slow",
    None,
    (
        "evidence/ais_bars_and_stripes_3x3.json",
        "evidence/ais_bars_and_stripes_4x4.json",
        "evidence/exact_memory_784x20.json",
        "evidence/noise_floor_6x4_scale_0.5.json",
        "evidence/noise_floor_6x4_scale_1.0.json",
        "evidence/noise_floor_6x4_scale_2.0.json",
    ),
)

FAMILY = {
    "adult": 1,
    "alphadigits_adam": 2,
    "alphadigits_plain": 2,
    "binarized500": 47,
    "binarized500_adam": 5,
    "binarized500_plain": 25,
    "binarized500_short": 4,
    "dna": 1,
    "mnist16": 8,
    "mnist16_flipped": 7,
    "mnist500": 5,
    "mushrooms": 1,
}
"""Recipes of RBMs, minutes."""


def _family(recipe: str) -> Evidence:
    seeds = "0"
    if recipe.startswith("mnist16"):
        seeds = "0 1 2"
    command = f"-m benchmarks.evidence_family {recipe} --split valid --seeds {seeds}"
    return Evidence(f"family-{recipe}", command, FAMILY[recipe], (f"family/{recipe}_valid.json",))


def _autoregressive(data: str) -> tuple[Evidence, Evidence]:
    """The search over recipes, then the best of each family."""
    command = "-m benchmarks.evidence_autoregressive"
    files = {
        "search": f"autoregressive/{data}_search.json",
        "judge": f"autoregressive/{data}_valid.json",
    }
    search, judge = (
        Evidence(f"autoregressive-{data}-{step}", f"{command} {step} {data}", None, (file,))
        for step, file in files.items()
    )
    return search, judge


def _times(mode: str, options: str = "") -> Evidence:
    return Evidence(
        f"times-{mode}", f"-m benchmarks {mode} {options} --json {{}}", None, (f"{mode}.json",)
    )


def _growth(mode: str, options: str = "") -> Evidence:
    command = f"-m benchmarks {mode} {options} --json {{}} --plot {{}}"
    return Evidence(f"times-{mode}", command, None, (f"{mode}.json", f"{mode}.png"))


VAE = "--no-bfloat16 --draws 5000 50000 --rows 1000"

EVIDENCE = (
    TESTS,
    # Boltzmann machines
    Evidence(
        "alphadigits",
        "-m benchmarks.evidence_alphadigits --split valid",
        57,
        ("alphadigits_valid.json",),
    ),
    Evidence("backends", "-m benchmarks.evidence_backends", 23, ("backends_native.json",)),
    Evidence(
        "bracket-coverage",
        "-m benchmarks.evidence_bracket coverage",
        None,
        ("evidence/bracket_coverage.json", "bracket_coverage.png"),
    ),
    Evidence(
        "bracket-schedule",
        "-m benchmarks.evidence_bracket schedule",
        None,
        ("evidence/ais_schedules.json",),
    ),
    Evidence(
        "bracket-practical",
        "-m benchmarks.evidence_bracket practical",
        8,
        ("evidence/bracket_784x500.json", "log_weights.png"),
    ),
    Evidence(
        "bracket-exact",
        "-m benchmarks.evidence_bracket exact",
        None,
        ("evidence/exact_seconds.json",),
    ),
    Evidence("bars", "-m benchmarks.evidence_bars --json {}", 21, ("bars_and_stripes.json",)),
    Evidence(
        "ablation",
        "-m benchmarks.ablation --json {} --plot {}",
        26,
        ("ablation.json", "ablation.png"),
    ),
    *(_family(recipe) for recipe in FAMILY),
    Evidence("rbm-alphadigits", "examples/rbm_alphadigits.py --out out/rbm", 2, ("samples.png",)),
    Evidence("rbm-bars-and-stripes", "examples/rbm_bars_and_stripes.py --out out/rbm", None),
    Evidence(
        "rbm-hidden-sweep", "examples/rbm_hidden_sweep.py --out out/rbm", 2, ("hidden_sweep.png",)
    ),
    Evidence(
        "rbm-inpainting", "examples/rbm_inpainting.py --out out/rbm", None, ("inpainting.png",)
    ),
    Evidence("rbm-mixing", "examples/rbm_mixing.py --out out/rbm", None, ("mixing.png",)),
    # Samplers
    Evidence(
        "calibration",
        "-m benchmarks.evidence_calibration --json {} --plot {}",
        48,
        ("evidence/calibration.json", "calibration.png"),
    ),
    Evidence(
        "gibbs",
        "-m benchmarks.evidence_gibbs --warmup 200 --draws 700 --json {}",
        None,
        ("evidence/gibbs_pyro.json",),
    ),
    Evidence(
        "gibbs-expectation",
        "examples/gibbs_expectation.py --out out/gibbs",
        None,
        ("gibbs_expectation.png",),
    ),
    # Autoregressive densities
    *(
        step
        for data in ("nltcs", "plants", "dna", "mushrooms", "adult")
        for step in _autoregressive(data)
    ),
    Evidence(
        "pixelcnn",
        "examples/pixelcnn_mnist.py --bfloat16 --epochs 10 --out out/pixelcnn",
        None,
        ("pixelcnn_mnist.png",),
    ),
    # Mixtures, linear models, autoencoders
    Evidence(
        "galaxies",
        "-m benchmarks.evidence_galaxies",
        10,
        ("mixture_galaxies.json", "mixture_relabelling.png"),
    ),
    Evidence(
        "gaussian-mixtures",
        "-m benchmarks.evidence_gaussian_mixtures",
        2,
        ("gaussian_mixtures.json",),
    ),
    Evidence("mixtures", "-m benchmarks.evidence_mixtures --split valid", 78, ("mixtures.json",)),
    Evidence(
        "mixture-pictures",
        "examples/mixture.py --out out/mixture",
        None,
        ("mixture_faithful.png", "mixture_galaxies.png"),
    ),
    Evidence(
        "ppca-example",
        "examples/ppca.py --out out/ppca",
        None,
        ("ppca_accuracy.png", "ppca_draws.png", "ppca_map.png"),
    ),
    Evidence(
        "ppca", "-m benchmarks.evidence_ppca", None, ("ppca.json",)
    ),  # reads the example's tables
    Evidence("vae", f"examples/vae.py {VAE} --out out/vae", 17, ("vae/standard_valid.json",)),
    Evidence(
        "vae-vamp",
        f"examples/vae.py --prior vamp --epochs 100 --batch-size 200 {VAE} --out out/vamp",
        25,
        ("vae/vamp_valid.json", "vae_samples.png"),
    ),
    Evidence(
        "annealed",
        "-m benchmarks.evidence_annealed --json {}",
        4,
        ("evidence/annealed_bracket.json",),
    ),
    Evidence("iwae", "-m benchmarks.evidence_iwae --json {}", 19, ("iwae.json",)),
    Evidence("iwae-example", "examples/iwae.py --out out/iwae", None, ("iwae.png",)),
    # Bayesian networks
    Evidence(
        "bayesian-network",
        "-m benchmarks.evidence_bayesian_network",
        None,
        ("bayesian_network_exact.json",),
    ),
    Evidence(
        "network-learning",
        "-m benchmarks.evidence_network_learning",
        None,
        ("bayesian_network_learning.json",),
    ),
    Evidence("structure-trees", "-m benchmarks.evidence_structure trees", None),
    Evidence(
        "structure-graphs",
        "-m benchmarks.evidence_structure graphs",
        3,
        ("structure_graphs.json",),
    ),
    Evidence(
        "bayesian-network-example",
        "examples/bayesian_network.py --out out/bayesian_network",
        5,
        ("bayesian_network.png", "bayesian_network_learning.png"),
    ),
    Evidence("chow-liu", "examples/chow_liu.py --out out/chow_liu", None, ("chow_liu.png",)),
    # Times
    _times("gibbs", "--threads 1 2"),
    _times("cd"),
    _times("update", "--threads 1 2"),
    _times("ais", "--threads 1 2"),
    _times("gibbs_pyro", "--rounds 5 --clock cpu"),
    _growth("growth"),
    _times("mixture", "--rounds 7"),
    _times("nade"),
    _times("nade_sampling", "--rounds 3"),
    _times("autoregressive", "--rounds 7"),
    _times("autoregressive_sampling", "--rounds 7"),
    _times("vae", "--rounds 7"),
    _times("autoregressive_steps", "--rounds 7"),
    _times("bayesian_network", "--rounds 7"),
    _growth("autoregressive_growth", "--rounds 7"),
)


def commit() -> str | None:
    """The commit that is checked out, or None with changes or without git."""
    try:
        head = _git("rev-parse", "HEAD")
        changes = _git(
            "status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in WRITTEN)
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    if changes:
        return None
    return head


def _git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def done(evidence: Evidence, head: str | None) -> bool:
    """Whether a record says that this command passed at this commit."""
    if head is None or not evidence.record.exists():
        return False
    record = json.loads(evidence.record.read_text(encoding="utf-8"))
    return record["commit"] == head and record["command"] == evidence.arguments


def run(evidence: Evidence, head: str | None) -> bool:
    """Run one command and record it; whether it passed."""
    environment = dict(os.environ)
    if evidence is TESTS:
        environment |= FOR_TESTS
    start = time.monotonic()
    print(f"=== {evidence.name}: python {' '.join(evidence.arguments)}", flush=True)
    outcome = subprocess.run(
        [sys.executable, *evidence.arguments], cwd=ROOT, env=environment, check=False
    )
    minutes = (time.monotonic() - start) / 60
    print(
        f"=== {evidence.name}: status {outcome.returncode} after {minutes:.1f} minutes", flush=True
    )
    if outcome.returncode:
        return False
    record = {
        "commit": head,
        "command": evidence.arguments,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "minutes": round(minutes, 1),
    }
    evidence.record.parent.mkdir(parents=True, exist_ok=True)
    evidence.record.write_text(json_text(record, indent=1) + "\n", encoding="utf-8")
    return True


def table(rows: Sequence[Evidence], head: str | None) -> str:
    """One line a command: done or not, minutes, name, command, committed files."""
    lines = []
    for evidence in rows:
        mark = "done" if done(evidence, head) else ""
        minutes = "-" if evidence.minutes is None else f"{evidence.minutes:g}"
        command = f"python {' '.join(evidence.arguments)}"
        lines.append(f"{mark:5}{minutes:>4}  {evidence.name:32}{command}")
        lines += [f"{'':43}{file}" for file in evidence.writes if file not in evidence.arguments]
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.evidence", description=__doc__, formatter_class=form
    )
    names = [evidence.name for evidence in EVIDENCE]
    result.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help="see --list"
    )
    result.add_argument("--list", action="store_true", help="print the table and run nothing")
    result.add_argument("--again", action="store_true", help="run what is done at this commit too")
    return result


def main(arguments: list[str]) -> int:
    """Run the commands, or list them.

    Args:
        arguments: the command line without the program's name.

    Returns:
        The exit status: 1 where a command failed.
    """
    options = parser().parse_args(arguments)
    rows = [evidence for evidence in EVIDENCE if evidence.name in options.only]
    head = commit()
    if options.list:
        print(table(rows, head))
        return 0
    failed = []
    for evidence in rows:
        if done(evidence, head) and not options.again:
            print(f"=== {evidence.name}: done at {head}", flush=True)
        elif not run(evidence, commit()):
            failed.append(evidence.name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
