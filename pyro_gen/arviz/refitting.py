"""Cross-validation by fitting a model again without some of its rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.arviz.elpd import (
    NewRow,
    kfold_result,
    log_mean,
    pareto_ks,
    psis_loo,
    threshold,
    with_new_rows,
)
from pyro_gen.arviz.program import Program
from pyro_gen.arviz.rows import ModelRows
from pyro_gen.arviz.unconstrained import Unconstrained

Fit = Callable[[Callable[..., Any], Tensor], Any]
MAX_BRIDGE_STEPS = 1000


def reloo(
    data: Any,
    model: Callable[..., Any],
    *args: Any,
    model_kwargs: Mapping[str, Any] | None = None,
    fit: Fit | None = None,
    num_samples: int = 1000,
    warmup_steps: int = 500,
    loo_orig: Any = None,
    var_name: str | None = None,
    k_threshold: float | None = None,
) -> Any:
    r"""Leave-one-out cross-validation in which the model is fitted again without a row
    of high k.

    The model without row i is the model with that row masked: all shapes stay,
    and latent variables of the row itself come from their prior. With draws of
    both posteriors, :math:`p(y_i \mid y_{-i})` is the ratio of their
    normalising constants, and is estimated by bridge sampling: with s the share
    of the new draws among all draws,

    .. math:: p(y_i \mid y_{-i}) = r = \frac{
        E_{-i}[\, l / (s + (1 - s)\, l / r)]}{E[\, 1 / (s + (1 - s)\, l / r)]},
        \qquad l = p(y_i \mid \theta).

    It has a smaller error than the mean of l over the new draws, the more so
    where the row is influential. Other rows stay as they are.

    Args:
        data: of :func:`from_mcmc`, with the group ``log_likelihood``.
        model: the model of `data`.
        *args: its arguments.
        model_kwargs: its keyword arguments.
        fit: ``fit(model, kept)`` returns draws of the posterior without a row:
            `pyro.infer.MCMC` after `run`, a dictionary of draws (draw, ...), or
            what :func:`from_mcmc` returns. It is handed the model with the row
            masked, which takes the same arguments, and a mask of the rows,
            False at this row, for those who take rows out of their data. None
            runs NUTS from a draw of `data`.
        num_samples: draws of NUTS, where `fit` is None.
        warmup_steps: its steps before them.
        loo_orig: a result of ``arviz.loo(..., pointwise=True)``; None computes
            it.
        var_name: the variable of ``log_likelihood``, if there is more than one.
        k_threshold: Pareto k above which a row is treated; None is
            :math:`\min(1 - 1 / \log_{10} S, 0.7)` with S draws, ``-math.inf``
            refits for each row.

    Returns:
        What `arviz.loo` returns with ``pointwise=True``; ``pareto_k`` of a
        treated row is 0.

    Raises:
        ImportError: if ArviZ is not installed.
        ValueError: if groups are missing, the model is not that of `data`, the
            log likelihood is not defined, or `fit` returns no draws of the
            model's latent sites.

    References:
        A. Vehtari, A. Gelman, J. Gabry, Practical Bayesian model evaluation
        using leave-one-out cross-validation and WAIC, Statistics and Computing
        27, 2017. X.-L. Meng, W. H. Wong, Simulating ratios of normalizing
        constants via a simple identity, Statistica Sinica 6, 1996, equation
        4.1.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro_gen.arviz import from_svi
        >>> def model(y):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", len(y)):
        ...         pyro.sample("y", dist.Normal(mu, 1.0), obs=y)
        >>> def posterior(y):
        ...     precision = torch.tensor(len(y) + 0.01)
        ...     return dist.Normal(y.sum() / precision, precision**-0.5)
        >>> y = torch.tensor([-0.5, 0.3, 0.1, -0.2, 6.0])
        >>> pyro.set_rng_seed(0)
        >>> data = from_svi(model, lambda y: pyro.sample("mu", posterior(y)), y, num_samples=500)
        >>> def fit(model, kept):  # in closed form here, without the rows that are not kept
        ...     return {"mu": posterior(y[kept]).sample((500,))}
        >>> loo = reloo(data, model, y, fit=fit)
        >>> bool((loo.pareto_k <= loo.good_k).all())
        True
    """
    rows = ModelRows(data, Program(model, args, model_kwargs), var_name)
    refit = _Refit(rows, fit, num_samples, warmup_steps)
    if loo_orig is None:
        loo_orig = psis_loo(data, rows.name)
    if k_threshold is None:
        k_threshold = threshold(len(rows.recorded))
    new = {}
    for row in np.flatnonzero(pareto_ks(loo_orig) > k_threshold):
        without = refit(np.array([row]))[:, 0]
        elpd = bridge(without, rows.densities.log_likelihood[:, row])
        new[int(row)] = NewRow(elpd, 0.0)
    return with_new_rows(loo_orig, new, rows.recorded)


def loo_kfold(
    data: Any,
    model: Callable[..., Any],
    *args: Any,
    k: int = 10,
    folds: Sequence[int] | Tensor | np.ndarray | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    fit: Fit | None = None,
    num_samples: int = 1000,
    warmup_steps: int = 500,
    var_name: str | None = None,
) -> Any:
    r"""k-fold cross-validation: the model is fitted again without each of k parts of the rows.

    .. math:: \mathrm{elpd}_i = \log E[p(y_i \mid \theta) \mid y \text{ without the fold of } i]

    Args:
        data: of :func:`from_mcmc`, with the group ``log_likelihood``.
        model: the model of `data`.
        *args: its arguments.
        k: the number of folds of nearly equal sizes, into which rows fall at
            random.
        folds: for each row a whole number, the fold that it belongs to, in
            place of `k`: rows of one group or of one stretch of time belong
            together.
        model_kwargs: keyword arguments of the model.
        fit: as in :func:`reloo`; the mask is False at the rows of the fold.
        num_samples: draws of NUTS, where `fit` is None.
        warmup_steps: its steps before them.
        var_name: the variable of ``log_likelihood``, if there is more than one.

    Returns:
        `arviz_stats.ELPDDataLOOKFold` with ArviZ 1.x. ArviZ 0.2x has no class
        for it: there it is an `arviz.ELPDData` under the names of `arviz.loo`,
        which `arviz.compare` reads.

    Raises:
        ImportError: if ArviZ is not installed.
        ValueError: as :func:`reloo`; or if there are more folds than rows or
            fewer than two, or `folds` has another length.

    References:
        A. Vehtari, A. Gelman, J. Gabry, Practical Bayesian model evaluation
        using leave-one-out cross-validation and WAIC, Statistics and Computing
        27, 2017, section 2.3.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro_gen.arviz import from_svi
        >>> def model(y):
        ...     mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        ...     with pyro.plate("row", len(y)):
        ...         pyro.sample("y", dist.Normal(mu, 1.0), obs=y)
        >>> def posterior(y):
        ...     precision = torch.tensor(len(y) + 0.01)
        ...     return dist.Normal(y.sum() / precision, precision**-0.5)
        >>> y = torch.tensor([-0.5, 0.3, 0.1, -0.2])
        >>> data = from_svi(model, lambda y: pyro.sample("mu", posterior(y)), y, num_samples=50)
        >>> def fit(model, kept):
        ...     return {"mu": posterior(y[kept]).sample((50,))}
        >>> loo_kfold(data, model, y, k=2, fit=fit).n_folds
        2
    """
    rows = ModelRows(data, Program(model, args, model_kwargs), var_name)
    refit = _Refit(rows, fit, num_samples, warmup_steps)
    number = rows.recorded.shape[1]
    labels = _folds(folds, k, number)
    elpd_i = np.zeros(number)
    num_draws = 0
    names = np.unique(labels)
    for name in names:
        members = np.flatnonzero(labels == name)
        log_likelihood = refit(members)
        num_draws = len(log_likelihood)
        elpd_i[members] = log_mean(log_likelihood)
    return kfold_result(data, rows.name, elpd_i, len(names), num_draws)


def _folds(folds: Sequence[int] | Tensor | np.ndarray | None, k: int, number: int) -> np.ndarray:
    """Fold of each row."""
    if folds is None:
        k = whole_number("k", k, 2)
        if k > number:
            raise ValueError(f"`k` must be at most the number of rows, {number}, got {k}")
        return (torch.randperm(number) % k).numpy()
    labels = np.asarray(folds)
    if labels.shape != (number,) or labels.dtype.kind not in "iu" or len(np.unique(labels)) < 2:
        raise ValueError(
            f"`folds` must have a whole number for each of the {number} rows, and at least two "
            f"different ones, got {labels.dtype} of shape {labels.shape} with "
            f"{len(np.unique(labels))} different ones"
        )
    return labels


class _Refit:
    """Draws of the posterior without rows, and the log likelihood of those rows."""

    def __init__(
        self, rows: ModelRows, fit: Fit | None, num_samples: int, warmup_steps: int
    ) -> None:
        self.rows = rows
        self.fit = fit or self._nuts
        self.num_samples = whole_number("num_samples", num_samples)
        self.warmup_steps = whole_number("warmup_steps", warmup_steps, 0)

    def __call__(self, members: np.ndarray) -> np.ndarray:
        """Return the log likelihood (draw, member)."""
        kept = self.rows.kept(members)
        fitted = self.fit(self.rows.model_without(kept), kept)
        draws = self.rows.latent_draws(fitted)
        return self.rows.evaluate(draws).log_likelihood[:, members]

    def _nuts(self, model: Callable[..., Any], kept: Tensor) -> MCMC:
        space = Unconstrained(self.rows.first, self.rows.latent)
        program = self.rows.program
        mcmc = MCMC(
            NUTS(model),
            self.num_samples,
            self.warmup_steps,
            initial_params=space.one(self.rows.draws, -1),
            disable_progbar=True,
        )
        mcmc.run(*program.args, **program.kwargs)
        return mcmc


def bridge(without: np.ndarray, with_row: np.ndarray) -> float:
    """Log predictive density of a row from draws of both posteriors, by bridge sampling.

    Args:
        without: log likelihood of the row, of draws of the posterior without
            it.
        with_row: the same of draws of the posterior with it.
    """
    log_share = math.log(len(without)) - math.log(len(without) + len(with_row))
    log_rest = math.log(len(with_row)) - math.log(len(without) + len(with_row))
    log_ratio = float(log_mean(without))
    for _ in range(MAX_BRIDGE_STEPS):
        above = log_mean(without - np.logaddexp(log_share, log_rest + without - log_ratio))
        below = log_mean(-np.logaddexp(log_share, log_rest + with_row - log_ratio))
        previous = log_ratio
        log_ratio = float(above - below)
        if not abs(log_ratio - previous) > 1e-9:
            break
    return log_ratio
