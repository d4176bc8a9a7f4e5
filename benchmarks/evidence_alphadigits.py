"""The figures on Binary AlphaDigits: the recipes of the demo, each paired against the best.

    # to choose by
    python -m benchmarks.evidence_alphadigits --split valid
    # once; adds its rows to the test ledger
    python -m benchmarks.evidence_alphadigits --split test

Training resumes from `out/evidence`. The JSON goes to
`benchmarks/results/<data>_<split>.json`.
"""

from __future__ import annotations

import argparse
import csv
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor

from benchmarks.machine import describe
from examples.rbm_alphadigits import RECIPES, judge, train
from pyro_gen import datasets
from pyro_gen._files import json_text

RESULTS = Path(__file__).parent / "results"
LEDGER = RESULTS / "test_ledger.csv"
COLUMNS = (
    "date",
    "commit",
    "data set",
    "model",
    "setting",
    "figure",
    "log Z error",
    "row error",
    "lower end",
)


def measure(
    name: str, data: datasets.LabelledImages, split: str, seed: int, out: Path
) -> tuple[dict[str, Any], Tensor]:
    """Train (or resume) one recipe, judge it, and return its figures and the rows' log
    likelihoods at the lower end.
    """
    pyro.set_rng_seed(seed)
    pyro.clear_param_store()
    recipe = RECIPES[name]
    start = time.perf_counter()
    other = "" if data.name == "alphadigits" else f"{data.name}-"
    rbm, _ = train(recipe, data, out, f"{other}{name}-seed{seed}")
    trained = time.perf_counter()
    pyro.set_rng_seed(seed + 1000)
    result, bracket = judge(rbm, recipe, data.train, getattr(data, split))
    figures = {
        "recipe": vars(recipe),
        "seed": seed,
        "log likelihood": result.value,
        "row error": result.row_error,
        "log Z error": result.partition_error,
        "effective sample size": bracket.forward.effective_sample_size.item(),
        "lower end": result.against(bracket.upper),
        "gap": bracket.gap.item(),
        "resolved": bracket.resolved,
        "minutes of training in this call": (trained - start) / 60,
        "minutes of judging": (time.perf_counter() - trained) / 60,
    }
    return figures, result.rows + (result.partition.value - bracket.upper)


def paired(better: Tensor, worse: Tensor) -> dict[str, float]:
    """Mean difference over the rows, its standard error, and their ratio."""
    difference = better - worse
    mean = difference.mean().item()
    error = (difference.std() / len(difference) ** 0.5).item()
    return {"difference": mean, "error": error, "errors apart": mean / error if error else 0.0}


def enter(figures: dict[str, Any], name: str, commit: str, data: str = "alphadigits") -> None:
    """Add one evaluation of the test rows to the ledger."""
    fresh = not LEDGER.exists()
    errors = [
        f"{figures[key]:.3f}"
        for key in ("log likelihood", "log Z error", "row error", "lower end")
    ]
    setting = f"recipe {name}, seed {figures['seed']}"
    with LEDGER.open("a", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if fresh:
            table.writerow(COLUMNS)
        table.writerow([datetime.now(UTC).date(), commit[:7], data, "RBM", setting, *errors])


def main(args: argparse.Namespace) -> None:
    """Measure all recipes and write the JSON."""
    args.out.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(exist_ok=True)
    provenance = describe()  # before the hours of training: the commit that is measured
    figures = {}
    rows = {}
    data = datasets.load_images(args.data)
    for name in args.recipes:
        print(f"--- {name}", flush=True)
        figures[name], rows[name] = measure(name, data, args.split, args.seed, args.out)
        if args.split == "test":
            enter(figures[name], name, str(provenance["commit"]), data.name)
    pairs = {
        f"best against {name}, at the lower ends": paired(rows["best"], rows[name])
        for name in rows
        if "best" in rows and name != "best"
    }
    report = {
        **provenance,
        "threads": torch.get_num_threads(),
        "recipes": figures,
        **pairs,
    }
    if set(args.recipes) == set(RECIPES):
        some = ""
    else:
        some = "_" + "_".join(args.recipes)
    file = RESULTS / f"{data.name}{some}_{args.split}.json"
    file.write_text(json_text(report, indent=2) + "\n")
    print(json_text(pairs), f"written to {file}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="alphadigits",
        help="alphadigits, a set of the data folder, or an .npz file",
    )
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--split", choices=("valid", "test"), default="valid")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/evidence"))
    main(parser.parse_args())
