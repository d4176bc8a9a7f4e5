"""A model with values put in for its latent sites: the log probability of each of its factors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.distributions.util import scale_and_mask
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.distributions import constraints

Model = Callable[..., Any]
Values = Mapping[str, Tensor]
Site = Mapping[str, Any]

CHAINS = "_pyro_gen_chains"
"""Name of the plate in which a model runs for many chains at once."""

BOUNDED = (
    *(
        constraints.integer_interval,
        constraints.interval,
        constraints.half_open_interval,
        constraints.multinomial,
    ),
    *(constraints.greater_than, constraints.greater_than_eq, constraints.less_than),
    *(type(constraints.nonnegative_integer), type(constraints.boolean)),
)
"""Supports whose bounds may depend on other sites, unlike a normal's or a Dirichlet's."""


class ConditionedModel:
    """A model whose other sites keep the values of a dictionary, read again at every run.

    Args:
        model: a Pyro program.
        values: the values; the owner of the dictionary changes it between runs.
    """

    def __init__(self, model: Model, values: dict[str, Tensor]) -> None:
        self.model = model
        self.values = values

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        with poutine.condition(data=self.values):
            return self.model(*args, **kwargs)


class Joint:
    """A model with its arguments.

    Args:
        model: a Pyro program.
        args: its arguments.
        kwargs: its named arguments.
        num_chains: run it inside an outermost plate of so many chains; None for one
            chain without a plate.
    """

    def __init__(
        self,
        model: Model,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        num_chains: int | None = None,
    ) -> None:
        self.args = args
        self.kwargs = dict(kwargs)
        self.num_chains = num_chains
        self.model = model
        # Batch dimensions of each site without the plate of chains.
        self.batches: dict[str, int] = {}
        if num_chains is not None:
            plate = pyro.plate(CHAINS, num_chains, dim=-1 - self._nesting())
            self.model = plate(model)

    def _nesting(self) -> int:
        """Number of batch dimensions that plates or batched distributions take up."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            sites = sample_sites(self.trace({}))
        self.batches = {k: len(site["fn"].batch_shape) for k, site in sites.items()}
        depths = [0, *self.batches.values()]
        for site in sites.values():
            depths += [-frame.dim for frame in plates(site).values()]
        return max(depths)

    def trace(self, values: Values, model: Model | None = None) -> poutine.Trace:
        """Run the model with values put in; sites without a value are drawn.

        Args:
            values: by site.
            model: another form of the model, such as one with an initialisation.

        Returns:
            The trace.
        """
        condition = poutine.condition(data=dict(values))
        with poutine.block(), poutine.trace() as tracer, condition:
            (model or self.model)(*self.args, **self.kwargs)
        return tracer.trace

    def factors(self, values: Values, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Log probabilities of sites, masked and scaled as Pyro does, -inf outside a support.

        Args:
            values: of all latent sites.
            names: sites; None for all.

        Returns:
            By site, with the batch shape of the site.

        Raises:
            ValueError: the run has a latent site without a value.
        """
        # Values outside a support are states of probability zero here.
        with pyro.validation_enabled(False):
            sites = sample_sites(self.trace(values))
            if unknown := [k for k in latent_names(sites) if k not in values]:
                raise ValueError(
                    "`model` must have the same latent sites in every run, "
                    f"got {unknown} besides {sorted(values)}"
                )
            return {
                name: log_prob(site, name in values)
                for name, site in sites.items()
                if names is None or name in names
            }

    def log_prob(self, values: Values) -> Tensor:
        """The joint log probability in nats, in double precision.

        Args:
            values: of all latent sites.

        Returns:
            A number.
        """
        return sum(
            (factor.double().sum() for factor in self.factors(values).values()),
            torch.zeros(()).double(),
        )


def sample_sites(trace: poutine.Trace) -> dict[str, Site]:
    """The sites that have a log probability: neither subsamples nor deterministic ones."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and not isinstance(site["fn"], _Subsample)
        and not (site["infer"] or {}).get("_deterministic")
    }


def latent_names(sites: Mapping[str, Site]) -> list[str]:
    """The sites that are not observed."""
    return [name for name, site in sites.items() if not site["is_observed"]]


def check_plates(trace: poutine.Trace) -> None:
    """Raise for minibatches: every sweep must use the same rows."""
    for name, site in trace.nodes.items():
        distribution = site.get("fn")
        if (
            site["type"] == "sample"
            and isinstance(distribution, _Subsample)
            and (distribution.subsample_size or distribution.size) < distribution.size
        ):
            if site["value"] is not None and site["is_observed"]:
                continue
            raise ValueError(
                f"plate `{name}` must not be subsampled in MCMC, "
                f"got {distribution.subsample_size} "
                f"of {distribution.size} elements"
            )


def plates(site: Site) -> dict[str, Any]:
    """The vectorised plates that a site is in, by name."""
    return {frame.name: frame for frame in site["cond_indep_stack"] if frame.vectorized}


def log_prob(site: Site, is_latent: bool) -> Tensor:
    """Log probability of a site, with its mask and scale, -inf outside its support.

    Args:
        site: of a trace.
        is_latent: whether its value is sampled; then a mask does not hide values
            outside the support.

    Returns:
        Nats, of the batch shape.
    """
    value = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    inside = _inside(site)
    if not is_latent:
        value = scale_and_mask(_only(value, inside), site["scale"], site["mask"])
        return torch.as_tensor(value)
    return _only(scale_and_mask(value, site["scale"], site["mask"]), inside)


def _only(value: Tensor, inside: Tensor | None) -> Tensor:
    return value if inside is None else torch.where(inside, value, -torch.inf)


def _inside(site: Site) -> Tensor | None:
    """Mask of values in supports whose bounds may have moved; None for all others."""
    distribution, cells = unwrap(site["fn"])
    try:
        support = distribution.support
    except (NotImplementedError, AttributeError):
        return None
    if not isinstance(support, BOUNDED):
        return None
    inside: Tensor = support.check(site["value"])
    if cells:
        inside = inside.flatten(-cells).all(-1)
    return inside


def unwrap(distribution: Any) -> tuple[Any, int]:
    """Distribution of a single cell, and how many batch dimensions ``to_event`` took."""
    cells = 0
    wrappers = dist.Independent, dist.MaskedDistribution, ExpandedDistribution
    while isinstance(distribution, wrappers):
        if isinstance(distribution, dist.Independent):
            cells += distribution.reinterpreted_batch_ndims
        distribution = distribution.base_dist
    return distribution, cells


__all__ = [
    "CHAINS",
    "ConditionedModel",
    "Joint",
    "Model",
    "Site",
    "Values",
    "check_plates",
    "latent_names",
    "log_prob",
    "plates",
    "sample_sites",
    "unwrap",
]
