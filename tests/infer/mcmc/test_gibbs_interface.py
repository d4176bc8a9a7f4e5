"""What Gibbs accepts and refuses: blocks, chains as processes and as a dimension, starts, seeds, bad models."""

from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import HMC, MCMC, NUTS
from pyro.infer.autoguide.initialization import init_to_median, init_to_value
from pyro.infer.mcmc import RandomWalkKernel
from torch import Tensor

from pyro_gen.infer import CustomGibbs, DiscreteGibbs, Gibbs, expectation
from pyro_gen.infer.mcmc.gibbs.joint import Joint
from tests.infer.mcmc.gibbs_models import half_coupled, mixture, nested, ring_inside_the_plate, sum_over_the_plate
from tests.marks import slow

X = torch.tensor([-1.0, 0.5, 2.0])
Blocks = list[tuple[Any, Any]]


def model(x: Tensor = X) -> None:
    mu = pyro.sample("mu", dist.Normal(torch.tensor([-1.0, 1.0]), 1.0).to_event(1))
    weight = pyro.sample("weight", dist.Dirichlet(torch.ones(2)))
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", dist.Categorical(weight))
        pyro.sample("x", dist.Normal(mu[z], 1.0), obs=x)


def draw_weight(values: dict[str, Tensor], x: Tensor = X) -> Tensor:
    return dist.Dirichlet(1.0 + torch.bincount(values["z"], minlength=2)).sample()


def blocks() -> Blocks:
    return [(DiscreteGibbs(), ["z"]), (partial(NUTS, max_tree_depth=3), "mu"), (CustomGibbs(draw_weight), ["weight"])]


def run(kernel: Gibbs, num_samples: int = 8, warmup_steps: int = 4, **settings: Any) -> MCMC:
    mcmc = MCMC(kernel, num_samples=num_samples, warmup_steps=warmup_steps, disable_progbar=True, **settings)
    mcmc.run()
    return mcmc


def test_draws_come_in_the_sites_own_shapes_types_and_supports() -> None:
    draws = run(Gibbs(blocks(), model)).get_samples()
    assert {name: tuple(value.shape) for name, value in draws.items()} == {"mu": (8, 2), "weight": (8, 2), "z": (8, 3)}
    assert draws["z"].dtype == torch.long
    torch.testing.assert_close(draws["weight"].sum(-1), torch.ones(8))


def test_one_seed_gives_one_run() -> None:
    found = []
    for _ in range(2):
        pyro.set_rng_seed(7)
        found.append(run(Gibbs(blocks(), model)).get_samples())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_chains_run_in_processes(context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyro.infer.mcmc.api.mp.cpu_count", lambda: 8)
    mcmc = run(Gibbs(blocks(), model), num_chains=2, mp_context=context)
    draws = mcmc.get_samples(group_by_chain=True)
    assert draws["z"].shape == (2, 8, 3)
    assert draws["z"].dtype == torch.long
    assert not torch.equal(draws["mu"][0], draws["mu"][1])
    torch.testing.assert_close(draws["weight"].sum(-1), torch.ones(2, 8))


def test_chains_run_one_after_the_other_and_a_kernel_can_be_used_again() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MCMC says that there are more chains than processors
        kernel = Gibbs(blocks(), model)
        for _ in range(2):
            assert run(kernel, num_chains=4).get_samples(group_by_chain=True)["mu"].shape == (4, 8, 2)


def test_a_kernel_can_be_pickled() -> None:
    kernel = pickle.loads(pickle.dumps(Gibbs(blocks(), model)))
    assert run(kernel).get_samples()["mu"].shape == (8, 2)


def test_many_chains_have_the_first_dimension_of_every_site() -> None:
    kernel = Gibbs([(DiscreteGibbs(), ["a"]), (DiscreteGibbs(modified=True), ["b"])], nested, num_chains=5)
    draws = run(kernel).get_samples()
    assert draws["a"].shape == (8, 5, 2)
    assert draws["b"].shape == (8, 5, 2, 2)
    assert len(draws["b"][-1].unique(dim=0)) > 1


def test_a_model_that_mixes_chains_is_refused() -> None:
    def total() -> None:
        with pyro.plate("coins", 3):
            z = pyro.sample("z", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=torch.tensor(1.0))

    with pytest.raises(ValueError, match="must treat chains as independent"):
        Gibbs([(DiscreteGibbs(), "z")], total, num_chains=4).setup(0)


def test_starts_are_constrained_through_pyro_s_strategy_and_unconstrained_through_its_parameters() -> None:
    given = {"weight": torch.tensor([0.25, 0.75]), "z": torch.tensor([1, 0, 1])}
    kernel = Gibbs(
        [(DiscreteGibbs(), ["z"]), (NUTS, ["mu", "weight"])], model, init_strategy=init_to_value(values=given)
    )
    kernel.setup(0)
    state = kernel.init()
    torch.testing.assert_close(state.values["weight"], given["weight"])
    assert torch.equal(state.values["z"], given["z"])
    assert kernel.initial_params["weight"].shape == (1,)  # stick-breaking, as NUTS has it
    kernel.initial_params = {"weight": torch.zeros(1), "mu": torch.tensor([3.0, 4.0])}
    kernel.setup(0)
    torch.testing.assert_close(kernel.init().values["weight"], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(kernel.init().values["mu"], torch.tensor([3.0, 4.0]))
    Gibbs(blocks(), model, init_strategy=init_to_median).setup(0)


@pytest.mark.parametrize("kernel", [RandomWalkKernel, *slow(partial(HMC, step_size=0.3, num_steps=4))])
def test_other_kernels_of_pyro_serve_as_blocks(kernel: Callable[..., Any]) -> None:
    """Z fixes the mean's sign in the conditional: a kernel that keeps an old potential is far off."""

    def pair() -> None:
        z = pyro.sample("z", dist.Bernoulli(0.5))
        pyro.sample("m", dist.Normal(3 * z, 1.0))

    pyro.set_rng_seed(11)
    mcmc = run(Gibbs([(DiscreteGibbs(), "z"), (kernel, "m")], pair), 700, 100)
    draws = mcmc.get_samples(group_by_chain=True)
    for name, exact in (("z", 0.5), ("m", 1.5)):
        mean, error, _, _ = expectation(lambda v: v, draws[name])
        assert abs(mean - exact) < 5.5 * error  # false alarm 4e-8


@pytest.mark.parametrize(("scan", "orders"), [("systematic", 1), ("random", 6)])
def test_a_random_scan_takes_the_blocks_in_every_order(scan: str, orders: int) -> None:
    """60 sweeps miss one of six orders with probability 1e-4."""
    taken: list[str] = []

    def three() -> None:
        for name in "abc":
            pyro.sample(name, dist.Normal(0.0, 1.0))

    def noted(name: str, values: dict[str, Tensor]) -> Tensor:
        taken.append(name)
        return values[name]

    pyro.set_rng_seed(1)
    kernel = Gibbs([(CustomGibbs(partial(noted, name)), name) for name in "abc"], three, scan=scan)
    kernel.setup(0)
    for _ in range(60):
        kernel.step(kernel.init())
    sweeps = {tuple(taken[i : i + 3]) for i in range(0, 180, 3)}
    assert len(sweeps) == orders
    assert all(sorted(sweep) == ["a", "b", "c"] for sweep in sweeps)


def test_the_acceptance_rate_is_the_share_that_moved_and_of_a_gradient_kernel_its_own_after_warm_up() -> None:
    def pair() -> None:
        with pyro.plate("rows", 3):
            z = pyro.sample("z", dist.Bernoulli(0.4))
        pyro.sample("m", dist.Normal(z.mean(), 1.0))

    pyro.set_rng_seed(2)
    gradient = partial(HMC, step_size=1.9, num_steps=1, adapt_step_size=False, adapt_mass_matrix=False)
    kernel = Gibbs([(DiscreteGibbs(), "z"), (gradient, "m")], pair)
    kernel.setup(4)
    params, means = kernel.initial_params, []
    found = [params["z"]]
    for _ in range(13):
        params = kernel.sample(params)
        found.append(params["z"])
        means.append(kernel.movers[1].kernel._mean_accept_prob)  # type: ignore[attr-defined]  # Pyro's running mean
    moved = torch.stack(found[1:]) != torch.stack(found[:-1])
    rates = kernel.diagnostics()["acceptance rate"]
    assert rates["z"] == pytest.approx(moved[4:].double().mean().item())
    assert rates["z"] != pytest.approx(moved.double().mean().item())  # the test can fail
    assert rates["m"] == pytest.approx(float(means[-1]))
    assert rates["m"] != pytest.approx(sum(map(float, means[4:])) / 9)


def test_the_plan_says_what_couples_a_plate() -> None:
    for program, plate, words in (
        (ring_inside_the_plate, "spins", "`energy` mixes the elements of `z` inside of the plate"),
        (sum_over_the_plate, "coins", "`x` uses `z` outside of the plate"),
        (half_coupled, "rows", "`x` uses `z` outside of the plate"),
    ):
        kernel = Gibbs([(DiscreteGibbs(), "z")], program)
        kernel.setup(0)
        assert kernel.movers[0].plans[0].reasons == {plate: words}  # type: ignore[attr-defined]


def test_a_plate_costs_as_many_runs_as_a_site_has_states_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    plain = Joint.factors

    def counted(*args: Any) -> Any:
        runs.append(1)
        return plain(*args)

    monkeypatch.setattr(Joint, "factors", counted)

    def rows(n: int) -> None:
        with pyro.plate("rows", n):
            z = pyro.sample("z", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(z, 1.0), obs=torch.zeros(n))

    for n in (1, 7, 3000):
        kernel = Gibbs([(DiscreteGibbs(), "z")], partial(rows, n))
        kernel.setup(0)
        runs.clear()
        kernel.step(kernel.init())
        assert len(runs) == 3


def test_a_long_coupled_plate_warns_of_its_cost() -> None:
    def rows() -> None:
        with pyro.plate("rows", 6000):
            z = pyro.sample("z", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(z.mean(), 1.0), obs=torch.tensor(0.5))

    with pytest.warns(UserWarning, match=r"runs the model 12000 times.*plate `rows`: `x` uses `z` outside"):
        Gibbs([(DiscreteGibbs(), "z")], rows).setup(0)


def test_a_coupling_that_only_shows_later_is_found_when_warm_up_ends() -> None:
    def late() -> None:
        switch = pyro.sample("switch", dist.Bernoulli(0.99))
        with pyro.plate("spins", 4):
            z = pyro.sample("z", dist.Bernoulli(0.5))
            pyro.factor("energy", (z * z.roll(1)) if switch else 0 * z)

    start = {"switch": torch.tensor(0.0), "z": torch.zeros(4)}
    kernel = Gibbs(
        [(DiscreteGibbs(), "z"), (CustomGibbs(lambda values: torch.tensor(1.0)), "switch")],
        late,
        init_strategy=init_to_value(values=start),
    )
    kernel.setup(1)
    assert kernel.movers[0].plans[0].free == (-1,)  # type: ignore[attr-defined]
    kernel.step(kernel.init())
    assert kernel.movers[0].plans[0].free == ()  # type: ignore[attr-defined]


def subsampled() -> None:
    with pyro.plate("rows", 10, subsample_size=3):
        pyro.sample("z", dist.Bernoulli(0.5))


def poisson() -> None:
    pyro.sample("z", dist.Poisson(3.0))


def unequal_uniform() -> None:
    z = pyro.sample("z", dist.Gamma(2.0, 2.0))
    pyro.sample("y", dist.Uniform(0.0, z))


def impossible() -> None:
    z = pyro.sample("z", dist.Bernoulli(0.5))
    pyro.factor("never", torch.where(z < 2, -torch.inf, 0.0))


def changing() -> None:
    z = pyro.sample("z", dist.Bernoulli(0.5))
    if z == 1:
        pyro.sample("more", dist.Bernoulli(0.5))


def broken() -> None:
    z = pyro.sample("z", dist.Bernoulli(0.0))
    pyro.factor("broken", torch.where(z == 1, torch.nan, 0.0))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no block": (lambda: Gibbs([], model), "at least one pair"),
    "no pair": (lambda: Gibbs([DiscreteGibbs()], model), "must be pairs"),  # type: ignore[list-item]
    "no sites": (lambda: Gibbs([(NUTS, [])], model), "at least one"),
    "order": (lambda: Gibbs(model, blocks()), "`model` must be a Pyro program"),  # type: ignore[arg-type]
    "scan": (lambda: Gibbs(blocks(), model, scan="up"), "`scan` must be one of"),
    "chains": (lambda: Gibbs(blocks(), model, num_chains=3), "must be None with gradient kernels"),
    "zero chains": (lambda: Gibbs(blocks(), model, num_chains=0), "at least 1"),
    "instance": (lambda: Gibbs([(NUTS(model), ["mu"])], model), "has a model already"),
    "width": (lambda: DiscreteGibbs(width=0), "`width` must be at least 1"),
    "function": (lambda: CustomGibbs(3), "`function` must be callable"),  # type: ignore[arg-type]
    "missing site": (lambda: Gibbs([(DiscreteGibbs(), "z")], model).setup(0), r"none for \['mu', 'weight'\]"),
    "unknown site": (lambda: Gibbs([*blocks(), (NUTS, "nu")], model).setup(0), r"got \['nu'\]"),
    "continuous": (lambda: Gibbs([(DiscreteGibbs(), ["z", "mu", "weight"])], model).setup(0), "`mu` must be discrete"),
    "discrete": (lambda: Gibbs([(NUTS, ["z", "mu", "weight"])], model).setup(0), "`z` is discrete and has no gradient"),
    "subsample": (lambda: Gibbs([(DiscreteGibbs(), "z")], subsampled).setup(0), "plate `rows` must not be subsampled"),
    "unbounded": (lambda: Gibbs([(DiscreteGibbs(), "z")], poisson).setup(0), "`z` must have a finite support"),
    "support": (lambda: Gibbs([(NUTS, ["y", "z"])], unequal_uniform).setup(0), "support of `y` depends on"),
    "compiled": (lambda: Gibbs([(partial(NUTS, jit_compile=True), ["z"])], normal).setup(0), "jit_compile"),
    "impossible": (lambda: Gibbs([(DiscreteGibbs(), "z")], impossible).setup(0), "finite log probability"),
    "changing": (lambda: Gibbs([(DiscreteGibbs(), "z")], changing).setup(0), r"got (none for )?\['more'\]"),
    "not a number": (lambda: run(Gibbs([(DiscreteGibbs(), "z")], broken)), "finite log probability|positive, finite"),
    "parameter": (lambda: start({"nu": torch.zeros(1)}), "`initial_params` must name latent sites"),
    "shape": (lambda: start({"z": torch.zeros(4)}), r"must hold `z` in shape \(3,\), got \(4,\)"),
    "states": (lambda: sweep(DiscreteGibbs(joint=True, max_states=20)), "`max_states` must be at least 32"),
    "custom names": (lambda: custom({"x": torch.zeros(3)}), r"must return values of \['z'\], got \['x'\]"),
    "custom shape": (lambda: custom({"z": torch.zeros(2)}), r"in shape \(3,\), got \(2,\)"),
    "custom NaN": (lambda: custom({"z": torch.full((3,), torch.nan)}), "got NaN"),
    "custom support": (lambda: custom({"z": torch.tensor([0, 5, 1])}), "in the support"),
    "not set up": (lambda: Gibbs(blocks(), model).init(), "must come before"),
}


def normal() -> None:
    pyro.sample("z", dist.Normal(0.0, 1.0))


def start(params: dict[str, Tensor]) -> None:
    kernel = Gibbs(blocks(), model)
    kernel.initial_params = params
    kernel.setup(0)


def sweep(kernel: DiscreteGibbs) -> None:
    gibbs = Gibbs([(kernel, "z")], sum_over_the_plate)
    gibbs.setup(0)
    gibbs.step(gibbs.init())


def custom(values: dict[str, Tensor]) -> None:
    kernel = Gibbs([(CustomGibbs(lambda present: values), "z")], mixture)
    kernel.setup(0)
    kernel.step(kernel.init())


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_sampled_is_refused_in_words(name: str) -> None:
    make, words = REFUSED[name]
    pyro.set_rng_seed(1)
    with pytest.raises(ValueError, match=words):
        make()


def test_masked_rows_factors_and_observed_parts_of_a_site() -> None:
    """obs_mask: the observed part keeps its value, the rest follows its conditional."""
    mask = cast(torch.BoolTensor, torch.tensor([True, False, True]))

    def partly() -> None:
        with pyro.plate("rows", 3):
            z = pyro.sample("z", dist.Bernoulli(0.3), obs=torch.ones(3), obs_mask=mask)
            pyro.sample("x", dist.Normal(2 * z, 1.0), obs=torch.tensor([9.0, 1.0, 9.0]))

    site = next(
        n
        for n, s in poutine.trace(partly).get_trace().nodes.items()
        if s["type"] == "sample" and not s["is_observed"] and n.startswith("z")
    )
    kernel = Gibbs([(DiscreteGibbs(), site)], partly, num_chains=5000)
    kernel.setup(0)
    state, _ = kernel.step(kernel.init())
    # x = 1 lies between 0 and 2: the prior stays. Binomial standard error 0.0065, six of them.
    assert abs(state.values[site][:, 1].mean() - 0.3) < 6 * math.sqrt(0.21 / 5000)
