"""Products and sums of exponentials in log space: a backend of opt_einsum.

Pyro's own backend exponentiates each factor by itself: factors that favour different states
underflow to log 0, in float32 from about 100 nats on. It also brings a derivative that
`torch.vmap` refuses. Here factors are added before their maximum is taken, which needs the memory
of the joint table of two factors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pyro.ops.einsum.util import Tensordot
from torch import Tensor

__all__ = ["einsum", "tensordot", "transpose"]


def transpose(value: Tensor, axes: Sequence[int]) -> Tensor:
    """Permute dimensions."""
    return value.permute(*axes)


def einsum(equation: str, *operands: Tensor) -> Tensor:
    """Add operands aligned by letters; take log-sum-exp over letters not in the output.

    Args:
        equation: such as ``"ab,bc->ac"``.
        operands: log values.

    Returns:
        A new tensor.

    Example:
        >>> a, b = torch.tensor([0.0, -300.0]), torch.tensor([-300.0, 0.0])
        >>> einsum("z,z->", a, b)  # log(exp(-300) + exp(-300))
        tensor(-299.3069)
    """
    inputs, output = equation.split("->")
    order = output + "".join(sorted(set(inputs) - set(output) - {","}))
    total = sum(
        (
            _aligned(operand, dims, order)
            for dims, operand in zip(inputs.split(","), operands, strict=True)
        ),
        start=torch.zeros((), dtype=operands[0].dtype, device=operands[0].device),
    )
    summed = list(range(len(output), len(order)))
    if not summed:
        return total
    return torch.logsumexp(total, summed)


def _aligned(operand: Tensor, dims: str, order: str) -> Tensor:
    present = [letter for letter in order if letter in dims]
    sizes = dict(zip(dims, operand.shape, strict=True))
    return operand.permute([dims.index(letter) for letter in present]).reshape(
        [sizes.get(d, 1) for d in order]
    )


tensordot = Tensordot(einsum)
