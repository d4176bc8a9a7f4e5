"""The pointwise log likelihood: what one variable of the group `log_likelihood` holds, and why another is left out."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_gen.arviz.program import components, contracted, ordinal
from pyro_gen.arviz.sites import Site, cell_mask, data_sites, is_scaled, plate_names, sample_sites, vectorised


class Unit(NamedTuple):
    """One variable: its name, its data sites, all sites of its sum over states (none without a sum), its plates."""

    name: str
    data: tuple[str, ...]
    summed: tuple[str, ...]
    plates: tuple[str | None, ...]


def units(trace: Trace, drawn_sites: Set[str], enumerated: bool) -> tuple[list[Unit], dict[str, str]]:
    """Return the variables, and for what has none the reason."""
    data = data_sites(trace, drawn_sites)
    result: list[Unit] = []
    reasons: dict[str, str] = {}
    for names in components(trace) if enumerated else []:
        if shared := [name for name in names if name in data]:
            data = [name for name in data if name not in shared]
            _enter(_summed_unit(trace, names, shared), result, reasons)
    for name in data:
        _enter(_plain_unit(trace, name), result, reasons)
    return result, reasons


def _enter(outcome: Unit | tuple[str, str], result: list[Unit], reasons: dict[str, str]) -> None:
    if isinstance(outcome, Unit):
        result.append(outcome)
    else:
        reasons[outcome[0]] = outcome[1]


def _plain_unit(trace: Trace, name: str) -> Unit | tuple[str, str]:
    site = trace.nodes[name]
    if is_scaled(site):
        return (
            name,
            f"site {name!r} is scaled (by `poutine.scale` or a subsampled plate), so it is no log density of data",
        )
    mask = cell_mask(site, site["log_prob"].shape)
    if mask is not None and not mask.any():
        return name, f"all elements of site {name!r} are masked"
    return Unit(name, (name,), (), plate_names(site, site["log_prob"].shape, 0))


def _summed_unit(trace: Trace, names: Sequence[str], data: Sequence[str]) -> Unit | tuple[str, str]:
    title = _title(data)
    nodes: dict[str, Site] = trace.nodes
    common = frozenset.intersection(*(ordinal(trace, name) for name in names))
    if scaled := [name for name in names if is_scaled(nodes[name])]:
        return title, f"site {scaled[0]!r} is scaled (by `poutine.scale` or a subsampled plate)"
    if not common and (len(data) > 1 or any(ordinal(trace, name) for name in data)):
        states = [name for name in names if "_enumerate_dim" in nodes[name]["infer"]]
        return title, (
            f"its data share the enumerated site {states[0]!r} across all plates, so given the draws they are one "
            f"joint observation; have the kernel draw that site, or put the independent rows into a plate"
        )
    frames = {trace.plate_to_symbol[frame.name]: frame for frame in vectorised(nodes[data[0]])}
    plates = sorted((frames[symbol] for symbol in common), key=lambda frame: frame.dim)
    unit = Unit(title, tuple(data), tuple(names), tuple(frame.name for frame in plates))
    mask = unit_mask(trace, unit)
    return unit if mask is None or mask.any() else (title, f"all elements of site {title!r} are masked")


def _title(data: Sequence[str]) -> str:
    return "+".join(data) if len(data) <= 3 else f"{data[0]}+...+{data[-1]}"


def log_likelihood(trace: Trace, unit: Unit) -> Tensor:
    """The log probability of each datum given the draw, enumerated latents summed out.

    It is log p(data | rest) = log sum_z p(data, z, rest) - log sum_z p(z, rest): the second term is 0 where the latents
    are normalised, and takes out what is no data, as factors, latents below z in the draw, and masked states.
    """
    if not unit.summed:
        result: Tensor = trace.nodes[unit.name]["log_prob"]
        return result
    common = _plates(trace, unit)
    latents = [name for name in unit.summed if name not in unit.data]
    joint = contracted(trace, unit.summed, common)
    return joint if _normalised(trace, latents) else joint - contracted(trace, latents, common)


def _plates(trace: Trace, unit: Unit) -> frozenset[str]:
    return frozenset(trace.plate_to_symbol[name] for name in unit.plates if name is not None)


def _normalised(trace: Trace, names: Sequence[str]) -> bool:
    """True if all sites are enumerated latents without masks, so that their sum is 1."""
    sites: list[Site] = [trace.nodes[name] for name in names]
    return all("_enumerate_dim" in site["infer"] and cell_mask(site, site["log_prob"].shape) is None for site in sites)


def unit_mask(trace: Trace, unit: Unit) -> Tensor | None:
    """Mask of the data that count, None where all do; a datum of several cells counts if one of them does."""
    masks = [_reduced_mask(trace.nodes[name], unit, bool(unit.summed)) for name in unit.data]
    if all(mask is None for mask in masks):
        return None
    result = torch.zeros(()).bool()
    for mask in masks:
        if mask is None:
            return None
        result = result | mask
    return result


def _reduced_mask(site: Site, unit: Unit, summed: bool) -> Tensor | None:
    shape = site["log_prob"].shape
    mask = cell_mask(site, shape)
    if mask is None or not summed:
        return mask
    names = [frame.name for frame in vectorised(site)]
    # Dimensions to the left of the plates are enumerated; gaps between the plates have size 1.
    dims = {frame.name: frame.dim + len(shape) for frame in vectorised(site)}
    mask = mask.permute(
        [index for index in range(len(shape)) if index not in dims.values()] + [dims[name] for name in names]
    )
    outside = len(shape) - len(names)
    mask = mask.flatten(0, outside - 1).any(0) if outside else mask
    for index in reversed(range(len(names))):
        mask = mask if names[index] in unit.plates else mask.any(index)
    return mask


def prior_sites(trace: Trace, drawn_sites: Set[str], enumerated: bool) -> list[str]:
    """The drawn sites with a log density of their own given the draw: not those that depend on a summed latent."""
    inside = {name for names in components(trace) for name in names} if enumerated else set()
    return [
        name
        for name, site in sample_sites(trace)
        if name in drawn_sites and name not in inside and site["mask"] is not False and not is_scaled(site)
    ]
