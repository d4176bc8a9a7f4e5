"""The restricted Boltzmann machine as a distribution over its visible units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints, register_kl

from pyro_gen._transforms import active, wrapped
from pyro_gen.distributions.arguments import Shape
from pyro_gen.distributions.energy import two_layers
from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.distributions.energy.divergence import divergence, entropy
from pyro_gen.distributions.energy.enumeration import (
    numbers_of_states,
    two_layer_draw,
    two_layer_log_sum,
)
from pyro_gen.distributions.energy.normalisable import check_normalisable, is_gaussian_pair
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.log_z.negative_phase import starts_at_data
from pyro_gen.distributions.log_z.partition import EXACT_UNITS, Exact, Partition
from pyro_gen.distributions.units import BernoulliUnits, Units
from pyro_gen.distributions.units.base import Finite
from pyro_gen.distributions.units.binary import BinaryUnits, bernoulli_parameters
from pyro_gen.distributions.units.continuous import PreciseUnits
from pyro_gen.kernels import draw_seed, rbm_ais, rbm_free_energy, rbm_gibbs
from pyro_gen.kernels.contrastive.surrogate import can_fuse, surrogate
from pyro_gen.kernels.gibbs import sweep as eager_sweep
from pyro_gen.kernels.gibbs.reference import field
from pyro_gen.kernels.random import INITIAL, source

if TYPE_CHECKING:
    from pyro_gen.distributions.energy.clamped import ClampedRBM

BERNOULLI = BernoulliUnits()


class RBM(EnergyDistribution):
    r"""Restricted Boltzmann machine with units of any type on either side.

    A distribution over the visible ones.

    .. math:: E(v, h) = U_v(v) + U_h(h) - a \cdot v - b \cdot h - v W h,
              \qquad p(v) = \frac1Z \sum_h e^{-E(v, h)} = \frac{e^{-F(v)}}{Z}

    with U the units' own energy, 0 for Bernoulli units, which both sides have
    unless told otherwise. Energies, free energies and log probabilities are in
    nats (densities where units are continuous). The event shape is (visible,);
    batch dimensions of the parameters broadcast.

    Args:
        weight: couplings W, shape (..., visible, hidden).
        vbias: visible bias a, shape (..., visible).
        hbias: hidden bias b, shape (..., hidden).
        partition: how log Z is known: ``Exact()``, ``AIS(...)``, a negative
            phase, or None for exact enumeration where one side has at most 2^20
            states, 20 binary units (beyond that only what needs log Z raises).
        num_steps: Gibbs sweeps of ``sample`` where no exact draw is possible.
        validate_args: whether to check parameters and values.
        visible_units: type of the visible units; tensors in it
            (``log_precision``) are parameters like the others.
        hidden_units: type of the hidden units.

    Raises:
        ValueError: shapes, dtypes or devices of the parameters do not fit,
            ``partition`` cannot serve them, or the joint of these units is not
            known to be normalisable under them.

    References:
        Smolensky (1986), Information processing in dynamical systems: harmony
        theory. Fischer and Igel (2014), Training restricted Boltzmann machines:
        an introduction, Pattern Recognition 47, equations 16-23.

    Example:
        >>> rbm = RBM(torch.eye(3, 2).double(), torch.zeros(3).double(), torch.zeros(2).double())
        >>> rbm.log_prob(rbm.enumerate_support()).exp().sum()
        tensor(1.0000, dtype=torch.float64)
        >>> rbm.sample((5,)).shape
        torch.Size([5, 3])
    """

    has_rsample = False

    weight: Tensor
    vbias: Tensor
    hbias: Tensor
    visible_units: Units
    hidden_units: Units
    parameter_batch_shape = Size()
    """Broadcast batch shape of the parameters, without what ``expand`` added."""

    def __init__(
        self,
        weight: Tensor,
        vbias: Tensor,
        hbias: Tensor,
        partition: Partition | None = None,
        num_steps: int | None = None,
        validate_args: bool | None = None,
        *,
        visible_units: Units = BERNOULLI,
        hidden_units: Units = BERNOULLI,
    ) -> None:
        batch_shape = _check_parameters(weight, vbias, hbias)
        self._hold(weight, vbias, hbias)
        self._unit_parameters: dict[str, Tensor] = {}
        self._bernoulli_sides = isinstance(visible_units, BernoulliUnits) and isinstance(
            hidden_units, BernoulliUnits
        )
        if not self._bernoulli_sides:  # others may have parameters, or ask for a number of units
            visible_units = _bound("visible", visible_units, vbias)
            hidden_units = _bound("hidden", hidden_units, hbias)
            self._set_unit_parameters("visible", visible_units)
            self._set_unit_parameters("hidden", hidden_units)
            batch_shape = torch.broadcast_shapes(
                batch_shape, visible_units.batch_shape, hidden_units.batch_shape
            )
        self.visible_units = visible_units
        self.hidden_units = hidden_units
        self.parameter_batch_shape = batch_shape
        super().__init__(batch_shape, vbias.shape[-1:], partition, num_steps, validate_args)
        bounded = visible_units.binary or hidden_units.binary
        if self._validate_args and not bounded:
            check_normalisable(weight, visible_units, hidden_units)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Batch and event shape from the shapes of the parameters, the units' own
        by ``visible_`` and ``hidden_``.
        """
        batches = [shape[: -2 if name == "weight" else -1] for name, shape in arg_shapes.items()]
        return torch.broadcast_shapes(*batches), Size(arg_shapes["vbias"][-1:])

    def log_joint(self, v: Tensor, h: Tensor) -> Tensor:
        """Log p(v, h) = -E(v, h) - log Z, in nats.

        Args:
            v: visible states (..., visible).
            h: hidden states (..., hidden).

        Returns:
            Tensor of the broadcast batch shape.

        Raises:
            ValueError: log Z is not known, or ``partition`` is a negative phase.
        """
        return -self.energy(v, h) - self.log_partition().value

    def pseudo_log_likelihood(self, value: Tensor) -> Tensor:
        r"""Sum over the units of log p(v_i | all other units), which needs no log Z.

        Exact and differentiable.

        .. math:: \sum_i \log p(v_i | v_{-i}) = -\sum_i \log \sum_{x} e^{F(v) - F(v_{-i}, v_i = x)}

        over the two values x of a binary unit or the states of a categorical
        site.

        Args:
            value: visible states (..., visible).

        Returns:
            Nats, of shape (...).

        Raises:
            NotImplementedError: the visible units have infinitely many states
                each, or a fixed sum.

        References:
            Besag (1975), Statistical analysis of non-lattice data.
        """
        self.check_value("value", value)
        return two_layers.pseudo_log_likelihood(
            value.to(self.weight.dtype), self.uncentred, *self._sides
        )

    def given(self, observed: Tensor, mask: Tensor) -> ClampedRBM:
        """The distribution of the missing cells given the observed ones.

        The event stays the whole visible layer.

        Args:
            observed: states (..., visible); what stands in a missing cell is
                ignored, NaN included.
            mask: True where a cell is observed, (..., visible); rows may
                differ.

        Returns:
            A distribution whose samples carry the observed cells and whose
            ``log_prob(x)`` is log p(missing cells of x
            | observed cells), -inf where x contradicts them.

        Raises:
            ValueError: ``mask`` is not boolean, shapes or devices do not fit,
                or an observed cell is neither 0 nor 1.
        """
        from pyro_gen.distributions.energy.clamped import ClampedRBM

        if not self._bernoulli_sides:
            kinds = f"{type(self.visible_units).__name__} and {type(self.hidden_units).__name__}"
            raise ValueError(f"`given` expects Bernoulli units on both sides, got {kinds}")
        if isinstance(self.partition, Exact):
            units = self.partition.max_units
        else:
            units = EXACT_UNITS
        return ClampedRBM(
            *self.uncentred, observed, mask, units, self.num_steps, self._validate_args
        )

    def log_evidence(self, observed: Tensor, mask: Tensor) -> Tensor:
        """Log probability of the observed cells, the missing ones summed out.

        :meth:`evidence_estimate` has its error.

        Args:
            observed: states (..., visible); what stands in a missing cell is
                ignored, NaN included.
            mask: True where a cell is observed, (..., visible); rows may
                differ.

        Returns:
            Nats, of the broadcast batch shape, differentiable.

        Raises:
            ValueError: as :meth:`evidence_estimate`.
        """
        return self.evidence_estimate(observed, mask).value

    def evidence_estimate(self, observed: Tensor, mask: Tensor) -> Estimate:
        """Log probability of the observed cells, the missing ones summed out exactly.

        Differentiable.

        Its error is that of log Z alone. Under persistent chains it is a
        contrast whose gradient learns from what was observed, to be used in
        ``pyro.factor``.

        Args:
            observed: states (..., visible); what stands in a missing cell is
                ignored, NaN included.
            mask: True where a cell is observed, (..., visible); rows may
                differ.

        Returns:
            Nats, of the broadcast batch shape, with the error of log Z; under
            persistent chains without one (NaN).

        Raises:
            ValueError: hidden units and missing cells are too many to sum over,
                log Z is not known, or the particles start at the data (CD),
                which has no missing cells.
        """
        if starts_at_data(self.partition):
            raise ValueError(
                "`log_evidence` cannot use particles that start at the data: use "
                "PersistentChains or Exact"
            )
        clamped = self.given(observed, mask)
        completions = clamped.log_completions()  # raises before chains move
        model, partition = self._resolve_partition().scored(self, clamped.observed)
        if model is not self:
            completions = cast(RBM, model).given(observed, mask).log_completions()
        value = completions - partition.log_normalizer(model, clamped.observed)
        if partition.contrast is not None:
            unknown = torch.full_like(value, torch.nan)
            return Estimate(value, unknown, unknown, "contrast")
        log_z = partition.log_partition(model).expand(value.shape)
        return Estimate(value, log_z.standard_error, log_z.effective_sample_size, log_z.method)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw visible states: exactly where ``samples_exactly``, else by
        ``num_steps`` sweeps from the biases alone.

        Args:
            sample_shape: leading dimensions.

        Returns:
            States of shape sample_shape + batch_shape + (visible,).

        Raises:
            ValueError: no exact draw is possible and ``num_steps`` is None.
        """
        return self.sample_joint(sample_shape)[0]

    @torch.no_grad()
    def sample_joint(self, sample_shape: Shape = ()) -> tuple[Tensor, Tensor]:
        """Draw visible and hidden states together, as :meth:`sample` does.

        Args:
            sample_shape: leading dimensions.

        Returns:
            Visible and hidden states.

        Raises:
            ValueError: no exact draw is possible and ``num_steps`` is None.
        """
        shape = self._extended_shape(Size(sample_shape))
        if self.samples_exactly:
            return two_layer_draw(self.uncentred, self._sides, Size(shape[:-1]))
        if self.num_steps is None:
            raise self._no_exact_draw("base rates")
        start = self.visible_units.conditional(self.vbias.expand(shape)).sample()
        value = self.sweep(start, self.num_steps, draw_seed(), 0)
        return value, self.hidden_units.conditional(self._hidden_field(value)).sample()

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # a flag of the class in torch, of the size here
        """True if the visible states can be listed: at most 2^20, and no CD, which serves
        observed rows only.
        """
        return numbers_of_states(self.uncentred, self._sides)[
            0
        ] <= 2**EXACT_UNITS and not starts_at_data(self.partition)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All visible states, 2^visible of Bernoulli units.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (states,) + batch_shape + (visible,), or with ones in place of
            the batch.

        Raises:
            NotImplementedError: there are more than 2^20 visible states, or the
                particles start at the value (CD).
        """
        number = numbers_of_states(self.uncentred, self._sides)[0]
        visible = self.vbias.shape[-1]
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"visible states are listed where there are at most 2**{EXACT_UNITS} (at most "
                f"{EXACT_UNITS} binary "
                f"units) and not under contrastive divergence, got {visible} "
                f"{type(self.visible_units).__name__} and "
                f"partition {self.partition}{self._instead(number <= 2**EXACT_UNITS)}"
            )
        numbers = torch.arange(int(number), device=self.vbias.device)
        return self._listed(self.visible_units.states(numbers, visible, self.vbias), expand)

    def entropy(self) -> Tensor:
        """Entropy in nats, by enumeration of the visible states.

        Raises:
            NotImplementedError: there are too many states, or log Z is not exact.
        """
        return entropy(self)

    def _hold(self, weight: Tensor, vbias: Tensor, hbias: Tensor) -> None:
        """Set the tensors of the energy."""
        self.weight = weight
        self.vbias = vbias
        self.hbias = hbias

    def _set_unit_parameters(self, side: str, units: Units) -> None:
        """Set the parameters of one side's units, named by it (``visible_log_precision``)."""
        for name, x in units.parameters.items():
            self._unit_parameters[f"{side}_{name}"] = x
            setattr(self, f"{side}_{name}", x)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """Constraints of weight, biases and the parameters of the units."""
        real: dict[str, constraints.Constraint] = {
            "weight": Finite(2),
            "vbias": Finite(),
            "hbias": Finite(),
        }
        for side, units in (("visible", self.visible_units), ("hidden", self.hidden_units)):
            real |= {
                f"{side}_{name}": units.parameter_constraints[name] for name in units.parameters
            }
        return real

    @property
    def support(self) -> constraints.Constraint:
        """The support of the visible units."""
        return self.visible_units.support

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Weight, visible bias, hidden bias, and the parameters of the units,
        visible ones first.
        """
        return *self.uncentred, *self._unit_parameters.values()

    @property
    def _like(self) -> Tensor:
        return self.weight

    @property
    def uncentred(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight and biases of the energy."""
        return self.weight, self.vbias, self.hbias

    @property
    def enumerated_units(self) -> float:
        """Binary units with as many states as the side that is enumerated.

        0 for a Gaussian integral.
        """
        if is_gaussian_pair(*self._sides):
            return 0
        fewest = min(numbers_of_states(self.uncentred, self._sides))
        if fewest == math.inf:
            return math.inf
        return (int(fewest) - 1).bit_length()

    @property
    def _sides(self) -> tuple[Units, Units]:
        return self.visible_units, self.hidden_units

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h) = U(v) + U(h) - a.v - b.h - v W h.

        Args:
            v: visible states (..., visible).
            h: hidden states (..., hidden).

        Returns:
            Nats, of the broadcast batch shape.

        Raises:
            ValueError: states have another width or lie outside the support of
                their units.
        """
        _check_width("h", h, self.hbias)
        self.check_value("v", v)
        self._check_hidden(h)
        return self._energy(v, h)

    def _energy(self, v: Tensor, h: Tensor) -> Tensor:
        weight, vbias, hbias = self.uncentred
        v = v.to(weight.dtype)
        h = h.to(weight.dtype)
        interaction = (field(v, weight, torch.zeros_like(hbias)) * h).sum(-1)
        return (
            self.visible_units.energy(v, vbias) + self.hidden_units.energy(h, hbias) - interaction
        )

    def free_energy(self, value: Tensor) -> Tensor:
        r"""F(v) = U(v) - a.v - A(b + v W), A the hidden cumulant: the sum of log(1 +
        exp(.)) for Bernoulli units.

        Args:
            value: visible states (..., visible).

        Returns:
            Nats, of shape (...).

        Raises:
            ValueError: ``value`` lies outside the support.
        """
        self.check_value("value", value)
        return self._free_energy(value)

    def _are_finite(self) -> bool:
        if self._unit_parameters or self.parameter_batch_shape or torch.compiler.is_compiling():
            return False
        weight, vbias, hbias = self.uncentred
        if weight.is_meta or wrapped((weight, vbias, hbias)):
            return False
        return math.isfinite(torch.dot(vbias, torch.mv(weight, hbias)).item())

    def _are_states(self, value: Tensor) -> bool:
        if not isinstance(self.visible_units, BernoulliUnits) or not value.is_floating_point():
            return False
        if value.device != self.weight.device or value.is_meta or wrapped((value,)):
            return False
        return torch.equal(value.ceil().clamp_(0, 1), value)  # neither for NaN nor for infinity

    def _free_energy(self, value: Tensor) -> Tensor:
        value = value.to(self.weight.dtype)
        if self._binary:
            weight, vbias, hbias, constant = self._bernoulli()
            result = rbm_free_energy(self._bits(value), weight, vbias, hbias)
            if constant is None:
                return result
            return result - constant
        return self.visible_units.energy(value, self.uncentred[1]) - self.hidden_units.cumulant(
            self._hidden_field(value)
        )

    def _contrast(
        self, value: Tensor, particles: Tensor, shares: Tensor | None = None, paired: bool = False
    ) -> Tensor | None:
        if not (self._bernoulli_sides and can_fuse(value, *self.uncentred)):
            return None
        return surrogate(value, particles, self.uncentred, shares=shares, paired=paired)

    def hidden_given_visible(self, v: Tensor) -> TorchDistribution:
        """p(h | v): independent units, event shape (hidden,); checks v."""
        self.check_value("v", v)
        return self.hidden_units.conditional(self._hidden_field(v))

    def visible_given_hidden(self, h: Tensor) -> TorchDistribution:
        """p(v | h): independent units, event shape (visible,); checks h."""
        _check_width("h", h, self.hbias)
        self._check_hidden(h)
        weight, vbias, _ = self.uncentred
        return self.visible_units.conditional(field(h.to(weight.dtype), weight.mT, vbias))

    def _check_hidden(self, h: Tensor) -> None:
        """Raise where arguments are validated and h holds no states of the hidden units."""
        if self._validate_args and not self.hidden_units.support.check(h).all():
            raise ValueError(
                f"`h` must hold states of {type(self.hidden_units).__name__}, got other values"
            )

    def sweep(self, value: Tensor, num_steps: int, seed: int, step: int) -> Tensor:
        """Gibbs sweeps keyed by (seed, step); ``value`` has the parameters' batch shape."""
        if self._bernoulli_sides:
            plain = type(value) is Tensor and not torch.is_grad_enabled()
            if plain and not (torch.compiler.is_compiling() or active()):
                return eager_sweep(value, *self.uncentred, num_steps, None, seed, step, 0)[0]
            return rbm_gibbs(value, *self.uncentred, num_steps, seed=seed, step=step)[0]
        if self._binary:
            weight, vbias, hbias, _ = self._bernoulli()
            bits, _ = rbm_gibbs(
                self._bits(value), weight, vbias, hbias, num_steps, seed=seed, step=step
            )
            return self._from_bits(bits)
        return two_layers.sweep(
            value, self.uncentred, self.visible_units, self.hidden_units, num_steps, seed, step
        )

    def log_sum(self) -> Tensor:
        """Exact log Z over the smaller side, or the Gaussian integral."""
        return two_layer_log_sum(self.uncentred, self._sides).expand(self.parameter_batch_shape)

    def anneal(
        self, states: Tensor, base: Tensor, betas: Tensor, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Annealed importance weights and last states; see :func:`pyro_gen.kernels.rbm_ais`."""
        states = states.expand(
            torch.broadcast_shapes(states.shape[:-1], self.parameter_batch_shape)
            + self.event_shape
        )
        fields, units = self._base(base)
        if not self._binary:
            return two_layers.anneal(
                states, self.uncentred, *self._sides, fields, units, betas.tolist(), seed
            )
        weight, vbias, hbias, constant = self._bernoulli()
        logits = cast(BinaryUnits, self.visible_units).logits(fields)
        log_weight, last = rbm_ais(
            self._bits(states), weight, vbias, hbias, logits, betas, seed=seed
        )
        if constant is None:
            return log_weight, last
        # The Bernoulli forms omit constants: `constant` of the model, minus the
        # sum of the fields c of spins.
        lacking = constant.double() + (logits - fields).double().sum(-1)
        return log_weight + (betas[-1] - betas[0]).to(lacking) * lacking, self._from_bits(last)

    def base(self, mean: Tensor, variance: Tensor | None, margin: float) -> Tensor:
        """Parameters of independent visible units with given moments: fields, then log
        precisions if any.
        """
        fields, units = self.visible_units.from_moments(mean, variance, margin)
        if isinstance(units, PreciseUnits):
            return torch.cat([fields, *units.parameters.values()], -1)
        return fields

    def _base(self, base: Tensor) -> tuple[Tensor, Units]:
        """Fields and units of a base; fields without units use those of the model."""
        visible = self.vbias.shape[-1]
        fields = base[..., :visible]
        log_precision = base[..., visible:]
        units = self.visible_units
        return fields, units.replace(log_precision=log_precision) if log_precision.shape[
            -1
        ] else units

    def base_log_partition(self, base: Tensor) -> Tensor:
        """Log Z of free visible units with parameters ``base`` and free hidden
        units without bias, in float64.
        """
        hidden = torch.zeros_like(self.hbias, dtype=torch.float64)
        fields, units = self._base(base)
        return units.cumulant(fields.double()) + self.hidden_units.cumulant(hidden)

    def base_states(self, base: Tensor, num_chains: int, seed: int) -> Tensor:
        """Draws from independent units with parameters ``base``, keyed by ``seed``."""
        shape = Size((num_chains, *self.parameter_batch_shape, *self.event_shape))
        fields, units = self._base(base)
        if not self._binary:
            return two_layers.initial(units, fields.expand(shape), seed).to(self.vbias.dtype)
        uniforms = source(seed, shape[:-1].numel(), 0, self.vbias, fast=True)
        rates = cast(BinaryUnits, units).logits(fields).sigmoid()
        return self._from_bits(
            (uniforms(0, INITIAL, shape[-1]).view(shape) < rates).to(self.vbias.dtype)
        )

    def pilot(self, num_chains: int, num_steps: int, seed: int) -> Tensor:
        """Short chains from the distribution of the visible biases alone, keyed by ``seed``."""
        return self.sweep(
            self.base_states(self.uncentred[1], num_chains, seed), num_steps, seed, 0
        )

    @property
    def mean_range(self) -> tuple[float, float]:
        """Range of base rates."""
        return self.visible_units.mean_range

    @property
    def _binary(self) -> bool:
        """True if the fused kernels support both sides."""
        return self.visible_units.binary and self.hidden_units.binary

    def _bernoulli(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The Bernoulli RBM over the bits of binary units, and the constant that
        its energy omits, if any.
        """
        if self._bernoulli_sides:
            return *self.uncentred, None
        return bernoulli_parameters(*self.uncentred, self.visible_units, self.hidden_units)

    def _bits(self, value: Tensor) -> Tensor:
        return cast(BinaryUnits, self.visible_units).bits(value)

    def _from_bits(self, bits: Tensor) -> Tensor:
        return cast(BinaryUnits, self.visible_units).from_bits(bits)

    def _hidden_field(self, v: Tensor) -> Tensor:
        _check_width("v", v, self.vbias)
        weight, _, hbias = self.uncentred
        return field(v.to(weight.dtype), weight, hbias)


def _bound(side: str, units: Units, bias: Tensor) -> Units:
    """The units of one side; an error names the side."""
    if not isinstance(units, Units):
        raise ValueError(f"`{side}_units` must be a unit type such as SpinUnits(), got {units}")
    try:
        return units.bind(f"{side[0]}bias", bias)
    except ValueError as error:
        raise ValueError(f"`{side}_units` does not fit: {error}") from error


def _check_parameters(weight: Tensor, vbias: Tensor, hbias: Tensor) -> Size:
    """Batch shape of the parameters; names the one whose shape, device or dtype does not fit."""
    if weight.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"`weight` must be float32 or float64, got {weight.dtype}")
    if weight.dim() < 2 or 0 in weight.shape[-2:]:
        raise ValueError(
            "`weight` must have shape (..., visible, hidden) with both positive, got "
            f"{tuple(weight.shape)}"
        )
    for name, bias, size in (
        ("vbias", vbias, weight.shape[-2]),
        ("hbias", hbias, weight.shape[-1]),
    ):
        if bias.shape[-1:] != (size,):
            raise ValueError(
                f"`{name}` must have shape (..., {size}) to match `weight`, got "
                f"{tuple(bias.shape)}"
            )
        if (bias.device, bias.dtype) != (weight.device, weight.dtype):
            raise ValueError(
                f"`{name}` must be {weight.dtype} on {weight.device} like `weight`, got "
                f"{bias.dtype} on {bias.device}"
            )
    batches = [tuple(weight.shape[:-2]), tuple(vbias.shape[:-1]), tuple(hbias.shape[:-1])]
    if not any(batches):
        return Size()
    try:
        return torch.broadcast_shapes(*batches)
    except RuntimeError as error:
        message = (
            f"the batch shapes of `weight`, `vbias` and `hbias` must broadcast, got {batches}"
        )
        raise ValueError(message) from error


def _check_width(name: str, states: Tensor, bias: Tensor) -> None:
    """Raise, naming the states, unless there is one for each unit of the bias."""
    if states.shape[-1:] != bias.shape[-1:]:
        raise ValueError(
            f"`{name}` must have shape (..., {bias.shape[-1]}), got {tuple(states.shape)}"
        )


@register_kl(RBM, RBM)
def _kl_rbm_rbm(p: RBM, q: RBM) -> Tensor:
    return divergence(p, q, (p.visible_units, q.visible_units))


__all__ = ["RBM"]
