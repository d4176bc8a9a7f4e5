"""What the tests of the ArviZ bridge share: a kernel that draws from the prior, and readers of both lines' results."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.infer import MCMC
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # once a day ArviZ 0.23 announces 1.0
    import arviz

TREES = int(arviz.__version__.split(".")[0]) >= 1

__all__ = ["TREES", "PriorKernel", "arviz", "groups_of", "loo", "prior_run", "quietly", "values"]


class PriorKernel(MCMCKernel):
    """Draws the named latents from the prior: the cheapest kernel with a model, and one without divergences."""

    transforms: Mapping[str, Any] = {}

    def __init__(self, model: Callable[..., Any], sites: tuple[str, ...]) -> None:
        self.model, self.sites = model, sites
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[str, Any] = {}

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        self._args, self._kwargs = args, kwargs

    @property
    def initial_params(self) -> dict[str, Tensor]:
        return self.sample({})

    @initial_params.setter
    def initial_params(self, params: dict[str, Tensor]) -> None:
        """Draws from the prior start nowhere."""

    def sample(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        with pyro.validation_enabled(False), poutine.block():
            nodes: dict[str, Any] = poutine.trace(self.model).get_trace(*self._args, **self._kwargs).nodes
        return {name: nodes[name]["value"].detach() for name in self.sites}

    def logging(self) -> dict[str, str]:
        return {}


def prior_run(model: Callable[..., Any], sites: str, *args: Any, draws: int = 6, seed: int = 0, **kwargs: Any) -> MCMC:
    """A run of `PriorKernel` on the sites, named in one string."""
    pyro.set_rng_seed(seed)
    mcmc = MCMC(PriorKernel(model, tuple(sites.split())), num_samples=draws, warmup_steps=0, disable_progbar=True)
    mcmc.run(*args, **kwargs)
    return mcmc


def groups_of(data: Any) -> set[str]:
    """The names of the groups."""
    return set(data.children) if TREES else set(data.groups())


def values(data: Any, group: str, name: str) -> np.ndarray:
    """A variable as an array."""
    return np.asarray(data[group][name].values)


def quietly(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a function of ArviZ, whose remarks on short runs are not the matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def loo(data: Any, **kwargs: Any) -> Any:
    """`arviz.loo` without its remarks on the tails of short runs."""
    return quietly(arviz.loo, data, **kwargs)


def draws(mcmc: MCMC, name: str) -> Tensor:
    """The draws of a site, (draw, ...)."""
    samples: Tensor = mcmc.get_samples()[name]
    return torch.as_tensor(samples)
