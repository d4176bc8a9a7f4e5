"""Images pixel after pixel by masked convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Size, Tensor, nn
from torch.nn.functional import pad

from pyro_gen._arguments import whole_number, whole_numbers
from pyro_gen.distributions.autoregressive.conditionals import Conditional
from pyro_gen.nn.autoregressive.base import BERNOULLI, AutoregressiveNetwork
from pyro_gen.nn.autoregressive.convolutions import (
    ConvolutionLayer,
    ConvolutionState,
    FirstLayer,
    GatedLayer,
    Head,
    LayerState,
    MaskedConvolution,
    ResidualBlock,
    colours_of,
)


class Canvas(NamedTuple):
    """State of a partial image.

    What each layer keeps of the rows above, of the row, and of the pixel.
    """

    layers: tuple[LayerState, ...]
    head: tuple[ConvolutionState, ...]
    context: Tensor | None


class PixelCNN(AutoregressiveNetwork):
    r"""Images in raster order, by convolutions that see the pixels before each.

    .. math:: p(x | c) = \prod_{i=1}^{\text{rows} \cdot \text{columns}}
              p(x_{i,R} | x_{<i}, c) \, p(x_{i,G} | x_{<i}, x_{i,R}, c) \,
              p(x_{i,B} | x_{<i}, x_{i,R}, x_{i,G}, c)

    Rows from above, pixels from the left; the colours of a pixel, three as
    above or any number, follow one another in their order. What context adds
    enters every layer (in the gated network: every gate) and the parameters.

    The plain network has a **blind spot**: a convolution reaches at most
    ``kernel_size // 2`` columns to the right for each row up, so that earlier
    pixels further to the right are never seen, however deep the network. The
    gated one has none: it sees all earlier pixels once ``(num_layers - 1) *
    (kernel_size // 2) + first_kernel_size // 2`` is as large as the image.

    Besides the published network, every pixel has a bias of its own, which
    starts at the marginal distributions with :meth:`from_data`.

    Args:
        shape: of an image, (rows, columns) or (colours, rows, columns).
        hidden_channels: channels of the layers, shared out among the colours.
        num_layers: number of layers, the first one included.
        kernel_size: width of the convolutions, odd.
        first_kernel_size: width of the first one, odd.
        gated: two stacks of gated layers without a blind spot, or one stack of
            residual blocks.
        context: width of the context.
        conditional: the family of the conditional distributions.

    Raises:
        ValueError: ``shape`` has neither two nor three sides, a kernel is not
            odd or below 3, there is no layer, or fewer hidden channels than
            colours.

    References:
        van den Oord, Kalchbrenner and Kavukcuoglu (2016), Pixel recurrent
        neural networks, section 3. van den Oord, Kalchbrenner, Vinyals,
        Espeholt, Graves and Kavukcuoglu (2016), Conditional image generation
        with PixelCNN decoders, section 2.

    Example:
        >>> images = PixelCNN((2, 2), 4, 2)()
        >>> round(images.log_prob(images.enumerate_support()).exp().sum().item(), 4)
        1.0
        >>> PixelCNN((3, 1, 2), 6, 2).order.tolist()  # the colours of a pixel, then the next pixel
        [0, 2, 4, 1, 3, 5]
    """

    def __init__(
        self,
        shape: Sequence[int],
        hidden_channels: int = 32,
        num_layers: int = 8,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
        gated: bool = True,
        context: int = 0,
        conditional: Conditional = BERNOULLI,
    ) -> None:
        sides = Size(whole_numbers("shape", shape))
        _check_sizes(sides, hidden_channels, num_layers, kernel_size, first_kernel_size)
        self.colours = sides[0] if len(sides) == 3 else 1
        order = torch.arange(sides.numel()).view(self.colours, -1).T.flatten()
        super().__init__(sides, context, order, conditional)
        self.rows, self.columns, self.hidden_channels, self.gated = (
            *sides[-2:],
            hidden_channels,
            gated,
        )
        inputs = colours_of(self.colours * conditional.width, self.colours)
        hidden = colours_of(hidden_channels, self.colours)
        layer_list: list[ConvolutionLayer]
        if gated:
            layer_list = [GatedLayer(inputs, hidden, first_kernel_size, context, first=True)]
            layer_list += [
                GatedLayer(hidden, hidden, kernel_size, context, first=False)
                for _ in range(num_layers - 1)
            ]
        else:
            layer_list = [FirstLayer(inputs, hidden, first_kernel_size, context)]
            layer_list += [
                ResidualBlock(hidden, kernel_size, context) for _ in range(num_layers - 1)
            ]
        self.layers = nn.ModuleList(layer_list)
        self.head = Head(
            hidden, colours_of(self.colours * conditional.num_parameters, self.colours)
        )

    @property
    def num_parameters(self) -> int:
        """Numbers that are learned; masked weights are not counted."""
        return super().num_parameters - sum(
            m.num_masked for m in self.modules() if isinstance(m, MaskedConvolution)
        )

    def network(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Both stacks over whole images."""
        width = self.colours * x.shape[-1]
        outputs = self.conditional.num_parameters
        # Channels are last in memory.
        x = x.reshape(len(x), self.rows, self.columns, width).permute(0, 3, 1, 2)
        context = None if context is None else context.to(self.example.dtype)
        v = pad(x, (0, 0, 1, -1))  # at each row the image above it
        for layer in self.layers:
            x, v = layer(x, v, context)
        parameters: Tensor = self.head(x)
        return parameters.permute(0, 2, 3, 1).reshape(len(x), self.features, outputs)

    def first(self, rows: int, context: Tensor | None) -> tuple[Tensor, Canvas]:
        """The state is an image of which nothing is drawn yet."""
        context = None if context is None else context.to(self.example.dtype)
        states = tuple(layer.begin(rows, self.columns) for layer in self._layers())
        line = self.example.new_zeros(rows, self.colours * self.conditional.width, 1, self.columns)
        return self._distribution(
            self._next_row(Canvas(states, self.head.begin(), context), line), 0, 0
        )

    def after(self, state: Canvas, value: Tensor, position: int) -> tuple[Tensor, Canvas]:
        """Add a colour to its pixel.

        A finished pixel joins its row, a finished row the vertical stack.
        """
        pixel, colour = divmod(position, self.colours)
        first = state.layers[0].with_input(self.encode(value))
        state = state._replace(layers=(first, *state.layers[1:]))
        if colour == 0:
            layers = tuple(layer_state.next_pixel() for layer_state in state.layers)
            head = tuple(trace.next_pixel() for trace in state.head)
            state = Canvas(layers, head, state.context)
            if pixel % self.columns == 0:
                line = torch.stack(layers[0].traces[0].past, -1).unsqueeze(2)
                state = self._next_row(state, line)
        return self._distribution(state, colour, pixel % self.columns)

    def _layers(self) -> list[ConvolutionLayer]:
        return [layer for layer in self.layers if isinstance(layer, ConvolutionLayer)]

    def _next_row(self, canvas: Canvas, line: Tensor) -> Canvas:
        """All that depends on the rows above alone, for a whole row."""
        states = []
        for layer, old in zip(self._layers(), canvas.layers, strict=True):
            new, line = layer.next_row(old, line, canvas.context)
            states.append(new)
        return canvas._replace(layers=tuple(states))

    def _distribution(self, canvas: Canvas, colour: int, column: int) -> tuple[Tensor, Canvas]:
        """Parameters for one colour of the present pixel, and what the layers computed for it."""
        states = []
        new = None
        for layer, old in zip(self._layers(), canvas.layers, strict=True):
            layer_kept, new = layer.step(old, new, colour, column)
            states.append(layer_kept)
        if new is None:
            raise RuntimeError("a PixelCNN has at least one layer")
        head, parameters = self.head.step(canvas.head, new, colour)
        return parameters, Canvas(tuple(states), head, canvas.context)

    def readout(self) -> Sequence[Tensor]:
        """The last convolution."""
        return (self.head.out.weight,)

    def start_at(self, x: Tensor) -> None:
        """Set the biases to the marginal distributions of data.

        The rest of the parameters' network becomes zero.

        Args:
            x: images, (n,) + shape; of real ones the rest becomes small.
        """
        super().start_at(x)
        if self.standard is None:
            nn.init.zeros_(self.head.out.weight)

    def extra_repr(self) -> str:
        """Shape of the images."""
        return f"shape={tuple(self.event_shape)}, gated={self.gated}"


def _check_sizes(
    shape: Size, hidden_channels: int, num_layers: int, kernel_size: int, first_kernel_size: int
) -> None:
    if len(shape) not in (2, 3):
        raise ValueError(
            f"`shape` must be (rows, columns) or (colours, rows, columns), got {tuple(shape)}"
        )
    for name, size in (("kernel_size", kernel_size), ("first_kernel_size", first_kernel_size)):
        if whole_number(name, size) < 3 or size % 2 == 0:
            raise ValueError(f"`{name}` must be odd and at least 3, got {size}")
    whole_number("num_layers", num_layers)
    colours = shape[0] if len(shape) == 3 else 1
    if whole_number("hidden_channels", hidden_channels) < max(colours, 1):
        raise ValueError(
            f"`hidden_channels` must be at least {max(colours, 1)}, one a colour, got "
            f"{hidden_channels}"
        )


__all__ = ["PixelCNN"]
