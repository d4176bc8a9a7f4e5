"""One CD-1 update, gradient and SGD, on one batch: every path beside the
textbook's in plain torch and the peers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks import ceilings, peers, steps
from benchmarks.paths import every_path, on_path
from benchmarks.problem import Problem
from benchmarks.timing import Contender, UnavailableError
from pyro_gen.infer import ContrastiveDivergence
from pyro_gen.nn import RBM

BASELINE = "naive"
CEILINGS = ceilings.FP32
GATE = ("tests/kernels", "tests/infer/energy/test_contrastive.py")
SHAPES = ((784, 500, 128), (784, 500, 1024), (784, 1024, 1024), (64, 64, 64), (320, 256, 64))
"""(visible, hidden, rows of the batch)"""
UNIT = "CD-1 update"
JOB = None


def work(visible: int, hidden: int, rows: int) -> dict[str, float]:
    """What one unit does: every connection is updated once for each row.

    ``flops`` are those of the five dense products that are needed: the
    particles' two half steps, which give the positive probabilities on the way,
    the negative ones, and the gradient over twice the rows. ``bytes`` is what
    moves if no cache keeps anything between them: the weight three times and
    once for the update, its gradient twice.
    """
    connections = float(visible * hidden)
    moved = 4 * (7 * connections + 5.0 * rows * (visible + hidden))
    updates = connections * rows
    return {
        "connection_updates": updates,
        "chain_steps": float(rows),
        "flops": 10 * updates,
        "bytes": moved,
    }


def contenders(
    visible: int, hidden: int, rows: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""
    problem = Problem.random(visible, hidden, rows)
    batch = problem.v

    def model() -> RBM:
        return RBM(visible, hidden, ContrastiveDivergence(1), centring=False)  # what the peers do

    def update(step: peers.Step) -> Contender:
        return Contender(lambda: step(batch))

    yield "pyro_gen, torch.optim.SGD", lambda: on_path(None, update(steps.ours(model())))
    yield from every_path(lambda: update(steps.ours_by_hand(model())), ", update by hand")
    yield "mkl_gemm", lambda: mkl_gemm(problem)
    yield "onednn_gemm", lambda: onednn_gemm(problem)
    yield BASELINE, lambda: update(steps.textbook(visible, hidden))
    yield "naive autograd", lambda: update(steps.autograd(visible, hidden))
    yield "sklearn", lambda: sklearn(batch, hidden)
    yield "learnergy", lambda: update(peers.learnergy_step(visible, hidden, steps.RATE))
    yield "learnergy fit", lambda: peers.learnergy_fit(batch, hidden, steps.RATE)
    yield (
        "rbms",
        lambda: update(peers.rbms_step(visible, hidden, rows, steps.RATE, persistent=False)),
    )


def sklearn(batch: Tensor, hidden: int) -> Contender:
    """scikit-learn's ``partial_fit``, its checks of the batch included: PCD-1, of CD-1's cost."""
    from sklearn.neural_network import BernoulliRBM

    settings = {
        "n_components": hidden,
        "batch_size": len(batch),
        "learning_rate": steps.RATE,
        "random_state": 0,
    }
    model = BernoulliRBM(**settings)
    data = np.ascontiguousarray(batch.numpy())
    return Contender(lambda: model.partial_fit(data))


def mkl_gemm(problem: Problem) -> Contender:
    """The five products by torch's BLAS into existing memory, nothing drawn."""
    states, hidden, gradient = _operands(problem)
    rows = len(problem.v)
    data = states[:rows]
    particles = states[rows:]
    positive = hidden[:rows]
    negative = hidden[rows:]

    def run() -> None:
        torch.mm(data, problem.weight, out=positive)
        torch.mm(positive, problem.weight.T, out=particles)
        torch.mm(particles, problem.weight, out=negative)
        torch.mm(states.T, hidden, out=gradient)

    return Contender(run)


def onednn_gemm(problem: Problem) -> Contender:
    """The same by oneDNN's layer, whose operands lie in memory as it likes them
    best: the last product's transposed.
    """
    try:
        fused = torch.ops.mkldnn._linear_pointwise
    except AttributeError as error:
        raise UnavailableError("this torch has no oneDNN") from error
    states, hidden, _ = _operands(problem)
    data = problem.v
    h = hidden[: len(problem.v)].contiguous()
    states_by_unit = states.T.contiguous()
    hidden_by_unit = hidden.T.contiguous()

    def run() -> None:
        fused(data, problem.weight.mT, problem.hbias, "sigmoid", [], "")
        fused(h, problem.weight, problem.vbias, "sigmoid", [], "")
        fused(data, problem.weight.mT, problem.hbias, "sigmoid", [], "")
        fused(states_by_unit, hidden_by_unit, None, "none", [], "")

    return Contender(run)


def _operands(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """States and hidden probabilities of data and particles, one below the other,
    and room for the gradient.
    """
    states = torch.cat((problem.v, problem.v))
    return (
        states,
        states.new_ones(len(states), len(problem.hbias)),
        torch.empty_like(problem.weight),
    )
