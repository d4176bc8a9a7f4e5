"""Markov chains of a mixture's sweeps, from the same point."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number

Values = dict[str, Tensor]


def run_chains(
    sweep: Callable[[Values], Values],
    start: Values,
    num_samples: int,
    warmup_steps: int,
    num_chains: int,
    thin: int,
) -> Values:
    """Sweep, chain after chain, and keep every so many-th state.

    Args:
        sweep: from one state to the next.
        start: of every chain.
        num_samples: states to keep of each chain.
        warmup_steps: sweeps before these.
        num_chains: chains.
        thin: sweeps from one kept state to the next.

    Returns:
        States by name, (chain, draw, ...).

    Raises:
        ValueError: a number is out of range.
    """
    num_samples = whole_number("num_samples", num_samples)
    num_chains = whole_number("num_chains", num_chains)
    thin = whole_number("thin", thin)
    warmup_steps = whole_number("warmup_steps", warmup_steps, 0)
    draws: list[Values] = []
    for _ in range(num_chains):
        values = start
        for step in range(1 - warmup_steps, num_samples * thin + 1):
            values = sweep(values)
            if step > 0 and step % thin == 0:
                draws.append(values)
    return {
        name: torch.stack([draw[name] for draw in draws]).unflatten(0, (num_chains, num_samples))
        for name in draws[0]
    }


__all__ = ["run_chains"]
