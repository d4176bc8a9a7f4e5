"""Layers of a PixelCNN.

Each runs over a whole image at once, or for one colour of one pixel with what
it kept.

Channels belong to colours, in blocks: those of colour g are computed from the
pixels before and, at the pixel itself, from the colours up to g. Images are (n,
channels, rows, columns), in memory with the channels last, which is what the
convolutions of the CPU are fast with.
"""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, relu

from pyro_gen._module import Module
from pyro_gen.nn.autoregressive.base import context_map


def colours_of(channels: int, colours: int) -> Tensor:
    """The colour to which each channel belongs, (channels,).

    Blocks are as even as can be.
    """
    return torch.arange(channels) * colours // channels


def gated(x: Tensor, dim: int = 1) -> Tensor:
    """The gate tanh(a / 2) sigmoid(b) for the halves a, b of the channels.

    The half only rescales weights; tanh by way of the sigmoid is what makes a
    gate four times as fast on the CPU.
    """
    a, b = x.sigmoid().chunk(2, dim)
    return (2 * a - 1) * b


class ConvolutionState(NamedTuple):
    """Memory of a masked convolution.

    The inputs so far in this row, and the sum from the rows above.

    ``matrices`` and ``added`` have an entry for each colour; ``added`` is
    (columns or 1, n or 1, outputs).
    """

    left: int
    matrices: tuple[Tensor, ...]
    added: tuple[Tensor, ...]
    past: tuple[Tensor, ...] = ()
    """Inputs at the finished pixels of the row, (n, inputs) each."""
    pixel: tuple[Tensor, ...] = ()
    """Inputs at the present pixel, one tensor a colour."""

    def with_input(self, new: Tensor) -> ConvolutionState:
        """One colour more at the present pixel."""
        return self._replace(pixel=(*self.pixel, new))

    def next_pixel(self) -> ConvolutionState:
        """All colours of the pixel are there."""
        if not self.left:
            return self._replace(past=(), pixel=())
        return self._replace(past=(*self.past, torch.cat(self.pixel, -1)), pixel=())

    def output(self, colour: int, column: int) -> Tensor:
        """The outputs of one colour at the present pixel, (n, outputs)."""
        past = self.past[max(len(self.past) - self.left, 0) :]
        added = self.added[colour]
        bias = added[column % len(added)]
        if not past and not self.pixel:
            return bias
        x = torch.cat([*past, *self.pixel], -1)
        # Nothing is left of the image's border.
        return torch.addmm(bias, x, self.matrices[colour][-x.shape[-1] :])


class MaskedConvolution(Module):
    """A convolution over the pixels before, and the colours before at the pixel.

    The pixels before are those in the rows above and to the left.

    Args:
        inputs: colour of each input channel.
        outputs: colour of each output channel.
        above: rows above that are seen, over ``left`` columns to both sides.
        left: pixels to the left that are seen.
        strict: whether an output sees at its pixel the colours before its own
            only (mask A), or its own too (mask B).
    """

    mask: Tensor

    def __init__(
        self,
        inputs: Tensor,
        outputs: Tensor,
        above: int = 0,
        left: int = 0,
        *,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.above = above
        self.left = left
        columns = 2 * left + 1 if above else left + 1
        mask = torch.ones(len(outputs), len(inputs), above + 1, columns, dtype=torch.bool)
        visible = inputs < outputs.unsqueeze(-1) + (not strict)
        mask[:, :, -1, left] = visible
        mask[:, :, -1, left + 1 :] = False
        self.register_buffer("mask", mask, persistent=False)
        self.blocks = colour_slices(outputs)
        self.seen = tuple(
            int((inputs < colour + (not strict)).sum()) for colour in range(len(self.blocks))
        )
        sources = mask.flatten(1).sum(1).clamp(min=1)
        self.weight = nn.Parameter(torch.randn(mask.shape) / sources.sqrt().view(-1, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(len(outputs)))

    @property
    def num_masked(self) -> int:
        """Weights that are never used."""
        return int((~self.mask).sum())

    def masked(self) -> Tensor:
        """The weights, zero where the mask is."""
        return torch.where(self.mask, self.weight, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Over a whole image."""
        right = self.weight.shape[-1] - 1 - self.left
        return conv2d(bordered(x, self.left, right, self.above), self.masked(), self.bias)

    def from_above(self, rows: Tensor) -> Tensor:
        """Sum of the ``above`` rows before a row, bias included: (n, outputs, 1, columns)."""
        return conv2d(bordered(rows, self.left, self.left, 0), self.weight[:, :, :-1], self.bias)

    def trace(self) -> ConvolutionState:
        """State before the first row: the biases alone."""
        # Each is (inputs, left + 1, outputs).
        rows = self.split(self.masked()[:, :, -1, : self.left + 1].movedim(0, -1))
        # Inputs of a matrix stand pixel after pixel.
        matrices = (
            torch.cat([kernel[:, :-1].transpose(0, 1).flatten(0, 1), kernel[:visible, -1]])
            for kernel, visible in zip(rows, self.seen, strict=True)
        )
        return ConvolutionState(self.left, tuple(matrices), self.split(self.bias.view(1, 1, -1)))

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Output channels, the last dimension, by colour."""
        return tuple(torch.cat([x[..., block] for block in blocks], -1) for blocks in self.blocks)


class LayerState(NamedTuple):
    """Memory of a layer while an image is drawn.

    Rows above that it needs (n, inputs, rows, columns), and traces.
    """

    rows: Tensor
    traces: tuple[ConvolutionState, ...]

    def next_pixel(self) -> LayerState:
        """The pixel is finished."""
        return self._replace(traces=tuple(trace.next_pixel() for trace in self.traces))

    def with_input(self, new: Tensor) -> LayerState:
        """The first convolution sees one colour more."""
        return self._replace(traces=(self.traces[0].with_input(new), *self.traces[1:]))


class ConvolutionLayer(Module):
    """Base of the layers: ``first`` ones see an image by mask A, the others add to their input.

    Args:
        inputs: colour of each input channel.
        hidden: colour of each output channel.
        kernel_size: odd width of the convolution.
        first: whether this is the first layer.
    """

    def __init__(self, inputs: Tensor, hidden: Tensor, kernel_size: int, *, first: bool) -> None:
        super().__init__()
        self.reach = kernel_size // 2
        self.is_first = first
        self.width = len(inputs)
        self.hidden = len(hidden)

    def forward(self, x: Tensor, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Over a whole image.

        What each pixel knows of those before it, and what it knows of the rows
        above.
        """
        raise NotImplementedError

    def convolutions(self) -> tuple[MaskedConvolution, ...]:
        """Those that are traced, the one with a neighbourhood first."""
        raise NotImplementedError

    def begin(self, n: int, columns: int) -> LayerState:
        """Empty rows above the image."""
        traces = tuple(convolution.trace() for convolution in self.convolutions())
        return LayerState(
            traces[0].matrices[0].new_zeros(n, self.seen, self.reach, columns), traces
        )

    @property
    def seen(self) -> int:
        """Channels of the rows that are kept."""
        return self.width

    def next_row(
        self, state: LayerState, line: Tensor, context: Tensor | None
    ) -> tuple[LayerState, Tensor]:
        """Begin a row below ``line`` (n, inputs, 1, columns).

        What all its pixels get from above, at once.
        """
        raise NotImplementedError

    def step(
        self, state: LayerState, new: Tensor | None, colour: int, column: int
    ) -> tuple[LayerState, Tensor]:
        """The outputs of one colour at the present pixel.

        ``new`` holds the inputs of that colour; None for mask A.
        """
        raise NotImplementedError


class GatedLayer(ConvolutionLayer):
    r"""Two stacks without a blind spot.

    The vertical one sees all rows above, the horizontal one its row so far.

    .. math:: V = W_v * v, \quad v' = v + g(V + A_v c), \quad
              x' = x + W_o \, g(W_h * x + W_l V + A_h c)

    with the gate g(a, b) = tanh(a / 2) sigmoid(b).

    References:
        van den Oord et al. (2016), Conditional image generation with PixelCNN
        decoders, figure 2 and equation 4; the sum along the vertical stack is
        added here, as signals fade in a deep one without it.
    """

    def __init__(
        self, inputs: Tensor, hidden: Tensor, kernel_size: int, context: int, *, first: bool
    ) -> None:
        super().__init__(inputs, hidden, kernel_size, first=first)
        gates = torch.cat([hidden, hidden])
        width = 2 * self.hidden
        self.vertical = nn.Conv2d(self.width, width, (self.reach + 1, kernel_size))
        self.link = nn.Conv2d(width, width, 1, bias=False)
        self.horizontal = MaskedConvolution(inputs, gates, 0, self.reach, strict=first)
        self.mixed = MaskedConvolution(hidden, hidden)
        self.from_context = context_map(context, 2 * width)
        for convolution in (self.vertical, self.link):
            nn.init.normal_(convolution.weight, std=convolution.weight[0].numel() ** -0.5)

    def convolutions(self) -> tuple[MaskedConvolution, ...]:
        """The horizontal one, and that behind its gate."""
        return self.horizontal, self.mixed

    def _shifts(self, context: Tensor | None) -> tuple[Tensor | float, Tensor | float]:
        """Contributions of the context to the vertical and the horizontal gate."""
        if self.from_context is None or context is None:
            return 0.0, 0.0
        vertical, horizontal = self.from_context(context)[..., None, None].chunk(2, 1)
        return vertical, horizontal

    def _down(self, fields: Tensor, v: Tensor, shift: Tensor | float) -> Tensor:
        """The vertical stack goes on."""
        if not isinstance(shift, float):
            fields = fields + shift
        return self._added(v, gated(fields))

    def _added(self, x: Tensor, new: Tensor) -> Tensor:
        """The output of a stack: the first layer does not add to its input."""
        if self.is_first:
            return new
        return x + new

    def forward(self, x: Tensor, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both stacks over a whole image."""
        down, across = self._shifts(context)
        fields = self.vertical(bordered(v, self.reach, self.reach, self.reach))
        new = self.mixed(gated(self.horizontal(x) + self.link(fields) + across))
        return self._added(x, new), self._down(fields, v, down)

    def next_row(
        self, state: LayerState, line: Tensor, context: Tensor | None
    ) -> tuple[LayerState, Tensor]:
        """One row of the vertical stack."""
        down, across = self._shifts(context)
        rows = torch.cat([state.rows, line], 2)
        fields = self.vertical(bordered(rows, self.reach, self.reach, 0))
        added = self.link(fields) + across + self.horizontal.bias.view(-1, 1, 1)
        trace = state.traces[0]._replace(added=by_column(self.horizontal, added), past=())
        return LayerState(rows[:, :, 1:], (trace, *state.traces[1:])), self._down(
            fields, line, down
        )

    def step(
        self, state: LayerState, new: Tensor | None, colour: int, column: int
    ) -> tuple[LayerState, Tensor]:
        """One colour of one pixel of the horizontal stack."""
        across, mixed = state.traces
        if new is not None:
            across = across.with_input(new)
        mixed = mixed.with_input(gated(across.output(colour, column), -1))
        out = mixed.output(colour, column)
        return state._replace(traces=(across, mixed)), out if new is None else new + out


class PlainLayer(ConvolutionLayer):
    """A masked convolution that sees the rows above itself; the vertical stack passes it by."""

    convolution: MaskedConvolution
    from_context: nn.Linear | None

    @property
    def seen(self) -> int:
        """Inputs of the convolution."""
        return self.convolution.weight.shape[1]

    def _shift(self, context: Tensor | None) -> Tensor | float:
        """Contribution of the context to the convolution."""
        if self.from_context is None or context is None:
            return 0.0
        shift: Tensor = self.from_context(context)[..., None, None]
        return shift

    def next_row(
        self, state: LayerState, line: Tensor, context: Tensor | None
    ) -> tuple[LayerState, Tensor]:
        """Sum of the rows above for the whole row."""
        trace = state.traces[0]
        rows = state.rows
        if trace.past:
            rows = torch.cat([rows[:, :, 1:], torch.stack(trace.past, -1).unsqueeze(2)], 2)
        added = self.convolution.from_above(rows) + self._shift(context)
        trace = trace._replace(added=by_column(self.convolution, added), past=())
        return LayerState(rows, (trace, *state.traces[1:])), line


class FirstLayer(PlainLayer):
    """The first convolution, with mask A."""

    def __init__(self, inputs: Tensor, hidden: Tensor, kernel_size: int, context: int) -> None:
        super().__init__(inputs, hidden, kernel_size, first=True)
        self.convolution = MaskedConvolution(inputs, hidden, self.reach, self.reach, strict=True)
        self.from_context = context_map(context, self.hidden)

    def convolutions(self) -> tuple[MaskedConvolution, ...]:
        """The one."""
        return (self.convolution,)

    def forward(self, x: Tensor, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Over a whole image."""
        return self.convolution(x) + self._shift(context), v

    def step(
        self, state: LayerState, new: Tensor | None, colour: int, column: int
    ) -> tuple[LayerState, Tensor]:
        """One colour of one pixel."""
        return state, state.traces[0].output(colour, column)


class ResidualBlock(PlainLayer):
    r"""A masked convolution on half as many channels, whose result is added to the input.

    .. math:: x' = x + W_3 \, r(W_2 * r(W_1 \, r(x)) + A c), \qquad r(a) = \max(a, 0)

    References:
        van den Oord, Kalchbrenner and Kavukcuoglu (2016), Pixel recurrent
        neural networks, table 1 and figure 5.
    """

    def __init__(self, hidden: Tensor, kernel_size: int, context: int) -> None:
        super().__init__(hidden, hidden, kernel_size, first=False)
        colours = int(hidden.max()) + 1
        narrow = colours_of(max(self.hidden // 2, colours), colours)
        self.into = MaskedConvolution(hidden, narrow)
        self.convolution = MaskedConvolution(narrow, narrow, self.reach, self.reach)
        self.out = MaskedConvolution(narrow, hidden)
        self.from_context = context_map(context, len(narrow))

    def convolutions(self) -> tuple[MaskedConvolution, ...]:
        """That with a neighbourhood, and those around it."""
        return self.convolution, self.into, self.out

    def forward(self, x: Tensor, v: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Over a whole image."""
        inner = self.convolution(relu(self.into(relu(x)))) + self._shift(context)
        return x + self.out(relu(inner)), v

    def step(
        self, state: LayerState, new: Tensor | None, colour: int, column: int
    ) -> tuple[LayerState, Tensor]:
        """One colour of one pixel."""
        if new is None:
            raise ValueError("`new` must be the inputs of the present colour, got None")
        convolution, into, out = state.traces
        into = into.with_input(relu(new))
        convolution = convolution.with_input(relu(into.output(colour, column)))
        out = out.with_input(relu(convolution.output(colour, column)))
        return state._replace(traces=(convolution, into, out)), new + out.output(colour, column)


class Head(Module):
    """From the last layer's channels to the parameters of each colour's distribution."""

    def __init__(self, hidden: Tensor, outputs: Tensor) -> None:
        super().__init__()
        self.inner = MaskedConvolution(hidden, hidden)
        self.out = MaskedConvolution(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Over a whole image."""
        result: Tensor = self.out(relu(self.inner(relu(x))))
        return result

    def begin(self) -> tuple[ConvolutionState, ...]:
        """State before the first row."""
        return self.inner.trace(), self.out.trace()

    def step(
        self, traces: tuple[ConvolutionState, ...], new: Tensor, colour: int
    ) -> tuple[tuple[ConvolutionState, ...], Tensor]:
        """One colour of one pixel."""
        inner, out = traces
        inner = inner.with_input(relu(new))
        out = out.with_input(relu(inner.output(colour, 0)))
        return (inner, out), out.output(colour, 0)


def colour_slices(outputs: Tensor) -> tuple[tuple[slice, ...], ...]:
    """Channels of each colour, as slices, which no device has to be asked for."""
    slices: list[list[slice]] = [[] for _ in range(int(outputs.max()) + 1)]
    start = 0
    for colour, run in groupby(outputs.tolist()):
        stop = start + len(list(run))
        slices[colour].append(slice(start, stop))
        start = stop
    return tuple(tuple(colour_slices) for colour_slices in slices)


def bordered(x: Tensor, left: int, right: int, above: int) -> Tensor:
    """With zeros around; the same tensor where none are asked for."""
    if left or right or above:
        return pad(x, (left, right, above, 0))
    return x


def by_column(convolution: MaskedConvolution, added: Tensor) -> tuple[Tensor, ...]:
    """A tensor (columns, n, outputs of the colour) for each colour.

    From one (n, outputs, 1, columns).
    """
    return convolution.split(added.squeeze(2).permute(2, 0, 1))


__all__ = [
    "ConvolutionLayer",
    "ConvolutionState",
    "FirstLayer",
    "GatedLayer",
    "Head",
    "LayerState",
    "MaskedConvolution",
    "ResidualBlock",
    "colours_of",
]
