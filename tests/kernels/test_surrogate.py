"""The contrast of a negative phase as one node of autograd, beside the composition of free energies."""

from __future__ import annotations

import copy
import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import distributions, nn
from pyro_gen.infer import ContrastiveDivergence, NegativePhase, PersistentChains, contrastive_gradient
from pyro_gen.kernels import rbm_free_energy
from pyro_gen.kernels.contrastive.surrogate import can_fuse, surrogate
from pyro_gen.nn.centred import plain_biases

VISIBLE, HIDDEN, ROWS = 5, 4, 6
SHARES = torch.tensor([0.5, 0.3, 0.2]).double()


def bits(*shape: int) -> Tensor:
    return torch.bernoulli(torch.full(shape, 0.4).double())


def parameters(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    weight, vbias, hbias = torch.randn(VISIBLE, HIDDEN), torch.randn(VISIBLE), torch.randn(HIDDEN)
    return weight.to(dtype).requires_grad_(), vbias.to(dtype).requires_grad_(), hbias.to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["equal", "weighted", "paired"])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("batch", [(), (ROWS,), (2, ROWS)])
def test_value_and_gradient_are_those_of_the_composition(
    dtype: torch.dtype, kind: str, centred: bool, batch: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    learned = parameters(dtype)
    rows = bits(*batch, VISIBLE).to(dtype)
    particles = (bits(*batch, VISIBLE) if kind == "paired" else bits(3, VISIBLE)).to(dtype)
    shares = SHARES.to(dtype) if kind == "weighted" else None
    offsets = (torch.rand(VISIBLE).to(dtype), torch.rand(HIDDEN).to(dtype)) if centred else None
    biases = plain_biases(*learned, *offsets) if offsets else learned[1:]

    model = rbm_free_energy(particles, learned[0], *biases)
    if kind != "paired":
        model = model.mean() if shares is None else shares @ model
    expected = model - rbm_free_energy(rows, learned[0], *biases)
    plain = (biases[0].detach(), biases[1].detach()) if centred else None
    value = surrogate(
        rows,
        particles,
        learned,
        shares=shares,
        paired=kind == "paired",
        plain_biases=plain,
        offsets=offsets,
    )

    torch.testing.assert_close(value, expected)
    row_weights = torch.randn(batch).to(dtype)
    actual_gradients = torch.autograd.grad((value * row_weights).sum(), learned)
    gradients = torch.autograd.grad((expected * row_weights).sum(), learned)
    torch.testing.assert_close(actual_gradients, gradients)


def test_finite_differences_agree() -> None:
    torch.manual_seed(1)
    rows, particles = bits(ROWS, VISIBLE), bits(3, VISIBLE)
    assert torch.autograd.gradcheck(lambda *learned: surrogate(rows, particles, learned, shares=SHARES), parameters())


def test_a_second_derivative_is_refused() -> None:
    value = surrogate(bits(ROWS, VISIBLE), bits(3, VISIBLE), parameters()).sum()
    with pytest.raises(NotImplementedError, match="no second derivative"):
        torch.autograd.backward(value, create_graph=True)


def test_rows_with_a_gradient_and_transforms_are_left_to_autograd() -> None:
    learned = parameters()
    rows = bits(ROWS, VISIBLE)
    assert can_fuse(rows, *learned)
    assert not can_fuse(rows.clone().requires_grad_(), *learned)
    assert not can_fuse(rows.float(), *learned)
    decisions: list[bool] = []

    def look(row: Tensor) -> Tensor:
        decisions.append(can_fuse(row, *learned))
        return row

    torch.vmap(look)(rows)
    assert decisions == [False]


@pytest.mark.parametrize("phase", [PersistentChains(7), ContrastiveDivergence(2)])
@pytest.mark.parametrize("centring", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_svi_has_the_gradient_of_the_step_by_hand(phase: NegativePhase, centring: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    by_hand = nn.RBM(VISIBLE, HIDDEN, phase, centring=centring).to(dtype)
    by_svi = copy.deepcopy(by_hand)
    x = bits(ROWS, VISIBLE).to(dtype)

    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    pyro.clear_param_store()

    def model(x: Tensor) -> None:
        pyro.module("rbm", by_svi)
        with pyro.plate("rows", len(x)):
            pyro.sample("v", by_svi(), obs=x)

    for _ in range(12):  # over a move of the offsets
        contrastive_gradient(by_hand, x)
        by_svi.zero_grad()
        Trace_ELBO().loss_and_grads(model, lambda x: None, x)
        for p, q in zip(by_hand.parameters(), by_svi.parameters(), strict=True):
            assert p.grad is not None
            assert q.grad is not None
            torch.testing.assert_close(q.grad / ROWS, p.grad, rtol=1e-6, atol=1e-6)
        optimizer.step()
        with torch.no_grad():
            for p, q in zip(by_hand.parameters(), by_svi.parameters(), strict=True):
                q.copy_(p)


def test_masks_scales_and_subsamples_weigh_the_rows() -> None:
    torch.manual_seed(3)
    rbm = nn.RBM(VISIBLE, HIDDEN, ContrastiveDivergence(1), centring=True).double()
    rbm().log_prob(bits(ROWS, VISIBLE)).sum().backward()  # the start at the first rows
    x = bits(ROWS, VISIBLE)
    mask = torch.arange(ROWS) % 2 == 0
    other = copy.deepcopy(rbm)

    pyro.clear_param_store()

    def model() -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", 3 * ROWS, subsample_size=ROWS), poutine.scale(scale=2.0):
            pyro.sample("v", rbm().mask(mask), obs=x)

    rbm.zero_grad()
    other.zero_grad()
    Trace_ELBO().loss_and_grads(model, lambda: None)
    (-6 * other().log_prob(x))[mask].sum().backward()
    for p, q in zip(rbm.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("centring", [False, True])
def test_a_call_can_be_copied_before_and_after_it_is_scored(centring: bool) -> None:
    rbm = nn.RBM(VISIBLE, HIDDEN, centring=centring)
    x = bits(ROWS, VISIBLE).float()
    rbm().log_prob(x).sum().backward()
    call = rbm()
    assert copy.deepcopy(call).log_prob(x).shape == (ROWS,)
    value = call.log_prob(x)
    torch.testing.assert_close(copy.deepcopy(call).log_prob(x), value)
    assert isinstance(copy.deepcopy(rbm.eval()()), distributions.RBM)


def test_one_step_of_svi_is_finite() -> None:
    pyro.clear_param_store()
    rbm = nn.RBM(VISIBLE, HIDDEN)

    def model(x: Tensor) -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", len(x)):
            pyro.sample("v", rbm(), obs=x)

    svi = SVI(model, lambda x: None, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    weight = rbm.weight.detach().clone()
    assert math.isfinite(svi.step(bits(ROWS, VISIBLE).float()))
    assert not torch.equal(rbm.weight, weight)
