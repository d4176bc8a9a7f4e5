"""Log probability of NADE and its gradient: every path beside a loop on a tape, a
masked network and the floor.

The floor is what the recursion asks for at the least, in a cache and without a
tape: for each feature twice the sigmoids of all rows' hidden units and two
rank-one updates, by torch, and by C with the compiled path's own vector
functions. That path can pass it, since a feature that is zero leaves the hidden
layer as it is: so coins are not its worst case, but numbers none of which is
zero (the dense rows here, whose distribution is Gaussian) are.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.paths import every_path, on_path
from benchmarks.timing import Contender, UnavailableError
from pyro_gen.distributions import GaussianConditional
from pyro_gen.kernels import native
from pyro_gen.nn import MADE, NADE

BASELINE = "naive"
CEILINGS: tuple[str, ...] = ()
GATE = ("tests/kernels/test_nade.py", "tests/nn/test_nade.py")
SHAPES = ((784, 500, 128), (784, 500, 16), (64, 64, 128))
"""(features, hidden, rows)"""
UNIT = "log probability and gradient"
JOB = None
FLOOR = "floor"
RIVALS = dict.fromkeys(
    ("pyro_gen", "pyro_gen native", "pyro_gen, 13 % ones", "pyro_gen, dense numbers"), FLOOR
)
SPARSE = 0.13
"""Share of ones in binarised MNIST."""


def work(visible: int, hidden: int, rows: int) -> dict[str, float]:
    """What one unit does: every connection is used once for each row, and each row is one."""
    return {"connection_updates": float(visible * hidden * rows), "chain_steps": float(rows)}


def contenders(
    visible: int, hidden: int, rows: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""
    x = coins(visible, rows, 0.5)
    yield from every_path(lambda: ours(x, hidden))
    yield "pyro_gen, 13 % ones", lambda: on_path(None, ours(coins(visible, rows, SPARSE), hidden))
    yield "pyro_gen, dense numbers", lambda: on_path(None, dense(x, hidden))
    yield "pyro_gen MADE", lambda: made(x, hidden)
    yield BASELINE, lambda: naive(x, hidden)
    yield "masked network", lambda: masked(x, hidden)
    yield FLOOR, lambda: compiled_floor(x, hidden)
    yield "floor in torch", lambda: floor(x, hidden)


def coins(features: int, rows: int, rate: float) -> Tensor:
    """Binary rows."""
    return (torch.rand(rows, features, generator=torch.Generator().manual_seed(0)) < rate).float()


def ours(x: Tensor, hidden: int) -> Contender:
    """As a user trains it."""
    nade = NADE(x.shape[1], hidden)

    def run() -> None:
        nade().log_prob(x).mean().backward()

    return Contender(run)


def dense(x: Tensor, hidden: int) -> Contender:
    """Of numbers: every feature changes the hidden layer.

    Fields of two parameters, mean and scale.
    """
    nade = NADE(x.shape[1], hidden, conditional=GaussianConditional())
    numbers = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return Contender(lambda: nade().log_prob(numbers).mean().backward())


def made(x: Tensor, hidden: int) -> Contender:
    """The package's masked network."""
    network = MADE(x.shape[1], [hidden])
    return Contender(lambda: network().log_prob(x).mean().backward())


def naive(x: Tensor, hidden: int) -> Contender:
    """The paper's recursion in torch; the tape keeps a hidden layer for every feature."""
    log_prob = naive_log_prob(x.shape[1], hidden)
    return Contender(lambda: log_prob(x).mean().backward())


def naive_log_prob(features: int, hidden: int) -> Callable[[Tensor], Tensor]:
    """The paper's recursion as a function of rows."""
    weight, output = (torch.randn(features, hidden).mul_(0.01).requires_grad_() for _ in range(2))
    bias = torch.zeros(features, requires_grad=True)
    hidden_bias = torch.zeros(hidden, requires_grad=True)

    def log_prob(x: Tensor) -> Tensor:
        a = hidden_bias.expand(len(x), -1)
        logits = []
        for k in range(features):
            logits.append(torch.sigmoid(a) @ output[k] + bias[k])
            a = a + x[:, k : k + 1] * weight[k]
        return -binary_cross_entropy_with_logits(torch.stack(logits, 1), x, reduction="none").sum(
            -1
        )

    return log_prob


def masked(x: Tensor, hidden: int) -> Contender:
    """A masked network (MADE) of the same size: two products and a layer of sigmoids in all."""
    features = x.shape[1]
    degrees = torch.arange(hidden) % max(features - 1, 1)
    inner = (torch.arange(features)[:, None] <= degrees).float()
    outer = (degrees[:, None] < torch.arange(features)).float()
    weight, output = (
        torch.randn_like(mask).mul_(0.01).requires_grad_() for mask in (inner, outer)
    )

    def run() -> None:
        logits = torch.sigmoid(x @ (weight * inner)) @ (output * outer)
        binary_cross_entropy_with_logits(logits, x).backward()

    return Contender(run)


def floor(x: Tensor, hidden: int) -> Contender:
    """Sigmoids and rank-one updates alone."""
    a = torch.zeros(len(x), hidden)
    h = torch.empty(len(x), hidden)
    weight = torch.full((x.shape[1], hidden), 0.01)
    columns = x.T.contiguous()

    def run() -> None:
        for sign in (1, -1):
            for own, column in zip(weight, columns, strict=True):
                torch.sigmoid(a, out=h)
                a.addr_(column, own, alpha=sign)

    return Contender(run)


@lru_cache(maxsize=1)
def _floor() -> ctypes.CDLL:
    """``nade_floor.c``, compiled as the package's library is."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    source = Path(__file__).with_suffix("").with_name("nade_floor.c")
    if compiler is None:
        raise UnavailableError("no C compiler was found")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "floor.so"
        include = f"-I{Path(native.__file__).with_name('src')}"
        options = ["-O3", "-ffp-contract=off", "-shared", "-fPIC", "-w", include]
        outcome = subprocess.run(
            [compiler, *options, source, "-o", library, "-lm"], capture_output=True, check=False
        )
        if outcome.returncode:
            raise UnavailableError(f"{compiler} does not compile {source.name}")
        return ctypes.CDLL(str(library))


def compiled_floor(x: Tensor, hidden: int) -> Contender:
    """Sigmoids and rank-one updates alone, in C."""
    rows, features = x.shape
    buffers = [torch.full((size, 64), 0.01) for size in (features, rows, rows)]
    weight, a, h = (ctypes.c_void_p(buffer.data_ptr()) for buffer in buffers)
    sizes = [ctypes.c_int64(size) for size in (features, hidden, rows)]
    function = _floor().nade_floor

    def run(alive: object = buffers) -> None:
        function(weight, *sizes, a, h)

    return Contender(run)
