"""A model evaluated on all draws: log joint, log priors, pointwise log likelihood."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_gen.arviz.groups import array, makes_trees, require
from pyro_gen.arviz.pointwise import Unit, pointwise_log_likelihood, prior_sites, unit_mask, units
from pyro_gen.arviz.program import Draw, Program, log_joint, undrawn_latents
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
VariableNames = bool | Sequence[str] | None
CELLS = 2**22  # numbers that one vectorised pass may hold per log probability


class Field(NamedTuple):
    """Values of a site and the plates of their dimensions, but for that of the draws."""

    values: np.ndarray
    plates: tuple[str | None, ...]
    mask: np.ndarray | None = None
    sites: tuple[str, ...] = ()


class Shape(NamedTuple):
    """The number of dimensions of a site's value, and their plates."""

    ndim: int
    plates: tuple[str | None, ...]


class Evaluation(NamedTuple):
    """Evaluation of a model on draws, its variables, and the reasons of those left out."""

    shapes: dict[str, Shape]
    latent: frozenset[str]
    observed: dict[str, Field]
    deterministic: dict[str, Field]
    log_joint: np.ndarray | None
    log_prior: dict[str, Field]
    log_likelihood: dict[str, Field]
    variables: frozenset[str]
    reasons: dict[str, str]


NO_MODEL = Evaluation({}, frozenset(), {}, {}, None, {}, {}, frozenset(), {})


class EvaluationPlan:
    """Quantities to compute of each draw, read off the first one."""

    def __init__(
        self,
        program: Program,
        draw: Draw,
        transforms: Mapping[str, Any],
        wants: Callable[[str], bool],
    ) -> None:
        self.program = program
        self.transforms = transforms
        self.plain = program.trace(draw)
        self.drawn = frozenset(draw) & frozenset(self.plain.nodes)
        self.latent = self.drawn | frozenset(latent_sites(self.plain))
        self.reasons: dict[str, str] = {}
        self.units: list[Unit] = []
        self.data = data_sites(self.plain, self.drawn)
        self.variables = frozenset(self.data)
        self.first_dim: int | None = None
        trace = self._enumerate(draw)
        self.shown = subsampled_plates(self.plain)
        self.deterministic: list[str] = []
        self.prior: list[str] = []
        if trace is None:
            return
        self.deterministic = self._deterministic(trace)
        if self.shown:
            why = "; ".join(self.shown) + ": hand over arguments with which it shows all"
            self.reasons["log_likelihood, log_prior and lp"] = why
            return
        self.prior = prior_sites(trace, self.drawn, self.first_dim is not None)
        self._plan_units(trace, wants)

    def _enumerate(self, draw: Draw) -> Trace | None:
        """Return the trace with undrawn latents summed out; None where they cannot be."""
        if not undrawn_latents(self.plain):
            return self.plain
        try:
            self.first_dim = self.program.first_dim(self.plain)
            trace = self.program.enumerated(draw, self.first_dim)
        except (ValueError, RuntimeError) as error:
            # no finite support, too few dimensions, shapes that do not fit
            undrawn = undrawn_latents(self.plain)
            why = f"its undrawn latents {undrawn} cannot be summed out: {error}"
            self.reasons["model"] = why
            return None
        if absent := undrawn_latents(trace):
            why = f"the draws lack the latent sites {absent}, which cannot be summed out"
            self.reasons["model"] = why
            return None
        return trace

    def _deterministic(self, trace: Trace) -> list[str]:
        nodes: dict[str, Site] = trace.nodes
        names = []
        for name, site in sample_sites(self.plain):
            if not is_deterministic(site) or name in self.drawn:
                continue
            if nodes[name]["value"].shape == site["value"].shape:
                names.append(name)
                continue
            why = "the deterministic site depends on an enumerated latent"
            self.reasons[f"posterior of {name!r}"] = why
        return names

    def _plan_units(self, trace: Trace, wants: Callable[[str], bool]) -> None:
        candidates, reasons = units(trace, self.drawn, self.first_dim is not None)
        self.variables = frozenset(unit.name for unit in candidates) | frozenset(reasons)
        self.units = [unit for unit in candidates if wants(unit.name)]
        self.reasons |= {
            f"log_likelihood of {name!r}": why for name, why in reasons.items() if wants(name)
        }

    def trace(self, draw: Draw) -> Trace:
        """Run the model on one draw."""
        if self.first_dim is None:
            return self.program.trace(draw)
        return self.program.enumerated(draw, self.first_dim)

    def outputs(self, draw: Draw) -> Outputs:
        """Compute what was planned of one draw."""
        trace = self.trace(draw)
        nodes: dict[str, Site] = trace.nodes
        masks = {unit.name: unit_mask(trace, unit) for unit in self.units}
        joint = {}
        if not self.shown:
            joint["log_joint"] = self._log_joint(trace, draw)
        return {
            "joint": joint,
            "deterministic": {name: nodes[name]["value"] for name in self.deterministic},
            "log_prior": {name: nodes[name]["log_prob"] for name in self.prior},
            "log_likelihood": {
                unit.name: pointwise_log_likelihood(trace, unit) for unit in self.units
            },
            "mask": {name: mask for name, mask in masks.items() if mask is not None},
        }

    def _log_joint(self, trace: Trace, draw: Draw) -> Tensor:
        """The log joint density of the draw, as a density of what the kernel moves on."""
        enumerated = self.first_dim is not None
        total = log_joint(trace) if enumerated else torch.as_tensor(trace.log_prob_sum())
        for name in self.drawn & self.transforms.keys():
            site: Site = trace.nodes[name]
            if site["fn"].support.is_discrete:
                continue  # a kernel of discrete sites may cast them, which changes no density
            transform = self.transforms[name]
            total = total - transform.log_abs_det_jacobian(draw[name], transform(draw[name])).sum()
        return total


def evaluated(
    program: Program | None,
    samples: Mapping[str, Tensor],
    transforms: Mapping[str, Any] | None,
    variables: VariableNames,
    log_prior: bool,
) -> Evaluation | None:
    """Evaluate the model on draws (chain, draw, ...); a model that cannot run is a reason.

    Args:
        program: the model; None where there is none to ask.
        samples: the draws.
        transforms: of constrained sites to what a kernel moves on.
        variables: names of the variables of the log likelihood, all or none of
            them; None for ArviZ's default.
        log_prior: whether to keep the log priors.

    Returns:
        What the model says.

    Raises:
        ValueError: if `variables` names what is no data.
    """
    if program is None:
        return None
    if variables is None:
        variables = _default_variables()
    flat = {name: values.detach().flatten(0, 1) for name, values in samples.items()}
    if isinstance(variables, str):
        variables = [variables]
    names: frozenset[str] = frozenset()
    if not isinstance(variables, bool):
        names = frozenset(variables)
    try:
        evaluation = evaluate(
            program, flat, transforms, lambda name: variables is True or name in names
        )
    except Exception as error:
        # A user's program may raise anything, and the draws are worth having without it.
        reason = f"it cannot run: {type(error).__name__}: {error}"
        evaluation = NO_MODEL._replace(reasons={"model": reason})
    unknown = sorted(names - evaluation.variables)
    if unknown and "model" not in evaluation.reasons:
        raise ValueError(
            f"`log_likelihood` must name some of {sorted(evaluation.variables)}, "
            f"got unknown {unknown}"
        )
    if not log_prior:
        return evaluation._replace(log_prior={})
    return evaluation


def _default_variables() -> bool:
    """True if the log likelihood is computed by default; ArviZ 0.2x has a setting for it."""
    arviz = require("arviz")
    return makes_trees(arviz) or bool(arviz.rcParams["data.log_likelihood"])


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
    plan = EvaluationPlan(program, first, transforms or {}, wants)
    outputs: Outputs = {}
    if "model" not in plan.reasons:
        outputs = over_draws(plan.outputs, draws, plan.plain)
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
    joint = outputs.get("joint")
    return _sites_of_model(plan)._replace(
        deterministic=deterministic,
        log_joint=array(joint["log_joint"]) if joint else None,
        log_prior=prior,
        log_likelihood=_likelihood(plan, outputs, reasons),
        reasons=reasons,
    )


def sites_only(program: Program) -> Evaluation:
    """Look at the sites of a model without draws."""
    return _sites_of_model(EvaluationPlan(program, {}, {}, lambda name: False))


def _sites_of_model(plan: EvaluationPlan) -> Evaluation:
    return NO_MODEL._replace(
        shapes=shapes_of(plan.plain),
        latent=plan.latent,
        observed=_observed(plan),
        variables=plan.variables,
    )


def over_draws(function: Callable[[Draw], Any], draws: Mapping[str, Tensor], trace: Trace) -> Any:
    """Apply a function to each draw: by `torch.vmap`, and where that raises by a loop."""
    cells = sum(site["log_prob"].numel() for _, site in sample_sites(trace))
    first = function({name: values[0] for name, values in draws.items()})
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # operators without a batching rule are only slow
            results = torch.vmap(function, chunk_size=max(1, CELLS // max(1, cells)))(dict(draws))
        if _results_agree(first, results):
            return results
    except Exception:
        # A user's program may raise anything under `vmap`; what is wrong without it the loop
        # raises.
        pass
    return _loop(function, draws)


def _results_agree(first: Outputs, results: Outputs) -> bool:
    """Test that vectorised results begin with the plain ones: a model may keep state."""
    return all(
        values.shape == results[group][name].shape[1:]
        and torch.allclose(
            values, results[group][name][0].to(values), rtol=1e-3, atol=1e-3, equal_nan=True
        )
        for group, members in first.items()
        for name, values in members.items()
    )


def _loop(function: Callable[[Draw], Outputs], draws: Mapping[str, Tensor]) -> Outputs:
    number = len(next(iter(draws.values())))
    rows = [
        function({name: values[index] for name, values in draws.items()})
        for index in range(number)
    ]
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


def _observed(plan: EvaluationPlan) -> dict[str, Field]:
    """The values of the data; what a mask hides is NaN."""
    observed = {}
    nodes: dict[str, Site] = plan.plain.nodes
    for name in plan.data:
        site = nodes[name]
        values = array(site["value"])
        mask = cell_mask(site, site["log_prob"].shape)
        if mask is not None and not mask.all():
            event = (1,) * site["fn"].event_dim
            values = np.where(array(mask).reshape(*mask.shape, *event), values, np.nan)
        observed[name] = Field(values, plate_names(site, values.shape, site["fn"].event_dim))
    return observed


def _likelihood(
    plan: EvaluationPlan, outputs: Outputs, reasons: dict[str, str]
) -> dict[str, Field]:
    fields = {}
    if not outputs:
        return {}
    for unit in plan.units:
        values = array(outputs["log_likelihood"][unit.name])
        masks = outputs["mask"].get(unit.name)
        mask = None
        shown = values
        if masks is not None:
            mask = array(masks[0])
            shown = values[:, np.broadcast_to(mask, values.shape[1:])]
            if not (masks == masks[:1]).all():
                reasons[f"log_likelihood of {unit.name!r}"] = "its mask depends on the draw"
                continue
        if (wrong := int(np.isnan(shown).sum())) > 0:
            reasons[f"log_likelihood of {unit.name!r}"] = (
                f"{wrong} of its {shown.size} values are NaN"
            )
            continue
        fields[unit.name] = Field(values, unit.plates, mask, unit.data)
    return fields
