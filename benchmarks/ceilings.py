"""What the hardware gives at most: the bare products of a Gibbs step by each
library at hand, and copies of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.problem import Problem
from benchmarks.timing import CLOCKS, Contender, Plan, Spread, UnavailableError, seconds

FP32 = ("onednn_gemm", "mkl_gemm", "openblas_gemm")
"""The quickest of these in a round is the ceiling of that round.

Integer products of binary states can pass it.
"""

COPIED = 2**26  # bytes, so that no cache holds them


def gemms(problem: Problem) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """Names and makers of the floors of a Gibbs step."""
    yield "int8x2_gemm", lambda: int8x2_gemm(problem)
    yield "onednn_gemm", lambda: onednn_gemm(problem)
    yield "mkl_gemm", lambda: mkl_gemm(problem)
    yield "openblas_gemm", lambda: openblas_gemm(problem)


def copy_bandwidth(plan: Plan) -> float:
    """Bytes a second, read and written, of a copy that no cache holds: the median
    over the plan's rounds.
    """
    source = torch.ones(COPIED // 4)
    target = torch.zeros_like(source)
    times = [
        seconds(lambda: target.copy_(source), 1, CLOCKS[plan.clock]) for _ in range(plan.rounds)
    ]
    return 2 * COPIED / Spread.of(times).median


def int8x2_gemm(problem: Problem) -> Contender:
    """The two bare products of weights in two planes of int8, nothing drawn."""
    if not hasattr(torch, "_int_mm"):
        raise UnavailableError("this torch has no _int_mm")
    hi = torch.randint(-127, 128, problem.weight.shape, dtype=torch.int8)
    lo = torch.randint_like(hi, -127, 128)
    up = torch.cat((hi, lo), 1)
    down = torch.cat((hi, lo)).mT
    v = problem.v.to(torch.int8)
    h = torch.ones(len(v), hi.shape[1], dtype=torch.int8)
    h_sums, v_sums = (
        torch.empty(len(v), planes.shape[1], dtype=torch.int32) for planes in (up, down)
    )

    def run() -> None:
        torch._int_mm(v, up, out=h_sums)
        torch._int_mm(h, down, out=v_sums)

    return Contender(run)


def onednn_gemm(problem: Problem) -> Contender:
    """Both products by oneDNN's fused layer (bias and sigmoid included), nothing drawn."""
    try:
        fused = torch.ops.mkldnn._linear_pointwise
    except AttributeError as error:
        raise UnavailableError("this torch has no oneDNN") from error
    h = problem.v.new_ones(len(problem.v), len(problem.hbias))

    def run() -> None:
        fused(problem.v, problem.weight.mT, problem.hbias, "sigmoid", [], "")
        fused(h, problem.weight, problem.vbias, "sigmoid", [], "")

    return Contender(run)


def mkl_gemm(problem: Problem) -> Contender:
    """Both bare products by torch's BLAS (MKL in the official builds) into existing memory."""
    h = problem.v.new_ones(len(problem.v), len(problem.hbias))
    h_field = torch.empty_like(h)
    v_field = torch.empty_like(problem.v)

    def run() -> None:
        torch.mm(problem.v, problem.weight, out=h_field)
        torch.mm(h, problem.weight.T, out=v_field)

    return Contender(run)


def openblas_gemm(problem: Problem) -> Contender:
    """Both bare products by numpy's BLAS (OpenBLAS in the official builds) into
    existing memory.
    """
    v = problem.v.numpy()
    weight = problem.weight.numpy()
    h = np.ones((len(v), weight.shape[1]), np.float32)
    h_field = np.empty_like(h)
    v_field = np.empty_like(v)

    def run() -> None:
        np.matmul(v, weight, out=h_field)
        np.matmul(h, weight.T, out=v_field)

    return Contender(run)
