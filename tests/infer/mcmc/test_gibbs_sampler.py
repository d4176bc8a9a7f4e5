"""Bare full conditionals, the expectation with its error, and the inverse transform, against exact values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import arviz
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC
from torch import Tensor

from pyro_gen.arviz import from_chains
from pyro_gen.infer import GibbsSampler, effective_sample_size, expectation, inverse_transform
from pyro_gen.testing import goodness_of_fit

P_LIMIT = 1e-7
"""False-alarm rate of each goodness-of-fit test; fewer than 20 are made."""


def casella_george(trials: int = 8, a: float = 2.0, b: float = 4.0, **settings: Any) -> GibbsSampler:
    """Binomial given beta given binomial: the marginal of x is beta-binomial."""
    conditionals = {
        "x": lambda y: dist.Binomial(trials, y),
        "y": lambda x: dist.Beta(x + a, trials - x + b),
    }
    return GibbsSampler(conditionals, start={"y": dist.Uniform(0.0, 1.0)}, **settings)


@pytest.mark.parametrize("scan", ["systematic", "random"])
def test_the_marginal_of_casella_and_george_is_beta_binomial(scan: str) -> None:
    pyro.set_rng_seed(0)
    sampler = casella_george(num_chains=20_000, scan=scan)
    draws = sampler.run(num_samples=1, warmup_steps=60)
    counts = torch.bincount(draws["x"].flatten().long(), minlength=9)
    distribution = dist.BetaBinomial(2.0, 4.0, 8).log_prob(torch.arange(9.0)).exp()
    assert goodness_of_fit(counts, distribution) > P_LIMIT


def test_a_sweep_of_tables_leaves_their_joint_distribution_invariant() -> None:
    """Three discrete variables; chains start from the distribution and keep it, 24 cells."""
    pyro.set_rng_seed(1)
    joint = torch.rand(2, 3, 4).double()
    joint = joint / joint.sum()
    first = torch.multinomial(joint.flatten(), 20_000, replacement=True)
    sampler = GibbsSampler(
        {
            "a": lambda b, c: dist.Categorical(joint[:, b, c].T),
            "b": lambda c, a: dist.Categorical(joint.transpose(1, 2)[a, c]),
            "c": lambda **rest: dist.Categorical(joint[rest["a"], rest["b"]]),
        },
        start=dict(zip("abc", torch.unravel_index(first, (2, 3, 4)), strict=True)),
        num_chains=20_000,
    )
    state = sampler.init()
    for _ in range(3):
        state, _ = sampler.step(state)
    code = state.values["a"] * 12 + state.values["b"] * 4 + state.values["c"]
    assert goodness_of_fit(torch.bincount(code, minlength=24), joint.flatten()) > P_LIMIT


def test_vectors_draws_by_hand_and_constant_distributions_have_their_place() -> None:
    pyro.set_rng_seed(2)
    sampler = GibbsSampler(
        {
            "constant": lambda: dist.Normal(torch.zeros(3), 1.0).to_event(1),
            "vector": lambda constant: constant + torch.randn(5, 3),
        },
        num_chains=5,
    )
    draws = sampler.run(num_samples=7, warmup_steps=2, thin=2)
    assert draws["vector"].shape == draws["constant"].shape == (5, 7, 3)
    assert draws["constant"].flatten(0, 1).unique(dim=0).shape == (35, 3)


def test_mcmc_runs_it_and_arviz_takes_its_draws() -> None:
    pyro.set_rng_seed(3)
    sampler = casella_george(num_chains=4)
    mcmc = MCMC(sampler, num_samples=20, warmup_steps=5, disable_progbar=True)
    mcmc.run()
    assert mcmc.get_samples()["y"].shape == (20, 4)
    pyro.set_rng_seed(3)
    posterior = from_chains(sampler.run(num_samples=20, warmup_steps=5))
    torch.testing.assert_close(torch.tensor(posterior["posterior"]["y"].values).T, mcmc.get_samples()["y"])


def test_mcmc_starts_where_it_is_told_and_goes_on_from_where_the_chains_were_moved_to() -> None:
    sampler = GibbsSampler({"x": lambda y: y + 1, "y": lambda x: x}, start={"x": 0.0, "y": 0.0}, num_chains=2)
    start = {"y": torch.tensor([10.0, 20.0])}
    mcmc = MCMC(sampler, num_samples=2, warmup_steps=0, initial_params=start, disable_progbar=True)
    mcmc.run()
    assert mcmc.get_samples()["x"].tolist() == [[11.0, 21.0], [12.0, 22.0]]
    moved = sampler.sample({"x": torch.zeros(2), "y": torch.tensor([5.0, 6.0])})
    assert moved["x"].tolist() == [6.0, 7.0]


@pytest.mark.parametrize(("scan", "sweeps"), [("systematic", 1), ("random", 27)])
def test_a_random_scan_draws_each_variable_of_a_sweep_anew(scan: str, sweeps: int) -> None:
    """Of the 27 sweeps of three updates, one is missing after 400 with probability 8e-6."""
    taken: list[str] = []

    def noted(name: str) -> Callable[[], torch.Tensor]:
        def drawn() -> torch.Tensor:
            taken.append(name)
            return torch.zeros(2)

        return drawn

    pyro.set_rng_seed(4)
    sampler = GibbsSampler({name: noted(name) for name in "abc"}, num_chains=2, scan=scan)
    state = sampler.init()
    taken.clear()
    for _ in range(400):
        state, _ = sampler.step(state)
    assert len({tuple(taken[i : i + 3]) for i in range(0, 1200, 3)}) == sweeps


SAMPLERS: dict[str, tuple[Callable[[], Any], str]] = {
    "none": (lambda: GibbsSampler({}), "at least one variable"),
    "chains": (lambda: casella_george(num_chains=0), "`num_chains` must be at least 1"),
    "scan": (lambda: casella_george(scan="down"), "`scan` must be one of"),
    "unknown": (lambda: GibbsSampler({"x": lambda z: z}), r"must ask for other variables among \['x'\], got \['z'\]"),
    "itself": (lambda: GibbsSampler({"x": lambda x: x}), r"got \['x'\]"),
    "no function": (lambda: GibbsSampler({"x": 3}), "must be a function"),  # type: ignore[dict-item]
    "no start": (lambda: GibbsSampler({"x": lambda y: y, "y": lambda x: x}).init(), r"must give values of \['y'\]"),
    "other start": (lambda: GibbsSampler({"x": lambda: 0}, start={"z": 1.0}), r"got \['z'\]"),  # type: ignore[dict-item, return-value]
    "rows": (lambda: GibbsSampler({"x": lambda: 0}, start={"x": torch.zeros(3)}).init(), "must have 4 rows"),  # type: ignore[dict-item, return-value]
    "shape": (lambda: GibbsSampler({"x": lambda: torch.zeros(2)}, {"x": 0.0}).run(1), r"shape \(4,\), got \(2,\)"),
    "NaN": (lambda: GibbsSampler({"x": lambda: torch.full((4,), torch.nan)}, {"x": 0.0}).run(1), "got NaN"),
    "samples": (lambda: casella_george().run(0), "`num_samples` must be at least 1"),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_conditionals_that_cannot_be_run_are_refused_in_words(name: str) -> None:
    make, words = SAMPLERS[name]
    with pytest.raises(ValueError, match=words):
        make()


def autoregression(rho: float, chains: int, draws: int) -> Tensor:
    """Chains of known autocorrelation rho^t, stationary, variance one."""
    values = [torch.randn(chains).double()]
    for _ in range(draws - 1):
        values.append(rho * values[-1] + math.sqrt(1 - rho**2) * torch.randn(chains).double())
    return torch.stack(values, 1)


@pytest.mark.parametrize("rho", [-0.6, 0.0, 0.5, 0.95])
@pytest.mark.parametrize(("chains", "draws"), [(1, 501), (4, 1000), (3, 4), (2, 37)])
def test_the_effective_size_and_the_error_are_arviz_s(rho: float, chains: int, draws: int) -> None:
    torch.manual_seed(4)
    values = torch.stack([autoregression(rho, chains, draws), torch.ones(chains, draws).double()], -1)
    found = expectation(lambda v: v, values)
    for i in range(2):
        column = values[..., i].numpy()
        assert float(found.effective_sample_size[i]) == pytest.approx(float(arviz.ess(column, method="mean")), rel=1e-9)
        assert float(found.standard_error[i]) == pytest.approx(
            float(arviz.mcse(column, method="mean")), rel=1e-9, abs=1e-15
        )


def test_the_error_bar_of_an_autoregression_is_the_exact_one() -> None:
    """300 runs of 4 x 500 draws: errors in units of the error bar have variance one; six sigmas of a chi-square."""
    torch.manual_seed(5)
    chains = autoregression(0.8, 1200, 500).view(300, 4, 500)
    found = [expectation(lambda v: v, run) for run in chains]
    scores = torch.stack([run.value / run.standard_error for run in found])
    assert abs(scores.square().mean() - 1) < 6 * math.sqrt(2 / 300)
    assert float(torch.stack([run.effective_sample_size for run in found]).mean()) == pytest.approx(
        2000 * 0.2 / 1.8, rel=0.15
    )


def test_expectations_refuse_what_is_no_chain() -> None:
    draws = {"x": torch.randn(2, 10)}
    with pytest.raises(ValueError, match=r"shape \(2, 10\) and more, got \(20,\)"):
        expectation(lambda x: x.flatten(), draws)
    for no_chains in (torch.zeros(10), {"x": torch.zeros(10)}, {}):
        with pytest.raises(ValueError, match=r"`draws` must be tensors \(chain, draw, ...\)"):
            expectation(lambda x: x, no_chains)
    for shape in ((2, 3), (0, 10)):
        with pytest.raises(ValueError, match="a chain and four draws or more"):
            effective_sample_size(torch.zeros(shape))
    with pytest.raises(ValueError, match="must be finite"):
        expectation(lambda x: x * torch.nan, draws)


U = torch.linspace(0.0005, 0.9995, 1000).double()


@pytest.mark.parametrize(
    "distribution",
    [
        dist.Normal(torch.tensor([1.0, -2.0]).double(), 3.0),
        dist.Gamma(torch.tensor(0.7).double(), torch.tensor(2.0).double()),
        dist.LogNormal(torch.tensor(0.0).double(), 1.0),
    ],
)
def test_continuous_draws_have_the_distribution_s_cdf(distribution: Any) -> None:
    uniforms = U.unsqueeze(-1) if distribution.batch_shape else U
    drawn = inverse_transform(distribution, uniforms)
    torch.testing.assert_close(distribution.cdf(drawn), uniforms.expand_as(drawn), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "distribution",
    [
        dist.Categorical(torch.tensor([[0.0, 0.2, 0.5, 0.3, 0.0], [0.6, 0.0, 0.0, 0.0, 0.4]]).double()),
        dist.Bernoulli(torch.tensor(0.3).double()),
        dist.Binomial(torch.tensor([3.0, 7.0]).double(), torch.tensor(0.4).double()),
        dist.Poisson(torch.tensor([0.1, 4.0, 300.0]).double()),
        dist.Geometric(torch.tensor(0.05).double()),
    ],
)
def test_discrete_draws_are_the_smallest_states_whose_cdf_reaches_u(distribution: Any) -> None:
    uniforms = U.view(-1, *[1] * len(distribution.batch_shape))
    drawn = inverse_transform(distribution, uniforms)
    assert drawn.shape == (1000, *distribution.batch_shape)
    states = torch.arange(int(drawn.max()) + 1).to(drawn).view(-1, *[1] * len(distribution.batch_shape))
    if isinstance(distribution, dist.Categorical):
        mass = distribution.probs.movedim(-1, 0)[: len(states)]
    elif isinstance(distribution, dist.Binomial):
        inside = states <= distribution.total_count
        mass = torch.where(inside, distribution.log_prob(torch.where(inside, states, 0.0)).exp(), 0.0)
    else:
        mass = distribution.log_prob(states.expand(-1, *distribution.batch_shape)).exp()
    expected = (mass.cumsum(0).unsqueeze(1) < uniforms.unsqueeze(0)).sum(0)
    assert torch.equal(drawn.long(), expected)


def test_states_of_probability_zero_never_come_not_even_at_the_ends() -> None:
    ends = torch.tensor([0.0, 1 - 2**-24])
    assert inverse_transform(dist.Categorical(torch.tensor([0.0, 0.5, 0.5, 0.0])), ends).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: inverse_transform(dist.Normal(0.0, 1.0), torch.tensor([1.0])), r"in \[0, 1\)"),
        (lambda: inverse_transform(dist.Normal(0.0, 1.0), torch.tensor([1])), "floating"),
        (lambda: inverse_transform(dist.Dirichlet(torch.ones(2)), torch.rand(3)), "single number"),
        (lambda: inverse_transform(dist.Beta(2.0, 3.0), torch.rand(3)), "must have an icdf or a cdf"),
        (lambda: inverse_transform(lambda x: x.sum().sigmoid(), torch.rand(3)), r"each number to its own, \(3,\) of"),
        (lambda: inverse_transform(torch.sigmoid, torch.tensor([0.99]), bracket=(0, 1)), "`bracket` must enclose"),
        (lambda: inverse_transform(3, torch.rand(3)), "`distribution` must be a distribution"),  # type: ignore[arg-type]
    ],
)
def test_distributions_without_an_inverse_are_refused_in_words(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("distribution", [dist.Gamma(2.0, 1.0), dist.Gamma(torch.tensor([0.5, 3.0]), 1.0)])
def test_a_uniform_of_zero_is_drawn_inside_the_support(distribution: Any) -> None:
    assert (inverse_transform(distribution, torch.zeros(3, *distribution.batch_shape)) == 0).all()


def test_a_function_and_a_far_quantile_need_no_bracket() -> None:
    drawn = inverse_transform(lambda x: torch.sigmoid((x - 1000.0) / 3), U)
    torch.testing.assert_close(drawn, 1000 + 3 * U.logit(), rtol=0, atol=1e-6)
