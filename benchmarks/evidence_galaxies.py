"""The galaxies by NUTS and by Gibbs sweeps, beside reference means that owe
nothing to the package.

    # about ten minutes of one core; writes mixture_galaxies.json
    python -m benchmarks.evidence_galaxies

Runs `examples/mixture_mcmc_arviz.py` and compares the posterior mean of each
parameter with that of a Gibbs sampler in plain NumPy, kept as posteriordb keeps
its reference draws: ten chains of 1000, of every tenth sweep.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import arviz as az
import numpy as np

from benchmarks.evidence_alphadigits import RESULTS
from benchmarks.machine import describe
from examples.mixture_mcmc_arviz import main as example
from examples.mixture_mcmc_arviz import parse, read
from pyro_gen._files import json_text

CHAINS = 10
DRAWS = 1000
THIN = 10
WARMUP = 1000
COMPONENTS = 3
KAPPA = 0.01
DF = 3.0
"""The defaults of `GaussianMixture.from_data` for one column."""


def reference(x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Draws (chain, draw) of each parameter, components in the order of their means."""
    rng = np.random.default_rng(seed)
    mean = x.mean()
    square = x.var() / COMPONENTS**2
    locs = np.quantile(x, (0.1, 0.5, 0.9)) + np.zeros((CHAINS, 1))
    weights = np.full_like(locs, 1 / COMPONENTS)
    variances = np.full_like(locs, square)
    kept = []
    for sweep in range(WARMUP + DRAWS * THIN):
        log_joint = (
            np.log(weights)
            - np.log(variances) / 2
            - (x[:, None, None] - locs) ** 2 / (2 * variances)
        )
        held = (log_joint + rng.gumbel(size=log_joint.shape)).argmax(-1)[..., None] == np.arange(
            COMPONENTS
        )
        counts = held.sum(0)
        weights = rng.standard_gamma(1 + counts)
        weights /= weights.sum(-1, keepdims=True)
        kappa = KAPPA + counts
        centre = (KAPPA * mean + (held * x[:, None, None]).sum(0)) / kappa
        scatter = (held * (x[:, None, None] - centre) ** 2).sum(0) + KAPPA * (mean - centre) ** 2
        variances = (square + scatter) / 2 / rng.standard_gamma((DF + counts) / 2)
        locs = centre + rng.standard_normal(centre.shape) * np.sqrt(variances / kappa)
        if sweep >= WARMUP and sweep % THIN == 0:
            order = locs.argsort(-1)
            kept.append([np.take_along_axis(own, order, -1) for own in (weights, locs, variances)])
    draws = np.array(kept).transpose(1, 3, 2, 0)  # site, component, chain, draw
    names = ("weights", "locs", "covariances")
    return {
        f"{name} {k}": own
        for name, site in zip(names, draws, strict=True)
        for k, own in enumerate(site)
    }


def compare(means: dict[str, dict[str, float]], draws: dict[str, np.ndarray]) -> None:
    """Enter the reference means, and how many standard errors both samplers are from them."""
    for name, row in means.items():
        row["reference"] = float(draws[name].mean())
        row["reference error"] = float(az.mcse(draws[name]))
        for sampler in ("NUTS", "Gibbs"):
            error = np.hypot(row[f"{sampler} error"], row["reference error"])
            row[f"z of {sampler} and the reference"] = float(
                (row[sampler] - row["reference"]) / error
            )


def main(args: argparse.Namespace) -> None:
    """The example, the reference, the report."""
    report = describe()
    settings = parse(["--data", args.data, "--seed", str(args.seed), "--out", str(args.out)])
    example(settings)
    found = json.loads((args.out / "galaxies.json").read_text())
    draws = reference(read(args.data).numpy(), args.seed)
    compare(found["posterior means"], draws)
    worst = max(float(az.rhat(own)) for own in draws.values())
    report |= {"settings": {name: str(value) for name, value in vars(settings).items()}, **found}
    report["largest |z|"] = {
        key: max(abs(row[key]) for row in found["posterior means"].values())
        for key in ("z", "z of NUTS and the reference", "z of Gibbs and the reference")
    }
    report["reference"] = {"chains": CHAINS, "draws": DRAWS, "thin": THIN, "largest R-hat": worst}
    print(json_text(report["largest |z|"]), json_text(report["reference"]))
    (RESULTS / f"mixture_{Path(args.data).stem}.json").write_text(
        json_text(report, indent=1) + "\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default="galaxies", help="galaxies, or a text file with one number a line"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("out/mixture_mcmc"), help="folder of the example"
    )
    main(parser.parse_args())
