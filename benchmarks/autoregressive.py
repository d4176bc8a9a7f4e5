"""Log probability of every autoregressive family, with its gradient and without,
beside the peers' networks.

What the families have in common is the number of features, and of hidden units
where they have such; they are not equally good, and not equally large. The
baseline is NADE's recursion as a loop in torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.autoregressive_peers import PEERS, sides
from benchmarks.nade import coins, naive, naive_log_prob, work
from benchmarks.timing import Contender
from pyro_gen.nn import (
    FVSBN,
    MADE,
    NADE,
    AutoregressiveNetwork,
    CausalTransformer,
    PixelCNN,
    RecurrentAR,
)

__all__ = [
    "BASELINE",
    "CEILINGS",
    "FAMILIES",
    "GATE",
    "JOB",
    "SHAPES",
    "UNIT",
    "contenders",
    "work",
]

BASELINE = "naive"
CEILINGS: tuple[str, ...] = ()
GATE = (
    "tests/nn/test_nade.py",
    "tests/nn/test_autoregressive.py::test_generation_step_by_step_is_a_full_pass_a_feature",
    "tests/nn/test_autoregressive.py::test_single_distributions_multiply_to_the_whole",
)
"""What is timed is right: log probabilities, and draws the same whether anything
is kept or not.
"""
SHAPES = ((784, 500, 16), (196, 200, 16), (64, 64, 128))
"""(features, hidden, rows)"""
UNIT = "log probability and gradient"
JOB = None

FAMILIES: dict[str, Callable[[int, int], AutoregressiveNetwork]] = {
    "FVSBN": lambda features, _: FVSBN(features),
    "NADE": NADE,
    "MADE": lambda features, hidden: MADE(features, [hidden]),
    "RNN": RecurrentAR,
    "PixelCNN": lambda features, _: PixelCNN(sides(features), 16, 4),
    "transformer": lambda features, _: CausalTransformer(features, 64),
}
"""Networks by features and hidden units.

PixelCNN has 4 gated layers of 16 channels, the transformer 2 of width 64.
"""


def contenders(
    visible: int, hidden: int, rows: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""
    x = coins(visible, rows, 0.5)
    for name, make in FAMILIES.items():
        yield from _both(f"pyro_gen {name}", partial(_ours, make, visible, hidden), x)
    yield BASELINE, lambda: naive(x, hidden)
    yield f"{BASELINE}, no gradient", lambda: _valued(naive_log_prob(visible, hidden), x)
    for name, peer in PEERS.items():
        yield from _both(name, partial(_theirs, peer.log_prob, peer.network, visible, hidden), x)


def _ours(
    make: Callable[[int, int], AutoregressiveNetwork], features: int, hidden: int
) -> Callable[[Tensor], Tensor]:
    torch.manual_seed(0)
    network = make(features, hidden)
    return lambda x: network().log_prob(x.view(-1, *network.event_shape))


def _theirs(
    log_prob: Callable[[nn.Module, Tensor], Tensor],
    make: Callable[[int, int], nn.Module],
    features: int,
    hidden: int,
) -> Callable[[Tensor], Tensor]:
    torch.manual_seed(0)
    return partial(log_prob, make(features, hidden))


def _both(
    name: str, make: Callable[[], Callable[[Tensor], Tensor]], x: Tensor
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """With the gradient, and without."""
    yield name, lambda: _learned(make(), x)
    yield f"{name}, no gradient", lambda: _valued(make(), x)


def _learned(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Contender:
    return Contender(lambda: log_prob(x).mean().backward())


def _valued(log_prob: Callable[[Tensor], Tensor], x: Tensor) -> Contender:
    return Contender(partial(torch.no_grad()(log_prob), x))
