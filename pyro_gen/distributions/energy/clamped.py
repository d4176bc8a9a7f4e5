"""An RBM given some of its visible cells: a distribution over the others."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints

from pyro_gen._arguments import whole_number
from pyro_gen.distributions.arguments import Shape
from pyro_gen.distributions.energy.clamping import Evidence, HiddenStates, MissingCells
from pyro_gen.distributions.expansion import Expandable, over_batch
from pyro_gen.distributions.log_z.partition import EXACT_UNITS
from pyro_gen.distributions.streaming import (
    Blocks,
    streamed_draw,
    streamed_log_sum,
    streamed_weights,
)
from pyro_gen.distributions.units import BernoulliUnits
from pyro_gen.distributions.units.base import Finite
from pyro_gen.kernels import draw_seed, rbm_free_energy, rbm_gibbs
from pyro_gen.kernels.gibbs.reference import field


class ClampedRBM(Expandable):
    r"""The missing cells of a Bernoulli RBM given the observed ones, as
    :meth:`pyro_gen.distributions.RBM.given` says.

    .. math:: p(v_M | v_O) = \frac{e^{-F(v)}}{\sum_{u_M} e^{-F(u_M, v_O)}}

    The event is that of the RBM: samples carry the observed cells, and
    ``log_prob`` is -inf where a value contradicts them. Rows of a batch may be
    observed at different cells. No log Z is needed. Everything is exact where
    the hidden units, or the missing cells of every row, number at most
    ``max_units``: the smaller of both is enumerated in blocks of bounded
    memory. Beyond that samples come from clamped block Gibbs chains, and
    ``log_prob`` raises.

    Args:
        weight: couplings W, shape (..., visible, hidden).
        vbias: visible bias a, shape (..., visible).
        hbias: hidden bias b, shape (..., hidden).
        observed: zeros and ones, shape (..., visible); values where ``mask`` is
            False are ignored, NaN included.
        mask: True where a cell is observed, same shape.
        max_units: the largest number of units that is enumerated.
        num_steps: clamped Gibbs sweeps of ``sample`` and ``marginals`` where
            nothing can be enumerated.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: ``mask`` is not boolean, shapes or devices do not fit, or an
            observed cell is neither 0 nor 1.

    Example:
        >>> from pyro_gen.distributions import RBM
        >>> rbm = RBM(torch.eye(3, 2), torch.zeros(3), torch.zeros(2))
        >>> nan = float("nan")
        >>> given = rbm.given(torch.tensor([1.0, nan, 0.0]), torch.tensor([True, False, True]))
        >>> given.sample((2,))[:, [0, 2]]
        tensor([[1., 0.],
                [1., 0.]])
        >>> given.log_prob(torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])).exp()
        tensor([0.3498, 0.6502, 0.0000])
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "weight": Finite(2),
        "vbias": Finite(),
        "hbias": Finite(),
        "observed": constraints.independent(constraints.boolean, 1),
    }
    support: constraints.Constraint = constraints.independent(constraints.boolean, 1)
    has_rsample = False

    def __init__(
        self,
        weight: Tensor,
        vbias: Tensor,
        hbias: Tensor,
        observed: Tensor,
        mask: Tensor,
        max_units: int = EXACT_UNITS,
        num_steps: int | None = None,
        validate_args: bool | None = None,
    ) -> None:
        _check_evidence(observed, mask, vbias)
        observed = torch.where(mask, observed.to(vbias.dtype), 0)
        self.weight = weight
        self.vbias = vbias
        self.hbias = hbias
        self.max_units = whole_number("max_units", max_units, 0)
        if num_steps is None:
            self.num_steps = None
        else:
            self.num_steps = whole_number("num_steps", num_steps)
        self._evidence = Evidence(observed, mask.expand_as(observed))
        batch, event = self.infer_shapes(
            **{name: getattr(self, name).shape for name in self.arg_constraints}
        )
        super().__init__(batch, event, validate_args=validate_args)

    @property
    def observed(self) -> Tensor:
        """The observed cells, 0 in all others."""
        return self._evidence.observed

    @property
    def is_observed(self) -> Tensor:
        """True where a cell is observed: the constructor's ``mask``, a name that
        Pyro has taken for a method.
        """
        return self._evidence.mask

    @property
    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, visible bias and hidden bias."""
        return self.weight, self.vbias, self.hbias

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Batch and event shape from the shapes of the parameters, with or without the
        evidence.
        """
        batches = [
            shape[: len(shape) - (2 if name == "weight" else 1)]
            for name, shape in arg_shapes.items()
        ]
        return torch.broadcast_shapes(*batches), Size(arg_shapes["vbias"][-1:])

    @property
    def samples_exactly(self) -> bool:
        """True if hidden units or missing cells can be enumerated, so that everything is exact."""
        return self._terms() is not None

    def log_completions(self) -> Tensor:
        r"""Log of the sum of exp(-F) over all completions of the observed cells:
        log p(observed) up to log Z.

        Returns:
            Nats, of the batch shape, with their gradient.

        Raises:
            ValueError: nothing can be enumerated.
        """
        terms = self._terms()
        if terms is None:
            raise ValueError(
                f"a sum over the missing cells is needed, and {self._sizes()} are more than the "
                f"{self.max_units} that "
                "are enumerated: observe more cells, or use `sample` and `marginals`, which run "
                "clamped Gibbs chains"
            )
        total = streamed_log_sum(terms.log_weights, self._blocks(terms), *self.parameters)
        return ((self.observed * self.vbias).sum(-1) + total).expand(self.batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of the missing cells given the observed ones, in nats.

        Args:
            value: full states, shape (..., visible).

        Returns:
            Tensor of the broadcast batch shape; -inf where a value contradicts
            the evidence.

        Raises:
            ValueError: ``value`` lies outside the support, or nothing can be
                enumerated.
        """
        if self._validate_args:
            self._validate_sample(value)
        value = value.to(self.vbias.dtype)
        contradicts = ((value != self.observed) & self.is_observed).any(-1)
        result = -rbm_free_energy(value, *self.parameters) - self.log_completions()
        result = result.masked_fill(contradicts, -math.inf)
        return over_batch(result, self.batch_shape)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw full states: exactly where ``samples_exactly``, else by ``num_steps``
        clamped sweeps from the biases.

        Args:
            sample_shape: leading dimensions.

        Returns:
            Zeros and ones of shape sample_shape + batch_shape + (visible,),
            with the observed cells in their places.

        Raises:
            ValueError: nothing can be enumerated and ``num_steps`` is None.
        """
        shape = self._extended_shape(Size(sample_shape))
        terms = self._terms()
        if terms is None:
            start = torch.bernoulli(self.vbias.sigmoid().expand(shape))
            return self.gibbs(start, self._required_steps("sample"))
        number = streamed_draw(
            terms.log_weights, self._blocks(terms), Size(shape[:-1]), *self.parameters
        )
        return terms.fill(number, self.weight, self.vbias)

    @torch.no_grad()
    def gibbs(self, value: Tensor, num_steps: int) -> Tensor:
        """Run clamped block Gibbs sweeps from given states, whose observed cells are first
        put right.

        Args:
            value: states (..., visible), each a chain; its missing cells are
                where the chain starts.
            num_steps: sweeps; 0 only puts the observed cells in.

        Returns:
            New states, shape (..., visible) broadcast with the batch.

        Raises:
            ValueError: ``num_steps`` is negative, or ``value`` is outside the
                support.
        """
        num_steps = whole_number("num_steps", num_steps, 0)
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape) + self.event_shape
        value = self._evidence.complete(value.to(self.vbias).expand(shape))
        seed = draw_seed()
        for t in range(num_steps):
            value = self._evidence.complete(
                rbm_gibbs(value, *self.parameters, 1, seed=seed, step=t)[0]
            )
        return value

    @torch.no_grad()
    def marginals(self, num_chains: int = 100) -> Tensor:
        r"""P(v_i = 1 | observed) of every cell, the observed ones at their values: mean
        imputation.

        Exact where ``samples_exactly``; otherwise the mean of P(v_i = 1 | h)
        over the second half of ``num_steps`` sweeps of clamped chains, which is
        an estimate, as good as the chains have mixed.

        Args:
            num_chains: chains a row, where nothing can be enumerated.

        Returns:
            Probabilities of shape batch_shape + (visible,), without gradient.

        Raises:
            ValueError: nothing can be enumerated and ``num_steps`` is None, or
                ``num_chains`` is below 1.
        """
        terms = self._terms()
        if terms is None:
            return self._estimated_marginals(num_chains, self._required_steps("marginals"))
        total = torch.zeros((), dtype=self.vbias.dtype, device=self.vbias.device)
        for start, stop, share in streamed_weights(
            terms.log_weights, self._blocks(terms), *self.parameters
        ):
            total = total + terms.expectation(start, stop, share, self.weight, self.vbias)
        return terms.finish(total).expand(self._extended_shape())

    def _estimated_marginals(self, num_chains: int, num_steps: int) -> Tensor:
        num_chains = whole_number("num_chains", num_chains)
        value = self.vbias.sigmoid().expand(num_chains, *self._extended_shape())
        seed = draw_seed()
        value, total = self._evidence.complete(torch.bernoulli(value)), torch.zeros_like(value[0])
        for t in range(num_steps):
            value, h = rbm_gibbs(value, *self.parameters, 1, seed=seed, step=t)
            value = self._evidence.complete(value)
            if t >= num_steps // 2:
                total += field(h, self.weight.mT, self.vbias).sigmoid().mean(0)
        return self._evidence.complete(total / (num_steps - num_steps // 2))

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # a flag of the class in torch, of the size here
        """True if all states of the event can be listed: at most 20 visible units."""
        return self.vbias.shape[-1] <= EXACT_UNITS

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All 2^visible states of the event, those that contradict the evidence (of log
        probability -inf) included.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (2^visible,) + batch_shape + (visible,), or with ones in place
            of the batch.

        Raises:
            NotImplementedError: there are more than 20 visible units.
        """
        visible = self.vbias.shape[-1]
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"states are listed for at most {EXACT_UNITS} visible units, got {visible}"
            )
        numbers = torch.arange(2**visible, device=self.vbias.device)
        return self._listed(BernoulliUnits().states(numbers, visible, self.vbias), expand)

    def _terms(self) -> HiddenStates | MissingCells | None:
        """Enumerated side: the smaller of hidden states and missing cells, or None where
        both are too many.
        """
        hidden = self.hbias.shape[-1]
        missing = self._evidence.most_missing
        if min(hidden, missing) > self.max_units:
            return None
        if hidden <= missing:
            return HiddenStates(self._evidence, hidden)
        return MissingCells(self._evidence, missing)

    def _blocks(self, terms: HiddenStates | MissingCells) -> Blocks:
        return terms.blocks(self.parameters, self.batch_shape)

    def _required_steps(self, name: str) -> int:
        if self.num_steps is None:
            raise ValueError(
                f"`{name}` is not exact here ({self._sizes()}, at most {self.max_units} are "
                "enumerated): give the RBM "
                "`num_steps`, the clamped Gibbs sweeps to run, or use `gibbs` from states of "
                "your own"
            )
        return self.num_steps

    def _sizes(self) -> str:
        return (
            f"{self.hbias.shape[-1]} hidden units and up to {self._evidence.most_missing} "
            "missing cells"
        )

    def _validate_sample(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise ValueError(f"`value` must be a tensor, got {type(value).__name__}")
        if value.is_floating_point() and value.isnan().any():
            raise ValueError(
                "`value` holds NaN: only the cells of `observed` under a False of `mask` may; "
                "fill it with 0 or 1"
            )
        if not value.numel() and value.shape[-1:] == self.event_shape:
            return  # torch's check cannot reshape what is empty
        super()._validate_sample(value)


def _check_evidence(observed: Tensor, mask: Tensor, vbias: Tensor) -> None:
    """Name what does not fit, and observed cells that hold no state."""
    for name, x in (("observed", observed), ("mask", mask)):
        if x.shape[-1:] != vbias.shape[-1:]:
            raise ValueError(
                f"`{name}` must have shape (..., {vbias.shape[-1]}), got {tuple(x.shape)}"
            )
        if x.device != vbias.device:
            raise ValueError(
                f"`{name}` must be on {vbias.device} like the parameters, got {x.device}"
            )
    if mask.dtype != torch.bool:
        raise ValueError(
            f"`mask` must be boolean, True where a cell is observed, got {mask.dtype}"
        )
    try:
        torch.broadcast_shapes(observed.shape, mask.shape)
    except RuntimeError as error:
        shapes = f"{tuple(observed.shape)} and {tuple(mask.shape)}"
        raise ValueError(
            f"`observed` and `mask` must broadcast against each other, got {shapes}"
        ) from error


__all__ = ["ClampedRBM"]
