"""Importance-weighted losses on a linear-Gaussian model, where everything is known in closed form."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from pyro_gen.infer import DoublyReparametrizedELBO, ImportanceWeightedELBO, StickingTheLandingELBO
from pyro_gen.infer.elbo.importance_weighted import RowBound

X = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.3, -0.4], [0.0, 0.9, 0.2], [-2.0, 1.0, 0.6]]).double()
SEVERAL = [ImportanceWeightedELBO, DoublyReparametrizedELBO, StickingTheLandingELBO]


class Linear(nn.Module):
    """z ~ N(0, I), x | z ~ N(W z, v I), and a guide q(z | x) = N(A x, diag(s)^2)."""

    def __init__(self, exact: bool = False, size: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 2, generator=generator).double())
        if exact:  # orthogonal columns: the posterior has a diagonal covariance
            self.weight.data = torch.linalg.qr(self.weight.data).Q * torch.tensor([1.5, 0.7])
        self.log_variance = nn.Parameter(torch.tensor(-0.5).double())
        self.size = size
        precision = torch.eye(2).double() + self.weight.mT @ self.weight / self.log_variance.exp()
        covariance = torch.linalg.inv(precision)
        self.map = nn.Parameter((covariance @ self.weight.mT / self.log_variance.exp()).detach())
        self.scale = nn.Parameter(covariance.diagonal().sqrt().detach().clone())
        if not exact:
            with torch.no_grad():
                self.map.add_(0.3 * torch.randn(2, 3, generator=generator))
                self.scale.mul_(torch.tensor([1.3, 0.8]))

    def model(self, x: Tensor) -> None:
        pyro.module("linear", self)
        with pyro.plate("rows", self.size, subsample=x):
            z = pyro.sample("z", dist.Normal(torch.zeros(2).double(), 1.0).to_event(1))
            noise = (0.5 * self.log_variance).exp()
            pyro.sample("x", dist.Normal(z @ self.weight.mT, noise).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("linear", self)
        with pyro.plate("rows", self.size, subsample=x):
            pyro.sample("z", dist.Normal(x @ self.map.mT, self.scale).to_event(1))

    def posterior(self, x: Tensor) -> dist.MultivariateNormal:
        precision = torch.eye(2).double() + self.weight.mT @ self.weight / self.log_variance.exp()
        covariance = torch.linalg.inv(precision)
        mean = x @ (covariance @ self.weight.mT / self.log_variance.exp()).mT
        return dist.MultivariateNormal(mean, covariance)

    def log_likelihood(self, x: Tensor) -> Tensor:
        covariance = self.weight @ self.weight.mT + self.log_variance.exp() * torch.eye(3).double()
        return dist.MultivariateNormal(torch.zeros(3).double(), covariance).log_prob(x)

    def elbo(self, x: Tensor) -> Tensor:
        guide = dist.MultivariateNormal(x @ self.map.mT, torch.diag(self.scale**2))
        return self.log_likelihood(x) - torch.distributions.kl_divergence(guide, self.posterior(x))


class Chain(nn.Module):
    """Two latent layers, whose guide goes from the lower to the upper one."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 3
        self.up = nn.Parameter(torch.tensor([0.6, 0.4]).double())
        self.scale = nn.Parameter(torch.tensor([0.7, 0.9]).double())

    def model(self, x: Tensor) -> None:
        pyro.module("chain", self)
        with pyro.plate("rows", self.size, subsample=x):
            b = pyro.sample("b", dist.Normal(torch.tensor(0.0).double(), 1.0))
            a = pyro.sample("a", dist.Normal(b, 1.0))
            pyro.sample("x", dist.Normal(a, 1.0), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("chain", self)
        with pyro.plate("rows", self.size, subsample=x):
            a = pyro.sample("a", dist.Normal(self.up[0] * x, self.scale[0]))
            pyro.sample("b", dist.Normal(self.up[1] * a, self.scale[1]))


def gradient(program: Linear | Chain, loss: RowBound | Trace_ELBO, x: Tensor) -> tuple[float, Tensor]:
    """Loss and gradient of all parameters, one behind the other."""
    program.zero_grad()
    value = loss.loss_and_grads(program.model, program.guide, x)
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in program.parameters()]
    return value, torch.cat([part.flatten() for part in parts])


def estimate(
    program: Linear | Chain, loss: RowBound | Trace_ELBO, x: Tensor = X, size: int = 4
) -> tuple[Tensor, Tensor]:
    """Mean and standard error of loss and gradient over 40 times 50 draws: each copy of the rows has its own."""
    program.size = 50 * size
    found = [gradient(program, loss, x.repeat(50, *(1,) * (x.dim() - 1))) for _ in range(40)]
    table = torch.stack([torch.cat([torch.tensor([value]).double(), grad]) for value, grad in found]) / 50
    return table.mean(0), table.std(0) / math.sqrt(len(table))


def exact_gradient(linear: Linear, value: Tensor) -> Tensor:
    found = torch.autograd.grad(value, list(linear.parameters()), allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, linear.parameters(), strict=True)]
    )


def quadrature(linear: Linear, x: Tensor, points: int = 25) -> Tensor:
    """E log((w_1 + w_2) / 2) of each row, differentiable, by Gauss-Hermite nodes in all four standard normals."""
    from numpy.polynomial.hermite_e import hermegauss

    nodes, weights = (torch.as_tensor(a) for a in hermegauss(points))
    weights = (weights / weights.sum()).log()
    grid = torch.cartesian_prod(nodes, nodes)
    log_share = torch.cartesian_prod(weights, weights).sum(-1)
    mean = x @ linear.map.mT
    z = mean + linear.scale * grid[:, None]
    prior = dist.Normal(torch.zeros(2).double(), 1.0).to_event(1).log_prob(z)
    noise = (0.5 * linear.log_variance).exp()
    likelihood = dist.Normal(z @ linear.weight.mT, noise).to_event(1).log_prob(x)
    log_weight = prior + likelihood - dist.Normal(mean, linear.scale).to_event(1).log_prob(z)
    pairs = torch.logaddexp(log_weight[:, None], log_weight[None]) - math.log(2)
    return ((log_share[:, None, None] + log_share[None, :, None]).exp() * pairs).sum((0, 1))


def test_the_bounds_rise_from_the_elbo_to_the_log_likelihood() -> None:
    # Each mean has a standard error below 0.005; five of them apart, so 3e-7 a comparison.
    pyro.set_rng_seed(0)
    linear = Linear(size=40_000)
    rows = X.repeat(10_000, 1)
    found = [-ImportanceWeightedELBO(k).loss(linear.model, linear.guide, rows) / 40_000 for k in (1, 2, 5, 25)]
    assert found[0] == pytest.approx(linear.elbo(X).mean().item(), abs=0.025)
    assert found[1] == pytest.approx(quadrature(linear, X).mean().item(), abs=0.025)
    assert found[0] + 0.05 < found[1] < found[2] - 0.05
    assert found[2] < found[3]
    assert found[3] < linear.log_likelihood(X).mean().item() + 0.025


def test_log_likelihood_less_elbo_is_the_divergence_from_the_posterior() -> None:
    # 40,000 draws of four rows: the standard error is below 0.005, five of them allowed (3e-7).
    pyro.set_rng_seed(1)
    linear = Linear(size=4)
    loss = TraceMeanField_ELBO(num_particles=40_000, vectorize_particles=True, max_plate_nesting=1)
    gap = linear.log_likelihood(X).sum().item() + loss.loss(linear.model, linear.guide, X)
    guide = dist.MultivariateNormal(X @ linear.map.mT, torch.diag(linear.scale**2))
    divergence = torch.distributions.kl_divergence(guide, linear.posterior(X)).sum().item()
    assert gap == pytest.approx(divergence, abs=0.05)


@pytest.mark.parametrize("loss", SEVERAL[:2], ids=lambda c: c.__name__)
def test_the_gradient_of_two_particles_has_the_expectation_that_quadrature_gives(loss: type[RowBound]) -> None:
    # 15 numbers within six standard errors of 40 batches, Student's t: 7e-6.
    pyro.set_rng_seed(2)
    linear = Linear()
    exact = exact_gradient(linear, -quadrature(linear, X).sum())
    mean, error = estimate(linear, loss(2))
    assert ((mean[1:] - exact).abs() < 6 * error[1:] + 1e-6).all()


@pytest.mark.parametrize("particles", [1, 3])
def test_sticking_the_landing_has_the_gradient_of_the_elbo(particles: int) -> None:
    # 15 numbers within six standard errors of 40 batches, Student's t: 7e-6.
    pyro.set_rng_seed(3)
    linear = Linear()
    exact = exact_gradient(linear, -linear.elbo(X).sum())
    mean, error = estimate(linear, StickingTheLandingELBO(particles))
    assert ((mean[1:] - exact).abs() < 6 * error[1:] + 1e-6).all()


def test_analytic_and_sampled_divergence_give_the_same_expected_gradient() -> None:
    # 15 numbers within six standard errors of 40 batches, Student's t, twice: 1.5e-5.
    pyro.set_rng_seed(4)
    linear = Linear()
    exact = exact_gradient(linear, -linear.elbo(X).sum())
    for loss in (TraceMeanField_ELBO(), Trace_ELBO()):
        mean, error = estimate(linear, loss)
        assert ((mean[1:] - exact).abs() < 6 * error[1:] + 1e-6).all()


@pytest.mark.parametrize("loss", [StickingTheLandingELBO(1), DoublyReparametrizedELBO(4)], ids=["STL", "DReG"])
def test_at_the_exact_posterior_the_guide_s_gradient_is_zero_in_every_draw(loss: RowBound) -> None:
    pyro.set_rng_seed(5)
    linear = Linear(exact=True)
    assert gradient(linear, loss, X)[1][7:].abs().max() < 1e-12  # behind weights and variance of the model
    assert gradient(linear, ImportanceWeightedELBO(4), X)[1][7:].abs().max() > 1e-3


@pytest.mark.parametrize("loss", SEVERAL, ids=lambda c: c.__name__)
def test_subsampling_leaves_bound_and_gradient_unbiased(loss: type[RowBound]) -> None:
    # The value and 15 numbers within six standard errors of the difference of two means of 40: 3e-6 a loss.
    pyro.set_rng_seed(6)
    linear = Linear()
    mean, error = estimate(linear, loss(3))
    pairs = [estimate(linear, loss(3), X[pair]) for pair in torch.combinations(torch.arange(4))]
    over_pairs = torch.stack([found for found, _ in pairs]).mean(0)
    its_error = torch.stack([found for _, found in pairs]).square().sum(0).sqrt() / len(pairs)
    assert ((mean - over_pairs).abs() < 6 * (error**2 + its_error**2).sqrt() + 1e-6).all()


def test_ours_is_a_bound_under_subsampling_and_pyro_s_own_is_none() -> None:
    # Means over 50 draws of one row that stands for 1000: 500 nats above are 10 standard errors.
    pyro.set_rng_seed(7)
    linear, x = Linear(size=1000), X[:1]
    theirs = RenyiELBO(alpha=0, num_particles=10, vectorize_particles=True, max_plate_nesting=1)
    above = {}
    for loss in (theirs, ImportanceWeightedELBO(10)):
        values = torch.tensor([-loss.loss(linear.model, linear.guide, x) for _ in range(50)])
        above[type(loss).__name__] = values.mean().item() - 1000 * linear.log_likelihood(x).item()
    assert above["ImportanceWeightedELBO"] < 0
    assert above["RenyiELBO"] > 200


@pytest.mark.parametrize("loss", SEVERAL, ids=lambda c: c.__name__)
def test_it_learns_by_svi(loss: type[RowBound]) -> None:
    pyro.set_rng_seed(8)
    linear = Linear()
    svi = SVI(linear.model, linear.guide, pyro.optim.Adam({"lr": 0.05}), loss(5))
    before = linear.log_likelihood(X).mean().item()
    for _ in range(60):
        svi.step(X)
    assert linear.log_likelihood(X).mean().item() > before + 0.1


@pytest.mark.parametrize("path", [StickingTheLandingELBO(1), DoublyReparametrizedELBO(1)], ids=["STL", "DReG"])
def test_a_guide_with_two_layers_has_the_same_expected_gradient(path: RowBound) -> None:
    # The value and 4 numbers within six standard errors of the difference of two means of 40: 1e-6.
    pyro.set_rng_seed(9)
    chain, x = Chain(), torch.tensor([0.5, -2.0, 3.0]).double()
    (one, error), (other, another) = (estimate(chain, loss, x, size=3) for loss in (path, Trace_ELBO()))
    assert ((one - other).abs() < 6 * (error**2 + another**2).sqrt()).all()


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="`num_particles`"):
        ImportanceWeightedELBO(0)

    def coin(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Bernoulli(0.5))

    with pytest.raises(ValueError, match="'z' must have a reparametrised distribution"):
        ImportanceWeightedELBO(2).loss(coin, coin, torch.zeros(3))

    def with_factor(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("bonus", torch.ones(3), has_rsample=True)

    with pytest.raises(ValueError, match="'bonus'"):
        StickingTheLandingELBO().loss(with_factor, with_factor, torch.zeros(3))
