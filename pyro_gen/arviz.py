"""The bridge to ArviZ: chains as tensors become `InferenceData` (ArviZ 0.2x) or a `DataTree` (ArviZ 1.x)."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence, Set
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_gen._files import replacing

__all__ = ["from_chains", "to_netcdf"]

CHAINS = ("chain", "draw")
Sites = Mapping[str, np.ndarray]
Dims = Mapping[str, Sequence[str]]
Coords = Mapping[str, np.ndarray]


def from_chains(
    draws: Mapping[str, Tensor | np.ndarray],
    *,
    coords: Mapping[str, int | Sequence[Any] | np.ndarray] | None = None,
    dims: Dims | None = None,
    sample_stats: Mapping[str, Tensor | np.ndarray] | None = None,
    thin: int = 1,
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    """Hand draws of many chains to ArviZ.

    The draws become the group ``posterior``, also where they come from a model that was not conditioned on anything: it
    is the group that `arviz.ess`, `arviz.rhat` and `arviz.summary` read by default. `sample_stats` becomes the group of
    this name.

    Draws of zeros and ones are kept as int8, a quarter or less of their size and with the arithmetic of signed numbers;
    half precision, which NetCDF has not, becomes float32. Everything else keeps its type and its values.

    Args:
        draws: for each site, draws of shape (chain, draw, ...), on any device. `pyro.infer.MCMC` with `BlockGibbs`
            returns (draw, chain, ...): transpose these two first.
        coords: for each named dimension its labels, or just its size.
        dims: for each site the names of its dimensions after chain and draw; ``<site>_dim_<i>`` by default. A site with
            fewer dimensions than names is unfolded into the sizes that `coords` gives: with ``dims={"v": ["row",
            "column"]}`` and ``coords={"row": 20, "column": 16}`` draws of 320 pixels become images.
        sample_stats: quantities of the sampler, shaped as `draws`.
        thin: keep every so many-th draw, from the first on; the coordinate ``draw`` keeps its original numbers.
        attrs: attributes of the groups, such as the seed.

    Returns:
        `arviz.InferenceData` with ArviZ 0.2x, `xarray.DataTree` with ArviZ 1.x.

    Raises:
        ImportError: if ArviZ is not installed.
        ValueError: if sites differ in chains or draws, a site has fewer than two dimensions, `dims` or `coords` name
            what is not there, or sizes do not fit.

    References:
        R. Kumar, C. Carroll, A. Hartikainen, O. Martin, ArviZ, a unified library for exploratory analysis of Bayesian
        models in Python, Journal of Open Source Software 4(33), 2019; and its InferenceData schema.

    Example:
        >>> chains = {"v": torch.rand(4, 100, 6).round(), "free_energy": torch.randn(4, 100)}
        >>> data = from_chains(chains, dims={"v": ["row", "column"]}, coords={"row": 2, "column": 3}, thin=10)
        >>> {name: size for name, size in data["posterior"].sizes.items()}
        {'chain': 4, 'draw': 10, 'row': 2, 'column': 3}
        >>> data["posterior"]["v"].dtype
        dtype('int8')
    """
    arviz = _require("arviz")
    if thin < 1:
        raise ValueError(f"`thin` must be at least 1, got {thin}")
    posterior, stats = _arrays("draws", draws), _arrays("sample_stats", sample_stats or {})
    if not posterior:
        raise ValueError("`draws` must have at least one site, got none")
    _check_chains([*posterior.items(), *stats.items()])
    labels = {name: _labels(given) for name, given in (coords or {}).items()}
    _check_names({*posterior, *stats}, dims or {}, labels)
    compact = {name: _compact(array) for name, array in posterior.items()}
    groups = {"posterior": compact} | ({"sample_stats": stats} if stats else {})
    datasets = {name: _dataset(sites, dims or {}, labels, thin, attrs or {}) for name, sites in groups.items()}
    return _require("xarray").DataTree.from_dict(datasets) if _makes_trees(arviz) else arviz.InferenceData(**datasets)


def to_netcdf(data: Any, path: str | os.PathLike[str]) -> None:
    """Write what `from_chains` made to a compressed NetCDF file that is never half written.

    Every array is deflated; the file is written beside `path` and put in its place in one step. `arviz.from_netcdf`
    reads it.

    Args:
        data: `arviz.InferenceData` or `xarray.DataTree`.
        path: the file, usually with the ending ``.nc``. Missing folders are made.

    Raises:
        ImportError: if ArviZ or h5netcdf is not installed.

    Example:
        >>> file = getfixture("tmp_path") / "chains.nc"
        >>> to_netcdf(from_chains({"v": torch.rand(4, 1000, 320).round()}), file)
        >>> file.stat().st_size < 4 * 1000 * 320 / 4  # below two bits a pixel, 32 in memory
        True
    """
    arviz, _ = _require("arviz"), _require("h5netcdf")
    with replacing(path) as part:
        options = {"encoding": _deflated(data)} if _makes_trees(arviz) else {"compress": True}
        data.to_netcdf(str(part), engine="h5netcdf", **options)


def _require(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(f"pyro_gen.arviz needs {name}: pip install pyro-gen[arviz] ({error})") from error


def _makes_trees(arviz: Any) -> bool:
    """Whether this is ArviZ 1.x; that has an `InferenceData` too, another name for DataTree which warns."""
    return int(arviz.__version__.split(".")[0]) >= 1


def _deflated(tree: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the encodings of a DataTree's numbers, by group and array; texts cannot be deflated."""
    groups = {node.path: node.dataset.variables for node in tree.subtree if node.dataset.variables}
    return {
        path: {name: {"zlib": True} for name, array in arrays.items() if array.dtype.kind in "biuf"}
        for path, arrays in groups.items()
    }


def _arrays(argument: str, sites: Mapping[str, Tensor | np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays in the memory of the CPU, in types that NetCDF has, after a look whether they have chains."""
    arrays = {name: _array(given) for name, given in sites.items()}
    for name, array in arrays.items():
        if array.ndim < 2 or 0 in array.shape:
            raise ValueError(f"`{argument}` {name!r} must have shape (chain, draw, ...), none empty, got {array.shape}")
    return arrays


def _array(given: Tensor | np.ndarray) -> np.ndarray:
    if isinstance(given, Tensor):
        half = given.dtype in (torch.float16, torch.bfloat16)
        given = given.detach().cpu().to(torch.float32 if half else given.dtype).resolve_neg().numpy()
    array = np.asarray(given)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _check_chains(sites: Sequence[tuple[str, np.ndarray]]) -> None:
    """Raise if two sites differ in chains or draws; warn where the two look exchanged."""
    first, shape = sites[0][0], sites[0][1].shape[:2]
    for name, array in sites[1:]:
        if array.shape[:2] != shape:
            raise ValueError(
                f"all sites must have the same number of chains and draws, "
                f"got {shape} for {first!r} and {array.shape[:2]} for {name!r}"
            )
    if shape[0] > shape[1]:
        warnings.warn(f"more chains ({shape[0]}) than draws ({shape[1]}): are the two exchanged?", stacklevel=3)


def _check_names(sites: Set[str], dims: Dims, coords: Coords) -> None:
    """Raise if `dims` or `coords` name what is not there, or one name stands for two things."""
    if unknown := [name for name in dims if name not in sites]:
        raise ValueError(f"`dims` must name sites among {sorted(sites)}, got unknown {unknown}")
    for site, names in dims.items():
        if taken := [name for name in names if name in (*CHAINS, *sites) or list(names).count(name) > 1]:
            raise ValueError(f"`dims` of {site!r} must differ from each other, chain, draw and the sites, got {taken}")
    used = {name for names in dims.values() for name in names}
    if unused := [name for name in coords if name not in used]:
        raise ValueError(f"`coords` must belong to dimensions that `dims` names, {sorted(used)}, got unknown {unused}")


def _labels(given: int | Sequence[Any] | np.ndarray) -> np.ndarray:
    return np.arange(given) if isinstance(given, (int, np.integer)) else np.asarray(given)


def _compact(array: np.ndarray) -> np.ndarray:
    """Return zeros and ones as int8: not bool, which ArviZ 1.x cannot summarise, nor uint8, where 0 - 1 is 255."""
    binary = array.dtype.kind in "biuf" and ((array == 0) | (array == 1)).all()
    return array.astype(np.int8) if binary else array


def _dataset(sites: Sites, dims: Dims, coords: Coords, thin: int, attrs: Mapping[str, Any]) -> Any:
    variables = {name: _unfold(name, array[:, ::thin], dims.get(name), coords) for name, array in sites.items()}
    chains, draws = next(iter(sites.values())).shape[:2]
    labels = {"chain": np.arange(chains), "draw": np.arange(0, draws, thin)}
    for names, array in variables.values():
        for name, size in zip(names[2:], array.shape[2:], strict=True):
            labels[name] = coords.get(name, np.arange(size))
    maker = {"inference_library": "pyro-ppl", "inference_library_version": version("pyro-ppl")}
    about = {"created_at": datetime.now(UTC).isoformat(), **maker, **attrs}
    return _require("xarray").Dataset(variables, labels, about)


def _unfold(
    site: str, array: np.ndarray, names: Sequence[str] | None, coords: Coords
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of all dimensions of a site, and the site in the shape that they ask for."""
    event = array.shape[2:]
    names = [f"{site}_dim_{i}" for i in range(len(event))] if names is None else names
    sizes = _sizes(site, event, names, coords) if len(names) > len(event) else event
    if len(names) != len(sizes) or math.prod(sizes) != math.prod(event):
        raise ValueError(f"`dims` {list(names)} with sizes {sizes} must fit the shape of {site!r}, got {event}")
    for name, size in zip(names, sizes, strict=True):
        if name in coords and len(coords[name]) != size:
            raise ValueError(f"`coords` {name!r} must have {size} labels to fit {site!r}, got {len(coords[name])}")
    return (*CHAINS, *names), array.reshape(*array.shape[:2], *sizes)


def _sizes(site: str, event: tuple[int, ...], names: Sequence[str], coords: Coords) -> tuple[int, ...]:
    """Return the sizes that `coords` gives to the dimensions of a site which has to be unfolded."""
    if unsized := [name for name in names if name not in coords]:
        raise ValueError(f"`coords` must give the size of {unsized} to unfold {site!r} of shape {event}")
    return tuple(len(coords[name]) for name in names)
