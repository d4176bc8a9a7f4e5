"""What the autoregressive families reach on binary sets of the literature: one
search space, chosen on validation rows.

    # every recipe of the space, one network each
    python -m benchmarks.evidence_autoregressive search dna
    # the best of each family: members, mixtures, validation
    python -m benchmarks.evidence_autoregressive judge dna
    # the same on the test rows: once, enters the ledger
    python -m benchmarks.evidence_autoregressive test dna

All three go on where they were stopped; networks lie in `out/autoregressive`.
The JSON goes to `benchmarks/results/autoregressive/<data>_<step>.json`. Members
differ in their seeds, and in their orders where these are random. A family's
mixture has all its members with equal weights; the mixture of families has
those of the best families, as many of these as are best on validation.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.evidence_alphadigits import LEDGER, RESULTS
from benchmarks.machine import describe
from examples.autoregressive import Recipe, load, log_likelihoods, train, unseen, views
from pyro_gen import datasets
from pyro_gen._archives import load_tensors
from pyro_gen._files import json_text
from pyro_gen.training import small_batch

MEMBERS = 8


def grid(**choices: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Every combination of settings."""
    return [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]


ORDERS = ("data", "random")
EPOCHS = 40
LONGER = {"order": ORDERS, "epochs": (120,)}
SPACE = {
    "fvsbn": grid(order=ORDERS, rate=(0.02, 0.1)) + grid(**LONGER, rate=(0.1,)),
    "mlp": grid(order=ORDERS, hidden=(10,), rate=(0.02,), dropout=(0.0, 0.5)),
    "nade": grid(order=ORDERS, hidden=(200,), rate=(0.02,))
    + grid(**LONGER, hidden=(200,), rate=(0.02,)),
    "made": grid(order=ORDERS, hidden=(300,), rate=(0.01,), dropout=(0.2, 0.6))
    + grid(**LONGER, hidden=(300,), rate=(0.01,), dropout=(0.2,)),
    "deepnade": grid(hidden=(300,), layers=(2,), rate=(0.005,), epochs=(200,)),
    "gru": grid(hidden=(48,), rate=(0.015,), epochs=(20, EPOCHS)),
}


def recipe(family: str, settings: Mapping[str, Any], rows: int) -> Recipe:
    """A recipe of the space for a set with so many training rows: at most a hundred
    steps an epoch.
    """
    epochs = settings.get("epochs", EPOCHS)
    every = max(1, epochs // 20)
    batch_size = max(small_batch(rows), rows // 100)
    own = {"batch_size": batch_size, "epochs": epochs, "evaluate_every": every, "patience": 4}
    return Recipe(family, **(own | dict(settings)))


def read(file: Path) -> dict[str, Any]:
    """What has been written so far."""
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def write(file: Path, report: dict[str, Any]) -> None:
    """Write JSON, its folder made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json_text(report, indent=2) + "\n")


def search(data: datasets.BinaryDataset, file: Path, args: argparse.Namespace) -> None:
    """One network of every recipe, evaluated on the validation rows."""
    report = describe() | {"command": command("search", args), "runs": read(file).get("runs", [])}
    for family in args.families or SPACE:
        for settings in SPACE[family]:
            if any(
                run["family"] == family and run["settings"] == settings for run in report["runs"]
            ):
                continue
            args.out = folder(args.root, settings)
            tic = time.process_time()
            network, history = train(recipe(family, settings, len(data.train)), data, args)
            best = max((row["valid"], row["epoch"]) for row in history if "valid" in row)
            run = {"family": family, "settings": settings, "valid": best[0], "best epoch": best[1]}
            run |= {"epochs": int(history[-1]["epoch"]), "parameters": network.num_parameters}
            report["runs"].append(run | {"processor seconds": round(time.process_time() - tic, 1)})
            print(json_text(report["runs"][-1]), flush=True)
            write(file, report)


def folder(root: Path, settings: Mapping[str, Any]) -> Path:
    """Where the networks of these settings lie."""
    found = root / "-".join(f"{name}={value}" for name, value in settings.items())
    found.mkdir(parents=True, exist_ok=True)
    return found


def command(step: str, args: argparse.Namespace) -> str:
    """What repeats the step."""
    if args.families:
        families = f" --families {' '.join(args.families)}"
    else:
        families = ""
    members = f" --members {args.members}" if step == "judge" else ""
    return f"python -m benchmarks.evidence_autoregressive {step} {args.data}{members}{families}"


def mixture(rows: list[Tensor]) -> Tensor:
    """Log likelihoods of an equal mixture from those of its members."""
    return torch.stack(rows).logsumexp(0) - math.log(len(rows))


def summary(nats: Tensor, new: Tensor) -> dict[str, float]:
    """Mean over the rows and its standard error, and the same over the rows that
    are not in the training set.
    """
    figures: dict[str, float] = {}
    for name, part in (("all rows", nats), ("unseen rows", nats[new])):
        figures |= {
            name: part.mean().item(),
            f"{name}, error": (part.std() / len(part) ** 0.5).item(),
        }
    return figures


def over_members(rows: list[Tensor]) -> dict[str, float]:
    """Mean of single members and its standard error over them."""
    means = torch.stack([member.mean() for member in rows])
    if len(means) > 1:
        error = (means.std() / len(means) ** 0.5).item()
    else:
        error = math.nan
    return {"single": means.mean().item(), "single, error over members": error}


def members(
    family: str,
    settings: Mapping[str, Any],
    count: int,
    data: datasets.BinaryDataset,
    args: argparse.Namespace,
) -> list[Tensor]:
    """Log likelihoods of the rows of a split under each member, trained now or before."""
    args.out = folder(args.root, settings)
    made = recipe(family, settings, len(data.train))
    rows = []
    for member in range(count):
        cached = args.out / f"{data.name}-{family}-{member}-{args.split}.pt"
        if not cached.exists():
            network, _ = train(made, data, args, member)
            torch.save(log_likelihoods(views(network, made), getattr(data, args.split)), cached)
        rows.append(load_tensors(cached))
    return rows


def judge(data: datasets.BinaryDataset, file: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The best recipe of each family on the rows of a split: members, their
    mixture, and the mixture of families.
    """
    valid = read(file.with_name(f"{data.name}_valid.json"))
    chosen: dict[str, Any] = dict(valid.get("families", {}))
    if args.split == "valid":
        best = best_recipes(read(file.with_name(f"{data.name}_search.json"))["runs"])
        wanted = [name for name, run in best.items() if run["family"] in (args.families or SPACE)]
        chosen |= {name: best[name] | {"members": args.members} for name in wanted}
    new = unseen(getattr(data, args.split), data.train)
    rows = {}
    report = describe() | {
        "command": command(args.step, args),
        "rows": len(new),
        "unseen rows": int(new.sum()),
    }
    report["families"] = {}
    for name, choice in chosen.items():
        rows[name] = members(choice["family"], choice["settings"], choice["members"], data, args)
        figures = over_members(rows[name]) | summary(mixture(rows[name]), new)
        kept = {key: choice[key] for key in ("family", "settings", "parameters", "members")}
        report["families"][name] = kept | figures
        print(name, json_text(figures), flush=True)
    mixed = mixed_families(rows) if args.split == "valid" else valid["mixed"]
    nats = mixture([member for name in mixed for member in rows[name]])
    report |= {"mixed": mixed, "mixture of families": summary(nats, new)}
    print(mixed, json_text(report["mixture of families"]), flush=True)
    write(file, report)
    return report


def best_recipes(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The run of each family that was best on validation, in the data's order and
    in random ones, by its name.
    """
    best: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run["settings"] in SPACE[run["family"]]:  # as it is now
            name = run["family"] + (
                ", random orders" if run["settings"].get("order") == "random" else ""
            )
            best[name] = max(best.get(name, run), run, key=lambda one: float(one["valid"]))
    return best


def mixed_families(rows: dict[str, list[Tensor]]) -> list[str]:
    """The best families, as many as make the best mixture."""
    ranked = sorted(rows, key=lambda family: -mixture(rows[family]).mean().item())
    sizes = range(1, len(ranked) + 1)
    size = max(
        sizes, key=lambda k: mixture([m for f in ranked[:k] for m in rows[f]]).mean().item()
    )
    return ranked[:size]


def enter(report: dict[str, Any], data: str) -> None:
    """Add the evaluations of the test rows to the ledger: one for each family, one for
    the mixture of families.
    """
    day = datetime.now(UTC).date()
    commit = str(report["commit"])[:7]
    entries = {
        f"{name} x {figures['members']}": figures for name, figures in report["families"].items()
    }
    entries[f"mixture of {' + '.join(report['mixed'])}"] = report["mixture of families"]
    with LEDGER.open("a", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        for model, figures in entries.items():
            figure, error = (f"{figures[key]:.3f}" for key in ("all rows", "all rows, error"))
            if "single" in figures:
                single = f"single members {figures['single']:.3f}; "
            else:
                single = ""
            setting = (
                f"{single}rows that are not in train {figures['unseen rows']:.3f} "
                "(evidence_autoregressive)"
            )
            table.writerow([day, commit, data, model, setting, figure, "", error, ""])


def main(args: argparse.Namespace) -> None:
    """Do one of the three steps."""
    data = load(args.data)
    args.root = args.out
    args.split = {"judge": "valid"}.get(args.step, args.step)
    file = RESULTS / "autoregressive" / f"{data.name}_{args.split}.json"
    if args.step == "search":
        return search(data, file, args)
    report = judge(data, file, args)
    if args.step == "test":
        enter(report, data.name)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("search", "judge", "test"))
    parser.add_argument("data", help="alphadigits, a set of the data folder, or an .npz file")
    parser.add_argument("--families", nargs="+", choices=SPACE, help="only these")
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("out/autoregressive"))
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
