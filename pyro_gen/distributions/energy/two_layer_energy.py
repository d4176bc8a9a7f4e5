"""The energy of two layers of units, and all that sampling and annealing need to know of it."""

from __future__ import annotations

import math
from typing import cast

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints

from pyro_gen._transforms import wrapped
from pyro_gen.distributions.arguments import check_width
from pyro_gen.distributions.energy import two_layers
from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.distributions.energy.enumeration import numbers_of_states, two_layer_log_sum
from pyro_gen.distributions.energy.normalisable import is_gaussian_pair
from pyro_gen.distributions.expansion import broadcast_batches
from pyro_gen.distributions.units import BernoulliUnits, Units
from pyro_gen.distributions.units.base import Finite
from pyro_gen.distributions.units.binary import BinaryUnits, are_bits, bernoulli_parameters
from pyro_gen.distributions.units.continuous import PreciseUnits
from pyro_gen.kernels import rbm_ais, rbm_free_energy, rbm_gibbs
from pyro_gen.kernels.contrastive.surrogate import can_fuse, surrogate
from pyro_gen.kernels.gibbs.reference import field
from pyro_gen.kernels.random import INITIAL, source


class TwoLayerEnergy(EnergyDistribution):
    r"""Visible and hidden units of any type with couplings between the layers; a distribution over the visible ones.

    .. math:: E(v, h) = U_v(v) + U_h(h) - a \cdot v - b \cdot h - v W h

    Two layers of binary units run on the fused kernels, all others in plain torch.
    """

    weight: Tensor
    vbias: Tensor
    hbias: Tensor
    visible_units: Units
    hidden_units: Units

    def _set_units(self, visible: Units, hidden: Units) -> None:
        """Store both types, with their parameters named by side (``visible_log_precision``)."""
        self.visible_units, self.hidden_units = visible, hidden
        for side, units in (("visible", visible), ("hidden", hidden)):
            for name, x in units.parameters.items():
                setattr(self, f"{side}_{name}", x)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """Constraints of weight, biases and the parameters of the units."""
        real: dict[str, constraints.Constraint] = {"weight": Finite(2), "vbias": Finite(), "hbias": Finite()}
        for side, units in (("visible", self.visible_units), ("hidden", self.hidden_units)):
            real |= {f"{side}_{name}": units.parameter_constraints[name] for name in units.parameters}
        return real

    @property
    def support(self) -> constraints.Constraint:
        """The support of the visible units."""
        return self.visible_units.support

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Weight, visible bias, hidden bias, and the parameters of the units, visible ones first."""
        unit_parameters = *self.visible_units.parameters.values(), *self.hidden_units.parameters.values()
        return self.weight, self.vbias, self.hbias, *unit_parameters

    @property
    def uncentred(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight and biases of the energy."""
        return self.weight, self.vbias, self.hbias

    @property
    def parameter_batch_shape(self) -> Size:
        """Broadcast batch shape of the parameters, without what ``expand`` added."""
        unit_batches = self.visible_units.batch_shape, self.hidden_units.batch_shape
        return broadcast_batches(self.weight.shape[:-2], self.vbias.shape[:-1], self.hbias.shape[:-1], *unit_batches)

    @property
    def enumerated_units(self) -> float:
        """Binary units with as many states as the side that is enumerated; 0 for a Gaussian integral."""
        if is_gaussian_pair(*self._sides):
            return 0
        fewest = min(numbers_of_states(self.uncentred, self._sides))
        return math.inf if fewest == math.inf else (int(fewest) - 1).bit_length()

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
            ValueError: states have another width or lie outside the support of their units.
        """
        check_width("h", h, self.hbias)
        self.check_value("v", v)
        self._check_hidden(h)
        return self._energy(v, h)

    def _energy(self, v: Tensor, h: Tensor) -> Tensor:
        weight, vbias, hbias = self.uncentred
        v, h = v.to(weight.dtype), h.to(weight.dtype)
        interaction = (field(v, weight, torch.zeros_like(hbias)) * h).sum(-1)
        return self.visible_units.energy(v, vbias) + self.hidden_units.energy(h, hbias) - interaction

    def free_energy(self, value: Tensor) -> Tensor:
        r"""F(v) = U(v) - a.v - A(b + v W), A the hidden cumulant: the sum of log(1 + exp(.)) for Bernoulli units.

        Args:
            value: visible states (..., visible).

        Returns:
            Nats, of shape (...).

        Raises:
            ValueError: ``value`` lies outside the support.
        """
        self.check_value("value", value)
        return self._free_energy(value)

    def _are_states(self, value: Tensor) -> bool:
        if not isinstance(self.visible_units, BernoulliUnits) or value.device != self.weight.device:
            return False
        return value.is_floating_point() and not (value.is_meta or wrapped([value])) and are_bits(value)

    def _free_energy(self, value: Tensor) -> Tensor:
        value = value.to(self.weight.dtype)
        if self._binary:
            weight, vbias, hbias, constant = self._bernoulli()
            result = rbm_free_energy(self._bits(value), weight, vbias, hbias)
            return result if constant is None else result - constant
        return self.visible_units.energy(value, self.uncentred[1]) - self.hidden_units.cumulant(
            self._hidden_field(value)
        )

    def _contrast(
        self, value: Tensor, particles: Tensor, shares: Tensor | None = None, paired: bool = False
    ) -> Tensor | None:
        bernoulli = isinstance(self.visible_units, BernoulliUnits) and isinstance(self.hidden_units, BernoulliUnits)
        if not (bernoulli and can_fuse(value, *self.parameters)):
            return None
        return surrogate(value, particles, self.uncentred, shares=shares, paired=paired)

    def hidden_given_visible(self, v: Tensor) -> TorchDistribution:
        """p(h | v): independent units, event shape (hidden,); checks v."""
        self.check_value("v", v)
        return self.hidden_units.conditional(self._hidden_field(v))

    def visible_given_hidden(self, h: Tensor) -> TorchDistribution:
        """p(v | h): independent units, event shape (visible,); checks h."""
        check_width("h", h, self.hbias)
        self._check_hidden(h)
        weight, vbias, _ = self.uncentred
        return self.visible_units.conditional(field(h.to(weight.dtype), weight.mT, vbias))

    def _check_hidden(self, h: Tensor) -> None:
        """Raise where arguments are validated and h holds no states of the hidden units."""
        if self._validate_args and not self.hidden_units.support.check(h).all():
            raise ValueError(f"`h` must hold states of {type(self.hidden_units).__name__}, got other values")

    def sweep(self, value: Tensor, num_steps: int, seed: int, step: int) -> Tensor:
        """Gibbs sweeps keyed by (seed, step); ``value`` has the parameters' batch shape."""
        if self._binary:
            weight, vbias, hbias, _ = self._bernoulli()
            bits, _ = rbm_gibbs(self._bits(value), weight, vbias, hbias, num_steps, seed=seed, step=step)
            return self._from_bits(bits)
        return two_layers.sweep(value, self.uncentred, self.visible_units, self.hidden_units, num_steps, seed, step)

    def log_sum(self) -> Tensor:
        """Exact log Z over the smaller side, or the Gaussian integral."""
        return two_layer_log_sum(self.uncentred, self._sides).expand(self.parameter_batch_shape)

    def anneal(self, states: Tensor, base: Tensor, betas: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Annealed importance weights and last states; see :func:`pyro_gen.kernels.rbm_ais`."""
        states = states.expand(torch.broadcast_shapes(states.shape[:-1], self.parameter_batch_shape) + self.event_shape)
        fields, units = self._base(base)
        if not self._binary:
            return two_layers.anneal(states, self.uncentred, *self._sides, fields, units, betas.tolist(), seed)
        weight, vbias, hbias, constant = self._bernoulli()
        logits = cast(BinaryUnits, self.visible_units).logits(fields)
        log_weight, last = rbm_ais(self._bits(states), weight, vbias, hbias, logits, betas, seed=seed)
        if constant is None:
            return log_weight, last
        # The Bernoulli forms omit constants: `constant` of the model, minus the sum of the fields c of spins.
        lacking = constant.double() + (logits - fields).double().sum(-1)
        return log_weight + (betas[-1] - betas[0]).to(lacking) * lacking, self._from_bits(last)

    def base(self, mean: Tensor, variance: Tensor | None, margin: float) -> Tensor:
        """Parameters of independent visible units with given moments: fields, then log precisions if any."""
        fields, units = self.visible_units.from_moments(mean, variance, margin)
        return torch.cat([fields, *units.parameters.values()], -1) if isinstance(units, PreciseUnits) else fields

    def _base(self, base: Tensor) -> tuple[Tensor, Units]:
        """Fields and units of a base; fields without units use those of the model."""
        visible = self.vbias.shape[-1]
        fields, log_precision = base[..., :visible], base[..., visible:]
        units = self.visible_units
        return fields, units.replace(log_precision=log_precision) if log_precision.shape[-1] else units

    def base_log_partition(self, base: Tensor) -> Tensor:
        """Log Z of free visible units with parameters ``base`` and free hidden units without bias, in float64."""
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
        return self._from_bits((uniforms(0, INITIAL, shape[-1]).view(shape) < rates).to(self.vbias.dtype))

    def pilot(self, num_chains: int, num_steps: int, seed: int) -> Tensor:
        """Short chains from the distribution of the visible biases alone, keyed by ``seed``."""
        return self.sweep(self.base_states(self.uncentred[1], num_chains, seed), num_steps, seed, 0)

    @property
    def mean_range(self) -> tuple[float, float]:
        """Range of base rates."""
        return self.visible_units.mean_range

    @property
    def _binary(self) -> bool:
        """True if the fused kernels support both sides."""
        return self.visible_units.binary and self.hidden_units.binary

    def _bernoulli(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The Bernoulli RBM over the bits of binary units, and the constant that its energy omits, if any."""
        if isinstance(self.visible_units, BernoulliUnits) and isinstance(self.hidden_units, BernoulliUnits):
            return *self.uncentred, None
        return bernoulli_parameters(*self.uncentred, self.visible_units, self.hidden_units)

    def _bits(self, value: Tensor) -> Tensor:
        return cast(BinaryUnits, self.visible_units).bits(value)

    def _from_bits(self, bits: Tensor) -> Tensor:
        return cast(BinaryUnits, self.visible_units).from_bits(bits)

    def _hidden_field(self, v: Tensor) -> Tensor:
        check_width("v", v, self.vbias)
        weight, _, hbias = self.uncentred
        return field(v.to(weight.dtype), weight, hbias)


__all__ = ["TwoLayerEnergy"]
