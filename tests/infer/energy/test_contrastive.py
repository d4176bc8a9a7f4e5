"""Negative phases through SVI and through the custom gradient step, against each other and against enumeration."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import cast

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import (
    MCMC,
    NUTS,
    SVI,
    Importance,
    JitTrace_ELBO,
    Predictive,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
)
from torch import Tensor

from pyro_gen import nn
from pyro_gen.distributions import RBM
from pyro_gen.infer import ContrastiveDivergence, Exact, NegativePhase, PersistentChains, contrastive_gradient
from tests.marks import slow
from tests.phases import PHASES, gradients


def no_guide(*_: object) -> None:
    """Nothing is latent: maximum likelihood."""


def setting(phase: NegativePhase | Exact, count: int = 12) -> tuple[nn.RBM, Tensor]:
    x = torch.randint(2, (count, 6)).double()
    rbm = nn.RBM.from_data(x, 4, negative_phase=phase, centring=False)
    with torch.no_grad():
        rbm.weight.normal_()
    return rbm, x


def observe(rbm: nn.RBM, size: int | None = None) -> Callable[[Tensor], None]:
    """The model of a user: rows of a plate of ``size``, of which ``x`` is a minibatch."""

    def model(x: Tensor) -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", size or len(x), subsample=x):
            pyro.sample("v", rbm(), obs=x)

    return model


def svi_gradients(
    rbm: nn.RBM, model: Callable[[Tensor], None], x: Tensor, elbo: Trace_ELBO | TraceEnum_ELBO
) -> list[Tensor]:
    rbm.zero_grad()
    elbo.differentiable_loss(model, no_guide, x).backward()
    return gradients(rbm)


@pytest.mark.parametrize("phase", PHASES, ids=str)
@pytest.mark.smoke
def test_the_custom_step_is_the_svi_gradient(phase: NegativePhase) -> None:
    rbm, x = setting(phase)
    twin = copy.deepcopy(rbm)
    svi = svi_gradients(rbm, observe(rbm, size=100), x, Trace_ELBO())
    contrastive_gradient(twin, x)
    assert torch.equal(rbm.chains, twin.chains)
    assert rbm.step == twin.step == phase.num_steps
    for ours, theirs in zip(gradients(twin), svi, strict=True):
        torch.testing.assert_close(100 * ours, theirs, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_the_custom_step_returns_the_contrast_of_svi(phase: NegativePhase) -> None:
    rbm, x = setting(phase)
    twin = copy.deepcopy(rbm)
    loss = Trace_ELBO().differentiable_loss(observe(rbm), no_guide, x)
    torch.testing.assert_close(len(x) * contrastive_gradient(twin, x, return_contrast=True), loss.detach())


@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_enumerated_sites_beside_the_rbm_do_not_disturb_it(phase: NegativePhase) -> None:
    rbm, x = setting(phase)
    twin = copy.deepcopy(rbm)
    plain = observe(rbm)

    def enumerated(x: Tensor) -> None:
        z = pyro.sample("z", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(z, 1.0), obs=torch.tensor(0.2))
        plain(x)

    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    for a, b in zip(
        svi_gradients(rbm, enumerated, x, elbo), svi_gradients(twin, observe(twin), x, Trace_ELBO()), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_masked_rows_leave_no_trace() -> None:
    rbm, x = setting(PHASES[0])
    twin = copy.deepcopy(rbm)
    mask = cast(torch.BoolTensor, torch.arange(len(x)) < 5)

    def masked(x: Tensor) -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", len(x)), poutine.mask(mask=mask):
            pyro.sample("v", rbm(), obs=x)

    whole = svi_gradients(rbm, masked, x, Trace_ELBO())
    part = svi_gradients(twin, observe(twin), x[:5], Trace_ELBO())
    for a, b in zip(whole, part, strict=True):
        torch.testing.assert_close(a, b)


def test_vectorised_particles_call_the_module_once() -> None:
    rbm, x = setting(PHASES[0])
    twin = copy.deepcopy(rbm)
    many = svi_gradients(
        rbm, observe(rbm), x, Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1)
    )
    one = svi_gradients(twin, observe(twin), x, Trace_ELBO())
    assert rbm.step == twin.step
    for a, b in zip(many, one, strict=True):
        torch.testing.assert_close(a, b)


def exact_cd_gradient(rbm: RBM, x: Tensor, num_steps: int) -> list[Tensor]:
    """E[gradient of CD-k] by enumeration: the distribution of v after k sweeps from each row, in closed form."""
    visible, hidden = rbm.weight.shape
    states = rbm.enumerate_support()
    hiddens = RBM(rbm.weight.mT, rbm.hbias, rbm.vbias).enumerate_support()
    up = rbm.hidden_given_visible(states.unsqueeze(1)).log_prob(hiddens).exp()
    down = rbm.visible_given_hidden(hiddens.unsqueeze(1)).log_prob(states).exp()
    distribution = (x.unsqueeze(1) == states).all(-1).double() @ torch.linalg.matrix_power(up @ down, num_steps)
    probs = torch.sigmoid(states @ rbm.weight + rbm.hbias)
    data = torch.sigmoid(x @ rbm.weight + rbm.hbias)
    share = distribution.mean(0)
    assert (visible, hidden) == rbm.weight.shape
    return [
        (states.mT * share) @ probs - x.mT @ data / len(x),
        share @ states - x.mean(0),
        share @ probs - data.mean(0),
    ]


def z_scores(rbm: nn.RBM, x: Tensor, expected: list[Tensor], repeats: int) -> Tensor:
    """(mean of the sampled gradient - expected) / standard error, entry by entry."""
    draws = []
    for _ in range(repeats):
        contrastive_gradient(rbm, x)
        draws.append(torch.cat([g.flatten() for g in gradients(rbm)]))
    sample = torch.stack(draws)
    error = sample.std(0) / repeats**0.5
    return (sample.mean(0) - torch.cat([e.flatten() for e in expected])) / error


@pytest.mark.smoke
def test_mean_cd_1_gradient_is_the_enumerated_expectation() -> None:
    # The bound: |z| < 4 in each of 34 entries, a false alarm of 2e-3 for a fresh seed; the seed is fixed.
    rbm, x = setting(ContrastiveDivergence(1), count=200)
    assert z_scores(rbm, x, exact_cd_gradient(rbm.eval()(), x, 1), 400).abs().max() < 4


def test_cd_1000_has_the_exact_gradient() -> None:
    rbm, x = setting(ContrastiveDivergence(1000), count=50)
    exact = copy.deepcopy(rbm)
    exact.negative_phase = Exact()
    expected = [g / len(x) for g in svi_gradients(exact, observe(exact), x, Trace_ELBO())]
    assert z_scores(rbm, x, expected, 40).abs().max() < 4


def test_a_wrong_expectation_is_noticed() -> None:
    rbm, x = setting(ContrastiveDivergence(1), count=200)
    expected = exact_cd_gradient(rbm.eval()(), x, 2)  # two sweeps instead of one
    assert z_scores(rbm, x, expected, 400).abs().max() > 6


@pytest.mark.parametrize(("rows", "columns", "hidden"), [(3, 3, 8), *slow((4, 4, 12))])
def test_exact_maximum_likelihood_reaches_the_optimum_of_bars_and_stripes(rows: int, columns: int, hidden: int) -> None:
    from pyro_gen.datasets import bars_and_stripes

    x = bars_and_stripes(rows, columns)
    rbm = nn.RBM.from_data(x, hidden, negative_phase=Exact())
    torch.nn.init.normal_(rbm.weight, std=0.1)
    svi = SVI(observe(rbm), no_guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(1500 if rows == 3 else 3000):
        svi.step(x)
    optimum = -torch.tensor(float(len(x))).log()
    assert rbm.eval()().log_prob(x).mean() > optimum - 0.01


def refused(call: Callable[[], object], message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns before it is refused
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_callers_that_need_a_density_are_refused_and_advance_nothing(phase: NegativePhase) -> None:
    rbm, x = setting(phase)
    model = observe(rbm)

    def latent(x: Tensor) -> None:
        pyro.sample("z", dist.Normal(0.0, 1.0))
        model(x)

    def guide(x: Tensor) -> None:
        pyro.sample("z", dist.Normal(0.0, 1.0))

    def kernel() -> None:
        MCMC(NUTS(latent), 2, disable_progbar=True).run(x)

    refused(kernel, "needs log probabilities")
    refused(lambda: RenyiELBO(alpha=0.5, num_particles=2).loss_and_grads(model, no_guide, x), "needs log probabilities")
    refused(lambda: ReweightedWakeSleep(num_particles=2).loss_and_grads(latent, guide, x), "needs log probabilities")
    refused(lambda: Importance(latent, guide, 2).run(x), "needs log probabilities")
    refused(lambda: JitTrace_ELBO().differentiable_loss(model, no_guide, x), "traced")
    assert rbm.step == 0
    rbm.eval()
    kernel()  # with an exact log Z it runs


def test_enumerated_parameters_are_refused_under_a_phase() -> None:
    with pytest.raises(ValueError, match="no batch dimensions"):
        RBM(torch.zeros(2, 4, 3), torch.zeros(4), torch.zeros(3), ContrastiveDivergence(1))


def test_chains_need_a_module() -> None:
    with pytest.raises(ValueError, match=r"nn\.RBM"):
        RBM(torch.zeros(4, 3), torch.zeros(4), torch.zeros(3), PersistentChains())


def test_contrasts_know_no_log_partition() -> None:
    rbm, _ = setting(PHASES[0])
    with pytest.raises(ValueError, match="no log Z"):
        rbm().log_partition()


def test_predictive_draws_from_the_trained_module() -> None:
    rbm, _ = setting(PHASES[0])

    def model() -> None:
        pyro.sample("v", rbm())

    rbm.eval()
    for parallel in (False, True):
        assert Predictive(model, num_samples=7, parallel=parallel)()["v"].shape[0] == 7


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(0, 6), "at least one row"),
        (torch.zeros(2, 5), "6 columns"),
        (torch.full((2, 6), 2.0), "zeros and ones"),
        (torch.full((2, 6), torch.nan), "NaN"),
        (torch.zeros(2, 6, device="meta"), "meta"),
    ],
)
def test_bad_batches_are_named_and_nothing_advances(batch: Tensor, message: str) -> None:
    rbm, _ = setting(PHASES[0])
    with pytest.raises(ValueError, match=message):
        contrastive_gradient(rbm, batch)
    assert rbm.step == 0
    assert rbm.weight.grad is None


def test_the_custom_step_needs_a_phase() -> None:
    rbm, x = setting(Exact())
    with pytest.raises(ValueError, match="negative phase"):
        contrastive_gradient(rbm, x)
