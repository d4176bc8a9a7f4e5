"""One temperature of annealed importance sampling for all chains: every path
beside plain torch and rbms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, pairwise

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks import ceilings, peers
from benchmarks.gibbs import work
from benchmarks.paths import every_path
from benchmarks.problem import Problem
from benchmarks.timing import Contender
from pyro_gen.kernels import rbm_ais

__all__ = ["BASELINE", "CEILINGS", "GATE", "JOB", "SHAPES", "UNIT", "contenders", "work"]

BASELINE = "naive"
CEILINGS = ceilings.FP32
GATE = ("tests/kernels",)
SHAPES = ((784, 500, 500), (320, 400, 1000))
"""(visible, hidden, chains)"""
UNIT = "temperature of all chains"
JOB = ("10^4 temperatures", 10_000)
TEMPERATURES = 20
"""Steps of a call, from the base to the model: a mean over the whole path."""


def contenders(
    visible: int, hidden: int, chains: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""
    problem = Problem.random(visible, hidden, chains)
    yield from every_path(lambda: ours(problem))
    yield from ceilings.gemms(problem)
    yield BASELINE, lambda: naive(problem)
    yield "rbms", lambda: peers.rbms_ais(problem, TEMPERATURES)


def ours(problem: Problem) -> Contender:
    """The op, from fair coins, with a fresh key of randomness a call."""
    parameters = problem.weight, problem.vbias, problem.hbias, torch.zeros_like(problem.vbias)
    betas = torch.linspace(0, 1, TEMPERATURES + 1)
    seed = count()
    return Contender(lambda: rbm_ais(problem.v, *parameters, betas, seed=next(seed)), TEMPERATURES)


def naive(problem: Problem) -> Contender:
    """The loop one writes in torch: weights in float32 by differences of softplus,
    ``bernoulli(sigmoid(.))`` twice.
    """
    weight = problem.weight
    vbias = problem.vbias
    hbias = problem.hbias
    base = torch.zeros_like(problem.vbias)
    betas = torch.linspace(0, 1, TEMPERATURES + 1).tolist()

    def run() -> Tensor:
        v = problem.v
        log_weight = torch.zeros(len(problem.v))
        for beta, following in pairwise(betas):
            field = v @ weight + hbias
            log_weight += (following - beta) * (v @ (vbias - base))
            log_weight += (softplus(following * field) - softplus(beta * field)).sum(-1)
            h = torch.bernoulli(torch.sigmoid(following * field))
            v = torch.bernoulli(
                torch.sigmoid((1 - following) * base + following * (h @ weight.T + vbias))
            )
        return log_weight

    return Contender(run, TEMPERATURES)
