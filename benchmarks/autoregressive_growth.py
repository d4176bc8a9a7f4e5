"""How NADE's and MADE's cost grows with features (visible), hidden units and rows
(chains), learning and drawing.
"""

from __future__ import annotations

from functools import partial

from benchmarks.autoregressive import GATE
from benchmarks.growth import Makers, Point
from benchmarks.nade import coins, made, ours
from benchmarks.timing import Contender
from pyro_gen.nn import MADE, NADE

__all__ = ["FIXED", "GATE", "NAMES", "UNIT", "VALUES", "makers"]

UNIT = "batch"
NAMES = {"visible": "features", "hidden": "hidden units", "chains": "rows"}
FIXED = Point(784, 500, 128)
VALUES = {
    "visible": (16, 64, 196, 784, 1568),
    "hidden": (16, 64, 250, 500, 1000, 2000),
    "chains": (1, 8, 32, 128, 512),
}


def makers(point: Point) -> Makers:
    """Log probability with its gradient, and draws.

    Args:
        point: the sizes; steps mean nothing here.

    Returns:
        Names and makers.
    """
    features, hidden, rows, _ = point
    x = coins(features, rows, 0.5)
    return [
        ("NADE, log probability and gradient", lambda: ours(x, hidden)),
        ("MADE, log probability and gradient", lambda: made(x, hidden)),
        ("NADE, draw", lambda: Contender(partial(NADE(features, hidden)().sample, (rows,)))),
        ("MADE, draw", lambda: Contender(partial(MADE(features, [hidden])().sample, (rows,)))),
    ]
