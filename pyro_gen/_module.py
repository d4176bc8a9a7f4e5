"""The base class of the package's modules."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, Self

from torch import nn

PLAIN = (bool, int, float, str)


class Module(nn.Module):
    """A torch module that remembers what it was constructed with.

    `pyro_gen.save` writes it down, and the module prints it.
    """

    construction: tuple[tuple[Any, ...], dict[str, Any]]
    """Positional and keyword arguments of the constructor's call."""

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Make the module before its constructor runs; copies bring their own record."""
        module = super().__new__(cls)
        object.__setattr__(module, "construction", (args, settings))
        return module

    def extra_repr(self) -> str:
        """Sizes and settings of the constructor, but for those left at their defaults."""
        args, settings = self.construction
        signature = inspect.signature(type(self))
        try:
            arguments = signature.bind(*args, **settings).arguments
        except TypeError:  # a subclass of a user's that changed its class
            return ""
        defaults = {name: entry.default for name, entry in signature.parameters.items()}
        shown = {name: value for name, value in arguments.items() if _is_setting(value)}
        return ", ".join(
            f"{name}={value!r}" for name, value in shown.items() if value != defaults[name]
        )


def _is_setting(value: Any) -> bool:
    """True for numbers, text, short sequences of these, and settings of the package."""
    if isinstance(value, list | tuple):
        return len(value) <= 8 and all(isinstance(entry, PLAIN) for entry in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value).__module__.startswith("pyro_gen.")
    return isinstance(value, PLAIN)


__all__ = ["Module"]
