"""Batches of any size: the chains go on, and each side of the gradient is a mean over its own number of rows.

Peers lose one or the other: an implementation that starts its chains anew where the last batch of an epoch is smaller
runs contrastive divergence once an epoch, and one that divides the sums of m chains by the n rows of the batch (as
scikit-learn's BernoulliRBM does, `lr / v_pos.shape[0]` for both) pulls every bias towards 0 or away from it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from sklearn.neural_network import BernoulliRBM
from torch import Tensor

from pyro_gen import estimators, nn
from pyro_gen.infer import ContrastiveDivergence, PersistentChains, contrastive_gradient
from pyro_gen.kernels import rbm_gibbs

SIZES = (10, 3, 25, 1)
CHAINS, STEPS = 10, 2
Step = Callable[[nn.RBM, Tensor], None]


def setting(phase: Any = PersistentChains(CHAINS, STEPS)) -> tuple[nn.RBM, list[Tensor]]:  # noqa: B008  # immutable
    x = torch.randint(2, (sum(SIZES), 6)).double()
    rbm = nn.RBM.from_data(x, 4, negative_phase=phase, centring=False)
    with torch.no_grad():
        rbm.weight.normal_()
    return rbm, list(x.split(SIZES))


def custom(rbm: nn.RBM, x: Tensor) -> None:
    contrastive_gradient(rbm, x)


def svi(rbm: nn.RBM, x: Tensor) -> None:
    """The gradient of SVI, for the mean over the rows."""

    def model() -> None:
        pyro.module("rbm", rbm)
        with pyro.plate("rows", len(x)), pyro.poutine.scale(scale=1 / len(x)):
            pyro.sample("v", rbm(), obs=x)

    rbm.zero_grad()
    Trace_ELBO().differentiable_loss(model, lambda: None).backward()


def restarting(rbm: nn.RBM, x: Tensor) -> None:
    """The peers' mistake: chains of another number than the rows start anew at the rows."""
    if len(x) != len(rbm.chains):
        rbm.chains = x[torch.arange(len(rbm.chains)) % len(x)]
    custom(rbm, x)


def one_count(rbm: nn.RBM, x: Tensor) -> None:
    """The peers' mistake: both sums divided by the rows of the batch."""
    custom(rbm, x)
    positive, negative = statistics(rbm, x), statistics(rbm, rbm.chains)
    for name in positive:
        getattr(rbm, name).grad = -(positive[name] * len(x) - negative[name] * len(rbm.chains)) / len(x)


def statistics(rbm: nn.RBM, v: Tensor) -> dict[str, Tensor]:
    """Means over the rows of v, v h and h."""
    hidden = rbm.transform(v).detach()
    return {"weight": v.mT @ hidden / len(v), "vbias": v.mean(0), "hbias": hidden.mean(0)}


def goes_on(step: Step) -> bool:
    """Whether the particles after each batch are those before it, moved by the phase's sweeps with the module's key."""
    rbm, batches = setting()
    for x in batches:
        before, key = rbm.chains.clone(), int(rbm.step)
        step(rbm, x)
        weights = (rbm.weight.detach(), rbm.vbias.detach(), rbm.hbias.detach())
        moved, _ = rbm_gibbs(before, *weights, STEPS, seed=int(rbm.seed), step=key)
        if not torch.equal(rbm.chains, moved):
            return False
    return True


def is_a_difference_of_means(step: Step) -> bool:
    rbm, batches = setting()
    for x in batches:
        step(rbm, x)
        positive, negative = statistics(rbm, x), statistics(rbm, rbm.chains)
        for name in positive:
            expected = negative[name] - positive[name]
            if not torch.allclose(getattr(rbm, name).grad, expected, rtol=1e-9, atol=1e-12):
                return False
    return True


@pytest.mark.parametrize("step", [custom, svi])
def test_chains_go_on_over_batches_of_any_size(step: Step) -> None:
    assert goes_on(step)


@pytest.mark.parametrize("step", [custom, svi])
def test_the_gradient_is_a_difference_of_means_over_batches_of_any_size(step: Step) -> None:
    assert is_a_difference_of_means(step)


def test_the_peers_mistakes_are_found() -> None:
    assert not goes_on(restarting)
    assert not is_a_difference_of_means(one_count)
    assert is_a_difference_of_means(restarting)
    assert goes_on(one_count)


def test_cd_has_as_many_particles_as_rows() -> None:
    """Weights of zero: particles are fair coins, whatever the batch, so the mean gradient is 1/2 - mean(x).

    4000 steps on 3 rows of ones: means within 5 standard errors, false alarm 6 * 6e-7.
    """
    rbm = nn.RBM(6, 4, negative_phase=ContrastiveDivergence(), centring=False).double()
    with torch.no_grad():
        rbm.weight.zero_()
    grads = []
    for _ in range(4000):
        contrastive_gradient(rbm, torch.ones(3, 6))
        assert rbm.vbias.grad is not None
        grads.append(rbm.vbias.grad)
    mean = torch.stack(grads).mean(0)
    assert (mean + 0.5).abs().max() < 5 * (0.25 / 3 / 4000) ** 0.5


def test_a_ragged_last_batch_leaves_the_estimators_biases_where_scikit_learn_moves_them() -> None:
    """Rows of 3 under 30 chains of the same distribution, fair coins: theirs expects a move of rate * (1 - 30 / 3) / 2.

    200 steps of rate 1e-3 from weights near 0: ours moves by chance alone, at most
    5 * sqrt(200 * (1/4/3 + 1/4/30)) * 1e-3 = 0.021 a bias, false alarm 6 * 6e-7; theirs by about -0.65.
    """
    x = np.random.default_rng(0).integers(2, size=(200, 3, 6)).astype(float)
    ours = estimators.RBMTransformer(
        4, learning_rate=1e-3, negative_phase=PersistentChains(30, 1), n_iter=0, random_state=0
    )
    ours.fit(x[0])
    with torch.no_grad():
        ours.rbm_.vbias.zero_()
    theirs = BernoulliRBM(4, learning_rate=1e-3, batch_size=30, random_state=0)
    for batch in x:
        ours.partial_fit(batch)
        theirs.partial_fit(batch)
    assert np.abs(ours.intercept_visible_).max() < 0.021
    assert theirs.intercept_visible_.max() < -0.5


def test_an_epoch_with_a_ragged_batch_equals_its_steps_one_by_one() -> None:
    rbm, batches = setting()
    twin = copy.deepcopy(rbm)
    for module, step in ((rbm, custom), (twin, svi)):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        for x in batches:
            step(module, x)
            optimizer.step()
    assert torch.equal(rbm.chains, twin.chains)
    for one, other in zip(rbm.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other)
