"""Report of the kernels that this machine would use, and why not the others."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

import torch

from pyro_gen.kernels import ais, backend, contrastive, gibbs, nade, native

_SIZES = ((64, 64, 64), (784, 500, 128))
"""(visible, hidden, chains) of the examples."""

_PATHS = {
    "rbm_gibbs": gibbs.PATHS,
    "rbm_contrast": contrastive.PATHS,
    "rbm_ais": ais.PATHS,
    "nade_fields": nade.PATHS,
}


def report() -> None:
    """Print which path each op takes on each device of this machine, and why not the others.

    Raises:
        ValueError: ``PYRO_GEN_BACKEND`` cannot be obeyed.

    Example:
        >>> report()  # doctest: +ELLIPSIS
        torch ...
    """
    print("\n".join([*_machine(), *(line for op in _PATHS for line in _lines(op))]))


def _machine() -> list[str]:
    has_library = native.library() is not None
    if has_library:
        compiled = f"yes, {native.SETS[native.instruction_set()]}"
    else:
        compiled = "no (no C compiler on installation?)"
    forced = {name: os.environ.get(name) for name in ("PYRO_GEN_BACKEND", "PYRO_GEN_RNG")}
    return [
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, triton "
        f"{_version('triton')}",
        f"compiled kernels: {compiled}",
        *(f"{name}={value}" for name, value in forced.items() if value),
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _lines(op: str) -> list[str]:
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    lines = []
    for device in devices:
        for visible, hidden, chains in _SIZES:
            states = torch.empty(chains, visible, device=device)
            weight = torch.empty(visible, hidden, device=device)
            selected = backend.choose(op, _PATHS[op], states, weight)
            lines.append(f"{op}, {device}, {visible} x {hidden}, {chains} chains: {selected}")
            for path in _PATHS[op]:
                why = path.why_not(states, weight)
                if why and path.name != selected:
                    lines.append(f"    not {path.name}: {why}")
    return lines
