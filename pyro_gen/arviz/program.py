"""A Pyro model with its arguments, run on one draw, undrawn latents summed out."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from pyro.ops.contract import contract_to_tensor
from pyro.ops.rings import LogRing
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from pyro_gen._evaluation import evaluating
from pyro_gen.arviz.sites import cell_mask, latent_sites, sample_sites, vectorised

Draw = Mapping[str, Tensor]


class _Enumeration(EnumMessenger):
    """Pyro's own, without reading `value.data`, which `torch.vmap` refuses."""

    def _pyro_post_sample(self, msg: Any) -> None:
        value = msg["value"]
        if value is not None:
            msg = {**msg, "value": torch.empty(value.shape, device="meta")}
        super()._pyro_post_sample(msg)


class _Ring(LogRing):
    _backend = "pyro_gen.arviz.log_einsum"


class Program:
    """A model with its arguments.

    Args:
        model: a Pyro model.
        args: its arguments.
        kwargs: its keyword arguments.
        max_plate_nesting: as NUTS takes it; None reads it off a run.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        max_plate_nesting: int | None = None,
    ) -> None:
        self.model = model
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        self.max_plate_nesting = max_plate_nesting

    def trace(self, draw: Draw) -> Trace:
        """Run the model with the latents that the draw has, the others drawn anew."""
        return self._run(poutine.condition(self.model, dict(draw)))

    def enumerated(self, draw: Draw, first_dim: int) -> Trace:
        """Run the model with the other latents in all states, in dimensions from `first_dim`."""
        model = _Enumeration(first_dim)(config_enumerate(self.model))
        trace = self._run(poutine.condition(model, dict(draw)))
        trace.pack_tensors()
        return trace

    def _run(self, model: Callable[..., Any]) -> Trace:
        # Masked cells may hold NaN, and validation is control flow on values, which vmap cannot
        # follow.
        with (
            torch.no_grad(),
            evaluating(self.model),
            pyro.validation_enabled(False),
            poutine.block(),
        ):
            trace = prune_subsample_sites(
                poutine.trace(model).get_trace(*self.args, **self.kwargs)
            )
            trace.compute_log_prob()
        return trace

    def first_dim(self, trace: Trace) -> int:
        """The first dimension to the left of all plates.

        Raises:
            ValueError: if a site has a dimension to the left of the plates,
                which enumeration would take for its own.
        """
        frames = [frame for _, site in sample_sites(trace) for frame in vectorised(site)]
        nesting = max([self.max_plate_nesting or 0, *(-frame.dim for frame in frames)])
        for name, site in sample_sites(trace):
            plates = {frame.dim for frame in vectorised(site)}
            shape = site["fn"].batch_shape
            if loose := [
                size
                for dim, size in enumerate(shape, -len(shape))
                if size > 1 and dim not in plates
            ]:
                raise ValueError(
                    f"site {name!r} has dimensions of sizes {loose} outside of plates; a model "
                    "with enumerated sites "
                    f"must declare each by a plate or by `.to_event`"
                )
        return -1 - nesting


def undrawn_latents(trace: Trace) -> list[str]:
    """The latents that the draw does not have and that were not enumerated."""
    nodes: dict[str, Any] = trace.nodes
    return [name for name in latent_sites(trace) if "_enumerate_dim" not in nodes[name]["infer"]]


def sum_symbols(trace: Trace) -> set[str]:
    """The symbols of the enumerated dimensions of a packed trace."""
    return set(trace.symbol_to_dim) - set(trace.plate_to_symbol.values())


def terms(trace: Trace) -> Iterator[tuple[str, Any]]:
    """The sites with a density, NeuTra's point masses among them, but no deterministic ones."""
    return (
        (name, site)
        for name, site in sample_sites(trace)
        if not site["infer"].get("_deterministic")
    )


def enumerated_components(trace: Trace) -> list[list[str]]:
    """The groups of sites that share enumerated states, in the order of the model."""
    symbols = sum_symbols(trace)
    groups: list[tuple[list[str], set[str]]] = []
    for name, site in terms(trace):
        names = [name]
        dims = symbols.intersection(site["packed"]["log_prob"]._pyro_dims)
        if not dims:
            continue
        for group in [group for group in groups if group[1] & dims]:
            groups.remove(group)
            names = [*group[0], *names]
            dims = dims | group[1]
        groups.append((names, dims))
    order = {name: index for index, name in enumerate(trace.nodes)}
    return [sorted(names, key=order.__getitem__) for names, _ in groups]


def log_joint(trace: Trace) -> Tensor:
    """The log density of a packed trace, enumerated latents summed out.

    Pyro gives a masked latent log probability 0 in each of its states, so that
    its sum is their number; here it is 1.
    """
    return contracted(trace, [name for name, _ in terms(trace)]) - _masked_states(trace)


def _masked_states(trace: Trace) -> float:
    total = 0.0
    for _, site in terms(trace):
        if "_enumerate_dim" not in site["infer"]:
            continue
        shape = site["log_prob"].shape
        if (mask := cell_mask(site, shape)) is None:
            continue
        first_state: list[int | slice] = [0] * len(shape)
        for frame in vectorised(site):
            first_state[frame.dim] = slice(None)
        hidden = (~mask)[tuple(first_state)]
        num_states = shape[site["infer"]["_enumerate_dim"]]
        total += float(hidden.sum()) * math.log(num_states)
    return total


def ordinal(trace: Trace, name: str) -> frozenset[str]:
    """The symbols of the plates around a site."""
    return frozenset(trace.plate_to_symbol[frame.name] for frame in vectorised(trace.nodes[name]))


def _plate_sizes(trace: Trace) -> dict[str, int]:
    """The sizes of the plates, by symbol; at least 1."""
    frames = {frame.name: frame for _, site in sample_sites(trace) for frame in vectorised(site)}
    return {
        symbol: max(1, int(frames[name].size))
        for name, symbol in trace.plate_to_symbol.items()
        if name in frames
    }


def contracted(trace: Trace, names: Sequence[str], target: frozenset[str] = frozenset()) -> Tensor:
    """Sum the enumerated states of some sites out, and the plates but those of `target`."""
    tree: OrderedDict[frozenset[str], list[Tensor]] = OrderedDict()
    for name in names:
        # A new tensor object each time: the contraction tells terms apart by identity.
        packed: Any = trace.nodes[name]["packed"]["log_prob"]
        term: Any = packed[...]
        term._pyro_dims = packed._pyro_dims
        tree.setdefault(ordinal(trace, name), []).append(term)
    ring = _Ring(dim_to_size=_plate_sizes(trace))
    result: Any = contract_to_tensor(tree, sum_symbols(trace), target_ordinal=target, ring=ring)
    symbols = sorted(target, key=lambda symbol: trace.symbol_to_dim[symbol])
    ordered: Tensor = result.permute([result._pyro_dims.index(symbol) for symbol in symbols])
    return ordered
