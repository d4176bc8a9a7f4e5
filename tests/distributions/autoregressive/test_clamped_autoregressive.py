"""An autoregressive density given some of its features, against enumeration of every event in float64."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from pyro_gen import nn
from pyro_gen.distributions import (
    Autoregressive,
    AutoregressiveEnsemble,
    CategoricalConditional,
    ClampedAutoregressive,
    Completion,
    Enumeration,
    GaussianConditional,
    Importance,
    ObservedFirst,
)
from pyro_gen.distributions.autoregressive import completion
from pyro_gen.testing import frequencies, goodness_of_fit, states
from tests.kernels.oracle import P_LIMIT

ORDER = (2, 0, 3, 1)
LABELS = CategoricalConditional((2, 3, 1, 2))
Density = Autoregressive | AutoregressiveEnsemble


def randomised(network: torch.nn.Module, scale: float = 1.0) -> torch.nn.Module:
    """Random weights in float64."""
    torch.manual_seed(0)
    for p in network.double().parameters():
        torch.nn.init.normal_(p, std=scale)
    return network.eval()


def fvsbn() -> Autoregressive:
    return randomised(nn.FVSBN(4, order=ORDER))()


def labels() -> Autoregressive:
    return randomised(nn.PerConditionalMLP(4, 3, order=ORDER, conditional=LABELS))()


def ensemble() -> AutoregressiveEnsemble:
    members = [nn.FVSBN(4, order=ORDER), nn.DeepNADE(4, [3], order_agnostic=False), nn.TabularAR(4)]
    return randomised(nn.AutoregressiveEnsemble(members, learn_weights=True))()


DENSITIES: dict[str, Callable[[], Density]] = {"FVSBN": fvsbn, "labels": labels, "ensemble": ensemble}
every_density = pytest.mark.parametrize("make", DENSITIES.values(), ids=list(DENSITIES))


def evidence(density: Density) -> tuple[Tensor, Tensor]:
    """Every mask, each with some event's values, NaN in all missing features."""
    masks = states(4).bool()
    every = density.enumerate_support()
    values = every[torch.arange(16) * 5 % len(every)].double()
    return torch.where(masks, values, torch.nan), masks


def enumerated(density: Density, observed: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Log p(event | evidence), (events, rows), and log p(evidence), (rows,), from log p(event)."""
    every = density.enumerate_support()
    fits = ((every.unsqueeze(1) == observed) | ~mask).all(-1)
    joint = torch.where(fits, density.log_prob(every).unsqueeze(-1), -math.inf)
    return joint - joint.logsumexp(0), joint.logsumexp(0)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


@every_density
def test_every_mask_and_event_is_enumerated(make: Callable[[], Density]) -> None:
    density = make()
    observed, mask = evidence(density)
    given, every = density.given(observed, mask), density.enumerate_support()
    distribution, log_evidence = enumerated(density, observed, mask)
    close(given.log_prob(every.unsqueeze(1)), distribution)
    found = density.evidence_estimate(observed, mask)
    close(found.value, log_evidence)
    assert found.standard_error.eq(0).all()
    assert found.effective_sample_size.isinf().all()
    for row in range(0, 16, 3):
        close(density.given(observed[row], mask[row]).log_prob(every), distribution[:, row])


@every_density
def test_samples_follow_the_distribution_and_carry_the_evidence(make: Callable[[], Density]) -> None:
    """False alarms: below 1e-6 for each of 16 rows."""
    pyro.set_rng_seed(0)
    density, n = make(), 2000
    observed, mask = evidence(density)
    distribution, every = enumerated(density, observed, mask)[0], density.enumerate_support()
    given = density.given(observed, mask)
    drawn, log_prob = given.sample_and_log_prob((n,))
    assert drawn.dtype == every.dtype
    assert ((drawn == observed) | ~mask).all()
    close(given.log_prob(drawn), log_prob)
    for row in range(16):
        assert goodness_of_fit(frequencies(drawn[:, row], every) * n, distribution[:, row].detach().exp()) > P_LIMIT


def test_what_comes_first_in_the_order_is_not_enumerated(monkeypatch: pytest.MonkeyPatch) -> None:
    density = fvsbn()
    masks = torch.tensor([[False, False, True, False], [True, False, True, False], [True, False, True, True]])
    observed = torch.where(masks, torch.tensor([1.0, 0, 0, 1]).double(), torch.nan)
    distribution, log_evidence = enumerated(density, observed, masks)
    monkeypatch.setattr(completion, "most_completions", lambda *_: pytest.fail("nothing needs to be listed"))
    given = density.given(observed, masks)
    assert given.evidence_estimate().method == "prefix of the order"
    close(given.log_prob(states(4).unsqueeze(1)), distribution)
    close(given.log_evidence(), log_evidence)


def test_real_numbers_are_conditioned_along_the_order() -> None:
    density = randomised(nn.FVSBN(3, order=(1, 2, 0), conditional=GaussianConditional()), 0.5)()
    x, mask = density.sample((5,)), torch.tensor([False, True, False])
    given = density.given(torch.where(mask, x, torch.nan), mask)
    close(given.log_prob(x) + given.log_evidence(), density.log_prob(x))
    first = density.start().distribution
    assert first is not None
    close(given.log_evidence(), first.log_prob(x[:, 1]))
    assert torch.equal(given.sample((4,))[..., 1], x[:, 1].expand(4, 5))
    assert given.log_prob(x + 1).eq(-math.inf).all()
    assert not given.has_enumerate_support
    with pytest.raises(ValueError, match="up to inf completions are too many to be listed"):
        density.given(x, ~mask)


@pytest.mark.parametrize("same", [False, True], ids=["other masks", "one mask"])
def test_any_order_puts_the_observed_features_first(same: bool) -> None:
    deep = randomised(nn.DeepNADE(4, (4, 3), order=ORDER, activation=torch.tanh, conditional=LABELS))
    observed, mask = evidence(deep())
    if same:
        mask = mask[6]
        observed = torch.where(mask, deep().enumerate_support()[:12].double(), torch.nan)
    given = deep().given(observed, mask, ObservedFirst())
    assert given.evidence_estimate().method == "observed first"
    every = deep().enumerate_support()
    for row in range(len(observed)):
        own = mask if same else mask[row]
        order = sorted(ORDER, key=lambda feature: not own[feature])
        distribution, log_evidence = enumerated(deep(order=order), observed[row], own)
        close(
            given.log_prob(every.unsqueeze(1))[:, row],
            distribution.squeeze(-1) if distribution.dim() > 1 else distribution,
        )
        close(given.log_evidence()[row], log_evidence.squeeze())
    drawn, log_prob = given.sample_and_log_prob((7,))
    assert ((drawn == observed) | ~mask).all()
    close(given.log_prob(drawn), log_prob)


def test_enumeration_in_blocks_and_expansions_are_the_same_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    density = labels()
    observed, mask = evidence(density)
    every, found = density.enumerate_support(), []
    for block in (completion.BLOCK, 1):
        monkeypatch.setattr(completion, "BLOCK", block)
        given = density.given(observed, mask, Enumeration())
        found.append(given.log_prob(every.unsqueeze(1)))
        torch.manual_seed(0)
        found.append(given.sample((3,)).double())
    close(found[0], found[2])
    close(found[1], found[3])
    wide = given.expand((2, 16))
    assert wide.sample((3,)).shape == (3, 2, 16, 4)
    close(wide.log_evidence(), given.log_evidence().expand(2, 16))
    close(pickle.loads(pickle.dumps(given)).log_prob(every[3]), given.log_prob(every[3]))


def test_the_gradient_of_log_evidence_is_that_of_the_enumerated_sum() -> None:
    network = randomised(nn.FVSBN(4, order=ORDER))
    observed, mask = evidence(network())
    leaves = list(network.parameters())
    expected = torch.autograd.grad(enumerated(network(), observed, mask)[1].sum(), leaves)
    actual = torch.autograd.grad(network().log_evidence(observed, mask).sum(), leaves)
    for a, e in zip(actual, expected, strict=True):
        close(a, e)
    weighed = network().log_evidence(observed, mask, Importance(20_000)).sum()
    for a, e in zip(torch.autograd.grad(weighed, leaves), expected, strict=True):
        assert (a - e).abs().max() < 0.2  # sixteen rows with a standard error below 0.01 each


def test_importance_knows_its_error() -> None:
    """16 rows within 5 standard errors, and 400 repetitions: false alarms below 1e-4."""
    pyro.set_rng_seed(0)
    density = fvsbn()
    observed, mask = evidence(density)
    _, log_evidence = enumerated(density, observed, mask)
    given = density.given(observed, mask, Importance(5000))
    assert not given.is_exact
    found = given.evidence_estimate()
    assert found.method == "importance"
    first = mask[:, list(ORDER)].long().diff().le(0).all(-1) | mask.all(-1)  # weights do not vary, nor do errors
    assert ((found.value - log_evidence).abs() <= 5 * found.standard_error + 1e-9).all()
    close(found.value[~mask.any(-1)], log_evidence[~mask.any(-1)])
    assert (found.effective_sample_size <= 5000.001).all()
    assert (found.effective_sample_size[~first] < 5000).all()
    row = 6  # a feature early and one late in the order are missing
    many = density.evidence_estimate(observed[row].expand(400, 4), mask[row], Importance(200))
    share = (many.value - log_evidence[row]).exp()
    assert abs(share.mean() - 1) < 5 * share.std() / 20  # p(observed) is unbiased
    spread = (many.value.std() / many.standard_error.mean()).item()
    assert 0.8 < spread < 1.25  # a standard deviation of 400 draws is known to 3.5 %: more than 5 of these


def test_particles_are_picked_by_weight() -> None:
    """20,000 draws of particles of which 3000 are effective: standard errors below 0.01, false alarms below 1e-4."""
    pyro.set_rng_seed(0)
    density = fvsbn()
    observed, mask = evidence(density)
    distribution, _ = enumerated(density, observed, mask)
    given = density.given(observed, mask, Importance(20_000))
    drawn, log_prob = given.sample_and_log_prob((20_000,))
    assert given.evidence_estimate().effective_sample_size.min() > 3000
    assert ((drawn == observed) | ~mask).all()
    close(log_prob[:50], given.log_prob(drawn[:50]))
    for row in range(16):
        assert (frequencies(drawn[:, row], states(4)) - distribution[:, row].exp()).abs().max() < 0.05
    assert (given.log_prob(states(4).unsqueeze(1)).exp() - distribution.exp()).abs().max() < 0.1
    with pytest.raises(NotImplementedError, match="not under Importance"):
        given.enumerate_support()


def test_an_ensemble_weighs_particles_of_its_members() -> None:
    pyro.set_rng_seed(0)
    density = ensemble()
    observed, mask = evidence(density)
    _, log_evidence = enumerated(density, observed, mask)
    found = density.evidence_estimate(observed, mask, Importance(5000))
    assert ((found.value - log_evidence).abs() <= 5 * found.standard_error + 1e-9).all()
    given = density.given(observed, mask, Importance(5000))
    assert ((given.sample((3,)) == observed) | ~mask).all()


def test_few_effective_particles_warn() -> None:
    network = nn.FVSBN(2)
    with torch.no_grad():
        network.weight[0, 0, 1] = 40.0
        network.bias[1] = -20.0  # type: ignore[index]  # there is one
        network.bias[0] = -2.0  # type: ignore[index]
    observed, mask = torch.ones(2), torch.tensor([False, True])
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="in 1 rows fewer than 10 of 20 particles are effective"):
        network().given(observed, mask, Importance(20))


def test_two_dimensional_events_are_conditioned_too() -> None:
    class Flat(nn.FVSBN):
        """A network whose events have two dimensions."""

    network = randomised(Flat(4, order=ORDER))
    flat = network()
    observed, mask = evidence(flat)
    expected = flat.given(observed, mask).log_prob(states(4).unsqueeze(1))
    object.__setattr__(network, "event_shape", torch.Size((2, 2)))
    given = network().given(observed.view(16, 2, 2), mask.view(16, 2, 2))
    assert isinstance(given, ClampedAutoregressive)
    close(given.log_prob(states(4).view(16, 1, 2, 2)), expected)
    assert given.sample((3,)).shape == (3, 16, 2, 2)


ROW, MASK = torch.ones(4, dtype=torch.float64), torch.tensor([False, True, True, True])


def big(how: Completion | None) -> object:
    return nn.FVSBN(40)().given(torch.zeros(40), torch.arange(40) > 20, how)


def in_nuts() -> None:
    density = fvsbn()

    def model() -> None:
        z = pyro.sample("z", pyro.distributions.Normal(0, 1))
        pyro.factor("x", z * density.given(ROW, MASK, Importance(10)).log_prob(ROW))

    MCMC(NUTS(model), 1, 1, disable_progbar=True).run()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fvsbn().given(ROW, MASK.double()), "`mask` must be boolean"),
        (lambda: fvsbn().given(ROW, MASK[:3]), r"`mask` must have shape \(..., 4\), got \(3,\)"),
        (lambda: fvsbn().given(ROW[:1], MASK), r"`observed` must have shape \(..., 4\), got \(1,\)"),
        (lambda: fvsbn().given(ROW.to("meta"), MASK), "`observed` must be on cpu"),
        (lambda: fvsbn().given(ROW.expand(2, 4), MASK.expand(3, 4)), "must broadcast"),
        (lambda: fvsbn().given(ROW * 0.5, MASK), "observed"),
        (lambda: fvsbn().given(ROW * math.nan, MASK), "observed"),
        (lambda: fvsbn().given(ROW, MASK).log_prob(ROW * math.nan), "support"),
        (lambda: big(None), r"2.097e\+06 completions are too many to be listed, the limit is 4096: give `completion`"),
        (lambda: big(Enumeration(100)), "the limit is 100"),
        (lambda: big(ObservedFirst()), "expects a network of any order such as DeepNADE, got FVSBN"),
        (lambda: Enumeration(0), "`max_completions` must be at least 1, got 0"),
        (lambda: Importance(0), "`num_particles` must be at least 1, got 0"),
        (lambda: ensemble().given(ROW, MASK).given(ROW, MASK), "members that are not conditioned yet"),
        (lambda: ClampedAutoregressive(3, ROW, MASK), "`density` must be an autoregressive density, got int"),  # type: ignore[arg-type]  # the point
        (in_nuts, r"gives another estimate at every step"),
    ],
)
def test_what_does_not_fit_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
