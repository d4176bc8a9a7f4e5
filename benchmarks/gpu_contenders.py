"""What the GPU benchmark sets side by side: tutorials' torch in float32 and tf32,
as CUDA graphs, and this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, pairwise

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks.autoregressive_sampling import loop
from benchmarks.nade import coins, naive_log_prob
from benchmarks.problem import Problem
from benchmarks.timing import Contender
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.random import Key
from pyro_gen.nn import MADE, NADE

UNITS = {
    **{"gibbs": "Gibbs step", "cd": "CD-1 gradient", "ais": "temperature"},
    **{"nade": "log probability and gradient", "nade_sampling": "draw of all rows"},
}
STEPS = 10
TEMPERATURES = 257
Named = Iterator[tuple[str, Callable[[], Contender]]]


def problem(visible: int, hidden: int, chains: int, device: str) -> Problem:
    """The CPU benchmark's problem on ``device``."""
    own = Problem.random(visible, hidden, chains)
    return Problem(
        own.v.to(device), own.weight.to(device), own.vbias.to(device), own.hbias.to(device)
    )


def with_tf32(call: Callable[[], object], on: bool) -> Callable[[], object]:
    """``call`` with or without tf32 in torch's products, whatever the process has set."""

    def run() -> object:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = on
        try:
            return call()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return run


def graphed(call: Callable[[], object], units: int = 1) -> Contender:
    """``call`` as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return Contender(graph.replay, units)


def naive_steps(own: Problem, steps: int, out: Tensor) -> Callable[[], None]:
    """``bernoulli(sigmoid(v @ W + b))`` twice, ``steps`` times, on the states in ``out``."""

    def run() -> None:
        v = out
        for _ in range(steps):
            h = torch.bernoulli(torch.sigmoid(v @ own.weight + own.hbias))
            v = torch.bernoulli(torch.sigmoid(h @ own.weight.T + own.vbias))
        out.copy_(v)

    return run


def ours(own: Problem, num_steps: int, form: str | None = None, graph: bool = True) -> Contender:
    """The Triton op, its states going round, with fresh randomness a call."""
    from pyro_gen.kernels.gibbs import triton

    parameters = RBMParameters(own.weight, own.vbias, own.hbias)
    v = own.v
    step = count(0, num_steps)

    def run() -> None:
        nonlocal v
        v, _ = triton.rbm_gibbs(v, parameters, num_steps, None, Key(0, next(step)), form, graph)

    return Contender(run, num_steps)


def half(own: Problem, dtype: torch.dtype) -> Problem:
    """The problem with parameters in half precision."""
    return Problem(own.v, own.weight.to(dtype), own.vbias.to(dtype), own.hbias.to(dtype))


def products(own: Problem, dtype: torch.dtype) -> Callable[[], None]:
    """A floor: both bare products by cuBLAS into existing memory."""
    v = own.v.to(dtype)
    weight = own.weight.to(dtype)
    h = v.new_ones(len(v), weight.shape[1])
    h_field = torch.empty_like(h)
    v_field = torch.empty_like(v)

    def run() -> None:
        for _ in range(STEPS):
            torch.mm(v, weight, out=h_field)
            torch.mm(h, weight.T, out=v_field)

    return run


def gibbs(visible: int, hidden: int, chains: int, device: str) -> Named:
    """Contenders of one Gibbs step."""
    own = problem(visible, hidden, chains, device)
    one = naive_steps(own, 1, own.v.clone())
    yield "naive", lambda: Contender(with_tf32(one, False))
    if device == "cpu":
        return
    ten = naive_steps(own, STEPS, own.v.clone())
    yield "naive, tf32", lambda: Contender(with_tf32(one, True))
    yield "naive, CUDA graph", lambda: _graph_with(ten, False)
    yield "naive, CUDA graph, tf32", lambda: _graph_with(ten, True)
    yield (
        "cuBLAS products alone, tf32, CUDA graph",
        lambda: _graph_with(products(own, torch.float32), True),
    )
    yield (
        "cuBLAS products alone, float16, CUDA graph",
        lambda: _graph_with(products(own, torch.float16), False),
    )
    yield "pyro_gen, 10 steps a call", lambda: ours(own, STEPS)
    yield "pyro_gen, 100 steps a call", lambda: ours(own, 100)
    yield "pyro_gen, 1 step a call", lambda: ours(own, 1)
    yield "pyro_gen, 10 steps a call, no graph", lambda: ours(own, STEPS, graph=False)
    yield "pyro_gen int8x2, 10 steps a call", lambda: ours(own, STEPS, "int8x2")
    yield "pyro_gen tf32x3, 10 steps a call", lambda: ours(own, STEPS, "tf32x3")
    yield (
        "pyro_gen, bfloat16 parameters, 10 steps a call",
        lambda: ours(half(own, torch.bfloat16), STEPS),
    )


def _graph_with(call: Callable[[], object], tf32: bool) -> Contender:
    """Ten steps as a CUDA graph; tf32 is settled at the capture."""
    return graphed(with_tf32(call, tf32), STEPS)


def naive_cd(own: Problem) -> Callable[[], tuple[Tensor, ...]]:
    """CD-1 as tutorials write it: probabilities and samples, two products of statistics."""

    def run() -> tuple[Tensor, ...]:
        data = torch.sigmoid(own.v @ own.weight + own.hbias)
        v = torch.bernoulli(torch.sigmoid(torch.bernoulli(data) @ own.weight.T + own.vbias))
        model = torch.sigmoid(v @ own.weight + own.hbias)
        weight = (v.T @ model - own.v.T @ data) / len(v)
        return weight, (v - own.v).mean(0), (model - data).mean(0)

    return run


def ours_cd(own: Problem, form: str | None = None) -> Contender:
    """The Triton gradient."""
    from pyro_gen.kernels.contrastive import triton

    step = count()
    parameters = RBMParameters(own.weight, own.vbias, own.hbias)
    return Contender(
        lambda: triton.rbm_contrast(own.v, own.v, parameters, 1, Key(0, next(step)), form)
    )


def cd(visible: int, hidden: int, chains: int, device: str) -> Named:
    """Contenders of one CD-1 gradient."""
    own = problem(visible, hidden, chains, device)
    yield "naive", lambda: Contender(with_tf32(naive_cd(own), False))
    if device == "cpu":
        return
    yield "naive, tf32", lambda: Contender(with_tf32(naive_cd(own), True))
    yield "naive, CUDA graph", lambda: graphed(with_tf32(naive_cd(own), False))
    yield "naive, CUDA graph, tf32", lambda: graphed(with_tf32(naive_cd(own), True))
    yield "pyro_gen", lambda: ours_cd(own)
    yield "pyro_gen int8x2", lambda: ours_cd(own, "int8x2")


def naive_ais(own: Problem) -> Callable[[], Tensor]:
    """The formula, temperature by temperature, in torch."""
    betas = torch.linspace(0, 1, TEMPERATURES, dtype=torch.float64).tolist()

    def run() -> Tensor:
        v = own.v
        log_weight = own.v.new_zeros(len(own.v), dtype=torch.float64)
        for beta, following in pairwise(betas):
            field = v @ own.weight + own.hbias
            log_weight += (following - beta) * (v @ own.vbias)
            log_weight += (softplus(following * field) - softplus(beta * field)).sum(-1)
            h = torch.bernoulli(torch.sigmoid(following * field))
            v = torch.bernoulli(torch.sigmoid(following * (h @ own.weight.T + own.vbias)))
        return log_weight

    return run


def ours_ais(own: Problem) -> Contender:
    """The Triton op."""
    from pyro_gen.kernels.ais import triton

    betas, base = (
        torch.linspace(0, 1, TEMPERATURES, device=own.v.device),
        torch.zeros_like(own.vbias),
    )
    parameters = RBMParameters(own.weight, own.vbias, own.hbias)
    seed = count()

    def run() -> None:
        triton.rbm_ais(own.v, parameters, base, betas, Key(next(seed)))

    return Contender(run, TEMPERATURES - 1)


def ais(visible: int, hidden: int, chains: int, device: str) -> Named:
    """Contenders of one temperature of annealing."""
    own = problem(visible, hidden, chains, device)
    steps = TEMPERATURES - 1
    yield "naive", lambda: Contender(with_tf32(naive_ais(own), False), steps)
    if device == "cpu":
        return
    yield "naive, tf32", lambda: Contender(with_tf32(naive_ais(own), True), steps)
    yield "naive, CUDA graph", lambda: graphed(with_tf32(naive_ais(own), False), steps)
    yield "naive, CUDA graph, tf32", lambda: graphed(with_tf32(naive_ais(own), True), steps)
    yield "pyro_gen", lambda: ours_ais(own)


def nade(visible: int, hidden: int, chains: int, device: str) -> Named:
    """Contenders of NADE's log probability and gradient: a loop on a tape, the
    kernels, and a masked network.
    """
    with torch.device(device):
        log_prob = naive_log_prob(visible, hidden)
    x = coins(visible, chains, 0.5).to(device)
    yield "naive", lambda: Contender(lambda: log_prob(x).mean().backward())
    if device == "cpu":
        return
    for name, network in (
        ("pyro_gen", NADE(visible, hidden)),
        ("masked network", MADE(visible, [hidden])),
    ):
        yield name, partial(_learned, network.to(device), x)


def _learned(network: NADE | MADE, x: Tensor) -> Contender:
    return Contender(lambda: network().log_prob(x).mean().backward())


def nade_sampling(visible: int, hidden: int, chains: int, device: str) -> Named:
    """Contenders of draws from NADE: the paper's loop, and the one kernel."""
    yield "naive", lambda: Contender(partial(_drawn, visible, hidden, chains, device))
    if device == "cpu":
        return
    yield (
        "pyro_gen",
        lambda: Contender(partial(NADE(visible, hidden).to(device)().sample, (chains,))),
    )


def _drawn(visible: int, hidden: int, chains: int, device: str) -> Tensor:
    with torch.device(device):
        return loop(visible, hidden, chains)
