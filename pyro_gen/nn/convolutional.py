"""Convolutional networks from images to vectors and back, as encoders and decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pyro_gen._arguments import whole_number, whole_numbers
from pyro_gen._module import Module


class ConvolutionalEncoder(Module):
    """From images to vectors: convolutions that halve height and width, then one hidden layer.

    Args:
        shape: of an image, (height, width) or (colours, height, width).
        outputs: numbers that go out.
        channels: of each convolution.
        hidden: units of the layer behind them.
        width: numbers by which a pixel comes in, which are further channels.
        activation: makes the module behind each layer but the last.

    Raises:
        ValueError: ``shape`` is not the shape of an image, or a number is below
            1.

    Example:
        >>> import torch
        >>> ConvolutionalEncoder((28, 28), 10)(torch.zeros(5, 28, 28)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
        width: int = 1,
        activation: Callable[[], nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        colours, *sizes = check_image(shape, channels, outputs=outputs, hidden=hidden, width=width)
        channels = whole_numbers("channels", channels)
        self.shape = (colours, *sizes)
        self.width = width
        layers: list[nn.Module] = []
        for before, after in pairwise((colours * width, *channels)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), activation()]
        smallest = [halved(size, len(channels))[-1] for size in sizes]
        inner = channels[-1] * smallest[0] * smallest[1]
        head = (nn.Flatten(), nn.Linear(inner, hidden), activation(), nn.Linear(hidden, outputs))
        self.layers = nn.Sequential(*layers, *head)

    def forward(self, x: Tensor) -> Tensor:
        """Map images.

        Args:
            x: (rows,) + shape, with another dimension behind where a pixel has
                several numbers.

        Returns:
            (rows, outputs).
        """
        images = x.reshape(len(x), *self.shape, self.width).movedim(-1, 2).flatten(1, 2)
        out: Tensor = self.layers(images)
        return out


class ConvolutionalDecoder(Module):
    """From vectors to images.

    One hidden layer, then transposed convolutions that double height and width.

    Args:
        inputs: numbers that come in.
        shape: of an image, (height, width) or (colours, height, width).
        num_parameters: numbers that go out for each pixel, behind the image's
            own dimensions.
        channels: of each transposed convolution's input.
        hidden: units of the layer before them.
        activation: makes the module behind each layer but the last.

    Raises:
        ValueError: ``shape`` is not the shape of an image, or a number is below
            1.

    Example:
        >>> import torch
        >>> ConvolutionalDecoder(10, (3, 9, 7), 2)(torch.zeros(5, 10)).shape
        torch.Size([5, 3, 9, 7, 2])
    """

    def __init__(
        self,
        inputs: int,
        shape: Sequence[int],
        num_parameters: int = 1,
        channels: Sequence[int] = (64, 32),
        hidden: int = 256,
        activation: Callable[[], nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        numbers = {"inputs": inputs, "hidden": hidden, "num_parameters": num_parameters}
        colours, *sizes = check_image(shape, channels, **numbers)
        channels = whole_numbers("channels", channels)
        self.event = (*whole_numbers("shape", shape), num_parameters)
        self.colours = colours
        steps = list(zip(*(halved(size, len(channels))[::-1] for size in sizes), strict=True))
        inner = channels[0] * steps[0][0] * steps[0][1]
        layers: list[nn.Module] = [
            nn.Linear(inputs, hidden),
            activation(),
            nn.Linear(hidden, inner),
            activation(),
        ]
        layers.append(nn.Unflatten(1, (channels[0], *steps[0])))
        outputs = (*channels[1:], colours * num_parameters)
        for before, after, size in zip(channels, outputs, steps[1:], strict=True):
            padding = tuple(1 - extent % 2 for extent in size)
            layers += [nn.ConvTranspose2d(before, after, 3, 2, 1, padding), activation()]
        self.layers = nn.Sequential(*layers[:-1])

    @torch.no_grad()
    def start_at(self, outputs: Tensor, share: float | Tensor = 1.0) -> None:
        """Set the bias of the last layer: the channels' means of some outputs.

        Args:
            outputs: numbers of an image's pixels, in the shape of an event
                followed by the pixels' numbers, or flat.
            share: of the last layer's random weights that is left.
        """
        last = self.layers[-1]
        assert isinstance(last, nn.ConvTranspose2d)
        assert last.bias is not None
        last.weight.mul_(share)
        last.bias.copy_(outputs.reshape(self.colours, -1, self.event[-1]).mean(1).flatten())

    def forward(self, z: Tensor) -> Tensor:
        """Map vectors.

        Args:
            z: (rows, inputs).

        Returns:
            (rows,) + shape + (num_parameters,).
        """
        images: Tensor = self.layers(z)
        return images.unflatten(1, (self.colours, -1)).movedim(2, -1).reshape(len(z), *self.event)


def check_image(
    shape: Sequence[int],
    channels: Sequence[int],
    **sizes: int,
) -> tuple[int, int, int]:
    """Colours, height and width of an image, after a look at what comes with it.

    Args:
        shape: of an image.
        channels: of the convolutions.
        **sizes: other numbers that must be at least 1.

    Raises:
        ValueError: something is off.
    """
    shape = whole_numbers("shape", shape)
    full_shape = (1, *shape) if len(shape) == 2 else shape
    if len(full_shape) != 3:
        raise ValueError(
            f"`shape` must be (height, width) or (colours, height, width), got {shape}"
        )
    whole_numbers("channels", channels)
    for name, size in sizes.items():
        whole_number(name, size)
    return full_shape[0], full_shape[1], full_shape[2]


def halved(size: int, times: int) -> list[int]:
    """A side of the image after 0, 1, ... halvings, each rounded up."""
    sizes = [size]
    for _ in range(times):
        sizes.append((sizes[-1] + 1) // 2)
    return sizes


__all__ = ["ConvolutionalDecoder", "ConvolutionalEncoder"]
