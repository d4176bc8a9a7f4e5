"""Layers of hidden units from one vector to another, such as encoders and decoders are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pyro_gen._arguments import whole_number
from pyro_gen._module import Module


class Dense(Module, nn.Sequential):
    """A network of fully connected layers; what comes in is flattened behind the rows.

    Args:
        inputs: numbers that come in.
        hidden: units of each hidden layer; none at all leaves one linear map.
        outputs: numbers that go out, without an activation.
        activation: makes the module behind each hidden layer.

    Raises:
        ValueError: a layer has no units.

    Example:
        >>> import torch
        >>> Dense(6, (4, 4), 3)(torch.zeros(5, 2, 3)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        activation: Callable[[], nn.Module] = nn.SiLU,
    ) -> None:
        inputs = whole_number("inputs", inputs)
        outputs = whole_number("outputs", outputs)
        hidden = [whole_number("hidden", units) for units in hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise((inputs, *hidden)):
            layers += [nn.Linear(before, after), activation()]
        last = hidden[-1] if hidden else inputs
        super().__init__(*layers, nn.Linear(last, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map rows.

        Args:
            x: (rows, ...) of ``inputs`` numbers each.

        Returns:
            (rows, outputs).
        """
        out: Tensor = super().forward(x.flatten(1))
        return out

    @torch.no_grad()
    def start_at(self, outputs: Tensor, share: float | Tensor = 1.0) -> None:
        """Set the bias of the last layer.

        Args:
            outputs: the bias, in any shape of as many numbers.
            share: of the last layer's random weights that is left.
        """
        last = self[-1]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(outputs.flatten())
        last.weight.mul_(share)

    @property
    def bias(self) -> Tensor:
        """The bias of the last layer."""
        last = self[-1].bias
        assert isinstance(last, Tensor)
        return last


__all__ = ["Dense"]
