"""Draws from every autoregressive family: what a step keeps for the next, a whole
pass a feature, the peers.

Each family's rival is itself with nothing kept: a few of its passes, spread
over the order, are timed, and the seconds of all features follow. The samples
of both are the same for one seed; ``tests/nn/test_autoregressive.py`` holds
that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.autoregressive import FAMILIES, GATE
from benchmarks.autoregressive_peers import PEERS, Peer
from benchmarks.nade import coins, work
from benchmarks.timing import Contender
from pyro_gen.nn import AutoregressiveNetwork

__all__ = [
    "BASELINE",
    "CEILINGS",
    "GATE",
    "JOB",
    "RIVALS",
    "SHAPES",
    "UNIT",
    "contenders",
    "forgetful",
    "loop",
    "passes",
    "work",
]

BASELINE = "naive"
CEILINGS: tuple[str, ...] = ()
SHAPES = ((784, 500, 16), (196, 200, 16), (64, 64, 128))
"""(features, hidden, rows)"""
UNIT = "draw of all rows"
JOB = None
RIVALS = {f"pyro_gen {name}": f"naive {name}" for name in FAMILIES}
PASSES = 3
"""How many passes of a sampler that keeps nothing are timed."""


def contenders(
    visible: int, hidden: int, rows: int
) -> Iterator[tuple[str, Callable[[], Contender]]]:
    """The contenders' names and what makes them; making one raises where it cannot run."""
    for name, make in FAMILIES.items():
        yield f"pyro_gen {name}", partial(_kept, make, visible, hidden, rows)
        yield f"naive {name}", partial(passes, make, visible, hidden, rows)
    yield BASELINE, lambda: Contender(partial(loop, visible, hidden, rows))
    for name, peer in PEERS.items():
        yield name, partial(_theirs, peer, visible, hidden, rows)


def forgetful(network: AutoregressiveNetwork) -> AutoregressiveNetwork:
    """The network with nothing kept from feature to feature."""
    kept_nothing = {
        name: getattr(AutoregressiveNetwork, name) for name in ("first", "after", "generate")
    }
    network.__class__ = type(f"Forgetful{type(network).__name__}", (type(network),), kept_nothing)
    return network


def _kept(
    make: Callable[[int, int], AutoregressiveNetwork], features: int, hidden: int, rows: int
) -> Contender:
    torch.manual_seed(0)
    return Contender(partial(make(features, hidden)().sample, (rows,)))


def passes(
    make: Callable[[int, int], AutoregressiveNetwork], features: int, hidden: int, rows: int
) -> Contender:
    """A few features of draws that keep nothing, spread over the order, as a part of a draw."""
    torch.manual_seed(0)
    network = forgetful(make(features, hidden))
    few = min(PASSES, features - 1)
    x = coins(features, rows, 0.5)
    places = [max((2 * i + 1) * features // (2 * few), 1) for i in range(few)]
    noise = network.conditional.noise((rows,), network.example)
    # Of each place what is drawn before it is there: where nothing is, NADE's
    # kernel has little to do.
    states = [
        network.encode(x) * (torch.arange(features) < place - 1).unsqueeze(-1) for place in places
    ]

    @torch.no_grad()
    def run() -> None:
        for place, state in zip(places, states, strict=True):
            parameters, _ = network.after((state, None), x[:, place - 1], place)
            network.conditional.draw(parameters, noise)

    return Contender(run, few / features)


def _theirs(peer: Peer, features: int, hidden: int, rows: int) -> Contender:
    torch.manual_seed(0)
    run = partial(peer.sample, peer.network(features, hidden), rows)
    run()  # a draw that takes too long says so here
    return Contender(run)


@torch.no_grad()
def loop(features: int, hidden: int, rows: int) -> Tensor:
    """NADE's draws as the paper has them, in torch."""
    weight = torch.full((features, hidden), 0.01)
    output = torch.full((features, hidden), 0.01)
    a = torch.zeros(rows, hidden)
    x = torch.empty(rows, features)
    for k in range(features):
        x[:, k] = torch.bernoulli(torch.sigmoid(torch.sigmoid(a) @ output[k]))
        a = a + x[:, k : k + 1] * weight[k]
    return x
