"""The pointwise log likelihood: its variables, and the reasons of those left out."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_gen.arviz.program import contracted, enumerated_components, ordinal
from pyro_gen.arviz.sites import (
    Site,
    cell_mask,
    data_sites,
    is_scaled,
    plate_names,
    sample_sites,
    vectorised,
)


class Unit(NamedTuple):
    """One variable: its name, data sites, all sites of its sum over states if any, plates."""

    name: str
    data: tuple[str, ...]
    summed: tuple[str, ...]
    plates: tuple[str | None, ...]


def units(
    trace: Trace, drawn_sites: Set[str], enumerated: bool
) -> tuple[list[Unit], dict[str, str]]:
    """Return the variables, and for what has none the reason."""
    data = data_sites(trace, drawn_sites)
    outcomes: dict[str, Unit | str] = {}
    groups = []
    if enumerated:
        groups = enumerated_components(trace)
    for names in groups:
        if shared := [name for name in names if name in data]:
            data = [name for name in data if name not in shared]
            title = _joint_name(shared)
            outcomes[title] = _summed_unit(trace, title, names, shared)
    for name in data:
        outcomes[name] = _plain_unit(trace, name)
    result = [outcome for outcome in outcomes.values() if isinstance(outcome, Unit)]
    reasons = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, str)}
    return result, reasons


def _plain_unit(trace: Trace, name: str) -> Unit | str:
    """The variable of a site, or the reason why it has none."""
    site = trace.nodes[name]
    if is_scaled(site):
        return f"{_scaled_site(name)}, so it is no log density of data"
    mask = cell_mask(site, site["log_prob"].shape)
    if mask is not None and not mask.any():
        return f"all elements of site {name!r} are masked"
    return Unit(name, (name,), (), plate_names(site, site["log_prob"].shape, 0))


def _scaled_site(name: str) -> str:
    return f"site {name!r} is scaled (by `poutine.scale` or a subsampled plate)"


def _summed_unit(
    trace: Trace, title: str, names: Sequence[str], data: Sequence[str]
) -> Unit | str:
    """The variable of data that share an enumerated site, or the reason why it has none."""
    nodes: dict[str, Site] = trace.nodes
    common = frozenset.intersection(*(ordinal(trace, name) for name in names))
    if scaled := [name for name in names if is_scaled(nodes[name])]:
        return _scaled_site(scaled[0])
    if not common and (len(data) > 1 or any(ordinal(trace, name) for name in data)):
        states = [name for name in names if "_enumerate_dim" in nodes[name]["infer"]]
        return (
            f"its data share the enumerated site {states[0]!r} across all plates, "
            f"so given the draws they are one joint observation; "
            f"have the kernel draw that site, or put the independent rows into a plate"
        )
    frames = {trace.plate_to_symbol[frame.name]: frame for frame in vectorised(nodes[data[0]])}
    plates = sorted((frames[symbol] for symbol in common), key=lambda frame: frame.dim)
    unit = Unit(title, tuple(data), tuple(names), tuple(frame.name for frame in plates))
    mask = unit_mask(trace, unit)
    if mask is not None and not mask.any():
        return f"all elements of site {title!r} are masked"
    return unit


def _joint_name(data: Sequence[str]) -> str:
    if len(data) <= 3:
        return "+".join(data)
    return f"{data[0]}+...+{data[-1]}"


def pointwise_log_likelihood(trace: Trace, unit: Unit) -> Tensor:
    """The log probability of each datum given the draw, enumerated latents summed out.

    It is log p(data | rest) = log sum_z p(data, z, rest) - log sum_z p(z, rest): the second term
    is 0 where the latents are normalised, and takes out what is no data, as factors, latents below
    z in the draw, and masked states.
    """
    if not unit.summed:
        result: Tensor = trace.nodes[unit.name]["log_prob"]
        return result
    common = _plates(trace, unit)
    latents = [name for name in unit.summed if name not in unit.data]
    joint = contracted(trace, unit.summed, common)
    if _sums_to_one(trace, latents):
        return joint
    return joint - contracted(trace, latents, common)


def _plates(trace: Trace, unit: Unit) -> frozenset[str]:
    return frozenset(trace.plate_to_symbol[name] for name in unit.plates if name is not None)


def _sums_to_one(trace: Trace, names: Sequence[str]) -> bool:
    """True if all sites are enumerated latents without masks, so that their sum is 1."""
    sites: list[Site] = [trace.nodes[name] for name in names]
    return all(
        "_enumerate_dim" in site["infer"] and cell_mask(site, site["log_prob"].shape) is None
        for site in sites
    )


def unit_mask(trace: Trace, unit: Unit) -> Tensor | None:
    """Mask of the data that count, None where all do; one cell that counts is enough."""
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
    # Dimensions to the left of the plates are enumerated; gaps between the plates have size 1.
    dims = {frame.dim + len(shape): frame.name for frame in vectorised(site)}
    outside = [dim for dim in range(len(shape)) if dim not in dims]
    summed_dims = [dim for dim, name in dims.items() if name not in unit.plates]
    kept_dims = [dim for dim, name in dims.items() if name in unit.plates]
    hidden = len(outside) + len(summed_dims)
    mask = mask.permute(*outside, *summed_dims, *kept_dims)
    if hidden == 0:
        return mask
    return mask.flatten(0, hidden - 1).any(0)


def prior_sites(trace: Trace, drawn_sites: Set[str], enumerated: bool) -> list[str]:
    """The drawn sites whose log density does not depend on a summed latent."""
    inside: set[str] = set()
    if enumerated:
        inside = inside.union(*enumerated_components(trace))
    return [
        name
        for name, site in sample_sites(trace)
        if name in drawn_sites - inside and site["mask"] is not False and not is_scaled(site)
    ]
