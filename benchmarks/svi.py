"""One step of SVI for an RBM in a plate, beside the custom step and the share of
it that is Pyro's own.

The custom step is ``contrastive_gradient`` and Adam's step. The trivial loss is
Pyro's own share: ``loss_and_grads`` of independent bits in a plate, whose
module holds the RBM's three parameters. The baseline runs ten custom steps and
thirteen trivial losses and counts as ten: what ``SVI.step`` is to cost at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn

from benchmarks.problem import Problem
from benchmarks.timing import Contender
from pyro_gen.infer import contrastive_gradient
from pyro_gen.nn import RBM

BASELINE = "custom + 1.3 trivial"
CEILINGS: tuple[str, ...] = ()
GATE = ("tests/kernels/test_surrogate.py",)
SHAPES = ((64, 64, 64), (784, 500, 128), (784, 1024, 1024))
"""(visible, hidden, rows of the batch)"""
UNIT = "update"
JOB = None
RATE = 1e-3
STEPS = 10
LOSSES = 13
"""Calls of the baseline: 1.3 losses a step."""


def work(visible: int, hidden: int, rows: int) -> dict[str, float]:
    """What one unit does: every connection is updated once for each row."""
    return {"connection_updates": float(visible * hidden * rows), "chain_steps": float(rows)}


def contenders(
    visible: int, hidden: int, rows: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them."""
    pyro.clear_param_store()
    batch = Problem.random(visible, hidden, rows).v
    step = custom_step(RBM(visible, hidden), batch)
    loss = trivial_loss(RBM(visible, hidden), batch)

    def target() -> None:
        for _ in range(STEPS):
            step()
        for _ in range(LOSSES):
            loss()

    yield BASELINE, lambda: Contender(target, units=STEPS)
    yield "pyro_gen, SVI.step", lambda: Contender(svi_step(RBM(visible, hidden), batch))
    yield "pyro_gen, custom step", lambda: Contender(step)
    yield "pyro, trivial loss", lambda: Contender(loss)


def custom_step(rbm: RBM, batch: Tensor) -> Callable[[], object]:
    """Contrastive gradient and Adam's step."""
    optimizer = torch.optim.Adam(rbm.parameters(), lr=RATE)

    def step() -> None:
        contrastive_gradient(rbm, batch)
        optimizer.step()

    return step


def trivial_loss(rbm: RBM, batch: Tensor) -> Callable[[], object]:
    """Loss and gradient of independent bits by Pyro, with the RBM's parameters in the store."""
    module = nn.Module()
    for name, parameter in rbm.named_parameters():
        module.register_parameter(name, parameter)
    elbo = Trace_ELBO()

    def model() -> None:
        pyro.module("trivial", module)
        with pyro.plate("rows", len(batch)):
            pyro.sample("v", dist.Bernoulli(logits=rbm.vbias).to_event(1), obs=batch)

    return lambda: elbo.loss_and_grads(model, lambda: None)


def svi_step(rbm: RBM, batch: Tensor) -> Callable[[], object]:
    """The step of SVI that a user of Pyro writes."""

    def model() -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", len(batch)):
            pyro.sample("v", rbm(), obs=batch)

    svi = SVI(model, lambda: None, pyro.optim.Adam({"lr": RATE}), Trace_ELBO())
    return svi.step
