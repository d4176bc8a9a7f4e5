"""Runs of `pyro.infer.MCMC` to ArviZ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from pyro_gen._arguments import whole_number
from pyro_gen.arviz.assembly import Arrays, Assembly, Extras, assembled, draws_of
from pyro_gen.arviz.evaluation import Shape, VariableNames, evaluated, shapes_of
from pyro_gen.arviz.groups import Coords, Dims, require
from pyro_gen.arviz.program import Program
from pyro_gen.arviz.sample_stats import recorded


def from_mcmc(
    posterior: Any = None,
    *,
    prior: Arrays | None = None,
    posterior_predictive: Arrays | None = None,
    log_likelihood: VariableNames = None,
    predictions: Arrays | None = None,
    constant_data: Arrays | None = None,
    predictions_constant_data: Arrays | None = None,
    coords: Coords | None = None,
    dims: Dims | None = None,
    pred_dims: Dims | None = None,
    num_chains: int = 1,
    model: Callable[..., Any] | None = None,
    model_args: Sequence[Any] | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    log_prior: bool = True,
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    r"""Hand a run of `pyro.infer.MCMC` to ArviZ; takes all that `arviz.from_pyro` (0.2x) takes.

    The groups are ``posterior`` (draws and `pyro.deterministic` sites),
    ``sample_stats`` (``lp``, ``diverging``, and all that :class:`SampleStats`
    keeps), ``log_likelihood``, ``log_prior``, ``observed_data``, and what is
    handed over. The name of a dimension is the user's, or its plate's, or
    ``<site>_dim_<i>``.

    The log likelihood of each datum given a draw is exact where the model's
    other latents are discrete:

    .. math:: \log p(y_i \mid \theta) = \log \sum_{z_i} p(y_i, z_i \mid \theta)

    Observed sites that share an enumerated latent make one variable, ``"x+y"``,
    of one term for each element of the plates that all of them share. Elements
    under a mask (`poutine.mask`, `.mask`, `obs_mask`), or all NaN under a
    distribution that takes NaN for missing cells, are no data: they are NaN in
    ``observed_data`` and dropped from ``log_likelihood``, whose variable then
    has one dimension ``<site>_datum`` with the old places as coordinates, so
    that `arviz.loo` counts data only. `pyro.factor` is never data; where it
    depends on an enumerated latent it counts as part of that latent's prior.
    What has no right answer is left out with a warning that says why: data that
    share an enumerated latent across all plates, scaled sites, subsampled
    plates, latents that the draws lack and that cannot be enumerated.

    A kernel with chains of its own (`pyro_gen.infer.BlockGibbs`, whose
    `num_chains` lead each draw) gives that many chains.

    Args:
        posterior: `pyro.infer.MCMC` after `run`; None for the predictive groups
            alone.
        prior: draws of `Predictive` without a posterior; data go to
            ``prior_predictive``.
        posterior_predictive: draws of `Predictive` for the posterior: (chain *
            draw, ...).
        log_likelihood: False leaves the group out, names of variables choose;
            None is ArviZ's default, which is True.
        predictions: out-of-sample draws of `Predictive`.
        constant_data: constants by name.
        predictions_constant_data: constants of the predictions by name.
        coords: labels, or a size, for each named dimension; plates are named
            dimensions.
        dims: for each variable the names of its dimensions; None keeps a
            default.
        pred_dims: the same for `predictions`.
        num_chains: chains in the predictive draws where there is no posterior.
        model: the model, if not the kernel's.
        model_args: its arguments, if not those of `run`.
        model_kwargs: its keyword arguments, if not those of `run`.
        log_prior: whether to add this group, the log prior density of each
            drawn site.
        attrs: attributes of the groups, such as the seed.

    Returns:
        `arviz.InferenceData` with ArviZ 0.2x, `xarray.DataTree` with ArviZ 1.x.

    Raises:
        ImportError: if ArviZ is not installed.
        ValueError: if nothing is handed over, the run has no draws,
            `log_likelihood` names what is no data, or `dims` and `coords` do
            not fit.

    References:
        A. Vehtari, A. Gelman, J. Gabry, Practical Bayesian model evaluation
        using leave-one-out cross-validation and WAIC, Statistics and Computing
        27, 2017. R. Kumar et al., ArviZ, Journal of Open Source Software 4(33),
        2019.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro.infer import MCMC, NUTS
        >>> def schools(sigma, effect=None):
        ...     mu = pyro.sample("mu", dist.Normal(0, 5))
        ...     tau = pyro.sample("tau", dist.HalfCauchy(torch.tensor(5.0)))
        ...     with pyro.plate("school", len(sigma)):
        ...         eta = pyro.sample("eta", dist.Normal(0, 1))
        ...         theta = pyro.deterministic("theta", mu + tau * eta)
        ...         pyro.sample("y", dist.Normal(theta, sigma), obs=effect)
        >>> mcmc = MCMC(NUTS(schools), num_samples=20, warmup_steps=20, disable_progbar=True)
        >>> mcmc.run(torch.tensor([15.0, 10.0, 16.0]), torch.tensor([28.0, 8.0, -3.0]))
        >>> data = from_mcmc(mcmc, coords={"school": ["Choate", "Deerfield", "Phillips"]})
        >>> data["posterior"]["theta"].dims, data["log_likelihood"]["y"].sel(school="Choate").shape
        (('chain', 'draw', 'school'), (1, 20))
    """
    require("arviz")
    num_chains = whole_number("num_chains", num_chains)
    extras = Extras(
        prior, posterior_predictive, predictions, constant_data, predictions_constant_data
    )
    if posterior is None:
        if all(extra is None for extra in extras):
            raise ValueError(
                "`from_mcmc` must have at least one of posterior, prior, posterior_predictive, "
                "predictions, "
                "constant_data and predictions_constant_data, got none"
            )
        assembly = Assembly(
            num_chains, draws_of(extras, num_chains), coords, dims, pred_dims, None, attrs
        )
        assembly.add_extras(extras)
        return assembly.result()
    program = _program(posterior, model, model_args, model_kwargs)
    samples = by_chain(posterior, program)
    chains, draws = next(iter(samples.values())).shape[:2]
    evaluation = evaluated(
        program, samples, getattr(posterior, "transforms", None), log_likelihood, log_prior
    )
    stats = recorded(getattr(posterior, "_diagnostics", ()), draws)
    if evaluation is not None and evaluation.log_joint is not None:
        stats = {"lp": evaluation.log_joint.reshape(chains, draws)} | stats
    stats = {name: values for name, values in stats.items() if len(values) == chains}
    return assembled(samples, stats, {}, evaluation, extras, coords, dims, pred_dims, attrs)


def _program(
    posterior: Any,
    model: Callable[..., Any] | None,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
) -> Program | None:
    kernel = getattr(posterior, "kernel", None)
    model = model or getattr(kernel, "model", None)
    if model is None:
        return None
    if args is None:
        args = getattr(posterior, "_args", None)
    if kwargs is None:
        kwargs = getattr(posterior, "_kwargs", None)
    max_plate_nesting = getattr(kernel, "_max_plate_nesting", None)
    return Program(model, args or (), kwargs, max_plate_nesting)


def by_chain(posterior: Any, program: Program | None = None) -> dict[str, Tensor]:
    """Return the draws as (chain, draw, ...), a kernel's own chains among the chains.

    Raises:
        ValueError: if there are no draws.
    """
    if getattr(posterior, "_samples", True) is None:
        raise ValueError("`posterior` must have draws, got one that was not run: call `run` first")
    if not hasattr(posterior, "get_samples"):
        raise ValueError(
            "`posterior` must have `get_samples`, as pyro.infer.MCMC has, "
            f"got {type(posterior).__name__}"
        )
    samples: dict[str, Tensor] = posterior.get_samples(group_by_chain=True)
    if not samples:
        raise ValueError("`posterior` must have draws of at least one site, got none")
    count = getattr(getattr(posterior, "kernel", None), "num_chains", None)
    if isinstance(count, int) and _chains_lead(samples, count, program):
        return {name: values.transpose(1, 2).flatten(0, 1) for name, values in samples.items()}
    return samples


def _chains_lead(samples: Mapping[str, Tensor], count: int, program: Program | None) -> bool:
    """True if each draw begins with the kernel's own chains."""
    if any(values.shape[2:3] != (count,) for values in samples.values()):
        return False
    if program is None:
        return True
    shapes: Mapping[str, Shape] = shapes_of(program.trace({}))
    return all(
        name not in shapes or values.dim() - 2 > shapes[name].ndim
        for name, values in samples.items()
    )
