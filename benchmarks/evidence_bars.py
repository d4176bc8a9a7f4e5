"""Bars and stripes learned from sampled negatives: the gap to the optimum at the
last update, and whether it lasts.

At most 100 chains and 10 steps an update; nothing is selected on the exact
likelihood, which is only read at the end. The same recipe over twice as many
updates shows whether learning decays.

    python -m benchmarks.evidence_bars --json benchmarks/results/bars_and_stripes.json
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import pyro
import torch

from benchmarks.machine import describe
from pyro_gen import datasets, nn
from pyro_gen._files import json_text
from pyro_gen.infer import (
    Exact,
    NegativePhase,
    PersistentChains,
    TemperedChains,
    contrastive_gradient,
)

HIDDEN = {3: 12, 4: 16}
PHASES: dict[str, NegativePhase] = {
    "tempered": TemperedChains(num_chains=20, num_steps=2, num_betas=5),
    "PCD-10": PersistentChains(num_chains=100, num_steps=10),
}


def learn(size: int, phase: NegativePhase, updates: int, rate: float, seed: int) -> dict[str, Any]:
    """Centred gradients of the whole set, a rate that falls linearly to 0, and the gap
    in nats at the end.
    """
    pyro.set_rng_seed(seed)
    x = datasets.bars_and_stripes(size, size)
    rbm = nn.RBM.from_data(
        x, HIDDEN[size], negative_phase=phase, evaluation=Exact(), centring=True
    )
    torch.nn.init.normal_(rbm.weight, std=0.1)
    optimizer = torch.optim.SGD(rbm.parameters(), lr=rate)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, updates)
    start = time.process_time()
    for _ in range(updates):
        contrastive_gradient(rbm, x)
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        gap = -math.log(len(x)) - rbm.eval()().log_prob(x).mean().item()
    known = {name: value.tolist() for name, value in rbm.diagnostics().phase.items()}
    seconds = time.process_time() - start
    return {
        "seed": seed,
        "updates": updates,
        "gap": gap,
        "processor seconds": seconds,
        "phase": known,
    }


def main(args: argparse.Namespace) -> None:
    """All sizes, phases, lengths and seeds."""
    torch.set_num_threads(1)
    report: dict[str, Any] = {
        **describe(),
        "rate": args.rate,
        "phases": {k: str(v) for k, v in PHASES.items()},
    }
    for size in args.sizes:
        for name, phase in PHASES.items():
            for updates in (args.updates, 2 * args.updates):
                runs = [learn(size, phase, updates, args.rate, seed) for seed in range(args.seeds)]
                gaps = [run["gap"] for run in runs]
                print(
                    f"{size}x{size} {name:10}{updates:8} gaps",
                    " ".join(f"{gap:.4f}" for gap in gaps),
                    flush=True,
                )
                report[f"{size}x{size}, {name}, {updates} updates"] = runs
    if args.json:
        args.json.write_text(json_text(report, indent=1) + "\n")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 4], choices=sorted(HIDDEN))
    parser.add_argument("--updates", type=int, default=30_000)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse())
