"""The restricted Boltzmann machine as a distribution over its visible units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Size, Tensor
from torch.distributions import register_kl

from pyro_gen.distributions.arguments import Shape, bound, check_parameters
from pyro_gen.distributions.energy import two_layers
from pyro_gen.distributions.energy.divergence import divergence, entropy
from pyro_gen.distributions.energy.enumeration import numbers_of_states, two_layer_draw
from pyro_gen.distributions.energy.normalisable import check_normalisable
from pyro_gen.distributions.energy.two_layer_energy import TwoLayerEnergy
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.log_z.negative_phase import starts_at_data
from pyro_gen.distributions.log_z.partition import EXACT_UNITS, Exact, Partition
from pyro_gen.distributions.units import BernoulliUnits, Units
from pyro_gen.kernels import draw_seed

if TYPE_CHECKING:
    from pyro_gen.distributions.energy.clamped import ClampedRBM

BERNOULLI = BernoulliUnits()


class RBM(TwoLayerEnergy):
    r"""Restricted Boltzmann machine with units of any type on either side; a distribution over the visible ones.

    .. math:: E(v, h) = U_v(v) + U_h(h) - a \cdot v - b \cdot h - v W h,
              \qquad p(v) = \frac1Z \sum_h e^{-E(v, h)} = \frac{e^{-F(v)}}{Z}

    with U the units' own energy, 0 for Bernoulli units, which both sides have unless told otherwise. Energies, free
    energies and log probabilities are in nats (densities where units are continuous). The event shape is (visible,);
    batch dimensions of the parameters broadcast.

    Args:
        weight: couplings W, shape (..., visible, hidden).
        vbias: visible bias a, shape (..., visible).
        hbias: hidden bias b, shape (..., hidden).
        partition: how log Z is known: ``Exact()``, ``AIS(...)``, a negative phase, or None for exact enumeration where
            one side has at most 2^20 states, 20 binary units (beyond that only what needs log Z raises).
        num_steps: Gibbs sweeps of ``sample`` where no exact draw is possible.
        validate_args: whether to check parameters and values.
        visible_units: type of the visible units; tensors in it (``log_precision``) are parameters like the others.
        hidden_units: type of the hidden units.

    Raises:
        ValueError: shapes, dtypes or devices of the parameters do not fit, ``partition`` cannot serve them, or the
            joint of these units is not known to be normalisable under them.

    References:
        Smolensky (1986), Information processing in dynamical systems: harmony theory. Fischer and Igel (2014), Training
        restricted Boltzmann machines: an introduction, Pattern Recognition 47, equations 16-23.

    Example:
        >>> rbm = RBM(torch.eye(3, 2).double(), torch.zeros(3).double(), torch.zeros(2).double())
        >>> rbm.log_prob(rbm.enumerate_support()).exp().sum()
        tensor(1.0000, dtype=torch.float64)
        >>> rbm.sample((5,)).shape
        torch.Size([5, 3])
    """

    has_rsample = False

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
        check_parameters(weight, vbias, hbias)
        self.weight = weight
        self.vbias = vbias
        self.hbias = hbias
        self._set_units(bound("visible", visible_units, vbias), bound("hidden", hidden_units, hbias))
        super().__init__(self.parameter_batch_shape, vbias.shape[-1:], partition, num_steps, validate_args)
        if self._validate_args:
            check_normalisable(weight, self.visible_units, self.hidden_units)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Batch and event shape from the shapes of the parameters, the units' own by ``visible_`` and ``hidden_``."""
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
        r"""Sum over the units of log p(v_i | all other units), which needs no log Z; exact and differentiable.

        .. math:: \sum_i \log p(v_i | v_{-i}) = -\sum_i \log \sum_{x} e^{F(v) - F(v_{-i}, v_i = x)}

        over the two values x of a binary unit or the states of a categorical site.

        Args:
            value: visible states (..., visible).

        Returns:
            Nats, of shape (...).

        Raises:
            NotImplementedError: the visible units have infinitely many states each, or a fixed sum.

        References:
            Besag (1975), Statistical analysis of non-lattice data.
        """
        self.check_value("value", value)
        return two_layers.pseudo_log_likelihood(value.to(self.weight.dtype), self.uncentred, *self._sides)

    def given(self, observed: Tensor, mask: Tensor) -> ClampedRBM:
        """The distribution of the missing cells given the observed ones; the event stays the whole visible layer.

        Args:
            observed: states (..., visible); what stands in a missing cell is ignored, NaN included.
            mask: True where a cell is observed, (..., visible); rows may differ.

        Returns:
            A distribution whose samples carry the observed cells and whose ``log_prob(x)`` is log p(missing cells of x
            | observed cells), -inf where x contradicts them.

        Raises:
            ValueError: ``mask`` is not boolean, shapes or devices do not fit, or an observed cell is neither 0 nor 1.
        """
        from pyro_gen.distributions.energy.clamped import ClampedRBM

        if not (isinstance(self.visible_units, BernoulliUnits) and isinstance(self.hidden_units, BernoulliUnits)):
            kinds = f"{type(self.visible_units).__name__} and {type(self.hidden_units).__name__}"
            raise ValueError(f"`given` expects Bernoulli units on both sides, got {kinds}")
        units = self.partition.max_units if isinstance(self.partition, Exact) else EXACT_UNITS
        return ClampedRBM(*self.uncentred, observed, mask, units, self.num_steps, self._validate_args)

    def log_evidence(self, observed: Tensor, mask: Tensor) -> Tensor:
        """Log probability of the observed cells, the missing ones summed out; :meth:`evidence_estimate` has its error.

        Args:
            observed: states (..., visible); what stands in a missing cell is ignored, NaN included.
            mask: True where a cell is observed, (..., visible); rows may differ.

        Returns:
            Nats, of the broadcast batch shape, differentiable.

        Raises:
            ValueError: as :meth:`evidence_estimate`.
        """
        return self.evidence_estimate(observed, mask).value

    def evidence_estimate(self, observed: Tensor, mask: Tensor) -> Estimate:
        """Log probability of the observed cells, the missing ones summed out exactly; differentiable.

        Its error is that of log Z alone. Under persistent chains it is a contrast whose gradient learns from what was
        observed, to be used in ``pyro.factor``.

        Args:
            observed: states (..., visible); what stands in a missing cell is ignored, NaN included.
            mask: True where a cell is observed, (..., visible); rows may differ.

        Returns:
            Nats, of the broadcast batch shape, with the error of log Z; under persistent chains without one (NaN).

        Raises:
            ValueError: hidden units and missing cells are too many to sum over, log Z is not known, or the particles
                start at the data (CD), which has no missing cells.
        """
        if starts_at_data(self.partition):
            raise ValueError(
                "`log_evidence` cannot use particles that start at the data: use PersistentChains or Exact"
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
        """Draw visible states: exactly where ``samples_exactly``, else by ``num_steps`` sweeps from the biases alone.

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
        """True if the visible states can be listed: at most 2^20, and no CD, which serves observed rows only."""
        return numbers_of_states(self.uncentred, self._sides)[0] <= 2**EXACT_UNITS and not starts_at_data(
            self.partition
        )

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All visible states, 2^visible of Bernoulli units.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (states,) + batch_shape + (visible,), or with ones in place of the batch.

        Raises:
            NotImplementedError: there are more than 2^20 visible states, or the particles start at the value (CD).
        """
        number, visible = numbers_of_states(self.uncentred, self._sides)[0], self.vbias.shape[-1]
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"visible states are listed where there are at most 2**{EXACT_UNITS} (at most {EXACT_UNITS} binary "
                f"units) and not under contrastive divergence, got {visible} {type(self.visible_units).__name__} and "
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


@register_kl(RBM, RBM)
def _kl_rbm_rbm(p: RBM, q: RBM) -> Tensor:
    return divergence(p, q, (p.visible_units, q.visible_units))


__all__ = ["RBM"]
