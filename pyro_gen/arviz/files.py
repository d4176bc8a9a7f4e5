"""Groups to compressed NetCDF files that are never half written."""

from __future__ import annotations

import os
from typing import Any

from pyro_gen._files import replacing
from pyro_gen.arviz.groups import makes_trees, require


def to_netcdf(data: Any, path: str | os.PathLike[str]) -> None:
    """Write groups to a compressed NetCDF file that is never half written.

    Every array is deflated; the file is written beside `path` and put in its place in one step.
    `arviz.from_netcdf` reads it.

    Args:
        data: `arviz.InferenceData` or `xarray.DataTree`.
        path: the file, usually with the ending ``.nc``. Missing folders are made.

    Raises:
        ImportError: if ArviZ or h5netcdf is not installed.

    Example:
        >>> import torch
        >>> from pyro_gen.arviz import from_chains
        >>> file = getfixture("tmp_path") / "chains.nc"
        >>> to_netcdf(from_chains({"v": torch.rand(4, 1000, 320).round()}), file)
        >>> file.stat().st_size < 4 * 1000 * 320 / 4  # below two bits a pixel, 32 in memory
        True
    """
    arviz = require("arviz")
    require("h5netcdf")
    options: dict[str, Any] = {"compress": True}
    if makes_trees(arviz):
        options = {"encoding": _deflated(data)}
    with replacing(path) as part:
        data.to_netcdf(str(part), engine="h5netcdf", **options)


def _deflated(tree: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the encodings of a DataTree's numbers; texts cannot be deflated."""
    groups = {node.path: node.dataset.variables for node in tree.subtree if node.dataset.variables}
    return {
        path: {
            name: {"zlib": True} for name, array in arrays.items() if array.dtype.kind in "biuf"
        }
        for path, arrays in groups.items()
    }
