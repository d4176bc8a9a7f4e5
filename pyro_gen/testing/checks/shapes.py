"""Checks of shapes: batches, events, broadcasting, `expand` and `to_event`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_gen.testing.case import (
    Case,
    Inapplicable,
    Parameters,
    Shape,
    check,
    require,
    require_close,
    support_of,
)


def mixed_parameters(case: Case, batch_shape: Shape = (2,)) -> Iterator[Parameters]:
    """Give batched parameters, each time with another one of them left without the batch."""
    batched = case.tensors(batch_shape)
    single = case.tensors()
    if len(batched) > 1:
        yield from (batched | {name: single[name]} for name in batched)


def build_at(case: Case, parameters: Parameters, index: Any) -> TorchDistribution:
    """Build the distribution of one batch element of the parameters, or of several."""
    element = {name: x[index] for name, x in parameters.items()}
    return case.build(**element, validate_args=True)


def elements(d: TorchDistribution) -> list[Any]:
    """List the indices of batch elements: tuples of integers, with which mypy cannot index."""
    return [tuple(i) for i in torch.ones(d.batch_shape).nonzero().tolist()]


@check
def check_shapes(case: Case) -> None:
    """Batch shape, event shape and the shapes of samples and log probabilities fit together."""
    event_shape = case.distribution().event_shape
    for batch_shape in map(torch.Size, case.batch_shapes):
        d = case.distribution(batch_shape)
        require(
            d.batch_shape == batch_shape,
            f"batch_shape is {d.batch_shape}, parameters have {batch_shape}",
        )
        require(
            d.event_shape == event_shape,
            f"event_shape is {d.event_shape} and {event_shape} without a batch",
        )
        require(
            support_of(d).event_dim == d.event_dim,
            f"support has event_dim {support_of(d).event_dim}, not {d.event_dim}",
        )
        for sample_shape in map(torch.Size, [(), (5,), (2, 3), (0,)]):
            value = d.sample(sample_shape)
            full = sample_shape + batch_shape
            require(
                value.shape == full + event_shape,
                f"sample({tuple(sample_shape)}) has shape {tuple(value.shape)}",
            )
            log_prob = d.log_prob(value)
            require(
                log_prob.shape == full,
                f"log_prob has shape {tuple(log_prob.shape)}, expected {tuple(full)}",
            )


@check
def check_value_broadcasting(case: Case) -> None:
    """The batch dimensions of value and distribution broadcast against each other."""
    value = case.distribution((3,)).sample((5,))
    single = case.distribution()
    batch = case.distribution((3,))
    rows = case.distribution((5, 1))
    event = value[0, 0]
    require_close(
        single.log_prob(value)[2, 1],
        single.log_prob(value[2, 1]),
        "one distribution, many values",
    )
    require_close(
        batch.log_prob(event),
        batch.log_prob(event.expand(value.shape[1:])),
        "many distributions, one value",
    )
    require_close(
        rows.log_prob(value[:1]),
        rows.log_prob(value[:1].expand(value.shape)),
        "rows against columns",
    )
    require_close(
        batch.log_prob(value[:, :1]),
        batch.log_prob(value[:, :1].expand(value.shape)),
        "a batch of one",
    )


@check
def check_batch_elements(case: Case) -> None:
    """Each batch element is the distribution of its own parameters."""
    for batch_shape in case.batch_shapes:
        parameters = case.tensors(batch_shape)
        batch = case.distribution(batch_shape)
        value = batch.sample((4,))
        log_prob = batch.log_prob(value)
        for i in elements(batch):
            element_log_prob = build_at(case, parameters, i).log_prob(value[:, *i])
            require_close(log_prob[:, *i], element_log_prob, f"log_prob of batch element {i}")


@check
def check_parameter_broadcasting(case: Case) -> None:
    """Parameters with and without batch dimensions broadcast against each other."""
    full = case.distribution((2,))
    batched = case.tensors((2,))
    for parameters in mixed_parameters(case):
        d = case.build(**parameters, validate_args=True)
        require(
            d.batch_shape == (2,),
            f"batch_shape is {d.batch_shape} with a single parameter among batches of 2",
        )
        value = full.sample()
        expanded = {k: x.expand_as(batched[k]) for k, x in parameters.items()}
        require_close(
            d.log_prob(value),
            case.build(**expanded).log_prob(value),
            "log_prob of broadcast parameters",
        )
        require(
            d.sample((3,)).shape == (3, 2, *d.event_shape),
            "samples of broadcast parameters have another shape",
        )


@check
def check_expand(case: Case) -> None:
    """`expand` keeps type, parameters, distribution, enumeration and validation."""
    for d in case.distributions():
        batch = tuple(d.batch_shape)
        shapes = [batch, (4, *batch)]
        if 1 in batch:  # between dimensions that stay as they are
            shapes.append(tuple(4 if n == 1 else n for n in batch))
        for shape in map(torch.Size, shapes):
            _check_expanded(d, d.expand(shape), shape)
        twice = d.expand(torch.Size((2, *batch))).expand(torch.Size((5, 2, *batch)))
        _check_expanded(d, twice, torch.Size((5, 2, *batch)))
        unchecked = case.distribution(batch, validate_args=False).expand((4, *batch))
        require(not unchecked._validate_args, "expand turned validation on")
    for smaller in [(), (1,), (2,)]:
        _check_refused(case.distribution((3,)), torch.Size(smaller))


def _check_refused(d: TorchDistribution, shape: torch.Size) -> None:
    """Raise `AssertionError` unless `expand` refuses a shape that the batch does not fit."""
    try:
        new = d.expand(shape)
    except (ValueError, RuntimeError):
        return
    raise AssertionError(
        f"expand({tuple(shape)}) of a batch {tuple(d.batch_shape)} gives {tuple(new.batch_shape)}"
    )


def _check_expanded(d: TorchDistribution, new: TorchDistribution, shape: torch.Size) -> None:
    """Compare an expanded distribution with the one that it came from."""
    require(type(new) is type(d), f"expand gives a {type(new).__name__}, not a {type(d).__name__}")
    require(
        new.batch_shape == shape,
        f"expand({tuple(shape)}) has batch_shape {tuple(new.batch_shape)}",
    )
    require(
        new.event_shape == d.event_shape, f"expand changed event_shape to {tuple(new.event_shape)}"
    )
    require(bool(new._validate_args), "expand turned validation off")
    require(
        new.has_enumerate_support == d.has_enumerate_support,
        "expand changed has_enumerate_support",
    )
    require(new.has_rsample == d.has_rsample, "expand changed has_rsample")
    for name in d.arg_constraints:
        _check_expanded_parameter(name, d, new)
    value = new.sample()
    require(
        value.shape == shape + d.event_shape,
        f"a sample after expand has shape {tuple(value.shape)}",
    )
    require_close(new.log_prob(value), d.log_prob(value).expand(shape), "log_prob after expand")
    if d.has_enumerate_support:
        require_close(
            new.enumerate_support(expand=True),
            d.enumerate_support(expand=False)
            .reshape(-1, *(1,) * len(shape), *d.event_shape)
            .expand(-1, *shape, *d.event_shape),
            "enumerate_support after expand",
        )


def _check_expanded_parameter(name: str, d: TorchDistribution, new: TorchDistribution) -> None:
    """Compare one parameter before and after `expand`, up to broadcasting."""
    try:
        old = getattr(d, name)
        expanded = getattr(new, name)
    except AttributeError as error:
        raise AssertionError(f"expand lost the parameter `{name}`") from error
    if isinstance(old, Tensor):
        old, expanded = torch.broadcast_tensors(_lift(d, name, new), expanded)
        require_close(expanded, old, f"`{name}` after expand")


def _lift(d: TorchDistribution, name: str, new: TorchDistribution) -> Tensor:
    """Give a parameter the number of batch dimensions of the expanded distribution."""
    x = getattr(d, name)
    missing = len(new.batch_shape) - len(d.batch_shape)
    if not x.dim():
        return x
    return x.reshape(*(1,) * missing, *x.shape)


@check
def check_to_event(case: Case) -> None:
    """`to_event` moves batch dimensions into the event and adds their log probabilities up."""
    d = case.distribution((3, 2))
    for n in (1, 2):
        new = d.to_event(n)
        value = new.sample((4,))
        require(
            new.batch_shape == d.batch_shape[: 2 - n],
            f"to_event({n}) has batch_shape {tuple(new.batch_shape)}",
        )
        require(
            new.event_shape == d.batch_shape[2 - n :] + d.event_shape,
            f"to_event({n}) has another event_shape",
        )
        require(
            new.support.event_dim == new.event_dim,
            f"the support after to_event({n}) has another event_dim",
        )
        require(
            new.support.check(value).shape == (4, *new.batch_shape),
            "the support checks another shape",
        )
        expected = d.log_prob(value).flatten(3 - n).sum(-1)
        require_close(new.log_prob(value), expected, f"log_prob after to_event({n})")


@check
def check_infer_shapes(case: Case) -> None:
    """`infer_shapes` predicts the shapes from those of the parameters."""
    for batch_shape in case.batch_shapes:
        for parameters in [case.tensors(batch_shape), *mixed_parameters(case)]:
            d = case.build(**parameters, validate_args=True)
            try:
                inferred = type(d).infer_shapes(**{k: x.shape for k, x in parameters.items()})
            except NotImplementedError as error:
                raise Inapplicable(
                    f"the shapes of {case.name} do not follow from those of tensors"
                ) from error
            require(
                inferred == (d.batch_shape, d.event_shape),
                f"infer_shapes gives {inferred}, "
                f"the distribution has {(d.batch_shape, d.event_shape)}",
            )


@check
def check_empty(case: Case) -> None:
    """A batch of no values has a batch of no log probabilities."""
    for d in case.distributions():
        log_prob = d.log_prob(d.sample()[None][:0])
        require(
            log_prob.shape == (0, *d.batch_shape),
            f"log_prob of no values has shape {tuple(log_prob.shape)}",
        )


@check
def check_strides(case: Case) -> None:
    """Values and parameters may be any views: transposed, strided, expanded."""
    d = case.distribution((3,))
    value = d.sample((6,))
    log_prob = d.log_prob(value)
    swapped = value.movedim(0, -1).contiguous().movedim(-1, 0)
    require_close(d.log_prob(swapped), log_prob, "log_prob of a transposed value")
    require_close(d.log_prob(value[::2]), log_prob[::2], "log_prob of a strided value")
    views = {
        k: x.movedim(0, -1).contiguous().movedim(-1, 0) for k, x in case.tensors((3,)).items()
    }
    require_close(
        case.build(**views).log_prob(value), log_prob, "log_prob under transposed parameters"
    )
    case.build(**views).sample((2,))


@check
def check_sample_and_log_prob(case: Case) -> None:
    """A fused `sample_and_log_prob`, where there is one, agrees with `log_prob`."""
    for d in case.distributions():
        if not hasattr(d, "sample_and_log_prob"):
            raise Inapplicable(f"{case.name} has no sample_and_log_prob")
        value, log_prob = d.sample_and_log_prob((5,))
        require(
            value.shape == (5, *d.batch_shape, *d.event_shape),
            "sample_and_log_prob has another shape",
        )
        require_close(log_prob, d.log_prob(value), "the log probability of sample_and_log_prob")
