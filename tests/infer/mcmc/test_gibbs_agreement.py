"""Eight schools: Gibbs and NUTS against means by quadrature, and so against each other.

The model and the data are those of posteriordb's "eight_schools-eight_schools_noncentered". Given the deviation tau all
else is normal, so that a grid of tau gives the reference means to eight digits, where posteriordb's are draws.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS
from pyro.infer.reparam import LocScaleReparam
from scipy.stats import t as student_t
from torch import Tensor

from pyro_gen.infer import CustomGibbs, Gibbs, expectation

SIGMA = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18]).double()
EFFECT = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12]).double()
FIVE = torch.tensor(5.0).double()


def schools() -> None:
    mu = pyro.sample("mu", dist.Normal(0.0 * FIVE, FIVE))
    tau = pyro.sample("tau", dist.HalfCauchy(FIVE))
    with pyro.plate("school", 8):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, SIGMA), obs=EFFECT)


def reference() -> dict[str, Tensor]:
    """E[mu], E[tau] and E[theta] by the midpoint rule in log tau."""
    log_tau = torch.linspace(-12, 9, 20_001).double()
    tau = log_tau.exp()
    precision = 1 / (SIGMA**2 + tau[:, None] ** 2)  # of each effect about mu
    total = precision.sum(1) + 1 / 25
    mean = (precision * EFFECT).sum(1) / total
    evidence = (precision.log().sum(1) - total.log() - (precision * EFFECT**2).sum(1) + total * mean**2) / 2
    weight = (evidence + dist.HalfCauchy(FIVE).log_prob(tau) + log_tau).softmax(0)
    shrunk = (EFFECT * tau[:, None] ** 2 + mean[:, None] * SIGMA**2) * precision
    return {"mu": weight @ mean, "tau": weight @ tau, "theta": weight @ shrunk}


def draw_theta(values: Mapping[str, Tensor]) -> Tensor:
    spread = (SIGMA**-2 + values["tau"] ** -2) ** -0.5
    return dist.Normal((EFFECT / SIGMA**2 + values["mu"] / values["tau"] ** 2) * spread**2, spread).sample()


def draw_mu(values: Mapping[str, Tensor]) -> Tensor:
    precision = 8 / values["tau"] ** 2 + 1 / 25
    mean = values["theta"].sum(-1, keepdim=True) / values["tau"] ** 2 / precision
    return dist.Normal(mean, precision**-0.5).sample()


def draw_tau(values: Mapping[str, Tensor]) -> Tensor:
    """A half-Cauchy is a mixture of inverse gammas: draw the one, then the variance (Wand and others, 2011)."""
    tau = values["tau"]
    one = dist.InverseGamma(torch.ones_like(tau), 1 / 25 + tau**-2).sample()
    squares = (values["theta"] - values["mu"]).square().sum(-1, keepdim=True)
    return dist.InverseGamma(torch.full_like(tau, 4.5), squares / 2 + 1 / one).sample().sqrt()


def check(draws: Mapping[str, Tensor]) -> None:
    """Ten means within Student's 1 - 1e-6 quantile of their own error bars; false alarm 1e-5 for a fresh seed."""
    exact = reference()
    for name in exact:
        mean, error, size, _ = expectation(lambda v: v, draws[name])
        bound = torch.as_tensor(student_t.isf(5e-7, size.numpy() - 1)) * error
        assert ((mean.view_as(exact[name]) - exact[name]).abs() < bound.view_as(exact[name])).all(), name
        assert (error < 0.3 * draws[name].std()).all()  # it would see an error of a third of the posterior's spread


def test_the_reference_is_that_of_posteriordb() -> None:
    """Its draws have the means 4.4 and 3.6."""
    exact = reference()
    assert abs(exact["mu"] - 4.4) < 0.1
    assert abs(exact["tau"] - 3.6) < 0.1


def test_gibbs_of_eight_schools_has_the_reference_means() -> None:
    pyro.set_rng_seed(1)
    blocks = [(CustomGibbs(draw_theta), "theta"), (CustomGibbs(draw_mu), "mu"), (CustomGibbs(draw_tau), "tau")]
    mcmc = MCMC(Gibbs(blocks, schools, num_chains=500), 200, 200, disable_progbar=True)
    mcmc.run()
    check({name: value.transpose(0, 1) for name, value in mcmc.get_samples().items()})  # (chain, draw, ...)


@pytest.mark.slow
def test_nuts_of_eight_schools_has_the_reference_means() -> None:
    pyro.set_rng_seed(2)
    model = poutine.reparam(schools, config={"theta": LocScaleReparam(0.0)})
    mcmc = MCMC(NUTS(model, max_tree_depth=4), 250, 100, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples(group_by_chain=True)
    theta = draws["mu"].unsqueeze(-1) + draws["tau"].unsqueeze(-1) * draws["theta_decentered"]
    check({"mu": draws["mu"], "tau": draws["tau"], "theta": theta})
