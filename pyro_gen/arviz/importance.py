"""Importance weights of draws from a guide: Pareto smoothing and corrected summaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from pyro_gen._weights import GOOD_K, too_small
from pyro_gen.arviz.groups import CHAINS, require, warn
from pyro_gen.infer.elbo.pareto import pareto_smooth


class ImportanceWeights(NamedTuple):
    """Raw log weights, smoothed ones that sum to 1, and what they tell of the guide."""

    log_weight: np.ndarray
    psis_log_weight: np.ndarray
    attrs: dict[str, float]


def importance_weights(log_p: np.ndarray, log_q: np.ndarray) -> ImportanceWeights:
    """Smooth the weights p / q of draws from q.

    Where all weights agree but for rounding, there is no tail to smooth and k-hat is 0.

    Args:
        log_p: log joint density of each draw and the data.
        log_q: log density of each draw under the guide.

    Returns:
        The weights; ``attrs`` hold k-hat, the effective sample size of the weights, and the
        evidence with its error.
    """
    log_weight = log_p.astype(np.float64) - log_q.astype(np.float64)
    size = np.maximum(np.abs(log_p), np.abs(log_q))[np.isfinite(log_weight)]
    rounding = 64 * np.finfo(log_p.dtype).eps * max(1.0, float(size.max(initial=0.0)))
    if np.ptp(log_weight) <= rounding:
        smoothed = np.full_like(log_weight, -math.log(len(log_weight)))
        k = 0.0
    else:
        smoothed, k = pareto_smooth(log_weight)
    top = log_weight.max()
    ratio = np.exp(log_weight - top)
    attrs = {
        "pareto_k": k,
        "importance_ess": float(1 / np.exp(2 * smoothed).sum()),
        "log_evidence": float(top + np.log(ratio.mean())),
        "log_evidence_se": float(ratio.std() / ratio.mean() / math.sqrt(len(ratio))),
        "elbo": float(log_weight.mean()),
    }
    return ImportanceWeights(log_weight, smoothed, attrs)


def warn_of_weights(attrs: Mapping[str, Any], count: int) -> None:
    """Warn where the weights cannot be relied on: too heavy a tail, or too few effective draws.

    Args:
        attrs: of the weights, as :func:`weigh` gives.
        count: draws.
    """
    k = float(attrs["pareto_k"])
    size = float(attrs["importance_ess"])
    if not k <= GOOD_K:
        fault = f"the Pareto k-hat of the importance weights is {k:.2f}, above {GOOD_K}"
    elif too_small(torch.tensor(size), count):
        fault = (
            f"the effective sample size of the importance weights is {size:.1f} of {count} draws"
        )
    else:
        return
    warn(f"{fault}: the guide is too far from the posterior for the weights to correct it")


def weighted_summary(data: Any, var_names: str | Sequence[str] | None = None) -> Any:
    r"""Summarise a posterior of :func:`from_svi`, corrected by its importance weights.

    .. math:: \hat\mu = \sum_s w_s \theta_s, \qquad
              \mathrm{se}^2 = \sum_s w_s^2 (\theta_s - \hat\mu)^2

    with the Pareto-smoothed weights :math:`w` in ``sample_stats``; `arviz.summary` of the data
    describes the guide.

    Args:
        data: what `from_svi` returned, without `resample`.
        var_names: variables to summarise; None takes all.

    Returns:
        `pandas.DataFrame` with the columns mean, sd, mcse_mean and one row for each number.

    Raises:
        ValueError: if the data have no weights or no such variable.

    References:
        Y. Yao, A. Vehtari, D. Simpson, A. Gelman, Yes, but did it work? Evaluating variational
        inference, ICML 2018.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro_gen.arviz import from_svi
        >>> def model():
        ...     x = pyro.sample("x", dist.Normal(0.0, 1.0))
        ...     pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(2.0))
        >>> _ = pyro.set_rng_seed(0)
        >>> guide = lambda: pyro.sample("x", dist.Normal(0.0, 2.0))
        >>> wide = from_svi(model, guide, num_samples=4000)
        >>> row = weighted_summary(wide).loc["x"]
        >>> # the posterior is Normal(1, 1/sqrt(2))
        >>> bool(abs(row["mean"] - 1.0) < 4 * row["mcse_mean"])
        True
    """
    stats: Any = {}
    if "sample_stats" in _group_names(data):
        stats = data["sample_stats"]
    if "psis_log_weight" not in stats:
        raise ValueError(
            "`data` must have `psis_log_weight` in its group sample_stats, as from_svi gives, "
            "got none"
        )
    warn_of_weights(stats.attrs, stats["psis_log_weight"].size)
    posterior = data["posterior"]
    if isinstance(var_names, str):
        var_names = [var_names]
    names = list(var_names or posterior.data_vars)
    if unknown := [name for name in names if name not in posterior.data_vars]:
        raise ValueError(
            f"`var_names` must be among {sorted(posterior.data_vars)}, got unknown {unknown}"
        )
    weights = np.exp(stats["psis_log_weight"].values.reshape(-1))
    rows: dict[str, list[float]] = {}
    for name in names:
        for label, values in _labelled_numbers(posterior[name]):
            rows[label] = _moments(values, weights)
    columns = ["mean", "sd", "mcse_mean"]
    return require("pandas").DataFrame.from_dict(rows, orient="index", columns=columns)


def _group_names(data: Any) -> list[str]:
    if callable(getattr(data, "groups", None)):
        return list(data.groups())
    return list(data.children)


def _moments(values: np.ndarray, weights: np.ndarray) -> list[float]:
    values = values.astype(np.float64)
    mean = weights @ values
    away = (values - mean) ** 2
    return [float(mean), float(np.sqrt(weights @ away)), float(np.sqrt(weights**2 @ away))]


def _labelled_numbers(variable: Any) -> list[tuple[str, np.ndarray]]:
    """Return label and draws of each number of a variable, labelled as by `arviz.summary`."""
    dims = [name for name in variable.dims if name not in CHAINS]
    values = variable.values.reshape(-1, *variable.shape[2:])
    # xarray numbers the places of a dimension without labels
    labels = [variable[name].values for name in dims]
    result = []
    for index in np.ndindex(*values.shape[1:]):
        label = str(variable.name)
        if index:
            words = ", ".join(str(along[i]) for along, i in zip(labels, index, strict=True))
            label = f"{label}[{words}]"
        result.append((label, values[(slice(None), *index)]))
    return result
