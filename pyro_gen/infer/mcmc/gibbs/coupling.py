"""Couplings of a site: the factors that it enters, and the plates along which its
elements are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pyro
import torch
from pyro.ops.provenance import get_provenance, track_provenance
from torch import Tensor

from pyro_gen.infer.mcmc.gibbs.joint import CHAINS, Joint, Values, log_prob, plates, sample_sites

SINGLES = 4
"""Number of elements of a plate that the probes change one at a time."""


class Coupling(NamedTuple):
    """Scope of a change of a site.

    ``factors`` are the sites whose log probability depends on it, itself among
    them; ``free`` are the dimensions (negative) of plates along which its
    elements are independent given everything else; ``reasons`` says for each
    other plate what couples its elements.
    """

    factors: frozenset[str]
    free: tuple[int, ...]
    reasons: dict[str, str]

    def merge(self, other: Coupling) -> Coupling:
        """Union of the results of two checks."""
        free = tuple(dim for dim in self.free if dim in other.free)
        return Coupling(self.factors | other.factors, free, self.reasons | other.reasons)


def coupling(
    joint: Joint, values: Values, name: str, redraw: Callable[[Tensor], Tensor]
) -> Coupling:
    r"""Find the Markov blanket of a site and the plates that split it.

    There are two checks. The *provenance* of values, tracked through the run,
    shows which factors use the site; a factor that uses it outside of one of
    its plates couples the elements of that plate. Then *probes*: the elements
    whose index along the plate has a certain binary digit are changed, and
    nothing may change at the others. Any two elements differ in some digit, so
    :math:`2 \lceil \log_2 n \rceil` runs see every pair of elements that is
    coupled in spite of the plate, as by ``z.roll(1)`` or a sum inside of it. A
    second round, elsewhere, changes random parts of these and single elements.

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
    for factor, plate in _probes(
        joint, values, name, site_plates, len(sites[name]["fn"].batch_shape), redraw
    ):
        factors.add(factor)
        if plate is not None:
            reasons.setdefault(
                plate, f"`{factor}` mixes the elements of `{name}` inside of the plate"
            )
    for plate in site_plates:
        outside = [
            factor for factor in sites if factor in factors and plate not in plates(sites[factor])
        ]
        if outside:
            reasons[plate] = f"`{outside[0]}` uses `{name}` outside of the plate"
    if CHAINS in reasons:
        raise ValueError(
            f"`model` must treat chains as independent for `num_chains`, but {reasons[CHAINS]}: "
            "index with `...` or pyro.ops.indexing.Vindex, sum over dim=-1 instead of all, or "
            "leave `num_chains` out"
        )
    free = sorted(frame.dim for plate, frame in site_plates.items() if plate not in reasons)
    return Coupling(frozenset(factors), tuple(free), reasons)


def users(joint: Joint, values: Values) -> dict[str, set[str]]:
    """Factors that use the value of each latent site, by provenance.

    All later ones if it cannot be tracked.

    Args:
        joint: the model.
        values: of all latent sites.

    Returns:
        Names of factors by site.
    """
    tracked = {name: track_provenance(value, frozenset({name})) for name, value in values.items()}
    users_of: dict[str, set[str]] = {name: set() for name in values}
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            sites = sample_sites(joint.trace(tracked))
            uses = {
                name: get_provenance(log_prob(site, name in values))
                for name, site in sites.items()
            }
    except (
        TypeError,
        RuntimeError,
        NotImplementedError,
        AssertionError,
    ):  # compiled code wants plain tensors
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
        Names of sites by site, those without such bounds left out; None if
        provenance cannot be tracked.
    """
    tracked = {name: track_provenance(value, frozenset({name})) for name, value in values.items()}
    try:
        with torch.no_grad(), pyro.validation_enabled(False):
            sites = sample_sites(joint.trace(tracked))
            bounds = {name: _bounds(sites[name]["fn"]) for name in sites if name in values}
    except (TypeError, RuntimeError, NotImplementedError, AssertionError):
        return None
    origins = {name: set(get_provenance(list(names))) for name, names in bounds.items()}
    return {name: names for name, names in origins.items() if names}


def _bounds(distribution: object) -> Iterator[Tensor]:
    """The tensors in a support, including nested ones."""
    pending = [getattr(distribution, "support", None)]
    while pending:
        part = pending.pop()
        for inner in vars(part).values() if hasattr(part, "__dict__") else ():
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
    """Yields factors that follow changes of the site, with a plate where they
    follow another element's change.
    """
    event = values[name].dim() - batch
    for thinned, base in enumerate((values[name], redraw(values[name]))):
        other = redraw(base)
        before = joint.factors({**values, name: base})
        yield from (
            (factor, None) for factor in _changed(before, joint.factors({**values, name: other}))
        )
        for plate, frame in site_plates.items():
            for subset in _subsets(base.shape[frame.dim - event], bool(thinned)):
                mask = subset.to(base.device).view(-1, *[1] * (-frame.dim - 1))
                probe = torch.where(mask.view(mask.shape + (1,) * event), other, base)
                for factor, changed in _changed(
                    before, joint.factors({**values, name: probe})
                ).items():
                    has_plate = changed.dim() >= -frame.dim and changed.shape[frame.dim] == len(
                        subset
                    )
                    yield factor, plate if not has_plate or (changed & ~mask).any() else None


def _changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mask of log probabilities that differ by more than rounding, for the factors
    that differ at all.
    """
    changed = {}
    for name, old in before.items():
        rounding = 4 * torch.finfo(old.dtype).eps
        near = torch.isclose(after[name], old, rtol=rounding, atol=0, equal_nan=True)
        if not near.all():
            changed[name] = ~near
    return changed


def _subsets(size: int, thinned: bool) -> Iterator[Tensor]:
    """Masks of the indices that have a binary digit set, and of those that have not.

    Or of about half of these.

    The thinned ones, and a few single indices, see what cancels in whole
    halves, as in a parity.
    """
    index = torch.arange(size)
    for digit in range((size - 1).bit_length()):
        for subset in ((index >> digit & 1).bool(), ~(index >> digit & 1).bool()):
            yield subset & (torch.rand(size) < 0.5) if thinned else subset
    if thinned and size > 1:
        yield from (index == single for single in torch.randperm(size)[:SINGLES])


__all__ = ["Coupling", "coupling", "moving_supports", "users"]
