"""Checks that bad input raises: wrong values, NaN, wrong shapes, invalid parameters."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from pyro_gen.testing.case import Case, Inapplicable, check, require, support_of, value_error


def spoil(x: Tensor, element: float) -> Tensor:
    """Replace the last number of a tensor."""
    if not x.is_floating_point():
        x = x.double()
    new = x.clone(memory_format=torch.contiguous_format)
    new.view(-1)[-1] = element
    return new


def strangers(case: Case) -> list[float]:
    """List numbers that no event holds, by the list of states where there is one."""
    d = case.distribution()
    candidates = (0.5, 2.0, -1.0, 1e6, -1e6)
    if support_of(d).is_discrete and (case.enumerable is not None or d.has_enumerate_support):
        state_values = set(case.states().double().flatten().tolist())
        return [x for x in candidates if x not in state_values]
    value = d.sample()
    outside = [x for x in candidates if not support_of(d).check(spoil(value, x)).all()]
    if support_of(d).is_discrete and 0.5 not in outside:
        outside.append(0.5)
    if not outside:
        raise Inapplicable(f"every number is in the support of {case.name}")
    return outside


@check
def check_support(case: Case) -> None:
    """The support holds every state and sample, and answers one truth value for each event."""
    for d in case.distributions():
        inside = support_of(d).check(d.sample((50,)))
        require(
            inside.shape == (50, *d.batch_shape), f"support.check has shape {tuple(inside.shape)}"
        )
        require(inside.all(), "a sample is outside the support")
        require(
            support_of(d).is_discrete or not d.has_enumerate_support,
            "an enumerable support is said to be continuous",
        )
    if support_of(case.distribution()).is_discrete:
        require(
            support_of(case.distribution()).check(case.states()).all(),
            "a state is outside the support",
        )


@check
def check_validation(case: Case) -> None:
    """`log_prob` raises `ValueError`, naming the value, if a number is outside the support."""
    for d in case.distributions():
        for stranger in strangers(case):
            value = spoil(d.sample((3,)), stranger)
            message = value_error(
                partial(d.log_prob, value), f"log_prob of a value with {stranger}"
            )
            require("value" in message, f"the message does not name the value: {message}")


@check
def check_validation_of_nan(case: Case) -> None:
    """`log_prob` raises `ValueError`, naming NaN, when a single number of the value is NaN."""
    for d in [*case.distributions(), case.distribution().expand((3,))]:
        value = spoil(d.sample((3,)), torch.nan)
        message = value_error(partial(d.log_prob, value), "log_prob of a value with NaN")
        require(
            "nan" in message.lower(), f"the message does not say that the value has NaN: {message}"
        )


@check
def check_validation_of_shape(case: Case) -> None:
    """`log_prob` raises `ValueError` for a value that does not fit event and batch shape."""
    batch = case.distribution((3,))
    misfits = [batch.sample()[:2]]
    if n := batch.event_dim:
        value = case.distribution().sample((3,))
        misfits += [value[..., :1], torch.cat([value, value], -1), value[(0,) * (n + 1)]]
    for value in misfits:
        value_error(
            partial(batch.log_prob, value), f"log_prob of a value of shape {tuple(value.shape)}"
        )


@check
def check_validation_switched_off(case: Case) -> None:
    """Under `validate_args=False`, `log_prob` looks at no value; the batch is as usual."""
    for d in (
        case.distribution((3,), validate_args=False),
        case.distribution(validate_args=False).expand((3,)),
    ):
        if support_of(d).is_discrete and not d.sample().is_floating_point():
            raise Inapplicable("a value of integers cannot leave the support harmlessly")
        for stranger in (0.5, torch.nan):
            require(
                d.log_prob(spoil(d.sample(), stranger)).shape == (3,), "log_prob has another shape"
            )


@check
def check_parameters(case: Case) -> None:
    """`arg_constraints` covers every tensor argument; NaN in one raises by its name."""
    constraints = case.distribution().arg_constraints
    for batch_shape in case.batch_shapes:
        parameters = case.tensors(batch_shape)
        for name, x in parameters.items():
            require(name in constraints, f"arg_constraints lacks `{name}`")
            event_dim = x.dim() - len(batch_shape)
            require(
                constraints[name].event_dim == event_dim,
                f"the constraint of `{name}` is not on {event_dim} dims",
            )
            spoilt = parameters | {name: spoil(x, torch.nan)}
            message = value_error(
                partial(case.build, **spoilt, validate_args=True), f"NaN in `{name}`"
            )
            require(name in message, f"the message does not name `{name}`: {message}")
            case.build(**spoilt, validate_args=False)
