"""One Gibbs step, both half steps, of chains of a Bernoulli RBM: every path beside
its peers and the bare GEMMs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import torch

from benchmarks import ceilings, peers
from benchmarks.paths import every_path, on_path
from benchmarks.problem import Problem
from benchmarks.timing import Contender
from pyro_gen.kernels import rbm_gibbs

BASELINE = "naive"
CEILINGS = ceilings.FP32
GATE = ("tests/kernels",)
SHAPES = ((784, 500, 128), (784, 500, 1024), (784, 1024, 1024), (64, 64, 64), (320, 256, 64))
"""(visible, hidden, chains)"""
UNIT = "Gibbs step"
JOB = None
STEPS = 10


def work(visible: int, hidden: int, chains: int) -> dict[str, float]:
    """What one unit does: each half step passes every connection of every chain once.

    ``bytes`` is what moves if no cache keeps anything from one half step to the
    next: the weight, the states read and the states written. ``flops`` are
    those of the dense products.
    """
    passes = 2.0 * visible * hidden * chains
    moved = 4.0 * (2 * visible * hidden + 2 * chains * (visible + hidden))
    return {
        "connection_updates": passes,
        "chain_steps": float(chains),
        "flops": 2 * passes,
        "bytes": moved,
    }


def contenders(
    visible: int, hidden: int, chains: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""
    problem = Problem.random(visible, hidden, chains)
    yield from every_path(lambda: ours(problem, STEPS))
    yield "pyro_gen, 1 step a call", lambda: on_path(None, ours(problem, 1))
    yield from ceilings.gemms(problem)
    yield BASELINE, lambda: naive(problem)
    yield "preallocated", lambda: preallocated(problem)
    yield "sklearn", lambda: sklearn(problem)
    yield "learnergy", lambda: peers.learnergy_gibbs(problem, STEPS)
    yield "rbms", lambda: peers.rbms_gibbs(problem, STEPS)


def ours(problem: Problem, num_steps: int) -> Contender:
    """The op, with a fresh key of randomness a call."""
    weight = problem.weight
    vbias = problem.vbias
    hbias = problem.hbias
    v = problem.v
    step = count(0, num_steps)

    def run() -> None:
        nonlocal v
        v, _ = rbm_gibbs(v, weight, vbias, hbias, num_steps, seed=0, step=next(step))

    return Contender(run, num_steps)


def naive(problem: Problem) -> Contender:
    """What tutorials and torch peers write: ``bernoulli(sigmoid(v @ W + b))`` twice."""
    v = problem.v

    def run() -> None:
        nonlocal v
        h = torch.bernoulli(torch.sigmoid(v @ problem.weight + problem.hbias))
        v = torch.bernoulli(torch.sigmoid(h @ problem.weight.T + problem.vbias))

    return Contender(run)


def preallocated(problem: Problem) -> Contender:
    """The best plain torch without private operators: every tensor exists
    beforehand, uniforms by ``uniform_``.
    """
    v = problem.v.clone()
    h = problem.v.new_empty(len(problem.v), len(problem.hbias))
    v_uniform = torch.empty_like(v)
    h_uniform = torch.empty_like(h)

    def run() -> None:
        torch.addmm(problem.hbias, v, problem.weight, out=h)
        torch.lt(h_uniform.uniform_(), h.sigmoid_(), out=h)
        torch.addmm(problem.vbias, h, problem.weight.T, out=v)
        torch.lt(v_uniform.uniform_(), v.sigmoid_(), out=v)

    return Contender(run)


def sklearn(problem: Problem) -> Contender:
    """scikit-learn's ``BernoulliRBM.gibbs`` on the same parameters and float32 states."""
    from sklearn.neural_network import BernoulliRBM

    model = BernoulliRBM(n_components=len(problem.hbias), random_state=0)
    model.components_ = np.asfortranarray(problem.weight.numpy().T)
    model.intercept_hidden_ = problem.hbias.numpy()
    model.intercept_visible_ = problem.vbias.numpy()
    v = problem.v.numpy()

    def run() -> None:
        nonlocal v
        v = model.gibbs(v)

    return Contender(run)
