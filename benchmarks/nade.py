"""Log probability of NADE and its gradient: every path beside a loop on a tape, a masked network and the floor.

The floor is what the recursion asks of torch at the least, in a cache and without a tape: for each feature twice the
sigmoids of all rows' hidden units and two rank-one updates. The compiled path can pass it, since a feature that is zero
leaves the hidden layer as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.paths import every_path, on_path
from benchmarks.timing import Contender
from pyro_gen.nn import NADE

BASELINE = "naive"
CEILINGS: tuple[str, ...] = ()
GATE = ("tests/kernels/test_nade.py", "tests/nn/test_nade.py")
SHAPES = ((784, 500, 128), (784, 500, 16), (64, 64, 128))
"""(features, hidden, rows)"""
UNIT = "log probability and gradient"
JOB = None
SPARSE = 0.13
"""Share of ones in binarised MNIST."""


def work(visible: int, hidden: int, rows: int) -> dict[str, float]:
    """What one unit does: every connection is used once for each row, and each row is one."""
    return {"connection_updates": float(visible * hidden * rows), "chain_steps": float(rows)}


def contenders(visible: int, hidden: int, rows: int) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""
    x = coins(visible, rows, 0.5)
    yield from every_path(lambda: ours(x, hidden))
    yield "pyro_gen, 13 % ones", lambda: on_path(None, ours(coins(visible, rows, SPARSE), hidden))
    yield BASELINE, lambda: naive(x, hidden)
    yield "masked network", lambda: masked(x, hidden)
    yield "floor", lambda: floor(x, hidden)


def coins(features: int, rows: int, rate: float) -> Tensor:
    """Binary rows."""
    return (torch.rand(rows, features, generator=torch.Generator().manual_seed(0)) < rate).float()


def ours(x: Tensor, hidden: int) -> Contender:
    """As a user trains it."""
    nade = NADE(x.shape[1], hidden)

    def run() -> None:
        nade().log_prob(x).mean().backward()

    return Contender(run)


def naive(x: Tensor, hidden: int) -> Contender:
    """The paper's recursion in torch; the tape keeps a hidden layer for every feature."""
    rows, features = x.shape
    weight, output = (torch.randn(features, hidden).mul_(0.01).requires_grad_() for _ in range(2))
    bias, hidden_bias = torch.zeros(features, requires_grad=True), torch.zeros(hidden, requires_grad=True)

    def run() -> None:
        a, logits = hidden_bias.expand(rows, -1), []
        for k in range(features):
            logits.append(torch.sigmoid(a) @ output[k] + bias[k])
            a = a + x[:, k : k + 1] * weight[k]
        binary_cross_entropy_with_logits(torch.stack(logits, 1), x).backward()

    return Contender(run)


def masked(x: Tensor, hidden: int) -> Contender:
    """A masked network (MADE) of the same size: two products and a layer of sigmoids in all."""
    features = x.shape[1]
    degrees = torch.arange(hidden) % max(features - 1, 1)
    inner = (torch.arange(features)[:, None] <= degrees).float()
    outer = (degrees[:, None] < torch.arange(features)).float()
    weight, output = (torch.randn_like(mask).mul_(0.01).requires_grad_() for mask in (inner, outer))

    def run() -> None:
        logits = torch.sigmoid(x @ (weight * inner)) @ (output * outer)
        binary_cross_entropy_with_logits(logits, x).backward()

    return Contender(run)


def floor(x: Tensor, hidden: int) -> Contender:
    """Sigmoids and rank-one updates alone."""
    a, h = torch.zeros(len(x), hidden), torch.empty(len(x), hidden)
    weight, columns = torch.full((x.shape[1], hidden), 0.01), x.T.contiguous()

    def run() -> None:
        for sign in (1, -1):
            for own, column in zip(weight, columns, strict=True):
                torch.sigmoid(a, out=h)
                a.addr_(column, own, alpha=sign)

    return Contender(run)
