"""Networks that read one feature a step and carry a state.

Recurrent ones, and causal transformers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from pyro_gen._arguments import whole_number
from pyro_gen._module import Module
from pyro_gen._transforms import batched
from pyro_gen.distributions.autoregressive.conditionals import Conditional
from pyro_gen.nn.autoregressive.base import BERNOULLI, AutoregressiveNetwork, context_map

State = list[Tensor]


class Core(Module):
    """Interface of a sequence model.

    The inputs of all steps to their outputs, each from those up to it.
    """

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (n, steps, features) of inputs (n, steps, width)."""

    @abstractmethod
    def start(self, inputs: Tensor) -> State:
        """The state before the first step, for inputs like (n, width)."""

    @abstractmethod
    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """Output (n, features) of one more input (n, width), and the state after it."""


class Recurrence(Core):
    """Layers of gated recurrent units or of LSTM cells."""

    def __init__(
        self, width: int, hidden_features: int, num_layers: int, cell: Literal["gru", "lstm"]
    ) -> None:
        super().__init__()
        num_layers = whole_number("num_layers", num_layers)
        if cell not in ("gru", "lstm"):
            raise ValueError(f"`cell` must be 'gru' or 'lstm', got {cell!r}")
        kind = nn.GRU if cell == "gru" else nn.LSTM
        self.cells: nn.GRU | nn.LSTM = kind(width, hidden_features, num_layers, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """All steps, from a state of zeros."""
        return self._run(inputs, self.start(inputs))[0]

    def start(self, inputs: Tensor) -> State:
        """Zeros: the hidden units, and an LSTM's cells."""
        zeros = inputs.new_zeros(self.cells.num_layers, len(inputs), self.cells.hidden_size)
        if isinstance(self.cells, nn.GRU):
            return [zeros]
        return [zeros, zeros]

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of the cells."""
        outputs, state = self._run(inputs.unsqueeze(1), state)
        return outputs.squeeze(1), state

    def _run(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        if not len(inputs):  # torch's cells refuse to run on no rows
            return inputs.new_zeros(*inputs.shape[:-1], self.cells.hidden_size), state
        if batched([inputs]) or batched(
            getattr(self.cells, name) for name in self.cells._flat_weights_names
        ):
            return self._stepwise(inputs, state)
        if isinstance(self.cells, nn.GRU):
            outputs, hidden = self.cells(inputs, state[0])
            return outputs, [hidden]
        outputs, last = self.cells(inputs, tuple(state))
        return outputs, list(last)

    def _stepwise(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """The equations of the cells as torch documents them.

        Its own ops have no rule for vmap.
        """
        last: list[list[Tensor]] = []
        for layer in range(self.cells.num_layers):
            names = (
                f"{kind}_l{layer}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            into, over, bias, hidden_bias = (getattr(self.cells, name) for name in names)
            cell = [part[layer] for part in state]
            outputs = []
            for driven in (inputs @ into.mT + bias).unbind(1):
                cell = self._cell(driven, cell[0] @ over.mT + hidden_bias, cell)
                outputs.append(cell[0])
            inputs = torch.stack(outputs, 1)
            last.append(cell)
        return inputs, [torch.stack(gates) for gates in zip(*last, strict=True)]

    def _cell(self, driven: Tensor, recurrent: Tensor, state: State) -> State:
        """One step of a layer from what its input and its own last output give."""
        if isinstance(self.cells, nn.GRU):
            reset, update, new = driven.chunk(3, -1)
            reset_kept, update_kept, new_kept = recurrent.chunk(3, -1)
            share = (update + update_kept).sigmoid()
            candidate = (new + (reset + reset_kept).sigmoid() * new_kept).tanh()
            return [candidate + share * (state[0] - candidate)]
        into, forget, new, out = (driven + recurrent).chunk(4, -1)
        memory = forget.sigmoid() * state[1] + into.sigmoid() * new.tanh()
        return [out.sigmoid() * memory.tanh(), memory]


def _attention(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> Tensor:
    """Scaled dot-product attention; torch's fused kernel for the CPU has no rule of vmap."""
    if not batched([query, key, value]):
        return scaled_dot_product_attention(query, key, value, is_causal=is_causal)
    with sdpa_kernel(SDPBackend.MATH):
        return scaled_dot_product_attention(query, key, value, is_causal=is_causal)


class Block(Module):
    """A transformer's layer: attention to the steps so far, then a small network.

    Both add to what comes in.
    """

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width)
        )

    def forward(self, x: Tensor, past: State | None = None) -> tuple[Tensor, State]:
        """Outputs of steps (n, steps, width), and all keys and values.

        With a past, of the one step that follows it.
        """
        query, *new = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.project(self.attention_norm(x)).chunk(3, -1)
        )
        if past is not None:
            new = [torch.cat(pair, 2) for pair in zip(past, new, strict=True)]
        key, value = new
        attended = _attention(query, key, value, is_causal=past is None)
        x = x + self.join(attended.transpose(1, 2).flatten(2))
        return x + self.feedforward(self.norm(x)), [key, value]


class Attention(Core):
    """Layers of attention, normalised before each part and after the last."""

    def __init__(
        self, hidden_features: int, heads: int, num_layers: int, feedforward: int | None
    ) -> None:
        super().__init__()
        heads = whole_number("heads", heads)
        num_layers = whole_number("num_layers", num_layers)
        if feedforward is None:
            feedforward = 4 * hidden_features
        feedforward = whole_number("feedforward", feedforward)
        if hidden_features % heads:
            raise ValueError(
                f"`heads` must divide `hidden_features`, got {heads} and {hidden_features}"
            )
        self.heads = heads
        self.blocks = nn.ModuleList(
            Block(hidden_features, heads, feedforward) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """All steps at once, none of which sees a later one."""
        for block in self.blocks:
            inputs, _ = block(inputs)
        outputs: Tensor = self.norm(inputs)
        return outputs

    def start(self, inputs: Tensor) -> State:
        """No keys and no values."""
        nothing = inputs.new_zeros(len(inputs), self.heads, 0, inputs.shape[-1] // self.heads)
        return [nothing] * (2 * len(self.blocks))

    def step(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One query a layer, to the keys and values of all steps so far."""
        x = inputs.unsqueeze(1)
        after = []
        for number, block in enumerate(self.blocks):
            x, cached = block(x, state[2 * number : 2 * number + 2])
            after += cached
        return self.norm(x).squeeze(1), after


class StepwiseNetwork(AutoregressiveNetwork):
    r"""Base of the networks that read the features one a step.

    The input of a step is the feature before it.

    .. math:: u_k = e_k + E_{k-1} x_{k-1} + C c, \qquad h_k = \text{core}(u_1, \dots, u_k), \qquad
              f_k = b_k + V_k h_k

    Args:
        features: number of features, or the shape of an event.
        core: what turns u into h.
        width: of u.
        hidden_features: of h.
        context: width of the context.
        order: features in the order of generation.
        conditional: the family of the conditional distributions.
        shared: whether E and V are the same at all steps, as suits sequences,
            and e but for the first.
        bias: whether each distribution has biases b of its own.
    """

    def __init__(
        self,
        features: int | Sequence[int],
        core: Core,
        width: int,
        hidden_features: int,
        context: int,
        order: Sequence[int] | Tensor | None,
        conditional: Conditional,
        *,
        shared: bool,
        bias: bool = True,
    ) -> None:
        super().__init__(features, context, order, conditional, bias=bias)
        self.shared = shared
        self.core = core
        steps = 1 if shared else self.features
        biases = 2 if shared else self.features
        self.embedding = nn.Parameter(
            torch.empty(min(self.features - 1, steps), conditional.width, width)
        )
        self.step_bias = nn.Parameter(torch.empty(min(self.features, biases), width))
        self.output = nn.Parameter(torch.empty(steps, hidden_features, conditional.num_parameters))
        self.input_from_context = context_map(context, width)
        nn.init.normal_(self.embedding, std=1 / math.sqrt(conditional.width))
        nn.init.normal_(self.step_bias, std=0.1)
        nn.init.normal_(self.output, std=0.1 / math.sqrt(hidden_features))

    def readout(self) -> Sequence[Tensor]:
        """Output weights V."""
        return (self.output,)

    def _inputs(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Inputs of all steps, (n, features, width), of which the last feature is never part."""
        embedded = torch.einsum(
            "nkw,kwe->nke", x[:, :-1], self.embedding.expand(self.features - 1, -1, -1)
        )
        embedded = torch.cat([embedded.new_zeros(len(x), 1, embedded.shape[-1]), embedded], 1)
        rows = torch.arange(self.features, device=x.device).clamp(max=len(self.step_bias) - 1)
        return embedded + self.step_bias[rows] + self._drive(context)

    def _drive(self, context: Tensor | None) -> Tensor:
        """Contribution of the context to each input, with a place for the steps."""
        drive = self._mapped(self.input_from_context, context)
        if drive is None:
            return self.example.new_zeros(())
        return drive.unsqueeze(1)

    def network(self, x: Tensor, context: Tensor | None) -> Tensor:
        """All steps at once."""
        hidden = self.core(self._inputs(x, context))
        return torch.einsum("nkh,khp->nkp", hidden, self.output.expand(self.features, -1, -1))

    def first(self, rows: int, context: Tensor | None) -> tuple[Tensor, Any]:
        """The state is the core's."""
        drive = self._drive(context)
        inputs = (self.step_bias[:1] + drive).view(-1, self.step_bias.shape[-1]).expand(rows, -1)
        return self._step(inputs, self.core.start(inputs), drive, 0)

    def after(self, state: Any, value: Tensor, position: int) -> tuple[Tensor, Any]:
        """One step of the core."""
        inner, drive = state
        inputs = self.encode(value) @ self.embedding[min(position, len(self.embedding)) - 1]
        inputs = inputs + self.step_bias[min(position, len(self.step_bias) - 1)]
        if drive.dim():
            inputs = inputs + drive[:, 0]
        return self._step(inputs, inner, drive, position)

    def _step(
        self, inputs: Tensor, inner: State, drive: Tensor, position: int
    ) -> tuple[Tensor, Any]:
        hidden, inner = self.core.step(inputs, inner)
        return hidden @ self.output[min(position, len(self.output) - 1)], (inner, drive)


class RecurrentAR(StepwiseNetwork):
    r"""A recurrent network that reads the features in their order.

    Its state gives each distribution.

    .. math:: h_k = \text{cell}(e_k + E_{k-1} x_{k-1} + C c, h_{k-1}), \qquad f_k = b_k + V_k h_k

    Generation carries the state: each step costs the same, however many
    features came before.

    Args:
        features: number of features D, or the shape of an event.
        hidden_features: units of each layer of cells.
        num_layers: layers of cells.
        context: width of the context, which every step sees.
        order: features in the order of generation.
        conditional: the family of the conditional distributions.
        cell: gated recurrent units (``"gru"``) or long short-term memory
            (``"lstm"``).
        shared: whether E and V are the same for all features, as suits
            sequences of like things; otherwise each feature has its own, as in
            NADE. Cells and C are always shared.

    Raises:
        ValueError: a number is too small, or there is no such cell.

    References:
        Cho et al. (2014), Learning phrase representations using RNN
        encoder-decoder, section 2.3. Hochreiter and Schmidhuber (1997), Long
        short-term memory.

    Example:
        >>> density = RecurrentAR(4, 8)()
        >>> round(density.log_prob(density.enumerate_support()).exp().sum().item(), 4)
        1.0
    """

    def __init__(
        self,
        features: int | Sequence[int],
        hidden_features: int,
        num_layers: int = 1,
        context: int = 0,
        order: Sequence[int] | Tensor | None = None,
        conditional: Conditional = BERNOULLI,
        cell: Literal["gru", "lstm"] = "gru",
        *,
        shared: bool = False,
    ) -> None:
        hidden_features = whole_number("hidden_features", hidden_features)
        core = Recurrence(hidden_features, hidden_features, num_layers, cell)
        super().__init__(
            features,
            core,
            hidden_features,
            hidden_features,
            context,
            order,
            conditional,
            shared=shared,
        )


class CausalTransformer(StepwiseNetwork):
    r"""A transformer in which each feature's distribution attends to the features before it.

    .. math:: z_k = e_k + E_{k-1} x_{k-1} + C c, \qquad
              z_k \leftarrow z_k + \text{attention}(z_k; z_1, \dots, z_k), \quad
              z_k \leftarrow z_k + \text{MLP}(z_k),
              \qquad f_k = b_k + V_k z_k

    with layer normalisation before each part and after the last. Generation
    keeps the keys and values of all steps, so that a step attends to them but
    computes itself only.

    Args:
        features: number of features D, or the shape of an event.
        hidden_features: of z.
        heads: of attention; divides ``hidden_features``.
        num_layers: of attention and MLP.
        context: width of the context, which every step sees.
        order: features in the order of generation.
        conditional: the family of the conditional distributions.
        feedforward: hidden units of each MLP; None for four times
            ``hidden_features``.
        shared: whether E and V are the same for all features; the places e are
            told apart in either case.

    Raises:
        ValueError: a number is too small, or ``heads`` does not divide
            ``hidden_features``.

    References:
        Vaswani et al. (2017), Attention is all you need. Radford et al. (2019),
        Language models are unsupervised multitask learners, section 2.3
        (normalisation).

    Example:
        >>> density = CausalTransformer(4, 8, heads=2, num_layers=1)()
        >>> round(density.log_prob(density.enumerate_support()).exp().sum().item(), 4)
        1.0
    """

    def __init__(
        self,
        features: int | Sequence[int],
        hidden_features: int,
        heads: int = 4,
        num_layers: int = 2,
        context: int = 0,
        order: Sequence[int] | Tensor | None = None,
        conditional: Conditional = BERNOULLI,
        feedforward: int | None = None,
        *,
        shared: bool = False,
    ) -> None:
        hidden_features = whole_number("hidden_features", hidden_features)
        core = Attention(hidden_features, heads, num_layers, feedforward)
        super().__init__(
            features,
            core,
            hidden_features,
            hidden_features,
            context,
            order,
            conditional,
            shared=shared,
        )
        if shared:  # attention by itself knows no places
            self.step_bias = nn.Parameter(torch.randn(self.features, hidden_features) * 0.1)


__all__ = ["CausalTransformer", "Core", "Recurrence", "RecurrentAR", "StepwiseNetwork"]
