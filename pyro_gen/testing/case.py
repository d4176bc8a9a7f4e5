"""Description of a distribution for the conformance suite, and the frame of every check."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, cast

import numpy as np
import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions.constraints import Constraint

from pyro_gen.testing.enumeration import exact_log_probs

Parameters = dict[str, Tensor]
Shape = tuple[int, ...]
P = ParamSpec("P")


class Inapplicable(Exception):  # noqa: N818 - an answer, not an error
    """Says that a check has nothing to check in a case, and why; a test runner skips it."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all random number generators inside, and give them back as they were.

    Args:
        seed: seed for `pyro.set_rng_seed`.

    Yields:
        Nothing.

    Example:
        >>> with seeded(0):
        ...     a = torch.rand(3)
        >>> with seeded(0):
        ...     b = torch.rand(3)
        >>> torch.equal(a, b)
        True
    """
    python = random.getstate()
    numpy = np.random.get_state()
    with torch.random.fork_rng():
        try:
            pyro.set_rng_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def normal_parameters(scale: float = 1.0, **shapes: Shape) -> Callable[[torch.Size], Parameters]:
    """Describe parameters that are real and drawn from a normal distribution.

    Args:
        scale: standard deviation of the draws.
        **shapes: for each constructor argument its shape without batch dimensions.

    Returns:
        A function from a batch shape to float64 tensors by name.

    Example:
        >>> normal_parameters(weight=(4, 3), vbias=(4,))(torch.Size([2]))["weight"].shape
        torch.Size([2, 4, 3])
    """

    def draw(batch_shape: torch.Size) -> Parameters:
        return {
            k: scale * torch.randn((*batch_shape, *shape), dtype=torch.float64)
            for k, shape in shapes.items()
        }

    return draw


@dataclass(frozen=True, eq=False)
class Case:
    """A distribution as the conformance suite sees it: how to build it, and small parameters.

    What the distribution can do (enumeration, entropy, ...) is asked of the
    distribution itself.

    Args:
        name: name in reports.
        build: the class, or a function with its keywords: one for each tensor argument,
            and `validate_args`.
        parameters: float64 tensor arguments for a batch shape; drawn from the global
            generators, which the suite seeds.
        enumerable: all states of one event, shape (n,) + event_shape; `None` asks
            `enumerate_support`.
        batch_shapes: the batch shapes to try.

    Example:
        >>> import pyro.distributions as dist
        >>> case = Case("one hot", dist.OneHotCategorical, normal_parameters(logits=(3,)))
        >>> case.distribution((2,)).batch_shape
        torch.Size([2])
    """

    name: str
    build: Callable[..., TorchDistribution]
    parameters: Callable[[torch.Size], Parameters]
    enumerable: Tensor | None = None
    batch_shapes: tuple[Shape, ...] = ((), (3,), (2, 1))

    def tensors(
        self,
        batch_shape: Shape = (),
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
    ) -> Parameters:
        """Give the constructor's tensor arguments, the same ones for the same seed."""
        with seeded(seed):
            parameters = self.parameters(torch.Size(batch_shape))
        return {name: cast_floats(x, dtype) for name, x in parameters.items()}

    def distribution(
        self,
        batch_shape: Shape = (),
        dtype: torch.dtype = torch.float64,
        seed: int = 0,
        validate_args: bool = True,
    ) -> TorchDistribution:
        """Build the distribution, the same one for the same seed."""
        parameters = self.tensors(batch_shape, dtype, seed)
        return self.build(**parameters, validate_args=validate_args)

    def distributions(self, dtype: torch.dtype = torch.float64) -> Iterator[TorchDistribution]:
        """Build one distribution for each batch shape."""
        return (self.distribution(shape, dtype) for shape in self.batch_shapes)

    def states(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """List all states of one event, shape (n,) + event_shape.

        Raises:
            Inapplicable: if they are not known.
        """
        if self.enumerable is not None:
            return cast_floats(self.enumerable, dtype)
        single = self.distribution(dtype=dtype)
        if not single.has_enumerate_support:
            raise Inapplicable(f"{self.name} has no list of states")
        return cast_floats(single.enumerate_support(), dtype)

    def log_probs(self, distribution: TorchDistribution) -> Tensor:
        """Score all states, shape (n,) + batch_shape.

        Raises:
            Inapplicable: if the states are not known.
        """
        return exact_log_probs(distribution, self.states())


def cast_floats(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Give a tensor of floats another dtype, and leave other tensors alone."""
    if not x.is_floating_point():
        return x
    return x.to(dtype)


def support_of(distribution: TorchDistribution) -> Constraint:
    """Give the support, which every distribution of Pyro has but the base class leaves open.

    Raises:
        AssertionError: if there is none.
    """
    require(distribution.support is not None, "the distribution has no support")
    return cast(Constraint, distribution.support)


def check(
    function: Callable[Concatenate[Case, P], None],
) -> Callable[Concatenate[Case, P], None]:
    """Turn a function into a check: seeded, under Pyro's validation, and with one way to fail.

    Args:
        function: raises anything at all where the case does not conform.

    Returns:
        The same check, which raises `AssertionError` (or `Inapplicable`) or returns
        nothing.
    """

    @functools.wraps(function)
    def wrapper(case: Case, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with seeded(0), pyro.validation_enabled(True):
                function(case, *args, **kwargs)
        except Inapplicable:
            raise
        except Exception as error:
            message = str(error)
            if not isinstance(error, AssertionError):
                message = f"{type(error).__name__}: {error}"
            where = f"{function.__name__}({case.name})"
            raise AssertionError(f"{where}: {message}") from error

    return wrapper


def require(condition: bool | Tensor, message: str) -> None:
    """Raise `AssertionError` unless the condition holds, under `python -O` too."""
    if not condition:
        raise AssertionError(message)


def require_close(actual: Tensor, expected: Tensor, what: str, tolerance: float = 1e-10) -> None:
    """Raise `AssertionError` unless tensors agree in shape, dtype, device and nearly in values."""
    torch.testing.assert_close(
        actual,
        expected,
        rtol=tolerance,
        atol=tolerance,
        msg=lambda difference: f"{what}: {difference}",
    )


def value_error(function: Callable[[], object], what: str) -> str:
    """Run a function that must raise `ValueError`, and give the error's message."""
    try:
        function()
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{what} must raise ValueError, nothing was raised")
