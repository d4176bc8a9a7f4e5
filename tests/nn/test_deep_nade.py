"""DeepNADE in any order, order-agnostic training, and ensembles over orders: against enumeration of orders and sets."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, SVI, JitTrace_ELBO, RenyiELBO, Trace_ELBO, TraceEnum_ELBO
from torch import Tensor

from pyro_gen import datasets, nn
from pyro_gen.distributions import (
    Autoregressive,
    AutoregressiveEnsemble,
    CategoricalConditional,
    Conditional,
)
from pyro_gen.distributions.autoregressive.order_agnostic import OrderAgnostic
from pyro_gen.nn.autoregressive import deep as deep_module
from pyro_gen.testing import frequencies, goodness_of_fit, states
from tests.kernels.oracle import P_LIMIT

LABELS = CategoricalConditional((2, 3, 1, 2))
CONDITIONALS: dict[str, Conditional] = {"Bernoulli": nn.FVSBN(4).conditional, "labels": LABELS}


def deep_of(distribution: str = "Bernoulli", context: int = 0) -> nn.DeepNADE:
    """One with random weights in float64, in training mode."""
    torch.manual_seed(0)
    deep = nn.DeepNADE(4, (5, 3), context, conditional=CONDITIONALS[distribution], activation=torch.tanh).double()
    for p in deep.parameters():
        torch.nn.init.normal_(p)
    return deep


def score(deep: nn.DeepNADE, x: Tensor, known: Tensor, context: Tensor | None = None) -> Tensor:
    """Log probability of every feature given some, by one masked pass: what all else here is held against."""
    parameters = deep.parameters_given(x, known.expand_as(x), context)
    return deep.conditional.log_prob(parameters, x)


def by_hand(deep: nn.DeepNADE, x: Tensor, order: tuple[int, ...], context: Tensor | None = None) -> Tensor:
    """Log probability in an order, a pass for each feature."""
    known, total = torch.zeros(4, dtype=torch.bool), torch.zeros(len(x), dtype=torch.float64)
    for feature in order:
        total = total + score(deep, x, known, context)[:, feature]
        known[feature] = True
    return total


ORDERS = list(itertools.permutations(range(4)))


@pytest.mark.parametrize("distribution", CONDITIONALS)
@pytest.mark.parametrize("context", [0, 2])
def test_every_order_is_the_product_of_masked_passes(distribution: str, context: int) -> None:
    deep = deep_of(distribution, context)
    x = deep(torch.zeros(2).double() if context else None, order=(0, 1, 2, 3)).enumerate_support()
    rows = torch.randn(len(x), 2, dtype=torch.float64) if context else None
    for order in ORDERS[::5]:
        density = deep(rows, order=order)
        torch.testing.assert_close(density.log_prob(x), by_hand(deep, x, order, rows), rtol=0, atol=1e-12)
        drawn, log_prob = density.sample_and_log_prob((5,))
        torch.testing.assert_close(density.log_prob(drawn), log_prob, rtol=0, atol=1e-12)


def test_rows_may_have_orders_of_their_own() -> None:
    for distribution in CONDITIONALS:
        deep = deep_of(distribution)
        x = deep.eval()().enumerate_support()
        orders = torch.tensor([ORDERS[7 * i % 24] for i in range(len(x))])
        found = deep.in_orders(orders).log_prob_of(x, None)
        expected = torch.cat([deep(order=order).log_prob(row[None]) for order, row in zip(orders, x, strict=True)])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_blocks_change_neither_values_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    x, found = states(4), []
    for block in (deep_module.BLOCK, 1):
        monkeypatch.setattr(deep_module, "BLOCK", block)
        deep = deep_of()
        log_prob = deep(order=(2, 0, 3, 1)).log_prob(x)
        gradients = torch.autograd.grad((log_prob * torch.arange(16)).sum(), list(deep.parameters()))
        with torch.no_grad():
            torch.testing.assert_close(deep(order=(2, 0, 3, 1)).log_prob(x), log_prob, rtol=0, atol=1e-12)
        found.append((log_prob, *gradients))
    for one, many in zip(*found, strict=True):
        torch.testing.assert_close(one, many, rtol=0, atol=1e-11)


def test_another_order_shares_the_weights_wherever_these_go() -> None:
    deep, x = deep_of(), states(4)
    view = deep.with_order((3, 2, 1, 0))
    ensemble = nn.EoNADE(deep, [(3, 2, 1, 0), (0, 1, 2, 3)])
    with torch.no_grad():
        deep.output_bias.add_(1)
    deep.load_state_dict({name: x.float() for name, x in deep.state_dict().items()})
    expected = by_hand(deep, x, (3, 2, 1, 0))
    for other in (view, copy.deepcopy(ensemble).members[0], pickle.loads(pickle.dumps(ensemble)).members[0]):
        torch.testing.assert_close(other().log_prob(x), expected)
    again = copy.deepcopy(ensemble)
    assert len(list(again.parameters())) == len(list(deep.parameters()))
    with torch.no_grad():
        next(again.members[0].parameters()).zero_()
    assert not next(again.members[1].parameters()).any()
    assert view().log_prob(x.float()).dtype == torch.float64
    assert deep.float() is deep
    assert view().log_prob(x).dtype == torch.float32
    assert nn.EoNADE(deep, 5).num_parameters == deep.num_parameters == 4 * 5 * 2 + 5 + 5 * 3 + 3 + 4 * (3 + 1)


def agnostic(deep: nn.DeepNADE, context: Tensor | None = None) -> OrderAgnostic:
    density = deep(context)
    assert isinstance(density, OrderAgnostic)
    return density


def sets() -> tuple[Tensor, Tensor]:
    """All sets of known features but the full one, and the probability of each draw."""
    known = states(4)[:-1].bool()
    sizes = known.sum(-1).tolist()
    return known, torch.tensor([1 / 4 / math.comb(4, size) for size in sizes], dtype=torch.float64)


@pytest.mark.parametrize("distribution", CONDITIONALS)
def test_the_objective_is_the_mean_over_all_orders(distribution: str) -> None:
    """The estimate for every set of known features, weighed by its probability, is the mean over the 24 orders."""
    deep = deep_of(distribution)
    x = deep(order=(0, 1, 2, 3)).enumerate_support()
    known, probability = sets()
    total = torch.zeros(len(x), dtype=torch.float64)
    for some, share in zip(known, probability, strict=True):
        estimate = agnostic(deep)
        estimate.known = lambda rows, device, some=some: some.expand(rows, -1)  # type: ignore[method-assign, misc]
        total = total + share * estimate.log_prob(x)
    expected = torch.stack([deep(order=order).log_prob(x) for order in ORDERS]).mean(0)
    torch.testing.assert_close(total, expected, rtol=0, atol=1e-12)
    gradients = (torch.autograd.grad(y.mean(), list(deep.parameters())) for y in (total, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_known_features_are_drawn_as_the_objective_says() -> None:
    """Goodness of fit; false alarms below 1e-6."""
    pyro.set_rng_seed(0)
    known, probability = sets()
    drawn = agnostic(deep_of()).known(20_000, torch.device("cpu")).double()
    assert goodness_of_fit(frequencies(drawn, known.double()) * 20_000, probability) > P_LIMIT


def test_the_estimate_is_a_pure_function_and_the_next_object_draws_anew() -> None:
    deep, x = deep_of(context=2), states(4)
    first, second = (agnostic(deep, torch.zeros(2).double()) for _ in range(2))
    state = torch.get_rng_state()
    value = first.log_prob(x)
    assert torch.equal(first.log_prob(x), value)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(second.log_prob(x), value)
    assert first.expand((3, 1)).log_prob(x).shape == (3, 16)
    assert agnostic(deep, torch.zeros(3, 1, 2).double()).log_prob(x).shape == (3, 16)
    pyro.set_rng_seed(0)
    again = agnostic(deep, torch.zeros(2).double()).log_prob(x)
    pyro.set_rng_seed(0)
    assert torch.equal(agnostic(deep, torch.zeros(2).double()).log_prob(x), again)


def test_modes_decide_what_a_call_gives() -> None:
    deep = deep_of()
    assert type(deep()) is OrderAgnostic
    for density in (deep(order=(1, 0, 2, 3)), deep.with_order((1, 0, 2, 3))(), copy.copy(deep).eval()()):
        assert type(density) is Autoregressive
    deep.train()
    with torch.no_grad():
        assert type(deep()) is Autoregressive
    assert type(nn.DeepNADE(4, [3], order_agnostic=False)()) is Autoregressive


def test_svi_trains_all_orders_and_their_ensemble_is_no_worse() -> None:
    pyro.set_rng_seed(0)
    x = datasets.bars_and_stripes(2, 2)
    deep = nn.DeepNADE.from_data(x, (16, 16))

    def model() -> None:
        pyro.module("deep", deep)
        with pyro.plate("rows", 60):
            pyro.sample("x", deep(), obs=x.repeat(10, 1))

    svi = SVI(model, lambda: None, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    for _ in range(400):
        svi.step()
    deep.eval()
    each = torch.stack([deep(order=order).log_prob(x) for order in ORDERS])
    best = -math.log(6)  # six patterns, equally often
    assert each.mean() > best - 0.1
    assert each.mean(1).min() > best - 0.2
    ensemble = nn.EoNADE(deep, ORDERS)()
    torch.testing.assert_close(ensemble.log_prob(x), each.exp().mean(0).log())
    assert ensemble.log_prob(x).mean() >= each.mean()


def observed(deep: nn.DeepNADE, latent: dist.TorchDistribution, infer: Any = None) -> Callable[[], None]:
    def model() -> None:
        z = pyro.sample("z", latent, infer=infer)
        pyro.sample("x", deep(z.double().reshape(-1, 1)), obs=torch.zeros(4).double())

    return model


def network() -> nn.DeepNADE:
    return nn.DeepNADE(4, [3], 1).double()


def enumerated() -> None:
    model = observed(network(), dist.Bernoulli(0.5), {"enumerate": "parallel"})
    TraceEnum_ELBO(max_plate_nesting=1).loss(model, lambda: None)


def bounded() -> None:
    RenyiELBO(0.5, 2).loss_and_grads(
        observed(network(), dist.Normal(0, 1)), lambda: pyro.sample("z", dist.Normal(0, 1))
    )


def sampled() -> None:
    MCMC(NUTS(observed(network(), dist.Normal(0, 1))), 1, 1, disable_progbar=True).run()


def traced() -> None:
    deep = nn.DeepNADE(4, [3]).double()

    def model() -> None:
        pyro.module("deep", deep)
        pyro.sample("x", deep(), obs=torch.zeros(4).double())

    SVI(model, lambda: None, pyro.optim.Adam({}), JitTrace_ELBO()).step()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (enumerated, "traceenum_elbo needs log probabilities, and order-agnostic training gives only an estimate"),
        (bounded, "renyi_elbo needs log probabilities"),
        (sampled, "pyro.infer.mcmc.* needs log probabilities"),
        (traced, "would freeze the draws of order-agnostic training"),
        (lambda: deep_of()().sample(), "`sample` needs an order"),
        (lambda: deep_of()().sample_and_log_prob(), "`sample` needs an order"),
        (lambda: deep_of()().start(), "`start` needs an order"),
        (lambda: deep_of()().conditionals(torch.zeros(4)), "`conditionals` needs an order"),
        (lambda: deep_of()().given(torch.zeros(4), torch.ones(4).bool()), "`given` needs an order"),
        (
            lambda: AutoregressiveEnsemble([deep_of()()]),
            "`members` must be autoregressive densities, got OrderAgnostic",
        ),
        (lambda: nn.AutoregressiveEnsemble([deep_of()]).forward(), "an order-agnostic network gives one in eval"),
        (lambda: OrderAgnostic(nn.FVSBN(3)), "`conditioner` must be a network of any order, got FVSBN"),  # type: ignore[arg-type]  # the point
        (lambda: nn.DeepNADE(3, []), "`hidden_features` must be at least one whole number"),
        (lambda: nn.DeepNADE(3, [2, 0]), "`hidden_features` must be at least 1, got 0"),
        (lambda: nn.DeepNADE(3, [2], -1), "`context` must be at least 0, got -1"),
        (lambda: deep_of()(order=(0, 1, 2, 2)), "`order` must hold each of 0 ... 3 once"),
        (lambda: deep_of()(torch.zeros(3)), "this network takes no context"),
        (lambda: AutoregressiveEnsemble([]), "`members` must hold at least one density"),
        (lambda: AutoregressiveEnsemble([nn.FVSBN(2)(), nn.FVSBN(3)()]), "`members` must have the same events"),
        (lambda: AutoregressiveEnsemble([nn.FVSBN(2)()], torch.zeros(2)), r"`logits` must have shape \(..., 1\)"),
        (lambda: nn.AutoregressiveEnsemble([]), "`members` must hold at least one network"),
        (lambda: nn.AutoregressiveEnsemble([nn.FVSBN(2), nn.FVSBN(2, 1)]), "the same events and contexts"),
        (lambda: nn.EoNADE(deep_of(), 0), "`orders` must be at least 1"),
    ],
)
def test_what_cannot_work_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_states_are_not_weighed_by_estimates() -> None:
    density = agnostic(deep_of())
    assert not density.has_enumerate_support
    for call in (density.enumerate_support, density.entropy):
        with pytest.raises(NotImplementedError):
            call()


def test_an_ensemble_averages_probabilities_in_every_batch() -> None:
    torch.manual_seed(0)
    members = [nn.FVSBN(3, 2, order=order).double() for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0))]
    ensemble = nn.AutoregressiveEnsemble(members, learn_weights=True)
    for p in ensemble.parameters():
        torch.nn.init.normal_(p)
    assert ensemble.num_parameters == 3 * (6 + 6) + 2
    context, x = torch.randn(2, 1, 2, dtype=torch.float64), states(3)
    density = ensemble(context)
    assert density.batch_shape == (2, 1)
    expected = sum(
        share * m(context).log_prob(x).exp() for share, m in zip(ensemble.logits.softmax(0), members, strict=True)
    )
    torch.testing.assert_close(density.log_prob(x).exp(), expected)
    torch.testing.assert_close(density.member_log_probs(x).logsumexp(-1), density.log_prob(x))
    assert density.expand((2, 4)).sample((5,)).shape == (5, 2, 4, 3)
    assert density.sample((0,)).shape == (0, 2, 1, 3)


def test_samples_of_an_ensemble_follow_each_context() -> None:
    """Goodness of fit of both rows; false alarms below 1e-6 each."""
    pyro.set_rng_seed(0)
    members = [nn.FVSBN(3, 1, order=order).double() for order in ((0, 1, 2), (2, 0, 1))]
    for p in itertools.chain.from_iterable(m.parameters() for m in members):
        torch.nn.init.normal_(p, std=2)
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    density = AutoregressiveEnsemble([m(torch.tensor([[-1.0], [1.0]]).double()) for m in members], logits)
    drawn, distribution = density.sample((4000,)), density.log_prob(states(3).unsqueeze(1)).detach().exp()
    for row in range(2):
        assert goodness_of_fit(frequencies(drawn[:, row], states(3)) * 4000, distribution[:, row]) > P_LIMIT
