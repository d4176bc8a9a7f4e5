"""The autoregressive networks: normalised, causal, and the same whether a pass is made at once or step by step."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import datasets, nn
from pyro_gen.distributions import (
    Autoregressive,
    BernoulliConditional,
    CategoricalConditional,
    Conditional,
    DiscretizedLogisticConditional,
    GaussianConditional,
    GaussianMixtureConditional,
)
from tests.marks import slow

Maker = Callable[..., nn.AutoregressiveNetwork]


def image(features: int, order: Sequence[int] | None = None, **settings: Any) -> nn.PixelCNN:
    """A PixelCNN whose pixels are laid out as a row of features, in any order: two rows of them, or one."""
    rows = 2 - features % 2
    made = nn.PixelCNN((rows, features // rows), 16, 2, first_kernel_size=3, **settings)
    made.event_shape = torch.Size((features,))
    if order is not None:
        made.order.copy_(torch.tensor(order))
    return made


FAMILIES: dict[str, Maker] = {
    "FVSBN": nn.FVSBN,
    "NADE": lambda features, **settings: nn.NADE(features, 4, **settings),
    "PerConditionalMLP": lambda features, **settings: nn.PerConditionalMLP(features, 3, **settings),
    "PixelCNN": image,
    "PixelCNN-plain": partial(image, gated=False),
    "TabularAR": nn.TabularAR,
    "MADE": lambda features, **settings: nn.MADE(features, [8, 6], activation=torch.tanh, **settings),
    "MADE-narrow": lambda features, **settings: nn.MADE(features, [2], **settings, skip=True),
    "MADE-flat": lambda features, **settings: nn.MADE(features, [], **settings),
    "MADE-masks": lambda features, **settings: nn.MADE(features, [8, 6], activation=torch.tanh, **settings).resample(1),
    "GRU": lambda features, **settings: nn.RecurrentAR(features, 6, 2, **settings),
    "LSTM-shared": lambda features, **settings: nn.RecurrentAR(features, 3, cell="lstm", shared=True, **settings),
    "CausalTransformer": lambda features, **settings: nn.CausalTransformer(features, 4, 2, 2, **settings),
    "CausalTransformer-shared": lambda features, **settings: nn.CausalTransformer(
        features, 4, 1, 1, feedforward=3, shared=True, **settings
    ),
    "DeepNADE": lambda features, **settings: nn.DeepNADE(
        features, (4, 3), activation=torch.tanh, order_agnostic=False, **settings
    ),
}
LEARNERS = ("FVSBN", "TabularAR", "MADE", "NADE")
"""Whose training by SVI `make test` runs; gradients of all are in the conformance suite."""
COARSE = ("FVSBN", "MADE-flat", "MADE-narrow", "CausalTransformer-shared")
"""Which cannot learn every distribution of four bits."""
CONDITIONALS: dict[str, Conditional] = {
    "Bernoulli": BernoulliConditional(),
    "labels": CategoricalConditional((2, 3, 1, 4)),
    "levels": DiscretizedLogisticConditional(3, 2),
    "Gaussian": GaussianConditional(),
    "mixture": GaussianMixtureConditional(2),
}
ORDER = (2, 0, 3, 1)
every_family = pytest.mark.parametrize("family", FAMILIES)
every_distribution = pytest.mark.parametrize("distribution", CONDITIONALS)


def network(
    family: str,
    distribution: str = "Bernoulli",
    *,
    features: int = 4,
    context: int = 0,
    order: Sequence[int] | None = ORDER,
) -> nn.AutoregressiveNetwork:
    """One with random weights in float64."""
    torch.manual_seed(0)
    if family == "TabularAR" and distribution not in ("Bernoulli", "labels"):
        pytest.skip("tables are for labels")
    made = FAMILIES[family](features, context=context, order=order, conditional=CONDITIONALS[distribution]).double()
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.2 if CONDITIONALS[distribution].num_states(4) is None else 0.5)
    return made


def values(density: Autoregressive, rows: int = 5) -> Tensor:
    """Some draws."""
    torch.manual_seed(1)
    return density.sample((rows,))


@every_family
@pytest.mark.parametrize("distribution", ["Bernoulli", "labels", "levels"])
@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("order", [None, ORDER])
def test_probabilities_sum_to_one(family: str, distribution: str, context: int, order: Sequence[int] | None) -> None:
    made = network(family, distribution, context=context, order=order)
    density = made(torch.randn(2, 3, dtype=torch.float64) if context else None)
    total = density.log_prob(density.enumerate_support()).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


@pytest.mark.parametrize("distribution", ["Gaussian", "mixture"])
@pytest.mark.parametrize("family", ["FVSBN", *slow("NADE", "PerConditionalMLP")])
def test_densities_integrate_to_one(family: str, distribution: str) -> None:
    made = network(family, distribution, features=2, order=(1, 0))
    axis = torch.linspace(-40, 40, 1001, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    total = torch.cat([made().log_prob(part).exp() for part in grid.split(10**5)]).sum() * (axis[1] - axis[0]) ** 2
    assert abs(total.item() - 1) < 1e-6


@every_family
@every_distribution
def test_a_distribution_depends_on_nothing_that_comes_later(family: str, distribution: str) -> None:
    made = network(family, distribution, context=2)
    x = values(made(torch.zeros(2, dtype=torch.float64)), 1)
    context = torch.randn(1, 2, dtype=torch.float64)

    def parameters(value: Tensor) -> Tensor:
        return made.parameters_of(value, context)

    states = CONDITIONALS[distribution].num_states(4)
    for copied in (made, copy.deepcopy(made), reloaded(made, family, distribution)):
        made = copied
        before = parameters(x)
        for place, feature in enumerate(ORDER):
            other = x.clone()
            other[0, feature] = x[0, feature] + 1.5 if states is None else (x[0, feature] + 1) % states[feature]
            after = parameters(other)
            earlier, later = list(ORDER[: place + 1]), list(ORDER[place + 1 :])
            assert torch.equal(after[:, earlier], before[:, earlier])
            if later and not torch.equal(other, x):
                assert (after[:, later] != before[:, later]).any()


@every_family
def test_gradients_by_what_comes_later_are_exactly_zero(family: str) -> None:
    made = network(family, "Gaussian", context=2)
    x = values(made(torch.zeros(2, dtype=torch.float64)), 1)
    context = torch.randn(1, 2, dtype=torch.float64)
    slopes = torch.autograd.functional.jacobian(lambda value: made.parameters_of(value, context), x)
    depends = torch.as_tensor(slopes).ne(0).any(2)[0, :, 0]  # distribution, feature
    places = torch.tensor(ORDER).argsort()
    assert not depends[places.unsqueeze(1) <= places].any()
    assert depends[places.unsqueeze(1) > places].any()


def reloaded(made: nn.AutoregressiveNetwork, family: str, distribution: str) -> nn.AutoregressiveNetwork:
    """Another network of the kind, in another order, given the first one's state."""
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    order = None if family != "TabularAR" else ORDER  # tables of unequal sizes fit one order only
    other = network(family, distribution, context=made.context, order=order)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


@every_family
@every_distribution
@pytest.mark.parametrize("context", [0, 2])
def test_generation_step_by_step_is_a_full_pass_a_feature(
    family: str, distribution: str, context: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    density = network(family, distribution, context=context)(
        torch.randn(3, 2, dtype=torch.float64) if context else None
    )
    torch.manual_seed(2)
    drawn, log_prob = density.sample_and_log_prob((50,))
    torch.testing.assert_close(log_prob, density.log_prob(drawn), rtol=1e-12, atol=1e-12)
    if family == "TabularAR":
        return  # it has no pass over all features that could stand in
    for name in ("first", "after"):
        monkeypatch.setattr(type(density.conditioner), name, getattr(nn.AutoregressiveNetwork, name))
    torch.manual_seed(2)
    torch.testing.assert_close(density.sample((50,)), drawn, rtol=1e-12, atol=1e-12)


@every_family
def test_a_reader_may_settle_features_and_draw_others(family: str) -> None:
    density = network(family)()
    generation = density.start((200,))
    assert generation.position == 0
    for _ in range(2):
        generation = density.next(generation, torch.ones(200, dtype=torch.float64))
    while generation.distribution is not None:
        generation = density.next(generation)
    x = density.event_of(generation)
    assert x[:, list(ORDER[:2])].eq(1).all()
    assert 0 < x[:, list(ORDER[2:])].mean() < 1
    torch.testing.assert_close(generation.log_prob, density.log_prob(x))
    with pytest.raises(ValueError, match="all 4 features have been generated"):
        density.next(generation)
    with pytest.raises(ValueError, match="`value` must lie in"):
        density.next(density.start(), torch.tensor(0.5))
    with pytest.raises(ValueError, match="4 of 4 features are still missing"):
        density.event_of(density.start())


@every_family
@every_distribution
def test_single_distributions_multiply_to_the_whole(family: str, distribution: str) -> None:
    density = network(family, distribution)()
    x = values(density)
    torch.testing.assert_close(density.conditionals(x).log_prob(x).sum(-1), density.log_prob(x))


def test_draws_of_gaussians_are_differentiable() -> None:
    made = network("FVSBN", "Gaussian")
    torch.manual_seed(0)
    sample = made().rsample((100,))
    sample.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
    assert not made().sample((2,)).requires_grad
    with pytest.raises(NotImplementedError, match="BernoulliConditional"):
        network("FVSBN")().rsample()


@pytest.mark.parametrize(
    ("made", "count"),
    [
        (nn.TabularAR(6), 2**6 - 1),
        (nn.TabularAR(3, conditional=CategoricalConditional((2, 3, 4))), 23),
        (nn.FVSBN(6), 6 * 7 // 2),
        (nn.FVSBN(6, 2), 21 + 12),
        (nn.NADE(6, 4), 5 * 4 + 6 * 4 + 4 + 6),
        (nn.NADE(6, 4, 2, conditional=CategoricalConditional(3)), 5 * 12 + 6 * 12 + 4 + 18 + 2 * (4 + 18)),
        (nn.PerConditionalMLP(6, 4), 4 * 15 + 6 * (4 + 4 + 1)),
    ],
)
def test_numbers_of_parameters_are_those_of_the_notes(made: nn.AutoregressiveNetwork, count: int) -> None:
    assert made.num_parameters == count


def test_tables_of_data_are_its_shares() -> None:
    torch.manual_seed(0)
    x = (torch.rand(400, 3) < 0.3).double()
    x[:, 1] = x[:, 0]
    density = nn.TabularAR.from_data(x, order=(1, 2, 0)).double()()
    ones = x[:, 1].sum()
    first = torch.log((ones + 1) / 402)  # one more of each value
    both = x[x[:, 1] == 1][:, 2].sum()
    second = torch.log((both + 1) / (ones + 2))
    third = torch.log((both + 1) / (both + 2))
    expected = first + second + third
    torch.testing.assert_close(density.log_prob(torch.ones(3).double()), expected, rtol=1e-6, atol=1e-6)


def test_labels_of_data_make_tables_too() -> None:
    x = torch.tensor([[0, 2], [0, 2], [0, 1], [1, 0]])
    density = nn.TabularAR.from_data(x, conditional=CategoricalConditional((2, 3))).double()()
    expected = torch.tensor([4 / 6 * 1 / 6, 4 / 6 * 2 / 6, 4 / 6 * 3 / 6, 2 / 6 * 2 / 4, 2 / 6 / 4, 2 / 6 / 4])
    torch.testing.assert_close(density.log_prob(density.enumerate_support()).exp(), expected.double())


@pytest.mark.parametrize("distribution", ["Bernoulli", "labels", "levels", "Gaussian", "mixture"])
def test_a_network_from_data_starts_at_the_marginal_distributions(distribution: str) -> None:
    torch.manual_seed(0)
    conditional = DiscretizedLogisticConditional(256, 3) if distribution == "levels" else CONDITIONALS[distribution]
    x = torch.randn(20_000, 4).double() * torch.tensor([4.0, 8, 12, 16]) + 100
    if distribution in ("Bernoulli", "labels"):
        states = conditional.num_states(4) or ()
        x = torch.stack([torch.randint(k, (20_000,)).minimum(torch.randint(k, (20_000,))) for k in states], -1)
    made = nn.FVSBN.from_data(x.round() if distribution == "levels" else x, order=ORDER, conditional=conditional)
    drawn, x = made().sample((20_000,)).double(), x.double()
    error = (2 * x.var(0) / 20_000).sqrt()
    assert ((drawn.mean(0) - x.mean(0)).abs() <= 5 * error).all()  # four comparisons at 5 sd: 2e-6 for a fresh seed
    torch.testing.assert_close(drawn.std(0), x.std(0), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    "family",
    ["FVSBN", "TabularAR", "MADE", "NADE", *slow(*sorted(FAMILIES.keys() - {"FVSBN", "TabularAR", "MADE", "NADE"}))],
)
def test_svi_with_an_empty_guide_is_maximum_likelihood(family: str) -> None:
    pyro.set_rng_seed(0)
    x = datasets.bars_and_stripes(2, 2).double().repeat(10, 1)
    made = network(family)

    def model(batch: Tensor) -> None:
        pyro.module("density", made)
        with pyro.plate("rows", len(x), subsample=batch):
            pyro.sample("x", made(), obs=batch)

    rate = 0.02 if "Transformer" in family or family == "PixelCNN" else 0.1  # many layers: larger steps wander
    svi = SVI(model, lambda batch: None, pyro.optim.Adam({"lr": rate}), Trace_ELBO())
    for _ in range(300):
        svi.step(x)
    reached = made().log_prob(x).mean().item()
    best = -math.log(6)  # six patterns, equally often
    assert reached <= best
    # A sum of single features cannot tell [0, 0, 1, 1] from [0, 1, 0, 1]; tables and hidden units can.
    assert reached > (best - 0.5 if family in COARSE else best - 0.05)


@pytest.mark.parametrize("family", [family for family in FAMILIES if "PixelCNN" not in family])
def test_events_may_have_any_shape(family: str) -> None:
    flat = network(family)
    shaped = FAMILIES[family]((2, 2), context=0, order=ORDER).double()
    shaped.load_state_dict(flat.state_dict())
    x = shaped().enumerate_support()
    assert x.shape == (16, 2, 2)
    assert shaped().sample((3,)).shape == (3, 2, 2)
    torch.testing.assert_close(shaped().log_prob(x), flat().log_prob(x.flatten(1)))


def test_too_many_states_are_said_to_be_so() -> None:
    with pytest.raises(NotImplementedError, match=r"2\^2000.0 states are too many to list"):
        nn.NADE(2000, 1)().entropy()


def test_one_feature_and_no_rows_are_served() -> None:
    for family in FAMILIES:
        made = network(family, features=1, order=None)
        assert made().log_prob(made().enumerate_support()).exp().sum().item() == pytest.approx(1)
        assert made().sample((0,)).shape == (0, 1)
        assert made().log_prob(torch.zeros(0, 1, dtype=torch.float64)).shape == (0,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.FVSBN(0), "`features` must be at least 1, got 0"),
        (lambda: nn.FVSBN(3, -1), "`context` must be at least 0, got -1"),
        (lambda: nn.FVSBN(3, order=(0, 1, 1)), r"`order` must hold each of 0 ... 2 once, got \[0, 1, 1\]"),
        (lambda: nn.FVSBN(3, order=(0, 1)), "`order`"),
        (lambda: nn.FVSBN(3, order=torch.tensor([0, 1.5, 2])), r"`order` must hold .* got \[0.0, 1.5, 2.0\]"),
        (lambda: nn.NADE(3, 4, cast(Any, (0, 1, 2))), r"`context` must be a whole number .* got \(0, 1, 2\)"),
        (
            lambda: nn.NADE(3, 4, conditional=cast(Any, "Gaussian")),
            "`conditional` must be a distribution .* got 'Gaussian'",
        ),
        (lambda: nn.FVSBN(3, conditional=CategoricalConditional((2, 2))), "`num_states` must hold 3 numbers"),
        (lambda: CategoricalConditional((2, 0)), "`num_states` must be"),
        (lambda: DiscretizedLogisticConditional(1), "`num_levels` must be at least 2"),
        (lambda: GaussianMixtureConditional(0), "`components` must be at least 1, got 0"),
        (lambda: nn.NADE(3, 0), "`hidden_features` must be at least 1, got 0"),
        (lambda: nn.PerConditionalMLP(3, 0), "`hidden_features` must be at least 1, got 0"),
        (lambda: nn.TabularAR(40), "the limit is 4194304; FVSBN and NADE need no table"),
        (lambda: nn.TabularAR(3, conditional=GaussianConditional()), "must be Bernoulli or categorical"),
        (lambda: nn.FVSBN(3)(torch.zeros(2)), "`context` must be None, as this network takes no context"),
        (lambda: nn.FVSBN(3, 2)(None), r"`context` must have shape \(..., 2\), got None"),
        (lambda: nn.FVSBN(3, 2)(torch.zeros(3)), r"`context` must have shape \(..., 2\), got \(3,\)"),
        (lambda: nn.FVSBN(3, 2)(cast(Any, [0.0, 1.0])), "`context` must be a tensor, got list"),
        (lambda: nn.FVSBN(3)().next(nn.FVSBN(3)().start((5,)), torch.ones(4)), r"`value` must have shape \(5,\)"),
        (lambda: nn.FVSBN(3)().log_prob(torch.full((3,), 0.5)), r"support \(OfEach\(Boolean\(\)\)\)"),
        (lambda: nn.FVSBN(3)().log_prob(torch.full((3,), math.nan)), "support"),
        (lambda: nn.FVSBN.from_data(torch.zeros(0, 3)), "`x` must hold rows of data"),
        (lambda: nn.FVSBN.from_data(torch.full((2, 3), math.nan)), "`x` must lie in the support of the distributions"),
        (lambda: nn.FVSBN.from_data(torch.full((2, 3), 3), 0, None, CategoricalConditional(3)), r"Labels\(\(3, 3, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
