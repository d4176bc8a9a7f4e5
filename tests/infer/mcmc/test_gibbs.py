"""Gibbs kernels under MCMC: many chains at once, labels with gradients and functions, against sums and grids."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS
from scipy.stats import t as student_t
from torch import Tensor

from pyro_gen.infer import CustomGibbs, DiscreteGibbs, Gibbs, expectation
from pyro_gen.testing import goodness_of_fit
from tests.infer.mcmc.gibbs_models import KERNELS, MODELS, States, code, enumerate_distribution, parents
from tests.marks import slow

P_LIMIT = 1e-7
"""False-alarm rate of each goodness-of-fit test; fewer than 40 are made."""


def frequencies(draws: Mapping[str, Tensor], found: list[States]) -> Tensor:
    """How many chains are in each state."""
    number = {code(state): i for i, state in enumerate(found)}
    rows = torch.cat([draws[name].double().reshape(len(draws[name]), -1) for name in sorted(found[0])], 1)
    counts = torch.zeros(len(found))
    for row, count in zip(*rows.unique(dim=0, return_counts=True), strict=True):
        counts[number[tuple(row.tolist())]] += count
    return counts


def distribution_after(kernel: DiscreteGibbs, name: str, sweeps: int = 3, chains: int = 8000) -> None:
    """Chains that start from the distribution, as a dimension, still have it after some sweeps."""
    model, _ = MODELS[name]
    found, distribution = enumerate_distribution(model)
    gibbs = Gibbs([(kernel, list(found[0]))], model, num_chains=chains)
    gibbs.setup(0)
    start = torch.multinomial(distribution, chains, replacement=True)
    params = {site: torch.stack([state[site] for state in found])[start] for site in found[0]}
    for _ in range(sweeps):
        params = gibbs.sample(params)
    assert goodness_of_fit(frequencies(params, found), distribution) > P_LIMIT


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, kind) for name in ("mixture", "scaled and masked") for kind in KERNELS),
        *(("unequal counts", kind) for kind in ("Gibbs", "modified random walk")),
        *(("nested plates", kind) for kind in ("modified", "random walk")),
        *slow(*(("unequal counts", kind) for kind in ("modified", "random walk"))),
        *slow(*(("nested plates", kind) for kind in ("Gibbs", "modified random walk"))),
    ],
)
def test_many_chains_at_once_keep_the_enumerated_distribution(name: str, kind: str) -> None:
    pyro.set_rng_seed(1)
    distribution_after(KERNELS[kind](), name)


def test_the_walk_of_integers_keeps_distributions_with_an_end_and_without() -> None:
    """Poisson counts with a normal child, against the truncated sum; and unequal binomials."""
    pyro.set_rng_seed(2)

    def model() -> None:
        with pyro.plate("rows", 2):
            n = pyro.sample("n", dist.Poisson(torch.tensor([2.0, 5.0])))
            pyro.sample("x", dist.Normal(n, 2.0), obs=torch.tensor([4.0, 1.0]))

    gibbs = Gibbs([(DiscreteGibbs(width=3), ["n"])], model, num_chains=20_000)
    gibbs.setup(0)
    params = gibbs.initial_params
    for _ in range(60):
        params = gibbs.sample(params)
    states = torch.arange(30.0).unsqueeze(-1)
    log_distribution = dist.Poisson(torch.tensor([2.0, 5.0])).log_prob(states)
    log_distribution = log_distribution + dist.Normal(states, 2.0).log_prob(torch.tensor([4.0, 1.0]))
    for i in range(2):
        counts = torch.bincount(params["n"][:, i].long(), minlength=30)[:30]
        assert goodness_of_fit(counts, log_distribution[:, i].double().softmax(0)) > P_LIMIT
    distribution_after(DiscreteGibbs(width=1, modified=True), "unequal counts")


def test_the_walk_of_integers_stays_above_zero_where_the_formula_of_the_distribution_does_not_end() -> None:
    def model() -> None:
        pyro.sample("n", dist.Geometric(torch.tensor(0.4).double()))

    pyro.set_rng_seed(3)
    gibbs = Gibbs([(DiscreteGibbs(width=2), ["n"])], model, num_chains=5000)
    gibbs.setup(0)
    params = gibbs.initial_params
    for _ in range(60):
        params = gibbs.sample(params)
    distribution = 0.4 * 0.6 ** torch.arange(40).double()
    assert goodness_of_fit(torch.bincount(params["n"].flatten().long(), minlength=40)[:40], distribution) > P_LIMIT


def test_mcmc_runs_blocks_of_several_kinds_and_gives_draws_in_the_types_of_the_sites() -> None:
    found, distribution = enumerate_distribution(parents)
    kernel = Gibbs([(DiscreteGibbs(), ["z1"]), (DiscreteGibbs(modified=True), "z2"), (DiscreteGibbs, ["z3"])], parents)
    pyro.set_rng_seed(3)
    mcmc = MCMC(kernel, num_samples=200, warmup_steps=20, disable_progbar=True)
    mcmc.run()
    draws = mcmc.get_samples(group_by_chain=True)
    assert draws["z1"].dtype == torch.long
    assert draws["z3"].dtype == torch.float64
    exact = sum(p * state["z3"] for p, state in zip(distribution, found, strict=True))
    mean, error, _, _ = expectation(lambda z: z, draws["z3"])
    assert abs(mean - exact) < 6 * error  # false alarm 2e-9
    assert set(cast(Any, mcmc)._diagnostics[0]["acceptance rate"]) == {"z1", "z2", "z3"}


MEANS = torch.tensor([-1.0, 1.5]).double()
SPREAD = 0.5
"""Of the means' prior. With 1 the chains visit the mode of exchanged labels once in hundreds of sweeps, and the error
bars of 400 do not know of it (200 were worth 7 to 116 draws over five seeds)."""
ROWS = torch.tensor([-1.3, -0.4, 0.2, 1.0, 2.2]).double()


def two_means(x: Tensor) -> None:
    m = pyro.sample("m", dist.Normal(MEANS, SPREAD).to_event(1))
    s = pyro.sample("s", dist.LogNormal(torch.tensor(-0.5).double(), 0.3))
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Categorical(torch.tensor([0.4, 0.6]).double()))
        pyro.sample("x", dist.Normal(m[z], s), obs=x)
    pyro.deterministic("gap", m[1] - m[0])


def grid_means(x: Tensor) -> dict[str, float]:
    """E[m_0], E[m_1], E[s] and P(z_2 = 1) with z summed out and the rest on a grid."""
    m = torch.linspace(-4.5, 5, 140).double()
    s = torch.linspace(0.15, 2.0, 90).double()
    first, second, scale = torch.meshgrid(m, m, s, indexing="ij")
    log_distribution = dist.Normal(MEANS[0], SPREAD).log_prob(first) + dist.Normal(MEANS[1], SPREAD).log_prob(second)
    log_distribution = log_distribution + dist.LogNormal(torch.tensor(-0.5).double(), 0.3).log_prob(scale)
    ones = torch.zeros(())
    for i, value in enumerate(x):
        left = math.log(0.4) + dist.Normal(first, scale).log_prob(value)
        right = math.log(0.6) + dist.Normal(second, scale).log_prob(value)
        log_distribution = log_distribution + torch.logaddexp(left, right)
        ones = (right - left).sigmoid() if i == 2 else ones
    weight = (log_distribution - log_distribution.max()).exp()
    weight = weight / weight.sum()
    names = {"m0": first, "m1": second, "s": scale, "z2": ones}
    return {name: float((weight * value).sum()) for name, value in names.items()}


def draw_scale(values: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """A Metropolis step of the user, for log s."""

    def score(s: Tensor) -> Tensor:
        prior = dist.Normal(torch.tensor(-0.5).double(), 0.3).log_prob(s.log())
        return prior + dist.Normal(values["m"][values["z"]], s).log_prob(x).sum()

    proposal = values["s"] * (0.4 * torch.randn(()).double()).exp()
    return torch.where(torch.rand(()).log() < score(proposal) - score(values["s"]), proposal, values["s"])


LEAST = 20
"""Effective draws that 400 sweeps must be worth, where the error bar is 0.22 deviations of the posterior: with fewer
the test says little. Six seeds gave 57 to 330; by their spread on the log scale one of 50,000 falls below."""


@pytest.mark.slow
@pytest.mark.parametrize("scan", ["systematic", "random"])
def test_gibbs_for_labels_nuts_for_means_and_a_function_for_the_scale_agree_with_a_grid(scan: str) -> None:
    pyro.set_rng_seed(4)
    blocks = [(DiscreteGibbs(), ["z"]), (partial(NUTS, max_tree_depth=4), ["m"]), (CustomGibbs(draw_scale), ["s"])]
    mcmc = MCMC(Gibbs(blocks, two_means, scan=scan, own_types=False), 400, 100, disable_progbar=True)
    mcmc.run(ROWS)
    draws = mcmc.get_samples(group_by_chain=True)
    exact = grid_means(ROWS)
    found = {"m0": draws["m"][..., 0], "m1": draws["m"][..., 1], "s": draws["s"], "z2": draws["z"][..., 2].double()}
    for name, values in found.items():
        mean, error, size, _ = expectation(lambda v: v, values)
        assert size > LEAST
        # An error bar of so many draws is itself uncertain: Student's distribution, false alarm 1e-6 each.
        assert abs(mean - exact[name]) < student_t.isf(5e-7, float(size) - 1) * error, name
    diagnostics = mcmc.diagnostics()
    assert diagnostics["divergences"]["chain 0"] == []
    assert diagnostics["acceptance rate"]["chain 0"]["s"] == 1.0
    assert 0.05 < diagnostics["step size"]["chain 0"]["m"] < 3


def test_two_gradient_blocks_see_each_other_and_keep_their_constraints() -> None:
    """A normal with unknown mean and scale, each by its own NUTS, against a grid."""

    def model(x: Tensor) -> None:
        m = pyro.sample("m", dist.Normal(torch.zeros(()).double(), 2.0))
        s = pyro.sample("s", dist.Gamma(torch.tensor(2.0).double(), 2.0))
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(m, s), obs=x)

    pyro.set_rng_seed(5)
    blocks = [(NUTS, ["m"]), (partial(NUTS, target_accept_prob=0.9), ["s"])]
    mcmc = MCMC(Gibbs(blocks, model), num_samples=250, warmup_steps=100, disable_progbar=True)
    mcmc.run(ROWS)
    draws = mcmc.get_samples(group_by_chain=True)
    m, s = torch.meshgrid(torch.linspace(-4, 5, 700).double(), torch.linspace(0.05, 6, 700).double(), indexing="ij")
    log_distribution = dist.Normal(torch.zeros(()).double(), 2.0).log_prob(m) + dist.Gamma(
        torch.tensor(2.0).double(), 2.0
    ).log_prob(s)
    log_distribution = log_distribution + sum(dist.Normal(m, s).log_prob(x) for x in ROWS)
    weight = log_distribution.flatten().softmax(0).view(m.shape)
    assert (draws["s"] > 0).all()
    for name, values in (("m", m), ("s", s)):
        mean, error, _, _ = expectation(lambda v: v, draws[name])
        assert abs(mean - (weight * values).sum()) < 5.5 * error
