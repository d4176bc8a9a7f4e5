"""Evaluation mode while a model is read: no batch statistics, no dropout, no
weights that only shape learning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from torch import nn

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def evaluating(*owners: object) -> Iterator[None]:
    """Put modules and their parts into evaluation mode, and each part back into its
    own mode afterwards.

    Args:
        *owners: modules, methods of modules, and objects that hold modules;
            anything else is left alone.

    Yields:
        Nothing.
    """
    modules = [
        module for owner in owners for module in _modules_of(getattr(owner, "__self__", owner))
    ]
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def reading(method: Callable[Concatenate[T, P], R]) -> Callable[Concatenate[T, P], R]:
    """Decorator of a method that only reads its model: it runs in evaluation mode, see
    :func:`evaluating`.

    Args:
        method: of a module, or of an object that holds modules.
    """

    @wraps(method)
    def read(self: T, *args: P.args, **kwargs: P.kwargs) -> R:
        with evaluating(self):
            return method(self, *args, **kwargs)

    return read


def _modules_of(owner: object) -> list[nn.Module]:
    if isinstance(owner, nn.Module):
        return [owner]
    return [
        value for value in getattr(owner, "__dict__", {}).values() if isinstance(value, nn.Module)
    ]


__all__ = ["evaluating", "reading"]
