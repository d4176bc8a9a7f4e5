"""Unit types one by one: cumulants, means and draws against sums and integrals, far tails included."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor

from pyro_gen.distributions import (
    BernoulliUnits,
    GaussianUnits,
    MultinomialUnits,
    NReLUUnits,
    PottsUnits,
    ReLUUnits,
    SpinUnits,
    UnitLayer,
    Units,
)
from pyro_gen.distributions.energy.two_layers import fine_uniforms
from pyro_gen.distributions.units.special import (
    half_line_mean,
    half_line_quantile,
    log_half_line,
    stepped_cumulant,
    stepped_energy,
    stepped_mean,
)
from pyro_gen.testing import goodness_of_fit, state_index
from tests.kernels.oracle import P_LIMIT

FINITE: dict[str, tuple[Units, int]] = {
    "Bernoulli": (BernoulliUnits(), 3),
    "spin": (SpinUnits(), 3),
    "Potts": (PottsUnits(3), 6),
    "one site": (PottsUnits(5), 5),
    "multinomial": (MultinomialUnits(4), 3),
    "one word": (MultinomialUnits(1), 4),
}
ANY = FINITE | {"Gaussian": (GaussianUnits(0.7), 4), "ReLU": (ReLUUnits(-0.4), 4), "NReLU": (NReLUUnits(), 4)}


def fields(units: int, rows: int = 5, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(rows, units, dtype=torch.float64)


def states(name: str) -> Tensor:
    units, width = FINITE[name]
    number = units.count_states(width)
    assert number is not None
    return units.states(torch.arange(number), width, torch.zeros((), dtype=torch.float64))


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", FINITE)
def test_cumulant_and_mean_are_sums_over_the_states(name: str) -> None:
    (units, width), x = FINITE[name], states(name)
    f = fields(width)
    terms = -units.energy(x, f.unsqueeze(-2))
    close(units.cumulant(f), terms.logsumexp(-1))
    close(units.mean(f), terms.softmax(-1) @ x)
    close(UnitLayer(f, units).log_prob(x.unsqueeze(1)).logsumexp(0), torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize("name", FINITE)
def test_the_states_are_those_of_the_support_each_once(name: str) -> None:
    (units, width), x = FINITE[name], states(name)
    assert len(torch.unique(x, dim=0)) == len(x)
    assert units.support.check(x).all()
    values = torch.cartesian_prod(*[x.unique()] * width)
    assert int(units.support.check(values).sum()) == len(x)


def test_the_states_of_documents_are_all_compositions() -> None:
    for total, words in ((1, 1), (5, 1), (1, 5), (3, 4), (6, 3)):
        units = MultinomialUnits(total)
        number = units.count_states(words)
        assert number == math.comb(total + words - 1, words - 1)
        x = units.states(torch.arange(number), words, torch.zeros(()))
        assert (x.sum(-1) == total).all()
        assert len(torch.unique(x, dim=0)) == number


def test_a_vector_of_counts_stands_for_all_orders_of_its_words() -> None:
    f, x = fields(3, 1)[0], states("multinomial")
    orders = torch.cartesian_prod(*[torch.arange(3)] * 4)
    each = f.log_softmax(-1)[orders].sum(-1)
    counts = torch.nn.functional.one_hot(orders, 3).sum(1).double()
    index = state_index(counts, x)
    expected = torch.zeros(len(x), dtype=torch.float64).index_add(0, index, each.exp())
    close(UnitLayer(f, MultinomialUnits(4)).log_prob(x).exp(), expected)


@pytest.mark.parametrize("name", ANY)
def test_the_gradient_of_the_cumulant_is_the_mean(name: str) -> None:
    units, width = ANY[name]
    f = fields(width, scale=4.0)
    f[0] = 0
    f.requires_grad_()
    (gradient,) = torch.autograd.grad(units.cumulant(f).sum(), f)
    close(gradient, units.mean(f.detach()), 1e-10)
    assert torch.autograd.gradcheck(units.cumulant, (f,))
    assert torch.autograd.gradgradcheck(units.cumulant, (f,))


@pytest.mark.parametrize("name", FINITE)
def test_draws_follow_their_distribution(name: str) -> None:
    """Goodness of fit with 50,000 draws, from torch's generator and from keyed uniforms."""
    (units, width), x, n = FINITE[name], states(name), 50_000
    f = fields(width, 1, 1.0)[0]
    uniform = fine_uniforms(3, n, 0, f)(0, 0, units.num_uniforms(width))
    distribution = UnitLayer(f, units).log_prob(x).exp()
    for drawn in (UnitLayer(f, units).sample((n,)), units.draw(f.expand(n, width), uniform)):
        counts = torch.bincount(state_index(drawn, x), minlength=len(x))
        assert goodness_of_fit(counts, distribution) > P_LIMIT


CONTINUOUS_FIELDS = [-300.0, -40.0, -6.0, -4.9, -0.5, 0.0, 1.0, 7.0, 60.0]


@pytest.mark.parametrize("log_precision", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("units", [GaussianUnits, ReLUUnits])
def test_densities_integrate_to_one_with_the_mean_of_the_field(
    units: Callable[[float], Units], log_precision: float
) -> None:
    for f in (-8.0, -1.0, 0.0, 2.0, 6.0):
        field = torch.tensor([f], dtype=torch.float64)
        distribution = UnitLayer(field, units(log_precision))

        def density(x: float, distribution: UnitLayer = distribution) -> float:
            return distribution.log_prob(torch.tensor([x], dtype=torch.float64)).exp().item()

        scale = math.exp(-log_precision / 2)
        centre = f * scale**2
        low = centre - 12 * scale if units is GaussianUnits else 0.0
        high = max(centre, 0.0) + 12 * scale
        inside = [min(max(centre, low), high)]
        total, _ = integrate.quad(density, low, high, points=inside, epsabs=1e-11)
        mean, _ = integrate.quad(lambda x: x * density(x), low, high, points=inside, epsabs=1e-11)
        assert total == pytest.approx(1, abs=1e-9)
        assert distribution.mean.item() == pytest.approx(mean, abs=1e-8)


def test_half_line_functions_keep_their_digits_in_both_tails() -> None:
    """Against 40 digits; the closed forms lose all of them below -20."""
    with mp.workdps(40):
        for t in CONTINUOUS_FIELDS:
            x = torch.tensor(t, dtype=torch.float64, requires_grad=True)
            hazard = mp.npdf(t) / mp.ncdf(t)
            log_integral = mp.mpf(t) ** 2 / 2 + mp.log(mp.sqrt(2 * mp.pi)) + mp.log(mp.ncdf(t))
            value = log_half_line(x)
            assert value.item() == pytest.approx(float(log_integral), rel=1e-13)
            (slope,) = torch.autograd.grad(value, x, create_graph=True)
            assert slope.item() == pytest.approx(float(t + hazard), rel=1e-9)
            assert half_line_mean(x).item() == pytest.approx(float(t + hazard), rel=1e-12)
            (curvature,) = torch.autograd.grad(slope, x)
            assert curvature.item() == pytest.approx(float(1 - hazard * (t + hazard)), rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_half_line_functions_are_finite_everywhere(dtype: torch.dtype) -> None:
    t = torch.tensor([-1e18, -1e9, -1e4, -5.0, 0.0, 1e4, 1e9], dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(log_half_line(t).sum(), t)
    for x in (log_half_line(t), half_line_mean(t), slope):
        assert x.isfinite().all()
    assert (half_line_mean(t) > 0).all()
    close(half_line_mean(t)[:3] * -t[:3], torch.ones(3, dtype=dtype), 1e-5)


def test_half_line_quantiles_invert_the_survival_function() -> None:
    survival = torch.tensor([2.0**-49, 1e-9, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9, 1 - 2.0**-48], dtype=torch.float64)
    for t in CONTINUOUS_FIELDS:
        x = half_line_quantile(torch.full_like(survival, t), survival)
        assert (x >= 0).all()
        log_tail = special.log_ndtr(t - x.numpy()) - special.log_ndtr(t)
        assert np.allclose(np.exp(log_tail), survival.numpy(), rtol=1e-7, atol=2e-15), t


@pytest.mark.parametrize("field", [-30.0, -2.0, 0.0, 3.0])
@pytest.mark.parametrize("keyed", [False, True])
def test_continuous_draws_follow_their_distribution(field: float, keyed: bool) -> None:
    """Kolmogorov-Smirnov with 50,000 draws, p above 1e-7."""
    n = 50_000
    f = torch.full((n, 1), field, dtype=torch.float64)
    uniform = fine_uniforms(5, n, 0, f)(0, 0, 1)
    for units in (GaussianUnits(0.6), ReLUUnits(0.6)):
        drawn = units.draw(f, uniform) if keyed else UnitLayer(f[:1], units).sample((n,))
        scale = math.exp(-0.3)
        loc = field * scale**2
        x = drawn.flatten().numpy()
        if isinstance(units, GaussianUnits):
            shape = stats.norm(loc, scale).cdf
            assert stats.kstest(x, shape).pvalue > P_LIMIT
        else:
            survival = np.exp(special.log_ndtr((loc - x) / scale) - special.log_ndtr(loc / scale))
            assert stats.kstest(survival, "uniform").pvalue > P_LIMIT


def brute_stepped(f: float, power: int = 0) -> mp.mpf:
    """Sum over the counts of n^power exp(f n - n^2 / 2) / (q; q)_n at 60 digits."""
    total, factorial = mp.mpf(0), mp.mpf(1)
    for n in range(600):
        factorial *= 1 - mp.exp(-n) if n else 1
        total += mp.mpf(n) ** power * mp.exp(mp.mpf(f) * n - mp.mpf(n) ** 2 / 2) / factorial
    return total


@pytest.mark.parametrize("f", [-30.0, -2.5, -1e-9, 0.0, 1e-9, 0.3, 4.5, 5.0, 37.2, 300.0])
def test_stepped_sigmoids_are_copies_of_binary_units(f: float) -> None:
    """The product over copies, the sum over counts (Euler) and the code's closed form (Jacobi) are one number."""
    with mp.workdps(60):
        copies = mp.fsum(mp.log1p(mp.exp(f - i + mp.mpf(1) / 2)) for i in range(1, 600))
        rates = mp.fsum(1 / (1 + mp.exp(-(f - i + mp.mpf(1) / 2))) for i in range(1, 600))
        assert float(copies) == pytest.approx(float(mp.log(brute_stepped(f))), rel=1e-14)
        assert float(rates) == pytest.approx(float(brute_stepped(f, 1) / brute_stepped(f)), rel=1e-14)
    x = torch.tensor(f, dtype=torch.float64)
    assert stepped_cumulant(x).item() == pytest.approx(float(copies), rel=1e-13)
    assert stepped_mean(x).item() == pytest.approx(float(rates), rel=1e-13)


@pytest.mark.parametrize("f", [-3.0, 0.0, 0.5, 3.3, 50.0, 1e6])
def test_stepped_counts_follow_their_distribution(f: float) -> None:
    """Goodness of fit of 50,000 draws over the counts around the mean, the rest in one cell."""
    n = 50_000
    field = torch.full((n, 1), f, dtype=torch.float64)
    drawn = NReLUUnits().draw(field, fine_uniforms(1, n, 0, field)(0, 0, 1)).flatten()
    first = max(0, int(f) - 6)
    counts = torch.arange(first, first + 14, dtype=torch.float64)
    distribution = (counts * f - stepped_energy(counts) - stepped_cumulant(torch.tensor(f, dtype=torch.float64))).exp()
    if f < 100:
        assert distribution.sum().item() == pytest.approx(1, abs=1e-6)
    distribution = distribution / distribution.sum()
    seen = torch.bincount((drawn - first).long(), minlength=14)
    assert len(seen) == 14
    assert goodness_of_fit(seen, distribution) > P_LIMIT


@pytest.mark.parametrize("name", ANY)
@pytest.mark.parametrize("extreme", [1e4, -1e4, 1e8, -1e8])
def test_saturated_units_stay_finite(name: str, extreme: float) -> None:
    units, width = ANY[name]
    f = torch.full((3, width), extreme, dtype=torch.float32)
    f[:, ::2] *= -1
    f.requires_grad_()
    distribution = UnitLayer(f, units)
    drawn = distribution.sample((4,))
    assert distribution.support.check(drawn).all()
    (gradient,) = torch.autograd.grad(units.cumulant(f).sum(), f)
    for x in (drawn, distribution.mean, units.cumulant(f), gradient):
        assert x.isfinite().all()


def test_uniforms_are_fine_inside_the_interval_and_independent_of_the_split() -> None:
    like = torch.zeros(1)
    whole = fine_uniforms(7, 300, 0, like)(3, 1, 5)
    part = fine_uniforms(7, 100, 150, like)(3, 1, 5)
    assert torch.equal(whole[150:250], part)
    assert whole.dtype == torch.float64
    assert whole.min() > 0
    assert whole.max() < 1
    assert ((whole * 2**24) % 1).unique().numel() > 1000  # finer than single precision
    assert stats.kstest(whole.flatten().numpy(), "uniform").pvalue > P_LIMIT


@pytest.mark.parametrize("name", ANY)
def test_a_layer_can_be_fitted_to_moments(name: str) -> None:
    units, width = ANY[name]
    distribution = UnitLayer(fields(width, 1, 1.0)[0] + 0.5, units)
    mean = distribution.mean
    n = 20_000 if name == "NReLU" else 200_000
    variance = distribution.sample((n,)).var(0)
    found, bound = distribution.units.from_moments(mean, None, 1e-9)
    tolerance = 0.1 if name == "NReLU" else 1e-9  # the inverse of softplus, not of the mean
    close(bound.mean(found), mean, tolerance)
    found, bound = distribution.units.from_moments(mean, variance, 1e-9)
    close(bound.mean(found), mean, tolerance)
    again = UnitLayer(found, bound).sample((n,)).var(0)
    torch.testing.assert_close(again, variance, rtol=0.15 if name == "NReLU" else 0.05, atol=0.01)


def test_labels_go_to_one_hot_states_and_back() -> None:
    potts, labels = PottsUnits(4), torch.randint(4, (5, 3))
    x = potts.encode(labels)
    assert x.shape == (5, 12)
    assert potts.support.check(x).all()
    assert torch.equal(potts.decode(x), labels)


BAD = {
    "one state": (lambda: PottsUnits(1), "`num_states` must be at least 2, got 1"),
    "no word": (lambda: MultinomialUnits(0), "`total_count` must be at least 1, got 0"),
    "broken site": (lambda: UnitLayer(torch.zeros(5), PottsUnits(3)), "`field` must have a multiple of 3 units"),
    "precision width": (
        lambda: UnitLayer(torch.zeros(5), GaussianUnits(torch.zeros(4))),
        r"`log_precision` must have shape \(\.\.\., 5\) to match `field`, got \(4,\)",
    ),
    "precision dtype": (
        lambda: UnitLayer(torch.zeros(5), GaussianUnits(torch.zeros(5).double())),
        "`log_precision` must be torch.float32",
    ),
    "infinite field": (lambda: UnitLayer(torch.full((2,), torch.inf), SpinUnits(), validate_args=True), "field"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_units_are_named(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


STRANGERS: dict[str, tuple[Units, list[list[float]]]] = {
    "spin": (SpinUnits(), [[0, 1], [1, -0.5], [1, 2]]),
    "Potts": (PottsUnits(2), [[0, 0], [1, 1], [0.5, 0.5], [2, -1]]),
    "multinomial": (MultinomialUnits(3), [[1, 1], [4, -1], [1.5, 1.5], [3, 3]]),
    "ReLU": (ReLUUnits(), [[1, -1e-9], [1, math.inf]]),
    "Gaussian": (GaussianUnits(), [[1, math.inf], [-math.inf, 0]]),
    "NReLU": (NReLUUnits(), [[1, 0.5], [-1, 0], [math.inf, 1]]),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_values_of_another_space_are_refused(name: str) -> None:
    units, values = STRANGERS[name]
    distribution = UnitLayer(torch.zeros(2), units)
    for value in values:
        with pytest.raises(ValueError, match="support"):
            distribution.log_prob(torch.tensor(value))


def test_a_prediction_is_wrong_by_expected_units_or_sites_or_by_squares() -> None:
    def wrong(units: Units, mean: list[float], states: list[float]) -> float:
        return units.wrong(torch.tensor(mean), torch.tensor(states)).item()

    assert wrong(BernoulliUnits(), [0.25, 0.5], [1.0, 0.0]) == pytest.approx(0.75 + 0.5)
    assert wrong(SpinUnits(), [0.0, 0.5], [1.0, -1.0]) == pytest.approx(0.5 + 0.75)
    assert wrong(PottsUnits(3), [0.2, 0.3, 0.5, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]) == pytest.approx(0.7)
    assert wrong(GaussianUnits(), [0.0, 3.0], [2.0, 2.0]) == pytest.approx(5.0)


def test_a_constant_unit_gets_a_share_of_its_own_variance_whatever_the_scale_of_the_others() -> None:
    mean, variance = torch.zeros(3).double(), torch.tensor([0.0, 2.0, 4e6], dtype=torch.float64)
    _, units = GaussianUnits(math.log(0.5)).from_moments(mean, variance, 0.1)
    close(torch.as_tensor(units.log_precision), -torch.tensor([0.2, 2.0, 4e6], dtype=torch.float64).log())
