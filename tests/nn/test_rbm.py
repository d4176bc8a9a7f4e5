"""The module: state, snapshots, modes, data-driven start, PyroModule with priors."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any, cast

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroSample
from torch import Tensor

from pyro_gen import nn
from pyro_gen.infer import AIS, ContrastiveDivergence, Exact, PersistentChains


def rows(count: int = 12, visible: int = 6) -> Tensor:
    return torch.randint(2, (count, visible)).double()


def small(**settings: object) -> nn.RBM:
    return nn.RBM.from_data(rows(), 4, **settings)


def test_a_call_that_is_scored_advances_the_chains_once_and_freezes_them() -> None:
    rbm = small(negative_phase=PersistentChains(num_steps=3, num_chains=20))
    before = rbm.chains.clone()
    distribution = rbm()
    x = rows()
    assert rbm.step == 0
    contrast = distribution.log_prob(x)
    assert rbm.step == 3
    assert not torch.equal(rbm.chains, before)
    rbm().log_prob(x)
    assert rbm.step == 6
    assert torch.equal(distribution.log_prob(x), contrast)
    particles = cast(Any, distribution.partition).particles
    assert not torch.equal(particles, rbm.chains)  # a later call moves the module's chains, not the snapshot


@pytest.mark.parametrize("phase", [PersistentChains(num_chains=10), ContrastiveDivergence(2)])
def test_log_prob_is_pure_after_its_one_advance(phase: PersistentChains | ContrastiveDivergence) -> None:
    rbm, x = small(negative_phase=phase), rows()
    distribution, generator = rbm(), torch.get_rng_state()
    first, step = distribution.log_prob(x), rbm.step.item()
    second = distribution.log_prob(x)
    assert torch.equal(first, second)
    assert rbm.step == step
    assert torch.equal(generator, torch.get_rng_state())


@pytest.mark.parametrize("training", [True, False])
def test_eval_and_no_grad_carry_the_evaluation_and_leave_the_chains(training: bool) -> None:
    rbm = small(evaluation=Exact()).train(training)
    chains = rbm.chains.clone()
    with torch.set_grad_enabled(not training):
        distribution = rbm()
        total = distribution.log_prob(distribution.enumerate_support()).exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0, dtype=torch.float64))
    assert torch.equal(chains, rbm.chains)
    assert rbm.step == 0


def test_from_data_starts_at_the_data() -> None:
    x = rows(50)
    rbm = nn.RBM.from_data(x, 4, negative_phase=PersistentChains(num_chains=30))
    assert rbm.weight.dtype == torch.float64
    torch.testing.assert_close(rbm.vbias.sigmoid(), (x.sum(0) + 1) / 52)
    assert all((x == chain).all(-1).any() for chain in rbm.chains)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(0, 4), "at least one row"),
        (torch.zeros(4), "shape"),
        (torch.full((2, 4), 0.5), "zeros and ones"),
        (torch.full((2, 4), math.nan), "NaN"),
    ],
)
def test_from_data_names_what_is_wrong(x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nn.RBM.from_data(x, 3)


def test_the_constructor_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="`visible` must be at least 1"):
        nn.RBM(0, 3)
    with pytest.raises(ValueError, match="`evaluation` must know log Z"):
        nn.RBM(4, 3, evaluation=PersistentChains())
    with pytest.raises(ValueError, match="`num_chains`"):
        PersistentChains(num_chains=0)
    with pytest.raises(ValueError, match="`num_steps`"):
        ContrastiveDivergence(0)


@pytest.mark.smoke
def test_state_dict_resumes_bit_for_bit_and_refuses_other_shapes() -> None:
    rbm = small(negative_phase=PersistentChains(num_steps=2, num_chains=10))
    rbm().log_prob(rows())
    file = io.BytesIO()
    torch.save(rbm.state_dict(), file)
    other = small(negative_phase=PersistentChains(num_steps=2, num_chains=10))
    other.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for module in (rbm, other):
        module().log_prob(rows())
    assert torch.equal(rbm.chains, other.chains)
    with pytest.raises(RuntimeError, match="size mismatch"):
        nn.RBM(6, 5).load_state_dict(rbm.state_dict())


def test_the_seed_fixes_everything() -> None:
    runs = []
    for _ in range(2):
        pyro.set_rng_seed(7)
        rbm = small()
        rbm().log_prob(rows())
        runs.append(rbm.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_ais_runs_once_for_each_version_of_the_weights() -> None:
    rbm = small(evaluation=AIS(num_chains=50, num_betas=20)).eval()
    first = rbm().log_partition().value
    assert torch.equal(first, rbm().log_partition().value)  # another key, but remembered
    assert torch.equal(first, rbm().expand((3,)).log_partition().value[0])
    with torch.no_grad():
        rbm.weight.add_(1e-9)
    assert not torch.equal(first, rbm().log_partition().value)


def test_copies_of_the_module_are_independent() -> None:
    rbm = small()
    twin = copy.deepcopy(rbm)
    rbm().log_prob(rows())
    assert twin.step == 0
    twin().log_prob(rows())
    assert torch.equal(twin.chains, rbm.chains)


def pyro_module(*sizes: int, **settings: object) -> nn.RBM:
    """An RBM that is a PyroModule, whose class mypy cannot see."""
    return cast(nn.RBM, cast(Any, PyroModule[nn.RBM])(*sizes, **settings))


def bayesian(phase: Exact | PersistentChains) -> nn.RBM:
    """An RBM with standard normal priors on all parameters."""
    rbm = pyro_module(4, 3, negative_phase=phase)
    for name, shape in (("weight", [4, 3]), ("vbias", [4]), ("hbias", [3])):
        setattr(rbm, name, PyroSample(dist.Normal(0.0, 1.0).expand(shape).to_event(len(shape))))
    return rbm


def observe(rbm: nn.RBM) -> Callable[[Tensor], None]:
    def model(x: Tensor) -> None:
        distribution = rbm()
        with pyro.plate("rows", len(x)):
            pyro.sample("v", distribution, obs=x)

    return model


def test_a_pyro_module_trains_under_a_phase() -> None:
    rbm = pyro_module(4, 3)
    svi = SVI(observe(rbm), lambda x: None, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    before = rbm.weight.clone()
    svi.step(torch.randint(2, (8, 4)).float())
    assert rbm.step == 1
    assert set(pyro.get_param_store().keys()) == {"weight", "vbias", "hbias"}
    assert not torch.equal(before, rbm.weight)


@pytest.mark.parametrize("vectorize", [False, True])
def test_priors_on_the_weights_under_svi(vectorize: bool) -> None:
    model = observe(bayesian(Exact()))
    elbo = Trace_ELBO(num_particles=2, vectorize_particles=vectorize, max_plate_nesting=1)
    svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.05}), elbo)
    x = torch.ones(16, 4)
    losses = [svi.step(x) for _ in range(90)]
    assert sum(losses[-30:]) < 0.8 * sum(losses[:30])


def test_priors_on_the_weights_under_nuts() -> None:
    mcmc = MCMC(NUTS(observe(bayesian(Exact())), max_tree_depth=3), 5, warmup_steps=5, disable_progbar=True)
    mcmc.run(torch.ones(6, 4))
    assert mcmc.get_samples()["weight"].shape == (5, 4, 3)


def test_batched_weights_are_refused_under_a_phase_and_nothing_advances() -> None:
    rbm = bayesian(PersistentChains())
    model = observe(rbm)
    elbo = Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1)
    svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.05}), elbo)
    with pytest.raises(ValueError, match="no batch dimensions"):
        svi.step(torch.ones(6, 4))


def test_priors_with_persistent_chains_under_svi() -> None:
    model = observe(bayesian(PersistentChains()))
    svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    assert math.isfinite(svi.step(torch.ones(6, 4)))


def test_transform_gives_hidden_probabilities() -> None:
    rbm, x = small(), rows()
    torch.testing.assert_close(rbm.transform(x), rbm().hidden_given_visible(x).mean)


def test_reconstruction_error_counts_wrong_bits() -> None:
    rbm = nn.RBM(5, 2)
    with torch.no_grad():
        rbm.weight.zero_()
        rbm.vbias.fill_(50.0)
    assert rbm.reconstruction_error(torch.ones(3, 5)) == 0
    assert rbm.reconstruction_error(torch.zeros(3, 5)) == 5


def test_a_bias_that_follows_from_centred_parameters_is_not_set() -> None:
    distribution = nn.RBM(3, 2, negative_phase=PersistentChains(4), centring=True)()
    with pytest.raises(AttributeError, match="`vbias` follows from the centred parameters"):
        distribution.vbias = torch.zeros(3)
