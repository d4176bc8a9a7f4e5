"""Optional packages."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def require(name: str, user: str, extra: str) -> Any:
    """Import an optional package, or say how to get it.

    Args:
        name: the module.
        user: what needs it, for the message.
        extra: the extra of pyro_gen that brings it.

    Returns:
        The module.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{user} needs {name}: pip install pyro-gen[{extra}] ({error})"
        ) from error


__all__ = ["require"]
