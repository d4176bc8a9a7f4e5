"""Log likelihoods of a VAE by importance sampling with 5000 draws a row, beside
the decoder alone on as many draws.

The decoder alone is what nobody can do without: its products, on standard
normal numbers that are already there, in pieces. The naive way is Pyro's
``RenyiELBO(alpha=0)`` with vectorised particles, a row at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyro
import torch
from pyro.infer import RenyiELBO
from torch import Tensor

from benchmarks.timing import Contender
from pyro_gen.models import VAE
from pyro_gen.nn import VampPrior

BASELINE = "naive"
CEILINGS: tuple[str, ...] = ()
GATE = ("tests/models/autoencoder/test_vae.py",)
SHAPES = ((784, 400, 12), (784, 300, 12), (100, 100, 60))
"""(features, hidden units of each of two layers, rows)"""
UNIT = "row"
JOB = ("10000_rows", 10_000)
FLOOR = "bare decoder"
RIVALS = dict.fromkeys(("pyro_gen", "pyro_gen VampPrior"), FLOOR)
LATENT = 40
DRAWS = 5000
FLOATS_AT_A_TIME = 2**20
"""Of the bare decoder's output, which is at its quickest with it.

How the package cuts is its own affair.
"""


def work(visible: int, hidden: int, rows: int) -> dict[str, float]:
    """What one row asks of the decoder."""
    products = LATENT * hidden + hidden * hidden + hidden * visible
    return {"connection_updates": float(DRAWS * products), "chain_steps": float(DRAWS)}


def contenders(
    visible: int, hidden: int, rows: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them."""
    x = torch.bernoulli(
        torch.full((rows, visible), 0.2), generator=torch.Generator().manual_seed(0)
    )
    yield FLOOR, lambda: bare(model(x, hidden), x)
    yield "pyro_gen", lambda: ours(model(x, hidden), x)
    yield "pyro_gen VampPrior", lambda: ours(model(x, hidden, VampPrior(500, visible)), x)
    yield BASELINE, lambda: renyi(model(x, hidden), x)


def model(x: Tensor, hidden: int, prior: VampPrior | None = None) -> VAE:
    """A model of some rows."""
    return VAE.from_data(x, LATENT, hidden=(hidden, hidden), prior=prior).eval()


def bare(vae: VAE, x: Tensor) -> Contender:
    """The decoder's products and activations, and nothing else."""
    parts = torch.randn(DRAWS, LATENT).split(FLOATS_AT_A_TIME // x.shape[1])

    @torch.no_grad()
    def run() -> None:
        for _ in range(len(x)):
            for part in parts:
                vae.decoder(part)

    return Contender(run, units=len(x))


def ours(vae: VAE, x: Tensor) -> Contender:
    """As a user calls it."""
    return Contender(lambda: vae.test_log_likelihood(x, DRAWS), units=len(x))


def renyi(vae: VAE, x: Tensor) -> Contender:
    """Pyro's bound of each row by itself."""
    loss = RenyiELBO(alpha=0, num_particles=DRAWS, vectorize_particles=True, max_plate_nesting=1)
    vae.size = 1

    def run() -> None:
        pyro.clear_param_store()
        for row in x.split(1):
            with torch.no_grad():
                loss.loss(vae.model, vae.guide, row)

    return Contender(run, units=len(x))
