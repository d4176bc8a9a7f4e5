"""Draws of a guide to ArviZ, with the weights that say how far it is from the posterior."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor
from torch.distributions import biject_to

from pyro_gen._arguments import whole_number
from pyro_gen._evaluation import evaluating
from pyro_gen.arviz.assembly import Arrays, Extras, assembled
from pyro_gen.arviz.evaluation import Evaluation, VariableNames, evaluated
from pyro_gen.arviz.groups import Coords, Dims, array, require, warn
from pyro_gen.arviz.importance import importance_weights, warn_of_weights
from pyro_gen.arviz.program import Program, undrawn_latents
from pyro_gen.arviz.sites import (
    Site,
    cell_mask,
    in_part,
    is_delta,
    is_scaled,
    latent_sites,
    sample_sites,
    subsampled_plates,
)


class Drawn(NamedTuple):
    """Draws of a guide, (draw, ...), their log densities, and why these are none."""

    values: dict[str, Tensor]
    log_q: Tensor
    reason: str | None


def from_svi(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    num_samples: int = 1000,
    model_kwargs: Mapping[str, Any] | None = None,
    resample: bool = False,
    prior: Arrays | None = None,
    posterior_predictive: Arrays | None = None,
    log_likelihood: VariableNames = None,
    predictions: Arrays | None = None,
    constant_data: Arrays | None = None,
    predictions_constant_data: Arrays | None = None,
    coords: Coords | None = None,
    dims: Dims | None = None,
    pred_dims: Dims | None = None,
    log_prior: bool = True,
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    r"""Draw from a fitted guide and hand the draws to ArviZ, as one chain.

    Groups, names and pointwise log likelihood are those of
    :func:`pyro_gen.arviz.from_mcmc`. In addition ``sample_stats`` holds of each
    draw ``lp``, the log joint :math:`\log p(x, z)` with discrete latents that
    the guide does not draw summed out, ``log_q``, ``log_weight`` :math:`= \log
    p - \log q`, and ``psis_log_weight``, the Pareto-smoothed weights, which sum
    to
    1. The attributes of ``sample_stats`` are ``pareto_k``
    (below 0.7 the weights can be relied on), ``importance_ess``,
    ``log_evidence`` with ``log_evidence_se``, and ``elbo``. ``posterior`` holds
    the guide's draws as they are: :func:`weighted_summary` gives corrected
    means, `resample` corrected draws. k-hat judges the joint posterior; a guide
    with k-hat above 0.7 may still have good margins.

    Weights are left out with a warning where log q is no density of the draws:
    point masses (`AutoDelta`), auxiliary sites that are not a change of
    variables, scaled sites, cells that only the model masks, subsampled plates.
    The data must be whole for weights and log likelihood: hand over arguments
    with which no plate is subsampled.

    Args:
        model: the model.
        guide: an autoguide or a program of one's own.
        *args: what both take.
        num_samples: draws.
        model_kwargs: keyword arguments of both.
        resample: whether to draw the posterior anew by its weights (with
            replacement), which corrects the margins and repeats draws; the
            weights are then used up and left out.
        prior: as for `from_mcmc`, like all that follow.
        posterior_predictive: draws of `Predictive`, of as many draws or as one
            chain of its own.
        log_likelihood: False leaves the group out, names choose.
        predictions: out-of-sample draws.
        constant_data: constants.
        predictions_constant_data: constants of the predictions.
        coords: labels, or a size, for each named dimension.
        dims: names of dimensions.
        pred_dims: names of dimensions of `predictions`.
        log_prior: whether to add this group.
        attrs: attributes of the groups.

    Returns:
        `arviz.InferenceData` with ArviZ 0.2x, `xarray.DataTree` with ArviZ 1.x.

    Raises:
        ImportError: if ArviZ is not installed.
        ValueError: if one of the two is no program, the guide lacks a latent
            site that cannot be summed out, `num_samples` is below 1, or
            `resample` is asked for where there are no weights.

    References:
        A. Vehtari, D. Simpson, A. Gelman, Y. Yao, J. Gabry, Pareto smoothed
        importance sampling, Journal of Machine Learning Research 25(72), 2024.
        Y. Yao, A. Vehtari, D. Simpson, A. Gelman, Yes, but did it work?
        Evaluating variational inference, ICML 2018.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> def model(y):
        ...     x = pyro.sample("x", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("data", len(y)):
        ...         pyro.sample("y", dist.Normal(x, 1.0), obs=y)
        >>> def exact(y):
        ...     pyro.sample("x", dist.Normal(y.sum() / (1 + len(y)), (1.0 + len(y)) ** -0.5))
        >>> data = from_svi(model, exact, torch.tensor([1.0, 2.0]), num_samples=100)
        >>> data["sample_stats"].attrs["pareto_k"]
        0.0
    """
    require("arviz")
    num_samples = whole_number("num_samples", num_samples)
    for name, callable_ in (("model", model), ("guide", guide)):
        if not callable(callable_):
            raise ValueError(f"`{name}` must be a Pyro program, got {type(callable_).__name__}")
    program = Program(model, args, model_kwargs)
    guide_draws = draw_guide(program, guide, num_samples)
    samples = {name: values[None] for name, values in guide_draws.values.items()}
    evaluation = evaluated(program, samples, None, log_likelihood, log_prior)
    stats, about = _stats(guide_draws, evaluation)
    if resample:
        if "psis_log_weight" not in stats:
            raise ValueError(
                "`resample` must have importance weights, and there are none: "
                f"{guide_draws.reason or 'see the warning'}"
            )
        warn_of_weights(about, num_samples)
        index = torch.multinomial(
            torch.as_tensor(np.exp(stats["psis_log_weight"])), num_samples, replacement=True
        )
        samples = {name: values[:, index.to(values.device)] for name, values in samples.items()}
        stats = {name: stats[name][index.numpy()] for name in ("lp", "log_q")}
        evaluation = evaluated(program, samples, None, log_likelihood, log_prior)
    extras = Extras(
        prior, posterior_predictive, predictions, constant_data, predictions_constant_data
    )
    stats = {name: values[None] for name, values in stats.items()}
    return assembled(samples, stats, about, evaluation, extras, coords, dims, pred_dims, attrs)


def _stats(
    guide_draws: Drawn, evaluation: Evaluation | None
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return statistics of the draws and attributes, without weights that would mean nothing."""
    stats: dict[str, np.ndarray] = {}
    joint = None
    if evaluation is not None:
        joint = evaluation.log_joint
    if joint is not None:
        stats["lp"] = joint
    reason = guide_draws.reason
    if reason is None:
        stats["log_q"] = array(guide_draws.log_q)
        if joint is None:
            return stats, {}
        if (
            np.isfinite(stats["log_q"]).all()
            and not np.isnan(joint).any()
            and np.isfinite(joint).any()
        ):
            weights = importance_weights(joint, stats["log_q"])
            stats |= {"log_weight": weights.log_weight, "psis_log_weight": weights.psis_log_weight}
            return stats, weights.attrs
        reason = "log p or log q is not finite"
    warn(f"the importance weights are left out: {reason}")
    return stats, {}


def draw_guide(program: Program, guide: Callable[..., Any], number: int) -> Drawn:
    """Draw from a guide what the model's latents are.

    Raises:
        ValueError: if the guide lacks a latent that cannot be summed out, or
            has none of the model's.
    """
    first = _trace(program, guide)
    offered = {
        name: site["value"].detach()
        for name, site in sample_sites(first)
        if not site["is_observed"]
    }
    plain = program.trace(offered)
    nodes: dict[str, Site] = plain.nodes
    absent = [
        name
        for name in undrawn_latents(plain)
        if not getattr(nodes[name]["fn"], "has_enumerate_support", False)
    ]
    if absent:
        raise ValueError(
            "`guide` must draw all latents of the model that cannot be summed out, it lacks "
            f"{absent}"
        )
    names = [name for name in offered if name in nodes]
    if partial := [name for name in names if in_part(nodes[name])]:
        warn(f"the draws of {partial} are left out: they belong to a part of a plate's rows")
        names = [name for name in names if name not in partial]
    if not names:
        raise ValueError(
            f"`guide` must draw latents of the model, {latent_sites(plain)}, got {list(offered)}"
        )
    rows = [_row(_trace(program, guide), names) for _ in range(number)]
    values = {name: torch.stack([row[name] for row, _ in rows]) for name in names}
    return Drawn(values, torch.stack([log_q for _, log_q in rows]), _reason(first, plain, names))


def _row(trace: Trace, names: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
    nodes: dict[str, Site] = trace.nodes
    return {name: nodes[name]["value"].detach() for name in names}, torch.as_tensor(
        trace.log_prob_sum()
    )


def _trace(program: Program, guide: Callable[..., Any]) -> Trace:
    with torch.no_grad(), evaluating(guide), pyro.validation_enabled(False), poutine.block():
        trace = prune_subsample_sites(
            poutine.trace(guide).get_trace(*program.args, **program.kwargs)
        )
        trace.compute_log_prob()
    return trace


def _reason(trace: Trace, model: Trace, names: Sequence[str]) -> str | None:
    """Reason why the guide's log probability is no density of the draws; None where it is.

    Autoguides draw an auxiliary site and hand the model a function of it, as a
    point mass that knows the Jacobian: a change of variables, with as many
    numbers on one side as on the other.
    """
    nodes: dict[str, Site] = trace.nodes
    target: dict[str, Site] = model.nodes
    if shown := [*subsampled_plates(trace), *subsampled_plates(model)]:
        return f"{shown[0]}, so log p is an estimate from a part of the data"
    if scaled := [name for name, site in sample_sites(trace) if is_scaled(site)]:
        return f"the guide scales {scaled}"
    if masked := [name for name in names if not _same_mask(nodes[name], target[name])]:
        return f"the model masks cells of {masked} that the guide draws with a density"
    points = [name for name in names if is_delta(nodes[name])]
    extra = [
        name for name in latent_sites(trace) if name not in names and not is_delta(nodes[name])
    ]
    moved = sum(_degrees(target[name]) for name in points)
    base = sum(nodes[name]["value"].numel() for name in extra)
    if moved > base:
        return f"the guide is a point mass at {points}, which has no density"
    if moved < base:
        return (
            f"the guide draws {extra} beside the model's latents, "
            f"and log q does not integrate over them"
        )
    return None


def _same_mask(guide: Site, model: Site) -> bool:
    model_mask = cell_mask(model, model["log_prob"].shape)
    guide_mask = cell_mask(guide, guide["log_prob"].shape)
    if all(mask is None or bool(mask.all()) for mask in (model_mask, guide_mask)):
        return True
    return (
        model_mask is not None and guide_mask is not None and torch.equal(model_mask, guide_mask)
    )


def _degrees(site: Site) -> int:
    """Return the size of a site's unconstrained parameter: one less in each simplex."""
    with torch.no_grad():
        return int(biject_to(site["fn"].support).inv(site["value"]).numel())
