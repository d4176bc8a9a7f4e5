"""The autoencoder with an RBM prior against sums over its latent states."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO

from pyro_gen import nn
from pyro_gen.datasets import bars_and_stripes
from pyro_gen.infer import ContrastiveDivergence, Exact, PersistentChains, WakeSleep
from pyro_gen.models import DiscreteVAE
from tests.marks import slow
from tests.models.oracle import shallow, states


def wild() -> DiscreteVAE:
    vae = DiscreteVAE(4, 5, 16, decoder=torch.nn.Linear(5, 4), encoder=torch.nn.Linear(4, 5)).double().eval()
    for name, parameter in vae.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3 if name.startswith("encoder") else 1.0)
    return vae


def test_both_bounds_lie_below_the_exact_log_likelihood_and_close_with_particles() -> None:
    # The mean over 16 rows is at most 5 standard errors above the exact value: 3e-7.
    vae, v = wild(), states(4).double()
    exact = shallow(vae, 5, v).detach()
    assert exact.exp().sum().item() == pytest.approx(1)
    bound = vae.lower_bound(v, num_particles=2000)
    assert bound.value < exact.mean().item() + 5 * bound.sampling_error
    assert bound.tighter_value == pytest.approx(exact.mean().item(), abs=0.05)


def test_importance_sampling_finds_the_exact_log_likelihood() -> None:
    # 16 rows within five standard errors each: 1e-5.
    pyro.set_rng_seed(0)
    vae, v = wild(), states(4).double()
    found = vae.test_log_likelihood(v, num_samples=20_000)
    assert ((found.rows - shallow(vae, 5, v).detach()).abs() < 5 * found.errors + 1e-6).all()
    assert found.partition is not None


@pytest.mark.parametrize("phase", [PersistentChains(num_chains=100, num_steps=5), *slow(Exact())], ids=str)
def test_it_learns_by_wake_sleep_to_near_the_optimum(phase: Exact | PersistentChains) -> None:
    v = bars_and_stripes(2, 2)
    vae = DiscreteVAE(4, 4, len(v), prior=nn.RBM(4, 3, negative_phase=phase))
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), WakeSleep(10))
    for _ in range(400):
        svi.step(v)
    assert shallow(vae.eval(), 4, v).mean().item() > -torch.tensor(6.0).log().item() - 0.15


def test_the_score_function_gradient_of_pyro_s_own_elbo_serves_as_well() -> None:
    v = bars_and_stripes(2, 2)
    vae = DiscreteVAE(4, 4, len(v), prior=nn.RBM(4, 3, negative_phase=PersistentChains(num_chains=50, num_steps=2)))
    elbo = Trace_ELBO(num_particles=10, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(vae.model, vae.guide, pyro.optim.Adam({"lr": 0.01}), elbo)
    for _ in range(250):
        svi.step(v)
    assert shallow(vae.eval(), 4, v).mean().item() > -2.3


def test_reconstructions_and_samples_have_their_shapes() -> None:
    vae = wild()
    v = states(4).double()
    assert ((vae.reconstruct(v) >= 0) & (vae.reconstruct(v) <= 1)).all()
    assert vae.sample(7).shape == (7, 4)
    assert Predictive(vae.model, num_samples=3)()["x"].shape[-2:] == (16, 4)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="ContrastiveDivergence"):
        DiscreteVAE(4, 3, 5, prior=nn.RBM(3, 3, negative_phase=ContrastiveDivergence()))
    with pytest.raises(ValueError, match="`latent`"):
        DiscreteVAE(4, 0, 5)
    with pytest.raises(ValueError, match="must be given to the guide"):
        wild().guide()
