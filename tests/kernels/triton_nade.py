"""The Triton kernels of NADE, as plain functions that ``triton_run.py`` runs."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from unittest.mock import patch

import torch
from torch import Tensor

from pyro_gen.kernels import nade_fields, nade_sample
from pyro_gen.kernels.nade import reference
from pyro_gen.kernels.nade import triton as nade
from tests.kernels.triton_calls import forced
from tests.kernels.triton_checks import DEVICE

SIZES = [(1, 1, 1, 1, 1), (3, 1, 1, 70, 2), (37, 5, 1, 33, 1), (5, 6, 3, 300, 2), (2, 63, 1, 7, 1)]
"""Rows, features, width, hidden units, parameters."""


def operands(
    rows: int, features: int, width: int, hidden: int, parameters: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Activations and fields of order one; strides that are not the plain ones."""
    torch.manual_seed(rows + features)
    x = torch.randn(rows, features, width).mul_(torch.rand(rows, features, width) < 0.6)
    weight = torch.randn(features, width, hidden) / (features * width) ** 0.5
    start, output = torch.randn(hidden).expand(rows, -1), torch.randn(features, hidden, parameters).mT / hidden**0.5
    return x.to(DEVICE), weight.to(DEVICE), start.to(DEVICE), output.to(DEVICE)


def near(found: Tensor, expected: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """To rounding."""
    tolerance = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    error = (found.double() - expected.double()).abs().max().item() if expected.numel() else 0.0
    limit = tolerance * max(1.0, float(expected.abs().max()) if expected.numel() else 0.0)
    assert found.shape == expected.shape
    assert error <= limit, f"{tuple(found.shape)}: {error} > {limit}"


def check_nade() -> None:
    """Fields and gradients are the reference's, whatever the size, the tile and the share of the rows."""
    for size, (units, rows, groups) in itertools.product(SIZES, ((256, 16, 8), (32, 2, 3))):
        own = operands(*size)
        gradient = torch.randn(size[0], size[1], size[4], device=DEVICE)
        with ExitStack() as changed:
            for name, value in {"UNITS": units, "BACK_ROWS": rows, "GROUPS": groups}.items():
                changed.enter_context(patch.object(nade, name, value))
            near(nade.nade_fields(*own), reference.nade_fields(*own))
            expected = reference.nade_backward(gradient, *own)
            for found, wanted in zip(nade.nade_backward(gradient, *own), expected, strict=True):
                near(found, wanted)
            for found, wanted in zip(nade.nade_backward(gradient, *own, need_x=False)[1:], expected[1:], strict=True):
                near(found, wanted)


def check_nade_dtypes() -> None:
    """Half precision is read as it is and summed in float32."""
    for dtype in (torch.float16, torch.bfloat16):
        own = [y.to(dtype) for y in operands(5, 6, 1, 40, 1)]
        found = nade.nade_fields(*own)
        assert found.dtype == dtype
        near(found, reference.nade_fields(*(y.double() for y in own)), dtype)


def check_nade_draws() -> None:
    """Draws are those of whole passes over them with the same uniforms."""
    for rows, features, hidden in ((1, 1, 1), (9, 20, 70), (3, 5, 500)):
        _, weight, start, output = operands(rows, features, 1, hidden, 1)
        uniforms, bias = (
            torch.rand(features, rows, device=DEVICE),
            torch.randn(features, device=DEVICE).expand(rows, -1),
        )
        x, fields = nade.nade_sample(uniforms, weight, start, output, bias)
        expected = reference.nade_fields(x.unsqueeze(-1), weight, start, output).squeeze(-1) + bias
        near(fields, expected)
        sure = (uniforms.mT - expected.sigmoid()).abs() > 1e-5
        assert torch.equal(x[sure], (uniforms.mT < expected.sigmoid()).float()[sure])


def check_nade_ops() -> None:
    """The public ops call the kernels, with their derivative and under vmap."""
    x, weight, start, output = operands(4, 5, 1, 9, 1)
    weight.requires_grad_()
    bias = torch.zeros(4, 5, device=DEVICE)
    with forced("triton"):
        assert torch.equal(nade_fields(x, weight, start, output), nade.nade_fields(x, weight.detach(), start, output))
        own = torch.autograd.grad(nade_fields(x, weight, start, output).square().sum(), weight)[0]
        uniforms = torch.rand(5, 4, device=DEVICE)
        drawn = nade_sample(uniforms, weight.detach(), start, output, bias)
        assert torch.equal(drawn[0], nade.nade_sample(uniforms, weight.detach(), start, output, bias)[0])
        folded = torch.vmap(nade_fields, in_dims=(0, None, 0, None))(
            x[:, None], weight.detach(), start[:, None], output
        )
        near(folded[:, 0], nade.nade_fields(x, weight.detach(), start, output))
    near(own, torch.autograd.grad(reference.nade_fields(x, weight, start, output).square().sum(), weight)[0])
