"""The figures of `examples/ppca.py` on validation images, and what the direct fits
reach beside scikit-learn.

    # the example's tables, which the next one reads
    python examples/ppca.py --out out/ppca
    # writes benchmarks/results/ppca.json
    python -m benchmarks.evidence_ppca

The fits are of standardised tables of scikit-learn's, with three latent
variables, in nats a row.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer import SVI, Trace_ELBO
from sklearn import decomposition
from sklearn.datasets import load_digits, load_wine
from torch import Tensor

from benchmarks.machine import describe
from pyro_gen import datasets
from pyro_gen._files import json_text
from pyro_gen.models import PPCA, FactorAnalysis, LinearGaussian
from pyro_gen.training import fit

RESULTS = Path(__file__).parent / "results"
FAMILIES: dict[str, type[LinearGaussian]] = {"PPCA": PPCA, "FactorAnalysis": FactorAnalysis}


def tables() -> dict[str, Tensor]:
    """Two tables of scikit-learn's, without columns that are almost constant."""
    tables = {"wine": load_wine().data, "digits": load_digits().data}
    return {
        name: torch.from_numpy(x[:, (x != np.median(x, 0)).mean(0) > 0.05]).double()
        for name, x in tables.items()
    }


def climbed(family: type[LinearGaussian], x: Tensor, latent: int) -> float:
    """Nats a row that SVI reaches from its own start."""
    pyro.clear_param_store()
    model = family.from_data(x, latent)
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.99}
    optimizer = pyro.optim.ExponentialLR(settings)
    svi = SVI(model.model, model.guide, optimizer, Trace_ELBO())
    fit(
        svi.step,
        datasets.minibatches(x, len(x)),
        800,
        scheduler=optimizer,
        state={"model": model},
        progress=False,
    )
    return model.score(x)


def peer(name: str, x: Tensor, latent: int) -> float:
    """Nats a row of scikit-learn's fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may run into its limit
        if name == "PPCA":
            made = decomposition.PCA(latent)
        else:
            made = decomposition.FactorAnalysis(
                latent, tol=1e-10, max_iter=5000, svd_method="lapack"
            )
        return float(made.fit(x.numpy()).score(x.numpy()))


def fits(latent: int = 3) -> list[dict[str, Any]]:
    """Direct fit, SVI and scikit-learn, in nats a row."""
    found = []
    for data, x in tables().items():
        scaled = (x - x.mean(0)) / x.std(0)
        for name, family in FAMILIES.items():
            pyro.set_rng_seed(0)
            model = family(x.shape[1], latent, len(x)).double()
            start = time.perf_counter()
            result = model.fit(scaled)
            seconds = time.perf_counter() - start
            holes = scaled.masked_fill(torch.rand(x.shape) < 0.2, torch.nan)
            found.append(
                {
                    "data": data,
                    "rows": len(x),
                    "columns": x.shape[1],
                    "model": name,
                    "latent": latent,
                    "direct": result.log_likelihood / len(x),
                    "seconds": seconds,
                    "steps": len(result.objective),
                    "degenerate": result.degenerate,
                    "svi": climbed(family, scaled, latent),
                    "scikit_learn": peer(name, scaled, latent),
                    "a fifth of the cells missing": family(x.shape[1], latent, len(x))
                    .double()
                    .fit(holes, method="em")
                    .converged,
                }
            )
            print(found[-1], flush=True)
    return found


def rows(path: Path) -> list[dict[str, str]]:
    """A table that the example wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if v != "nan"} for row in csv.DictReader(file)]


def main() -> None:
    """Run, and write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/ppca"), help="folder of the example's tables"
    )
    out = parser.parse_args().out
    evidence = {"machine": describe(), "fits": fits(), "sweep": rows(out / "ppca_valid.csv")}
    evidence["pixels to and from the nearest held-out image"] = rows(out / "draws_valid.csv")
    (RESULTS / "ppca.json").write_text(json_text(evidence, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
