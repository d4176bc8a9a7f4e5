"""How much of the gain by tighter bounds belongs to the model, and how much to its
estimate of the log likelihood?

    # AlphaDigits, 19 minutes on one core
    python -m benchmarks.evidence_iwae --json benchmarks/results/iwae.json

It trains as `examples/iwae.py` does and judges the validation rows by 5,000 and
50,000 draws from the guide and by annealed importance sampling with two numbers
of temperatures. What is done lies in `--out` and is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyro
from torch import Tensor

from benchmarks.machine import describe
from examples import iwae
from pyro_gen import datasets, models
from pyro_gen._files import json_text
from pyro_gen.infer import AnnealedImportance

LOSSES = ("ELBO", "IWAE-5", "IWAE-50", "DReG-50")


def estimate(
    vae: models.VAE, x: Tensor, num_samples: int, method: AnnealedImportance | None = None
) -> dict[str, Any]:
    """Figures of an estimate for the JSON.

    Args:
        vae: the model.
        x: rows.
        num_samples: draws or chains a row.
        method: annealing, or None for draws from the guide.
    """
    result = vae.test_log_likelihood(x, num_samples, method)
    figures: dict[str, Any] = {
        "value": result.value,
        "row error": result.row_error,
        "median ESS": result.effective_sample_size.median().item(),
        "unreliable rows": int(result.unreliable.sum()),
    }
    if result.acceptance is not None:
        figures["acceptance"] = result.acceptance.mean().item()
    return figures


def measures(
    vae: models.VAE, x: Tensor, args: argparse.Namespace
) -> dict[str, Callable[[], dict[str, Any]]]:
    """Everything that is asked of a model, by name."""
    asked: dict[str, Callable[[], dict[str, Any]]] = {}
    for draws in args.draws:
        asked[f"{draws} draws"] = partial(estimate, vae, x, draws)
    for temperatures in args.temperatures:
        method = AnnealedImportance(temperatures, args.leapfrog)
        asked[f"annealed, {temperatures} temperatures"] = partial(
            estimate, vae, x, args.chains, method
        )
    asked["gap on simulated rows"] = partial(gap, vae, args)
    return asked


def gap(vae: models.VAE, args: argparse.Namespace) -> dict[str, Any]:
    """Bidirectional Monte Carlo on rows that the model draws, with the largest
    number of temperatures.
    """
    method = AnnealedImportance(max(args.temperatures), args.leapfrog)
    result = vae.simulated_gap(args.simulated_rows, args.chains, method)
    return {"value": result.value, "error": result.standard_error, "rows": args.simulated_rows}


def evaluated(
    name: str, data: datasets.LabelledImages, seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Figures of one model, each from the same seed, so that a killed run goes on
    with the same ones.
    """
    start = time.process_time()
    recipe = iwae.parse(["--smoke"] if args.smoke else [])
    recipe.out = args.out
    vae, curve = iwae.train(name, data, seed, recipe)
    path = args.out / f"{name}-{seed}.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    figures.setdefault("epoch", max(curve, key=curve.__getitem__))
    figures.setdefault("training seconds", round(time.process_time() - start, 1))
    for key, measure in measures(vae, data.valid, args).items():
        if key not in figures:
            pyro.set_rng_seed(seed + 1)
            start = time.process_time()
            figures[key] = measure()
            figures[key]["seconds"] = round(time.process_time() - start, 1)
            path.write_text(json_text(figures, indent=2) + "\n", encoding="utf-8")
            print(f"{name:8} {seed} {key}:", figures[key], flush=True)
    return figures


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--losses", choices=iwae.LOSSES, nargs="+", default=list(LOSSES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--draws", type=int, nargs="+", default=[5000, 50_000], help="from the guide, an image"
    )
    parser.add_argument("--temperatures", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--chains", type=int, default=16, help="of annealing, an image")
    parser.add_argument("--leapfrog", type=int, default=5)
    parser.add_argument("--simulated-rows", type=int, default=36)
    parser.add_argument(
        "--out", type=Path, default=Path("out/iwae"), help="folder of checkpoints and parts"
    )
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--smoke", action="store_true", help="a few seconds, to see that it runs")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Train, judge, write."""
    if args.smoke:
        args.losses = ["ELBO"]
        args.draws = [10, 20]
        args.temperatures = [2, 4]
        args.chains = 2
        args.simulated_rows = 3
    args.out.mkdir(parents=True, exist_ok=True)
    pyro.enable_validation(False)  # the rows are checked once
    # the JSON has their sizes
    warnings.filterwarnings("ignore", "the importance weights", UserWarning)
    data = datasets.alphadigits()
    runs = {
        f"{name}, seed {seed}": evaluated(name, data, seed, args)
        for name in args.losses
        for seed in args.seeds
    }
    if args.json is not None:
        settings = {key: value for key, value in vars(args).items() if key not in ("out", "json")}
        figures = {
            "machine": describe(),
            "settings": settings,
            "rows": len(data.valid),
            "runs": runs,
        }
        args.json.write_text(json_text(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(parse())
