"""Row by row bounds from any model and guide, and what they refuse."""

from __future__ import annotations

from typing import cast

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

from pyro_gen.distributions import RBM
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.infer import ContrastiveDivergence, Exact, lower_bound, row_weights

X = torch.tensor([0.3, -1.0, 2.0])


def model(x: Tensor, size: int = 3) -> None:
    with pyro.plate("rows", size, subsample=x):
        z = pyro.sample("z", dist.Bernoulli(0.3))
        pyro.sample("x", dist.Normal(2 * z, 1.0), obs=x)


def guide(x: Tensor, size: int = 3) -> None:
    with pyro.plate("rows", size, subsample=x):
        pyro.sample("z", dist.Bernoulli(0.5))


def exact(x: Tensor) -> Tensor:
    return (0.7 * dist.Normal(0.0, 1.0).log_prob(x).exp() + 0.3 * dist.Normal(2.0, 1.0).log_prob(x).exp()).log()


@pytest.mark.smoke
def test_the_importance_weighted_bound_tends_to_the_log_likelihood() -> None:
    # With 20,000 particles the relative error of each mean weight is below 0.01.
    bound = lower_bound(model, guide, X, num_particles=20_000)
    torch.testing.assert_close(bound.tighter, exact(X), atol=0.05, rtol=0)
    assert (bound.rows < exact(X)).all()
    assert bound.partition_error == 0


@pytest.mark.filterwarnings("ignore:the importance weights")  # of five particles
def test_the_bound_is_below_for_few_particles_and_rises_with_them() -> None:
    # 4000 copies of each row: standard errors below 0.01.
    rows = X.repeat(4000)
    few, more = (
        lower_bound(lambda x: model(x, 12_000), lambda x: guide(x, 12_000), rows, k, None, 3000) for k in (1, 5)
    )
    assert few.value == pytest.approx(few.tighter_value)
    assert few.tighter_value < more.tighter_value < exact(X).mean().item() + 0.03
    assert few.sampling_error != few.sampling_error  # one particle says nothing of its spread


def test_rows_are_weighed_without_the_plate_s_scale_and_masks_are_kept() -> None:
    def masked(x: Tensor) -> None:
        with poutine.mask(mask=cast(torch.BoolTensor, torch.tensor([True, True, False]))):
            model(x, 30)

    found = row_weights(masked, lambda x: guide(x, 30), 4, X)
    assert found.scale == 10
    assert found.log_joint.shape == found.log_guide.shape == (4, 3)
    assert (found.log_joint[:, 2] == 0).all()


def test_a_factor_outside_the_plate_is_kept_apart() -> None:
    def penalised(x: Tensor) -> None:
        pyro.factor("prior", torch.tensor(-2.5))
        model(x)

    found = row_weights(penalised, guide, 4, X)
    assert found.rest.item() == pytest.approx(-2.5)


def test_latent_sites_outside_the_plate_are_refused() -> None:
    def loose(x: Tensor) -> None:
        pyro.sample("w", dist.Normal(0.0, 1.0))
        model(x)

    def loose_guide(x: Tensor) -> None:
        pyro.sample("w", dist.Normal(0.0, 1.0))
        guide(x)

    with pytest.raises(ValueError, match="'w' must stand in the plate"):
        row_weights(loose, loose_guide, 2, X)


def test_a_latent_rbm_under_contrastive_divergence_is_refused() -> None:
    def prior(partition: ContrastiveDivergence | Exact) -> None:
        rbm = RBM(torch.zeros(4, 3), torch.zeros(4), torch.zeros(3), partition)

        def program(x: Tensor) -> None:
            with pyro.plate("rows", 3):
                h = pyro.sample("h", rbm)
                pyro.sample("x", dist.Normal(h.sum(-1), 1.0), obs=x)

        def recognition(x: Tensor) -> None:
            with pyro.plate("rows", 3):
                pyro.sample("h", dist.Bernoulli(torch.full((4,), 0.5)).to_event(1))

        row_weights(program, recognition, 2, X)

    prior(Exact())
    with pytest.raises(ValueError, match="contrastive divergence"):
        prior(ContrastiveDivergence())


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="num_particles"):
        lower_bound(model, guide, X, num_particles=0)
    with pytest.raises(ValueError, match="at least one row"):
        lower_bound(model, guide, X[:0])


def test_another_log_z_shifts_the_bounds() -> None:
    z = Estimate(torch.tensor(3.0), torch.tensor(0.1), torch.tensor(50.0), "AIS")
    bound = lower_bound(model, guide, X, 1, lambda: z)
    shifted = bound.against(torch.tensor(3.5))
    assert shifted.value == pytest.approx(bound.value - 0.5)
    assert shifted.tighter_value == pytest.approx(bound.tighter_value - 0.5)
    assert "log Z +/- 0.10" in str(bound)
    with pytest.raises(ValueError, match="normalised by itself"):
        lower_bound(model, guide, X, 1).against(torch.tensor(1.0))


def test_the_sampling_error_is_that_of_the_mean_bound() -> None:
    """A fair coin as guide: the log weight of each row has two values, half their difference apart from the mean."""
    bound = lower_bound(model, guide, X, num_particles=20_000)
    on, off = (torch.tensor(p).log() + dist.Normal(loc, 1.0).log_prob(X) for p, loc in ((0.3, 2.0), (0.7, 0.0)))
    variance = ((on - off) / 2).square()
    assert bound.sampling_error == pytest.approx((variance.sum() / 20_000).sqrt().item() / 3, rel=1e-3)
    assert bound.row_error == pytest.approx(bound.rows.std().item() / 3**0.5)
