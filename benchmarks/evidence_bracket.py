"""Is log Z between the two ends, is the adaptive schedule worth its pilot, and
what does all of it cost?

    # trained RBMs of at most 25 hidden units, log Z enumerated
    python -m benchmarks.evidence_bracket coverage
    # standard errors of both schedules at equal cost
    python -m benchmarks.evidence_bracket schedule
    # 784x500, 500 chains, 10,000 temperatures: minutes
    python -m benchmarks.evidence_bracket practical
    # seconds to enumerate 16, 20 and 25 hidden units
    python -m benchmarks.evidence_bracket exact

JSON goes to `benchmarks/results/evidence`, pictures to `--pictures`. Data sets
other than AlphaDigits and bars and stripes are read from `$PYRO_GEN_DATA`.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pyro
import torch

from benchmarks.machine import describe
from benchmarks.trained_models import EMBEDDED, RECIPES, Recipe, TrainedModel, train
from pyro_gen import plotting
from pyro_gen._files import json_text
from pyro_gen.distributions import RBM
from pyro_gen.infer import AIS, Exact, Partition, PersistentChains, log_partition_bracket
from pyro_gen.infer.energy.bracket import Bracket

RESULTS = Path(__file__).resolve().parent / "results" / "evidence"
WIDE = Recipe("binarized_mnist", 500, 3000, 0.05, PersistentChains(num_chains=100, num_steps=1))
MEDIUM = Recipe("alphadigits", 200, 6000, 0.1, PersistentChains(num_chains=100, num_steps=5))


@dataclass(frozen=True)
class Covered:
    """One bracket beside the truth, in nats."""

    model: str
    seed: int
    exact: float
    lower: float
    upper: float
    forward: float
    reverse: dict[str, float]
    resolved: bool

    @property
    def holds(self) -> bool:
        """Whether the bracket holds the truth."""
        return self.lower <= self.exact <= self.upper


def evaluated(model: TrainedModel, partition: Partition | None) -> RBM:
    """The model in float32, as the kernels take it."""
    weight, vbias, hbias = (p.float() for p in model.parameters)
    return RBM(weight, vbias, hbias, partition)


def settings(
    model: TrainedModel, num_chains: int, num_betas: int, schedule: str = "adaptive"
) -> AIS:
    """AIS from the training rows' rates, as a module has it."""
    rates = (model.rows.sum(0) + 1) / (len(model.rows) + 2)
    return AIS(num_chains, num_betas, rates, "linear" if schedule == "linear" else "adaptive")


def bracketed(model: TrainedModel, seed: int, num_chains: int, num_betas: int) -> Covered:
    """The bracket of one model, without states of the user, beside its exact log Z."""
    pyro.set_rng_seed(10_000 + seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # poor weights are what these models are for
        bracket = log_partition_bracket(evaluated(model, settings(model, num_chains, num_betas)))
    exact = model.distribution(Exact()).log_partition().value.item()
    reverse = {name: estimate.value.item() for name, estimate in bracket.starts.items()}
    ends = bracket.lower.item(), bracket.upper.item()
    return Covered(
        model.name, seed, exact, *ends, bracket.forward.value.item(), reverse, bracket.resolved
    )


def coverage(names: list[str], seeds: list[int], num_chains: int, num_betas: int) -> list[Covered]:
    """Brackets of freshly trained models."""
    found = []
    for name in names:
        for seed in seeds:
            found.append(bracketed(train(name, seed), seed, num_chains, num_betas))
            row = found[-1]
            verdict = "resolved" if row.resolved else "UNRESOLVED"
            miss = "" if row.holds else "   DOES NOT HOLD log Z"
            print(
                f"{name:46} {seed}  log Z {row.exact:9.3f}  from {row.lower - row.exact:+8.3f} "
                f"to {row.upper - row.exact:+8.3f}  {verdict}{miss}",
                flush=True,
            )
    return found


def summary(found: list[Covered]) -> dict[str, Any]:
    """Counts over all brackets."""
    false = [row for row in found if not row.holds]
    return {
        "brackets": len(found),
        "hold": len(found) - len(false),
        "resolved": sum(row.resolved for row in found),
        "resolved and false": sum(row.resolved for row in false),
        "false": [f"{row.model}, seed {row.seed}" for row in false],
        "rows": [asdict(row) for row in found],
    }


def schedules(
    models: dict[str, TrainedModel], num_chains: int, num_betas: int, runs: int
) -> list[dict[str, Any]]:
    """Standard error and variance of the log weights for both schedules, the pilot
    paid for in temperatures.
    """
    rows = []
    for name, model in models.items():
        row: dict[str, Any] = {"model": name}
        extra = round(num_betas * 50 / (4 * num_chains))
        for schedule, betas in (("linear", num_betas + extra), ("adaptive", num_betas)):
            pyro.set_rng_seed(0)
            found = []
            for _ in range(runs):
                partition = settings(model, num_chains, betas, schedule)
                rbm = evaluated(model, partition)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    found.append((rbm.log_partition(), _variance(rbm)))
            row[f"{schedule} standard error"] = mean(e.standard_error.item() for e, _ in found)
            row[f"{schedule} variance"] = mean(variance for _, variance in found)
        rows.append(row)
        print(
            "  ".join(
                f"{k} {v:.3f}" if isinstance(v, float) else f"{v:46}" for k, v in row.items()
            ),
            flush=True,
        )
    return rows


def _variance(rbm: RBM) -> float:
    assert isinstance(rbm.partition, AIS)
    return rbm.partition.run(rbm).log_weights.var().item()


def practical(num_chains: int, num_betas: int, recipe: Recipe) -> tuple[dict[str, Any], Bracket]:
    """Seconds of AIS and of the whole bracket on a trained wide model."""
    model = train("wide", recipe=recipe)
    rbm = evaluated(model, settings(model, num_chains, num_betas))
    start = time.perf_counter()
    busy = time.process_time()
    forward = rbm.log_partition()
    middle = time.perf_counter()
    worked = time.process_time() - busy
    print(f"AIS: {middle - start:.0f} s, {worked:.0f} CPU seconds", flush=True)
    bracket = log_partition_bracket(rbm)
    end = time.perf_counter()
    figures = {
        "shape": list(rbm.weight.shape),
        "chains": num_chains,
        "temperatures": num_betas,
        "threads": torch.get_num_threads(),
        "AIS seconds": middle - start,
        "AIS CPU seconds": worked,  # of all threads: what a shared machine can be evaluated by
        "rest of the bracket seconds": end - middle,
        "bracket CPU seconds": time.process_time() - busy,
        "AIS": forward.value.item(),
        "standard error": forward.standard_error.item(),
        "effective sample size": forward.effective_sample_size.item(),
        "lower": bracket.lower.item(),
        "upper": bracket.upper.item(),
        "verdict": bracket.verdict,
        "starts": {name: e.value.item() for name, e in bracket.starts.items()},
    }
    print(json_text(figures, indent=2))
    return figures, bracket


def exact_seconds(visible: int, hidden: list[int]) -> dict[str, float]:
    """CPU seconds, of all threads, to enumerate models with random weights."""
    found = {}
    for units in hidden:
        torch.manual_seed(0)
        rbm = RBM(
            0.5 * torch.randn(visible, units), torch.randn(visible), torch.randn(units), Exact()
        )
        start = time.process_time()
        value = rbm.log_partition().value.item()
        found[f"{visible}x{units}"] = time.process_time() - start
        print(
            f"{visible}x{units}: log Z {value:.4f} in {found[f'{visible}x{units}']:.1f} CPU s",
            flush=True,
        )
    return found


def coverage_picture(found: list[Covered]) -> Any:
    """Each bracket around its exact log Z, on a scale that is linear within one nat."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.model for row in found))
    figure = Figure(figsize=(8.6, 0.27 * len(names) + 1.2))
    axes = figure.add_subplot()
    axes.axvline(0, color="black", linewidth=0.8)
    for row in found:
        count = sum(other.model == row.model for other in found)
        place = names.index(row.model) + 0.5 * (row.seed - (count - 1) / 2) / count
        if not row.holds:
            color = "#c8553d"
        elif row.resolved:
            color = "#1f5a94"
        else:
            color = "#b58a1b"
        axes.plot(
            [row.lower - row.exact, row.upper - row.exact],
            [place, place],
            color=color,
            linewidth=2.2,
        )
    axes.set_xscale("symlog", linthresh=1, linscale=2)
    axes.set_xticks(
        [-10, -3, -1, -0.5, 0, 0.5, 1, 3, 10],
        ["-10", "-3", "-1", "-.5", "0", ".5", "1", "3", "10"],
    )
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("ends of the bracket minus exact log Z [nats]")
    axes.set_title(
        "blue: resolved, yellow: UNRESOLVED, red: does not hold log Z", loc="left", fontsize=9
    )
    axes.grid(axis="x", linewidth=0.4)
    return figure


def write(name: str, figures: dict[str, Any]) -> None:
    """Keep what was measured, and on what machine."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python -m benchmarks.evidence_bracket", *sys.argv[1:]])
    (RESULTS / f"{name}.json").write_text(
        json_text(describe() | {"command": command} | figures, indent=2) + "\n"
    )


def run_coverage(args: argparse.Namespace) -> None:
    """The coverage table, its JSON and its picture."""
    names = list(EMBEDDED)[:3] if args.smoke else list(RECIPES)
    sizes = (60, 100) if args.smoke else (args.chains, args.betas)
    found = coverage(names, list(range(args.seeds)), *sizes)
    figures = summary(found)
    print({key: value for key, value in figures.items() if key != "rows"})
    if not args.smoke:
        write("bracket_coverage", {"chains": sizes[0], "temperatures": sizes[1]} | figures)
    plotting.save(coverage_picture(found), args.pictures / "bracket_coverage.png")


def run_schedule(args: argparse.Namespace) -> None:
    """Both schedules on the trained models and on one of 200 hidden units."""
    names = list(EMBEDDED)[:2] if args.smoke else list(RECIPES)
    models = {name: train(name) for name in names}
    if not args.smoke:
        models["AlphaDigits, PCD-5, 200 hidden"] = train("medium", recipe=MEDIUM)
    rows = schedules(
        models, args.chains, 200 if args.smoke else args.betas, 2 if args.smoke else 5
    )
    if not args.smoke:
        write("ais_schedules", {"chains": args.chains, "temperatures": args.betas, "rows": rows})


def run_practical(args: argparse.Namespace) -> None:
    """AIS and the bracket on 784x500."""
    recipe = Recipe("letters", 30, 50, 0.1, WIDE.phase) if args.smoke else WIDE
    figures, bracket = practical(*((20, 200) if args.smoke else (500, 10_000)), recipe)
    ends = bracket.lower.item(), bracket.upper.item()
    title = f"{recipe.data}, {recipe.hidden} hidden units: {bracket.verdict}"
    picture = plotting.log_weights(
        bracket.forward_log_weights, bracket.reverse_log_weights, bracket=ends, title=title
    )
    plotting.save(picture, args.pictures / "log_weights.png")
    if not args.smoke:
        write("bracket_784x500", figures)


def run_exact(args: argparse.Namespace) -> None:
    """Seconds of exact enumeration."""
    found = exact_seconds(784, [8, 12] if args.smoke else [16, 20, 25])
    if not args.smoke:
        write("exact_seconds", {"threads": torch.get_num_threads(), "CPU seconds": found})


RUNS: dict[str, Callable[[argparse.Namespace], None]] = {
    "coverage": run_coverage,
    "schedule": run_schedule,
    "practical": run_practical,
    "exact": run_exact,
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=RUNS)
    parser.add_argument("--seeds", type=int, default=3, help="models of each kind")
    parser.add_argument("--chains", type=int, default=500)
    parser.add_argument("--betas", type=int, default=2000)
    parser.add_argument(
        "--pictures", type=Path, default=Path("docs/images"), help="folder of the pictures"
    )
    parser.add_argument("--smoke", action="store_true", help="seconds, to see that it runs")
    args = parser.parse_args()
    RUNS[args.what](args)


if __name__ == "__main__":
    main()
