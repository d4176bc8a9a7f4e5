"""One epoch of PCD-1 with SGD, the custom gradient step beside scikit-learn and a torch-autograd loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import Contender
from pyro_gen.infer import PersistentChains, contrastive_gradient
from pyro_gen.nn import RBM

BASELINE = "sklearn"
CEILINGS: tuple[str, ...] = ()
GATE = ("tests/kernels", "tests/infer/test_contrastive.py")
SHAPES = ((64, 64, 64), (784, 500, 128))
"""(visible, hidden, rows of a batch and chains)"""
UNIT = "epoch of 100 batches"
BATCHES = 100
RATE = 0.01


def work(visible: int, hidden: int, rows: int) -> dict[str, float]:
    """What one unit does: a batch updates every connection once for each of its rows."""
    return {"connection_updates": float(BATCHES * visible * hidden * rows), "chain_steps": float(BATCHES * rows)}


def contenders(visible: int, hidden: int, rows: int) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises ``ImportError`` where its package is missing."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, (BATCHES * rows, visible), generator=generator).float()
    yield "pyro_gen, torch.optim.SGD", lambda: ours(x, hidden, rows)
    yield "pyro_gen, update by hand", lambda: ours_by_hand(x, hidden, rows)
    yield BASELINE, lambda: sklearn(x, hidden, rows)
    yield "naive", lambda: naive(x, hidden, rows)


def ours(x: Tensor, hidden: int, rows: int) -> Contender:
    """What a user writes: ``contrastive_gradient`` and the optimiser's step for each batch."""
    rbm = RBM(x.shape[1], hidden, PersistentChains(num_chains=rows))
    optimizer = torch.optim.SGD(rbm.parameters(), lr=RATE)

    def run() -> None:
        for batch in x.split(rows):
            contrastive_gradient(rbm, batch)
            optimizer.step()

    return Contender(run)


def ours_by_hand(x: Tensor, hidden: int, rows: int) -> Contender:
    """The same gradient with SGD in one line: shows what torch's optimiser costs, about 50 microseconds a step."""
    rbm = RBM(x.shape[1], hidden, PersistentChains(num_chains=rows))
    parameters = list(rbm.parameters())

    @torch.no_grad()
    def run() -> None:
        for batch in x.split(rows):
            contrastive_gradient(rbm, batch)
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=RATE)

    return Contender(run)


def sklearn(x: Tensor, hidden: int, rows: int) -> Contender:
    """scikit-learn's ``fit``: one iteration, less what ``fit`` costs without any (checks, initial values)."""
    from sklearn.neural_network import BernoulliRBM

    settings = {"n_components": hidden, "batch_size": rows, "learning_rate": RATE, "random_state": 0}
    one, none = (BernoulliRBM(n_iter=iterations, **settings) for iterations in (1, 0))
    data = np.ascontiguousarray(x.numpy())
    return Contender(lambda: one.fit(data), overhead=lambda: none.fit(data))


def naive(x: Tensor, hidden: int, rows: int) -> Contender:
    """What torch peers write: chains by ``bernoulli(sigmoid(.))``, the difference of free energies by autograd."""
    weight = (0.01 * torch.randn(x.shape[1], hidden)).requires_grad_()
    vbias, hbias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(hidden, requires_grad=True)
    optimizer = torch.optim.SGD([weight, vbias, hbias], lr=RATE)
    chains = torch.bernoulli(torch.full((rows, x.shape[1]), 0.5))

    def free_energy(v: Tensor) -> Tensor:
        return -v @ vbias - torch.nn.functional.softplus(v @ weight + hbias).sum(-1)

    def run() -> None:
        nonlocal chains
        for batch in x.split(rows):
            with torch.no_grad():
                h = torch.bernoulli(torch.sigmoid(chains @ weight + hbias))
                chains = torch.bernoulli(torch.sigmoid(h @ weight.T + vbias))
            optimizer.zero_grad()
            (free_energy(batch).mean() - free_energy(chains).mean()).backward()
            optimizer.step()

    return Contender(run)
