"""Converter of the output of `pyro.infer.Predictive`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyro_gen._arguments import whole_number
from pyro_gen.arviz.assembly import Arrays, Assembly, Extras, draws_of
from pyro_gen.arviz.evaluation import sites_only
from pyro_gen.arviz.groups import Coords, Dims, require
from pyro_gen.arviz.program import Program


def from_predictive(
    posterior_predictive: Arrays | None = None,
    *,
    prior: Arrays | None = None,
    predictions: Arrays | None = None,
    model: Callable[..., Any] | None = None,
    model_args: Sequence[Any] = (),
    model_kwargs: Mapping[str, Any] | None = None,
    constant_data: Arrays | None = None,
    predictions_constant_data: Arrays | None = None,
    coords: Coords | None = None,
    dims: Dims | None = None,
    pred_dims: Dims | None = None,
    num_chains: int = 1,
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    """Hand draws of `pyro.infer.Predictive` to ArviZ, without the posterior they belong to.

    With a model, its plates name the dimensions, its data become ``observed_data`` (posterior
    predictive plots ask for it), draws from the prior are split into ``prior`` and, where they are
    data of the model, ``prior_predictive``, and the dimensions of size 1 that `Predictive` puts
    between draws and sites outside of plates go.

    Args:
        posterior_predictive: draws for the posterior, each (draws, ...); all sites that are handed
            over are kept.
        prior: draws without a posterior.
        predictions: draws for other data.
        model: the model.
        model_args: its arguments, with the data.
        model_kwargs: its keyword arguments.
        constant_data: constants.
        predictions_constant_data: constants of the predictions.
        coords: labels, or a size, for each named dimension.
        dims: names of dimensions.
        pred_dims: names of dimensions of `predictions`.
        num_chains: chains that the draws consist of, one after the other.
        attrs: attributes of the groups.

    Returns:
        `arviz.InferenceData` with ArviZ 0.2x, `xarray.DataTree` with ArviZ 1.x.

    Raises:
        ImportError: if ArviZ is not installed.
        ValueError: if there are no draws, or names do not fit.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro.infer import Predictive
        >>> def model(y=None):
        ...     x = pyro.sample("x", dist.Normal(0.0, 1.0))
        ...     with pyro.plate("row", 3):
        ...         pyro.sample("y", dist.Normal(x, 1.0), obs=y)
        >>> draws = Predictive(model, num_samples=50)()
        >>> data = from_predictive(prior=draws, model=model, model_args=[torch.zeros(3)])
        >>> data["prior"]["x"].shape, data["prior_predictive"]["y"].dims
        ((1, 50), ('chain', 'draw', 'row'))
        >>> data["observed_data"]["y"].dims
        ('row',)
    """
    require("arviz")
    extras = Extras(
        prior, posterior_predictive, predictions, constant_data, predictions_constant_data
    )
    if not any(extras[:3]):
        raise ValueError(
            "`from_predictive` must have draws as posterior_predictive, prior or predictions, "
            "got none"
        )
    num_chains = whole_number("num_chains", num_chains)
    evaluation = None
    if model is not None:
        evaluation = sites_only(Program(model, model_args, model_kwargs))
    assembly = Assembly(
        num_chains, draws_of(extras, num_chains), coords, dims, pred_dims, evaluation, attrs
    )
    assembly.add_observed()
    assembly.add_extras(extras)
    return assembly.result()
