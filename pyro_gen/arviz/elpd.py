"""Results of cross-validation in the classes of ArviZ 0.2x and 1.x."""

from __future__ import annotations

import math
import warnings
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from pyro_gen.arviz.groups import makes_trees, require

SCALES = {"log": 1.0, "negative_log": -1.0, "deviance": -2.0}


class NewRow(NamedTuple):
    """A row's log predictive density and the Pareto k of its weights, 0 where it has none."""

    elpd: float
    pareto_k: float


def log_mean(log_values: np.ndarray) -> Any:
    """Logarithm of the mean over the first dimension."""
    return np.logaddexp.reduce(log_values, axis=0) - math.log(len(log_values))


def psis_loo(data: Any, var_name: str) -> Any:
    """`arviz.loo`, row by row, without its warning of the rows that are treated here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Estimated shape parameter")
        return require("arviz").loo(data, var_name=var_name, pointwise=True)


def pareto_ks(loo: Any) -> np.ndarray:
    """Pareto k of each row.

    Raises:
        ValueError: if `loo` was not computed row by row.
    """
    if getattr(loo, "pareto_k", None) is None:
        raise ValueError("`loo_orig` must be a result of `arviz.loo(..., pointwise=True)`")
    return np.asarray(loo.pareto_k).reshape(-1)


def threshold(num_draws: int) -> float:
    """Largest Pareto k at which the weights of so many draws can be relied on."""
    if num_draws <= 1:
        return 0.7
    return min(1 - 1 / math.log10(num_draws), 0.7)


def with_new_rows(loo: Any, new: dict[int, NewRow], log_likelihood: np.ndarray) -> Any:
    """Return a copy of a result with some rows replaced.

    Args:
        loo: a result of `arviz.loo`, row by row.
        new: the new rows.
        log_likelihood: of all draws of the posterior, (draw, row), for the
            number of parameters.
    """
    result = deepcopy(loo)
    if not new:
        return result
    trees = makes_trees(require("arviz"))
    rows = list(new)
    scale = SCALES[result.scale]
    name = "elpd_i" if trees else "loo_i"
    elpd_i = np.array(result[name].values, np.float64).reshape(-1)
    elpd_i[rows] = [scale * row.elpd for row in new.values()]
    pareto_k = np.array(pareto_ks(loo), np.float64)
    pareto_k[rows] = [row.pareto_k for row in new.values()]
    result[name] = result[name].copy(data=elpd_i.reshape(result[name].shape))
    result["pareto_k"] = result.pareto_k.copy(data=pareto_k.reshape(result.pareto_k.shape))
    elpd = elpd_i.sum()
    lpd_i = log_mean(log_likelihood)
    parameters = lpd_i - elpd_i / scale
    spread = float(np.sqrt(len(elpd_i) * elpd_i.var()))
    result["se"] = spread
    result["warning"] = bool((pareto_k > result.good_k).any())
    if not trees:
        result["elpd_loo"] = elpd
        result["p_loo"] = parameters.sum()
        return result
    result["elpd"] = elpd
    result["p"] = parameters.sum()
    result["p_loo_i"] = result.elpd_i.copy(data=parameters.reshape(result.elpd_i.shape))
    if result.log_weights is not None:
        # The weights of a new row belong to other draws.
        places = np.unravel_index(rows, result.elpd_i.shape)
        dims = result.elpd_i.dims
        weights = result.log_weights.transpose(*dims, ...).copy()
        weights.values[places] = np.nan
        result["log_weights"] = weights.transpose(*result.log_weights.dims)
    return result


def kfold_result(data: Any, name: str, elpd_i: np.ndarray, k: int, num_draws: int) -> Any:
    """Return the result of k-fold cross-validation.

    ArviZ 0.2x has no class of its own for it: there it is an `ELPDData` under
    the names of `arviz.loo`, which `arviz.compare` reads.

    Args:
        data: with the group ``log_likelihood``.
        name: of the variable.
        elpd_i: log predictive density of each row.
        k: the number of folds.
        num_draws: of each fold.
    """
    variable = data["log_likelihood"][name]
    log_likelihood = np.asarray(variable.values, np.float64)
    log_likelihood = log_likelihood.reshape(-1, elpd_i.size)
    parameters = log_mean(log_likelihood) - elpd_i
    frame = variable.isel(chain=0, draw=0, drop=True)
    spread = float(np.sqrt(elpd_i.size * elpd_i.var()))
    shaped = frame.copy(data=elpd_i.reshape(frame.shape))
    if makes_trees(require("arviz")):
        result_class = require("arviz_stats").utils.ELPDDataLOOKFold
        return result_class(
            elpd=float(elpd_i.sum()),
            se=spread,
            p=float(parameters.sum()),
            n_samples=num_draws,
            n_data_points=elpd_i.size,
            scale="log",
            warning=False,
            good_k=None,
            elpd_i=shaped.rename("elpd_i"),
            n_folds=k,
            p_kfold_i=frame.copy(data=parameters.reshape(frame.shape)).rename("p_kfold_i"),
        )
    entries = {
        "elpd_loo": float(elpd_i.sum()),
        "se": spread,
        "p_loo": float(parameters.sum()),
        "n_samples": num_draws,
        "n_data_points": elpd_i.size,
        "warning": False,
        "loo_i": shaped.rename("loo_i"),
        "scale": "log",
        "good_k": threshold(num_draws),
        "n_folds": k,
    }
    return require("arviz").stats.ELPDData(data=list(entries.values()), index=list(entries))
