"""Evaluation of a posterior's draws, and the groups made of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from pyro_gen.arviz.assembly import Arrays, Assembly, Extras
from pyro_gen.arviz.evaluation import Evaluation, evaluate, nothing_said
from pyro_gen.arviz.groups import Coords, Dims, makes_trees, netcdf_attributes, require
from pyro_gen.arviz.program import Program

VariableNames = bool | Sequence[str] | None


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
        variables: names of the variables of the log likelihood, all or none of them; None for
            ArviZ's default.
        log_prior: whether to keep the log priors.

    Returns:
        What the model says.

    Raises:
        ValueError: if `wanted` names what is no data.
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
        evaluation = nothing_said(f"it cannot run: {type(error).__name__}: {error}")
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


def assembled(
    samples: Mapping[str, Tensor],
    stats: Arrays,
    about: Mapping[str, Any],
    evaluation: Evaluation | None,
    extras: Extras,
    coords: Coords | None,
    dims: Dims | None,
    pred_dims: Dims | None,
    attrs: Mapping[str, Any] | None,
) -> Any:
    """Make all groups of a posterior.

    Args:
        samples: draws, (chain, draw, ...).
        stats: statistics of the draws, (chain, draw, ...).
        about: attributes of ``sample_stats``.
        evaluation: what the model says of the draws.
        extras: what the user adds.
        coords: labels, or a size, for each named dimension.
        dims: names of dimensions.
        pred_dims: names of dimensions of predictions.
        attrs: attributes of the groups.

    Returns:
        `arviz.InferenceData` with ArviZ 0.2x, `xarray.DataTree` with ArviZ 1.x.
    """
    chains, draws = next(iter(samples.values())).shape[:2]
    assembly = Assembly(chains, draws, coords, dims, pred_dims, evaluation, attrs)
    assembly.add_samples("posterior", samples)
    assembly.add_stats(stats)
    assembly.group_attrs["sample_stats"] = netcdf_attributes(about)
    assembly.add_evaluation()
    assembly.add_extras(extras, assembly.groups["posterior"])
    return assembly.result()
