"""Training quality does not depend on the backend: AlphaDigits by the fast path
and by plain torch, over seeds.

    python -m benchmarks.evidence_backends --seeds 16

Each seed trains one RBM by each backend, from the same initial values and with
the same minibatches; AIS judges both on the validation rows with the same key.
Plain torch is `cpu`: float32 as in the reference, with draws of its own
(`--against reference` draws Philox in torch's integers, which takes ten times
as long). The JSON goes to `benchmarks/results/backends_<fast>.json`; a run that
was stopped trains only what it lacks.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro
import torch
from scipy.stats import t as student

from benchmarks.machine import describe
from examples.rbm_alphadigits import Recipe, train
from pyro_gen import datasets
from pyro_gen._files import json_text, replacing
from pyro_gen.infer import log_likelihood

RESULTS = Path(__file__).parent / "results"
RECIPE = replace(Recipe(), hidden=200, epochs=300, betas=4000, annealed_chains=500)


def prefix(data: datasets.LabelledImages) -> str:
    """Before the names of files that belong to a set other than AlphaDigits."""
    if data.name == "alphadigits":
        return ""
    return f"{data.name}-"


def value(data: datasets.LabelledImages, seed: int, backend: str, out: Path) -> dict[str, float]:
    """Validation log likelihood of one run, trained by `backend` and evaluated by the default."""
    start = time.perf_counter()
    os.environ["PYRO_GEN_BACKEND"] = backend
    pyro.set_rng_seed(seed)
    pyro.clear_param_store()
    rbm, _ = train(RECIPE, data, out, f"{prefix(data)}{backend}-seed{seed}")
    del os.environ["PYRO_GEN_BACKEND"]
    minutes = (time.perf_counter() - start) / 60
    pyro.set_rng_seed(1000 + seed)
    result = log_likelihood(rbm(), data.valid)
    return {
        "valid": result.value,
        "log Z error": result.partition_error,
        "minutes of training": minutes,
    }


def interval(differences: list[float]) -> dict[str, float]:
    """Mean, standard error and 95 % interval (Student's t) of the paired differences."""
    x = torch.tensor(differences, dtype=torch.float64)
    error = (x.std() / math.sqrt(len(x))).item()
    half = float(student.ppf(0.975, len(x) - 1)) * error
    return {
        "mean": x.mean().item(),
        "error": error,
        "lower": x.mean().item() - half,
        "upper": x.mean().item() + half,
    }


def main(args: argparse.Namespace) -> None:
    """Train what is missing, and write the JSON after each seed."""
    args.out.mkdir(parents=True, exist_ok=True)
    data = datasets.load_images(args.data)
    file = RESULTS / f"{prefix(data)}backends_{args.fast}.json"
    other = f" --data {args.data}" if prefix(data) else ""
    choice = f"--fast {args.fast} --against {args.against} --seeds {args.seeds}{other}"
    command = f"python -m benchmarks.evidence_backends {choice}"
    report: dict[str, Any] = {**describe(), "command": command, "recipe": vars(RECIPE), "runs": {}}
    for seed in range(args.seeds):
        runs = {
            backend: value(data, seed, backend, args.out) for backend in (args.fast, args.against)
        }
        report["runs"][str(seed)] = runs
        print(seed, {backend: f"{run['valid']:.2f}" for backend, run in runs.items()}, flush=True)
        differences = [
            run[args.fast]["valid"] - run[args.against]["valid"] for run in report["runs"].values()
        ]
        if len(differences) > 1:
            report[f"{args.fast} less {args.against}, nats"] = interval(differences)
        with replacing(file) as part:
            part.write_text(json_text(report, indent=1) + "\n", encoding="utf-8")
    print(report[f"{args.fast} less {args.against}, nats"], f"written to {file}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default="alphadigits",
        help="alphadigits, a set of the data folder, or an .npz file",
    )
    parser.add_argument("--fast", choices=("native", "cpu"), default="native")
    parser.add_argument("--against", choices=("cpu", "reference"), default="cpu")
    parser.add_argument("--seeds", type=int, default=16, help="at least 2")
    parser.add_argument("--out", type=Path, default=Path("out/backends"))
    main(parser.parse_args())
