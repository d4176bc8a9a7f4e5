"""Views of networks.

The tensors of one call, which a density keeps whatever becomes of the network
afterwards.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeVar, cast

from pyro.nn import PyroModule
from torch import Size, Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

M = TypeVar("M", bound=nn.Module)
Views = dict[int, nn.Module]
"""Views by the ids of what they show: a module that is reached twice stays one."""

TABLES = ("_parameters", "_buffers", "_modules")
PLAIN = frozenset(
    {type(None), bool, int, float, str, set, OrderedDict, FunctionType, BuiltinFunctionType, Size}
)
"""Types of the usual attributes, which hold no modules.

Looking at each value of every module takes too long.
"""


def snapshot(network: M) -> M:
    """A view of a network, for a density to keep: the tensors that it has now.

    The view has tables of its own of the very tensors, so that a change in
    place (a step of an optimiser) shows, and other tensors in their places
    (``torch.func.functional_call``, ``load_state_dict(assign=True)``) do not.
    Weights that are computed when they are read are read once, now:
    parametrised ones, and those that Pyro registers or draws.

    Args:
        network: the network.

    Returns:
        The view, a module of the same class, in the mode in which the network
        is.

    Raises:
        ValueError: weights came in a batch, as under vectorised particles.
    """
    views: Views = {}
    view = _view(network, views)
    for part in views.values():
        _look_at_views(part.__dict__, views)
    return view


def twin(network: M) -> M:
    """Another module around the very tables of a network: a weight is both's.

    An attribute of it may be changed.

    Args:
        network: the network.
    """
    new: M = type(network).__new__(type(network))
    # Parametrised modules refuse `copy.copy`.
    object.__setattr__(new, "__dict__", network.__dict__.copy())
    return new


def separated(modules: Iterable[M]) -> list[M]:
    """The modules, without parts in common.

    One that shares a part with an earlier one becomes a module of its own
    around the same weights.

    ``torch.func.functional_call`` restores a part that it meets under two names
    to the weights swapped in, not to its own; weights that are shared as
    tensors are no trouble to it.

    Args:
        modules: the modules.

    Returns:
        As many, in their order.
    """
    result = []
    visited = set[int]()
    for module in modules:
        tables = {id(part._parameters) for part in module.modules()}
        shares = not visited.isdisjoint(tables)
        result.append(_copy(module, {}) if shares else module)
        visited |= tables
    return result


def _copy(module: M, views: Views) -> M:
    """A module with tables of its own; its weights stay what they are, read or not."""
    if (copied := views.get(id(module))) is not None:
        return cast(M, copied)
    new = _shallow(module, type(module), views)
    children = module._modules.items()
    new.__dict__["_modules"] = {
        name: None if part is None else _copy(part, views) for name, part in children
    }
    return new


def _view(module: M, views: Views) -> M:
    if (viewed := views.get(id(module))) is not None:
        return cast(M, viewed)
    kind = type(module)
    children = module.__dict__["_modules"]
    values = {}
    if isinstance(module, PyroModule):
        values = {name: _weight_or_draw(module, name) for name in _weights(module)}
    if "parametrizations" in children and is_parametrized(module):
        values |= {name: getattr(module, name) for name in children["parametrizations"]}
        kind = kind.__bases__[0]
        children = {name: part for name, part in children.items() if name != "parametrizations"}
    new = _shallow(module, kind, views)
    attributes = new.__dict__
    attributes["_modules"] = {
        name: None if part is None else _view(part, views) for name, part in children.items()
    }
    attributes |= values
    if isinstance(new, nn.RNNBase):  # which keeps a list of its weights besides
        attributes["_flat_weights"] = [
            getattr(new, name, None) for name in new._flat_weights_names
        ]
    return new


def _shallow(module: M, kind: type[M], views: Views) -> M:
    """A module of a class with the attributes of another.

    It has tables of its own of the same tensors.
    """
    new: M = kind.__new__(kind)
    attributes = module.__dict__.copy()
    attributes["_parameters"] = attributes["_parameters"].copy()
    attributes["_buffers"] = attributes["_buffers"].copy()
    object.__setattr__(new, "__dict__", attributes)
    views[id(module)] = new
    return new


def _look_at_views(attributes: dict[str, Any], views: Views) -> None:
    """Put views in the place of modules that plain attributes and containers hold."""
    changes = {}
    for name, value in attributes.items():
        if (
            type(value) not in PLAIN
            and name not in TABLES
            and (new := _viewed(value, views)) is not value
        ):
            changes[name] = new
    attributes |= changes


def _viewed(value: Any, views: Views) -> Any:
    """A value with views in the place of modules; the very object where it holds none of them."""
    if isinstance(value, nn.Module):
        return views.get(id(value), value)
    if isinstance(value, MethodType):
        owner = _viewed(value.__self__, views)
        return value if owner is value.__self__ else MethodType(value.__func__, owner)
    if type(value) not in (list, tuple, dict):
        return value
    items = list(value.values()) if isinstance(value, dict) else list(value)
    if not items or isinstance(items[0], int | float | str | Tensor):
        return value
    new = [_viewed(x, views) for x in items]
    if all(a is b for a, b in zip(new, items, strict=True)):
        return value
    return dict(zip(value, new, strict=True)) if isinstance(value, dict) else type(value)(new)


def _weights(module: PyroModule) -> list[str]:
    """Names of what Pyro gives a module of its own."""
    names = [*module.__dict__.get("_pyro_params", ()), *module.__dict__.get("_pyro_samples", ())]
    return names + [name for name in module._parameters if not name.endswith("_unconstrained")]


def _weight_or_draw(module: PyroModule, name: str) -> Tensor | None:
    value: Tensor | None = getattr(module, name)
    prior = module.__dict__.get("_pyro_samples", {}).get(name)
    if value is not None and hasattr(prior, "shape") and value.shape != prior.shape():
        raise ValueError(
            f"weights `{name}` must have shape {tuple(prior.shape())}, got "
            f"{tuple(value.shape)}: a network takes one "
            "value of each weight, so draw them outside of plates and do not vectorise particles"
        )
    return value


__all__ = ["separated", "snapshot", "twin"]
