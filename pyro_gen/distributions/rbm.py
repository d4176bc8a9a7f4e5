"""The restricted Boltzmann machine as a distribution over its visible units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints, register_kl
from torch.nn.functional import logsigmoid

from pyro_gen.distributions.energy import EnergyDistribution
from pyro_gen.distributions.enumeration import Side, log_sum, log_terms
from pyro_gen.distributions.negative_phase import starts_at_data
from pyro_gen.distributions.partition import EXACT_UNITS, Exact, Partition
from pyro_gen.distributions.units import BernoulliUnits, Units
from pyro_gen.kernels import draw_seed, rbm_ais, rbm_free_energy, rbm_gibbs
from pyro_gen.kernels.gibbs.reference import field
from pyro_gen.kernels.random import INITIAL, source

if TYPE_CHECKING:
    from pyro_gen.distributions.clamped import ClampedRBM

Shape = Size | list[int] | tuple[int, ...]


class RBM(EnergyDistribution):
    r"""Restricted Boltzmann machine with Bernoulli units on both sides; a distribution over the visible ones.

    .. math:: E(v, h) = -a \cdot v - b \cdot h - v W h, \qquad p(v) = \frac1Z \sum_h e^{-E(v, h)} = \frac{e^{-F(v)}}{Z}

    Energies, free energies and log probabilities are in nats. The event shape is (visible,); batch dimensions of the
    parameters broadcast.

    Args:
        weight: couplings W, shape (..., visible, hidden).
        vbias: visible bias a, shape (..., visible).
        hbias: hidden bias b, shape (..., hidden).
        partition: how log Z is known: ``Exact()``, ``AIS(...)``, a negative phase, or None for exact enumeration where
            the smaller side has at most 20 units (beyond that only what needs log Z raises).
        num_steps: Gibbs sweeps of ``sample`` where no exact draw is possible.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: shapes, dtypes or devices of the parameters do not fit, or ``partition`` cannot serve them.

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

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "weight": constraints.independent(constraints.real, 2),
        "vbias": constraints.real_vector,
        "hbias": constraints.real_vector,
    }
    has_rsample = False
    visible_units: ClassVar[Units] = BernoulliUnits()
    hidden_units: ClassVar[Units] = BernoulliUnits()

    def __init__(
        self,
        weight: Tensor,
        vbias: Tensor,
        hbias: Tensor,
        partition: Partition | None = None,
        num_steps: int | None = None,
        validate_args: bool | None = None,
    ) -> None:
        _check_parameters(weight, vbias, hbias)
        if num_steps is not None and num_steps < 1:
            raise ValueError(f"`num_steps` must be at least 1 or None, got {num_steps}")
        self.weight, self.vbias, self.hbias, self.num_steps = weight, vbias, hbias, num_steps
        self._memo = []
        super().__init__(self.parameter_batch_shape, vbias.shape[-1:], validate_args=validate_args)
        if not isinstance(partition, Partition | None):
            raise ValueError(f"`partition` must be Exact(...), AIS(...), a negative phase or None, got {partition}")
        self.partition = None if partition is None else partition.bind(self)

    @property
    def support(self) -> constraints.Constraint:
        """Vectors of zeros and ones."""
        return constraints.independent(self.visible_units.support, 1)

    @property
    def parameters(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, visible bias and hidden bias."""
        return self.weight, self.vbias, self.hbias

    @property
    def parameter_batch_shape(self) -> Size:
        """Broadcast batch shape of the parameters, without what ``expand`` added."""
        return torch.broadcast_shapes(self.weight.shape[:-2], self.vbias.shape[:-1], self.hbias.shape[:-1])

    @property
    def smaller_side(self) -> int:
        """The smaller of the numbers of visible and of hidden units."""
        return min(self.weight.shape[-2:])

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Batch and event shape from the shapes of the parameters."""
        weight, vbias, hbias = (arg_shapes[name] for name in ("weight", "vbias", "hbias"))
        return torch.broadcast_shapes(weight[:-2], vbias[:-1], hbias[:-1]), Size(vbias[-1:])

    def expand(self, batch_shape: Shape, _instance: Any = None) -> RBM:
        """The same distribution with a larger batch shape; parameters are shared, not copied.

        Args:
            batch_shape: shape to which the present batch shape broadcasts.
            _instance: new instance provided by a subclass that overrides ``expand``.

        Returns:
            A distribution that shares parameters and any estimate of log Z with this one.

        Raises:
            ValueError: the present batch shape does not broadcast to ``batch_shape``.
        """
        new = self._get_checked_instance(RBM, _instance)
        shape = Size(batch_shape)
        if torch.broadcast_shapes(self.batch_shape, shape) != shape:
            raise ValueError(f"`batch_shape` must extend {tuple(self.batch_shape)}, got {tuple(shape)}")
        new.weight, new.vbias, new.hbias = self.parameters
        new.partition, new.num_steps = self.partition, self.num_steps
        new._memo, new.shares_memo = self._memo, self.shares_memo
        super(RBM, new).__init__(shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h) = -a.v - b.h - v W h.

        Args:
            v: visible states (..., visible).
            h: hidden states (..., hidden).

        Returns:
            Nats, of the broadcast batch shape.
        """
        _check_width("h", h, self.hbias)
        v, h = v.to(self.weight.dtype), h.to(self.weight.dtype)
        interaction = (field(v, self.weight, torch.zeros_like(self.hbias)) * h).sum(-1)
        return self.visible_units.energy(v, self.vbias) + self.hidden_units.energy(h, self.hbias) - interaction

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
        self.check_value("v", v)
        self._check_hidden(h)
        return -self.energy(v, h) - self.log_partition().value

    def free_energy(self, value: Tensor) -> Tensor:
        r"""F(v) = -a.v - sum_j log(1 + exp(b_j + (v W)_j)).

        Args:
            value: visible states (..., visible).

        Returns:
            Nats, of shape (...).
        """
        return rbm_free_energy(value.to(self.weight.dtype), *self.parameters)

    def hidden_given_visible(self, v: Tensor) -> TorchDistribution:
        """p(h | v): independent Bernoulli units, event shape (hidden,)."""
        return self.hidden_units.conditional(self._hidden_field(v))

    def visible_given_hidden(self, h: Tensor) -> TorchDistribution:
        """p(v | h): independent Bernoulli units, event shape (visible,)."""
        return self.visible_units.conditional(field(h.to(self.weight.dtype), self.weight.mT, self.vbias))

    def pseudo_log_likelihood(self, value: Tensor) -> Tensor:
        r"""Sum over the units of log p(v_i | all other units), which needs no log Z; exact and differentiable.

        .. math:: \sum_i \log \sigma\bigl(F(v^{(i)}) - F(v)\bigr), \quad v^{(i)} = v \text{ with unit } i
                  \text{ flipped}

        Args:
            value: visible states (..., visible).

        Returns:
            Nats, of shape (...).

        References:
            Besag (1975), Statistical analysis of non-lattice data.
        """
        self.check_value("value", value)
        value = value.to(self.weight.dtype)
        hidden_field = self._hidden_field(value)
        cumulant = self.hidden_units.cumulant(hidden_field)
        terms = []
        for i in range(self.vbias.shape[-1]):
            flip = 1 - 2 * value[..., i]
            flipped = hidden_field + flip.unsqueeze(-1) * self.weight[..., i, :]
            gain = flip * self.vbias[..., i] + self.hidden_units.cumulant(flipped) - cumulant
            terms.append(logsigmoid(-gain))
        return torch.stack(terms, -1).sum(-1)

    @torch.no_grad()
    def gibbs(self, value: Tensor, num_steps: int) -> Tensor:
        """Run block Gibbs sweeps h ~ p(h | v), v ~ p(v | h) from given states.

        Args:
            value: visible states (..., visible), each a chain.
            num_steps: sweeps; 0 returns ``value``.

        Returns:
            New visible states, shape (..., visible) broadcast with the batch.

        Raises:
            ValueError: ``num_steps`` is negative, or ``value`` is outside the support.
        """
        if num_steps < 0:
            raise ValueError(f"`num_steps` must not be negative, got {num_steps}")
        self.check_value("value", value)
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape) + self.event_shape
        value = value.to(self.vbias).expand(shape)
        return self.sweep(value, num_steps, draw_seed(), 0) if num_steps else value

    def given(self, observed: Tensor, mask: Tensor) -> ClampedRBM:
        """The law of the missing cells given the observed ones; the event stays the whole visible layer.

        Args:
            observed: states (..., visible); what stands in a missing cell is ignored, NaN included.
            mask: True where a cell is observed, (..., visible); rows may differ.

        Returns:
            A distribution whose samples carry the observed cells and whose ``log_prob(x)`` is log p(missing cells of x
            | observed cells), -inf where x contradicts them.

        Raises:
            ValueError: ``mask`` is not boolean, shapes or devices do not fit, or an observed cell is neither 0 nor 1.
        """
        from pyro_gen.distributions.clamped import ClampedRBM

        units = self.partition.max_units if isinstance(self.partition, Exact) else EXACT_UNITS
        return ClampedRBM(*self.parameters, observed, mask, units, self.num_steps, self._validate_args)

    def log_evidence(self, observed: Tensor, mask: Tensor) -> Tensor:
        """Log probability of the observed cells, the missing ones summed out exactly; differentiable.

        Its error is that of log Z alone. Under persistent chains it is a contrast whose gradient learns from what was
        observed, to be used in ``pyro.factor``.

        Args:
            observed: states (..., visible); what stands in a missing cell is ignored, NaN included.
            mask: True where a cell is observed, (..., visible); rows may differ.

        Returns:
            Nats, of the broadcast batch shape.

        Raises:
            ValueError: hidden units and missing cells are too many to sum over, log Z is not known, or the particles
                start at the data (CD), which has no missing cells.
        """
        if starts_at_data(self.partition):
            raise ValueError(
                "`log_evidence` cannot use particles that start at the data: use PersistentChains or Exact"
            )
        given = self.given(observed, mask)
        return given.log_completions() - self._resolve_partition().log_normalizer(self, given.observed)

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw visible states: exactly where ``samples_exactly``, else by ``num_steps`` sweeps from sigmoid(vbias).

        Args:
            sample_shape: leading dimensions.

        Returns:
            Zeros and ones of shape sample_shape + batch_shape + (visible,).

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
            return self._sample_exactly(Size(shape[:-1]))
        if self.num_steps is None:
            raise ValueError(
                f"`sample` has no exact draw here (smaller side {self.smaller_side} units, partition "
                f"{self.partition}): give the constructor `num_steps`, the Gibbs sweeps to run from the base rates, or "
                "use `gibbs` from states of your own"
            )
        start = self.visible_units.conditional(self.vbias.expand(shape)).sample()
        value = rbm_gibbs(start, *self.parameters, self.num_steps, seed=draw_seed())[0]
        return value, self.hidden_given_visible(value).sample()

    def _sample_exactly(self, shape: Size) -> tuple[Tensor, Tensor]:
        """Draw the smaller side from its enumerated marginal, then the larger side given it."""
        side, weight, small, large = self._smaller_first()
        index = _draw_index(log_terms(side, weight, small, large), shape)
        states = side.small.states(index, side.num_units, weight)
        other = side.large.conditional(field(states, weight, large)).sample()
        return (states, other) if small is self.vbias else (other, states)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # a flag of the class in torch, of the size here
        """Whether the visible states can be listed: at most 20 units, and no CD, which serves observed rows only."""
        return self.vbias.shape[-1] <= EXACT_UNITS and not starts_at_data(self.partition)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All 2^visible states.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (2^visible,) + batch_shape + (visible,), or with ones in place of the batch.

        Raises:
            NotImplementedError: there are more than 20 visible units, or the particles start at the value (CD).
        """
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"visible states are listed for at most {EXACT_UNITS} units and not under contrastive divergence, got "
                f"{self.vbias.shape[-1]} units and partition {self.partition}"
            )
        visible = self.vbias.shape[-1]
        numbers = torch.arange(2**visible, device=self.vbias.device)
        values = self.visible_units.states(numbers, visible, self.vbias)
        values = values.view(-1, *(1,) * len(self.batch_shape), visible)
        return values.expand(-1, *self.batch_shape, visible) if expand else values

    def entropy(self) -> Tensor:
        """Entropy in nats, by enumeration of the visible states.

        Raises:
            NotImplementedError: there are too many states, or log Z is not exact.
        """
        _check_exact(self)
        log_prob = self.log_prob(self.enumerate_support())
        return -(log_prob.exp() * log_prob).sum(0)

    def sweep(self, value: Tensor, num_steps: int, seed: int, step: int) -> Tensor:
        """Gibbs sweeps keyed by (seed, step); ``value`` has the parameters' batch shape."""
        return rbm_gibbs(value, *self.parameters, num_steps, seed=seed, step=step)[0]

    def log_sum(self) -> Tensor:
        """Exact log Z over the smaller side."""
        return log_sum(*self._smaller_first()).expand(self.parameter_batch_shape)

    def anneal(self, states: Tensor, base: Tensor, betas: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Annealed importance weights and last states; see :func:`pyro_gen.kernels.rbm_ais`."""
        states = states.expand(torch.broadcast_shapes(states.shape[:-1], self.parameter_batch_shape) + self.event_shape)
        return rbm_ais(states, *self.parameters, base, betas, seed=seed)

    def base_log_partition(self, base: Tensor) -> Tensor:
        """Log Z of free visible units with logits ``base`` and free hidden units without bias, in float64."""
        hidden = torch.zeros_like(self.hbias, dtype=torch.float64)
        return self.visible_units.cumulant(base.double()) + self.hidden_units.cumulant(hidden)

    def base_states(self, base: Tensor, num_chains: int, seed: int) -> Tensor:
        """Draws from independent units with logits ``base``, keyed by ``seed``."""
        shape = Size((num_chains, *self.parameter_batch_shape, *self.event_shape))
        uniforms = source(seed, shape[:-1].numel(), 0, self.vbias, fast=True)
        return (uniforms(0, INITIAL, shape[-1]).view(shape) < base.sigmoid()).to(self.vbias.dtype)

    def pilot(self, num_chains: int, num_steps: int, seed: int) -> Tensor:
        """Short chains from sigmoid(vbias), keyed by ``seed``."""
        return self.sweep(self.base_states(self.vbias, num_chains, seed), num_steps, seed, 0)

    def _check_hidden(self, h: Tensor) -> None:
        if self._validate_args and not self.hidden_units.support.check(h).all():
            raise ValueError("`h` must hold hidden states, zeros and ones, got other values")

    def _hidden_field(self, v: Tensor) -> Tensor:
        _check_width("v", v, self.vbias)
        return field(v.to(self.weight.dtype), self.weight, self.hbias)

    def _smaller_first(self) -> tuple[Side, Tensor, Tensor, Tensor]:
        """Unit types, weight and biases with the smaller side first."""
        visible, hidden = self.weight.shape[-2:]
        if visible <= hidden:
            return Side(self.visible_units, self.hidden_units, visible), self.weight, self.vbias, self.hbias
        return Side(self.hidden_units, self.visible_units, hidden), self.weight.mT, self.hbias, self.vbias


def _check_parameters(weight: Tensor, vbias: Tensor, hbias: Tensor) -> None:
    """Name the parameter whose shape, device or dtype does not fit."""
    if weight.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"`weight` must be float32 or float64, got {weight.dtype}")
    if weight.dim() < 2 or 0 in weight.shape[-2:]:
        raise ValueError(
            f"`weight` must have shape (..., visible, hidden) with both positive, got {tuple(weight.shape)}"
        )
    for name, bias, size in (("vbias", vbias, weight.shape[-2]), ("hbias", hbias, weight.shape[-1])):
        if bias.shape[-1:] != (size,):
            raise ValueError(f"`{name}` must have shape (..., {size}) to match `weight`, got {tuple(bias.shape)}")
        if (bias.device, bias.dtype) != (weight.device, weight.dtype):
            raise ValueError(
                f"`{name}` must be {weight.dtype} on {weight.device} like `weight`, got {bias.dtype} on {bias.device}"
            )
    batches = [tuple(weight.shape[:-2]), tuple(vbias.shape[:-1]), tuple(hbias.shape[:-1])]
    try:
        torch.broadcast_shapes(*batches)
    except RuntimeError as error:
        message = f"the batch shapes of `weight`, `vbias` and `hbias` must broadcast, got {batches}"
        raise ValueError(message) from error


def _check_width(name: str, states: Tensor, bias: Tensor) -> None:
    if states.shape[-1:] != bias.shape[-1:]:
        raise ValueError(f"`{name}` must have shape (..., {bias.shape[-1]}), got {tuple(states.shape)}")


def _check_exact(rbm: RBM) -> None:
    if not isinstance(rbm._resolve_partition(), Exact):
        raise NotImplementedError(f"this needs the exact log Z, and `partition` is {rbm.partition}")


def _draw_index(log_weights: Tensor, shape: Size) -> Tensor:
    """Indices of shape ``shape`` with probabilities exp(log_weights) (..., states), by inversion in float64."""
    cumulative = log_weights.double().softmax(-1).cumsum(-1)
    batch = Size(shape[len(shape) - cumulative.dim() + 1 :])
    uniform = torch.rand(shape, dtype=torch.float64, device=log_weights.device) * cumulative[..., -1]
    if Size(cumulative.shape[:-1]).numel() == 1:
        return torch.searchsorted(cumulative.flatten(), uniform, right=True)
    rows = uniform.reshape(-1, *batch).movedim(0, -1).contiguous()
    index = torch.searchsorted(cumulative.expand(*batch, -1).contiguous(), rows, right=True)
    return index.movedim(-1, 0).reshape(shape)


@register_kl(RBM, RBM)
def _kl_rbm_rbm(p: RBM, q: RBM) -> Tensor:
    """Kullback-Leibler divergence in nats by enumeration of the visible states."""
    if p.event_shape != q.event_shape:
        raise ValueError(f"`p` and `q` must have as many visible units, got {p.event_shape[0]} and {q.event_shape[0]}")
    _check_exact(p)
    _check_exact(q)
    batch = torch.broadcast_shapes(p.batch_shape, q.batch_shape)
    p, q = p.expand(batch), q.expand(batch)
    values = p.enumerate_support(expand=False)
    log_p, log_q = p.log_prob(values), q.log_prob(values)
    return (log_p.exp() * (log_p - log_q)).sum(0)


__all__ = ["RBM"]
