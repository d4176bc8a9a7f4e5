"""Square lattices, and the Ising model on them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.energy.boltzmann_machine import BoltzmannMachine
from pyro_gen.distributions.units import SpinUnits


def lattice_edges(rows: int, columns: int, periodic: bool = True) -> Tensor:
    """Nearest neighbours on a square lattice whose sites are numbered row by row.

    Args:
        rows: number of rows.
        columns: number of columns.
        periodic: whether the last row and column are neighbours of the first.

    Returns:
        Pairs of sites, shape (m, 2): first the edges to the right, then those
        downwards.

    Raises:
        ValueError: a side is below 1, or below 3 on a periodic lattice, where
            two sites would be neighbours twice.

    Example:
        >>> lattice_edges(2, 2, periodic=False).tolist()
        [[0, 1], [2, 3], [0, 2], [1, 3]]
    """
    rows = whole_number("rows", rows)
    columns = whole_number("columns", columns)
    if min(rows, columns) < (3 if periodic else 1):
        if periodic:
            least = "3 on a periodic lattice, where smaller ones have double edges"
        else:
            least = "1"
        raise ValueError(
            f"`rows` and `columns` must be at least {least}, got {rows} and {columns}"
        )
    sites = torch.arange(rows * columns).view(rows, columns)
    right = torch.stack([sites, sites.roll(-1, 1)], -1)
    down = torch.stack([sites, sites.roll(-1, 0)], -1)
    if not periodic:
        right = right[:, :-1]
        down = down[:-1]
    return torch.cat([right.reshape(-1, 2), down.reshape(-1, 2)])


def ising_lattice(
    rows: int,
    columns: int,
    coupling: float | Tensor = 1.0,
    field: float | Tensor = 0.0,
    periodic: bool = True,
    **settings: Any,
) -> BoltzmannMachine:
    r"""The Ising model on a square lattice, its sites numbered row by row.

    .. math:: p(s) \propto \exp\Bigl(K \sum_{\langle i j \rangle} s_i s_j + H \sum_i s_i\Bigr),
        \quad s_i = \pm 1

    Args:
        rows: number of rows.
        columns: number of columns.
        coupling: K, the coupling over the temperature; a tensor gives a batch
            of lattices.
        field: H, the magnetic field over the temperature; a tensor gives a
            batch.
        periodic: whether the last row and column are neighbours of the first.
        **settings: the other arguments of :class:`BoltzmannMachine`.

    Returns:
        A machine of spins with one parameter for each edge and each site.

    Raises:
        ValueError: a side is below 1, or below 3 on a periodic lattice.

    Example:
        >>> ising_lattice(3, 4, coupling=0.44).coupling.shape
        torch.Size([24])
    """
    edges = lattice_edges(rows, columns, periodic)
    pair = torch.as_tensor(coupling)
    site = torch.as_tensor(field)
    dtype = torch.result_type(pair, site)
    if not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    values = pair.to(dtype).unsqueeze(-1).expand(*pair.shape, len(edges))
    bias = site.to(dtype).unsqueeze(-1).expand(*site.shape, rows * columns)
    return BoltzmannMachine.from_edges(edges, values, bias, units=SpinUnits(), **settings)


__all__ = ["ising_lattice", "lattice_edges"]
