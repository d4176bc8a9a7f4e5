"""Exact oracles: every state of a small model, its probability, and iid draws of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from pyro_gen._arguments import whole_number


class Joint(NamedTuple):
    """The exact joint distribution of an energy model over all states of both sides.

    `visible` has shape (2^V, V), `hidden` (2^H, H) and `log_prob` (2^V, 2^H),
    in nats.
    """

    visible: Tensor
    hidden: Tensor
    log_prob: Tensor


def states(num_bits: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """List all binary vectors of a length, counting up with the last bit the fastest.

    Args:
        num_bits: length of the vectors.
        dtype: dtype of the result.

    Returns:
        A tensor of shape (2^num_bits, num_bits) of zeros and ones.

    Example:
        >>> states(2).tolist()
        [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    num_bits = whole_number("num_bits", num_bits, 0)
    shifts = torch.arange(num_bits - 1, -1, -1)
    return (torch.arange(2**num_bits).unsqueeze(-1) >> shifts & 1).to(dtype)


def enumerate_joint(
    energy: Callable[[Tensor, Tensor], Tensor],
    visible: int,
    hidden: int,
    dtype: torch.dtype = torch.float64,
) -> Joint:
    r"""Normalise an energy over all binary states of two layers.

    .. math:: p(v, h) = \exp(-E(v, h)) / \sum_{v', h'} \exp(-E(v', h'))

    Args:
        energy: maps v of shape (2^V, 1, V) and h of shape (2^H, H) to energies
            of shape (2^V, 2^H).
        visible: number V of visible units.
        hidden: number H of hidden units.
        dtype: dtype of the states.

    Returns:
        The states of both sides and the joint log probability.

    Example:
        >>> enumerate_joint(lambda v, h: -(v * h).sum(-1), 1, 1).log_prob.exp().sum()
        tensor(1.0000, dtype=torch.float64)
    """
    visible = whole_number("visible", visible)
    hidden = whole_number("hidden", hidden)
    v = states(visible, dtype)
    h = states(hidden, dtype)
    negative_energy = -energy(v.unsqueeze(-2), h)
    return Joint(v, h, negative_energy - negative_energy.logsumexp((-2, -1)))


def exact_log_probs(distribution: Distribution, all_states: Tensor) -> Tensor:
    """Score every state under every batch element.

    Args:
        distribution: any distribution with a `log_prob`.
        all_states: shape (n,) + event_shape.

    Returns:
        Log probabilities in nats, of shape (n,) + batch_shape.

    Example:
        >>> coin = torch.distributions.Bernoulli(torch.tensor([0.5, 0.25]))
        >>> exact_log_probs(coin, torch.tensor([0.0, 1.0])).exp().tolist()
        [[0.5, 0.75], [0.5, 0.25]]
    """
    batch = (1,) * len(distribution.batch_shape)
    values = all_states.reshape(-1, *batch, *all_states.shape[1:])
    return distribution.log_prob(values)


def state_index(values: Tensor, all_states: Tensor) -> Tensor:
    """Find the position of each value in the list of states.

    Args:
        values: shape (...) + event_shape.
        all_states: distinct states, shape (n,) + event_shape.

    Returns:
        Positions of shape (...), -1 where a value is not one of the states.

    Example:
        >>> state_index(torch.tensor([[1.0, 0.0], [0.0, 7.0]]), states(2, torch.float32)).tolist()
        [2, -1]
    """
    count = all_states.shape[0]
    batch = values.shape[: values.dim() - all_states.dim() + 1]
    state_cells = all_states.reshape(count, -1)
    cells = values.reshape(batch.numel(), state_cells.shape[1]).to(all_states.dtype)
    if all_states.dtype == torch.bool:  # which torch.searchsorted does not take
        state_cells = state_cells.to(torch.uint8)
        cells = cells.to(torch.uint8)

    # Cell by cell, each row gets the number of its prefix among the prefixes of the states.
    # Only the states are sorted; `torch.unique` of all values takes ten times as long.
    state_prefix = torch.zeros(count, dtype=torch.long, device=all_states.device)
    prefix = torch.zeros(len(cells), dtype=torch.long, device=cells.device)
    is_state = torch.ones(len(cells), dtype=torch.bool, device=cells.device)
    for state_cell, cell in zip(state_cells.unbind(-1), cells.unbind(-1), strict=True):
        levels, state_level = torch.unique(state_cell, return_inverse=True)
        level, is_level = _position_in(levels, cell)
        prefixes, state_prefix = torch.unique(
            state_prefix * len(levels) + state_level, return_inverse=True
        )
        prefix, is_prefix = _position_in(prefixes, prefix * len(levels) + level)
        is_state &= is_level & is_prefix

    position = torch.empty(count, dtype=torch.long, device=all_states.device)
    position[state_prefix] = torch.arange(count, device=all_states.device)
    return torch.where(is_state, position[prefix], -1).reshape(batch)


def _position_in(ordered: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Find each element in an ordered list: its position, and whether it is there at all."""
    position = torch.searchsorted(ordered, x.contiguous()).clamp(max=len(ordered) - 1)
    return position, ordered[position] == x


def frequencies(values: Tensor, all_states: Tensor) -> Tensor:
    """Count how often each state occurs among the values, as a share of their number.

    Args:
        values: shape (...) + event_shape, each one of the states.
        all_states: distinct states, shape (n,) + event_shape.

    Returns:
        Relative frequencies of shape (n,), in float64.

    Raises:
        ValueError: if a value is not one of the states, or there are no values.

    Example:
        >>> frequencies(torch.tensor([0.0, 1.0, 1.0, 1.0]), torch.tensor([0.0, 1.0])).tolist()
        [0.25, 0.75]
    """
    index = state_index(values, all_states).flatten()
    if not len(index) or (index < 0).any():
        raise ValueError(
            "`values` must be one or more of the given states, "
            f"got {(index < 0).sum()} strangers of {len(index)}"
        )
    counts = torch.bincount(index, minlength=len(all_states))
    return counts.double() / len(index)


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    r"""Measure the distance between two distributions on the same states.

    .. math:: \mathrm{TV}(p, q) = \tfrac12 \sum_i |p_i - q_i|

    Args:
        p: probabilities of shape (..., n).
        q: probabilities of shape (..., n).

    Returns:
        Distances between 0 and 1, of shape (...).

    Example:
        >>> total_variation(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])).item()
        0.5
    """
    return (p - q).abs().sum(-1) / 2


def multinomial_floor(
    probs: Tensor,
    num_draws: int,
    quantile: float = 0.999,
    *,
    num_repeats: int = 20_000,
    seed: int = 0,
) -> float:
    """Simulate how far the frequencies of perfect iid draws stray from their own distribution.

    The result is a quantile of the total variation between the distribution and
    the frequencies of `num_draws` draws of it: a sampler whose distance is
    above it is, at that level, not a sampler of this distribution.

    Args:
        probs: probabilities of shape (n,).
        num_draws: number of draws behind each frequency.
        quantile: level of the quantile.
        num_repeats: number of simulated samples; the quantile rests on
            `num_repeats * (1 - quantile)` of them.
        seed: seed of the simulation, which leaves every global generator alone.

    Returns:
        The quantile of the total variation.

    Example:
        >>> 0.014 < multinomial_floor(torch.tensor([0.5, 0.5]), 10_000) < 0.018
        True
    """
    num_draws = whole_number("num_draws", num_draws)
    num_repeats = whole_number("num_repeats", num_repeats)
    p = probs.double().cpu().numpy()
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(num_draws, p / p.sum(), size=num_repeats)
    distances = np.abs(counts / num_draws - p).sum(-1) / 2
    return float(np.quantile(distances, quantile))


def goodness_of_fit(counts: Tensor, probs: Tensor) -> float:
    r"""Bound the p-value of multinomial counts, at any sample size, without merging cells.

    .. math:: P(n\,\mathrm{KL}(\hat p \| p) \ge x)
              \le e^{-x} (e x / (k - 1))^{k - 1}, \quad x > k - 1

    The bound always holds, so rejecting below a level has at most that
    false-alarm rate. Pyro's `multinomial_goodness_of_fit` divides by n p (1 -
    p) but compares with k - 1 degrees of freedom, which for two cells turns a
    nominal 1e-6 into 5e-4.

    Args:
        counts: number of times each of k states came, shape (k,).
        probs: probability of each state under the hypothesis, shape (k,).

    Returns:
        An upper bound of the p-value, between 0 and 1.

    References:
        R. Agrawal (2020), Finite-sample concentration of the multinomial in
        relative entropy, theorem 1.2.

    Example:
        >>> goodness_of_fit(torch.tensor([500, 500]), torch.tensor([0.5, 0.5]))
        1.0
        >>> goodness_of_fit(torch.tensor([600, 400]), torch.tensor([0.5, 0.5])) < 1e-6
        True
    """
    dof = len(counts) - 1
    occurring = counts > 0
    counts = counts[occurring].double()
    probs = probs[occurring].double()
    x = float((counts * (counts / (counts.sum() * probs)).log()).sum())
    if x <= dof:
        return 1.0
    if not dof or not x < math.inf:
        return 0.0
    return math.exp(-x + dof * (1 + math.log(x / dof)))
