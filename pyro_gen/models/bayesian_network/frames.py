"""Rows of a network as data frames of pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from pyro_gen._optional import require
from pyro_gen.distributions.bayesian_network.messages import some


def to_frame(
    nodes: Sequence[str],
    states: Mapping[str, Sequence[str]],
    rows: Tensor | Mapping[str, Tensor],
    index: Any,
) -> Any:
    """A data frame with a column for each node that has values.

    Args:
        nodes: names of all nodes.
        states: names of the states of the discrete ones.
        rows: (rows, nodes), or by node (rows,).
        index: row labels; None numbers them.

    Raises:
        ImportError: pandas is not installed.
        ValueError: ``rows`` have another shape, or name a node that is unknown.
    """
    pandas = require("pandas", "BayesianNetwork.to_frame", "arviz")
    if isinstance(rows, Tensor):
        if rows.dim() != 2 or rows.shape[1] != len(nodes):
            raise ValueError(
                f"`rows` must have shape (rows, {len(nodes)}), got {tuple(rows.shape)}"
            )
        rows = dict(zip(nodes, rows.unbind(-1), strict=True))
    if unknown := [node for node in rows if node not in nodes]:
        raise ValueError(f"`rows` must name nodes among {some(nodes)}, got {unknown[0]!r}")
    columns = {}
    for node in nodes:
        if node not in rows:
            continue
        values = rows[node].detach().cpu().numpy()
        if node in states:
            values = pandas.Categorical.from_codes(values, list(states[node]))
        columns[node] = values
    return pandas.DataFrame(columns, index=index)


__all__ = ["to_frame"]
