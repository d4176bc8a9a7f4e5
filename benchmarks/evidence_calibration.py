"""Calibration of every sampler of posteriors: 500 simulations each, ranks against
simultaneous bands.

Those that are right must pass with all false alarms together at most 1e-3;
mean-field SVI and samplers with a wrong conditional must fail. Simulations are
seeded one by one and kept in `--work`, so that a killed run goes on.

    python -m benchmarks.evidence_calibration --json benchmarks/results/evidence/calibration.json
        --plot docs/images/calibration.png
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyro
import torch

from benchmarks.calibration_problems import PROBLEMS, WRONG, Problem, mean_field
from benchmarks.machine import describe
from pyro_gen._files import json_text
from pyro_gen.plotting import save
from pyro_gen.testing import Calibration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FALSE_ALARMS = 1e-3
"""Probability that any of the right samplers fails, were all of them exact."""


def file_of(name: str, folder: Path) -> Path:
    """File of a problem's ranks."""
    return folder / f"{name.replace(' ', '_').replace(',', '')}.json"


def ranks_of(
    name: str, problem: Problem, num_simulations: int, folder: Path
) -> tuple[Calibration, float]:
    """Ranks of a problem, those of earlier runs included, and the processor seconds of all.

    0 adds none to them.
    """
    path = file_of(name, folder)
    done: dict[str, Any] = (
        json.loads(path.read_text()) if path.exists() else {"ranks": {}, "seconds": 0.0}
    )
    first = len(next(iter(done["ranks"].values()), []))
    step = max(num_simulations, 1) if problem is mean_field else 1
    for index in range(first, num_simulations, step):
        pyro.set_rng_seed(index)
        start = time.process_time()
        ranks, num_draws = problem(step)
        done["seconds"] += time.process_time() - start
        done["num_draws"] = num_draws
        for quantity, rank in ranks.items():
            done["ranks"].setdefault(quantity, []).extend(rank.tolist())
        if index % 25 == 24 or index + step >= num_simulations:
            path.write_text(json_text(done))
    ranks = {q: torch.tensor(rank[: num_simulations or None]) for q, rank in done["ranks"].items()}
    return Calibration(ranks, done["num_draws"]), done["seconds"]


def picture(results: dict[str, Calibration]) -> Figure:
    """A panel for each problem: empirical distribution functions less the uniform
    one, and the 99 % band.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 3
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(10, 2.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    for panel, (name, result) in zip(panels, results.items(), strict=False):
        uniform = torch.arange(1, result.num_draws + 2) / (result.num_draws + 1)
        lower, upper = result.band(0.99)
        panel.fill_between(
            range(result.num_draws + 1),
            lower - uniform,
            upper - uniform,
            color="#e2e2e2",
            step="mid",
        )
        for quantity in result.ranks:
            panel.step(
                range(result.num_draws + 1),
                result.empirical(quantity) - uniform,
                where="mid",
                label=quantity,
                lw=1.3,
            )
        right = "must fail: " if name in WRONG else ""
        panel.set_title(
            f"{right}{name}",
            fontsize=8,
            loc="left",
            color="#c8553d" if name in WRONG else "#333333",
        )
        panel.legend(fontsize=6, loc="lower right", frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(results) :]:
        panel.set_visible(False)
    figure.supxlabel("rank of the true value", fontsize=9)
    figure.supylabel("empirical less uniform distribution function", fontsize=9)
    return figure


def main(args: argparse.Namespace) -> None:
    """All problems, the quick ones first."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # NUTS without warm-up and few draws says so each time
    args.work.mkdir(parents=True, exist_ok=True)
    problems = {**PROBLEMS, **WRONG}
    results: dict[str, Calibration] = {}
    report: dict[str, Any] = {
        **describe(),
        "false alarms of all together": FALSE_ALARMS,
        "problems": {},
    }
    if args.report:
        problems = {
            name: problem
            for name, problem in problems.items()
            if file_of(name, args.work).exists()
        }
    for name in sorted(problems, key=lambda name: "NUTS" in name and "joint" not in name):
        simulations = 0 if args.report else args.simulations
        result, seconds = ranks_of(name, problems[name], simulations, args.work)
        results[name] = result
        passed = result.passes(FALSE_ALARMS / len(PROBLEMS))
        print(f"{name}: {'passes' if passed else 'fails'}, {seconds:.0f} s\n{result}", flush=True)
        report["problems"][name] = {
            "must pass": name in PROBLEMS,
            "passes": passed,
            "simulations": result.num_simulations,
            "draws": result.num_draws,
            "p-values": result.p_values,
            "processor seconds": seconds,
        }
    if args.plot:
        save(picture({name: results[name] for name in problems}), args.plot)
    if args.json:
        args.json.write_text(json_text(report, indent=1) + "\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument(
        "--work", type=Path, default=Path("out/calibration"), help="where ranks are kept"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="report the simulations that `--work` holds, make none",
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
