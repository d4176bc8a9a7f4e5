"""Checks of probabilities: normalised, differentiable, pure; moments and divergences."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_gen.testing.case import Case, check, require, require_close
from pyro_gen.testing.checks.shapes import mixed_parameters


def trailing_batch(states: Tensor, batch_shape: torch.Size) -> Tensor:
    """Give a list of states room for batch dimensions between list and event."""
    return states.reshape(len(states), *(1,) * len(batch_shape), *states.shape[1:])


@check
def check_sums_to_one(case: Case) -> None:
    """The probabilities of all states sum to one."""
    for d in case.distributions():
        total = case.log_probs(d).logsumexp(0)
        require_close(total, torch.zeros_like(total), "log of the sum of all probabilities")


@check
def check_enumerate_support(case: Case) -> None:
    """`enumerate_support` lists every state once, in either shape."""
    states = case.states()
    for d in case.distributions():
        if not d.has_enumerate_support:
            _require_not_implemented(
                d.enumerate_support, "has_enumerate_support is false, yet it enumerates"
            )
            continue
        narrow = d.enumerate_support(expand=False)
        wide = d.enumerate_support(expand=True)
        expected = trailing_batch(narrow.flatten(0, len(d.batch_shape)), d.batch_shape)
        require_close(narrow, expected, "enumerate_support(expand=False)")
        require_close(
            wide,
            narrow.expand(-1, *d.batch_shape, *d.event_shape),
            "enumerate_support(expand=True)",
        )
        require_close(d.enumerate_support(), wide, "enumerate_support()")
        listed = narrow.reshape(len(narrow), -1)
        distinct = torch.unique(states.reshape(len(states), -1), dim=0)
        require_close(torch.unique(listed, dim=0), distinct, "the enumerated states")
        require(len(listed) == len(distinct), "a state is enumerated twice")


def _require_not_implemented(function: Callable[[], object], message: str) -> None:
    """Raise `AssertionError` unless the function raises `NotImplementedError`."""
    try:
        function()
    except NotImplementedError:
        return
    raise AssertionError(message)


@check
def check_gradients(case: Case) -> None:
    """The gradient of `log_prob` is that of finite differences; samples carry none."""
    for parameters in [case.tensors(), case.tensors((2,)), *mixed_parameters(case)]:
        value = case.build(**parameters).sample((3,))
        floats = {k: x for k, x in parameters.items() if x.is_floating_point()}
        inputs = {k: x.requires_grad_() for k, x in floats.items()}
        log_prob = case.build(**parameters).log_prob(value)
        gradients = _input_gradients(log_prob, list(inputs.values()))
        for name, gradient in zip(inputs, gradients, strict=True):
            require(gradient is not None, f"log_prob has no gradient in `{name}`")
        torch.autograd.gradcheck(
            lambda *xs, names=tuple(inputs), fixed=parameters, value=value: case.build(
                **(fixed | dict(zip(names, xs, strict=True))), validate_args=False
            ).log_prob(value),
            tuple(inputs.values()),
        )
        d = case.build(**parameters)
        require(
            d.has_rsample or not d.sample().requires_grad,
            "a sample carries a gradient without has_rsample",
        )


def _input_gradients(log_prob: Tensor, inputs: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Differentiate the sum of log probabilities; `None` for an input without influence."""
    require(log_prob.requires_grad, "log_prob is detached from the parameters")
    return torch.autograd.grad(log_prob.sum(), inputs, allow_unused=True)


def numpy_words() -> list[int]:
    """The words of numpy's global generator."""
    words: list[int] = np.random.get_state(legacy=False)["state"]["key"].tolist()
    return words


@check
def check_pure(case: Case) -> None:
    """`log_prob` gives the same twice, and leaves its inputs and all generators alone."""
    for batch_shape in case.batch_shapes:
        d = case.distribution(batch_shape)
        parameters = {k: getattr(d, k).clone() for k in case.tensors(batch_shape)}
        value = d.sample((4,))
        copy = value.clone()
        torch_state = torch.get_rng_state()
        python_state = random.getstate()
        numpy_state = numpy_words()
        first = d.log_prob(value)
        second = d.log_prob(value)
        require(torch.equal(first, second), "log_prob gives another number the second time")
        require(
            torch.equal(torch_state, torch.get_rng_state()),
            "log_prob draws from torch's generator",
        )
        require(python_state == random.getstate(), "log_prob draws from Python's generator")
        require(numpy_state == numpy_words(), "log_prob draws from numpy's generator")
        require(torch.equal(value, copy), "log_prob changes the value")
        for name, x in parameters.items():
            require(torch.equal(getattr(d, name), x), f"log_prob changes `{name}`")


@check
def check_update(case: Case) -> None:
    """After an update of parameters in place, the distribution is wholly new or wholly old."""
    parameters = case.tensors()
    new = case.tensors(seed=1)
    d = case.build(**parameters)
    value = case.distribution().sample((6,))
    before = case.distribution().log_prob(value)
    after = case.distribution(seed=1).log_prob(value)
    with torch.no_grad():
        d.log_prob(value)
        for name, x in parameters.items():
            x.copy_(new[name])
        log_prob = d.log_prob(value)
    require(
        log_prob.allclose(after) or log_prob.allclose(before),
        "log_prob mixes old and new parameters",
    )


@check
def check_entropy(case: Case) -> None:
    """`entropy`, where it is implemented, is the mean of -log p over all states."""
    for d in [*case.distributions(), case.distribution().expand((4,))]:
        try:
            entropy = d.entropy()
        except NotImplementedError:
            continue
        log_prob = case.log_probs(d)
        require_close(entropy, -(log_prob.exp() * log_prob).sum(0), "entropy")


@check
def check_kl_divergence(case: Case) -> None:
    """`kl_divergence`, where it is registered, is the mean of log p - log q over all states."""
    single = case.distribution(seed=2)
    batch = case.distribution((3,), seed=1)
    for p, q in [
        (case.distribution((3,)), batch),
        (case.distribution(), batch),
        (batch, single),
        (single, single),
    ]:
        try:
            divergence = kl_divergence(p, q)
        except NotImplementedError:
            continue
        tables = _align(case.log_probs(p), case.log_probs(q))
        log_p, log_q = torch.broadcast_tensors(*tables)
        expected = (log_p.exp() * (log_p - log_q)).sum(0)
        require_close(divergence, expected, "kl_divergence")


def _align(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Give two tables of shape (n,) + batch the same number of batch dimensions."""
    missing = log_q.dim() - log_p.dim()
    p = log_p.reshape(len(log_p), *(1,) * missing, *log_p.shape[1:])
    q = log_q.reshape(len(log_q), *(1,) * -missing, *log_q.shape[1:])
    return p, q


@check
def check_moments(case: Case) -> None:
    """`mean`, `variance` and `mode`, where implemented, are those of the probabilities."""
    for d in case.distributions():
        states = trailing_batch(case.states(), d.batch_shape).double()
        log_prob = case.log_probs(d)
        weight = log_prob.exp().reshape(log_prob.shape + (1,) * d.event_dim)
        mean = (weight * states).sum(0)
        for name, expected in {
            "mean": mean,
            "variance": (weight * (states - mean) ** 2).sum(0),
        }.items():
            if (moment := _attribute(d, name)) is not None:
                require_close(moment.expand_as(expected), expected, name)
        if (mode := _attribute(d, "mode")) is not None:
            require_close(d.log_prob(mode), log_prob.max(0).values, "log_prob of the mode")


def _attribute(d: torch.distributions.Distribution, name: str) -> Tensor | None:
    """Read a moment, `None` where it is not implemented."""
    try:
        moment: Tensor = getattr(d, name)
    except NotImplementedError:
        return None
    if moment.isnan().all():
        return None
    return moment
