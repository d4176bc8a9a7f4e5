"""An RBM given some of its cells, against enumeration of every state in float64, and the errors for bad input."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pyro_gen import nn
from pyro_gen.distributions import RBM, ClampedRBM, streaming
from pyro_gen.infer import AIS, ContrastiveDivergence, Exact, Partition, PersistentChains
from pyro_gen.testing import frequencies, goodness_of_fit, states
from tests.kernels.oracle import P_LIMIT, Weights

SIZES = [(4, 3), (4, 6), (5, 1), (1, 2)]


def rbm_of(size: tuple[int, int], scale: float = 1.0, num_steps: int | None = None) -> RBM:
    return RBM(*Weights.normal(*size, scale=scale, seed=sum(size)).tensors(), num_steps=num_steps)


def rbm_from(parts: Sequence[Tensor], partition: Partition | None = None) -> RBM:
    weight, vbias, hbias = parts
    return RBM(weight, vbias, hbias, partition)


def evidence(visible: int) -> tuple[Tensor, Tensor]:
    """Every mask with two patterns of observed values, NaN in all missing cells."""
    masks = states(visible).bool().repeat(2, 1)
    values = (torch.rand(masks.shape, dtype=torch.float64) < 0.5).double()
    return torch.where(masks, values, torch.nan), masks


def enumerated(rbm: RBM, observed: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Log p(state | evidence), (states, rows), and log p(evidence), (rows,), from log p(state)."""
    every = states(rbm.event_shape[0])
    fits = ((every.unsqueeze(1) == observed) | ~mask).all(-1)
    joint = torch.where(fits, rbm.log_prob(every).unsqueeze(-1), -math.inf)
    return joint - joint.logsumexp(0), joint.logsumexp(0)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


def forced(rbm: RBM, observed: Tensor, mask: Tensor, num_steps: int | None = None) -> ClampedRBM:
    """The same distribution where nothing may be enumerated."""
    return ClampedRBM(*rbm.uncentred, observed, mask, max_units=0, num_steps=num_steps)


@pytest.mark.parametrize("size", SIZES)
def test_every_mask_and_state_is_enumerated(size: tuple[int, int]) -> None:
    rbm = rbm_of(size)
    observed, mask = evidence(size[0])
    given = rbm.given(observed, mask)
    distribution, log_evidence = enumerated(rbm, observed, mask)
    close(given.log_prob(states(size[0]).unsqueeze(1)), distribution)
    close(rbm.log_evidence(observed, mask), log_evidence)
    close(given.marginals(), (distribution.exp().unsqueeze(-1) * states(size[0]).unsqueeze(1)).sum(0))
    assert given.samples_exactly
    for row in range(0, len(mask), 3):
        alone = rbm.given(observed[row], mask[row])
        close(alone.log_prob(states(size[0])), distribution[:, row])
        close(alone.marginals(), given.marginals()[row])


@pytest.mark.parametrize("size", [(4, 3), (4, 6)])
def test_samples_follow_the_distribution_and_carry_the_evidence(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """False alarms: below 1e-6 for each of 128 rows; NaN in the missing cells changes nothing."""
    rbm, n = rbm_of(size), 4000
    observed, mask = evidence(size[0])
    distribution, _ = enumerated(rbm, observed, mask)
    for block_bytes in (streaming.BLOCK_BYTES, 3000):
        monkeypatch.setattr(streaming, "BLOCK_BYTES", block_bytes)
        draws = rbm.given(observed, mask).sample((n,))
        assert draws.shape == (n, *observed.shape)
        assert ((draws == observed) | ~mask).all()
        for row in range(len(mask)):
            assert (
                goodness_of_fit(frequencies(draws[:, row], states(size[0])) * n, distribution[:, row].exp()) > P_LIMIT
            )


@pytest.mark.parametrize("size", [(4, 3), (4, 6)])
def test_blocks_change_neither_values_nor_gradients(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    observed, mask = evidence(size[0])
    found = []
    for block_bytes in (streaming.BLOCK_BYTES, 1):
        monkeypatch.setattr(streaming, "BLOCK_BYTES", block_bytes)
        leaves = [p.requires_grad_() for p in rbm_of(size).parameters]
        given = rbm_from(leaves).given(observed, mask)
        value = given.log_completions()
        gradients = torch.autograd.grad((value * torch.arange(len(value))).sum(), leaves)
        found.append((value.detach(), given.marginals(), *gradients))
    for one, many in zip(*found, strict=True):
        close(one, many)
    with pytest.raises(NotImplementedError, match="once only"):
        torch.autograd.grad(rbm_from(leaves).given(observed, mask).log_completions().sum(), leaves, create_graph=True)


def test_the_gradient_of_log_evidence_is_that_of_the_enumerated_sum() -> None:
    observed, mask = evidence(4)
    for size in [(4, 3), (4, 6)]:
        leaves = [p.requires_grad_() for p in rbm_of(size).parameters]
        expected = torch.autograd.grad(enumerated(rbm_from(leaves), observed, mask)[1].sum(), leaves)
        actual = torch.autograd.grad(rbm_from(leaves).log_evidence(observed, mask).sum(), leaves)
        for a, e in zip(actual, expected, strict=True):
            close(a, e)


def test_all_observed_is_log_prob_and_nothing_observed_is_certain() -> None:
    rbm, every = rbm_of((4, 3)), states(4)
    everything = torch.ones(4, dtype=torch.bool)
    close(rbm.log_evidence(every, everything), rbm.log_prob(every))
    close(rbm.log_evidence(every, ~everything), torch.zeros(16, dtype=torch.float64))
    close(rbm.given(every, everything).log_prob(every), torch.zeros(16, dtype=torch.float64))
    close(rbm.given(every[0], ~everything).log_prob(every), rbm.log_prob(every))
    assert torch.equal(rbm.given(every, everything).sample(), every)


@pytest.mark.parametrize("batches", [((3, 1), (2,), ()), ((), (3, 1), (2,)), ((2,), (), (3, 1))])
@pytest.mark.parametrize("size", [(4, 3), (4, 6)])
def test_batched_parameters_equal_a_loop(size: tuple[int, int], batches: tuple[tuple[int, ...], ...]) -> None:
    shapes = (size, size[:1], size[1:])
    parts = [torch.randn(*b, *s, dtype=torch.float64) for b, s in zip(batches, shapes, strict=True)]
    full = [p.expand(3, 2, *s) for p, s in zip(parts, shapes, strict=True)]
    observed, mask = evidence(4)
    given = rbm_from(parts).given(observed[5:7], mask[5:7])
    assert given.batch_shape == (3, 2)
    value = given.sample((50,))
    for i in range(3):
        for j in range(2):
            alone = rbm_from([p[i, j] for p in full]).given(observed[5 + j], mask[5 + j])
            close(given.log_prob(value)[:, i, j], alone.log_prob(value[:, i, j]))
            close(given.marginals()[i, j], alone.marginals())


def test_clamped_chains_reach_the_distribution() -> None:
    """60 sweeps of an easy RBM; false alarms below 1e-6 a row."""
    rbm, n = rbm_of((4, 3), scale=0.5), 4000
    observed, mask = evidence(4)
    distribution, _ = enumerated(rbm, observed, mask)
    given = forced(rbm, observed, mask, num_steps=60)
    assert not given.samples_exactly
    draws = given.sample((n,))
    assert ((draws == observed) | ~mask).all()
    for row in range(len(mask)):
        assert goodness_of_fit(frequencies(draws[:, row], states(4)) * n, distribution[:, row].exp()) > P_LIMIT
    exact = rbm.given(observed, mask).marginals()
    assert (given.marginals(2000) - exact).abs().max() < 0.02  # standard error of a cell below 0.003
    assert torch.equal(given.marginals(3)[mask], exact[mask])


def test_estimated_marginals_are_those_of_the_clamped_chain() -> None:
    """Three cells bound by one hidden unit: within 0.05, over 10 standard errors, and far from unclamped ones."""
    rbm = RBM(torch.full((3, 1), 3.0).double(), torch.full((3,), -1.5).double(), torch.full((1,), -4.5).double())
    row, mask = torch.tensor([1.0, 1.0, 0.0]).double(), torch.tensor([True, True, False])
    exact = rbm.given(row, mask).marginals()
    assert abs(exact[2] - 0.5) > 0.2
    assert (forced(rbm, row, mask, num_steps=100).marginals(500) - exact).abs().max() < 0.05


def test_clamped_sweeps_start_at_the_evidence_and_have_random_numbers_of_their_own() -> None:
    """Without couplings the missing cells are the random numbers: 100 bits that agree by chance once in 2^100."""
    row, mask = torch.ones(200).double(), torch.arange(200) < 100
    given = RBM(*Weights.normal(200, 30, scale=0.0).tensors()).given(row, mask)
    start = torch.zeros(200).double()
    assert torch.equal(given.gibbs(start, 0), mask.double())
    draws = []
    for num_steps in (1, 2):
        torch.manual_seed(0)
        draws.append(given.gibbs(start, num_steps))
    assert not torch.equal(*draws)


def test_an_unmixed_draw_is_never_passed_as_exact() -> None:
    given = forced(rbm_of((4, 3)), *evidence(4))
    with pytest.raises(ValueError, match=r"`sample` is not exact here .3 hidden units and up to 4 missing cells"):
        given.sample()
    with pytest.raises(ValueError, match="`marginals` is not exact here"):
        given.marginals()
    with pytest.raises(ValueError, match="sum over the missing cells is needed"):
        given.log_prob(torch.zeros(4, dtype=torch.float64))
    assert given.gibbs(torch.zeros(4, dtype=torch.float64), 3).shape == (32, 4)
    with pytest.raises(ValueError, match="`num_steps` must be at least 0"):
        given.gibbs(torch.zeros(4, dtype=torch.float64), -1)
    with pytest.raises(ValueError, match="`num_chains` must be at least 1"):
        forced(rbm_of((4, 3)), *evidence(4), num_steps=2).marginals(0)


def test_few_missing_cells_are_exact_in_a_large_rbm() -> None:
    """40 x 30 units, where log Z is out of reach, but not the four missing cells."""
    rbm = RBM(*Weights.normal(40, 30, scale=0.3).tensors())
    row = (torch.rand(40, dtype=torch.float64) < 0.5).double()
    mask = torch.ones(40, dtype=torch.bool)
    mask[[3, 11, 20, 39]] = False
    candidates = row.repeat(16, 1)
    candidates[:, ~mask] = states(4)
    expected = (-rbm.free_energy(candidates)).log_softmax(0)
    close(rbm.given(row, mask).log_prob(candidates), expected)
    with pytest.raises(ValueError, match="log Z is not known"):
        rbm.log_evidence(row, mask)
    with pytest.raises(ValueError, match="30 hidden units and up to 40 missing"):
        rbm.given(row, torch.zeros_like(mask)).log_prob(row)
    known = RBM(*rbm.uncentred, AIS(200, 200))
    expected = (-rbm.free_energy(candidates)).logsumexp(0) - known.log_partition().value
    close(known.log_evidence(row, mask), expected)


def test_log_evidence_under_phases() -> None:
    rbm = nn.RBM(6, 3, negative_phase=PersistentChains(7)).double()
    x, mask = torch.ones(5, 6).double(), torch.rand(5, 6) < 0.5
    distribution = rbm()
    evidence = distribution.log_evidence(x, mask)  # which moves the chains
    expected = distribution.given(x, mask).log_completions() + distribution.free_energy(rbm.chains).mean()
    close(evidence, expected)
    with pytest.raises(ValueError, match="particles that start at the data"):
        rbm_from([*rbm.parameters()], ContrastiveDivergence(1)).log_evidence(x, mask)


def test_larger_exact_limit_is_taken_over() -> None:
    parameters = Weights.normal(40, 22, scale=0.1).tensors(torch.float32)
    nothing, row = torch.zeros(40, dtype=torch.bool), torch.zeros(40)
    assert RBM(*parameters, Exact(22)).given(row, nothing).samples_exactly
    assert not RBM(*parameters).given(row, nothing).samples_exactly


def test_bad_evidence_is_named() -> None:
    rbm, row, mask = rbm_of((4, 3)), torch.ones(4, dtype=torch.float64), torch.ones(4, dtype=torch.bool)
    with pytest.raises(ValueError, match="`mask` must be boolean"):
        rbm.given(row, mask.double())
    with pytest.raises(ValueError, match=r"`mask` must have shape \(..., 4\), got \(3,\)"):
        rbm.given(row, mask[:3])
    with pytest.raises(ValueError, match=r"`observed` must have shape \(..., 4\), got \(1,\)"):
        rbm.given(row[:1], mask)
    with pytest.raises(ValueError, match="`observed` must be on"):
        rbm.given(row.to("meta"), mask)
    with pytest.raises(ValueError, match="must broadcast against each other"):
        rbm.given(row.expand(2, 4), mask.expand(3, 4))
    for stranger in (0.5, torch.nan, -1.0):
        with pytest.raises(ValueError, match="observed"):
            rbm.given(row * stranger, mask)
    with pytest.raises(ValueError, match="`value` holds NaN"):
        rbm.given(row, ~mask).log_prob(row * torch.nan)


@pytest.mark.parametrize("kind", [torch.bool, torch.long, torch.uint8, torch.float32])
def test_evidence_of_any_type_is_evidence(kind: torch.dtype) -> None:
    rbm, row = rbm_of((4, 3)), torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    mask = torch.tensor([True, False, True, False])
    close(rbm.given(row.to(kind), mask).log_prob(row), rbm.given(row, mask).log_prob(row))


def test_copies_and_expansions_are_the_same_distribution() -> None:
    observed, mask = evidence(4)
    given = rbm_of((4, 3)).given(observed, mask)
    value = given.sample()
    again = pickle.loads(pickle.dumps(given))
    close(again.log_prob(value), given.log_prob(value))
    close(given.expand((2, 32)).marginals(), given.marginals().expand(2, 32, 4))
    with pytest.raises(NotImplementedError, match="at most 20 visible units"):
        RBM(*Weights.normal(21, 2).tensors()).given(torch.zeros(21).double(), torch.ones(21).bool()).enumerate_support()
