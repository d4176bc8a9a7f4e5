"""Tests of conditional independence on categorical data, with counted degrees of freedom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pyro_gen.infer.structure.table import CategoricalData, CategoricalTable, Counts, States

Statistic = Literal["g2", "chi2"]


class Independence(NamedTuple):
    """Result of a test.

    Args:
        statistic: G^2 or X^2.
        degrees_of_freedom: of its chi-squared distribution; 0 where the data
            cannot tell, and then the p-value is 1.
        p_value: chance of a statistic at least as large under independence.
    """

    statistic: float
    degrees_of_freedom: int
    p_value: float


def independence_test(
    data: CategoricalData,
    first: str,
    second: str,
    given: Sequence[str] = (),
    *,
    statistic: Statistic = "g2",
    states: States = None,
) -> Independence:
    r"""Test whether two nodes are independent given others.

    .. math:: G^2 = 2 \sum_{x, y, s} n_{xys} \log \frac{n_{xys}\, n_s}{n_{xs}\, n_{ys}}, \qquad
        X^2 = \sum_{x, y, s} \frac{(n_{xys} - n_{xs} n_{ys} / n_s)^2}{n_{xs} n_{ys} / n_s}

    A stratum s in which only r states of x and c of y occur adds (r - 1)(c - 1)
    degrees of freedom: rows and columns without any count cannot vary, and
    counting them makes sparse tables look independent.

    Args:
        data: complete rows; see :meth:`CategoricalTable.of`.
        first: a node.
        second: another node.
        given: further nodes.
        statistic: ``"g2"``, the likelihood ratio, or ``"chi2"``, Pearson's.
        states: of the nodes, where the data do not show all of them; they
            change no result.

    Returns:
        Statistic, degrees of freedom and p-value.

    Raises:
        ValueError: a node is unknown or named twice, cells are missing, or the
            statistic is unknown.

    References:
        Spirtes, Glymour and Scheines (2000), Causation, prediction, and search,
        section 5.5. Agresti (2002), Categorical data analysis, sections 3.2 and
        9.8.

    Example:
        >>> x, y = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
        >>> data = {"x": x.repeat(20), "y": y.repeat(20)}
        >>> independence_test(data, "x", "y")
        Independence(statistic=0.0, degrees_of_freedom=1, p_value=1.0)
    """
    table = CategoricalTable.of(data, states)
    names = [first, second, *given]
    if len(set(names)) < len(names):
        raise ValueError(f"`first`, `second` and `given` must be different nodes, got {names}")
    x, y, *conditions = map(table.number, names)
    return tested(Counts(table), x, y, conditions, statistic)


def tested(
    counts: Counts, x: int, y: int, conditions: Sequence[int], statistic: Statistic
) -> Independence:
    """The test on nodes by number."""
    if statistic not in ("g2", "chi2"):
        raise ValueError(f"`statistic` must be 'g2' or 'chi2', got {statistic!r}")
    kx = counts.table.arities[x]
    ky = counts.table.arities[y]
    cells, n = counts.tally(*counts.codes([*conditions, x, y]))
    strata, s, n_s = _group_sums(cells // (kx * ky), n)
    rows, row, n_xs = _group_sums(cells // ky, n)
    columns, column, n_ys = _group_sums(cells // (kx * ky) * ky + cells % ky, n)
    num_rows = torch.bincount(torch.searchsorted(strata, rows // kx))
    num_columns = torch.bincount(torch.searchsorted(strata, columns // ky))
    freedom = int(((num_rows - 1) * (num_columns - 1)).sum())
    # The observed counts over the expected ones.
    ratio = n * n_s[s] / (n_xs[row] * n_ys[column])
    total = (n * ratio).sum() - n.sum()
    if statistic == "g2":
        total = 2 * torch.xlogy(n, ratio).sum()
    value = max(float(total), 0.0)  # a difference of rounded sums
    if not freedom:
        return Independence(value, 0, 1.0)
    half = torch.tensor([freedom / 2, value / 2], dtype=torch.float64)
    p_value = float(torch.special.gammaincc(half[0], half[1]))
    return Independence(value, freedom, p_value)


def _group_sums(groups: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The groups that occur, the place of each cell's group, and the sum of each group."""
    used, place = torch.unique(groups, return_inverse=True)
    sums = counts.new_zeros(len(used)).index_add_(0, place, counts)
    return used, place, sums


__all__ = ["Independence", "independence_test"]
