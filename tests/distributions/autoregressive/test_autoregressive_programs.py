"""Autoregressive densities inside Pyro programs: decoders, guides, priors and their neighbours, against exact sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.infer import MCMC, NUTS, SVI, Predictive, RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from torch import Tensor

from pyro_gen import nn
from pyro_gen.testing import states

PRIOR, DECODER = 3, 4  # bits of z and of x
Z, X = states(PRIOR), states(DECODER)
Loss = Trace_ELBO | TraceGraph_ELBO | RenyiELBO


def wild(made: nn.AutoregressiveNetwork, seed: int = 0) -> nn.AutoregressiveNetwork:
    """The network with random weights in float64."""
    torch.manual_seed(seed)
    for p in made.double().parameters():
        torch.nn.init.normal_(p)
    return made


class Autoencoder(torch.nn.Module):
    """Bits z under one density, bits x given z under another, and a third one of z given x as the guide."""

    def __init__(self) -> None:
        super().__init__()
        self.prior = wild(nn.FVSBN(PRIOR), 1)
        self.decoder = wild(nn.NADE(DECODER, 5, context=PRIOR, order=(2, 0, 3, 1)), 2)
        self.encoder = wild(nn.MADE(PRIOR, [6], context=DECODER, activation=torch.tanh), 3)

    def model(self, x: Tensor) -> None:
        pyro.module("autoencoder", self)
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decoder(z), obs=x)

    def guide(self, x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            pyro.sample("z", self.encoder(x))

    def log_joint(self, x: Tensor) -> Tensor:
        """Log p(z, x), (states of z, rows)."""
        z = Z.unsqueeze(1)
        return self.prior().log_prob(z) + self.decoder(z).log_prob(x)

    def log_guide(self, x: Tensor) -> Tensor:
        """Log q(z | x), (states of z, rows)."""
        return self.encoder(x).log_prob(Z.unsqueeze(1))

    def elbo(self, x: Tensor) -> Tensor:
        """The exact bound, summed over the rows."""
        log_q = self.log_guide(x)
        return (log_q.exp() * (self.log_joint(x) - log_q)).sum()


def parallel(kind: type[Loss], num_particles: int, nesting: int = 1) -> Loss:
    """A loss over particles as one more dimension."""
    return kind(num_particles=num_particles, vectorize_particles=True, max_plate_nesting=nesting)


def mean_and_error(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Of independent draws along the first dimension."""
    return draws.mean(0), draws.std(0) / len(draws) ** 0.5


def test_the_bound_of_an_autoencoder_is_the_enumerated_one_and_lies_below_the_evidence() -> None:
    # Five standard errors: 6e-7.
    model, x = Autoencoder(), X[[1, 6, 11]]
    exact = model.elbo(x).item()
    assert exact < model.log_joint(x).logsumexp(0).sum().item()
    pyro.set_rng_seed(0)
    losses = torch.tensor([parallel(Trace_ELBO, 500).loss(model.model, model.guide, x) for _ in range(40)])
    mean, error = mean_and_error(-losses)
    assert abs(mean.item() - exact) < 5 * error.item()


@pytest.mark.parametrize("kind", [Trace_ELBO, TraceGraph_ELBO])
def test_score_function_gradients_are_those_of_the_enumerated_bound(kind: type[Trace_ELBO | TraceGraph_ELBO]) -> None:
    # 70 entries at 6 standard errors of 50 batches (t distribution): 2e-5.
    model, x = Autoencoder(), X[[1, 6]]
    names, parameters = zip(*model.named_parameters(), strict=True)
    exact = torch.autograd.grad(-model.elbo(x), parameters)
    pyro.set_rng_seed(0)
    draws: dict[str, list[Tensor]] = {name: [] for name in names}
    for _ in range(50):
        model.zero_grad()
        parallel(kind, 100).loss_and_grads(model.model, model.guide, x)
        for name, p in model.named_parameters():
            draws[name].append(torch.zeros_like(p) if p.grad is None else p.grad.clone())
    for name, expected in zip(names, exact, strict=True):
        mean, error = mean_and_error(torch.stack(draws[name]))
        assert ((mean - expected).abs() <= 6 * error + 1e-12).all(), name


def test_importance_weighted_bounds_are_the_enumerated_ones() -> None:
    # Five standard errors: 6e-7. All triples of states, weighed by their probability under the guide.
    model, x, count = Autoencoder(), X[[6]], 3
    log_q = model.log_guide(x)[:, 0]
    log_w = model.log_joint(x)[:, 0] - log_q
    triples = torch.cartesian_prod(*(torch.arange(len(Z)),) * count)
    bound = log_w[triples].logsumexp(-1) - math.log(count)
    exact = (log_q[triples].sum(-1).exp() * bound).sum().item()
    pyro.set_rng_seed(0)
    losses = [parallel(RenyiELBO, count).loss(model.model, model.guide, x) for _ in range(300)]
    mean, error = mean_and_error(-torch.tensor(losses))
    assert abs(mean.item() - exact) < 5 * error.item()
    assert model.elbo(x).item() < exact < model.log_joint(x).logsumexp(0).item()


def test_many_importance_weights_find_the_evidence() -> None:
    model, x = Autoencoder(), X[[6]]
    pyro.set_rng_seed(0)
    found = -parallel(RenyiELBO, 200_000).loss(model.model, model.guide, x)
    log_q, log_joint = model.log_guide(x), model.log_joint(x)
    exact = log_joint.logsumexp(0)
    spread = ((2 * (log_joint - exact) - log_q).exp().sum() - 1).sqrt().item()  # sd of a weight, relative
    assert abs(found - exact.item()) < 5 * spread / 200_000**0.5  # 6e-7


COUNTS = torch.tensor([1.0, 2.0]).double()
"""How many of three bits are set, as it was measured."""


def log_joint_of_counts() -> Tensor:
    """Log p(z, count) of three fair bits and their number with a little noise, (states, counts)."""
    return dist.Normal(Z.sum(-1, keepdim=True), 0.3).log_prob(COUNTS) + 3 * math.log(0.5)


def trained_guide(make: Callable[[Tensor], TorchDistribution], module: torch.nn.Module) -> Tensor:
    """Exact bounds of both counts after training a guide of the bits."""

    def model(y: Tensor) -> None:
        with pyro.plate("rows", len(y)):
            z = pyro.sample("z", dist.Bernoulli(torch.full((3,), 0.5).double()).to_event(1))
            pyro.sample("y", dist.Normal(z.sum(-1), 0.3), obs=y)

    def guide(y: Tensor) -> None:
        pyro.module("guide", module)
        with pyro.plate("rows", len(y)):
            pyro.sample("z", make(y))

    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.03}), parallel(TraceGraph_ELBO, 100))
    for _ in range(300):
        svi.step(COUNTS)
    log_q = make(COUNTS).log_prob(Z.unsqueeze(1)).detach()
    return (log_q.exp() * (log_joint_of_counts() - log_q)).sum(0)


@pytest.mark.slow
def test_a_correlated_guide_reaches_the_evidence_that_independent_bits_cannot() -> None:
    pyro.set_rng_seed(0)
    nade = nn.NADE(3, 8, context=1).double()
    correlated = trained_guide(lambda y: nade(y.unsqueeze(-1)), nade)
    line = torch.nn.Linear(1, 3).double()
    independent = trained_guide(lambda y: dist.Bernoulli(logits=line(y.unsqueeze(-1))).to_event(1), line)
    evidence = log_joint_of_counts().logsumexp(0)
    assert (correlated < evidence).all()
    assert (correlated > evidence - 0.05).all()
    # One of three bits is set, any of them: independent bits must settle on one, or be wrong often.
    assert (independent < evidence - 0.9).all()


def test_particles_over_nested_plates_are_batches_of_three_dimensions() -> None:
    decoder = wild(nn.NADE(4, 5, context=2))
    x = X[torch.arange(6).view(3, 2)]
    drawn: list[Tensor] = []

    def model() -> None:
        with pyro.plate("groups", 3, dim=-2), pyro.plate("rows", 2, dim=-1):
            z = pyro.sample("z", dist.Normal(0, torch.ones(2).double()).to_event(1))
            pyro.sample("x", decoder(z), obs=x)

    def guide() -> None:
        with pyro.plate("groups", 3, dim=-2), pyro.plate("rows", 2, dim=-1):
            drawn.append(pyro.sample("z", dist.Normal(0, torch.ones(2).double()).to_event(1)))

    pyro.set_rng_seed(0)
    loss = parallel(Trace_ELBO, 5, nesting=2).loss(model, guide)
    z = drawn[-1]
    assert z.shape == (5, 3, 2, 2)
    single = [decoder(z[s, i, j]).log_prob(x[i, j]).item() for s in range(5) for i in range(3) for j in range(2)]
    assert loss == pytest.approx(-sum(single) / 5)


def test_the_evidence_of_a_decoder_of_a_normal_latent_is_the_integral() -> None:
    decoder, x = wild(nn.NADE(4, 5, context=1)), X[9]
    axis = torch.linspace(-9, 9, 2001).double()
    normal = dist.Normal(torch.zeros(()).double(), 1)
    log_terms = normal.log_prob(axis) + decoder(axis.unsqueeze(-1)).log_prob(x)
    exact = log_terms.logsumexp(0) + (axis[1] - axis[0]).log()

    def model() -> None:
        z = pyro.sample("z", normal)
        pyro.sample("x", decoder(z.unsqueeze(-1)), obs=x)

    def guide() -> None:
        pyro.sample("z", normal)

    pyro.set_rng_seed(0)
    found = -parallel(RenyiELBO, 100_000, nesting=0).loss(model, guide)
    second = (normal.log_prob(axis) + 2 * decoder(axis.unsqueeze(-1)).log_prob(x)).logsumexp(0) + (
        axis[1] - axis[0]
    ).log()
    spread = ((second - 2 * exact).exp() - 1).sqrt().item()
    assert abs(found - exact.item()) < 5 * spread / 100_000**0.5  # 6e-7


def test_enumerated_events_give_the_exact_marginal_of_what_follows() -> None:
    density, decoder = wild(nn.FVSBN(PRIOR)), wild(nn.NADE(DECODER, 5, context=PRIOR), 1)
    x = X[[0, 3, 9, 15]]

    def model() -> None:
        with pyro.plate("rows", 20, subsample=torch.arange(4)):
            z = pyro.sample("z", density(), infer={"enumerate": "parallel"})
            pyro.sample("x", decoder(z), obs=x)

    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(model, lambda: None)
    log_joint = density().log_prob(Z).unsqueeze(1) + decoder(Z.unsqueeze(1)).log_prob(x)
    assert loss == pytest.approx(-20 / 4 * log_joint.logsumexp(0).sum().item())


@pytest.mark.slow
def test_hamiltonian_chains_find_the_posterior_of_a_context() -> None:
    # Five standard errors of a mean over 400 draws, taken as 100 independent ones.
    density, x = wild(nn.NADE(4, 3, context=1)), X[[3, 3, 7]]
    axis = torch.linspace(-8, 8, 2001).double()
    log_post = dist.Normal(torch.zeros(()).double(), 1).log_prob(axis)
    log_post = log_post + density(axis.view(-1, 1, 1)).log_prob(x).sum(-1)
    weight = log_post.softmax(0).detach()
    mean = (weight * axis).sum()
    sd = (weight * (axis - mean).square()).sum().sqrt()

    def model() -> None:
        c = pyro.sample("c", dist.Normal(torch.zeros(1).double(), 1).to_event(1))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", density(c), obs=x)

    pyro.set_rng_seed(0)
    mcmc = MCMC(NUTS(model), num_samples=400, warmup_steps=100, disable_progbar=True)
    mcmc.run()
    c = mcmc.get_samples()["c"]
    assert abs(c.mean() - mean) < 5 * sd / 10
    assert 0.7 < c.std() / sd < 1.4


def test_conditioning_scaling_and_prediction_are_pyro_s_own() -> None:
    prior, decoder = wild(nn.FVSBN(PRIOR)), wild(nn.NADE(DECODER, 5, context=PRIOR), 1)

    def model() -> Tensor:
        with pyro.plate("rows", 4):
            z = pyro.sample("z", prior())
            return pyro.sample("x", decoder(z))

    data = {"z": Z[[0, 2, 5, 7]], "x": X[[1, 4, 8, 13]]}
    trace = poutine.trace(poutine.scale(poutine.condition(model, data), scale=3.0)).get_trace()
    expected = prior().log_prob(data["z"]).sum() + decoder(data["z"]).log_prob(data["x"]).sum()
    torch.testing.assert_close(torch.as_tensor(trace.log_prob_sum()), 3 * expected)
    drawn = Predictive(poutine.condition(model, {"z": data["z"]}), num_samples=6)()
    assert drawn["x"].shape == (6, 4, 4)
    assert Predictive(model, num_samples=6, parallel=True)()["x"].shape == (6, 4, 4)


def test_rows_with_missing_features_are_learned_from_by_the_evidence_of_the_others() -> None:
    x = torch.tensor([[0, 1], [0, 0], [1, 1], [1, 1], [1, math.nan], [1, math.nan]]).double()
    mask = ~x.isnan()
    density = nn.TabularAR(2).double()

    def model() -> None:
        pyro.module("density", density)
        with pyro.plate("rows", len(x)):
            pyro.factor("evidence", density().log_evidence(x, mask))

    svi = SVI(model, lambda: None, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
    for _ in range(200):
        svi.step()
    probabilities = density().log_prob(states(2)).exp()
    first = torch.tensor([2 / 6, 4 / 6]).double()  # by all rows; the second feature by the rows that have it
    torch.testing.assert_close(probabilities.view(2, 2).sum(1), first, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(probabilities[:2] / first[0], torch.full((2,), 0.5).double(), rtol=1e-2, atol=1e-3)


def test_missing_features_are_filled_in_by_a_posterior_that_enumerates_them() -> None:
    prior, x = wild(nn.FVSBN(PRIOR)), torch.tensor([1.0, math.nan, math.nan]).double()

    def model() -> None:
        z = pyro.sample("z", prior().given(x, ~x.isnan()), infer={"enumerate": "parallel"})
        pyro.sample("y", dist.Normal(z.sum(-1), 1), obs=torch.tensor(2.5).double())

    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(model, lambda: None)
    possible = Z[Z[:, 0] == 1]
    log_prior = prior().log_prob(possible).log_softmax(0)
    expected = (log_prior + dist.Normal(possible.sum(-1), 1).log_prob(torch.tensor(2.5))).logsumexp(0)
    assert loss == pytest.approx(-expected.item())
