"""RBMs with every unit type on either side, against sums and integrals over both layers written out here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence

from pyro_gen.distributions import (
    RBM,
    BernoulliUnits,
    GaussianUnits,
    MultinomialUnits,
    NReLUUnits,
    PottsUnits,
    ReLUUnits,
    SpinUnits,
    Units,
    streaming,
)
from pyro_gen.distributions.units.base import UnitTypes
from pyro_gen.infer import AIS, ContrastiveDivergence, Exact
from pyro_gen.testing import goodness_of_fit
from tests.kernels.oracle import P_LIMIT, Z_LIMIT
from tests.marks import slow

FINE = torch.float64
BERNOULLI = BernoulliUnits()


class Nodes(NamedTuple):
    """All states of a layer, or nodes of a quadrature over them, with log weights, own energies and cells."""

    states: Tensor
    log_weight: Tensor
    own: Tensor
    cell: Callable[[Tensor], Tensor]


def layer(one: Nodes, cells: int, width: int) -> Nodes:
    """A layer of ``width`` independent units."""
    index = torch.cartesian_prod(*[torch.arange(len(one.states))] * width).view(-1, width)
    powers = cells ** torch.arange(width)
    return Nodes(
        one.states[index],
        one.log_weight[index].sum(-1),
        one.own[index].sum(-1),
        lambda x: (one.cell(x) * powers).sum(-1),
    )


def listed(values: list[float], own: Tensor | None = None) -> Nodes:
    x = torch.tensor(values, dtype=FINE)
    zero = torch.zeros_like(x)
    return Nodes(x, zero, zero if own is None else own, lambda v: torch.searchsorted(x, v.contiguous()))


def interval(low: float, high: float, pieces: int, log_precision: float) -> Nodes:
    """Gauss-Legendre nodes, ten in each of several pieces, and the energy gamma x^2 / 2."""
    node, weight = (torch.tensor(x) for x in np.polynomial.legendre.leggauss(10))
    edges = torch.linspace(low, high, pieces + 1, dtype=FINE)
    half = (high - low) / pieces / 2
    x = (edges[:-1, None] + half * (1 + node)).flatten()
    log_weight = (half * weight).log().repeat(pieces)
    own = math.exp(log_precision) * x.square() / 2
    return Nodes(x, log_weight, own, lambda v: torch.bucketize(v, edges[1:-1].contiguous()))


def stepped_nodes() -> Nodes:
    """Counts 0 to 24 with the energy n^2 / 2 + log of (1 - q) ... (1 - q^n), q = 1 / e."""
    n = torch.arange(25, dtype=FINE)
    factors = torch.cat([torch.zeros(1, dtype=FINE), torch.log(-torch.expm1(-n[1:]))])
    return listed(n.tolist(), n.square() / 2 + factors.cumsum(0))


def potts_nodes(q: int, sites: int) -> Nodes:
    one = torch.eye(q, dtype=FINE)
    index = torch.cartesian_prod(*[torch.arange(q)] * sites).view(-1, sites)
    zero = torch.zeros(len(index), dtype=FINE)
    powers = q ** torch.arange(sites)
    return Nodes(one[index].flatten(-2), zero, zero, lambda x: (x.unflatten(-1, (-1, q)).argmax(-1) * powers).sum(-1))


def document_nodes(total: int, words: int) -> Nodes:
    """Vectors of counts with minus the log of the multinomial coefficient as energy."""
    every = torch.cartesian_prod(*[torch.arange(total + 1)] * words).view(-1, words)
    x = every[every.sum(-1) == total].to(FINE)
    own = torch.lgamma(x + 1).sum(-1) - math.lgamma(total + 1)
    powers = (total + 1) ** torch.arange(words)
    codes = (x.long() * powers).sum(-1)
    return Nodes(
        x,
        torch.zeros(len(x), dtype=FINE),
        own,
        lambda v: torch.searchsorted(codes.sort().values, (v.long() * powers).sum(-1)),
    )


LOG_PRECISION = 0.4
UNITS: dict[str, tuple[Units, Callable[[], Nodes], int]] = {
    "Bernoulli": (BernoulliUnits(), lambda: layer(listed([0, 1]), 2, 3), 3),
    "spin": (SpinUnits(), lambda: layer(listed([-1, 1]), 2, 3), 3),
    "Potts": (PottsUnits(3), lambda: potts_nodes(3, 2), 6),
    "Gaussian": (GaussianUnits(LOG_PRECISION), lambda: layer(interval(-10, 10, 10, LOG_PRECISION), 10, 2), 2),
    "ReLU": (ReLUUnits(LOG_PRECISION), lambda: layer(interval(0, 9, 9, LOG_PRECISION), 9, 2), 2),
    "NReLU": (NReLUUnits(), lambda: layer(stepped_nodes(), 25, 2), 2),
    "multinomial": (MultinomialUnits(3), lambda: document_nodes(3, 3), 3),
}
SINGLE: dict[str, Callable[[], Nodes]] = {
    "Gaussian": lambda: layer(interval(-10, 10, 10, LOG_PRECISION), 10, 1),
    "ReLU": lambda: layer(interval(0, 9, 9, LOG_PRECISION), 9, 1),
    "NReLU": lambda: layer(stepped_nodes(), 25, 1),
}
FINITE = ("Bernoulli", "spin", "Potts", "multinomial")
PAIRS = [(v, h) for v in UNITS for h in UNITS if v in FINITE or h in FINITE] + [("Gaussian", "Gaussian")]
COVER = [
    *(("Bernoulli", "Bernoulli"), ("Gaussian", "Gaussian"), ("spin", "NReLU"), ("NReLU", "Potts")),
    *(("Potts", "multinomial"), ("multinomial", "ReLU"), ("ReLU", "spin")),
]
"""Every type once on either side: a side is sampled by its own type's code, whatever the other side is."""


class Truth(NamedTuple):
    """An RBM with its joint log density and log weights at the nodes of both layers, written out."""

    rbm: RBM
    visible: Nodes
    hidden: Nodes
    log_joint: Tensor
    log_weight: Tensor

    @property
    def log_z(self) -> Tensor:
        return (self.log_joint + self.log_weight).logsumexp((0, 1))

    @property
    def distribution(self) -> Tensor:
        return (self.log_joint + self.log_weight - self.log_z).exp()


def truth(visible: str, hidden: str, scale: float = 0.4, seed: int = 0, **settings: object) -> Truth:
    (v_units, v_nodes, n), (h_units, h_nodes, m) = UNITS[visible], UNITS[hidden]
    if visible not in FINITE and hidden not in FINITE:  # one hidden unit: two would be too many nodes
        h_nodes, m = SINGLE[hidden], 1
    v, h = v_nodes(), h_nodes()
    draw = np.random.default_rng(seed + 10 * n + m).normal
    weight, vbias, hbias = (torch.tensor(scale * draw(size=size)) for size in ((n, m), n, m))
    log_joint = v.states @ weight @ h.states.mT + (v.states @ vbias - v.own)[:, None] + h.states @ hbias - h.own
    rbm = RBM(weight, vbias, hbias, visible_units=v_units, hidden_units=h_units, **settings)  # type: ignore[arg-type]
    return Truth(rbm, v, h, log_joint, v.log_weight[:, None] + h.log_weight)


def normal(n: int, m: int, scale: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, visible bias and hidden bias."""
    draw = np.random.default_rng(seed).normal
    weight, vbias, hbias = (torch.tensor(scale * draw(size=size)) for size in ((n, m), n, m))
    return weight, vbias, hbias


def both(visible: Units, hidden: Units = BERNOULLI) -> UnitTypes:
    return {"visible_units": visible, "hidden_units": hidden}


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(actual, expected.to(actual), rtol=tolerance, atol=tolerance)


pairs = pytest.mark.parametrize(("visible", "hidden"), PAIRS, ids=lambda x: x)
cover = pytest.mark.parametrize(("visible", "hidden"), [*COVER, *slow(*(pair for pair in PAIRS if pair not in COVER))])


@pairs
def test_energies_and_probabilities_are_sums_and_integrals(visible: str, hidden: str) -> None:
    rbm, v, h, log_joint, _ = t = truth(visible, hidden)
    few_v, few_h = slice(None, None, max(1, len(v.states) // 60)), slice(None, None, max(1, len(h.states) // 60))
    some = log_joint[few_v, few_h]
    close(rbm.energy(v.states[few_v, None], h.states[few_h]), -some)
    close(rbm.free_energy(v.states), -(log_joint + h.log_weight).logsumexp(1))
    estimate = rbm.log_partition()
    close(estimate.value, t.log_z)
    assert estimate.method == "exact"
    close(rbm.log_joint(v.states[few_v, None], h.states[few_h]), some - t.log_z)
    close((rbm.log_prob(v.states) + v.log_weight).logsumexp(0), torch.zeros(()))


@pairs
def test_both_factorisations_give_the_joint(visible: str, hidden: str) -> None:
    rbm, v, h, log_joint, _ = t = truth(visible, hidden)
    weight, vbias, hbias = rbm.uncentred
    exchanged = RBM(weight.mT, hbias, vbias, visible_units=rbm.hidden_units, hidden_units=rbm.visible_units)
    few_v, few_h = (x.states[:: max(1, len(x.states) // 60)] for x in (v, h))
    joint = (log_joint - t.log_z)[:: max(1, len(v.states) // 60), :: max(1, len(h.states) // 60)]
    up, down = rbm.hidden_given_visible(few_v[:, None]), rbm.visible_given_hidden(few_h)
    close(rbm.log_prob(few_v)[:, None] + up.log_prob(few_h), joint)
    close(exchanged.log_prob(few_h) + down.log_prob(few_v[:, None]), joint)
    total = (up.log_prob(h.states) + h.log_weight).logsumexp(-1) if len(h.states) < 1000 else torch.zeros(1)
    close(total, torch.zeros_like(total))


def cells(t: Truth, v: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Counts of draws in the cells of the visible layer (and of one hidden cell in two), and their probabilities."""
    of_v, of_h = t.visible.cell(t.visible.states), t.hidden.cell(t.hidden.states) % 2
    size = int(of_v.max()) + 1
    code = 2 * of_v[:, None] + of_h if h is not None else of_v[:, None].expand(t.distribution.shape)
    probs = torch.zeros(2 * size, dtype=FINE).index_add(0, code.flatten(), t.distribution.flatten())
    drawn = t.visible.cell(v) if h is None else 2 * t.visible.cell(v) + t.hidden.cell(h) % 2
    return torch.bincount(drawn, minlength=len(probs)), probs


@pairs
def test_exact_draws_follow_the_joint_distribution(visible: str, hidden: str) -> None:
    t = truth(visible, hidden)
    v, h = t.rbm.sample_joint((30_000,))
    assert t.rbm.support.check(v).all()
    assert goodness_of_fit(*cells(t, v, h)) > P_LIMIT
    assert goodness_of_fit(*cells(t, t.rbm.sample((30_000,)))) > P_LIMIT


@cover
def test_sweeps_reach_the_distribution(visible: str, hidden: str) -> None:
    """10,000 chains of 20 sweeps from the distribution of the biases; the weights are small enough to forget it."""
    t = truth(visible, hidden, num_steps=20)
    start = t.rbm.base_states(t.rbm.vbias, 10_000, 1)
    assert goodness_of_fit(*cells(t, t.rbm.gibbs(start, 20))) > P_LIMIT
    t.rbm.partition = AIS(10, 5)
    assert goodness_of_fit(*cells(t, *t.rbm.sample_joint((10_000,)))) > P_LIMIT


@pairs
def test_one_chain_does_not_depend_on_the_others(visible: str, hidden: str) -> None:
    rbm = truth(visible, hidden).rbm
    start = rbm.base_states(rbm.vbias, 20, 1)
    whole = rbm.sweep(start, 5, 3, 7)
    close(rbm.sweep(start[:9], 5, 3, 7), whole[:9], 1e-12)
    close(rbm.sweep(rbm.sweep(start, 2, 3, 7), 3, 3, 9), whole, 1e-12)
    assert not torch.equal(rbm.sweep(start, 5, 4, 7), whole)


@cover
def test_annealing_integrates_over_the_space_of_the_sampler(visible: str, hidden: str) -> None:
    """Forwards and backwards, with a base from pilot chains and with a given one, within 6 standard errors of log Z."""
    t = truth(visible, hidden)
    low, high = t.rbm.visible_units.mean_range
    middle = 1.0 if visible in ("ReLU", "NReLU", "multinomial") else max(low, -1.0) / 2 + min(high, 1.0) / 2
    rates = torch.full(t.rbm.vbias.shape, 1 / 3 if visible == "Potts" else middle)
    base = (t.rbm.weight, t.rbm.vbias, t.rbm.hbias)
    units = both(t.rbm.visible_units, t.rbm.hidden_units)
    for settings in (AIS(500, 60), AIS(500, 60, rates), AIS(500, 60, rates, base_variances=1 + rates)):
        estimate = RBM(*base, settings, **units).log_partition()
        assert abs(estimate.value - t.log_z) < Z_LIMIT * estimate.standard_error + 1e-6
        assert 0 < estimate.standard_error < 0.1
    backwards = AIS(500, 60).reverse(t.rbm, t.rbm.sample((1000,)))
    assert abs(backwards.value - t.log_z) < Z_LIMIT * backwards.standard_error + 1e-6
    assert backwards.standard_error < 0.1


SPIN_SIDES = [(SpinUnits(), BernoulliUnits()), (BernoulliUnits(), SpinUnits()), (SpinUnits(), SpinUnits())]


def mapped(rbm: RBM) -> RBM:
    """The Bernoulli RBM with the same distribution on the bits of spins, from x = 2 y - 1 written out unit by unit."""
    s = 2.0 if isinstance(rbm.visible_units, SpinUnits) else 1.0
    r = 2.0 if isinstance(rbm.hidden_units, SpinUnits) else 1.0
    weight, vbias, hbias = rbm.weight, rbm.vbias, rbm.hbias
    a = s * (vbias - (weight.sum(-1) if r == 2 else 0))
    b = r * (hbias - (weight.sum(-2) if s == 2 else 0))
    return RBM(s * r * weight, a, b)


def bits(units: Units, x: Tensor) -> Tensor:
    return (x + 1) / 2 if isinstance(units, SpinUnits) else x


@pytest.mark.parametrize(("visible", "hidden"), SPIN_SIDES)
def test_spins_are_bernoulli_units_after_the_change_of_parameters(visible: Units, hidden: Units) -> None:
    parameters = normal(5, 4, seed=5)
    rbm = RBM(*parameters, visible_units=visible, hidden_units=hidden)
    twin = mapped(rbm)
    v = rbm.enumerate_support()
    close(rbm.log_prob(v), twin.log_prob(bits(visible, v)), 1e-10)
    close(rbm.pseudo_log_likelihood(v), twin.pseudo_log_likelihood(bits(visible, v)), 1e-10)
    close(rbm.entropy(), twin.entropy(), 1e-10)
    start = v[torch.randint(32, (50,))]
    swept = rbm.sweep(start, 10, 1, 2)
    assert torch.equal(bits(visible, swept), twin.sweep(bits(visible, start), 10, 1, 2))
    constant = rbm.log_partition().value - twin.log_partition().value
    close(rbm.free_energy(v), twin.free_energy(bits(visible, v)) - constant, 1e-10)
    pyro.set_rng_seed(3)
    rates = torch.linspace(0.1, 0.8, 5, dtype=FINE)
    ours = RBM(*parameters, AIS(200, 50, rates), visible_units=visible, hidden_units=hidden).log_partition()
    pyro.set_rng_seed(3)
    theirs = RBM(*twin.uncentred, AIS(200, 50, bits(visible, rates))).log_partition()
    close(ours.value - constant, theirs.value, 1e-9)
    close(ours.standard_error, theirs.standard_error, 1e-8)


def test_zeros_and_ones_are_no_spins_and_spins_no_bits() -> None:
    weights = torch.zeros(4, 3), torch.zeros(4), torch.zeros(3)
    with pytest.raises(ValueError, match="support"):
        RBM(*weights, visible_units=SpinUnits()).log_prob(torch.tensor([0.0, 1, 1, 1]))
    with pytest.raises(ValueError, match="support"):
        RBM(*weights).log_prob(torch.tensor([-1.0, 1, 1, 1]))
    with pytest.raises(ValueError, match="`h` must hold states of SpinUnits"):
        RBM(*weights, hidden_units=SpinUnits()).log_joint(torch.ones(4), torch.zeros(3))
    with pytest.raises(ValueError, match="`base_rates` must lie between 0 and 1"):
        RBM(*weights, AIS(5, 5, torch.full((4,), -0.5)))
    assert RBM(*weights, AIS(5, 5, torch.full((4,), -0.5)), visible_units=SpinUnits()).partition is not None


def test_a_single_spin_pair_has_the_field_of_its_coupling() -> None:
    """p(s = 1 | h) = 1 / (1 + exp(-2 w h)): the factor 2 that is lost where spins are taken for bits."""
    one = torch.ones(1, 1, dtype=FINE)
    rbm = RBM(0.7 * one, 0 * one[0], 0 * one[0], visible_units=SpinUnits(), hidden_units=SpinUnits())
    close(
        rbm.visible_given_hidden(one[0]).log_prob(one[0]).exp(),
        torch.tensor(1 / (1 + math.exp(-1.4)), dtype=FINE),
        1e-12,
    )
    close(rbm.log_partition().value, torch.tensor(math.log(4 * math.cosh(0.7)), dtype=FINE), 1e-12)


def test_a_gaussian_bernoulli_rbm_is_a_mixture_of_gaussians() -> None:
    """Weights of the 2^h components: exp(b.h + |a + W h|^2 / (2 gamma)); means (a + W h) / gamma, one variance."""
    draw = np.random.default_rng(2).normal
    weight, a, b, log_precision = (torch.tensor(draw(size=size)) for size in ((4, 3), 4, 3, 4))
    rbm = RBM(weight, a, b, visible_units=GaussianUnits(log_precision))
    h = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=FINE)] * 3)
    gamma, field = log_precision.exp(), a + h @ weight.mT
    mixing = Categorical(logits=h @ b + (field.square() / (2 * gamma)).sum(-1))
    components = torch.distributions.Independent(Normal(field / gamma, gamma.rsqrt().expand(8, 4)), 1)
    mixture = MixtureSameFamily(mixing, components)
    v = torch.tensor(3 * draw(size=(20, 4)))
    close(rbm.log_prob(v), mixture.log_prob(v), 1e-10)


def gaussian_pair(n: int = 4, m: int = 3, scale: float = 0.25) -> tuple[RBM, MultivariateNormal]:
    """A Gaussian-Gaussian RBM and the joint Gaussian of both layers, from its precision matrix."""
    draw = np.random.default_rng(n).normal
    weight, a, b, up, down = (torch.tensor(scale * draw(size=size)) for size in ((n, m), n, m, n, m))
    rbm = RBM(weight, a, b, visible_units=GaussianUnits(up), hidden_units=GaussianUnits(down))
    precision = torch.cat([torch.cat([up.exp().diag(), -weight], 1), torch.cat([-weight.mT, down.exp().diag()], 1)])
    covariance = torch.linalg.inv(precision)
    return rbm, MultivariateNormal(covariance @ torch.cat([a, b]), covariance)


@pytest.mark.parametrize("size", [(4, 3), (2, 5), (1, 1)])
def test_two_gaussian_layers_are_one_gaussian(size: tuple[int, int]) -> None:
    (rbm, joint), n = gaussian_pair(*size), size[0]
    x = joint.sample((10,))
    close(rbm.log_joint(x[:, :n], x[:, n:]), joint.log_prob(x), 1e-10)
    marginal = MultivariateNormal(joint.mean[:n], joint.covariance_matrix[:n, :n])
    close(rbm.log_prob(x[:, :n]), marginal.log_prob(x[:, :n]), 1e-10)
    drawn = torch.cat(rbm.sample_joint((100_000,)), -1)
    white = torch.linalg.solve_triangular(joint.scale_tril, (drawn - joint.mean).mT, upper=False)
    assert white.mean(1).abs().max() < Z_LIMIT / 100_000**0.5
    assert (white @ white.mT / 100_000 - torch.eye(sum(size), dtype=FINE)).abs().max() < Z_LIMIT * 2 / 100_000**0.5


@pytest.mark.parametrize("name", ["spin", "Potts"])
@pytest.mark.parametrize("hidden", ["Bernoulli", "Gaussian"])
def test_pseudo_log_likelihood_is_the_sum_of_the_conditionals(name: str, hidden: str) -> None:
    rbm = truth(name, hidden).rbm
    v = rbm.enumerate_support()
    log_prob, width = rbm.log_prob(v), rbm.visible_units.alternatives[0]
    expected = torch.zeros_like(log_prob)
    for site in range(0, v.shape[-1], width):
        rest = torch.cat([v[:, :site], v[:, site + width :]], -1)
        same = (rest[:, None] == rest).all(-1)
        expected += log_prob - torch.where(same, log_prob, -math.inf).logsumexp(-1)
    close(rbm.pseudo_log_likelihood(v), expected, 1e-10)


@pytest.mark.parametrize("name", ["Gaussian", "ReLU", "NReLU", "multinomial"])
def test_units_without_a_finite_list_have_no_pseudo_likelihood(name: str) -> None:
    rbm = truth(name, "Bernoulli").rbm
    with pytest.raises(NotImplementedError, match="no finite list of states"):
        rbm.pseudo_log_likelihood(rbm.sample())


@pytest.mark.parametrize("name", ["Gaussian", "ReLU", "NReLU"])
def test_unbounded_visible_units_cannot_be_listed(name: str) -> None:
    rbm = truth(name, "Bernoulli").rbm
    assert not rbm.has_enumerate_support
    for call in (rbm.enumerate_support, rbm.entropy, lambda: kl_divergence(rbm, rbm)):
        with pytest.raises(NotImplementedError):
            call()


@pytest.mark.parametrize(("visible", "hidden"), [("Gaussian", "Potts"), ("Potts", "ReLU"), ("multinomial", "Gaussian")])
def test_streamed_sums_equal_one_block(monkeypatch: pytest.MonkeyPatch, visible: str, hidden: str) -> None:
    rbm = truth(visible, hidden).rbm

    def gradients() -> list[Tensor]:
        leaves = [p.detach().clone().requires_grad_() for p in rbm.parameters]
        names = [*rbm.visible_units.parameters], [*rbm.hidden_units.parameters]
        own = (
            dict(zip(names[0], leaves[3:], strict=False)),
            dict(zip(names[1], leaves[3 + len(names[0]) :], strict=True)),
        )
        units = rbm.visible_units.replace(**own[0]), rbm.hidden_units.replace(**own[1])
        new = RBM(leaves[0], leaves[1], leaves[2], visible_units=units[0], hidden_units=units[1])
        value = new.log_partition().value
        return [value, *torch.autograd.grad(value, leaves)]

    whole = gradients()
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 100)
    for streamed, expected in zip(gradients(), whole, strict=True):
        close(streamed, expected, 1e-10)


def test_limits_of_enumeration_count_states() -> None:
    twelve, thirteen = (torch.zeros(40, 3 * k) for k in (12, 13))  # 3^12 < 2^20 < 3^13

    def rbm(weight: Tensor, partition: Exact | None = None) -> RBM:
        biases = torch.zeros(40), torch.zeros(weight.shape[1])
        return RBM(weight, *biases, partition, **both(GaussianUnits(), PottsUnits(3)))

    assert rbm(twelve).enumerated_units == 20
    assert rbm(twelve).samples_exactly
    assert rbm(thirteen).enumerated_units == 21
    with pytest.raises(ValueError, match="21 units"):
        rbm(thirteen).log_partition()
    assert rbm(thirteen, Exact()).samples_exactly
    with pytest.raises(ValueError, match="got 21"):
        rbm(thirteen, Exact(20))


def test_two_unbounded_sides_have_no_exact_sum() -> None:
    parameters = 0.1 * torch.ones(3, 2), torch.zeros(3), torch.zeros(2)
    units = both(GaussianUnits(), ReLUUnits())
    with pytest.raises(ValueError, match="infinitely many"):
        RBM(*parameters, Exact(), **units)
    with pytest.raises(ValueError, match="log Z is not known"):
        RBM(*parameters, **units).log_partition()


UNBOUNDED = ["Gaussian", "ReLU", "NReLU"]
TWO_UNBOUNDED = [(v, h) for v in UNBOUNDED for h in UNBOUNDED if (v, h) != ("Gaussian", "Gaussian")]


@pytest.mark.parametrize(
    ("visible", "hidden"), [*TWO_UNBOUNDED[::3], *slow(*TWO_UNBOUNDED[1::3], *TWO_UNBOUNDED[2::3])]
)
def test_two_unbounded_sides_are_annealed_to_the_integral(visible: str, hidden: str) -> None:
    """AIS within 6 standard errors of the quadrature, and sweeps against its distribution."""
    t = truth(visible, hidden, 0.25, partition=AIS(1000, 100), num_steps=20)
    estimate = t.rbm.log_partition()
    assert abs(estimate.value - t.log_z) < Z_LIMIT * estimate.standard_error + 1e-6
    assert estimate.standard_error < 0.05
    v, h = t.rbm.sample_joint((10_000,))
    assert goodness_of_fit(*cells(t, v, h)) > P_LIMIT


@pytest.mark.parametrize("visible", UNBOUNDED)
@pytest.mark.parametrize("hidden", UNBOUNDED)
def test_too_strong_couplings_of_unbounded_units_are_refused(visible: str, hidden: str) -> None:
    v, h = UNITS[visible][0], UNITS[hidden][0]
    gain = math.exp(LOG_PRECISION * (isinstance(v, NReLUUnits) + isinstance(h, NReLUUnits) - 2) / -2)
    zeros = torch.zeros(2, dtype=FINE), torch.zeros(1, dtype=FINE)

    def rbm(factor: float) -> RBM:
        weight = factor * gain * torch.tensor([[0.6], [0.8]], dtype=FINE)
        return RBM(weight, *zeros, visible_units=v, hidden_units=h)

    rbm(0.999)
    with pytest.raises(ValueError, match=r"`weight` must leave the joint of \w+ and \w+ normalisable.*got 1\.001"):
        rbm(1.001)
    RBM(weight=1e3 * torch.ones(2, 1, dtype=FINE), vbias=zeros[0], hbias=zeros[1], visible_units=v)


def test_couplings_that_only_push_half_line_units_down_are_accepted() -> None:
    """Between units that are never negative a negative coupling raises the energy, however strong."""
    weight, zeros = torch.tensor([[-5.0, 0.5], [-3.0, -7.0]], dtype=FINE), torch.zeros(2, dtype=FINE)
    relu = both(ReLUUnits(), ReLUUnits())
    RBM(weight, zeros, zeros, **relu)
    with pytest.raises(ValueError, match="is not known to have a finite log Z"):
        RBM(-weight, zeros, zeros, **relu)
    with pytest.raises(ValueError, match="is not known to have a finite log Z"):
        RBM(weight, zeros, zeros, visible_units=GaussianUnits(), hidden_units=ReLUUnits())
    opposed = torch.tensor([[0.9, -0.9]], dtype=FINE)  # two ReLU units that pull one Gaussian unit both ways
    RBM(opposed, zeros[:1], zeros, visible_units=GaussianUnits(), hidden_units=ReLUUnits())
    with pytest.raises(ValueError, match="has no finite log Z"):
        RBM(opposed, zeros[:1], zeros, visible_units=GaussianUnits(), hidden_units=GaussianUnits())


def test_one_bad_batch_element_is_refused() -> None:
    weight = torch.tensor([0.5, 1.5], dtype=FINE)[:, None, None]
    zeros, units = torch.zeros(1, dtype=FINE), both(GaussianUnits(), GaussianUnits())
    with pytest.raises(ValueError, match="normalisable"):
        RBM(weight, zeros, zeros, **units)
    with pytest.raises(ValueError, match="normalisable"):
        RBM(weight, zeros, zeros, validate_args=False, **units).log_partition()


@pytest.mark.parametrize("log_precision", [81.0, -81.0, math.inf, math.nan])
def test_precisions_that_leave_the_floats_are_named(log_precision: float) -> None:
    given = torch.full((3,), log_precision)
    with pytest.raises(ValueError, match="visible_log_precision"):
        RBM(torch.zeros(3, 2), torch.zeros(3), torch.zeros(2), visible_units=GaussianUnits(given))


@pytest.mark.parametrize("name", ["weight", "vbias", "hbias"])
def test_infinite_parameters_are_named(name: str) -> None:
    given = {"weight": torch.zeros(3, 2), "vbias": torch.zeros(3), "hbias": torch.zeros(2)}
    given[name] = given[name] + torch.inf
    with pytest.raises(ValueError, match=name):
        RBM(given["weight"], given["vbias"], given["hbias"])


def test_units_that_do_not_fit_are_named() -> None:
    weights = torch.zeros(4, 3), torch.zeros(4), torch.zeros(3)
    with pytest.raises(ValueError, match=r"`visible_units` does not fit: `vbias` must have a multiple of 3 units"):
        RBM(*weights, visible_units=PottsUnits(3))
    with pytest.raises(ValueError, match=r"`hidden_units` does not fit: `log_precision` must have shape \(\.\.\., 3\)"):
        RBM(*weights, hidden_units=ReLUUnits(torch.zeros(2)))
    with pytest.raises(ValueError, match="`visible_units` must be a unit type"):
        RBM(*weights, visible_units=SpinUnits)  # type: ignore[arg-type]  # the class, not a unit type


def test_the_gradient_of_an_annealed_probability_reaches_the_precisions() -> None:
    """Mean over 40 runs of 200 chains against the exact gradient, in all parameters."""

    def gradients(partition: AIS | None) -> Tensor:
        draw = np.random.default_rng(1).normal
        leaves = [torch.tensor(0.4 * draw(size=size)).requires_grad_() for size in ((3, 2), 3, 2, 3)]
        rbm = RBM(leaves[0], leaves[1], leaves[2], partition, visible_units=GaussianUnits(leaves[3]))
        value = rbm.log_prob(torch.tensor([0.3, -1.0, 0.8], dtype=FINE))
        return torch.cat([x.flatten() for x in torch.autograd.grad(value, leaves)])

    runs = torch.stack([gradients(AIS(200, 20)) for _ in range(40)])
    z = (runs.mean(0) - gradients(None)) / (runs.std(0) / 40**0.5)
    assert z.abs().max() < Z_LIMIT, z


@pytest.mark.parametrize("name", ["Potts", "Gaussian", "ReLU", *slow("spin", "NReLU")])
def test_contrastive_divergence_takes_every_unit_type(name: str) -> None:
    """CD-500 has the exact gradient on average: 4000 rows, in all parameters."""
    units, _, width = UNITS[name]
    draw = np.random.default_rng(1).normal
    leaves = [torch.tensor(0.3 * draw(size=size)).requires_grad_() for size in ((width, 2), width, 2)]
    own = units.bind("vbias", leaves[1].detach()).parameters
    for name_of, x in own.items():
        own[name_of] = x.clone().requires_grad_()
    bound, leaves = units.replace(**own), [*leaves, *own.values()]
    v = RBM(leaves[0], leaves[1], leaves[2], visible_units=bound).sample((4000,))

    def rows(partition: ContrastiveDivergence | None) -> Tensor:
        rbm = RBM(leaves[0], leaves[1], leaves[2], partition, visible_units=bound)
        found = torch.autograd.grad(rbm.log_prob(v).mean(), leaves)
        return torch.cat([x.flatten() for x in found])

    noise = torch.stack([rows(ContrastiveDivergence(40)) for _ in range(12)])
    z = (noise.mean(0) - rows(None)) / (noise.std(0) / 12**0.5)
    assert z.abs().max() < 12  # 12 runs: Student's t with 11 degrees of freedom, 1e-7 an entry


def test_a_new_precision_gets_a_new_log_z() -> None:
    log_precision = torch.zeros(3, dtype=FINE)
    rbm = RBM(*normal(3, 2), Exact(), **both(GaussianUnits(log_precision)))
    before = rbm.log_partition().value
    log_precision.add_(1)
    assert rbm.log_partition().value != before
    assert rbm.visible_log_precision is log_precision
    assert rbm.expand((2,)).visible_log_precision is log_precision


def test_batched_precisions_equal_a_loop() -> None:
    draw = np.random.default_rng(4).normal
    weight, vbias, hbias, own = (torch.tensor(0.5 * draw(size=size)) for size in ((3, 2), (2, 1, 3), 2, (4, 3)))
    rbm = RBM(weight, vbias, hbias, visible_units=GaussianUnits(own))
    assert rbm.batch_shape == (2, 4)
    v = rbm.sample((5,))
    log_prob, estimate = rbm.log_prob(v), AIS(500, 50)
    annealed = RBM(weight, vbias, hbias, estimate, visible_units=GaussianUnits(own)).log_partition()
    for i in range(2):
        for j in range(4):
            one = RBM(weight, vbias[i, 0], hbias, visible_units=GaussianUnits(own[j]))
            close(log_prob[:, i, j], one.log_prob(v[:, i, j]), 1e-10)
            error = annealed.value[i, j] - one.log_partition().value
            assert error.abs() < Z_LIMIT * annealed.standard_error[i, j] + 1e-6


def test_every_unit_type_has_its_draws_fixed_by_the_seed() -> None:
    for name in UNITS:
        rbm = truth(name, "Bernoulli").rbm
        draws = []
        for seed in (1, 1, 2):
            pyro.set_rng_seed(seed)
            draws.append((rbm.sample((30,)), rbm.gibbs(rbm.base_states(rbm.vbias, 30, 0), 2)))
        for first, again, other in zip(*draws, strict=True):
            assert torch.equal(first, again)
            assert not torch.equal(first, other)


def test_no_divergence_is_given_between_distributions_of_other_units() -> None:
    weight, vbias, hbias = torch.zeros(3, 2), torch.zeros(3), torch.zeros(2)
    p = RBM(weight, vbias, hbias, validate_args=False)
    q = RBM(weight, vbias, hbias, validate_args=False, visible_units=SpinUnits())
    with pytest.raises(ValueError, match="units of one kind"):
        torch.distributions.kl_divergence(p, q)
