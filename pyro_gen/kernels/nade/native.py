"""NADE by the compiled kernels: fields, their gradients, draws."""

from __future__ import annotations

from torch import Tensor

from pyro_gen.kernels.native import dense, in_parts, instruction_set, loaded


def _nade(
    x: Tensor, weight: Tensor, start: Tensor, output: Tensor
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Operands as the kernels read them, to be kept alive, and their addresses and sizes."""
    alive = x.contiguous(), weight.contiguous(), dense(start), output.contiguous()
    rows, features, width = x.shape
    sizes = rows, features, width, start.shape[1], output.shape[1], alive[2].stride(0)
    return alive, (instruction_set(), *(operand.data_ptr() for operand in alive), *sizes)


def nade_fields(x: Tensor, weight: Tensor, start: Tensor, output: Tensor) -> Tensor:
    """Fields of NADE; see :func:`pyro_gen.kernels.nade_fields`.

    Args:
        x: (rows, features, width).
        weight: (features, width, hidden).
        start: (rows, hidden).
        output: (features, parameters, hidden).

    Returns:
        (rows, features, parameters).
    """
    lib = loaded()
    operands, arguments = _nade(x, weight, start, output)
    fields = x.new_empty(len(x), x.shape[1], output.shape[1])
    address = fields.data_ptr()

    def part(first: int, end: int, alive: object = (operands, fields)) -> int:
        return int(lib.pyro_gen_nade(*arguments, address, first, end))

    in_parts(part, len(x), 8, start.numel() * x.shape[1])
    return fields


def nade_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, start: Tensor, output: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of weight, start and output from that of the fields.

    See :func:`pyro_gen.kernels.nade_fields`.

    Args:
        gradient: (rows, features, parameters).
        x: (rows, features, width).
        weight: (features, width, hidden).
        start: (rows, hidden).
        output: (features, parameters, hidden).

    Returns:
        Gradients, contiguous.
    """
    lib = loaded()
    operands, arguments = _nade(x, weight, start, output)
    gradient = gradient.contiguous()
    results = (
        weight.new_empty(weight.shape),
        start.new_empty(start.shape),
        output.new_empty(output.shape),
    )
    addresses = gradient.data_ptr(), *(result.data_ptr() for result in results)

    def part(first: int, end: int, alive: object = (operands, gradient, results)) -> int:
        return int(lib.pyro_gen_nade_backward(*arguments, *addresses, first, end))

    in_parts(part, start.shape[1], 64, 2 * start.numel() * x.shape[1])
    return results


def nade_sample(
    uniforms: Tensor, weight: Tensor, start: Tensor, output: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Binary draws and the fields that they were drawn from.

    See :func:`pyro_gen.kernels.nade_sample`.

    Args:
        uniforms: (features, rows).
        weight: (features, 1, hidden).
        start: (rows, hidden).
        output: (features, 1, hidden).
        bias: (rows, features).

    Returns:
        Zeros and ones, and fields, both (rows, features).
    """
    lib = loaded()
    features, rows = uniforms.shape
    operands = (
        uniforms.contiguous(),
        weight.contiguous(),
        dense(start),
        output.contiguous(),
        dense(bias),
    )
    addresses = [operand.data_ptr() for operand in operands]
    sizes = rows, features, start.shape[1], operands[2].stride(0)
    outputs = uniforms.new_empty(rows, features), uniforms.new_empty(rows, features)
    arguments = instruction_set(), *addresses[:4], *sizes, addresses[4], operands[4].stride(0)
    results = [x.data_ptr() for x in outputs]

    def part(first: int, end: int, alive: object = (operands, outputs)) -> int:
        return int(lib.pyro_gen_nade_sample(*arguments, *results, first, end))

    in_parts(part, rows, 8, start.numel() * features)
    return outputs


__all__ = ["nade_backward", "nade_fields", "nade_sample"]
