"""MADE: its masks, its units' degrees, and sets of masks as densities."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from pyro_gen import nn
from pyro_gen.distributions import CategoricalConditional, GaussianConditional
from pyro_gen.nn.autoregressive.made import features_unseen


def random(made: nn.MADE) -> nn.MADE:
    """The network with random weights in float64."""
    torch.manual_seed(0)
    for p in made.double().parameters():
        torch.nn.init.normal_(p)
    return made


narrow = pytest.mark.filterwarnings("ignore:`hidden_features`:UserWarning")


@narrow
@pytest.mark.parametrize(
    ("hidden", "degrees"),
    [
        ([4], ((1, 2, 3, 4),)),
        ([8], ((1, 1, 2, 2, 3, 3, 4, 4),)),
        ([2], ((2, 4),)),
        ([1], ((3,),)),
        ([2, 3], ((2, 4), (2, 3, 4))),  # a unit of degree 1 above units of degrees 2 and 4 would see nothing
        ([], ()),
    ],
)
def test_degrees_are_spread_evenly(hidden: Sequence[int], degrees: object) -> None:
    assert nn.MADE(5, hidden).degrees == degrees


def test_units_of_degree_zero_see_the_context_and_are_there_only_with_one() -> None:
    assert nn.MADE(3, [3], context=2).degrees == ((0, 1, 2),)
    assert nn.MADE(1, [3]).degrees == ((0, 0, 0),)
    for seed in range(20):
        assert min(nn.MADE(3, [3, 3]).resample(seed).degrees[0]) >= 1


@narrow
def test_no_hidden_unit_of_random_masks_sees_nothing() -> None:
    for seed in range(20):
        made = nn.MADE(6, [3, 4, 5]).resample(seed)
        assert all(mask.any(0).all() for mask in made.masks()[:-1])


@narrow
@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("context", [0, 2])
@pytest.mark.parametrize("hidden", [[1], [2], [5], [6], [3, 5], [6, 2], [2, 7, 3], [6, 6, 6]])
def test_features_unseen_are_those_that_no_path_of_the_masks_leads_from(
    hidden: list[int], context: int, seed: int | None
) -> None:
    made = nn.MADE(6, hidden, context).resample(seed)
    paths = made.masks()[0].double()
    for mask in made.masks()[1:]:
        paths = paths @ mask.double()
    expected = [int((paths[:place, place] == 0).sum()) for place in range(6)]
    assert features_unseen(6, made.degrees) == expected


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(("features", "context"), [(1, 0), (2, 0), (2, 3), (7, 0), (7, 2), (40, 0), (40, 1)])
def test_the_narrowest_layers_that_see_everything_do_not_warn(features: int, context: int, layers: int) -> None:
    width = max(features - (0 if context else 1), 1)
    nn.MADE(features, [width] * layers, context)  # warnings are errors here
    if width > 1 and features > 2:
        with pytest.warns(UserWarning, match=rf"are too narrow .*; layers of at least {width} units"):
            nn.MADE(features, [width] * (layers - 1) + [width - 1], context)


def test_the_warning_counts_what_is_not_seen_and_direct_weights_see_all() -> None:
    with pytest.warns(
        UserWarning, match=r"2 of the conditionals do not .*, that at place 1 on 0 of 1; layers of at least 4"
    ):
        made = nn.MADE(5, [2], activation=torch.tanh)
    x = torch.rand(1, 5)
    depends = torch.autograd.functional.jacobian(lambda value: made.parameters_of(value, None), x)
    assert torch.as_tensor(depends)[0, :, 0, 0].ne(0).sum(1).tolist() == [0, 0, 2, 2, 4]
    nn.MADE(5, [2], skip=True)
    nn.MADE(5, [])
    with pytest.warns(UserWarning, match="too narrow for 500 features"):
        nn.MADE.from_data(torch.zeros(3, 500), [100])


@pytest.mark.parametrize("activation", [torch.relu, torch.tanh])
def test_a_pass_is_the_formula_of_the_paper(activation: Callable[[Tensor], Tensor]) -> None:
    made = random(nn.MADE(4, [5, 3], activation=activation, skip=True))
    assert made.output is not None
    assert made.direct is not None
    assert made.bias is not None
    x = torch.randn(7, 4).double()
    before, hidden = [1, 2, 3, 4], x
    for weight, bias, degrees in zip(made.weights, made.hidden_biases, made.degrees, strict=True):
        mask = torch.tensor([[m <= n for n in degrees] for m in before])
        hidden = activation(hidden @ (weight * mask) + bias)
        before = list(degrees)
    above = torch.tensor([[m < k for k in (1, 2, 3, 4)] for m in before])
    direct = torch.tensor([[i < k for k in range(4)] for i in range(4)])
    expected = hidden @ (made.output * above) + x @ (made.direct * direct) + made.bias[:, 0]
    torch.testing.assert_close(made.parameters_of(x, None)[..., 0], expected)


@pytest.mark.parametrize(
    ("made", "count"),
    [
        (nn.MADE(4, [3]), 6 + 6 + 3 + 4),  # unit m has m weights from below and 4 - m to above, m = 1, 2, 3
        (nn.MADE(4, [3], skip=True), 19 + 6),
        (nn.MADE(4, [3, 3]), 19 + 6 + 3),
        (nn.MADE(4, []), 4 * 5 // 2),
        (nn.MADE(1, [3]), 3 + 3 + 1),  # a constant through three units, which see nothing
        (nn.MADE(3, [2], conditional=CategoricalConditional((2, 3, 2))), 9 + 9 + 2 + 9),
        (nn.MADE(3, [2], conditional=GaussianConditional()), 3 + 6 + 2 + 6),
        (nn.MADE(2, [2], context=3), (0 + 1) + (2 + 1) + 2 + 2 + 3 * 2 + 3 * 2),
    ],
)
def test_what_the_masks_rule_out_is_not_counted(made: nn.MADE, count: int) -> None:
    assert made.num_parameters == count


def test_counted_parameters_are_those_that_matter() -> None:
    made = random(nn.MADE(5, [7, 6], conditional=GaussianConditional(), activation=torch.tanh, skip=True))
    x = torch.randn(50, 5).double()
    made.parameters_of(x, None).square().sum().backward()
    assert sum(int(p.grad.ne(0).sum()) for p in made.parameters() if p.grad is not None) == made.num_parameters


def test_a_set_of_masks_is_a_density_of_its_own() -> None:
    made = random(nn.MADE(4, [6]))
    x = made().enumerate_support()
    even, first = made().log_prob(x), made.masked(1)().log_prob(x)
    assert torch.equal(made().log_prob(x), even)  # the view has left the network as it was
    assert torch.equal(made.resample(1)().log_prob(x), first)
    assert not torch.equal(made.resample(2)().log_prob(x), first)
    assert torch.equal(made.resample(1)().log_prob(x), first)
    assert torch.equal(made.resample(None)().log_prob(x), even)
    torch.testing.assert_close(first.exp().sum().item(), 1.0)


def test_an_ensemble_of_masks_averages_their_probabilities() -> None:
    made = random(nn.MADE(4, [6, 5]))
    ensemble = nn.AutoregressiveEnsemble([made.masked(seed) for seed in (None, 1, 2)])
    x = made().enumerate_support()
    expected = torch.stack([made.masked(seed)().log_prob(x).exp() for seed in (None, 1, 2)]).mean(0)
    torch.testing.assert_close(ensemble().log_prob(x).exp(), expected)
    assert expected.sum().item() == pytest.approx(1, abs=1e-12)
    assert ensemble.num_parameters == max(made.masked(seed).num_parameters for seed in (None, 1, 2))
    assert {id(p) for p in ensemble.parameters()} == {id(p) for p in made.parameters()}  # no weight of its own


def test_views_share_weights_and_learn_together() -> None:
    made = random(nn.MADE(4, [6]))
    views = [made.masked(seed) for seed in range(3)]
    x = torch.ones(1, 4).double()
    before = [view().log_prob(x).item() for view in views]
    torch.stack([view().log_prob(x) for view in views]).sum().backward()
    with torch.no_grad():
        for p in made.parameters():
            assert p.grad is not None
            p.add_(p.grad, alpha=0.001)
    assert all(view().log_prob(x).item() > old for view, old in zip(views, before, strict=True))


def test_masks_travel_with_the_state_and_with_copies() -> None:
    made = random(nn.MADE(4, [6, 5])).resample(3)
    x = made().sample((8,))
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    other = nn.MADE(4, [6, 5]).double()
    other.load_state_dict(torch.load(file, weights_only=True))
    for again in (other, copy.deepcopy(made), made.to(torch.float64)):
        assert again.degrees == made.degrees
        assert torch.equal(again().log_prob(x), made().log_prob(x))
    with pytest.raises(ValueError, match="the state must hold 11 degrees below 4"):
        made.set_extra_state(torch.tensor([1, 2]))


def test_infinite_weights_behind_a_mask_do_no_harm() -> None:
    made = random(nn.MADE(3, [4], skip=True))
    x = made().enumerate_support()
    expected = made().log_prob(x)
    assert made.output is not None
    assert made.direct is not None
    with torch.no_grad():
        for weight, mask in zip([*made.weights, made.output], made.masks(), strict=True):
            weight.masked_fill_(~mask, torch.inf)
        made.direct[2, 0] = torch.nan
    assert torch.equal(made().log_prob(x), expected)


def test_a_layer_without_units_is_refused() -> None:
    with pytest.raises(ValueError, match="`hidden_features` must be at least 1, got 0"):
        nn.MADE(4, [3, 0])


def test_masks_are_kept_until_the_degrees_change() -> None:
    made = nn.MADE(5, [7])
    first, other = made.masks(), made.masked(seed=1)
    assert made.masks() is first
    assert other.masks() is not first
    assert made.masks() is first  # the view has its own
    made.resample(1)
    for mine, its in zip(made.masks(), other.masks(), strict=True):
        assert torch.equal(mine, its)
    made.load_state_dict(nn.MADE(5, [7]).state_dict())
    for mine, its in zip(made.masks(), first, strict=True):
        assert torch.equal(mine, its)
