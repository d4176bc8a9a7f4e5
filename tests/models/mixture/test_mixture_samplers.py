"""Draws of the same posterior by NUTS and by Gibbs sweeps, labels put in order."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide.initialization import init_to_value
from torch import Tensor

from pyro_gen.distributions import Estimate
from pyro_gen.infer import expectation, order_components, permute_draws
from pyro_gen.models import GaussianMixture
from tests.models.mixture.test_mixture import table

SITES = {"weights": 2, "locs": 2, "covariances": 2}


def means(draws: dict[str, Tensor]) -> dict[str, Estimate]:
    """Posterior means of all sites, the component of the lower mean first; of variances the logarithms."""
    own = permute_draws({name: draws[name] for name in SITES}, order_components(draws["locs"][..., 0]), SITES)
    own["covariances"] = own["covariances"].log()
    return {name: expectation(lambda value: value, value) for name, value in own.items()}


@pytest.mark.slow
def test_nuts_and_gibbs_agree_on_every_mean_once_labels_are_in_order() -> None:
    # Six means of 200 draws by NUTS and 2000 by Gibbs, apart by less than 6 of their joint standard errors; these are
    # estimates, good to a fifth, so that 5 are certain: 4e-6 in all.
    x = table(12)[:, :1]
    mixture = GaussianMixture.from_data(x, 2, "spherical", df=8.0, kappa=0.5, concentration=3.0)
    # From the point that k-means++ found: Pyro's own starts are near 0, fifty deviations from these data.
    start = {name: value.detach() for name, value in mixture.point().items()}
    kernel = NUTS(mixture.marginal, init_strategy=init_to_value(values=start))
    mcmc = MCMC(kernel, num_samples=200, warmup_steps=100, disable_progbar=True)
    mcmc.run(x)
    by_nuts, by_gibbs = means(mcmc.get_samples(group_by_chain=True)), means(mixture.gibbs(x, 1000, num_chains=2))
    for name, nuts in by_nuts.items():
        gibbs = by_gibbs[name]
        error = (nuts.standard_error.square() + gibbs.standard_error.square()).sqrt()
        assert ((nuts.value - gibbs.value).abs() < 6 * error).all()


def test_chains_of_sweeps_keep_what_they_are_told_to() -> None:
    mixture = GaussianMixture.from_data(table(), 2)
    pyro.set_rng_seed(1)
    every = mixture.gibbs(table(), 7)
    pyro.set_rng_seed(1)
    kept = mixture.gibbs(table(), 2, warmup_steps=1, thin=3)
    assert {name: value.shape for name, value in kept.items()} == {
        "covariances": (1, 2, 2, 2, 2),
        "locs": (1, 2, 2, 2),
        "weights": (1, 2, 2),
        "z": (1, 2, 12),
    }
    for name, value in kept.items():
        assert torch.equal(value, every[name][:, [3, 6]])
    for settings in ({"num_samples": 0}, {"num_samples": 1, "warmup_steps": -1}, {"num_samples": 1, "thin": 0}):
        with pytest.raises(ValueError, match=f"`{[*settings][-1]}`"):
            mixture.gibbs(table(), **settings)
