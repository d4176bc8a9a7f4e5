"""What the priors of mixtures add to counts: rates of columns, and sticks of a Dirichlet process."""

from __future__ import annotations

import pytest
import torch
from pyro.infer import TraceEnum_ELBO

from pyro_gen.models import BernoulliMixture, CategoricalMixture
from pyro_gen.models.mixture.base import Objective
from pyro_gen.models.mixture.weights import conditional_draw
from tests.models.mixture.test_mixture import binary, clusters, holes


def test_the_prior_of_discrete_mixtures_is_at_the_rates_of_the_observed_cells() -> None:
    x = holes(binary())
    by_hand = []
    for column in x.mT:
        seen = column[~column.isnan()]
        by_hand.append([1 + 3 * ((seen == value).sum() + 0.5) / (len(seen) + 1) for value in (0, 1)])
    for family in (BernoulliMixture, CategoricalMixture):
        alpha = family.from_data(x, 2, smoothing=3.0).alpha
        torch.testing.assert_close(alpha, torch.tensor(by_hand).to(alpha))


@pytest.mark.parametrize("objective", ["posterior", "likelihood"])
def test_em_of_a_process_ends_where_the_gradient_is_zero(objective: Objective) -> None:
    x = clusters()
    mixture = BernoulliMixture.from_data(x, 3, weights="dirichlet process", concentration=3.0, guide="delta")
    assert mixture.fit(x, objective=objective, num_starts=1, tolerance=1e-14).converged
    loss = -mixture.log_likelihood(x).sum()
    if objective == "posterior":
        loss = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(mixture.model, mixture.guide, x)
    [gradient] = torch.autograd.grad(loss, [mixture.location["sticks"]])
    assert gradient.abs().max() < 1e-2


def test_sticks_given_counts_have_the_means_of_their_beta_distributions() -> None:
    # Means of 1000 independent draws, two of them, within 5 standard errors: 1e-6.
    draws = torch.stack(
        [conditional_draw(torch.tensor([2.0, 5.0, 1.0]), "dirichlet process", torch.tensor(0.5)) for _ in range(1000)]
    )
    expected = torch.tensor([3 / (3 + 6.5), 6 / (6 + 1.5)])
    assert ((draws.mean(0) - expected).abs() < 5 * draws.std(0) / 1000**0.5).all()
