"""Checks of where tensors live: dtype, device, and the way through pickle and back."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
from collections.abc import Callable, Iterator

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_gen.testing.case import Case, cast_floats, check, require, require_close


def tensors_made(d: TorchDistribution) -> Iterator[tuple[str, Tensor]]:
    """Give every tensor that a distribution makes, by name."""
    value = d.sample((2,))
    yield "a sample", value
    yield "log_prob", d.log_prob(value)
    yield "a sample after expand", d.expand((2, *d.batch_shape)).sample()
    if d.has_enumerate_support:
        yield "enumerate_support", d.enumerate_support()
    with contextlib.suppress(NotImplementedError):
        yield "entropy", d.entropy()


@check
def check_dtype(case: Case) -> None:
    """All that floats has the dtype of the parameters."""
    for dtype in (torch.float32, torch.float64):
        for d in case.distributions(dtype):
            for name, x in tensors_made(d):
                require(
                    not x.is_floating_point() or x.dtype == dtype,
                    f"{name} is {x.dtype}, parameters are {dtype}",
                )
    value = case.distribution().sample((5,))
    d = case.distribution(dtype=torch.float32)
    coarse = d.log_prob(cast_floats(value, torch.float32)).double()
    fine = case.distribution().log_prob(value)
    require_close(coarse, fine, "log_prob in float32", tolerance=1e-4)


@check
def check_device(case: Case) -> None:
    """All tensors are made on the parameters' device: `meta`, without hardware, or CUDA."""
    devices = ["meta"]
    if torch.cuda.is_available():
        devices.append("cuda")
    for device in devices:
        for batch_shape in case.batch_shapes:
            parameters = {k: x.to(device) for k, x in case.tensors(batch_shape).items()}
            # A meta tensor has no values that could be validated.
            with pyro.validation_enabled(device != "meta"):
                for name, x in tensors_made(case.build(**parameters)):
                    require(
                        x.device.type == device,
                        f"{name} is on {x.device}, parameters are on {device}",
                    )


def through_file(d: TorchDistribution) -> TorchDistribution:
    """Write a distribution with `torch.save` and read it back."""
    buffer = io.BytesIO()
    torch.save(d, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@check
def check_pickle(case: Case) -> None:
    """Copies by pickle, `deepcopy` and `torch.save` are equal, before and after first use."""
    copies: list[Callable[[TorchDistribution], TorchDistribution]] = [
        lambda d: pickle.loads(pickle.dumps(d)),
        copy.deepcopy,
        through_file,
    ]
    for d in case.distributions():
        for again in copies:
            _check_copy(d, again(case.distribution(d.batch_shape)))
            _check_copy(d, again(d))


def _check_copy(d: TorchDistribution, new: TorchDistribution) -> None:
    """Compare a distribution with its copy."""
    require(type(new) is type(d), f"the copy is a {type(new).__name__}")
    require(
        (new.batch_shape, new.event_shape) == (d.batch_shape, d.event_shape),
        "the copy has other shapes",
    )
    value = new.sample((3,))
    require_close(new.log_prob(value), d.log_prob(value), "log_prob of the copy")
