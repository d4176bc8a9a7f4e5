"""A model evaluated on all draws: log joint, deterministic sites, log priors, pointwise log likelihood."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_gen.arviz.groups import array
from pyro_gen.arviz.pointwise import Unit, log_likelihood, prior_sites, unit_mask, units
from pyro_gen.arviz.program import Draw, Program, log_joint, missing
from pyro_gen.arviz.sites import (
    Site,
    cell_mask,
    data_sites,
    is_deterministic,
    latent_sites,
    plate_names,
    sample_sites,
    subsampled_plates,
    value_plates,
)

Outputs = dict[str, dict[str, Tensor]]
CELLS = 2**22  # numbers that one vectorised pass may hold per log probability


class Field(NamedTuple):
    """Values of a site and the plates of their dimensions, after the one of the draws where there is one."""

    values: np.ndarray
    plates: tuple[str | None, ...]
    mask: np.ndarray | None = None
    sites: tuple[str, ...] = ()


class Shape(NamedTuple):
    """The number of dimensions of a site's value, and their plates."""

    ndim: int
    plates: tuple[str | None, ...]


class Evaluation(NamedTuple):
    """Evaluation of a model on draws: `variables` of the log likelihood, and `reasons` for those left out."""

    shapes: dict[str, Shape]
    latent: frozenset[str]
    observed: dict[str, Field]
    deterministic: dict[str, Field]
    log_joint: np.ndarray | None
    log_prior: dict[str, Field]
    log_likelihood: dict[str, Field]
    variables: frozenset[str]
    reasons: dict[str, str]


class Plan:
    """Quantities to compute of each draw, read off the first one."""

    def __init__(
        self, program: Program, draw: Draw, transforms: Mapping[str, Any], wants: Callable[[str], bool]
    ) -> None:
        self.program, self.transforms = program, transforms
        self.plain = program.trace(draw)
        names = frozenset(latent_sites(self.plain)) | (frozenset(draw) & frozenset(self.plain.nodes))
        self.drawn, self.latent = frozenset(draw) & names, names
        self.reasons: dict[str, str] = {}
        self.units: list[Unit] = []
        self.variables = frozenset(data_sites(self.plain, self.drawn))
        self.first_dim: int | None = None
        trace = self._enumerate(draw)
        self.deterministic = self._deterministic(trace or self.plain)
        self.shown = subsampled_plates(self.plain)
        if trace is None:
            self.prior: list[str] = []
            return
        self.prior = [] if self.shown else prior_sites(trace, self.drawn, self.first_dim is not None)
        self._plan_units(trace, wants)

    def _enumerate(self, draw: Draw) -> Trace | None:
        """Return the trace with all undrawn latents summed out, None and a reason where they cannot be."""
        if not missing(self.plain):
            return self.plain
        try:
            self.first_dim = self.program.first_dim(self.plain)
            trace = self.program.enumerated(draw, self.first_dim)
        except (ValueError, RuntimeError) as error:  # no finite support, too few dimensions, shapes that do not fit
            self.reasons["model"] = f"its undrawn latents {missing(self.plain)} cannot be summed out: {error}"
            return None
        if absent := missing(trace):
            self.reasons["model"] = f"the draws lack the latent sites {absent}, which cannot be summed out"
            return None
        return trace

    def _deterministic(self, trace: Trace) -> list[str]:
        named = sample_sites(self.plain)
        names = [name for name, site in named if is_deterministic(site) and name not in self.drawn]
        nodes: dict[str, Site] = trace.nodes
        plain: dict[str, Site] = self.plain.nodes
        depends = [name for name in names if nodes[name]["value"].shape != plain[name]["value"].shape]
        if "model" in self.reasons:
            return []
        for name in depends:
            self.reasons[f"posterior of {name!r}"] = "the deterministic site depends on an enumerated latent"
        return [name for name in names if name not in depends]

    def _plan_units(self, trace: Trace, wants: Callable[[str], bool]) -> None:
        if self.shown:
            why = "; ".join(self.shown)
            self.reasons["log_likelihood, log_prior and lp"] = f"{why}: hand over arguments with which it shows all"
            return
        candidates, reasons = units(trace, self.drawn, self.first_dim is not None)
        self.variables = frozenset(unit.name for unit in candidates) | frozenset(reasons)
        self.units = [unit for unit in candidates if wants(unit.name)]
        self.reasons |= {f"log_likelihood of {name!r}": why for name, why in reasons.items() if wants(name)}

    def trace(self, draw: Draw) -> Trace:
        """Run the model on one draw."""
        return self.program.trace(draw) if self.first_dim is None else self.program.enumerated(draw, self.first_dim)

    def outputs(self, draw: Draw) -> Outputs:
        """Compute what was planned of one draw."""
        trace = self.trace(draw)
        nodes: dict[str, Site] = trace.nodes
        masks = {unit.name: unit_mask(trace, unit) for unit in self.units}
        return {
            "joint": {} if self.shown else {"log_joint": self._log_joint(trace, draw)},
            "deterministic": {name: nodes[name]["value"] for name in self.deterministic},
            "log_prior": {name: nodes[name]["log_prob"] for name in self.prior},
            "log_likelihood": {unit.name: log_likelihood(trace, unit) for unit in self.units},
            "mask": {name: mask for name, mask in masks.items() if mask is not None},
        }

    def _log_joint(self, trace: Trace, draw: Draw) -> Tensor:
        """The log joint density of the draw, as a density of what the kernel moves on."""
        total = torch.as_tensor(trace.log_prob_sum() if self.first_dim is None else log_joint(trace))
        for name in self.drawn & self.transforms.keys():
            site: Site = trace.nodes[name]
            if site["fn"].support.is_discrete:
                continue  # a kernel of discrete sites may cast them, which changes no density
            transform = self.transforms[name]
            total = total - transform.log_abs_det_jacobian(draw[name], transform(draw[name])).sum()
        return total


def evaluate(
    program: Program,
    draws: Mapping[str, Tensor],
    transforms: Mapping[str, Any] | None = None,
    wants: Callable[[str], bool] = lambda name: True,
) -> Evaluation:
    """Evaluate a model on draws.

    Args:
        program: the model with its arguments.
        draws: values of latent sites, each of shape (draws, ...).
        transforms: of constrained sites to what a kernel moves on.
        wants: which variables of the pointwise log likelihood to compute.

    Returns:
        All that could be computed, and the reasons of what could not.
    """
    first = {name: values[0] for name, values in draws.items()}
    plan = Plan(program, first, transforms or {}, wants)
    outputs = {} if "model" in plan.reasons else over_draws(plan.outputs, draws, plan.plain)
    nodes: dict[str, Site] = plan.plain.nodes
    reasons = dict(plan.reasons)
    deterministic = {
        name: Field(array(values), value_plates(nodes[name]))
        for name, values in outputs.get("deterministic", {}).items()
    }
    prior = {
        name: Field(array(values), plate_names(nodes[name], values.shape[1:], 0))
        for name, values in outputs.get("log_prior", {}).items()
    }
    joint = outputs.get("joint", {}).get("log_joint")
    return Evaluation(
        shapes_of(plan.plain),
        plan.latent,
        _observed(plan),
        deterministic,
        None if joint is None else array(joint),
        prior,
        _likelihood(plan, outputs, reasons),
        plan.variables,
        reasons,
    )


def sites_only(program: Program) -> Evaluation:
    """Look at the sites of a model without draws."""
    plan = Plan(program, {}, {}, lambda name: False)
    return Evaluation(shapes_of(plan.plain), plan.latent, _observed(plan), {}, None, {}, {}, plan.variables, {})


def nothing_said(reason: str) -> Evaluation:
    """Evaluation of a model that could not be run on the draws."""
    return Evaluation({}, frozenset(), {}, {}, None, {}, {}, frozenset(), {"model": reason})


def over_draws(function: Callable[[Draw], Any], draws: Mapping[str, Tensor], trace: Trace) -> Any:
    """Apply a function to each draw: by `torch.vmap`, which raises where it cannot be right; then by a loop."""
    cells = sum(site["log_prob"].numel() for _, site in sample_sites(trace))
    first = function({name: values[0] for name, values in draws.items()})
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # operators without a batching rule are slow, which is no news here
            results = torch.vmap(function, chunk_size=max(1, CELLS // max(1, cells)))(dict(draws))
        if _agree(first, results):
            return results
    except Exception:  # a user's program under `vmap` may raise anything; what is wrong without it the loop raises
        pass
    return _loop(function, draws)


def _agree(first: Outputs, results: Outputs) -> bool:
    """Test that the vectorised results begin with the plain ones: a model may keep state between runs."""
    return all(
        values.shape == results[group][name].shape[1:]
        and torch.allclose(values, results[group][name][0].to(values), rtol=1e-3, atol=1e-3, equal_nan=True)
        for group, members in first.items()
        for name, values in members.items()
    )


def _loop(function: Callable[[Draw], Outputs], draws: Mapping[str, Tensor]) -> Outputs:
    number = len(next(iter(draws.values())))
    rows = [function({name: values[index] for name, values in draws.items()}) for index in range(number)]
    return {
        group: {name: torch.stack([row[group][name] for row in rows]) for name in members}
        for group, members in rows[0].items()
    }


def shapes_of(trace: Trace) -> dict[str, Shape]:
    """The shapes of the values of all sample sites."""
    return {
        name: Shape(site["value"].dim(), value_plates(site))
        for name, site in sample_sites(trace)
        if isinstance(site["value"], Tensor)
    }


def _observed(plan: Plan) -> dict[str, Field]:
    """The values of the data; what a mask hides is NaN."""
    observed = {}
    nodes: dict[str, Site] = plan.plain.nodes
    for name in data_sites(plan.plain, plan.drawn):
        site = nodes[name]
        values = array(site["value"])
        mask = cell_mask(site, site["log_prob"].shape)
        if mask is not None and not mask.all():
            event = (1,) * site["fn"].event_dim
            values = np.where(array(mask).reshape(*mask.shape, *event), values, np.nan)
        observed[name] = Field(values, plate_names(site, values.shape, site["fn"].event_dim))
    return observed


def _likelihood(plan: Plan, outputs: Outputs, reasons: dict[str, str]) -> dict[str, Field]:
    fields = {}
    for unit in plan.units if outputs else []:
        values = array(outputs["log_likelihood"][unit.name])
        masks = outputs["mask"].get(unit.name)
        mask = None if masks is None else array(masks[0])
        if masks is not None and not (masks == masks[:1]).all():
            reasons[f"log_likelihood of {unit.name!r}"] = "its mask depends on the draw"
            continue
        shown = values if mask is None else values[:, np.broadcast_to(mask, values.shape[1:])]
        if (wrong := int(np.isnan(shown).sum())) > 0:
            reasons[f"log_likelihood of {unit.name!r}"] = f"{wrong} of its {shown.size} values are NaN"
            continue
        fields[unit.name] = Field(values, unit.plates, mask, unit.data)
    return fields
