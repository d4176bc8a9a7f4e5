"""Problems of calibration: small models whose prior is drawn from exactly, and
samplers of their posteriors.

Each problem is a function that makes one simulation and ranks its parameters;
see :mod:`pyro_gen.testing.calibration`. The data are few, so that posteriors
are wide and skew, where samplers and guides go wrong first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import networkx as nx
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.autoguide.initialization import init_to_sample
from torch import Tensor
from torch.distributions import biject_to

from pyro_gen.infer import CustomGibbs, DiscreteGibbs, Gibbs
from pyro_gen.models import PPCA, BayesianNetwork, BayesianRBM, GaussianMixture
from pyro_gen.testing import joint_distribution_test, simulation_based_calibration

Values = Mapping[str, Tensor]
Simulate = Callable[[], tuple[Values, Any]]
Ranks = dict[str, Tensor]
Problem = Callable[[int], tuple[Ranks, int]]
"""From a number of simulations to their ranks, and the number of draws that they are among."""

ROWS = 6
DRAWS = 19
NUTS_DRAWS = 9
STEPS = 4


def _calibrated(
    simulate: Simulate,
    posterior: Callable[[Any], Values],
    quantities: Callable[[Values], Values] = dict,
) -> Problem:
    def problem(num_simulations: int) -> tuple[Ranks, int]:
        result = simulation_based_calibration(simulate, posterior, num_simulations, quantities)
        return result.ranks, result.num_draws

    return problem


def _joint(
    simulate: Simulate,
    transition: Callable[[Values, Any], Values],
    regenerate: Callable[[Values], Any],
    quantities: Callable[[Values], Values] = dict,
) -> Problem:
    def problem(num_simulations: int) -> tuple[Ranks, int]:
        result = joint_distribution_test(
            simulate, transition, regenerate, num_simulations, STEPS, DRAWS, quantities
        )
        return result.ranks, result.num_draws

    return problem


# ---- NUTS, on any program


def nuts_draws(model: Callable[..., Any], data: Any, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Thinned draws of a chain that starts at a draw of the prior and adapts its step size."""
    kernel = NUTS(model, max_tree_depth=4, init_strategy=init_to_sample)
    mcmc = MCMC(kernel, num_samples=3 * NUTS_DRAWS, warmup_steps=40, disable_progbar=True)
    mcmc.run(data)
    return {name: mcmc.get_samples()[name][2::3] for name in names}


def nuts_transition(model: Callable[..., Any], values: Values, data: Any) -> dict[str, Tensor]:
    """One step of NUTS with a fixed step size from given values."""
    kernel = NUTS(
        model, step_size=0.4, adapt_step_size=False, adapt_mass_matrix=False, max_tree_depth=4
    )
    trace = poutine.trace(poutine.condition(model, data=dict(values))).get_trace(data)
    sites: Any = trace.nodes
    transforms = {name: biject_to(sites[name]["fn"].support) for name in values}
    kernel.initial_params = {name: transforms[name].inv(value) for name, value in values.items()}
    kernel.setup(0, data)
    unconstrained = kernel.sample(kernel.initial_params)
    return {name: transforms[name](value).detach() for name, value in unconstrained.items()}


# ---- a mixture of two Gaussians on a line

MIXTURE_SITES = ("weights", "locs", "covariances")


def mixture() -> GaussianMixture:
    """Two components with informative priors, so that six rows tell something of each."""
    settings = {"concentration": 2.0, "loc": 0.0, "kappa": 0.3, "scale": 1.0, "df": 8.0}
    return GaussianMixture(2, 1, ROWS, "spherical", **settings)  # type: ignore[arg-type]


MIXTURE = mixture()


def mixture_prior() -> dict[str, Tensor]:
    """Parameters from the prior."""
    nodes: Any = poutine.trace(MIXTURE.model).get_trace().nodes
    return {name: nodes[name]["value"].detach() for name in MIXTURE_SITES}


def mixture_rows(values: Values) -> Tensor:
    """Rows given parameters."""
    program: Any = poutine.condition(MIXTURE.model, data=dict(values))
    return torch.as_tensor(program()).detach()


def simulate_mixture() -> tuple[Values, Tensor]:
    """Parameters and rows."""
    values = mixture_prior()
    return values, mixture_rows(values)


def mixture_gibbs(x: Tensor) -> Values:
    """Thinned sweeps from a draw of the prior."""
    values: dict[str, Tensor] = mixture_prior()
    draws = []
    for step in range(1, 60 + 12 * DRAWS + 1):
        values = MIXTURE.gibbs_sweep(x, values)
        if step > 60 and (step - 60) % 12 == 0:
            draws.append(values)
    return {name: torch.stack([draw[name] for draw in draws]) for name in MIXTURE_SITES}


def mixture_sweep(values: Values, x: Tensor) -> Values:
    """One sweep of the blocked sampler."""
    return {name: value for name, value in MIXTURE.gibbs_sweep(x, values).items() if name != "z"}


def mixture_wrong_sweep(values: Values, x: Tensor) -> Values:
    """A sweep whose means have the deviation of one row more: a mutant."""
    new = dict(mixture_sweep(values, x))
    new["locs"] = new["locs"] + 0.8 * torch.randn_like(new["locs"])
    return new


def ordered(values: Values) -> dict[str, Tensor]:
    """Quantities that do not depend on labels: those of the component of the lower mean first."""
    locs = values["locs"][..., 0]
    order = locs.argsort(-1)
    covariances = values["covariances"].log()
    return {
        "lower mean": locs.gather(-1, order)[..., 0],
        "upper mean": locs.gather(-1, order)[..., 1],
        "weight of the lower": values["weights"].gather(-1, order)[..., 0],
        "log variance of the lower": covariances.gather(-1, order)[..., 0],
    }


# ---- a Bayesian RBM

RBM = BayesianRBM(3, 1, size=ROWS)
RBM_SHAPES = {"weight": (3, 1), "vbias": (3,), "hbias": (1,)}


def simulate_rbm() -> tuple[Values, Tensor]:
    """Weights and rows."""
    values = {name: torch.randn(shape) for name, shape in RBM_SHAPES.items()}
    return values, rbm_rows(values)


def rbm_rows(values: Values) -> Tensor:
    """Rows given weights, drawn exactly."""
    return RBM.at(values).sample((ROWS,))


def rbm_quantities(values: Values) -> dict[str, Tensor]:
    """A weight, two biases, and the log probability of a state."""
    log_prob = RBM.at(values).log_prob(torch.ones(3))
    return {
        "weight": values["weight"][..., 0, 0],
        "visible bias": values["vbias"][..., 0],
        "hidden bias": values["hbias"][..., 0],
        "log p(1, 1, 1)": log_prob,
    }


# ---- tables of a network

NETWORK = BayesianNetwork(nx.DiGraph([("a", "b"), ("c", "b")]))
CONCENTRATION = 0.8


def network_prior() -> dict[str, Tensor]:
    """Tables from the Dirichlet prior."""
    shapes = {"a": (2,), "c": (2,), "b": (2, 2, 2)}
    return {
        name: dist.Dirichlet(torch.full(shape, CONCENTRATION)).sample()
        for name, shape in shapes.items()
    }


def network_rows(tables: Values, missing: float) -> dict[str, Tensor]:
    """Complete rows given tables, then cells hidden at random."""
    a = dist.Categorical(tables["a"]).sample((2 * ROWS,))
    c = dist.Categorical(tables["c"]).sample((2 * ROWS,))
    parents = [{"a": a, "c": c}[name] for name in NETWORK.skeleton.parents["b"]]
    b = dist.Categorical(tables["b"][parents[0], parents[1]]).sample()
    rows = {"a": a, "b": b, "c": c}
    return {name: x.masked_fill(torch.rand(x.shape) < missing, -1) for name, x in rows.items()}


def simulate_network(missing: float) -> tuple[Values, dict[str, Tensor]]:
    """Tables and rows."""
    tables = network_prior()
    return tables, network_rows(tables, missing)


def network_posterior(rows: dict[str, Tensor]) -> Values:
    """Draws of the tables: exact, or a thinned chain where cells are missing."""
    thin = 4 if any((x < 0).any() for x in rows.values()) else 1
    draws = NETWORK.sample_cpds(
        rows, CONCENTRATION, num_samples=thin * DRAWS, num_chains=1, warmup_steps=40
    )
    return {name: table[0, thin - 1 :: thin] for name, table in draws.tables.items()}


def network_quantities(tables: Values) -> dict[str, Tensor]:
    """One probability of each table."""
    return {
        "P(a)": tables["a"][..., 0].double(),
        "P(c)": tables["c"][..., 0].double(),
        "P(b | 0, 1)": tables["b"][..., 0, 1, 0].double(),
    }


# ---- latent variables of PPCA

with pyro.get_param_store().scope():
    torch.manual_seed(0)
    PPCA_MODEL = PPCA(4, 2, size=1)
    with torch.no_grad():
        PPCA_MODEL.weight.copy_(torch.randn(4, 2))


def simulate_ppca() -> tuple[Values, Tensor]:
    """Latent variables and a row, one cell of which is missing."""
    z = torch.randn(2)
    x = PPCA_MODEL.decode(z).sample().unsqueeze(0)
    x[0, torch.randint(4, ())] = torch.nan
    return {"z": z}, x


def ppca_posterior(x: Tensor) -> Values:
    """Exact draws of the latent variables."""
    return {"z": PPCA_MODEL.encode(x).sample((DRAWS,)).squeeze(1)}


# ---- block Gibbs with a discrete plate

WEIGHTS = torch.tensor([0.35, 0.65])

# The prior keeps the means apart. Where they can trade places (centres at -0.5
# and 0.5, scale 1) sweeps mix slowly, and ranks among 19 of their draws are not
# uniform: 30 % too many are first or last even with 50 sweeps between draws.
CENTRES = torch.tensor([-1.5, 1.5])
SPREAD = 0.7


def plate_program(x: Tensor) -> None:
    """Two means, and a component for each row of a plate."""
    mu = pyro.sample("mu", dist.Normal(CENTRES, SPREAD).to_event(1))
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Categorical(WEIGHTS))
        pyro.sample("x", dist.Normal(mu[z], 0.7), obs=x)


def simulate_plate() -> tuple[Values, Tensor]:
    """Means, components and rows."""
    mu = CENTRES + SPREAD * torch.randn(2)
    z = dist.Categorical(WEIGHTS).sample((ROWS,))
    return {"mu": mu, "z": z}, plate_rows({"mu": mu, "z": z})


def plate_rows(values: Values) -> Tensor:
    """Rows given means and components."""
    return dist.Normal(values["mu"][values["z"].long()], 0.7).sample()


def conditional_means(values: Values, x: Tensor, factor: float) -> Tensor:
    """The means given the components; ``factor`` of the deviation is 1 where it is right."""
    indicator = torch.nn.functional.one_hot(values["z"].long(), 2).to(x)
    precision = SPREAD**-2 + indicator.sum(0) / 0.49
    mean = (CENTRES / SPREAD**2 + indicator.mT @ x / 0.49) / precision
    return dist.Normal(mean, factor * precision**-0.5).sample()


def plate_kernel(x: Tensor, factor: float) -> Gibbs:
    """Components by enumeration, means by their conditional distribution."""
    means = CustomGibbs(lambda values, data: conditional_means(values, data, factor))
    return Gibbs(
        [(DiscreteGibbs(), "z"), (means, "mu")], plate_program, init_strategy=init_to_sample
    )


def plate_posterior(x: Tensor, factor: float = 1.0) -> Values:
    """Thinned sweeps."""
    mcmc = MCMC(
        plate_kernel(x, factor), num_samples=5 * DRAWS, warmup_steps=20, disable_progbar=True
    )
    mcmc.run(x)
    return {name: value[4::5] for name, value in mcmc.get_samples().items()}


def plate_transition(values: Values, x: Tensor, factor: float = 1.0) -> Values:
    """One sweep from given values."""
    kernel = plate_kernel(x, factor)
    kernel.initial_params = dict(values)
    kernel.setup(0, x)
    return {name: value.detach() for name, value in kernel.sample(dict(values)).items()}


def plate_quantities(values: Values) -> dict[str, Tensor]:
    """Both means, and the number of rows of the first component."""
    return {
        "first mean": values["mu"][..., 0],
        "second mean": values["mu"][..., 1],
        "rows of the first": (values["z"] == 0).sum(-1),
    }


# ---- mean-field variational inference, which must fail


def mean_field(num_simulations: int) -> tuple[Ranks, int]:
    """Ranks under AutoNormal of two strongly correlated means, all simulations in one plate."""
    first, second = torch.randn(2, num_simulations)
    x = first + second + 0.3 * torch.randn(num_simulations)

    def program() -> None:
        with pyro.plate("simulations", num_simulations):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(a + b, 0.3), obs=x)

    with pyro.get_param_store().scope():
        guide = AutoNormal(program)
        svi = SVI(program, guide, pyro.optim.ClippedAdam({"lr": 0.05, "lrd": 0.995}), Trace_ELBO())
        for _ in range(600):
            svi.step()
        draws = [guide() for _ in range(DRAWS)]
    truth = {"a": first, "b": second}
    ranks = {
        name: (torch.stack([draw[name].detach() for draw in draws]) < truth[name]).sum(0)
        for name in truth
    }
    return ranks, DRAWS


PROBLEMS: dict[str, Problem] = {
    "CPD posteriors, complete rows": _calibrated(
        partial(simulate_network, 0.0), network_posterior, network_quantities
    ),
    "CPD posteriors, missing cells": _calibrated(
        partial(simulate_network, 0.25), network_posterior, network_quantities
    ),
    "PPCA, latent variables": _calibrated(simulate_ppca, ppca_posterior),
    "block Gibbs, discrete plate": _calibrated(simulate_plate, plate_posterior, plate_quantities),
    "block Gibbs, discrete plate (joint)": _joint(
        simulate_plate, plate_transition, plate_rows, plate_quantities
    ),
    "GaussianMixture, Gibbs": _calibrated(simulate_mixture, mixture_gibbs, ordered),
    "GaussianMixture, Gibbs (joint)": _joint(
        simulate_mixture, mixture_sweep, mixture_rows, ordered
    ),
    "GaussianMixture, NUTS": _calibrated(
        simulate_mixture, partial(nuts_draws, MIXTURE.marginal, names=MIXTURE_SITES), ordered
    ),
    "GaussianMixture, NUTS (joint)": _joint(
        simulate_mixture, partial(nuts_transition, MIXTURE.marginal), mixture_rows, ordered
    ),
    "BayesianRBM, NUTS": _calibrated(
        simulate_rbm, partial(nuts_draws, RBM.model, names=tuple(RBM_SHAPES)), rbm_quantities
    ),
    "BayesianRBM, NUTS (joint)": _joint(
        simulate_rbm, partial(nuts_transition, RBM.model), rbm_rows, rbm_quantities
    ),
}
"""Samplers that must pass."""

WRONG: dict[str, Problem] = {
    "mean-field SVI": mean_field,
    "block Gibbs, a conditional too wide": _calibrated(
        simulate_plate, partial(plate_posterior, factor=1.8), plate_quantities
    ),
    "block Gibbs, a conditional too wide (joint)": _joint(
        simulate_plate, partial(plate_transition, factor=1.8), plate_rows, plate_quantities
    ),
    "GaussianMixture, a sweep too wide (joint)": _joint(
        simulate_mixture, mixture_wrong_sweep, mixture_rows, ordered
    ),
}
"""Samplers that must fail."""
