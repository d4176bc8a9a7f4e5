"""One Gibbs step, both half steps, of chains of a Bernoulli RBM: the op beside its peers and the bare GEMMs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import Contender
from pyro_gen.kernels import rbm_gibbs
from pyro_gen.kernels.gibbs import int8
from pyro_gen.kernels.quantise import split
from pyro_gen.kernels.random import source

BASELINE = "naive"
CEILINGS = ("onednn_gemm", "mkl_gemm", "openblas_gemm")
GATE = ("tests/kernels",)
SHAPES = ((784, 500, 128), (784, 500, 1024), (784, 1024, 1024), (64, 64, 64), (320, 256, 64))
"""(visible, hidden, chains)"""
UNIT = "Gibbs step"
STEPS = 10


@dataclass(frozen=True)
class Problem:
    """Parameters and starting states in float32, the same for all contenders."""

    v: Tensor
    weight: Tensor
    vbias: Tensor
    hbias: Tensor

    @classmethod
    def random(cls, visible: int, hidden: int, chains: int) -> Problem:
        """Weights of a trained RBM's scale, states of fair coins."""
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(visible, hidden, generator=generator) / visible**0.5
        biases = torch.randn(visible + hidden, generator=generator).split([visible, hidden])
        v = torch.randint(2, (chains, visible), generator=generator).float()
        return cls(v, weight, *biases)


def work(visible: int, hidden: int, chains: int) -> dict[str, float]:
    """What one unit does: each half step passes every connection of every chain once."""
    return {"connection_updates": 2.0 * visible * hidden * chains, "chain_steps": float(chains)}


def contenders(visible: int, hidden: int, chains: int) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises ``ImportError`` where its package is missing."""
    problem = Problem.random(visible, hidden, chains)
    yield "pyro_gen, 10 steps a call", lambda: ours(problem, STEPS)
    yield "pyro_gen, 1 step a call", lambda: ours(problem, 1)
    yield "pyro_gen, int8x2 in torch, 10 steps a call", lambda: int8x2(problem, STEPS)
    yield "int8x2_gemm", lambda: int8x2_gemm(problem)
    yield BASELINE, lambda: naive(problem)
    yield "preallocated", lambda: preallocated(problem)
    yield "sklearn", lambda: sklearn(problem)
    yield "onednn_gemm", lambda: onednn_gemm(problem)
    yield "mkl_gemm", lambda: mkl_gemm(problem)
    yield "openblas_gemm", lambda: openblas_gemm(problem)


def ours(problem: Problem, num_steps: int) -> Contender:
    """The op, with a fresh key of randomness a call."""
    weight, vbias, hbias = problem.weight, problem.vbias, problem.hbias
    v, step = problem.v, count(0, num_steps)

    def run() -> None:
        nonlocal v
        v, _ = rbm_gibbs(v, weight, vbias, hbias, num_steps, seed=0, step=next(step))

    return Contender(run, num_steps)


def int8x2(problem: Problem, num_steps: int) -> Contender:
    """The path with weights in two int8 planes, quantised anew in every call."""
    weight, vbias, hbias = problem.weight, problem.vbias, problem.hbias
    v, step = problem.v, count(0, num_steps)

    def run() -> None:
        nonlocal v
        uniforms = source(0, len(v), 0, v, fast=True)
        v, _ = int8.rbm_gibbs(v, weight, vbias, hbias, num_steps, None, uniforms, next(step))

    return Contender(run, num_steps)


def int8x2_gemm(problem: Problem) -> Contender:
    """The floor of the int8 path: its two bare products, nothing drawn."""
    if not hasattr(torch, "_int_mm"):
        raise ImportError("this torch has no _int_mm")
    hi, lo, _ = split(problem.weight)
    up, down = torch.cat((hi, lo), 1), torch.cat((hi, lo)).mT
    v = problem.v.to(torch.int8)
    h = torch.ones(len(v), hi.shape[1], dtype=torch.int8)
    h_sums, v_sums = (torch.empty(len(v), planes.shape[1], dtype=torch.int32) for planes in (up, down))

    def run() -> None:
        torch._int_mm(v, up, out=h_sums)
        torch._int_mm(h, down, out=v_sums)

    return Contender(run)


def naive(problem: Problem) -> Contender:
    """What tutorials and torch peers write: ``bernoulli(sigmoid(v @ W + b))`` twice."""
    v = problem.v

    def run() -> None:
        nonlocal v
        h = torch.bernoulli(torch.sigmoid(v @ problem.weight + problem.hbias))
        v = torch.bernoulli(torch.sigmoid(h @ problem.weight.T + problem.vbias))

    return Contender(run)


def preallocated(problem: Problem) -> Contender:
    """The best plain torch without private operators: every tensor exists beforehand, uniforms by ``uniform_``."""
    v, h = problem.v.clone(), problem.v.new_empty(len(problem.v), len(problem.hbias))
    v_uniform, h_uniform = torch.empty_like(v), torch.empty_like(h)

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
    model.intercept_hidden_, model.intercept_visible_ = problem.hbias.numpy(), problem.vbias.numpy()
    v = problem.v.numpy()

    def run() -> None:
        nonlocal v
        v = model.gibbs(v)

    return Contender(run)


def onednn_gemm(problem: Problem) -> Contender:
    """A ceiling: both products by oneDNN's fused layer (bias and sigmoid included), nothing drawn."""
    try:
        fused = torch.ops.mkldnn._linear_pointwise
    except AttributeError as error:
        raise ImportError("this torch has no oneDNN") from error
    h = problem.v.new_ones(len(problem.v), len(problem.hbias))

    def run() -> None:
        fused(problem.v, problem.weight.mT, problem.hbias, "sigmoid", [], "")
        fused(h, problem.weight, problem.vbias, "sigmoid", [], "")

    return Contender(run)


def mkl_gemm(problem: Problem) -> Contender:
    """A ceiling: both bare products by torch's BLAS (MKL in the official builds) into existing memory."""
    h = problem.v.new_ones(len(problem.v), len(problem.hbias))
    h_field, v_field = torch.empty_like(h), torch.empty_like(problem.v)

    def run() -> None:
        torch.mm(problem.v, problem.weight, out=h_field)
        torch.mm(h, problem.weight.T, out=v_field)

    return Contender(run)


def openblas_gemm(problem: Problem) -> Contender:
    """A ceiling: both bare products by numpy's BLAS (OpenBLAS in the official builds) into existing memory."""
    v, weight = problem.v.numpy(), problem.weight.numpy()
    h = np.ones((len(v), weight.shape[1]), np.float32)
    h_field, v_field = np.empty_like(h), np.empty_like(v)

    def run() -> None:
        np.matmul(v, weight, out=h_field)
        np.matmul(h, weight.T, out=v_field)

    return Contender(run)
