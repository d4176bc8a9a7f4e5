"""Draws of chains, as tensors, to ArviZ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.arviz.groups import (
    CHAINS,
    Coords,
    Labels,
    Variable,
    array,
    container,
    dataset,
    labels_of,
    netcdf_attributes,
    require,
    warn,
)

Sites = Mapping[str, np.ndarray]
Dims = Mapping[str, Sequence[str]]


def from_chains(
    draws: Mapping[str, Tensor | np.ndarray],
    *,
    coords: Coords | None = None,
    dims: Dims | None = None,
    sample_stats: Mapping[str, Tensor | np.ndarray] | None = None,
    thin: int = 1,
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    """Hand draws of many chains to ArviZ.

    The draws become the group ``posterior``, also where they come from a model that was not
    conditioned on anything: it is the group that `arviz.ess`, `arviz.rhat` and `arviz.summary`
    read by default. `sample_stats` becomes the group of this name.

    Draws of zeros and ones are kept as int8, a quarter or less of their size and with the
    arithmetic of signed numbers; half precision, which NetCDF has not, becomes float32. Everything
    else keeps its type and its values.

    Args:
        draws: for each site, draws of shape (chain, draw, ...), on any device. `pyro.infer.MCMC`
            with `BlockGibbs` returns (draw, chain, ...): transpose these two first.
        coords: for each named dimension its labels, or just its size.
        dims: for each site the names of its dimensions after chain and draw; ``<site>_dim_<i>`` by
            default. A site with fewer dimensions than names is unfolded into the sizes that
            `coords` gives: with ``dims={"v": ["row", "column"]}`` and ``coords={"row": 20,
            "column": 16}`` draws of 320 pixels become images.
        sample_stats: quantities of the sampler, shaped as `draws`.
        thin: keep every so many-th draw, from the first on; the coordinate ``draw`` keeps its
            original numbers.
        attrs: attributes of the groups, such as the seed.

    Returns:
        `arviz.InferenceData` with ArviZ 0.2x, `xarray.DataTree` with ArviZ 1.x.

    Raises:
        ImportError: if ArviZ is not installed.
        ValueError: if sites differ in chains or draws, a site has fewer than two dimensions,
            `dims` or `coords` name what is not there, or sizes do not fit.

    References:
        R. Kumar, C. Carroll, A. Hartikainen, O. Martin, ArviZ, a unified library for exploratory
        analysis of Bayesian models in Python, Journal of Open Source Software 4(33), 2019; and its
        InferenceData schema.

    Example:
        >>> import torch
        >>> chains = {"v": torch.rand(4, 100, 6).round(), "free_energy": torch.randn(4, 100)}
        >>> sizes = {"row": 2, "column": 3}
        >>> data = from_chains(chains, dims={"v": list(sizes)}, coords=sizes, thin=10)
        >>> {name: size for name, size in data["posterior"].sizes.items()}
        {'chain': 4, 'draw': 10, 'row': 2, 'column': 3}
        >>> data["posterior"]["v"].dtype
        dtype('int8')
    """
    require("arviz")
    thin = whole_number("thin", thin)
    posterior = _arrays("draws", draws)
    stats = _arrays("sample_stats", sample_stats or {})
    if not posterior:
        raise ValueError("`draws` must have at least one site, got none")
    _check_chains([*posterior.items(), *stats.items()])
    labels = {name: labels_of(name, coord_values) for name, coord_values in (coords or {}).items()}
    _check_names({*posterior, *stats}, dims or {}, labels)
    groups = {"posterior": {name: _compact(values) for name, values in posterior.items()}}
    if stats:
        groups["sample_stats"] = stats
    written = netcdf_attributes(attrs)
    datasets = {
        name: _dataset(sites, dims or {}, labels, thin, written) for name, sites in groups.items()
    }
    return container(datasets)


def _arrays(argument: str, sites: Mapping[str, Tensor | np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays in types that NetCDF has; raise where one has no chains."""
    arrays = {name: array(draws) for name, draws in sites.items()}
    for name, values in arrays.items():
        if values.ndim < 2 or 0 in values.shape:
            raise ValueError(
                f"`{argument}` {name!r} must have shape (chain, draw, ...), none empty, "
                f"got {values.shape}"
            )
    return arrays


def _check_chains(sites: Sequence[tuple[str, np.ndarray]]) -> None:
    """Raise if two sites differ in chains or draws; warn where the two look exchanged."""
    first = sites[0][0]
    shape = sites[0][1].shape[:2]
    for name, values in sites[1:]:
        if values.shape[:2] != shape:
            raise ValueError(
                f"all sites must have the same number of chains and draws, "
                f"got {shape} for {first!r} and {values.shape[:2]} for {name!r}"
            )
    if shape[0] > shape[1]:
        warn(f"more chains ({shape[0]}) than draws ({shape[1]}): are the two exchanged?")


def _check_names(sites: Set[str], dims: Dims, coords: Labels) -> None:
    """Raise if `dims` or `coords` name what is not there, or one name stands for two things."""
    if unknown := [name for name in dims if name not in sites]:
        raise ValueError(f"`dims` must name sites among {sorted(sites)}, got unknown {unknown}")
    for site, names in dims.items():
        if taken := [
            name for name in names if name in (*CHAINS, *sites) or list(names).count(name) > 1
        ]:
            raise ValueError(
                f"`dims` of {site!r} must differ from each other, chain, draw and the sites, "
                f"got {taken}"
            )
    used = {name for names in dims.values() for name in names}
    if unused := [name for name in coords if name not in used]:
        raise ValueError(
            f"`coords` must belong to dimensions that `dims` names, {sorted(used)}, "
            f"got unknown {unused}"
        )


def _compact(values: np.ndarray) -> np.ndarray:
    """Return zeros and ones as int8: ArviZ 1.x cannot summarise bool; uint8 has no sign."""
    binary = values.dtype.kind in "biuf" and ((values == 0) | (values == 1)).all()
    if binary:
        return values.astype(np.int8)
    return values


def _dataset(sites: Sites, dims: Dims, coords: Labels, thin: int, attrs: Mapping[str, Any]) -> Any:
    variables = {
        name: _unfold(name, values[:, ::thin], dims.get(name), coords)
        for name, values in sites.items()
    }
    draws = next(iter(sites.values())).shape[1]
    return dataset(variables, {**coords, "draw": np.arange(0, draws, thin)}, attrs)


def _unfold(
    site: str, values: np.ndarray, names: Sequence[str] | None, coords: Labels
) -> Variable:
    """Return a site in the shape that the names of its dimensions ask for."""
    event = values.shape[2:]
    if names is None:
        names = [f"{site}_dim_{i}" for i in range(len(event))]
    sizes = event
    if len(names) > len(event):
        sizes = _sizes_from_coords(site, event, names, coords)
    if len(names) != len(sizes) or math.prod(sizes) != math.prod(event):
        raise ValueError(
            f"`dims` {list(names)} with sizes {sizes} must fit the shape of {site!r}, got {event}"
        )
    for name, size in zip(names, sizes, strict=True):
        if name in coords and len(coords[name]) != size:
            raise ValueError(
                f"`coords` {name!r} must have {size} labels to fit {site!r}, "
                f"got {len(coords[name])}"
            )
    return Variable((*CHAINS, *names), values.reshape(*values.shape[:2], *sizes))


def _sizes_from_coords(
    site: str, event: tuple[int, ...], names: Sequence[str], coords: Labels
) -> tuple[int, ...]:
    """Return the sizes that `coords` gives to the dimensions of a site to unfold."""
    if unsized := [name for name in names if name not in coords]:
        raise ValueError(
            f"`coords` must give the size of {unsized} to unfold {site!r} of shape {event}"
        )
    return tuple(len(coords[name]) for name in names)
