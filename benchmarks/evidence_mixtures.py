"""Mixtures of Bernoulli distributions on binary sets of the literature: the row
that every density table starts with.

    # all sets and settings, on validation rows
    python -m benchmarks.evidence_mixtures --split valid
    # the best one, once; enters the test ledger
    python -m benchmarks.evidence_mixtures --split test --data nltcs

EM from one start by k-means++, on the training rows alone; number of components
and smoothing are chosen on the validation rows. A run goes on where it was
stopped: settings that are in `benchmarks/results/mixtures.json` are kept.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import time
from datetime import UTC, datetime
from typing import Any

import pyro
import torch
from torch import Tensor

from benchmarks.evidence_alphadigits import LEDGER, RESULTS
from benchmarks.machine import describe
from examples.autoregressive import unseen
from pyro_gen import datasets
from pyro_gen._files import json_text, replacing
from pyro_gen.models import BernoulliMixture

FILE = RESULTS / "mixtures.json"
COMPONENTS = {
    **dict.fromkeys(("nltcs", "plants", "dna", "mushrooms", "adult"), (16, 32, 64, 128, 256)),
    "binarized_mnist": (64, 256),
}
OTHERS = (16, 32, 64, 128, 256)  # components for sets that have no row here
SMOOTHING = {**dict.fromkeys(COMPONENTS, (0.3, 3.0)), "binarized_mnist": (1.0,)}
STEPS = 200
TOLERANCE = 1e-4
"""Of EM, the latter in nats a row."""


def fit(
    x: Tensor, components: int, smoothing: float, seed: int
) -> tuple[BernoulliMixture, dict[str, Any]]:
    """A mixture by EM, and what it took."""
    pyro.set_rng_seed(seed)
    wall = time.perf_counter()
    processor = time.process_time()
    mixture = BernoulliMixture.from_data(x, components, smoothing=smoothing, guide="delta")
    result = mixture.fit(x, num_starts=0, num_steps=STEPS, tolerance=TOLERANCE)
    return mixture, {
        "components": components,
        "smoothing": smoothing,
        "seed": seed,
        "steps": len(result.objective) - 1,
        "converged": result.converged,
        "train": result.log_likelihood / len(x),
        "minutes": (time.perf_counter() - wall) / 60,
        "processor minutes": (time.process_time() - processor) / 60,
    }


@torch.no_grad()
def judge(mixture: BernoulliMixture, x: Tensor, new: Tensor) -> dict[str, float]:
    """Mean log likelihood of rows and its standard error, and that of rows that are
    not in the training set.
    """
    nats = mixture.log_likelihood(x).double()
    error = (nats.std() / len(nats) ** 0.5).item()
    return {
        "log likelihood": nats.mean().item(),
        "row error": error,
        "unseen rows": nats[new].mean().item(),
    }


def choose(data: datasets.BinaryDataset, report: dict[str, Any], seed: int) -> None:
    """Every setting on the validation rows of a set."""
    name = data.name
    runs = report["runs"].setdefault(name, [])
    new = unseen(data.valid, data.train)
    for components, smoothing in itertools.product(
        COMPONENTS.get(name, OTHERS), SMOOTHING.get(name, (0.3, 3.0))
    ):
        setting = {"components": components, "smoothing": smoothing, "seed": seed}
        if any(setting.items() <= run.items() for run in runs):
            continue
        mixture, run = fit(data.train, components, smoothing, seed)
        runs.append(run | judge(mixture, data.valid, new))
        report["best on validation"][name] = max(
            runs, key=lambda one: float(one["log likelihood"])
        )
        print(name, json_text(runs[-1]), flush=True)
        write(report)


def test(data: datasets.BinaryDataset, report: dict[str, Any], made: dict[str, Any]) -> None:
    """The best setting of a set on its test rows: once, with its row in the ledger."""
    name = data.name
    if name in report["test"]:
        raise SystemExit(
            f"{name} has had its one evaluation on test rows: see {FILE} and {LEDGER}"
        )
    best = report["best on validation"][name]
    mixture, run = fit(data.train, best["components"], best["smoothing"], best["seed"])
    figures = run | judge(mixture, data.test, unseen(data.test, data.train))
    origin = {key: made[key] for key in ("date", "command", "commit", "uncommitted_changes")}
    report["test"][name] = origin | figures
    print(name, json_text(figures), flush=True)
    write(report)
    setting = (
        f"{best['components']} components, smoothing {best['smoothing']:g}, seed {best['seed']}; "
        "valid "
        f"{best['log likelihood']:.3f}; rows that are not in train {figures['unseen rows']:.3f} "
        "(evidence_mixtures)"
    )
    figure = f"{figures['log likelihood']:.3f}"
    error = f"{figures['row error']:.3f}"
    with LEDGER.open("a", newline="") as file:
        row = [
            datetime.now(UTC).date(),
            str(made["commit"])[:7],
            name,
            "mixture of Bernoullis",
            setting,
        ]
        csv.writer(file, lineterminator="\n").writerow([*row, figure, "", error, ""])


def write(report: dict[str, Any]) -> None:
    """The report, whole."""
    with replacing(FILE) as part:
        part.write_text(json_text(report, indent=1) + "\n", encoding="utf-8")


def main(args: argparse.Namespace) -> None:
    """All sets, on validation or test rows."""
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    made = describe() | {"threads": torch.get_num_threads()}
    # A test run keeps what is said of the validation runs that chose, and says
    # of itself what it is.
    report = known | {key: known.get(key, {}) for key in ("runs", "best on validation", "test")}
    for data in map(datasets.load, args.data):
        if args.split == "valid":
            report |= made
            choose(data, report, args.seed)
        else:
            test(data, report, made)
    print(f"written to {FILE}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("valid", "test"), default="valid")
    parser.add_argument(
        "--data",
        nargs="+",
        default=list(COMPONENTS),
        help="names of sets of the data folder, or .npz files",
    )
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
