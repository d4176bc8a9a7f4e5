"""Checks that refuse callers for which a surrogate of log Z would give wrong results."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from pyro_gen.kernels.contrastive.surrogate import SECOND_DERIVATIVE

NEEDS_DENSITY = tuple(
    f"pyro.infer.{module}"
    for module in (
        "mcmc",
        "renyi_elbo",
        "rws",
        "importance",
        "csis",
        "smcfilter",
        "resampler",
        "tracetmc_elbo",
        "trace_tail_adaptive_elbo",
    )
)
"""Modules of Pyro that form ratios or weights of log probabilities, or accept by them."""

TRACER = "pyro.ops.jit"
"""The module of Pyro that traces an ELBO."""


def check_phase_use(parameter_batch_shape: torch.Size) -> None:
    """Raise where a contrast with particles would be used as a log probability.

    Args:
        parameter_batch_shape: batch shape of the parameters, which must be
            empty.

    Raises:
        ValueError: the parameters are batched, the ELBO is being traced, or the
            caller is MCMC or forms importance weights.
    """
    if parameter_batch_shape:
        raise ValueError(
            "under a negative phase the parameters must have no batch dimensions, got batch shape "
            f"{tuple(parameter_batch_shape)}: components would be weighted by contrasts; use "
            "Exact or AIS"
        )
    tracing = torch._C._get_tracing_state() is not None
    if tracing or _caller((TRACER, *NEEDS_DENSITY)):  # one walk up the stack where all is well
        refuse_tracing("a negative phase")
        refuse_callers("a negative phase", NEEDS_DENSITY)


def _caller(modules: tuple[str, ...]) -> str | None:
    """The innermost of ``modules``, all of Pyro's, on the call stack, or None."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and name.startswith("pyro."):
            if name.startswith(modules):
                return name
            inherits = name.startswith("pyro.infer.") and frame.f_code.co_varnames[:1] == ("self",)
            if inherits:  # the method's class may have another home than its code
                owner = type(frame.f_locals.get("self")).__module__
                if owner.startswith(modules):
                    return owner
        frame = frame.f_back
    return None


STAND_IN = (
    "gives only a stochastic stand-in for log Z: call .eval() on the module, whose way to know "
    "log Z must then be "
    "exact, or use Exact"
)
"""What an estimate of log Z is, and what to do instead."""


def refuse_callers(name: str, modules: tuple[str, ...], what: str = STAND_IN) -> None:
    """Raise where one of ``modules`` is on the call stack.

    Args:
        name: name of the object without a log probability, for the message.
        modules: beginnings of module names.
        what: what it gives, and what to do instead.

    Raises:
        ValueError: it is.
    """
    if caller := _caller(modules):
        raise ValueError(f"{caller} needs log probabilities, and {name} {what}")


def refuse_tracing(name: str, draws: str = "particles") -> None:
    """Raise while an ELBO is being traced, or prepared to be.

    Args:
        name: name of the object whose particles would freeze, for the message.
        draws: another word for the particles.

    Raises:
        ValueError: it is.
    """
    if torch._C._get_tracing_state() is not None or _caller((TRACER,)):
        raise ValueError(
            f"a traced (JIT) ELBO would freeze the {draws} of {name}: use the untraced ELBO"
        )


class FirstOrder(torch.autograd.Function):
    """Identity whose second derivative raises: a surrogate of log Z has the right
    gradient but a wrong Hessian.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Pass the numbers through."""
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        """Pass the gradient through, once."""
        if torch.is_grad_enabled():
            raise NotImplementedError(SECOND_DERIVATIVE)
        return grad_output
