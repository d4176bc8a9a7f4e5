"""Coverage of the bracket by annealing where the likelihood is known: linear
decoders, poor encoders, simulated rows.

    python -m benchmarks.evidence_annealed --json benchmarks/results/evidence/annealed_bracket.json

A run makes another probabilistic PCA, with an encoder that is narrow and looks
away, brackets the mean log likelihood of rows that the model draws, and
compares with the exact one. At a coverage of 95 % in truth, 95 of 100 runs
hold.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from benchmarks.machine import describe
from pyro_gen import models
from pyro_gen._files import json_text
from pyro_gen.distributions import GaussianConditional
from pyro_gen.infer import AnnealedImportance

Start = Literal["guide", "prior"]
STARTS: tuple[Start, Start] = ("prior", "guide")
LATENT = 3
FEATURES = 8
PLAIN_DRAWS = 5000


class Line(torch.nn.Module):
    """A linear decoder with one scale for all features."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.line = torch.nn.Linear(latent, features)
        self.log_scale = -0.3

    def forward(self, z: Tensor) -> Tensor:
        """Parameters of the features, (..., features, 2)."""
        mean = self.line(z)
        return torch.stack([mean, torch.full_like(mean, self.log_scale)], -1)


def linear(
    seed: int, features: int = FEATURES, latent: int = LATENT
) -> tuple[models.VAE, dist.MultivariateNormal]:
    """Probabilistic PCA with a narrow encoder that looks away, and its marginal distribution."""
    pyro.set_rng_seed(seed)
    decoder = Line(features, latent)
    likelihood = GaussianConditional()
    vae = models.VAE(
        features, latent, 4, likelihood=likelihood, decoder=decoder, hidden=()
    ).double()
    encoder: Any = vae.encoder
    with torch.no_grad():
        decoder.line.weight.mul_(3)
        encoder[-1].weight.mul_(0.1)
        encoder[-1].bias.copy_(torch.tensor([1.0, -2.0]).repeat(latent))  # mean 1, scale 0.14
    weight = decoder.line.weight.detach()
    noise = math.exp(2 * decoder.log_scale) * torch.eye(features, dtype=torch.float64)
    return vae, dist.MultivariateNormal(decoder.line.bias.detach(), weight @ weight.mT + noise)


@dataclass(frozen=True)
class Run:
    """One bracket beside the exact mean log likelihood of its rows, in nats."""

    seed: int
    start: Start
    exact: float
    lower: float
    upper: float
    gap: float
    error: float
    plain: float

    @property
    def holds(self) -> bool:
        """Whether the bracket holds the exact value."""
        return self.lower <= self.exact <= self.upper

    @property
    def holds_without_bars(self) -> bool:
        """Whether the exact value lies between the means of both bounds themselves."""
        return self.lower + 2 * self.error <= self.exact <= self.upper - 2 * self.error


def bracketed(
    seed: int, method: AnnealedImportance, num_rows: int, num_chains: int, plain_draws: int = 0
) -> Run:
    """The bracket of one model, and what plain importance sampling says of the same rows.

    Args:
        seed: of the model, its rows and the chains.
        method: temperatures, leapfrog steps and start.
        num_rows: rows that the model draws.
        num_chains: in each direction, a row.
        plain_draws: of plain importance sampling; 0 for none.
    """
    vae, marginal = linear(seed)
    gap = vae.simulated_gap(num_rows, num_chains, method)
    exact = marginal.log_prob(gap.x).mean().item()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # this encoder is poor on purpose
        if plain_draws:
            plain = vae.test_log_likelihood(gap.x, plain_draws).value
        else:
            plain = math.nan
    return Run(seed, method.start, exact, *gap.bracket, gap.value, gap.standard_error, plain)


def summary(runs: list[Run], seconds: float) -> dict[str, Any]:
    """Counts and means over runs.

    Args:
        runs: of one start.
        seconds: that they took, of CPU.
    """
    return {
        "runs": len(runs),
        "hold": sum(run.holds for run in runs),
        "hold without error bars": sum(run.holds_without_bars for run in runs),
        "mean width": mean(run.upper - run.lower for run in runs),
        "mean gap": mean(run.gap for run in runs),
        "largest gap": max(run.gap for run in runs),
        "mean distance of plain importance sampling below the exact value": mean(
            run.exact - run.plain for run in runs
        ),
        "CPU seconds": seconds,
        "false": [asdict(run) for run in runs if not run.holds],
    }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100, help="models a start, by seeds from 0")
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--temperatures", type=int, default=50)
    parser.add_argument("--leapfrog", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    figures: dict[str, Any] = {
        "machine": describe(),
        "settings": {k: v for k, v in vars(args).items() if k != "json"},
    }
    figures["settings"] |= {"features": FEATURES, "latent": LATENT, "plain draws": PLAIN_DRAWS}
    for start in STARTS:
        method = AnnealedImportance(args.temperatures, args.leapfrog, start)
        begin = time.process_time()
        runs = [
            bracketed(seed, method, args.rows, args.chains, PLAIN_DRAWS)
            for seed in range(args.runs)
        ]
        figures[f"from the {start}"] = summary(runs, time.process_time() - begin)
        print(
            f"from the {start}:",
            {k: v for k, v in figures[f"from the {start}"].items() if k != "false"},
            flush=True,
        )
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json_text(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
