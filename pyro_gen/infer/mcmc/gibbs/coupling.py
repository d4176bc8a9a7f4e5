"""Couplings of a site: its factors, and the plates along which its elements are independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pyro
import torch
from pyro.ops.provenance import get_provenance, track_provenance
from torch import Tensor

from pyro_gen.infer.mcmc.gibbs.joint import (
    CHAINS,
    Joint,
    Site,
    Values,
    log_prob,
    plates,
    sample_sites,
)

SINGLES = 4
"""Number of elements of a plate that the probes change one at a time."""


class Coupling(NamedTuple):
    """Scope of a change of a site.

    ``factors`` are the sites whose log probability depends on it, itself among them;
    ``free`` are the dimensions (negative) of plates along which its elements are
    independent given everything else; ``reasons`` says for each other plate what
    couples its elements.
    """

    factors: frozenset[str]
    free: tuple[int, ...]
    reasons: dict[str, str]

    def merge(self, other: Coupling) -> Coupling:
        """Union of the results of two checks."""
        free = tuple(dim for dim in self.free if dim in other.free)
        factors = self.factors | other.factors
        return Coupling(factors, free, self.reasons | other.reasons)


def coupling(
    joint: Joint, values: Values, name: str, redraw: Callable[[Tensor], Tensor]
) -> Coupling:
    r"""Find the Markov blanket of a site and the plates that split it.

    There are two checks. The *provenance* of values, tracked through the run, shows
    which factors use the site; a factor that uses it outside of one of its plates
    couples the elements of that plate. Then *probes*: the elements whose index along
    the plate has a certain binary digit are changed, and nothing may change at the
    others. Any two elements differ in some digit, so :math:`2 \lceil \log_2 n \rceil`
    runs see every pair of elements that is coupled in spite of the plate, as by
    ``z.roll(1)`` or a sum inside of it. A second round, elsewhere, changes random parts
    of these and single elements.

    Args:
        joint: the model.
        values: of all latent sites.
        name: the site.
        redraw: maps its value to another state of its support, in every cell.

    Returns:
        Factors, free dimensions and reasons.

    Raises:
        ValueError: many chains at once influence each other.
    """
    sites = sample_sites(joint.trace(values))
    site_plates = plates(sites[name])
    factors = users(joint, values).get(name, set()) | {name}
    reasons: dict[str, str] = {}
    batch = len(sites[name]["fn"].batch_shape)
    for factor, plate in _probes(joint, values, name, site_plates, batch, redraw):
        factors.add(factor)
        if plate is not None:
            why = f"`{factor}` mixes the elements of `{name}` inside of the plate"
            reasons.setdefault(plate, why)
    in_order = [factor for factor in sites if factor in factors]
    for plate in site_plates:
        outside = [f for f in in_order if plate not in plates(sites[f])]
        if outside:
            reasons[plate] = f"`{outside[0]}` uses `{name}` outside of the plate"
    if CHAINS in reasons:
        raise ValueError(
            "`model` must treat chains as independent for `num_chains`, "
            f"but {reasons[CHAINS]}: "
            "index with `...` or pyro.ops.indexing.Vindex, "
            "sum over dim=-1 instead of all, or leave `num_chains` out"
        )
    free = [frame.dim for plate, frame in site_plates.items() if plate not in reasons]
    return Coupling(frozenset(factors), tuple(sorted(free)), reasons)


# Compiled code raises these, since it wants plain tensors.
UNTRACKED = (TypeError, RuntimeError, NotImplementedError, AssertionError)


def _tracked_sites(joint: Joint, values: Values) -> dict[str, Site]:
    """Sites of a run in which every value carries its name."""
    tracked = {k: track_provenance(value, frozenset({k})) for k, value in values.items()}
    return sample_sites(joint.trace(tracked))


def users(joint: Joint, values: Values) -> dict[str, set[str]]:
    """Factors that use each latent site, by provenance; all later ones if it is not tracked.

    Args:
        joint: the model.
        values: of all latent sites.

    Returns:
        Names of factors by site.
    """
    users_of: dict[str, set[str]] = {name: set() for name in values}
    uses = {}
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            for name, site in _tracked_sites(joint, values).items():
                uses[name] = get_provenance(log_prob(site, name in values))
    except UNTRACKED:
        order = list(sample_sites(joint.trace(values)))
        return {name: set(order[order.index(name) :]) for name in values}
    for factor, origins in uses.items():
        for name in origins:
            users_of[name].add(factor)
    return users_of


def moving_supports(joint: Joint, values: Values) -> dict[str, set[str]] | None:
    """For every latent site the other sites that the bounds of its support depend on.

    Args:
        joint: the model.
        values: of all latent sites.

    Returns:
        Names of sites by site, those without such bounds left out; None if provenance
        cannot be tracked.
    """
    origins = {}
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            sites = _tracked_sites(joint, values)
    except UNTRACKED:
        return None
    for name, site in sites.items():
        if name in values and (names := get_provenance(list(_bounds(site["fn"])))):
            origins[name] = set(names)
    return origins


def _bounds(distribution: object) -> Iterator[Tensor]:
    """The tensors in a support, including nested ones."""
    pending = [getattr(distribution, "support", None)]
    while pending:
        part = pending.pop()
        for inner in getattr(part, "__dict__", {}).values():
            if isinstance(inner, Tensor):
                yield inner
            elif isinstance(inner, torch.distributions.constraints.Constraint):
                pending.append(inner)


def _probes(
    joint: Joint,
    values: Values,
    name: str,
    site_plates: Mapping[str, Any],
    batch: int,
    redraw: Callable[[Tensor], Tensor],
) -> Iterator[tuple[str, str | None]]:
    """Yields factors that follow changes of the site, and the plate that they cross, if any."""
    event = values[name].dim() - batch
    for thinned, base in enumerate((values[name], redraw(values[name]))):
        other = redraw(base)
        before = joint.factors({**values, name: base})
        after = joint.factors({**values, name: other})
        yield from ((factor, None) for factor in _changed(before, after))
        for plate, frame in site_plates.items():
            size = base.shape[frame.dim - event]
            for subset in _subsets(size, bool(thinned)):
                mask = subset.to(base.device).view(-1, *[1] * (-frame.dim - 1))
                cells = mask.view(mask.shape + (1,) * event)
                probe = torch.where(cells, other, base)
                after = joint.factors({**values, name: probe})
                for factor, changed in _changed(before, after).items():
                    is_deep = changed.dim() >= -frame.dim
                    has_plate = is_deep and changed.shape[frame.dim] == size
                    crosses = not has_plate or (changed & ~mask).any()
                    yield factor, plate if crosses else None


def _changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mask of log probabilities that differ by more than rounding, by factor that differs."""
    changed = {}
    for name, old in before.items():
        rounding = 4 * torch.finfo(old.dtype).eps
        near = torch.isclose(after[name], old, rtol=rounding, atol=0, equal_nan=True)
        if not near.all():
            changed[name] = ~near
    return changed


def _subsets(size: int, thinned: bool) -> Iterator[Tensor]:
    """Masks of the indices that have a binary digit set, and of those that have not.

    Thinned masks hold about half of these. They, and a few single indices, see what
    cancels in whole halves, as in a parity.
    """
    index = torch.arange(size)
    for digit in range((size - 1).bit_length()):
        has_digit = (index >> digit & 1).bool()
        for subset in (has_digit, ~has_digit):
            yield subset & (torch.rand(size) < 0.5) if thinned else subset
    if thinned and size > 1:
        yield from (index == i for i in torch.randperm(size)[:SINGLES])


__all__ = ["Coupling", "coupling", "moving_supports", "users"]
