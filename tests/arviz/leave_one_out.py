"""Four models with one influential row, of which leave-one-out is known exactly: in closed form or by quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.ops.indexing import Vindex
from torch import Tensor

from pyro_gen.arviz import from_mcmc, loo_moment_match, reloo
from tests.arviz.models import loo, quietly

Draws = dict[str, Tensor]


class Case(NamedTuple):
    """A model, its arguments, its influential row, and exact results without any rows."""

    model: Callable[..., Any]
    args: tuple[Tensor, ...]
    row: int
    draws: Callable[[Tensor, int], Draws]
    """Draws of the posterior given the rows that a mask keeps."""
    log_predictive: Callable[[Tensor], Tensor]
    """log p(y_i | kept rows) of each row i."""

    @property
    def number(self) -> int:
        return len(self.args[-1])

    @property
    def exact(self) -> np.ndarray:
        """Leave-one-out of each row."""
        each = ~torch.eye(self.number, dtype=torch.bool)
        return np.array([float(self.log_predictive(kept)[row]) for row, kept in enumerate(each)])

    def data(self, num_draws: int = 4000, chains: int = 4) -> Any:
        """Draws of the posterior given all rows."""
        draws = self.draws(torch.ones(self.number, dtype=torch.bool), num_draws)
        return from_mcmc(as_run(draws, chains), model=self.model, model_args=self.args)


def as_run(draws: Draws, chains: int = 1) -> Any:
    """Draws as `pyro.infer.MCMC` hands them over."""
    by_chain = {name: values.unflatten(0, (chains, -1)) for name, values in draws.items()}
    return SimpleNamespace(get_samples=lambda group_by_chain=False: by_chain if group_by_chain else draws)


def noise(number: int, seed: int) -> Tensor:
    return torch.randn(number, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normal_mean(outlier: float = 9.0) -> Case:
    """Closed form: mu ~ N(0, 10^2), y ~ N(mu, 1)."""
    y = torch.cat([noise(9, 0), torch.tensor([outlier]).double()])

    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(torch.zeros((), dtype=torch.float64), 10.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    def posterior(kept: Tensor) -> dist.Normal:
        precision = kept.sum() + 0.01
        return dist.Normal(y[kept].sum() / precision, precision.double() ** -0.5)

    def log_predictive(kept: Tensor) -> Tensor:
        mu = posterior(kept)
        return dist.Normal(mu.loc, (1 + mu.variance) ** 0.5).log_prob(y)

    return Case(model, (y,), 9, lambda kept, number: {"mu": posterior(kept).sample((number,))}, log_predictive)


def regression() -> Case:
    """Closed form: beta | s2 ~ N(0, 100 s2), s2 ~ InverseGamma(2, 1), y ~ N(X beta, s2)."""
    slopes = torch.tensor([0.5, 1.0]).double()
    x = torch.stack([torch.ones(25).double(), noise(25, 1)], 1)
    x[24, 1] = 3.5
    y = x @ slopes + 0.7 * noise(25, 2)
    y[24] = 0.5

    def model(x: Tensor, y: Tensor) -> None:
        one = torch.ones((), dtype=torch.float64)
        variance = pyro.sample("variance", dist.InverseGamma(2 * one, one))
        with pyro.plate("column", 2):
            beta = pyro.sample("beta", dist.Normal(0 * one, 10 * variance.sqrt()))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(x @ beta, variance.sqrt()), obs=y)

    def posterior(kept: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        xs, ys = x[kept], y[kept]
        precision = xs.T @ xs + torch.eye(2).double() / 100
        covariance = torch.linalg.inv(precision)
        mean = covariance @ xs.T @ ys
        shape = 2 + kept.sum() / 2
        rate = 1 + (ys @ ys - mean @ precision @ mean) / 2
        return mean, covariance, shape, rate

    def draws(kept: Tensor, number: int) -> Draws:
        mean, covariance, shape, rate = posterior(kept)
        variance = dist.InverseGamma(shape.double(), rate).sample((number,))
        free = torch.randn(number, 2, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
        return {"variance": variance, "beta": mean + variance.sqrt()[:, None] * free}

    def log_predictive(kept: Tensor) -> Tensor:
        mean, covariance, shape, rate = posterior(kept)
        scale = (rate / shape * (1 + (x @ covariance * x).sum(1))).sqrt()
        return dist.StudentT(2 * shape.double(), x @ mean, scale).log_prob(y)

    return Case(model, (x, y), 24, draws, log_predictive)


class Grid:
    """Two parameters on a grid: a posterior by quadrature."""

    def __init__(
        self,
        names: tuple[str, str],
        ranges: tuple[tuple[float, float], tuple[float, float]],
        log_prior: Callable[[Tensor, Tensor], Tensor],
        log_likelihood: Callable[[Tensor, Tensor], Tensor],
        cells: int = 200,
    ) -> None:
        axes = [torch.linspace(low, high, cells, dtype=torch.float64) for low, high in ranges]
        self.names = names
        self.steps = torch.stack([axis[1] - axis[0] for axis in axes])
        self.points = torch.cartesian_prod(*axes)
        first, second = self.points.T
        self.log_prior = log_prior(first, second)
        self.log_likelihood = log_likelihood(first, second)

    def log_weights(self, kept: Tensor) -> Tensor:
        return (self.log_prior + self.log_likelihood[:, kept].sum(1)).log_softmax(0)

    def log_predictive(self, kept: Tensor) -> Tensor:
        return (self.log_weights(kept)[:, None] + self.log_likelihood).logsumexp(0)

    def draws(self, kept: Tensor, number: int) -> Draws:
        cells = torch.multinomial(self.log_weights(kept).exp(), number, replacement=True)
        points = self.points[cells] + (torch.rand(number, 2, dtype=torch.float64) - 0.5) * self.steps
        return dict(zip(self.names, points.T.contiguous(), strict=True))


def poisson() -> Case:
    """Quadrature: a, b ~ N(0, 2^2), y ~ Poisson(exp(a + b x))."""
    x = torch.cat([torch.linspace(-1, 1, 15).double(), torch.tensor([2.5]).double()])
    y = torch.tensor([1, 0, 1, 2, 1, 0, 2, 1, 2, 3, 1, 2, 2, 3, 4, 2]).double()

    def log_likelihood(a: Tensor, b: Tensor) -> Tensor:
        return dist.Poisson((a[:, None] + b[:, None] * x).exp()).log_prob(y)

    def log_prior(a: Tensor, b: Tensor) -> Tensor:
        return dist.Normal(0.0, 2.0).log_prob(a) + dist.Normal(0.0, 2.0).log_prob(b)

    def model(x: Tensor, y: Tensor) -> None:
        prior = dist.Normal(torch.zeros((), dtype=torch.float64), 2.0)
        a, b = pyro.sample("a", prior), pyro.sample("b", prior)
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Poisson((a + b * x).exp()), obs=y)

    grid = Grid(("a", "b"), ((-1.5, 2.0), (-1.5, 3.0)), log_prior, log_likelihood)
    return Case(model, (x, y), 15, grid.draws, grid.log_predictive)


def mixture() -> Case:
    """Quadrature: means ~ N(-2, 1), N(2, 1), y ~ 0.6 N(low, 1) + 0.4 N(high, 1)."""
    y = torch.cat([noise(9, 3) - 2, noise(6, 4) + 2, torch.tensor([9.0]).double()])
    weights = torch.tensor([0.6, 0.4]).double()

    def log_likelihood(low: Tensor, high: Tensor) -> Tensor:
        means = torch.stack([low, high], 1)
        return (dist.Normal(means[:, None], 1.0).log_prob(y[:, None]) + weights.log()).logsumexp(-1)

    def log_prior(low: Tensor, high: Tensor) -> Tensor:
        return dist.Normal(-2.0, 1.0).log_prob(low) + dist.Normal(2.0, 1.0).log_prob(high)

    def model(y: Tensor) -> None:
        one = torch.ones((), dtype=torch.float64)
        means = torch.stack(
            [pyro.sample("low", dist.Normal(-2 * one, one)), pyro.sample("high", dist.Normal(2 * one, one))]
        )
        with pyro.plate("row", len(y)):
            z = pyro.sample("z", dist.Categorical(weights), infer={"enumerate": "parallel"})
            pyro.sample("y", dist.Normal(Vindex(means)[..., z], 1.0), obs=y)

    grid = Grid(("low", "high"), ((-5.0, 3.0), (-2.0, 6.0)), log_prior, log_likelihood)
    return Case(model, (y,), 15, grid.draws, grid.log_predictive)


CASES: dict[str, Callable[[], Case]] = {
    "normal mean": normal_mean,
    "regression": regression,
    "Poisson": poisson,
    "mixture": mixture,
}


def pointwise(loo: Any) -> np.ndarray:
    """Log predictive densities of the rows, whatever the line calls them."""
    values = loo.elpd_i if hasattr(loo, "elpd_i") else loo["loo_i"]
    return np.asarray(values).reshape(-1)


def errors(case: Case, seed: int, num_draws: int = 4000) -> dict[str, float]:
    """Errors at the influential row: PSIS, moment matching, and refits without and with the bridge."""
    pyro.set_rng_seed(seed)
    data = case.data(num_draws)
    refit: list[Draws] = []

    def fit(model: Any, kept: Tensor) -> Draws:
        refit.append(case.draws(kept, num_draws))
        return refit[-1]

    plain = loo(data, pointwise=True)
    settings = {"loo_orig": plain, "k_threshold": min(0.5, float(np.asarray(plain.pareto_k)[case.row]) - 1e-6)}
    matched = loo_moment_match(data, case.model, *case.args, **settings)
    refitted = reloo(data, case.model, *case.args, fit=fit, **settings)
    rows = from_mcmc(as_run(refit[-1]), model=case.model, model_args=case.args)
    last = torch.as_tensor(rows["log_likelihood"]["y"].values.reshape(num_draws, -1)[:, case.row])
    estimates = {
        "PSIS": pointwise(plain)[case.row],
        "moment matching": pointwise(matched)[case.row],
        "mean over the refit": float(last.logsumexp(0)) - math.log(num_draws),
        "reloo": pointwise(refitted)[case.row],
    }
    return {name: float(value) - case.exact[case.row] for name, value in estimates.items()}


if __name__ == "__main__":
    for name, make in CASES.items():
        one_case = make()
        runs = [quietly(errors, one_case, seed) for seed in range(20)]
        shown = {key: np.sqrt(np.mean([run[key] ** 2 for run in runs])) for key in runs[0]}
        print(name, f"exact {one_case.exact[one_case.row]:.2f}", {key: f"{value:.3f}" for key, value in shown.items()})
