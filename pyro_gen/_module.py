"""The base class of the package's modules."""

from __future__ import annotations

import dataclasses
import inspect
import weakref
from collections.abc import Iterable
from typing import Any, Self, SupportsIndex

from torch import Tensor, nn

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

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Pickle and copy without the weak references that ``pyro.module`` leaves."""
        _make_picklable(self.parameters())
        return super().__reduce_ex__(protocol)

    def extra_repr(self) -> str:
        """Sizes and settings of the constructor, but for those left at their defaults."""
        args, settings = self.construction
        signature = inspect.signature(type(self))
        try:
            arguments = signature.bind(*args, **settings).arguments
        except TypeError:  # its class was changed after the call
            return ""
        defaults = {name: entry.default for name, entry in signature.parameters.items()}
        shown = {name: value for name, value in arguments.items() if _is_setting(value)}
        return ", ".join(
            f"{name}={value!r}"
            for name, value in shown.items()
            if repr(value) != repr(defaults[name])
        )


def _make_picklable(parameters: Iterable[Tensor]) -> None:
    """Replace the weak references of ``pyro.module`` on parameters by ones that pickle."""
    entries: list[Any] = list(parameters)
    for parameter in entries:
        reference = getattr(parameter, "unconstrained", None)
        if type(reference) is weakref.ref:
            value = reference()
            parameter.unconstrained = _Unregistered() if value is None else _Reference(value)


class _Reference(weakref.ref[Tensor]):
    """Weak reference of a parameter to its unconstrained value, as Pyro sets it.

    Copies and pickles lose it.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[type[_Unregistered], tuple[()]]:
        return _Unregistered, ()


class _Unregistered:
    """Reference of a parameter that no store holds yet."""

    def __call__(self) -> None:
        """None: there is no value."""


def _is_setting(value: Any) -> bool:
    """True for numbers, text, short sequences of these, and settings of the package."""
    if isinstance(value, list | tuple):
        return len(value) <= 8 and all(isinstance(entry, PLAIN) for entry in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value).__module__.startswith("pyro_gen.")
    return isinstance(value, PLAIN)


__all__ = ["Module"]
