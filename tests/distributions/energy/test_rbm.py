"""The RBM against enumeration of every pair of states in float64, and the errors for bad input."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.distributions.testing.gof import multinomial_goodness_of_fit
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gen.distributions import RBM
from pyro_gen.infer import AIS, ContrastiveDivergence, Exact, Partition
from pyro_gen.testing import frequencies, goodness_of_fit, multinomial_floor, total_variation
from tests.evidence import evidence
from tests.kernels.oracle import (
    P_LIMIT,
    Array,
    Weights,
    bits,
    code,
    end_distribution,
    joint,
    log_joint,
    log_z,
    sigmoid,
)

SIZES = [(4, 3), (3, 4), (1, 1), (2, 6), (5, 1)]
Batches = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def rbm_and_weights(size: tuple[int, int], scale: float = 1.0) -> tuple[RBM, Weights]:
    weights = Weights.normal(*size, scale=scale, seed=sum(size))
    return RBM(*weights.tensors()), weights


def states(units: int) -> Tensor:
    return torch.tensor(bits(units))


def close(actual: Tensor | None, expected: Tensor | None) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


def assert_equal(actual: Tensor, expected: Array | float) -> None:
    close(actual, torch.as_tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.smoke
def test_energies_and_probabilities_are_enumerated(size: tuple[int, int]) -> None:
    rbm, weights = rbm_and_weights(size)
    v, h, distribution = states(size[0]), states(size[1]), joint(weights)
    assert_equal(rbm.energy(v.unsqueeze(1), h), -log_joint(weights))
    assert_equal(rbm.log_joint(v.unsqueeze(1), h), np.log(distribution))
    assert_equal(rbm.free_energy(v), -np.logaddexp.reduce(log_joint(weights), axis=1))
    assert_equal(rbm.unnormalized_log_prob(v), np.logaddexp.reduce(log_joint(weights), axis=1))
    assert_equal(rbm.log_prob(v), np.log(distribution.sum(1)))
    assert_equal(rbm.log_prob(v).exp().sum(), 1.0)
    estimate = rbm.log_partition()
    assert_equal(estimate.value, log_z(weights))
    assert estimate.standard_error == 0
    assert estimate.method == "exact"
    assert estimate.effective_sample_size == float("inf")


@pytest.mark.parametrize("size", SIZES)
def test_both_factorisations_give_the_joint(size: tuple[int, int]) -> None:
    """p(v) p(h | v) = p(h) p(v | h) = the joint; p(h) is the RBM with its sides exchanged."""
    rbm, weights = rbm_and_weights(size)
    weight, vbias, hbias = weights.tensors()
    exchanged = RBM(weight.mT, hbias, vbias)
    v, h = states(size[0]).unsqueeze(1), states(size[1])
    from_v = rbm.log_prob(v) + rbm.hidden_given_visible(v).log_prob(h)
    from_h = exchanged.log_prob(h) + rbm.visible_given_hidden(h).log_prob(v)
    assert_equal(from_v, np.log(joint(weights)))
    assert_equal(from_h, np.log(joint(weights)))
    assert rbm.hidden_given_visible(v).event_shape == (size[1],)
    assert rbm.visible_given_hidden(h).event_shape == (size[0],)


@pytest.mark.parametrize("size", SIZES)
def test_pseudo_log_likelihood_is_the_sum_of_the_conditionals(size: tuple[int, int]) -> None:
    rbm, weights = rbm_and_weights(size)
    marginal = joint(weights).sum(1)
    expected = [
        sum(np.log(marginal[s] / (marginal[s] + marginal[s ^ 1 << i])) for i in range(size[0]))
        for s in range(2 ** size[0])
    ]
    assert_equal(rbm.pseudo_log_likelihood(states(size[0])), np.array(expected))


def test_strong_weights_neither_overflow_nor_lose_digits() -> None:
    rbm, weights = rbm_and_weights((4, 3), scale=300.0)
    v = states(4)
    expected = np.logaddexp.reduce(log_joint(weights), axis=1) - log_z(weights)
    torch.testing.assert_close(rbm.log_prob(v), torch.tensor(expected), rtol=1e-13, atol=1e-9)
    assert rbm.sample((10,)).isfinite().all()
    assert rbm.pseudo_log_likelihood(v).isfinite().all()


@pytest.mark.parametrize("kind", [torch.bool, torch.long, torch.uint8, torch.float32])
def test_states_of_any_type_are_states(kind: torch.dtype) -> None:
    rbm, _ = rbm_and_weights((4, 3))
    v, h = states(4), torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(rbm.log_prob(v.to(kind)), rbm.log_prob(v))
    torch.testing.assert_close(rbm.free_energy(v.to(kind)), rbm.free_energy(v))
    torch.testing.assert_close(rbm.pseudo_log_likelihood(v.to(kind)), rbm.pseudo_log_likelihood(v))
    torch.testing.assert_close(rbm.energy(v.to(kind), h.to(kind)), rbm.energy(v, h))
    assert rbm.hidden_given_visible(v.to(kind)).log_prob(h).dtype == torch.float64
    assert rbm.visible_given_hidden(h.to(kind)).log_prob(v).dtype == torch.float64
    assert rbm.gibbs(v.to(kind), 1).dtype == torch.float64


BATCHES: list[Batches] = [
    ((3, 1), (2,), ()),
    ((), (3, 1), (2,)),
    ((2,), (), (3, 1)),
    ((3, 2), (1,), (1, 1)),
    ((1,), (), ()),
]


def batched(size: tuple[int, int], batches: Batches) -> tuple[RBM, dict[tuple[int, ...], RBM]]:
    """An RBM with parameters of these batch shapes, and the unbatched RBM of each element."""
    draw = np.random.default_rng(0).normal
    weight, vbias = (torch.tensor(draw(size=(*b, *e))) for b, e in zip(batches[:2], (size, size[:1]), strict=True))
    hbias = torch.tensor(draw(size=(*batches[2], size[1])))
    shape = torch.broadcast_shapes(*batches)
    full = weight.expand(*shape, *size), vbias.expand(*shape, size[0]), hbias.expand(*shape, size[1])
    cells = itertools.product(*map(range, shape))
    return RBM(weight, vbias, hbias), {i: RBM(full[0][i], full[1][i], full[2][i]) for i in cells}


def at(values: Tensor, cell: tuple[int, ...]) -> Tensor:
    """The element ``cell`` of the batch behind one leading dimension."""
    return values.movedim(0, -1)[cell] if values.dim() == len(cell) + 1 else values.movedim(0, -2)[cell]


@pytest.mark.parametrize("size", [(4, 3), (2, 5)])
@pytest.mark.parametrize("batches", BATCHES)
def test_batched_parameters_equal_a_loop(size: tuple[int, int], batches: Batches) -> None:
    rbm, cells = batched(size, batches)
    v, h = states(size[0]), states(size[1])[-1]
    many = v.view(-1, *(1,) * len(rbm.batch_shape), size[0])
    hidden = h.expand(*rbm.batch_shape, size[1])
    up, down = rbm.hidden_given_visible(many), rbm.visible_given_hidden(hidden)
    assert rbm.batch_shape == torch.broadcast_shapes(*batches)
    assert rbm.log_prob(many).shape == (len(v), *rbm.batch_shape)
    for cell, one in cells.items():
        close(at(rbm.log_prob(many), cell), one.log_prob(v))
        close(at(rbm.free_energy(many).expand(-1, *rbm.batch_shape), cell), one.free_energy(v))
        close(at(rbm.pseudo_log_likelihood(many), cell), one.pseudo_log_likelihood(v))
        close(at(rbm.log_joint(many, hidden), cell), one.log_joint(v, h))
        close(rbm.log_partition().value[cell], one.log_partition().value)
        close(rbm.entropy()[cell], one.entropy())
        close(at(up.log_prob(h).expand(-1, *rbm.batch_shape), cell), one.hidden_given_visible(v).log_prob(h))
        close(down.log_prob(v[-1])[cell], one.visible_given_hidden(h).log_prob(v[-1]))


@pytest.mark.parametrize("size", [(3, 2), (2, 3)])
@pytest.mark.parametrize("batches", BATCHES[:3])
def test_batched_draws_follow_their_own_distributions(size: tuple[int, int], batches: Batches) -> None:
    rbm, cells = batched(size, batches)
    n, rows = 5000, states(size[0])
    start = torch.zeros(n, *rbm.batch_shape, size[0], dtype=torch.float64)
    draws = {"sample": rbm.sample((n,)), "gibbs": rbm.gibbs(start, 15)}
    for name, drawn in draws.items():
        assert drawn.shape == (n, *rbm.batch_shape, size[0])
        for cell, one in cells.items():
            counts = frequencies(at(drawn, cell), rows) * n
            assert goodness_of_fit(counts, one.log_prob(rows).exp()) > P_LIMIT, (name, cell)


def test_expand_shares_parameters_and_widens_everything() -> None:
    rbm, _ = rbm_and_weights((4, 3))
    wide = rbm.expand((5, 2))
    v = states(4)
    assert wide.weight is rbm.weight
    assert (wide.batch_shape, wide.event_shape) == ((5, 2), (4,))
    torch.testing.assert_close(wide.log_prob(v[3]), rbm.log_prob(v[3]).expand(5, 2))
    assert wide.log_prob(v.view(16, 1, 1, 4)).shape == (16, 5, 2)
    assert wide.sample((7,)).shape == (7, 5, 2, 4)
    assert [x.shape for x in wide.sample_joint((7,))] == [(7, 5, 2, 4), (7, 5, 2, 3)]
    assert wide.enumerate_support().shape == (16, 5, 2, 4)
    assert wide.enumerate_support(expand=False).shape == (16, 1, 1, 4)
    assert wide.log_partition().value.shape == (5, 2)
    assert wide.entropy().shape == (5, 2)
    assert wide.gibbs(v[0], 1).shape == (5, 2, 4)
    assert len(torch.unique(wide.expand((50, 5, 2)).sample().flatten(0, -2), dim=0)) > 8
    torch.testing.assert_close(wide.expand((3, 5, 2)).log_prob(v[0]), rbm.log_prob(v[0]).expand(3, 5, 2))


class Named(RBM):
    """A subclass with a constructor and an attribute of its own."""

    def __init__(self, name: str, weight: Tensor, vbias: Tensor, hbias: Tensor) -> None:
        super().__init__(weight, vbias, hbias)
        self.name = name

    def expand(self, batch_shape: Any, _instance: Any = None) -> Named:
        new = self._get_checked_instance(Named, _instance)
        new.name = f"{self.name}, expanded"
        wide: Named = super().expand(batch_shape, new)
        return wide


def test_a_subclass_may_give_its_expansions_attributes_of_their_own() -> None:
    named, weights = Named("ours", W, A, B), (W, A, B)
    wide = named.expand((2,))
    assert (wide.name, wide.batch_shape) == ("ours, expanded", (2,))
    assert all(p is q for p, q in zip(wide.parameters, weights, strict=True))


@pytest.mark.parametrize("size", [(4, 3), (3, 4), (1, 5)])
@pytest.mark.smoke
def test_draws_follow_the_joint_distribution(size: tuple[int, int]) -> None:
    rbm, weights = rbm_and_weights(size)
    distribution, n = joint(weights), 100_000
    v, h = rbm.sample_joint((n,))
    pairs = torch.tensor(np.bincount(code(v) * distribution.shape[1] + code(h), minlength=distribution.size))
    assert goodness_of_fit(pairs, torch.tensor(distribution.ravel())) > P_LIMIT
    counts = torch.tensor(np.bincount(code(rbm.sample((n,))), minlength=2 ** size[0]))
    assert goodness_of_fit(counts, torch.tensor(distribution.sum(1))) > P_LIMIT
    assert multinomial_goodness_of_fit(torch.tensor(distribution.sum(1)), counts, total_count=n) > P_LIMIT


@pytest.mark.parametrize("sweeps", [1, 2, 5])
def test_gibbs_follows_the_distribution_after_k_sweeps(sweeps: int) -> None:
    rbm, weights = rbm_and_weights((4, 3))
    v = rbm.gibbs(torch.ones(100_000, 4), sweeps)
    counts = torch.tensor(np.bincount(code(v), minlength=16))
    assert goodness_of_fit(counts, torch.tensor(end_distribution(weights, 15, sweeps).sum(1))) > P_LIMIT


def test_sample_by_sweeps_starts_at_the_biases_and_runs_that_many() -> None:
    """Distribution of (v, h) after num_steps sweeps from sigmoid(vbias), then h from p(h | v), without exact draws."""
    weights = Weights.normal(3, 2, scale=2.0, seed=4)
    rbm = RBM(*weights.tensors(), AIS(100, 50), num_steps=1)
    distribution, rates = joint(weights), sigmoid(weights.vbias)
    start = np.prod(np.where(bits(3) == 1, rates, 1 - rates), axis=1)
    after = sum(start[s] * end_distribution(weights, s, 1).sum(1) for s in range(8))
    expected = after[:, None] * distribution / distribution.sum(1, keepdims=True)
    v, h = rbm.sample_joint((100_000,))
    counts = torch.tensor(np.bincount(code(v) * 4 + code(h), minlength=32))
    assert goodness_of_fit(counts, torch.tensor(expected.ravel())) > P_LIMIT


def brute_log_likelihood(weight: Tensor, vbias: Tensor, hbias: Tensor, rows: Tensor) -> Tensor:
    """Log likelihood from all pairs of states, every energy a sum over i and j."""
    v, h = states(len(vbias)), states(len(hbias))

    def score(v: Tensor) -> Tensor:
        return v @ vbias.unsqueeze(1) + (h @ hbias) + torch.einsum("ni,ij,mj->nm", v, weight, h)

    return score(rows).logsumexp(1) - score(v).flatten().logsumexp(0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.smoke
def test_gradients_are_those_of_the_enumerated_likelihood(size: tuple[int, int]) -> None:
    rows = states(size[0])
    ours, theirs = (Weights.normal(*size, seed=1).tensors() for _ in range(2))
    for x in (*ours, *theirs):
        x.requires_grad_()
    share = torch.linspace(-1, 2, len(rows), dtype=torch.float64)
    (share * RBM(*ours).log_prob(rows)).sum().backward()
    (share * brute_log_likelihood(*theirs, rows)).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        close(mine.grad, other.grad)


@pytest.mark.parametrize("size", [(3, 2), (2, 3)])
@pytest.mark.parametrize("batches", [((), (), ()), ((2, 1), (3,), ())])
def test_first_and_second_derivatives_pass_gradcheck(size: tuple[int, int], batches: Batches) -> None:
    parameters = tuple(x.requires_grad_() for x in batched(size, batches)[0].parameters)
    v = torch.ones(size[0], dtype=torch.float64)

    def log_prob(weight: Tensor, vbias: Tensor, hbias: Tensor) -> Tensor:
        return RBM(weight, vbias, hbias, validate_args=False).log_prob(v)

    def pseudo(weight: Tensor, vbias: Tensor, hbias: Tensor) -> Tensor:
        return RBM(weight, vbias, hbias, validate_args=False).pseudo_log_likelihood(v)

    for function in (log_prob, pseudo):
        assert torch.autograd.gradcheck(function, parameters)
        assert torch.autograd.gradgradcheck(function, parameters)


@pytest.mark.parametrize("size", [(4, 3), (2, 5)])
def test_entropy_and_divergence_are_sums_over_states(size: tuple[int, int]) -> None:
    rbm, weights = rbm_and_weights(size)
    other, other_weights = rbm_and_weights(size, scale=0.5)
    p, q = joint(weights).sum(1), joint(other_weights).sum(1)
    assert_equal(rbm.entropy(), -(p * np.log(p)).sum())
    assert_equal(kl_divergence(rbm, other), (p * np.log(p / q)).sum())


@pytest.mark.parametrize(
    ("left", "right"), [((), (4, 3)), ((3,), (4, 3)), ((4, 3), ()), ((4, 3), (3,)), ((2,), (2, 1))]
)
def test_divergence_broadcasts_both_batches(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    p, _ = batched((2, 3), (left, (), ()))
    q, _ = batched((2, 3), ((), right, ()))
    shape = torch.broadcast_shapes(left, right)
    divergence = kl_divergence(p, q)
    assert divergence.shape == shape
    wide_p, wide_q = (RBM(d.weight.expand(*shape, 2, 3), d.vbias.expand(*shape, 2), d.hbias) for d in (p, q))
    close(divergence, kl_divergence(wide_p, wide_q))


@pytest.mark.parametrize("partition", [ContrastiveDivergence(1), AIS(50, 50)])
def test_entropy_and_divergence_need_an_exact_log_z(partition: Partition) -> None:
    rbm = RBM(*Weights.normal(3, 2).tensors(), partition)
    exact = RBM(*Weights.normal(3, 2).tensors())
    for call in (rbm.entropy, lambda: kl_divergence(rbm, exact), lambda: kl_divergence(exact, rbm)):
        with pytest.raises((NotImplementedError, ValueError)):
            call()


def test_support_is_listed_while_there_are_at_most_20_units() -> None:
    rbm, _ = rbm_and_weights((4, 3))
    assert rbm.has_enumerate_support
    assert sorted(code(rbm.enumerate_support()).tolist()) == list(range(16))
    wide = RBM(torch.zeros(21, 3), torch.zeros(21), torch.zeros(3))
    assert not wide.has_enumerate_support
    for call in (wide.enumerate_support, wide.entropy):
        with pytest.raises(NotImplementedError, match="at most 20"):
            call()


def test_beyond_20_units_nothing_is_estimated_unasked() -> None:
    parameters = torch.zeros(30, 21), torch.zeros(30), torch.zeros(21)
    rbm = RBM(*parameters)
    v, h = torch.ones(30), torch.ones(21)
    refused = {
        "log_prob": lambda: rbm.log_prob(v),
        "log_partition": rbm.log_partition,
        "log_joint": lambda: rbm.log_joint(v, h),
    }
    for name, call in refused.items():
        with pytest.raises(ValueError, match=r"21 units.*AIS\(.*Exact\(.*negative phase"):
            pytest.fail(f"{name} returned {call()}")
    for draw in (rbm.sample, rbm.sample_joint):
        with pytest.raises(ValueError, match=r"`num_steps`.*`gibbs`"):
            draw()
    assert rbm.free_energy(v) == pytest.approx(-21 * np.log(2))
    assert rbm.energy(v, h) == 0
    assert rbm.gibbs(v, 2).shape == (30,)
    assert rbm.pseudo_log_likelihood(v) == pytest.approx(30 * np.log(0.5))
    assert RBM(*parameters, num_steps=2).sample((3,)).shape == (3, 30)
    assert RBM(*parameters, partition=Exact(21)).log_prob(v) == pytest.approx(-30 * np.log(2), rel=1e-5)


def test_one_seed_fixes_every_draw_and_log_prob_draws_nothing() -> None:
    rbm, _ = rbm_and_weights((4, 3))
    swept = RBM(rbm.weight, rbm.vbias, rbm.hbias, AIS(20, 20), num_steps=2)
    draws = [lambda: rbm.sample((50,)), lambda: swept.sample((50,)), lambda: rbm.gibbs(torch.ones(50, 4), 2)]
    for draw in draws:
        pyro.set_rng_seed(7)
        first, second = draw(), draw()
        pyro.set_rng_seed(7)
        assert torch.equal(draw(), first)
        assert not torch.equal(first, second)
    state = torch.get_rng_state()
    rbm.log_prob(states(4))
    rbm.entropy()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 2)])
def test_no_rows_give_no_rows(shape: tuple[int, ...]) -> None:
    rbm, _ = rbm_and_weights((4, 3))
    swept = RBM(rbm.weight, rbm.vbias, rbm.hbias, AIS(20, 20), num_steps=2)
    assert rbm.log_prob(torch.zeros(*shape, 4)).shape == shape
    assert rbm.sample(shape).shape == (*shape, 4)
    assert swept.sample(shape).shape == (*shape, 4)
    assert rbm.gibbs(torch.zeros(*shape, 4), 1).shape == (*shape, 4)
    assert rbm.expand((2,)).sample(shape).shape == (*shape, 2, 4)


W, A, B = torch.zeros(4, 3), torch.zeros(4), torch.zeros(3)
BAD_PARAMETERS = {
    "weight is a vector": ((A, A, B), r"`weight` must have shape \(\.\.\., visible, hidden\).*got \(4,\)"),
    "no hidden unit": ((torch.zeros(4, 0), A, torch.zeros(0)), r"`weight` must have shape"),
    "vbias too long": ((W, torch.zeros(5), B), r"`vbias` must have shape \(\.\.\., 4\) to match `weight`, got \(5,\)"),
    "hbias a scalar": ((W, A, torch.tensor(0.0)), r"`hbias` must have shape \(\.\.\., 3\) to match `weight`, got \(\)"),
    "sides exchanged": ((W.mT, A, B), r"`vbias` must have shape \(\.\.\., 3\).*got \(4,\)"),
    "dtype": ((W, A.double(), B), r"`vbias` must be torch\.float32 on cpu like `weight`, got torch\.float64"),
    "device": ((W, A, B.to("meta")), r"`hbias` must be torch\.float32 on cpu like `weight`, got .* on meta"),
    "NaN weight": ((W * float("nan"), A, B), "weight"),
    "infinite vbias": ((W, A / 0, B), "vbias"),
    "NaN hbias": ((W, A, B * float("nan")), "hbias"),
    "batches that do not broadcast": ((W.expand(2, 4, 3), A.expand(3, 4), B), r"batch|broadcast"),
    "integer weight": ((W.long(), A.long(), B.long()), r"`weight` .*int64"),
}


@pytest.mark.parametrize("name", BAD_PARAMETERS)
def test_bad_parameters_are_named(name: str) -> None:
    parameters, message = BAD_PARAMETERS[name]
    with pytest.raises(ValueError, match=message):
        RBM(*parameters)


@pytest.mark.parametrize("num_steps", [0, -3])
def test_bad_num_steps_are_named(num_steps: int) -> None:
    with pytest.raises(ValueError, match=f"`num_steps` must be at least 1, got {num_steps}"):
        RBM(W, A, B, num_steps=num_steps)
    with pytest.raises(ValueError, match="`num_steps` must be at least 0, got -1"):
        RBM(W, A, B).gibbs(A, -1)


BAD_VALUES = {
    "one half": torch.tensor([0, 0.5, 1, 1]),
    "two": torch.tensor([0, 2, 1, 1]),
    "minus one": torch.tensor([0.0, -1, 1, 1]),
    "infinite": torch.tensor([0, torch.inf, 1, 1]),
    "too long": torch.zeros(5),
    "too short": torch.zeros(2, 1),
    "batch": torch.zeros(3, 4),
    "NaN": torch.tensor([0, torch.nan, 1, 1]),
}


@pytest.mark.parametrize("name", BAD_VALUES)
@pytest.mark.parametrize("method", ["log_prob", "gibbs"])
def test_values_outside_the_support_raise(name: str, method: str) -> None:
    rbm = RBM(W, A.expand(2, 4), B)
    with pytest.raises(ValueError, match="fill masked" if name == "NaN" else r".+"):
        rbm.log_prob(BAD_VALUES[name]) if method == "log_prob" else rbm.gibbs(BAD_VALUES[name], 1)


def test_infer_shapes_agrees_with_the_instance() -> None:
    for batches in BATCHES:
        rbm, _ = batched((4, 3), batches)
        shapes = {name: getattr(rbm, name).shape for name in ("weight", "vbias", "hbias")}
        assert RBM.infer_shapes(**shapes) == (rbm.batch_shape, rbm.event_shape)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_samplers_reach_the_noise_floor(scale: float) -> None:
    """Total variation of 100 000 draws below the 99.9 % quantile of iid draws; 6 checks at seed 0."""
    weights, n, rows = Weights.normal(6, 4, scale=scale, seed=11), 100_000, states(6)
    rbm = RBM(*weights.tensors(torch.float32))
    distribution = torch.tensor(joint(weights).sum(1))
    floor = multinomial_floor(distribution, n)
    draws = {"exact": rbm.sample((n,)), "gibbs": rbm.gibbs(torch.randint(2, (n, 6)).float(), 2000)}
    distance = {name: float(total_variation(frequencies(x, rows), distribution)) for name, x in draws.items()}
    evidence(f"noise_floor_6x4_scale_{scale}", floor=floor, draws=n, **distance)
    assert max(distance.values()) < floor, distance
