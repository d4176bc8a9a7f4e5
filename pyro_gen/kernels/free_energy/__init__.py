"""The op ``pyro_gen::rbm_free_energy``: what remains of the energy when the hidden
units are summed out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from pyro_gen.kernels import backend
from pyro_gen.kernels.free_energy import reference
from pyro_gen.kernels.parameters import RBMParameters
from pyro_gen.kernels.registry import register_formula
from pyro_gen.kernels.triton import refusal as refused_by_triton

__all__ = ["PATHS", "rbm_free_energy"]

PATHS = (
    backend.Path("triton", refused_by_triton),
    *(
        backend.Path(name, backend.anywhere) for name in ("cpu", "native")
    ),  # the formula as it stands
)

_op = register_formula(
    "rbm_free_energy(Tensor v, Tensor weight, Tensor vbias, Tensor hbias) -> Tensor",
    reference.rbm_free_energy,
)


def rbm_free_energy(v: Tensor, weight: Tensor, vbias: Tensor, hbias: Tensor) -> Tensor:
    r"""Free energy of visible states of a Bernoulli RBM in nats, differentiable in all
    arguments.

    .. math:: F(v) = -v \cdot a - \sum_j \log\bigl(1 + e^{\,b_j + (v W)_j}\bigr)

    Args:
        v: visible states or means, shape (..., visible).
        weight: (visible, hidden), or with batch dimensions that broadcast
            against those of ``v``.
        vbias: (..., visible).
        hbias: (..., hidden).

    Returns:
        Tensor of shape (...).

    References:
        Fischer and Igel (2014), Training restricted Boltzmann machines: an
        introduction, equation 22.

    Example:
        >>> rbm_free_energy(torch.ones(2, 4), torch.zeros(4, 1), torch.ones(4), torch.zeros(1))
        tensor([-4.6931, -4.6931])
    """
    plain = v.is_cuda and forward_only(v, weight, vbias, hbias)
    if plain and backend.choose("rbm_free_energy", PATHS, v, weight) == "triton":
        from pyro_gen.kernels.free_energy import triton as cuda

        parameters = RBMParameters(weight, vbias, hbias)
        flat = v.reshape(-1, v.shape[-1])
        return cuda.rbm_free_energy(flat, parameters).view(v.shape[:-1])
    free_energy: Tensor = _op(v, weight, vbias, hbias)
    return free_energy


def forward_only(*tensors: Tensor) -> bool:
    """True if an eager call with unbatched parameters of one dtype asks for no
    gradient, as the kernel needs.
    """
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cuda"):
        return False
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return False
    v, weight, vbias, hbias = tensors
    # Fake tensors have no memory, dual ones carry tangents, those of torch.func are wrapped.
    plain = all(type(x) in (Tensor, Parameter) for x in tensors) and forward_ad._current_level < 0
    plain = plain and not any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in tensors)
    same = all(x.dtype == v.dtype and x.device == v.device for x in tensors)
    return plain and same and (weight.dim(), vbias.dim(), hbias.dim()) == (2, 1, 1)
