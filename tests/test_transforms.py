"""What a call gives holds the tensors of that call: over all public modules, and refusals by name."""

from __future__ import annotations

import copy
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.nn import PyroSample
from pyro.nn.module import to_pyro_module_
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils import parametrize

from pyro_gen import models, nn
from pyro_gen.distributions import Autoregressive, GaussianUnits
from pyro_gen.infer import AIS, ContrastiveDivergence, PersistentChains
from pyro_gen.nn.chains import PhaseModule
from tests.calls import CALLS, CODES, EXEMPT, Call, X

CASES = [(f"{name}-{number}", call) for name, calls in CALLS.items() for number, call in enumerate(calls)]

every_call = pytest.mark.parametrize("call", [call for _, call in CASES], ids=[name for name, _ in CASES])


class Called(torch.nn.Module):
    """A module whose forward is the call of another, so that its weights can be swapped for any method."""

    def __init__(self, module: torch.nn.Module, call: Call) -> None:
        super().__init__()
        self.module, self.use = module, call

    def forward(self) -> Any:
        return self.use.call(self.module)

    def score(self) -> Tensor:
        return self.use.score(self())


def made(call: Call, seed: int = 0) -> Called:
    """A module in float64 with random weights and offsets, in evaluation mode."""
    torch.manual_seed(seed)
    called = Called(call.make(), call).double().eval()
    disturb(called)
    for name, buffer in called.named_buffers():
        if name.endswith("_offset"):
            buffer.uniform_()
    return called


@torch.no_grad()
def disturb(module: torch.nn.Module) -> None:
    """Change all weights in place."""
    for parameter in module.parameters():
        parameter.copy_(0.5 * torch.randn_like(parameter))


def others(called: Called) -> dict[str, Tensor]:
    """Other weights, and other buffers of real numbers where there are no weights."""
    new = {name: 0.5 * torch.randn_like(p) for name, p in called.named_parameters()}
    return new or {name: torch.rand_like(b) for name, b in called.named_buffers() if b.is_floating_point()}


def holding(called: Called, weights: dict[str, Tensor]) -> Called:
    """A copy that holds other weights as its own."""
    holder = copy.deepcopy(called)
    with torch.no_grad():
        for name, x in [*holder.named_parameters(), *holder.named_buffers()]:
            if name in weights:
                x.copy_(weights[name])
    return holder


def score(call: Call, distribution: Any) -> Tensor:
    """The score, of one seed."""
    torch.manual_seed(0)
    return call.score(distribution)


def test_the_table_has_every_public_name() -> None:
    public = {*nn.__all__, *models.__all__}
    assert CALLS.keys() | EXEMPT.keys() == public, "a new name goes into the table, or is exempt for a reason"
    assert not CALLS.keys() & EXEMPT.keys()
    assert all(CALLS.values())


@every_call
def test_the_weights_of_functional_call_are_those_of_what_it_gave(call: Call) -> None:
    called = made(call)
    before = [x.clone() for x in called.state_dict().values() if isinstance(x, Tensor)]
    weights = others(called)
    distribution = functional_call(called, weights, ())
    after = [x for x in called.state_dict().values() if isinstance(x, Tensor)]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))  # the module has its own again
    actual, expected = score(call, distribution), holding(called, weights).score
    torch.manual_seed(0)
    torch.testing.assert_close(actual, expected())
    if weights:
        assert not torch.allclose(actual, score(call, called()))


@every_call
def test_gradients_reach_the_weights_of_functional_call(call: Call) -> None:
    called = made(call)
    if not call.score(called()).requires_grad:
        pytest.skip("without a gradient")
    weights = {name: x.requires_grad_() for name, x in others(called).items()}
    holder = holding(called, weights)
    score(call, holder()).sum().backward()
    score(call, functional_call(called, weights, ())).sum().backward()
    grads = torch.func.grad(lambda new: score(call, functional_call(called, new, ())).sum())(
        {name: x.detach() for name, x in weights.items()}
    )
    for name, parameter in holder.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(grads[name], expected)
        assert (weights[name].grad is None) == (parameter.grad is None), name
        if parameter.grad is not None:
            torch.testing.assert_close(weights[name].grad, expected)
    assert any(x.any() for x in grads.values())


@every_call
@pytest.mark.parametrize("gradients", [True, False])
def test_members_of_a_stack_are_themselves_under_vmap(call: Call, gradients: bool) -> None:
    members = [made(call, seed) for seed in range(3)]
    base = made(call, 3)

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return call.score(functional_call(base, (parameters, buffers), ()))

    with torch.set_grad_enabled(gradients):
        before = score(call, base())
        parameters, buffers = stack_module_state(members)
        if not call.vmap:
            with pytest.raises((NotImplementedError, RuntimeError), match=r"cannot run under|vmap"):
                vmap(one)(parameters, buffers)
        else:
            expected = torch.stack([score(call, member()) for member in members])
            for _ in range(2):  # nothing of the first is left for the second
                torch.testing.assert_close(vmap(one)(parameters, buffers), expected)
        torch.testing.assert_close(score(call, base()), before)


@every_call
def test_a_change_in_place_shows_in_all_or_nothing_of_what_was_given(call: Call) -> None:
    called = made(call)
    distribution = called()
    old = score(call, distribution).detach()
    torch.manual_seed(9)
    disturb(called)
    new = score(call, called()).detach()
    if not list(called.parameters()):
        pytest.skip("without weights")
    assert not torch.allclose(old, new)
    torch.testing.assert_close(score(call, distribution).detach(), new if call.follows else old)


@every_call
def test_a_later_swap_does_not_reach_what_was_given(call: Call) -> None:
    called = made(call)
    distribution = called()
    old = score(call, distribution).detach()
    state = {name: torch.randn_like(x) if x.is_floating_point() else x for name, x in tensors(called).items()}
    called.load_state_dict(state, strict=False, assign=True)
    torch.testing.assert_close(score(call, distribution).detach(), old)


def tensors(module: torch.nn.Module) -> dict[str, Tensor]:
    """The state without what is no tensor, or no number of weights."""
    return {name: x for name, x in module.state_dict().items() if "extra_state" not in name}


class Forgetful(nn.FVSBN):
    """A network that hands itself over, and is read when the density is asked."""

    def forward(self, context: Tensor | None = None) -> Autoregressive:
        return Autoregressive(self, context)


def test_a_network_that_hands_itself_over_is_caught() -> None:
    call = Call(lambda: Forgetful(4), follows=True)
    for check in (
        test_the_weights_of_functional_call_are_those_of_what_it_gave,
        test_gradients_reach_the_weights_of_functional_call,
        test_a_later_swap_does_not_reach_what_was_given,
        test_parametrised_weights_are_computed_by_the_call,
    ):
        with pytest.raises((AssertionError, RuntimeError)):
            check(call)
    with pytest.raises((AssertionError, RuntimeError)):
        test_members_of_a_stack_are_themselves_under_vmap(call, gradients=True)


class Counted(torch.nn.Module):
    """Doubles a weight, and counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return 2 * x


@every_call
def test_parametrised_weights_are_computed_by_the_call(call: Call) -> None:
    called = made(call)
    expected = score(call, doubled(called)()).detach()
    counters = []
    for module in list(called.modules()):
        for name in [name for name, _ in module.named_parameters(recurse=False)]:
            counters.append(Counted())
            parametrize.register_parametrization(module, name, counters[-1])
    distribution = called()
    counts = [counter.count for counter in counters]
    torch.testing.assert_close(score(call, distribution).detach(), expected)
    if call.score.__name__ != "itself" and isinstance(distribution, torch.distributions.Distribution):
        assert [counter.count for counter in counters] == counts  # and never afterwards


def doubled(called: Called) -> Called:
    """A copy with doubled weights."""
    return holding(called, {name: 2 * p for name, p in called.named_parameters()})


@every_call
def test_weights_that_pyro_draws_are_those_of_the_call(call: Call) -> None:
    called = made(call)
    plain = copy.deepcopy(called)
    to_pyro_module_(called)
    for module in list(called.modules()):
        for name, value in list(module.named_parameters(recurse=False)):
            setattr(module, name, PyroSample(dist.Normal(torch.zeros_like(value.detach()), 1.0).to_event(value.dim())))
    if not (names := list(plain.named_parameters())):
        pytest.skip("without weights")
    if len(list(plain.named_parameters(remove_duplicate=False))) > len(names):
        pytest.skip("a weight of two names has two priors")
    for _ in range(2):  # other weights at each call
        trace = poutine.trace(called).get_trace()
        distribution = trace.nodes["_RETURN"]["value"]
        drawn: dict[str, Any] = {name: trace.nodes[name]["value"] for name, _ in names if name in trace.nodes}
        assert drawn
        torch.testing.assert_close(score(call, distribution), score(call, holding(plain, drawn)()))


TRAINING = {
    "RBM": (lambda: nn.RBM(4, 3), lambda module: module()),
    "RBM under CD": (lambda: nn.RBM(4, 3, ContrastiveDivergence()), lambda module: module()),
    "ConditionalRBM": (lambda: nn.ConditionalRBM(4, 3, 2), lambda module: module(CODES.float())),
    "ClassRBM": (lambda: nn.ClassRBM(4, 3, 2), lambda module: module.joint()),
    "BoltzmannMachine": (lambda: nn.BoltzmannMachine(4), lambda module: module()),
    "_LayeredRBM": (lambda: models.DeepBoltzmannMachine(4, [3, 2], 10), lambda module: module.rbm()),
    "prior RBM": (lambda: models.DeepBeliefNetwork(4, [3, 2], 10), lambda module: module.prior_distribution()),
}


@pytest.mark.parametrize("name", TRAINING)
def test_chains_under_a_transform_are_refused_by_name_and_stay_where_they_are(name: str) -> None:
    make, call = TRAINING[name]
    members = [
        Called(
            make(), Call(make, call, lambda distribution: distribution.free_energy(distribution.enumerate_support()))
        )
        for _ in range(2)
    ]
    parameters, buffers = stack_module_state(members)
    base = members[0]
    before = copy.deepcopy(base.state_dict())
    weights = {key: x.detach() for key, x in base.named_parameters()}
    kind = name.removeprefix("prior ").split(maxsplit=1)[0]
    refused = rf"{kind} in training mode cannot run under .* of torch.func, .*: put it in eval\(\)"
    with pytest.raises(NotImplementedError, match=refused):
        vmap(lambda p, b: functional_call(base, (p, b), ()).free_energy(X.float()))(parameters, buffers)
    with pytest.raises(NotImplementedError, match=refused):
        torch.func.grad(lambda p: functional_call(base, p, ()).log_prob(X.float()).sum())(weights)
    for key, value in base.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_every_module_with_a_negative_phase_is_in_the_table_of_refusals() -> None:
    kinds = {type(part).__name__ for make, _ in TRAINING.values() for part in make().modules()}
    with_phases = {
        type(part).__name__
        for calls in CALLS.values()
        for call in calls
        for part in call.make().modules()
        if isinstance(part, PhaseModule)
    }
    assert with_phases <= kinds


def test_what_else_cannot_run_under_vmap_is_refused_by_name() -> None:
    x = X.float()
    pairs = [
        (lambda: nn.RBM(4, 3, evaluation=AIS()).eval(), "^AIS cannot run"),
        (
            lambda: nn.RBM(4, 3, visible_units=GaussianUnits(), hidden_units=GaussianUnits()).eval(),
            "^RBM of GaussianUnits and GaussianUnits cannot run under vmap",
        ),
    ]
    for make, message in pairs:
        parameters, buffers = stack_module_state([make() for _ in range(2)])
        base = make()
        with pytest.raises(NotImplementedError, match=message):
            vmap(lambda p, b, base=base: functional_call(base, (p, b), ()).log_prob(x))(parameters, buffers)
    edges = [torch.tensor([[0, 1]]), torch.tensor([[0, 2]])]
    message = "BoltzmannMachine cannot run under vmap .* its `edges` differ"
    machines = [nn.BoltzmannMachine(4, pairs).eval() for pairs in edges]
    parameters, buffers = stack_module_state(machines)
    with pytest.raises(NotImplementedError, match=message):
        vmap(lambda p, b: functional_call(machines[0], (p, b), ()).log_prob(x))(parameters, buffers)
    parameters, buffers = stack_module_state([nn.BoltzmannMachine(4, edges[0]) for _ in range(2)])
    with pytest.raises(NotImplementedError, match=message):
        vmap(lambda p, b: functional_call(machines[1], (p, b), ()).log_prob(x))(parameters, buffers)


def test_swapped_weights_do_not_move_the_offsets_of_a_module_that_learns() -> None:
    rbm = nn.RBM(4, 3, PersistentChains(10))
    disturb(rbm)
    visible, hidden = rbm.visible_offset.clone(), rbm.hidden_offset.clone()
    weights = {name: torch.randn_like(p) for name, p in rbm.named_parameters()}
    given = {name: x.clone() for name, x in weights.items()}
    assert functional_call(rbm, weights, ()).log_prob(X.float()).shape == (3,)
    assert all(torch.equal(weights[name], given[name]) for name in given)
    assert torch.equal(rbm.visible_offset, visible)
    assert torch.equal(rbm.hidden_offset, hidden)


def test_the_offsets_that_a_step_moves_show_in_what_was_given_before() -> None:
    rbm = nn.RBM(4, 3, PersistentChains(10)).double()
    disturb(rbm)
    distribution = rbm.eval()()
    rbm.train()
    optimiser = torch.optim.SGD(rbm.parameters(), 0.1)
    for _ in range(12):
        optimiser.zero_grad()
        (-rbm().log_prob(X).mean()).backward()
        optimiser.step()
    assert not rbm.visible_offset.eq(0.5).all()
    torch.testing.assert_close(distribution.log_prob(X), rbm.eval()().log_prob(X))
