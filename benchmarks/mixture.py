"""An EM step of a Gaussian mixture, beside scikit-learn's: responsibilities of all
rows, then means and covariances.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import Contender
from pyro_gen.models import GaussianMixture
from pyro_gen.models.mixture.gaussian import Covariance

BASELINE = "sklearn"
CEILINGS: tuple[str, ...] = ()
GATE = ("tests/models/mixture/test_mixture.py",)
SHAPES = ((10, 20, 100_000), (10, 20, 1000), (50, 5, 20_000))
"""(features, components, rows), no fewer rows than components"""
UNIT = "EM step"
JOB = None
STEPS = 4
"""In one call, so that what stands around them counts little."""
COVARIANCES: dict[Covariance, str] = {
    "full": "full",
    "tied": "tied",
    "diagonal": "diag",
    "spherical": "spherical",
}


def work(features: int, components: int, rows: int) -> dict[str, float]:
    """What one unit does: every cell meets every component, and each row is one."""
    return {"connection_updates": float(features * components * rows), "chain_steps": float(rows)}


def contenders(
    features: int, components: int, rows: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them."""
    x = clouds(features, components, rows)
    yield BASELINE, lambda: theirs(x, components, "full")
    yield "pyro_gen", lambda: ours(x, components, "full")
    for name in COVARIANCES:
        if name != "full":
            yield f"sklearn, {name}", partial(theirs, x, components, name)
            yield f"pyro_gen, {name}", partial(ours, x, components, name)
    yield "pyro_gen, float32", lambda: ours(x.float(), components, "full")


RIVALS = {f"pyro_gen, {name}": f"sklearn, {name}" for name in COVARIANCES if name != "full"}


def clouds(features: int, components: int, rows: int) -> Tensor:
    """Overlapping clouds, in which EM goes on for long."""
    generator = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(components, features, generator=generator, dtype=torch.float64)
    z = torch.randint(components, (rows,), generator=generator)
    return centres[z] + torch.randn(rows, features, generator=generator, dtype=torch.float64)


def ours(x: Tensor, components: int, covariance: Covariance) -> Contender:
    """Steps from one point, by maximum likelihood as the other."""
    mixture = GaussianMixture.from_data(x, components, covariance)
    point = {name: value.detach() for name, value in mixture.point().items()}

    def run() -> None:
        mixture.set_point(point)
        mixture.fit(x, objective="likelihood", num_starts=0, num_steps=STEPS, tolerance=0)

    return Contender(run, units=STEPS)


def theirs(x: Tensor, components: int, covariance: Covariance) -> Contender:
    """scikit-learn's steps, from parameters that are given."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Reference

    mixture = GaussianMixture.from_data(x, components, covariance)
    values = {name: value.detach() for name, value in mixture.point().items()}
    own = values["covariances"]
    precisions = own.inverse() if covariance in ("full", "tied") else 1 / own
    reference = Reference(
        components,
        covariance_type=COVARIANCES[covariance],
        tol=0,
        max_iter=STEPS,
        weights_init=values["weights"].numpy(),
        means_init=values["locs"].numpy(),
        precisions_init=precisions.numpy(),
        init_params="random",
    )
    rows = x.numpy()

    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            reference.fit(rows)

    return Contender(run, units=STEPS)
