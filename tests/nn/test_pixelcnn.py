"""Images pixel after pixel: what each conditional sees, colours in order, and generation without repetition."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pyro_gen import nn
from pyro_gen.distributions import (
    BernoulliConditional,
    CategoricalConditional,
    Conditional,
    DiscretizedLogisticConditional,
)

CONDITIONALS: dict[str, Conditional] = {
    "Bernoulli": BernoulliConditional(),
    "labels": CategoricalConditional(3),
    "levels": DiscretizedLogisticConditional(3, 2),
}
SHAPES = [(2, 2), (1, 3), (3, 1, 2)]
either = pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])


def images(
    shape: Sequence[int],
    gated: bool,
    layers: int = 3,
    context: int = 0,
    distribution: str = "Bernoulli",
    *,
    first_kernel_size: int = 3,
) -> nn.PixelCNN:
    """A network with random weights in float64."""
    torch.manual_seed(0)
    made = nn.PixelCNN(shape, 9, layers, 3, first_kernel_size, gated, context, CONDITIONALS[distribution]).double()
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return made


def dependence(made: nn.PixelCNN, points: int = 3) -> Tensor:
    """Which distributions (rows) have any derivative in which features (columns), both in the order of generation."""

    def logits(x: Tensor) -> Tensor:
        return made.parameters_of(x.view(1, -1), None)[0, made.order, 0]

    torch.manual_seed(1)
    x = torch.randn(points, made.features, dtype=torch.float64)
    slopes = torch.stack([torch.autograd.functional.jacobian(logits, point) for point in x])
    return (slopes[:, :, made.order] != 0).any(0)


def all_before(features: int) -> Tensor:
    """Every distribution sees every earlier feature."""
    return torch.ones(features, features, dtype=torch.bool).tril(-1)


def test_a_deep_gated_network_sees_every_earlier_pixel_and_no_later_one() -> None:
    assert torch.equal(dependence(images((5, 5), gated=True, layers=4)), all_before(25))
    assert torch.equal(dependence(images((3, 5), gated=True, layers=3, first_kernel_size=5)), all_before(15))


def test_a_shallow_gated_network_sees_no_later_pixel_either() -> None:
    seen = dependence(images((5, 5), gated=True, layers=2))
    assert not (seen & ~all_before(25)).any()
    assert not torch.equal(seen, all_before(25))


def test_the_plain_network_has_a_blind_spot_to_the_upper_right() -> None:
    rows, columns = torch.arange(25) // 5, torch.arange(25) % 5
    up, right = rows[:, None] - rows, columns - columns[:, None]
    reached = all_before(25) & (right <= up)  # one column to the right for each row up
    for layers in (6, 9):
        assert torch.equal(dependence(images((5, 5), gated=False, layers=layers)), reached)
    assert (all_before(25) & ~reached).any()


@either
def test_each_colour_sees_the_colours_before_it_and_all_pixels_before(gated: bool) -> None:
    made = images((3, 2, 2), gated)
    assert made.order.tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert torch.equal(dependence(made), all_before(12))


@either
@pytest.mark.parametrize("distribution", CONDITIONALS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("context", [0, 2])
def test_probabilities_of_tiny_images_sum_to_one(
    gated: bool, distribution: str, shape: tuple[int, ...], context: int
) -> None:
    density = images(shape, gated, 2, context, distribution)(torch.randn(2, 2).double() if context else None)
    total = density.log_prob(density.enumerate_support()).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


@either
@pytest.mark.parametrize("shape", [(3, 4), (3, 3, 2), (4, 2, 1), (1, 5), (5, 1)])
@pytest.mark.parametrize("context", [0, 2])
def test_generation_that_keeps_what_it_computed_draws_what_full_passes_draw(
    gated: bool, shape: tuple[int, ...], context: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = images(shape, gated, 3, context, "labels", first_kernel_size=5)
    density = made(torch.randn(3, 2).double() if context else None)
    torch.manual_seed(2)
    drawn, log_prob = density.sample_and_log_prob((4,))
    torch.testing.assert_close(log_prob, density.log_prob(drawn), rtol=1e-12, atol=1e-12)
    for name in ("first", "after"):
        monkeypatch.setattr(nn.PixelCNN, name, getattr(nn.AutoregressiveNetwork, name))
    torch.manual_seed(2)
    assert torch.equal(density.sample((4,)), drawn)


@either
def test_two_continuations_of_a_beginning_do_not_disturb_each_other(gated: bool) -> None:
    density = images((2, 3, 2), gated)()
    begun = density.start()
    for _ in range(5):
        begun = density.next(begun, torch.tensor(1.0).double())
    finished = []
    for value in (0.0, 1.0, 0.0):
        generation = begun
        while generation.distribution is not None:
            generation = density.next(generation, torch.tensor(value).double())
        torch.testing.assert_close(generation.log_prob, density.log_prob(density.event_of(generation)))
        finished.append(generation.log_prob)
    assert finished[0] == finished[2] != finished[1]


@either
@pytest.mark.parametrize("shape", [(6, 6), (3, 4, 4)])
def test_an_image_is_drawn_with_the_multiplications_of_one_pass(gated: bool, shape: tuple[int, ...]) -> None:
    made = nn.PixelCNN(shape, 12, 4, first_kernel_size=5, gated=gated)
    density, counted = made(), []
    for work in (lambda: density.sample((2,)), lambda: density.log_prob(torch.zeros(2, *shape))):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            work()
        counted.append(counter.get_total_flops())
    assert 0 < counted[0] <= counted[1]  # a full pass a feature would be 36 and 48 times as many


@either
def test_the_context_enters_every_layer(gated: bool) -> None:
    made = images((3, 3), gated, 3, context=2)
    x = (torch.rand(4, 3, 3) < 0.5).double()
    made(torch.randn(4, 2).double()).log_prob(x).sum().backward()
    for layer in made.layers:
        assert layer.from_context.weight.grad.norm() > 0  # type: ignore[union-attr,operator]


def test_a_trained_network_knows_colours_from_the_colours_before_them() -> None:
    pyro.set_rng_seed(0)
    red = (torch.rand(64, 1, 2, 2) < 0.5).float()
    blue = (torch.rand(64, 1, 2, 2) < 0.9).float()
    x = torch.cat([red, 1 - red, blue], 1)  # green is what red is not; blue has nothing to do with them
    made = nn.PixelCNN((3, 2, 2), 12, 2, first_kernel_size=3)

    def model(x: Tensor) -> None:
        pyro.module("images", made)
        with pyro.plate("rows", len(x)):
            pyro.sample("x", made(), obs=x)

    svi = SVI(model, lambda x: None, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    for _ in range(60):
        svi.step(x)
    with torch.no_grad():
        red_nats, green_nats, blue_nats = -made().conditionals(x).log_prob(x).mean((0, 2, 3))
    assert abs(red_nats - math.log(2)) < 0.15
    assert green_nats < 0.05
    assert 0.1 < blue_nats < 0.45  # 0.325 for a fresh coin


def test_a_network_from_data_starts_at_the_marginal_distributions_and_can_leave_them() -> None:
    torch.manual_seed(0)
    x = (torch.rand(400, 3, 1, 2) < torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1)).float()
    made = nn.PixelCNN.from_data(x, 6, 2)
    shares = (x.sum(0) + 1) / 402
    torch.testing.assert_close(made().conditionals(x).probs[0], shares)
    made().log_prob(x).sum().backward()
    assert made.head.out.weight.grad is not None
    assert made.head.out.weight.grad.norm() > 0


def test_the_count_of_parameters_leaves_out_what_the_masks_do() -> None:
    gated = 6 * 8 + 8 + 8 * 8 + 8 + 8 + 4 * 4 + 4  # vertical, link, horizontal (left pixel only), mixed
    head, pixels = 4 * 4 + 4 + 4 + 1, 4
    assert nn.PixelCNN((2, 2), 4, 1, first_kernel_size=3).num_parameters == gated + head + pixels
    assert nn.PixelCNN((2, 2), 4, 1, 3, 3, False).num_parameters == 4 * 4 + 4 + head + pixels


@either
def test_awkward_images_are_served(gated: bool) -> None:
    single = images((1, 1), gated)()
    assert single.log_prob(single.enumerate_support()).exp().sum().item() == pytest.approx(1)
    density = images((3, 2, 2), gated)()
    assert density.sample((0,)).shape == (0, 3, 2, 2)
    assert density.log_prob(torch.zeros(0, 3, 2, 2).double()).shape == (0,)
    x = density.sample((5, 2))
    assert torch.equal(density.log_prob(x.mT.contiguous().mT), density.log_prob(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.PixelCNN((4,)), r"`shape` must be \(rows, columns\) or \(colours, rows, columns\), got \(4,\)"),
        (lambda: nn.PixelCNN((2, 0)), "must be at least 1"),
        (lambda: nn.PixelCNN((2, 2), kernel_size=4), "`kernel_size` must be odd and at least 3, got 4"),
        (lambda: nn.PixelCNN((2, 2), first_kernel_size=1), "`first_kernel_size` must be odd"),
        (lambda: nn.PixelCNN((2, 2), num_layers=0), "`num_layers` must be at least 1, got 0"),
        (lambda: nn.PixelCNN((3, 2, 2), 2), "`hidden_channels` must be at least 3, one a colour, got 2"),
        (lambda: nn.PixelCNN.from_data(torch.zeros(3, 4)), r"`shape` must be .* got \(4,\)"),
        (lambda: nn.PixelCNN((2, 2))().log_prob(torch.full((2, 2), 0.5)), "support"),
        (lambda: nn.PixelCNN((2, 2))().log_prob(torch.full((2, 2), math.nan)), "support"),
    ],
)
def test_what_does_not_fit_is_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
