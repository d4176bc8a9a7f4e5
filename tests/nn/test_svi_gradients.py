"""Gradients under SVI of every module with a negative phase, beside those of weighed rows by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import Tensor

from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.infer import ContrastiveDivergence, NegativePhase, PersistentChains, WeightedChains, contrastive_gradient
from pyro_gen.nn import RBM, BoltzmannMachine, ClassRBM, ConditionalRBM

ROWS, SIZE = 6, 18
CONTEXT = torch.linspace(-1, 1, 2 * ROWS).view(ROWS, 2).double()
INDEX = torch.arange(ROWS)


class Case(NamedTuple):
    """A module, its rows, and the distribution of a call."""

    module: Any
    x: Tensor
    call: Callable[[Any], EnergyDistribution]


def bits(*shape: int) -> Tensor:
    return torch.bernoulli(torch.full(shape, 0.4).double())


def case(model: str, phase: NegativePhase) -> Case:
    torch.manual_seed(0)
    if model == "RBM":
        return Case(RBM(5, 4, phase).double(), bits(ROWS, 5), lambda module: module())
    if model == "ClassRBM":
        labelled = ClassRBM(5, 4, 3, phase).double()
        return Case(labelled, labelled.encode(bits(ROWS, 5), INDEX % 3), lambda module: module.joint())
    if model == "BoltzmannMachine":
        machine = BoltzmannMachine(5, negative_phase=phase).double()
        torch.nn.init.normal_(machine.coupling)
        return Case(machine, bits(ROWS, 5), lambda module: module())
    if isinstance(phase, PersistentChains):
        phase = PersistentChains(ROWS)
    conditional = ConditionalRBM(5, 4, 2, negative_phase=phase).double()
    return Case(conditional, bits(ROWS, 5), lambda module: module(CONTEXT, INDEX))


MODELS = ["RBM", "ClassRBM", "BoltzmannMachine", "ConditionalRBM"]
PHASES = [PersistentChains(7), ContrastiveDivergence(2)]


def same_gradients(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
        assert p.grad is not None, name
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=1e-6)


def started(model: str, phase: NegativePhase) -> tuple[Case, Any]:
    """A case after its first update, which starts biases at the rows, and a twin of its module."""
    taken = case(model, phase)
    taken.call(taken.module).log_prob(taken.x).sum().backward()
    taken.module.zero_grad()
    return taken, copy.deepcopy(taken.module)


@pytest.mark.parametrize("phase", PHASES, ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_masks_plates_and_batch_weights_weigh_the_rows(model: str, phase: NegativePhase) -> None:
    (module, x, call), twin = started(model, phase)
    mask = INDEX % 3 != 0
    weights = torch.linspace(0.5, 2, ROWS).double()
    pyro.clear_param_store()

    def program() -> None:
        pyro.module("module", module)
        with pyro.plate("rows", SIZE, subsample_size=ROWS), poutine.scale(scale=weights):
            pyro.sample("x", call(module).mask(mask), obs=x)

    Trace_ELBO().loss_and_grads(program, lambda: None)
    shares = weights * mask * SIZE / ROWS
    (-shares * call(twin).log_prob(x)).sum().backward()
    same_gradients(module, twin)


@pytest.mark.parametrize("phase", PHASES, ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_vectorised_particles_share_one_advance(model: str, phase: NegativePhase) -> None:
    (module, x, call), twin = started(model, phase)
    pyro.clear_param_store()

    def program() -> None:
        pyro.module("module", module)
        with pyro.plate("rows", ROWS):
            pyro.sample("x", call(module), obs=x)

    elbo = Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1)
    if model == "ConditionalRBM":
        with pytest.raises(ValueError, match="`value` must have a row for each context"):
            elbo.loss_and_grads(program, lambda: None)
        assert module.get_buffer("step") == twin.get_buffer("step")
        return
    elbo.loss_and_grads(program, lambda: None)
    (-call(twin).log_prob(x)).sum().backward()
    same_gradients(module, twin)
    for name, buffer in module.named_buffers():
        torch.testing.assert_close(buffer, twin.get_buffer(name))


@pytest.mark.parametrize("phase", [*PHASES, WeightedChains(6)], ids=str)
@pytest.mark.parametrize("centring", [False, True])
def test_the_step_by_hand_has_the_gradient_of_svi(phase: NegativePhase, centring: bool) -> None:
    torch.manual_seed(4)
    by_hand = RBM(5, 4, phase, centring=centring).double()
    by_svi = copy.deepcopy(by_hand)
    x = bits(ROWS, 5)
    for step in range(25):
        torch.manual_seed(step)  # the start at the first rows draws chains from torch's generator
        contrastive_gradient(by_hand, x)
        torch.manual_seed(step)
        by_svi.zero_grad()
        (-by_svi().log_prob(x)).mean().backward()
        same_gradients(by_svi, by_hand)
        with torch.no_grad():
            for p, q in zip(by_hand.parameters(), by_svi.parameters(), strict=True):
                assert p.grad is not None
                p.sub_(p.grad, alpha=0.1)
                q.copy_(p)
