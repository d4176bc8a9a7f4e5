"""The inverse Wishart distribution against SciPy, its transform against autograd's Jacobian, and under NUTS."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS
from scipy.stats import invwishart
from torch import Tensor

from pyro_gen.distributions import CovarianceTransform, InverseWishart


def scale_of(features: int) -> Tensor:
    root = torch.randn(features, features).double()
    return root @ root.mT + torch.eye(features).double()


@pytest.mark.parametrize("features", [1, 2, 4])
def test_log_density_is_scipy_s(features: int) -> None:
    scale = scale_of(features)
    distribution = InverseWishart(features + 2.5, scale)
    draws = distribution.sample((4,))
    expected = [invwishart(features + 2.5, scale.numpy()).logpdf(x.numpy()) for x in draws]
    torch.testing.assert_close(distribution.log_prob(draws), torch.as_tensor(expected))


def test_draws_have_the_mean_and_its_precision_matrix() -> None:
    # The mean precision of a Wishart distribution is df Psi^-1: 20,000 draws, cells within 5 standard errors, 3e-6 in
    # all.
    scale = scale_of(3)
    distribution = InverseWishart(9.0, scale)
    precision = distribution.sample((20_000,)).inverse()
    error = precision.std(0) / 20_000**0.5
    assert ((precision.mean(0) - 9 * scale.inverse()).abs() < 5 * error).all()
    torch.testing.assert_close(distribution.mean, scale / 5)
    assert InverseWishart(4.0, scale).mean.isinf().all()


@pytest.mark.parametrize("features", [1, 2, 4])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_transform_is_a_bijection_with_its_own_volume(features: int, scaled: bool) -> None:
    transform = CovarianceTransform(torch.rand(features).double() + 0.5 if scaled else None)
    u = torch.randn(features * (features + 1) // 2).double()
    row, column = torch.tril_indices(features, features)
    jacobian = torch.autograd.functional.jacobian(lambda v: transform(v)[row, column], u)
    torch.testing.assert_close(transform.log_abs_det_jacobian(u, transform(u)), jacobian.det().abs().log())
    torch.testing.assert_close(transform.inv(transform(u)), u)
    assert transform.forward_shape((7, len(u))) == (7, features, features)
    assert transform.inverse_shape((7, features, features)) == (7, len(u))


def test_nuts_samples_it() -> None:
    # Mean of log |Sigma| against 20,000 direct draws, with a bound of 6 standard errors of 40 independent ones: 1e-8
    # for 120 draws by NUTS of an effective size of at least a third of their number.
    distribution = InverseWishart(8.0, scale_of(2))
    mcmc = MCMC(NUTS(lambda: pyro.sample("s", distribution)), num_samples=120, warmup_steps=60, disable_progbar=True)
    mcmc.run()
    found, expected = (x.logdet() for x in (mcmc.get_samples()["s"], distribution.sample((20_000,))))
    assert abs(found.mean() - expected.mean()) < 6 * expected.std() / 40**0.5


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"`scale` must have shape \(..., features, features\)"):
        InverseWishart(5.0, torch.ones(2, 3))
    with pytest.raises(ValueError, match="`df` must be above features - 1 = 2"):
        InverseWishart(2.0, torch.eye(3), validate_args=True)
    with pytest.raises(ValueError, match="needs D"):
        CovarianceTransform()(torch.zeros(2))


def test_shapes_follow_from_those_of_the_parameters() -> None:
    for df, scale in (((3,), (3, 2, 2)), ((), (4, 3, 3)), ((5, 1), (2, 2, 2))):
        distribution = InverseWishart(torch.full(df, 4.0), torch.eye(scale[-1]).expand(scale))
        expected = (distribution.batch_shape, distribution.event_shape)
        assert InverseWishart.infer_shapes(df=torch.Size(df), scale=torch.Size(scale)) == expected
