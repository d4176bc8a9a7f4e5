"""Exact transition matrices of Gibbs sweeps, from the kernels' conditionals, leave the distribution invariant."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from pyro_gen.infer import DiscreteGibbs, Gibbs
from pyro_gen.infer.mcmc.gibbs.discrete import DiscreteMover, transition
from pyro_gen.infer.mcmc.gibbs.plan import current_states, put
from tests.infer.mcmc.gibbs_models import KERNELS, MODELS, Model, States, code, enumerate_distribution, moving_count
from tests.marks import slow

RULED = (
    "mixture",
    "unequal counts",
    "masked counts",
    "moving count",
    "one-hot",
    "change point",
    "undefined outside of the support",
)
"""Programs for the modified rule, which sees conditionals alone; `make evidence` runs the others."""


def bound(kernel: DiscreteGibbs, model: Model, state: States, sites: list[str]) -> DiscreteMover:
    gibbs = Gibbs([(kernel, sites)], model)
    gibbs.setup(0)
    return kernel.bind(gibbs.joint, state, sites)


def metropolis(logits: Tensor, current: Tensor, modified: bool) -> Tensor:
    """Probabilities of the next states under uniform proposals, written out."""
    number = len(logits)
    index = torch.arange(number).view(-1, *[1] * current.dim())
    ratio = (logits - logits.gather(0, current.unsqueeze(0))).exp().clamp(max=1)
    away = torch.where(index == current, 0.0, ratio / (max(number - 1, 1) if modified else number))
    return torch.where(index == current, 1 - away.sum(0), away)


def matrix(mover: DiscreteMover, kernel: DiscreteGibbs, found: list[States]) -> Tensor:
    """The transition matrix of a sweep, over all states, from the kernel's own conditionals."""
    number = {code(state): i for i, state in enumerate(found)}
    total = torch.eye(len(found)).double()
    rule = metropolis if kernel.random_walk else transition
    for plan in mover.plans:
        for group in plan.groups:
            step = torch.zeros_like(total)
            for i, state in enumerate(found):
                logits, tables = mover.logits(plan, group, state)
                chances = rule(logits, current_states(plan, group, state, tables), kernel.modified)
                flat = chances.reshape(len(chances), -1)
                assert torch.allclose(flat.sum(0), torch.ones(()).double(), atol=1e-14)
                for pick in itertools.product(range(len(flat)), repeat=flat.shape[1]):
                    chance = math.prod(float(flat[k, e]) for e, k in enumerate(pick))
                    if chance:
                        drawn = torch.tensor(pick).view(chances.shape[1:])
                        step[i, number[code(put(plan, group, state, [t[drawn] for t in tables]))]] += chance
            total = total @ step
    return total


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("Gibbs", name) for name in MODELS),
        *(("modified", name) for name in RULED),
        *slow(*(("modified", name) for name in MODELS if name not in RULED)),
    ],
)
def test_the_transition_matrix_of_a_sweep_leaves_the_enumerated_distribution_invariant(name: str, kind: str) -> None:
    model, free = MODELS[name]
    found, distribution = enumerate_distribution(model)
    kernel = KERNELS[kind]()
    mover = bound(kernel, model, found[int(distribution.argmax())], list(found[0]))
    assert free == mover.plans[-1].free
    chances = matrix(mover, kernel, found)
    torch.testing.assert_close(chances.sum(1), torch.ones(len(found)).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(distribution @ chances, distribution, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["mixture", "sum over the plate", "parents", "unequal counts", "one-hot"])
@pytest.mark.parametrize("kind", ["random walk", "modified random walk"])
def test_random_walks_leave_the_enumerated_distribution_invariant(name: str, kind: str) -> None:
    model, _ = MODELS[name]
    found, distribution = enumerate_distribution(model)
    kernel = KERNELS[kind]()
    chances = matrix(bound(kernel, model, found[int(distribution.argmax())], list(found[0])), kernel, found)
    torch.testing.assert_close(distribution @ chances, distribution, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["sum over the plate", "nested plates", "event", *slow("parents", "Ising chain")])
def test_a_joint_block_draws_from_the_joint_conditional(name: str) -> None:
    """All sites in one block: one update of whatever is not free is a draw from the distribution itself."""
    model, _ = MODELS[name]
    found, distribution = enumerate_distribution(model)
    kernel = DiscreteGibbs(joint=True)
    chances = matrix(bound(kernel, model, found[int(distribution.argmax())], list(found[0])), kernel, found)
    torch.testing.assert_close(chances, distribution.expand_as(chances), rtol=0, atol=1e-12)


def test_states_that_depend_on_the_block_are_refused_in_a_joint_block() -> None:
    state = {"n": torch.tensor(1), "z": torch.tensor(1.0).double()}
    mover = bound(DiscreteGibbs(joint=True), moving_count, state, ["n", "z"])
    with pytest.raises(ValueError, match="states of `z` depend on other sites of the block"):
        mover.move(state)
