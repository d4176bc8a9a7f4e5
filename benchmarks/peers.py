"""Peers that are packages: learnergy and rbms, each by the calls that its own training makes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from benchmarks.problem import Problem
from benchmarks.timing import Contender

Step = Callable[[Tensor], object]
"""One update of a model on one batch; what it returns is for tests."""


def learnergy_gibbs(problem: Problem, num_steps: int) -> Contender:
    """The ``gibbs_sampling`` of learnergy without the tape that it records; a call
    makes half a step more.
    """
    model = learnergy_model(problem.weight.shape, steps=num_steps)
    model.load_state_dict({"W": problem.weight, "a": problem.vbias, "b": problem.hbias})
    v = problem.v

    @torch.no_grad()
    def run() -> None:
        nonlocal v
        *_, v = model.gibbs_sampling(v)

    return Contender(run, num_steps)


def learnergy_step(visible: int, hidden: int, rate: float) -> Step:
    """The body of the loop of learnergy's ``fit`` for CD-1, less its monitoring."""
    model = learnergy_model((visible, hidden), steps=1, learning_rate=rate)

    def step(batch: Tensor) -> None:
        *_, particles = model.gibbs_sampling(batch)
        cost = torch.mean(model.energy(batch)) - torch.mean(model.energy(particles.detach()))
        model.optimizer.zero_grad()
        cost.backward()
        model.optimizer.step()

    return step


def learnergy_fit(batch: Tensor, hidden: int, rate: float) -> Contender:
    """The ``fit`` of learnergy on one batch: the same update, its loader (row by
    row) and its monitoring included.
    """
    model = learnergy_model((batch.shape[1], hidden), steps=1, learning_rate=rate)
    rows = torch.utils.data.TensorDataset(batch, torch.zeros(len(batch)))
    return Contender(lambda: model.fit(rows, batch_size=len(batch), epochs=1))


def learnergy_model(shape: tuple[int, ...], **settings: Any) -> Any:
    """Learnergy's Bernoulli RBM of the given shape (visible, hidden)."""
    from learnergy.models.bernoulli import RBM

    return RBM(*shape, **settings)


def rbms_gibbs(problem: Problem, num_steps: int) -> Contender:
    """The ``sample_state`` of rbms, compiled by ``torch.jit.script``; a call makes
    half a step more.
    """
    model = rbms_model(problem.weight, problem.vbias, problem.hbias)
    chains = model.init_chains(len(problem.v), start_v=problem.v)

    @torch.no_grad()
    def run() -> None:
        nonlocal chains
        chains = model.sample_state(chains, num_steps)

    return Contender(run, num_steps)


def rbms_step(visible: int, hidden: int, rows: int, rate: float, persistent: bool) -> Step:
    """The body of the loop of rbms' ``train``, gradients not centred: PCD-1, or
    CD-1 from the batch.
    """
    model = rbms_model(
        0.01 * torch.randn(visible, hidden), torch.zeros(visible), torch.zeros(hidden)
    )
    fit_batch_pcd = rbms_module("training.pcd").fit_batch_pcd
    model.init_grad()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, maximize=True)
    chains = model.init_chains(rows)
    weights = torch.ones(rows)

    @torch.no_grad()
    def step(batch: Tensor) -> None:
        nonlocal chains
        if not persistent:
            chains = model.init_chains(rows, weights=weights, start_v=batch)
        optimizer.zero_grad(set_to_none=False)
        chains, _ = fit_batch_pcd(
            (batch, weights), chains, model, gibbs_steps=1, beta=1.0, centered=False
        )
        optimizer.step()

    return step


def rbms_ais(problem: Problem, temperatures: int) -> Contender:
    """The ``compute_partition_function_ais`` of rbms, which copies all weights at
    every temperature.
    """
    model = rbms_model(problem.weight, problem.vbias, problem.hbias)
    ais = rbms_module("partition_function.ais")

    def run() -> None:
        ais.compute_partition_function_ais(len(problem.v), temperatures + 1, model)

    return Contender(run, temperatures)


def rbms_model(weight: Tensor, vbias: Tensor, hbias: Tensor) -> Any:
    """The BBRBM of rbms with the given parameters, (visible, hidden), (visible,) and (hidden,)."""
    return rbms_module("bernoulli_bernoulli").BBRBM(weight, vbias, hbias)


def rbms_module(name: str) -> Any:
    """A module of rbms by its name there, imported without the warning that its import gives."""
    with warnings.catch_warnings():
        # of torch.jit.script, which it calls at import
        warnings.simplefilter("ignore", DeprecationWarning)
        return import_module(f"rbms.{name}")
