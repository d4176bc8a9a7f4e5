"""One epoch of PCD-1 with SGD, the custom gradient step beside scikit-learn, rbms
and a torch-autograd loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks import peers, steps
from benchmarks.timing import Contender
from pyro_gen.infer import PersistentChains
from pyro_gen.nn import RBM

BASELINE = "sklearn"
CEILINGS: tuple[str, ...] = ()
GATE = ("tests/kernels", "tests/infer/energy/test_contrastive.py")
SHAPES = ((64, 64, 64), (784, 500, 128))
"""(visible, hidden, rows of a batch and chains)"""
UNIT = "epoch of 100 batches"
JOB = None
BATCHES = 100


def work(visible: int, hidden: int, rows: int) -> dict[str, float]:
    """What one unit does: a batch updates every connection once for each of its rows."""
    return {
        "connection_updates": float(BATCHES * visible * hidden * rows),
        "chain_steps": float(BATCHES * rows),
    }


def contenders(
    visible: int, hidden: int, rows: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, (BATCHES * rows, visible), generator=generator).float()

    def model() -> RBM:
        # what the peers do
        return RBM(visible, hidden, PersistentChains(num_chains=rows), centring=False)

    def epoch(step: peers.Step) -> Contender:
        def run() -> None:
            for batch in x.split(rows):
                step(batch)

        return Contender(run)

    yield "pyro_gen, torch.optim.SGD", lambda: epoch(steps.ours(model()))
    yield "pyro_gen, update by hand", lambda: epoch(steps.ours_by_hand(model()))
    yield BASELINE, lambda: sklearn(x, hidden, rows)
    yield (
        "naive",
        lambda: epoch(steps.autograd(visible, hidden, torch.randint(2, (rows, visible)).float())),
    )
    yield (
        "rbms",
        lambda: epoch(peers.rbms_step(visible, hidden, rows, steps.RATE, persistent=True)),
    )


def sklearn(x: Tensor, hidden: int, rows: int) -> Contender:
    """scikit-learn's ``fit``: one iteration, less what ``fit`` costs without any
    (checks, initial values).
    """
    from sklearn.neural_network import BernoulliRBM

    settings = {
        "n_components": hidden,
        "batch_size": rows,
        "learning_rate": steps.RATE,
        "random_state": 0,
    }
    one, none = (BernoulliRBM(n_iter=iterations, **settings) for iterations in (1, 0))
    data = np.ascontiguousarray(x.numpy())
    return Contender(lambda: one.fit(data), overhead=lambda: none.fit(data))
