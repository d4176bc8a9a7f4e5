"""Constant columns: refused by their numbers where a scale is learned for each, taken where it is fixed or shared."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.distributions import Normal

from pyro_gen import models, nn
from pyro_gen.distributions import FixedScaleGaussianConditional, GaussianConditional, GaussianUnits, ReLUUnits, Units
from pyro_gen.models.bayesian_network.gaussian_learning import regression
from tests.real_columns import CONDITIONALS, LEARNED, MODELS, NETWORKS, columns, svi_losses, with_constants


@pytest.mark.parametrize("conditional", LEARNED)
@pytest.mark.parametrize("name", [*NETWORKS, *MODELS])
def test_constant_columns_are_refused_by_their_numbers(name: str, conditional: str) -> None:
    make, distribution = (NETWORKS | MODELS)[name], CONDITIONALS[conditional](1.0)
    with pytest.raises(ValueError, match=r"`x` must vary in every column, got one value in column 1, 4"):
        make(with_constants(columns()), distribution)
    rounding = columns().float()
    rounding[:, 2] = 1e6 + 0.05 * rounding[:, 2]  # neighbouring numbers of float32
    with pytest.raises(ValueError, match="one value in column 2"):
        make(rounding, distribution)


@pytest.mark.parametrize("name", [*NETWORKS, *MODELS])
def test_constant_columns_fit_a_fixed_scale(name: str) -> None:
    x = with_constants(columns())
    distribution = FixedScaleGaussianConditional(0.5)
    model = (NETWORKS | MODELS)[name](x, distribution)
    if name in NETWORKS:
        log_prob = model.eval()().log_prob(x.reshape(len(x), *model.event_shape))
        assert abs((log_prob - Normal(x.mean(0), 0.5).log_prob(x).sum(-1)).mean()) < 0.02
    else:
        assert svi_losses(model, x, 3).isfinite().all()


def test_all_columns_constant_take_the_known_scale_as_their_unit() -> None:
    network = nn.FVSBN.from_data(torch.ones(5, 3), conditional=FixedScaleGaussianConditional(0.2))
    assert network.standard is not None
    torch.testing.assert_close(network.standard.scale, torch.full((3,), 0.2))


@pytest.mark.parametrize("visible", [GaussianUnits(), ReLUUnits()], ids=str)
def test_an_rbm_of_real_units_refuses_constant_columns(visible: Units) -> None:
    with pytest.raises(ValueError, match="one value in column 1, 4: leave such columns out"):
        nn.RBM.from_data(with_constants(columns().abs()), 3, visible_units=visible)


def test_densities_that_refuse_constant_columns_in_their_own_way_name_them_too() -> None:
    x, message = with_constants(columns()), "one value in column 1, 4"
    for covariance in ("full", "tied", "diagonal", "spherical"):
        with pytest.raises(ValueError, match=message):
            models.GaussianMixture.from_data(x, 2, covariance)
    factors = models.FactorAnalysis(6, 2, 60).double()
    for fit in (factors.fit, lambda rows: models.FactorAnalysis.from_data(rows, 2)):
        with pytest.raises(ValueError, match=message):
            fit(x)
    assert models.PPCA.from_data(x, 2).log_likelihood(x).isfinite().all()  # one noise for all columns


def test_cells_of_images_are_named_and_no_more_than_eight() -> None:
    images = torch.rand(9, 4, 5)
    images[:, 0], images[:, 2, 3] = 1.0, 0.0
    names = r"column 0, 1, 2, 3, 4, 13 of the flattened events, the cells \(0, 0\), .*, \(2, 3\)"
    for make in (
        lambda: models.VAE.from_data(images, 2, network="convolutional", likelihood=GaussianConditional()),
        lambda: nn.PixelCNN.from_data(images, 4, 2, conditional=GaussianConditional()),
    ):
        with pytest.raises(ValueError, match=names):
            make()
    with pytest.raises(ValueError, match=r"column 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"):
        nn.FVSBN.from_data(torch.ones(5, 10), conditional=GaussianConditional())


def test_a_refused_start_changes_nothing() -> None:
    network = NETWORKS["MADE"](columns(), GaussianConditional())
    before = copy.deepcopy(network.state_dict())
    for x in (with_constants(columns()), columns() * torch.nan):
        with pytest.raises(ValueError, match="`x` must"):
            network.start_at(x)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_column_constant_within_a_class_is_refused_for_its_own_network() -> None:
    x, y = columns(), torch.arange(60) % 2
    x[y == 1, 3] = 7.0
    with pytest.raises(ValueError, match="one value in column 3"):
        [nn.NADE.from_data(x[y == k], 4, conditional=GaussianConditional()) for k in range(2)]
    assert nn.NADE.from_data(x, 4, context=2, conditional=GaussianConditional()).standard is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gaussian_node_without_residual_is_refused(dtype: torch.dtype) -> None:
    """Of a constant column, of one that rounding alone moves, and of one that its parents give."""
    parent, weights = columns()[:, 0].to(dtype), torch.ones(60).double()
    rounding = torch.full((60,), 1e6, dtype=dtype).mul_(1 + torch.finfo(dtype).eps * (torch.arange(60) % 2).to(dtype))
    root, child = nn.LinearGaussianCPD(), nn.LinearGaussianCPD([0.0])
    for value in (torch.full((60,), 0.1, dtype=dtype), rounding):
        with pytest.raises(ValueError, match="the likelihood of node 'a' has no maximum"):
            regression(root, [], value, weights, "a")
    with pytest.raises(ValueError, match="the likelihood of node 'b' has no maximum"):
        regression(child, [parent], 3 * parent + 1, weights, "b")


def test_ppca_refuses_columns_that_rounding_alone_moves() -> None:
    x = 1e6 + 0.05 * columns().float()
    with pytest.raises(ValueError, match="must vary"):
        models.PPCA(6, 2, 60).fit(x)
