"""The conditional RBM: an RBM whose biases come from a network of the context."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen._arguments import whole_number
from pyro_gen._transforms import wrapped
from pyro_gen.distributions.arguments import check_classes
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.log_z.energy import Energy
from pyro_gen.distributions.log_z.misuse import FirstOrder
from pyro_gen.distributions.log_z.negative_phase import (
    ContrastiveDivergence,
    NegativePhase,
    Scored,
    check_plain_phase,
)
from pyro_gen.distributions.log_z.partition import Partition
from pyro_gen.kernels import rbm_gibbs
from pyro_gen.nn.chains import PhaseModule, check_finite


class ConditionalRBM(PhaseModule):
    r"""An RBM over v whose biases depend on a context c through a network; the weight is shared.

    .. math:: p(v | c) = \frac{1}{Z(c)} \sum_h e^{(a + \alpha(c)) \cdot v + (b + \beta(c))
        \cdot h + v W h}, \qquad
              (\alpha(c), \beta(c)) = \text{network}(c)

    Calling it with contexts returns :class:`pyro_gen.distributions.RBM` with
    one pair of biases a row. In training mode with gradients enabled log Z(c)
    is replaced row by row: under ``ContrastiveDivergence`` by chains from the
    row itself, under ``PersistentChains`` by one chain for each training row,
    which the call's ``index`` names (``num_chains`` is then the number of
    training rows). ``log_prob`` is then a contrast whose gradient is the
    phase's. In ``eval()`` or under ``no_grad`` it is a log probability, exact
    up to 20 units on the smaller side.

    Args:
        visible: number of visible units.
        hidden: number of hidden units.
        context: numbers in a context.
        network: maps contexts (rows, context) to (rows, visible + hidden); None
            is one linear layer that starts at 0.
        negative_phase: ``ContrastiveDivergence``, ``PersistentChains`` with one
            chain a training row, or a way to know log Z (``Exact``, None).
        evaluation: how log Z is known in ``eval()``: ``Exact`` or None.
        num_steps: Gibbs sweeps of the distribution's ``sample`` where no exact
            draw is possible.

    Raises:
        ValueError: a size is below 1, or a setting does not serve.

    References:
        Taylor, Hinton, Roweis (2007), Modeling human motion using binary latent
        variables. Mnih, Larochelle, Hinton (2011), Conditional restricted
        Boltzmann machines for structured output prediction.

    Example:
        >>> rbm = ConditionalRBM(4, 3, context=2)
        >>> contexts, v = torch.randn(5, 2), torch.ones(5, 4)
        >>> rbm(contexts).log_prob(v).shape, rbm.step.item()
        (torch.Size([5]), 1)
        >>> rbm.eval()(contexts).sample().shape
        torch.Size([5, 4])
    """

    _index: Tensor | None = None
    """Numbers of the rows, in the view of a call."""

    def __init__(
        self,
        visible: int,
        hidden: int,
        context: int,
        network: nn.Module | None = None,
        negative_phase: Partition | None = ContrastiveDivergence(),  # noqa: B008  # an immutable setting
        evaluation: Partition | None = None,
        num_steps: int | None = None,
    ) -> None:
        super().__init__(negative_phase, evaluation, num_steps)
        visible = whole_number("visible", visible)
        hidden = whole_number("hidden", hidden)
        context = whole_number("context", context)
        if isinstance(evaluation, NegativePhase):
            raise ValueError(f"`evaluation` must know log Z: Exact(...) or None, got {evaluation}")
        check_plain_phase(negative_phase)
        self.context = context
        self.weight = nn.Parameter(0.01 * torch.randn(visible, hidden))
        self.vbias = nn.Parameter(torch.zeros(visible))
        self.hbias = nn.Parameter(torch.zeros(hidden))
        self.network = _linear(context, visible + hidden) if network is None else network
        self._keep_chains(torch.randint(2, (self.num_chains, visible)).to(self.weight.dtype))

    def forward(self, context: Tensor, index: Tensor | None = None) -> distributions.RBM:
        """The distribution of the visible units given contexts.

        Scored first in training mode, it advances the phase.

        Args:
            context: (..., context); while learning under a phase (rows,
                context), one for each row of data.
            index: numbers of the training rows (rows,), whose chains are
                carried on under ``PersistentChains``.

        Returns:
            The distribution, of batch shape (...).

        Raises:
            ValueError: a shape does not fit, ``context`` is not finite,
                ``index`` is missing, or the caller cannot work with a negative
                phase.
            NotImplementedError: a negative phase is to advance in a process
                group of more than one rank.
        """
        if context.shape[-1:] != (self.context,):
            raise ValueError(
                f"`context` must have shape (..., {self.context}), got {tuple(context.shape)}"
            )
        if not wrapped([context]) and not context.isfinite().all():
            raise ValueError("`context` must hold finite numbers, got NaN or infinite ones")
        biases = self.network(context.to(self.weight.dtype))
        sizes = list(self.weight.shape)
        if biases.shape != (*context.shape[:-1], sum(sizes)):
            raise ValueError(
                f"`network` must give shape (..., {sum(sizes)}) for its context, got "
                f"{tuple(biases.shape)}"
            )
        visible, hidden = biases.split(sizes, -1)
        partition = self.partition
        learning = isinstance(partition, NegativePhase)
        weight = self.weight if learning else self.weight.clone()  # a copy, as the biases are
        vbias = self.vbias + visible
        hbias = self.hbias + hidden
        if isinstance(partition, NegativePhase):
            shapes = weight.shape[:-2], vbias.shape[:-1], hbias.shape[:-1]
            batch_shape = torch.broadcast_shapes(*shapes)
            self._check_rows(partition, batch_shape, index)
            # Rows have a context each: the batch holds no components that contrasts would weigh.
            partition = self._defer(partition, batched=True, _index=index)
        return distributions.RBM(weight, vbias, hbias, partition, self.num_steps)

    def _check_rows(
        self, phase: NegativePhase, batch_shape: torch.Size, index: Tensor | None
    ) -> None:
        """Name contexts that are no rows, and numbers that no chains have."""
        if len(batch_shape) != 1:
            raise ValueError(
                f"while learning under {phase} `context` must have shape (rows, {self.context}), "
                "one for each row of "
                f"data, got batch shape {tuple(batch_shape)}"
            )
        if not phase.persistent_chains:
            return
        if index is None or index.shape != batch_shape:
            got = None if index is None else tuple(index.shape)
            raise ValueError(
                f"`index` must number the rows, shape {tuple(batch_shape)}, got {got}"
            )
        check_classes("index", index, len(self.chains))

    @torch.no_grad()
    def _scored(self, distribution: Energy, value: Tensor) -> Scored:
        """The contrast of a call: carried-on chains of the rows, or the key to run chains
        from the data.
        """
        self._rejoin()
        phase = cast(NegativePhase, self.negative_phase)
        (seed, step) = self.key
        check_finite(distribution.parameters, self.named_parameters())
        _check_value(value, distribution)
        particles = None
        index = self._index
        if index is not None and phase.persistent_chains:
            weight, vbias, hbias = (p.detach() for p in distribution.parameters)
            start = self.chains[index]
            particles, _ = rbm_gibbs(
                start, weight, vbias, hbias, phase.num_steps, seed=seed, step=step
            )
            self.chains[index] = particles
        self.step += phase.num_steps
        return None, _RowContrast(phase.num_steps, seed, step, particles)

    def extra_repr(self) -> str:
        """Sizes and settings."""
        visible, hidden = self.weight.shape
        sizes = f"visible={visible}, hidden={hidden}, context={self.context}"
        return f"{sizes}, negative_phase={self.negative_phase}, evaluation={self.evaluation}"


@dataclass(frozen=True, eq=False)
class _RowContrast(Partition):
    """One particle for each row of contexts and data: -F of it replaces that row's log Z."""

    num_steps: int
    seed: int
    step: int
    particles: Tensor | None = field(default=None, repr=False)

    def log_normalizer(self, distribution: Energy, value: Tensor) -> Tensor:
        """Minus the free energy of each row's particle."""
        _check_value(value, distribution)
        if self.particles is not None:
            return FirstOrder.apply(-distribution._free_energy(self.particles))
        return FirstOrder.apply(
            -distribution._free_energy(
                distribution.sweep(value, self.num_steps, self.seed, self.step)
            )
        )

    def log_partition(self, distribution: Energy) -> Estimate:
        """Raises: a contrast is no estimate of log Z."""
        raise ValueError(
            "`log_partition` needs log Z, and a contrast row by row is no estimate of it"
        )


def _check_value(value: Tensor, distribution: Energy) -> None:
    rows = tuple(distribution.batch_shape)
    if tuple(value.shape[:-1]) != rows:
        raise ValueError(
            f"while learning `value` must have a row for each context, {rows}, got "
            f"{tuple(value.shape)}"
        )


def _linear(context: int, out: int) -> nn.Linear:
    """One layer that gives no bias at first."""
    layer = nn.Linear(context, out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


__all__ = ["ConditionalRBM"]
