"""The two-sided statement on log Z and the log likelihood with its errors, on models that can be enumerated."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor

from pyro_gen import datasets, nn
from pyro_gen.distributions import RBM, GaussianUnits, NReLUUnits, PottsUnits, ReLUUnits, SpinUnits, Units
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.log_z.annealing import forward_estimate, reverse_estimate
from pyro_gen.infer import AIS, Exact, free_energy_gap, log_likelihood, log_partition_bracket, population_annealing
from pyro_gen.infer.energy.bracket import Bracket, _highest
from pyro_gen.testing import multinomial_floor, total_variation
from tests.marks import slow

Parameters = tuple[Tensor, Tensor, Tensor]


def parameters(visible: int = 10, hidden: int = 8) -> Parameters:
    return torch.randn(visible, hidden).double(), torch.randn(visible).double(), torch.randn(hidden).double()


def two_modes(strength: float = 3.0, lean: float = 0.0) -> Parameters:
    """All units on or all off; block Gibbs never crosses. ``lean`` shifts mass to the units that are on."""
    weight = torch.full((12, 10), strength).double()
    return weight, -weight.sum(1) / 2 + lean, -weight.sum(0) / 2


def quietly(distribution: RBM, start: Tensor | None = None) -> Bracket:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # poor weights are the point
        return log_partition_bracket(distribution, start, burn_in=100)


@pytest.mark.smoke
def test_both_ends_enclose_the_exact_value() -> None:
    weight, vbias, hbias = parameters()
    exact = RBM(weight, vbias, hbias).log_partition().value
    bracket = log_partition_bracket(RBM(weight, vbias, hbias, AIS(200, 200)), torch.zeros(200, 10), burn_in=200)
    assert set(bracket.starts) == {"base", "uniform", "biases", "given"}
    for end in (bracket.forward, *bracket.starts.values()):
        assert (end.value - exact).abs() < 4 * end.standard_error  # 3e-4 for a fresh seed
        assert 0 < end.standard_error < 0.1
    assert bracket.lower < exact < bracket.upper
    assert bracket.resolved
    assert torch.equal(bracket.gap, bracket.upper - bracket.lower)
    assert str(bracket) == f"log Z from {bracket.lower:.2f} to {bracket.upper:.2f} nats (gap {bracket.gap:.2f})"


def test_the_figure_names_both_estimates_of_every_model_of_a_batch() -> None:
    weight, vbias, hbias = parameters()
    bracket = log_partition_bracket(RBM(torch.stack([weight, -weight]), vbias, hbias, AIS(200, 200)), burn_in=20)
    figures = bracket.summary.split("; ")
    assert len(figures) == 2
    ends = bracket.forward, bracket.reverse
    for i, figure in enumerate(figures):
        (ahead, error, size), (back, back_error, _) = ([x[i] for x in end[:3]] for end in ends)
        assert figure == (
            f"AIS {ahead:.2f} +/- {error:.2f} (effective sample size {size:.0f} of 200), "
            f"reverse AIS {back:.2f} +/- {back_error:.2f}"
        )


def test_one_temperature_errs_to_below_and_above() -> None:
    weight = torch.randn(60, 16).double()
    wide = weight, -weight.sum(1) / 2, -weight.sum(0) / 2  # symmetric under v -> 1 - v: many modes, base rates of 1/2
    exact = RBM(*wide)
    with pytest.warns(UserWarning, match="AIS cannot be trusted"):
        bracket = log_partition_bracket(RBM(*wide, AIS(100, 1)), exact.sample((100,)), burn_in=10)
    assert bracket.forward.value < exact.log_partition().value < bracket.reverse.value
    assert not bracket.resolved
    assert "UNRESOLVED" in str(bracket)


def test_chains_at_the_data_alone_would_lie_and_the_tempered_ones_do_not() -> None:
    """All rows sit in one of two frozen modes: reverse AIS from them is half of Z too low, and the bracket is right."""
    model = RBM(*two_modes(), AIS(300, 400, torch.full((12,), 0.5)))
    exact = RBM(*two_modes()).log_partition().value
    bracket = log_partition_bracket(model, torch.ones(300, 12), burn_in=1000)
    alone = AIS(300, 400, torch.full((12,), 0.5)).reverse(model, torch.ones(300, 12))
    assert bracket.lower < exact < bracket.upper
    assert bracket.resolved
    assert (alone.value - exact).abs() < 0.5  # both modes open alike: either mode gives the right answer
    rare = RBM(*two_modes(lean=-0.5), AIS(300, 400, torch.full((12,), 0.5)))  # the rows' mode holds e^-6 of the mass
    truth = RBM(*two_modes(lean=-0.5)).log_partition().value
    lie = AIS(300, 400, torch.full((12,), 0.5)).reverse(rare, torch.ones(300, 12))
    assert lie.value + 3 * lie.standard_error < truth - 1
    honest = quietly(rare, torch.ones(300, 12))
    assert honest.lower < truth < honest.upper


def test_a_mode_that_annealing_misses_is_seen_from_given_states() -> None:
    """The base's rates lead away from the mode that holds all the mass: only the given states know of it."""
    weight, vbias, hbias = two_modes(4.0, lean=1.0)
    rates = torch.full((12,), 0.02)
    exact = RBM(weight, vbias, hbias).log_partition().value
    bracket = quietly(RBM(weight, vbias, hbias, AIS(100, 20, rates)), torch.ones(50, 12))
    assert bracket.lower < exact < bracket.upper


def test_contradicting_ends_are_unresolved() -> None:
    forward, reverse = torch.full((50,), 5.0).double(), torch.full((50,), 3.0).double()
    bracket = Bracket(forward_estimate(forward), reverse_estimate(reverse), {}, forward, reverse)
    assert not bracket.consistent
    assert not bracket.resolved
    assert str(bracket) == "log Z from 5.00 to 5.00 nats (UNRESOLVED, the reverse run misses modes, gap 0.00)"


def test_the_acceptance_ratio_is_exact_for_gaussian_log_weights() -> None:
    """Normal weights obey Crooks' relation at half their variance on either side: z below 4, false alarm 6e-5."""
    generator = torch.Generator().manual_seed(0)
    forward, reverse = (2 * torch.randn(n, generator=generator).double() for n in (4000, 1000))
    forward, reverse = forward + 7 - 2, reverse + 7 + 2
    found = Bracket(forward_estimate(forward), reverse_estimate(reverse), {}, forward, reverse).combined
    assert abs(found.value - 7) < 4 * found.standard_error
    assert 0 < found.standard_error < reverse_estimate(reverse).standard_error
    assert found.method == "acceptance ratio"


def test_a_batch_of_models_has_a_bracket_each() -> None:
    weight, vbias, hbias = parameters(6, 5)
    many = torch.stack([weight, weight / 2, -weight])
    exact = RBM(many, vbias, hbias).log_partition().value
    bracket = log_partition_bracket(RBM(many, vbias, hbias, AIS(100, 100)), torch.zeros(20, 6), burn_in=50)
    assert bracket.upper.shape == bracket.combined.value.shape == (3,)
    assert (bracket.lower < exact).all()
    assert (exact < bracket.upper).all()
    assert str(bracket).count(" to ") == 3


def test_population_annealing_has_the_enumerated_distribution() -> None:
    # Total variation against its 99.99 % quantile for iid draws; resampled chains are moved on before the count.
    model = RBM(*parameters(4, 3))
    states = population_annealing(model, torch.zeros(4).double(), torch.linspace(0, 1, 101).double(), 20_000)
    values, distribution = model.enumerate_support(), model.log_prob(model.enumerate_support()).exp()
    counts = (model.gibbs(states, 3).unsqueeze(1) == values).all(-1).sum(0)
    floor = multinomial_floor(distribution, 20_000, 0.9999)
    assert total_variation(counts / 20_000, distribution) < 1.5 * floor  # copies are no iid draws
    assert total_variation(counts / 20_000, distribution.flip(0)) > 1.5 * floor  # the test can fail


def test_the_default_evaluation_gets_an_ais_of_its_own() -> None:
    rbm = nn.RBM.from_data(datasets.bars_and_stripes(3, 3), 8)
    with pytest.raises(ValueError, match=r"\.eval\(\)"):
        log_partition_bracket(rbm())
    distribution = rbm.eval()()
    bracket, exact = log_partition_bracket(distribution), distribution.log_partition().value
    assert bracket.lower <= exact <= bracket.upper  # three standard errors: a false alarm of 3e-3, the seed is fixed
    assert bracket.gap < 1
    assert rbm.step == 0


def test_it_needs_an_ais_and_states_of_the_model() -> None:
    with pytest.raises(ValueError, match="must have an AIS"):
        log_partition_bracket(RBM(*parameters(), Exact()), torch.zeros(2, 10))
    with pytest.raises(ValueError, match="`start` is no state"):
        log_partition_bracket(RBM(*parameters(), AIS(5, 5)), torch.zeros(2, 9))


def test_log_likelihood_names_both_errors() -> None:
    model = RBM(*parameters())
    x = model.sample((50,))
    result = log_likelihood(model, x)
    assert result.partition_error == 0
    assert math.isclose(result.row_error, model.log_prob(x).std().item() / 50**0.5)
    assert math.isclose(result.against(result.partition.value + 2), result.value - 2)
    assert str(result).endswith(f"(log Z +/- 0.00, test rows +/- {result.row_error:.2f}, N=50)")
    assert result.resolved
    assert result.lower == result.upper == result.value


def test_ais_alone_is_said_to_be_one_sided() -> None:
    weight, vbias, hbias = parameters()
    result = log_likelihood(RBM(weight, vbias, hbias, AIS(200, 100)), torch.zeros(5, 10))
    assert not result.resolved
    assert math.isnan(result.lower)
    assert str(result).endswith("N=5); one-sided, too high where AIS missed modes")


def test_a_likelihood_with_a_bracket_reports_its_lower_end() -> None:
    """The peers' defect: forward AIS alone at -84.86 nats where the reverse estimate lies twelve nats lower."""
    model = RBM(*parameters(), AIS(200, 100))
    x = torch.zeros(5, 10)
    log_z, zero = model.log_partition().value, torch.zeros(()).double()
    forward = Estimate(log_z.double(), zero, zero + 200, "AIS")
    reverse = forward._replace(value=forward.value + 11.75, method="reverse AIS")
    result = log_likelihood(model, x, Bracket(forward, reverse, {}, log_z.expand(2), log_z.expand(2) + 11.75))
    assert math.isclose(result.lower, result.value - 11.75)
    assert math.isclose(result.upper, result.value)
    ends = f"two-sided {result.lower:.2f} to {result.upper:.2f} nats"
    assert str(result).endswith(f"; {ends} (UNRESOLVED, gap 11.75)")


@pytest.mark.parametrize("x", [torch.zeros(0, 10), torch.zeros(10)])
def test_log_likelihood_needs_rows(x: Tensor) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        log_likelihood(RBM(*parameters()), x)
    with pytest.raises(ValueError, match=r"`valid` must have shape"):
        free_energy_gap(RBM(*parameters()), torch.zeros(2, 10), x)


def test_the_free_energy_gap_is_the_difference_of_mean_log_likelihoods() -> None:
    model = RBM(*parameters())
    train, valid = model.sample((60,)), torch.bernoulli(torch.full((40, 10), 0.5)).double()
    gap = free_energy_gap(model, train, valid)
    p, q = model.log_prob(train), model.log_prob(valid)
    assert math.isclose(gap.value.item(), (p.mean() - q.mean()).item(), rel_tol=1e-9)
    assert math.isclose(gap.standard_error.item(), (p.var() / 60 + q.var() / 40).sqrt().item(), rel_tol=1e-9)
    assert str(gap).endswith("(difference of free energies)")
    assert math.isinf(free_energy_gap(model, train[:1], valid).standard_error)


def test_the_free_energy_gap_leaves_a_module_as_it_is() -> None:
    rbm = nn.RBM(10, 8)
    before = {name: value.clone() for name, value in rbm.state_dict().items()}
    assert free_energy_gap(rbm, torch.zeros(3, 10), torch.zeros(4, 10)).value == 0
    assert all(torch.equal(value, before[name]) for name, value in rbm.state_dict().items())


@pytest.mark.parametrize(
    "units", [GaussianUnits(), PottsUnits(3), *slow(SpinUnits(), ReLUUnits(), NReLUUnits())], ids=str
)
def test_the_bracket_holds_the_exact_log_z_of_other_units(units: Units) -> None:
    # Ends lie three standard errors outside: a false alarm in 0.3 % of the runs, at this fixed seed none.
    torch.manual_seed(2)
    parameters = 0.5 * torch.randn(6, 4).double(), torch.randn(6).double(), torch.randn(4).double()
    exact = RBM(*parameters, visible_units=units).log_partition().value
    bracket = log_partition_bracket(RBM(*parameters, AIS(100, 400), visible_units=units), burn_in=50)
    assert bracket.lower < exact < bracket.upper
    assert bracket.resolved


def test_the_estimates_are_log_means_of_weights_and_of_their_inverses() -> None:
    log_weights = torch.tensor([0.5, -1.0, 2.0, 0.3]).double()
    for estimate, sign in ((forward_estimate(log_weights), 1.0), (reverse_estimate(log_weights), -1.0)):
        weights = (sign * log_weights).exp()
        assert math.isclose(estimate.value, sign * weights.mean().log())
        assert math.isclose(estimate.standard_error, weights.std() / weights.mean() / 4**0.5)
        assert math.isclose(estimate.effective_sample_size, weights.sum().square() / weights.square().sum())


def test_ends_lie_three_standard_errors_outside_and_the_start_that_reaches_highest_counts() -> None:
    def estimate(value: list[float], error: list[float]) -> Estimate:
        size = torch.tensor([50.0, 60.0])
        return Estimate(torch.tensor(value).double(), torch.tensor(error).double(), size, "AIS")

    forward = estimate([5.0, 8.0], [0.2, 0.1])
    reverse = _highest([estimate([5.2, 7.0], [0.01, 0.1]), estimate([5.1, 7.1], [0.1, 0.01])])
    torch.testing.assert_close(reverse.value, torch.tensor([5.1, 7.0]).double())
    torch.testing.assert_close(reverse.standard_error, torch.tensor([0.1, 0.1]).double())
    bracket = Bracket(forward, reverse, {}, forward.value, reverse.value)
    torch.testing.assert_close(bracket.lower, torch.tensor([4.4, 7.7]).double())
    torch.testing.assert_close(bracket.upper, torch.tensor([5.6, 8.3]).double())


def test_given_states_are_moved_on_before_they_are_annealed_back() -> None:
    """One temperature and 2000 chains that were one state: an unmoved start would have one weight and no error."""
    weight, vbias, hbias = (0.5 * p for p in parameters(3, 2))
    bracket = log_partition_bracket(RBM(weight, vbias, hbias, AIS(50, 1)), torch.ones(2000, 3), burn_in=50)
    given = bracket.starts["given"]
    exact = RBM(weight, vbias, hbias).log_partition().value
    assert 0 < given.standard_error < 0.05
    assert abs(given.value - exact) < 6 * given.standard_error


def test_the_error_of_the_acceptance_ratio_is_its_spread() -> None:
    """300 runs of 200 and 100 chains: the ratio is 1 within 6 of its standard errors, 0.04."""
    values, errors = [], []
    for _ in range(300):
        forward, reverse = torch.randn(200).double() - 0.5, torch.randn(100).double() + 0.5
        found = Bracket(forward_estimate(forward), reverse_estimate(reverse), {}, forward, reverse).combined
        values.append(found.value)
        errors.append(found.standard_error)
    assert abs(torch.stack(values).std() / torch.stack(errors).mean() - 1) < 0.25
