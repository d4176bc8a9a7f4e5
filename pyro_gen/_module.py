"""The base class of the package's modules."""

from __future__ import annotations

from typing import Any, Self

from torch import nn


class Module(nn.Module):
    """A torch module that remembers what it was constructed with, so that
    `pyro_gen.save` can write it down.
    """

    construction: tuple[tuple[Any, ...], dict[str, Any]]
    """Positional and keyword arguments of the constructor's call."""

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Make the module before its constructor runs.

        Copies and pickles bring their own record.
        """
        module = super().__new__(cls)
        object.__setattr__(module, "construction", (args, settings))
        return module


__all__ = ["Module"]
