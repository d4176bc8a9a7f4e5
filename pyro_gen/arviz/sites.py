"""Sites of a trace: data, latent, deterministic; their plates, masks and scales."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

import torch
from pyro.distributions import Delta, MaskedDistribution, Unit
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.poutine.subsample_messenger import _Subsample
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import Independent

Site = Any  # a message of a trace, a dictionary


def sample_sites(trace: Trace) -> list[tuple[str, Site]]:
    """The sample sites with a distribution: not the subsamples of plates."""
    return [
        (name, site)
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not isinstance(site["fn"], _Subsample)
    ]


def is_deterministic(site: Site) -> bool:
    """True for a site of `pyro.deterministic` or a reparametrisation: an observed point mass."""
    return bool(site["infer"].get("_deterministic")) or (site["is_observed"] and is_delta(site))


def data_sites(trace: Trace, drawn_sites: Set[str]) -> list[str]:
    """The observed sites that carry data: not draws, factors, nor what is masked as a whole."""
    return [
        name
        for name, site in sample_sites(trace)
        if site["is_observed"]
        and name not in drawn_sites
        and not is_deterministic(site)
        and not isinstance(base_of(site["fn"]), Unit)
        and site["mask"] is not False
        and _mask_of(site["fn"]) is not False
    ]


def latent_sites(trace: Trace) -> list[str]:
    """The sites that nothing fixed."""
    return [name for name, site in sample_sites(trace) if not site["is_observed"]]


def base_of(fn: Any) -> Any:
    """The distribution under masks, expansions and reinterpreted dimensions."""
    while isinstance(fn, (MaskedDistribution, ExpandedDistribution, Independent)):
        fn = fn.base_dist
    return fn


def is_delta(site: Site) -> bool:
    """True if the site is a point mass."""
    return isinstance(base_of(site["fn"]), Delta)


def cell_mask(site: Site, shape: torch.Size) -> Tensor | None:
    """Mask of the elements of a site that count, in the given shape; None where all do."""
    candidates = (site["mask"], _mask_of(site["fn"]), _seen(site))
    masks = [mask for mask in candidates if mask is not None and mask is not True]
    result = None
    for mask in masks:
        full = torch.as_tensor(mask).expand(shape)
        if result is not None:
            full = result & full
        result = full
    return result


def _seen(site: Site) -> Tensor | bool:
    """Mask of the data with a cell that is not NaN.

    A distribution that takes NaN for missing cells says nothing of the others;
    one that does not has the log probability NaN, and they count, so that it
    shows.
    """
    value = site["value"]
    if not site["is_observed"] or not isinstance(value, Tensor) or not value.is_floating_point():
        return True
    missing = value.isnan()
    if (cells := site["fn"].event_dim) > 0:
        missing = missing.flatten(-cells).all(-1)
    if not missing.any():
        return True
    return ~missing | site["log_prob"].isnan()


def _mask_of(fn: Any) -> Tensor | bool:
    """The mask inside a distribution; an event whose cells are masked in part counts."""
    if isinstance(fn, MaskedDistribution):
        inner = _mask_of(fn.base_dist)
        if fn._mask is True:
            return inner
        if inner is True:
            return fn._mask
        return fn._mask & inner
    if isinstance(fn, Independent):
        inner = _mask_of(fn.base_dist)
        ndims = fn.reinterpreted_batch_ndims
        if isinstance(inner, bool) or ndims == 0:
            return inner
        return inner.expand(fn.base_dist.batch_shape).flatten(-ndims).any(-1)
    return not isinstance(fn, ExpandedDistribution) or _mask_of(fn.base_dist)


def vectorised(site: Site) -> list[Any]:
    """The frames of the plates that are tensor dimensions, from the left."""
    return sorted(
        (frame for frame in site["cond_indep_stack"] if frame.vectorized),
        key=lambda frame: frame.dim,
    )


def plate_names(site: Site, shape: Iterable[int], event_dim: int) -> tuple[str | None, ...]:
    """The plate of each dimension; None where there is none or its size differs."""
    sizes = tuple(shape)
    names: list[str | None] = [None] * len(sizes)
    for frame in vectorised(site):
        index = len(sizes) - event_dim + frame.dim
        if 0 <= index < len(sizes) - event_dim and frame.size in (sizes[index], -1):
            names[index] = frame.name
    return tuple(names)


def value_plates(site: Site) -> tuple[str | None, ...]:
    """The plates of the dimensions of a site's value.

    `pyro.deterministic` takes the whole value for an event unless told
    otherwise, also inside a plate; there the value is aligned with the plates
    where all of them fit.
    """
    shape = site["value"].shape
    event_dim = site["fn"].event_dim
    if event_dim == len(shape) and is_deterministic(site):
        names = plate_names(site, shape, 0)
        if sum(name is not None for name in names) == len(vectorised(site)):
            return names
    return plate_names(site, shape, event_dim)


def subsampled_plates(trace: Trace) -> list[str]:
    """The plates, in words, that show a part of their rows only."""
    frames = {
        frame.name: frame for _, site in sample_sites(trace) for frame in site["cond_indep_stack"]
    }
    return [
        f"plate {name!r} shows {f.size} of {f.full_size} rows"
        for name, f in frames.items()
        if _is_partial(f)
    ]


def in_part(site: Site) -> bool:
    """True if the site belongs to a part of the rows of a plate."""
    return any(_is_partial(frame) for frame in site["cond_indep_stack"])


def _is_partial(frame: Any) -> bool:
    return frame.full_size is not None and int(frame.full_size) != int(frame.size)


def is_scaled(site: Site) -> bool:
    """True if plates or `poutine.scale` weigh the log probability of a site."""
    return bool(torch.as_tensor(site["scale"] != 1).any())
