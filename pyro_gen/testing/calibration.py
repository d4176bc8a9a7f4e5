"""Calibration of posteriors by simulation, and joint-distribution tests of transitions.

Both come down to ranks. Where a parameter and the draws it is ranked among have the
same distribution given the data, its rank is uniform; a posterior that is too narrow,
too wide or displaced makes it something else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number

Values = Mapping[str, Tensor]


class Calibration:
    r"""Ranks of true values among draws, and how far their distribution is from uniform.

    With N simulations of L draws each, rank r has probability 1 / (L + 1), and the
    number of ranks up to z a binomial distribution. The statistic of a quantity is the
    smallest two-sided tail probability over all z,

    .. math:: \gamma = \min_z 2 \min\{P(B_z \le C_z), P(B_z \ge C_z)\}, \qquad
              B_z \sim \mathrm{Binomial}\Big(N, \frac{z + 1}{L + 1}\Big)

    and its p-value the probability of one as small under uniform ranks, by a recursion
    over z: exact for simulations that are independent.

    Args:
        ranks: by quantity, each of shape (simulations,), from 0 to ``num_draws``.
        num_draws: draws L that each value was ranked among.

    Raises:
        ValueError: there are no ranks, or they lie out of range.

    References:
        Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian
        inference algorithms with simulation-based calibration. Säilynoja, Bürkner and
        Vehtari (2022), Graphical test for discrete uniformity and its applications in
        goodness-of-fit evaluation and multiple sample comparison, algorithm 2.

    Example:
        >>> ranks = Calibration({"x": torch.arange(100) % 10}, num_draws=9)
        >>> ranks.passes()
        True
        >>> Calibration({"x": torch.arange(100) % 5}, num_draws=9).passes()
        False
    """

    def __init__(self, ranks: Values, num_draws: int) -> None:
        self.num_draws = whole_number("num_draws", num_draws)
        self.ranks = dict(ranks)
        shapes = {name: tuple(rank.shape) for name, rank in self.ranks.items()}
        if not shapes or any(len(x) != 1 or not x[0] for x in shapes.values()):
            raise ValueError(
                f"`ranks` must have shape (simulations,) for each quantity, got {shapes}"
            )
        if len(set(shapes.values())) > 1:
            raise ValueError("`ranks` must have the same number of simulations for all quantities")
        for name, rank in self.ranks.items():
            if rank.min() < 0 or rank.max() > self.num_draws:
                raise ValueError(
                    f"`ranks` of {name!r} must lie between 0 and {self.num_draws}, "
                    f"got {rank.min().item()} to {rank.max().item()}"
                )

    @property
    def num_simulations(self) -> int:
        """Number of simulations."""
        return len(next(iter(self.ranks.values())))

    def empirical(self, name: str) -> Tensor:
        """Empirical distribution function of a quantity's ranks at 0 ... L, (L + 1,)."""
        return self._cumulated(name).double() / self.num_simulations

    def _cumulated(self, name: str) -> Tensor:
        """Number of ranks up to 0 ... L, (L + 1,)."""
        ranks = self.ranks[name].long()
        return torch.bincount(ranks, minlength=self.num_draws + 1).cumsum(0)

    @cached_property
    def _tails(self) -> Tensor:
        """Two-sided tail probability of each count at each rank but the last, (L, N + 1)."""
        total = self.num_simulations
        counts = torch.arange(total + 1, dtype=torch.float64)
        ranks = torch.arange(1, self.num_draws + 1, dtype=torch.float64)
        share = ranks / (self.num_draws + 1)
        mass = _binomial(counts, counts.new_tensor(total), share[:, None])
        below = mass.cumsum(-1)
        above = mass.flip(-1).cumsum(-1).flip(-1)
        return (2 * torch.minimum(below, above)).clamp(max=1)

    def _inside(self, inside: Tensor) -> float:
        """Probability that uniform ranks have all cumulated counts in a set, (L, N + 1)."""
        total = self.num_simulations
        counts = torch.zeros(1, dtype=torch.int64)
        probs = torch.ones(1, dtype=torch.float64)
        for rank, allowed in enumerate(inside):
            new_counts = allowed.nonzero()[:, 0]
            if len(counts):
                new_counts = new_counts[new_counts >= counts[0]]
            steps = new_counts - counts[:, None]
            ranks_left = self.num_draws + 1 - rank
            share = torch.tensor(1 / ranks_left, dtype=torch.float64)
            mass = _binomial(steps.clamp(min=0), (total - counts)[:, None], share)
            probs = probs @ mass.masked_fill(steps < 0, 0.0)
            counts = new_counts
        return probs.sum().item()

    @cached_property
    def p_values(self) -> dict[str, float]:
        """Probability, for each quantity, of ranks as uneven as these if the draws were right."""
        result = {}
        for name in self.ranks:
            counts = self._cumulated(name)[:-1]
            statistic = self._tails.gather(1, counts[:, None]).min()
            inside = self._inside(self._tails > statistic * (1 + 1e-9))
            result[name] = max(0.0, 1 - inside)
        return result

    def band(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Simultaneous band of the empirical distribution function of uniform ranks.

        Args:
            level: probability that the whole function lies inside.

        Returns:
            Lower and upper ends at the ranks 0 ... L, each of shape (L + 1,).
        """
        if not 0 < level < 1:
            raise ValueError(f"`level` must lie between 0 and 1, got {level}")
        levels = self._tails.unique()
        low = 0
        high = len(levels) - 1
        # The largest tail probability whose band is wide enough.
        while low < high:
            middle = (low + high + 1) // 2
            if self._inside(self._tails >= levels[middle]) >= level:
                low = middle
            else:
                high = middle - 1
        outside = self._tails < levels[low]
        total = self.num_simulations
        counts = torch.arange(total + 1, dtype=torch.float64).expand_as(outside)
        lower = counts.masked_fill(outside, torch.inf).amin(-1) / total
        upper = counts.masked_fill(outside, -torch.inf).amax(-1) / total
        one = lower.new_ones(1)
        return torch.cat([lower, one]), torch.cat([upper, one])

    def passes(self, false_alarms: float = 1e-3) -> bool:
        """True unless a quantity's ranks are uneven, at a rate of false alarms of all together.

        Args:
            false_alarms: probability of False where all draws are right (Bonferroni's
                bound over the quantities).
        """
        return min(self.p_values.values()) > false_alarms / len(self.p_values)

    def __str__(self) -> str:
        """A line for each quantity with its p-value."""
        total = self.num_simulations
        lines = [f"{total} simulations, ranks among {self.num_draws} draws"]
        lines += [f"{name}: p = {p:.4f}" for name, p in self.p_values.items()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Number of simulations and draws, and the smallest p-value."""
        name = min(self.p_values, key=self.p_values.__getitem__)
        return (
            f"Calibration(num_simulations={self.num_simulations}, "
            f"num_draws={self.num_draws}, "
            f"smallest p-value {self.p_values[name]:.4f} of {name!r})"
        )


def _binomial(count: Tensor, total: Tensor, share: Tensor) -> Tensor:
    """Probability of a count under a binomial distribution, in float64; 0 above the total."""
    count = count.double()
    total = total.double()
    left = total - count
    log_choose = torch.lgamma(total + 1) - torch.lgamma(count + 1)
    log_choose = log_choose - torch.lgamma(left.clamp(min=0) + 1)
    log_mass = log_choose + torch.xlogy(count, share)
    log_mass = log_mass + torch.special.xlog1py(left, -share)
    return log_mass.exp().masked_fill(left < 0, 0.0)


def rank_among(truth: Values, draws: Values) -> dict[str, Tensor]:
    """Ranks of values among draws; ties are broken at random.

    Args:
        truth: by quantity, each of any shape.
        draws: by quantity, each with a dimension of draws before that shape.

    Returns:
        Ranks from 0 to the number of draws, of the shapes of ``truth``.
    """
    result = {}
    for name, value in truth.items():
        smaller = (draws[name] < value).sum(0)
        equal = (draws[name] == value).sum(0)
        result[name] = smaller + (torch.rand(equal.shape) * (equal + 1)).long()
    return result


def simulation_based_calibration(
    simulate: Callable[[], tuple[Values, Any]],
    posterior: Callable[[Any], Values],
    num_simulations: int = 500,
    quantities: Callable[[Values], Values] = dict,
) -> Calibration:
    """Rank true parameters among the draws of the posteriors that their own data give.

    Draws of a posterior should be nearly independent, or the ranks crowd at both ends:
    thin Markov chains.

    Args:
        simulate: draws parameters from the prior, by name, and data given them.
        posterior: draws parameters given data, by name, each with a first dimension of
            draws.
        num_simulations: pairs of parameters and data.
        quantities: functions of parameters (or of draws of them) to be ranked, by name,
            each a number or a vector; the parameters themselves unless given. Those
            that a permutation of labels changes must be put in order.

    Returns:
        The ranks, with ``p_values`` and ``passes``.

    Raises:
        ValueError: ``num_simulations`` is below 1.

    References:
        Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian
        inference algorithms with simulation-based calibration, algorithm 1.

    Example:
        >>> from torch.distributions import Normal
        >>> def simulate():
        ...     mean = Normal(0.0, 1.0).sample()
        ...     return {"mean": mean}, Normal(mean, 1.0).sample()
        >>> def posterior(x):
        ...     return {"mean": Normal(x / 2, 0.5**0.5).sample((9,))}
        >>> _ = torch.manual_seed(0)
        >>> simulation_based_calibration(simulate, posterior, 100).passes()
        True
    """
    rows = []
    num_draws = 0
    for _ in range(whole_number("num_simulations", num_simulations)):
        parameters, data = simulate()
        draws = quantities(posterior(data))
        num_draws = len(next(iter(draws.values())))
        rows.append(rank_among(quantities(parameters), draws))
    return Calibration(_rank_columns(rows), num_draws)


def joint_distribution_test(
    simulate: Callable[[], tuple[Values, Any]],
    transition: Callable[[Values, Any], Values],
    regenerate: Callable[[Values], Any],
    num_simulations: int = 500,
    num_steps: int = 10,
    num_draws: int = 50,
    quantities: Callable[[Values], Values] = dict,
) -> Calibration:
    """Test that a transition leaves the posterior invariant, by chains that redraw their data.

    A chain that starts at parameters from the prior and alternates a transition given
    the data with new data given the parameters has the prior as the distribution of its
    parameters after any number of steps, if and only if the transition leaves the
    posterior invariant. Chains start afresh for each simulation, so that the p-values
    are exact; convergence of the transition is not needed, and not tested.

    Args:
        simulate: draws parameters from the prior, by name, and data given them.
        transition: draws parameters given parameters and data, such as a Gibbs sweep.
        regenerate: draws data given parameters.
        num_simulations: chains.
        num_steps: steps of each chain.
        num_draws: draws of the prior that the last state of a chain is ranked among.
        quantities: functions of parameters to be ranked, by name; the parameters
            themselves unless given.

    Returns:
        The ranks, with ``p_values`` and ``passes``.

    Raises:
        ValueError: a number is below 1.

    References:
        Geweke (2004), Getting it right: joint distribution tests of posterior
        simulators, Journal of the American Statistical Association 99.

    Example:
        >>> from torch.distributions import Normal
        >>> def simulate():
        ...     mean = Normal(0.0, 1.0).sample()
        ...     return {"mean": mean}, Normal(mean, 1.0).sample()
        >>> def transition(parameters, x):
        ...     # the variance is 0.5, not the deviation
        ...     return {"mean": Normal(x / 2, 0.5).sample()}
        >>> _ = torch.manual_seed(0)
        >>> regenerate = lambda parameters: Normal(parameters["mean"], 1.0).sample()
        >>> joint_distribution_test(simulate, transition, regenerate).passes()
        False
    """
    whole_number("num_steps", num_steps)
    whole_number("num_draws", num_draws)
    rows = []
    for _ in range(whole_number("num_simulations", num_simulations)):
        parameters, data = simulate()
        for _ in range(num_steps):
            parameters = transition(parameters, data)
            data = regenerate(parameters)
        prior = [quantities(simulate()[0]) for _ in range(num_draws)]
        draws = {k: torch.stack([row[k] for row in prior]) for k in prior[0]}
        rows.append(rank_among(quantities(parameters), draws))
    return Calibration(_rank_columns(rows), num_draws)


def _rank_columns(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Ranks of each number of each quantity, named by its place where there are several."""
    result = {}
    for name in rows[0]:
        table = torch.stack([row[name].flatten() for row in rows])
        if table.shape[1] == 1:
            result[name] = table[:, 0]
            continue
        for place, column in enumerate(table.unbind(1)):
            result[f"{name}[{place}]"] = column
    return result


__all__ = ["Calibration", "joint_distribution_test", "rank_among", "simulation_based_calibration"]
