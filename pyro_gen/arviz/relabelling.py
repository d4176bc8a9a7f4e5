"""Components of a posterior in one order in every draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_gen.arviz.groups import container, makes_trees, require
from pyro_gen.infer import permute_draws


def relabel(data: Any, permutations: Tensor | np.ndarray, axes: Mapping[str, int | None]) -> Any:
    """Posterior with the components of some sites put in the order of permutations.

    Chains of a mixture may disagree on which component is the first, and diagnostics
    then see chains that do not agree. The arguments are those of
    :func:`pyro_gen.infer.permute_draws`.

    Args:
        data: `arviz.InferenceData` or `xarray.DataTree` with the group ``posterior``.
        permutations: (chain, draw, components), as
            :func:`pyro_gen.infer.order_components` gives them.
        axes: for each site with components, its dimension of them, such as -1.

    Returns:
        A new object of the same kind; other sites and groups are as they were.

    Raises:
        ValueError: there is no group ``posterior``, ``axes`` names an unknown site, or
            shapes do not fit.

    Example:
        >>> from pyro_gen.arviz import from_chains
        >>> from pyro_gen.infer import order_components
        >>> locs = torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])  # one chain, two draws
        >>> data = relabel(from_chains({"locs": locs}), order_components(locs), {"locs": -1})
        >>> data["posterior"]["locs"].values
        array([[[1., 2.],
                [1., 2.]]], dtype=float32)
    """
    groups = _groups(data)
    if "posterior" not in groups:
        raise ValueError(f"`data` must have the group 'posterior', got {sorted(groups)}")
    posterior = groups["posterior"].copy()
    draws = {str(name): torch.as_tensor(np.array(site)) for name, site in posterior.items()}
    permuted = permute_draws(draws, torch.as_tensor(permutations), axes)
    for name in axes:
        posterior[name] = posterior[name].copy(data=permuted[name].numpy())
    return container({**groups, "posterior": posterior})


def _groups(data: Any) -> dict[str, Any]:
    """Data sets of an `InferenceData` or a `DataTree` by name."""
    if makes_trees(require("arviz")):
        return {name: node.to_dataset() for name, node in data.children.items()}
    return {name: data[name] for name in data.groups()}


__all__ = ["relabel"]
