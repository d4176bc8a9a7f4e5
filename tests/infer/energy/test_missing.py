"""Learning from incomplete rows: the gradient in expectation, no leak of NaN, a distribution recovered."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor

from pyro_gen import distributions, nn
from pyro_gen.datasets import bars_and_stripes
from pyro_gen.infer import Completions, Exact, PersistentChains, contrastive_gradient
from tests.kernels.oracle import Weights

NAN = float("nan")


def incomplete(rows: int, visible: int) -> tuple[Tensor, Tensor]:
    """Random rows of which about 40 % of the cells are NaN, one row wholly missing and one complete."""
    mask = torch.rand(rows, visible) < 0.6
    mask[0], mask[1] = False, True
    x = (torch.rand(rows, visible) < 0.5).double()
    return torch.where(mask, x, NAN), mask


def small_rbm(scale: float = 1.0) -> distributions.RBM:
    return distributions.RBM(*Weights.normal(5, 3, scale=scale, seed=8).tensors())


def mean_gradient(batch: Tensor, rbm: distributions.RBM) -> list[Tensor]:
    """Gradient of the mean log probability of the rows, exact log Z."""
    leaves = [p.detach().requires_grad_() for p in rbm.parameters]
    weight, vbias, hbias = leaves
    return list(torch.autograd.grad(distributions.RBM(weight, vbias, hbias).log_prob(batch).mean(), leaves))


@pytest.mark.parametrize("clamped_chains", [False, True])
def test_the_gradient_is_that_of_log_p_observed_in_expectation(
    clamped_chains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean over 16,000 completions against autograd of the exact log p(observed); each entry within 6 standard errors.

    With chains each completion comes 20 sweeps after the base rates; false alarms below
    1e-6.
    """
    rbm, (x, mask), copies = small_rbm(0.5 if clamped_chains else 1.0), incomplete(8, 5), 2000
    if clamped_chains:
        monkeypatch.setattr("pyro_gen.distributions.energy.clamped.ClampedRBM._terms", lambda self: None)
    rows = Completions(x.repeat(copies, 1), mask.repeat(copies, 1), num_steps=20)
    batch = rows(rbm, torch.arange(len(rows)))
    monkeypatch.undo()
    assert torch.equal(batch, rows.states)
    leaves = [p.detach().requires_grad_() for p in rbm.parameters]
    exact = torch.autograd.grad(distributions.RBM(leaves[0], leaves[1], leaves[2]).log_evidence(x, mask).mean(), leaves)
    parts = [mean_gradient(part, rbm) for part in batch.chunk(50)]  # of 320 rows each, every row 40 times
    for entries, expected in zip(zip(*parts, strict=True), exact, strict=True):
        stacked = torch.stack(entries)
        error = stacked.std(0) / len(stacked) ** 0.5
        assert ((stacked.mean(0) - expected).abs() < 6 * error + 1e-12).all()


def test_what_stands_in_a_missing_cell_changes_nothing() -> None:
    x, mask = incomplete(20, 5)
    kept = []
    for filler in (NAN, 0.0, 1.0, 7.0):
        torch.manual_seed(3)
        rows = Completions(torch.where(mask, x, filler), mask)
        batch = rows(small_rbm(), torch.arange(20))
        assert not batch.isnan().any()
        assert torch.equal(batch[mask], x[mask])
        kept.append(batch)
    assert all(torch.equal(batch, kept[0]) for batch in kept)


def test_rows_in_any_order_keep_their_own_observed_cells() -> None:
    x, mask = incomplete(20, 5)
    index = torch.randperm(20)[:7]
    batch = Completions(x, mask)(small_rbm(), index)
    assert torch.equal(batch[mask[index]], x[index][mask[index]])


def test_clamped_chains_go_on_from_the_last_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that are all on or all off stay so in single sweeps, but not if each use started over: e^-24 a sweep."""
    monkeypatch.setattr("pyro_gen.distributions.energy.clamped.ClampedRBM._terms", lambda self: None)
    weight = torch.full((6, 5), 8.0).double()
    rbm = distributions.RBM(weight, -weight.sum(1) / 2, -weight.sum(0) / 2)
    rows = Completions(torch.full((20, 6), NAN).double(), torch.zeros(20, 6, dtype=torch.bool))
    rows.states.copy_((torch.arange(20) % 2).double().unsqueeze(-1).expand(20, 6))
    assert torch.equal(rows(rbm, torch.arange(20)), rows.states)
    assert rows.states.mean() == 0.5


def learn(x: Tensor, mask: Tensor, with_svi: bool) -> nn.RBM:
    """Persistent chains, 400 steps over all rows."""
    rbm = nn.RBM(9, 12, negative_phase=PersistentChains(100, 10), evaluation=Exact())
    torch.nn.init.normal_(rbm.weight, std=0.1)
    rows, index = Completions(x, mask), torch.arange(len(x))

    def current() -> distributions.RBM:
        return distributions.RBM(rbm.weight, rbm.vbias, rbm.hbias)

    def model() -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", len(x)):
            pyro.sample("v", rbm(), obs=rows(current(), index))

    svi = SVI(model, lambda: None, pyro.optim.Adam({"lr": 0.02}), Trace_ELBO())
    optimizer = torch.optim.Adam(rbm.parameters(), lr=0.02)
    for _ in range(400):
        if with_svi:
            svi.step()
        else:
            contrastive_gradient(rbm, rows(current(), index))
            optimizer.step()
    return rbm.eval()


@pytest.mark.parametrize("with_svi", [False, True])
def test_bars_and_stripes_are_learnt_from_three_quarters_of_their_cells(with_svi: bool) -> None:
    """The complete patterns become likely, well above the independent cells (9 log 2 = 6.24 nats)."""
    patterns = bars_and_stripes(3, 3)
    x = patterns.repeat(10, 1)
    mask = torch.rand(x.shape) < 0.75
    rbm = learn(torch.where(mask, x, NAN), mask, with_svi)
    assert all(p.isfinite().all() for p in rbm.parameters())
    assert rbm().log_prob(patterns).mean() > -4.2  # the optimum of complete rows is -2.64


def test_log_evidence_learns_through_a_factor() -> None:
    """SVI's gradient by `pyro.factor` is the exact positive phase minus the particles'."""
    rbm = nn.RBM(5, 3, negative_phase=PersistentChains(50), centring=False).double()
    x, mask = incomplete(8, 5)

    def model() -> None:
        with pyro.plate("rows", len(x)):
            pyro.factor("observed", rbm().log_evidence(x, mask))

    loss = Trace_ELBO().differentiable_loss(model, lambda: None)
    found = torch.autograd.grad(loss, [*rbm.parameters()])
    alone = distributions.RBM(*rbm.uncentred)
    contrast = alone.given(x, mask).log_completions().sum() + len(x) * alone.free_energy(rbm.chains).mean()
    for one, other in zip(found, torch.autograd.grad(-contrast, [*rbm.parameters()]), strict=True):
        torch.testing.assert_close(one, other)


def test_completions_resume_from_their_state() -> None:
    x, mask = incomplete(20, 5)
    rows = Completions(x, mask)
    rows(small_rbm(), torch.arange(10))
    again = Completions(x, mask)
    assert not torch.equal(again.states, rows.states)
    again.load_state_dict(rows.state_dict())
    assert torch.equal(again.states, rows.states)
    assert "missing=" in repr(rows)


def test_bad_rows_are_named() -> None:
    x, mask = incomplete(6, 5)
    with pytest.raises(ValueError, match="`x` must hold zeros and ones where `mask` is True"):
        Completions(x, torch.ones_like(mask))
    with pytest.raises(ValueError, match="`mask` must be boolean, of the shape"):
        Completions(x, mask[:3])
    with pytest.raises(ValueError, match="`mask` must be boolean, of the shape"):
        Completions(x, mask.double())
    with pytest.raises(ValueError, match=r"`x` must have shape \(rows, visible\)"):
        Completions(x[0], mask[0])
    with pytest.raises(ValueError, match="`num_steps` must be at least 1"):
        Completions(x, mask, 0)
    with pytest.raises(ValueError, match="must have no batch shape"):
        Completions(x, mask)(small_rbm().expand((2,)), torch.arange(2))
