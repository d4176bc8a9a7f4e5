"""The class-RBM: a restricted Boltzmann machine over an input and its label."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn.functional import one_hot, softplus

from pyro_gen.distributions.arguments import Shape, check_bits, check_classes
from pyro_gen.distributions.energy.base import EnergyDistribution
from pyro_gen.distributions.energy.rbm import RBM
from pyro_gen.distributions.log_z.annealing import AIS
from pyro_gen.distributions.log_z.negative_phase import starts_at_data
from pyro_gen.distributions.log_z.partition import EXACT_UNITS, Exact, Partition
from pyro_gen.distributions.units import BernoulliUnits
from pyro_gen.distributions.units.base import Finite
from pyro_gen.kernels import draw_seed, rbm_free_energy, rbm_gibbs
from pyro_gen.kernels.contrastive.surrogate import can_fuse, surrogate
from pyro_gen.kernels.gibbs.reference import field
from pyro_gen.kernels.random import INITIAL, source

LABEL = 3
"""Stream of the labels' uniforms, beside those of the two layers and of initial states."""


class LabelledStates(constraints.Constraint):
    """Vectors of zeros and ones whose last ``classes`` numbers hold a single one.

    Args:
        classes: number of classes.
    """

    is_discrete = True
    event_dim = 1

    def __init__(self, classes: int) -> None:
        self.classes = classes
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Check that each vector is one-hot."""
        return ((value == 0) | (value == 1)).all(-1) & (value[..., -self.classes :].sum(-1) == 1)


class ClassRBM(EnergyDistribution):
    r"""Joint distribution of binary inputs v and a label y that share one layer of hidden units.

    .. math:: E(v, y, h) = -a \cdot v - c_y - b \cdot h - v W h - U_y h, \qquad
              p(y | v) \propto
              \exp\Bigl(c_y + \sum_j \log\bigl(1 + e^{\,b_j + U_{yj} + (v W)_j}\bigr)\Bigr)

    A value is v followed by y as a one-hot vector: the event shape is (visible
    + classes,), made by :meth:`encode`. The distribution of the label given the
    input, :meth:`given_visible`, needs no log Z. Log Z itself is exact, where
    hidden or visible units can be enumerated, or is replaced by a negative
    phase.

    Args:
        weight: couplings W, shape (..., visible, hidden).
        label_weight: couplings U of the labels, shape (..., classes, hidden).
        vbias: visible bias a, shape (..., visible).
        label_bias: bias c of the labels, shape (..., classes).
        hbias: hidden bias b, shape (..., hidden).
        partition: ``Exact()``, a negative phase, or None for exact enumeration
            of at most 20 units.
        num_steps: Gibbs sweeps of ``sample`` where no exact draw is possible.
        validate_args: whether to check parameters and values.

    Raises:
        ValueError: shapes do not fit, or ``partition`` cannot serve.

    References:
        Larochelle and Bengio (2008), Classification using discriminative
        restricted Boltzmann machines, equations 1-8.

    Example:
        >>> rbm = ClassRBM(torch.eye(3, 2), torch.eye(2), torch.zeros(3), torch.zeros(2),
        ...     torch.zeros(2))
        >>> rbm.given_visible(torch.tensor([1.0, 0.0, 0.0])).probs
        tensor([0.5482, 0.4518])
        >>> rbm.encode(torch.zeros(3), torch.tensor(1))
        tensor([0., 0., 0., 0., 1.])
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "weight": Finite(2),
        "label_weight": Finite(2),
        "vbias": Finite(),
        "label_bias": Finite(),
        "hbias": Finite(),
    }
    has_rsample = False

    def __init__(
        self,
        weight: Tensor,
        label_weight: Tensor,
        vbias: Tensor,
        label_bias: Tensor,
        hbias: Tensor,
        partition: Partition | None = None,
        num_steps: int | None = None,
        validate_args: bool | None = None,
    ) -> None:
        # says what does not fit
        RBM(weight, vbias, hbias, num_steps=num_steps, validate_args=False)
        _check_labels(weight, label_weight, label_bias)
        if isinstance(partition, AIS):
            raise ValueError(
                "`partition` must be Exact(...), a negative phase or None for a class-RBM, got AIS"
            )
        self.weight = weight
        self.label_weight = label_weight
        self.vbias = vbias
        self.label_bias = label_bias
        self.hbias = hbias
        event = Size((vbias.shape[-1] + label_bias.shape[-1],))
        super().__init__(self.parameter_batch_shape, event, partition, num_steps, validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Zeros and ones, the last of them one-hot."""
        return LabelledStates(self.label_bias.shape[-1])

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The constructor's tensors in order."""
        return self.weight, self.label_weight, self.vbias, self.label_bias, self.hbias

    @property
    def parameter_batch_shape(self) -> Size:
        """Broadcast batch shape of the parameters."""
        return self.infer_shapes(
            **{name: getattr(self, name).shape for name in self.arg_constraints}
        )[0]

    @property
    def enumerated_units(self) -> int:
        """The smaller of the numbers of visible and of hidden units.

        The labels are always summed out.
        """
        return min(self.weight.shape[-2:])

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Batch and event shape from the shapes of the parameters."""
        batches = [
            shape[:-2] if name.endswith("weight") else shape[:-1]
            for name, shape in arg_shapes.items()
        ]
        return torch.broadcast_shapes(*batches), Size(
            (arg_shapes["vbias"][-1] + arg_shapes["label_bias"][-1],)
        )

    def encode(self, v: Tensor, y: Tensor) -> Tensor:
        """One value of the joint distribution from inputs and labels.

        Args:
            v: inputs (..., visible).
            y: class numbers (...).

        Returns:
            Shape (..., visible + classes).

        Raises:
            ValueError: ``v`` has another width or other values than 0 and 1, or
                ``y`` holds no class numbers.
        """
        if self._validate_args:
            check_bits("v", v, self.vbias.shape[-1])
            check_classes("y", y, self.label_bias.shape[-1])
        return encode(v.to(self.vbias.dtype), y, self.label_bias.shape[-1])

    def decode(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (..., visible) and class numbers (...) of values of the joint
        distribution, which are checked.
        """
        self.check_value("value", value)
        visible = self.vbias.shape[-1]
        return value[..., :visible], value[..., visible:].argmax(-1)

    def given_visible(self, v: Tensor) -> dist.Categorical:
        """p(y | v): exact, normalised and differentiable, whatever ``partition`` is.

        Args:
            v: inputs (..., visible).

        Returns:
            A categorical distribution over the classes.

        Raises:
            ValueError: ``v`` has another width or other values than 0 and 1.
        """
        if self._validate_args:
            check_bits("v", v, self.vbias.shape[-1])
        logits = label_logits(
            v.to(self.vbias.dtype), self.weight, self.label_weight, self.label_bias, self.hbias
        )
        return dist.Categorical(logits=logits)

    def free_energy(self, value: Tensor) -> Tensor:
        """F(v, y): that of an RBM whose visible units are v and the one-hot y.

        Args:
            value: (..., visible + classes).

        Returns:
            Nats, of shape (...).

        Raises:
            ValueError: ``value`` lies outside the support.
        """
        self.check_value("value", value)
        return self._free_energy(value)

    def _free_energy(self, value: Tensor) -> Tensor:
        return rbm_free_energy(value.to(self.vbias.dtype), *self._joined())

    def _contrast(
        self, value: Tensor, particles: Tensor, shares: Tensor | None = None, paired: bool = False
    ) -> Tensor | None:
        joined = self._joined()
        if not can_fuse(value, *joined):
            return None
        return surrogate(value, particles, joined, shares=shares, paired=paired)

    def log_sum(self) -> Tensor:
        r"""Exact log Z: the sum over the classes of the log Z of an RBM with hidden bias b
        + U_y.
        """
        return (
            (self.label_bias + self._by_class().log_sum())
            .logsumexp(-1)
            .expand(self.parameter_batch_shape)
        )

    def sweep(self, value: Tensor, num_steps: int, seed: int, step: int) -> Tensor:
        """Gibbs sweeps of (v, y) given h and back, keyed by (seed, step)."""
        parameters = self._joined()
        uniforms = source(seed, value.shape[:-1].numel(), 0, value, fast=True)
        for t in range(step, step + num_steps):
            # its labels are not one-hot: redrawn
            value, h = rbm_gibbs(value, *parameters, 1, seed=seed, step=t)
            labels = field(h, self.label_weight.mT, self.label_bias)
            new_labels = _draw_label(labels, uniforms(t, LABEL, 1).view(labels.shape[:-1]))
            value = torch.cat((value[..., : self.vbias.shape[-1]], new_labels), -1)
        return value

    def sample(self, sample_shape: Shape = ()) -> Tensor:
        """Draw inputs and labels: exactly where ``samples_exactly``, else by
        ``num_steps`` sweeps from the biases.

        Args:
            sample_shape: leading dimensions.

        Returns:
            Shape sample_shape + batch_shape + (visible + classes,).

        Raises:
            ValueError: no exact draw is possible and ``num_steps`` is None.
        """
        shape = self._extended_shape(Size(sample_shape))
        with torch.no_grad():
            if self.samples_exactly:
                return self._sample_exactly(Size(shape[:-1]))
            if self.num_steps is None:
                raise self._no_exact_draw("biases")
            seed = draw_seed()
            base = self._joined()[1]
            chains = Size(shape[: len(shape) - 1 - len(self.parameter_batch_shape)]).numel()
            start = self.base_states(base, chains, seed).reshape(shape)
            return self.sweep(start, self.num_steps, seed, 0)

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # a flag of the class in torch, of the size here
        """True if the states can be listed: at most 20 visible units, and no CD."""
        return self.vbias.shape[-1] <= EXACT_UNITS and not starts_at_data(self.partition)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All inputs with all labels.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (2^visible classes,) + batch_shape + (visible + classes,), or
            with ones in place of the batch.

        Raises:
            NotImplementedError: there are more than 20 visible units, or the
                particles start at the value (CD).
        """
        if not self.has_enumerate_support:
            raise NotImplementedError(
                f"states are listed for at most {EXACT_UNITS} visible units and not under "
                "contrastive divergence, got "
                f"{self.vbias.shape[-1]} units and partition {self.partition}"
                f"{self._instead(self.vbias.shape[-1] <= EXACT_UNITS)}"
            )
        (visible,) = self.vbias.shape[-1:]
        (classes,) = self.label_bias.shape[-1:]
        device = self.vbias.device
        v = BernoulliUnits().states(torch.arange(2**visible, device=device), visible, self.vbias)
        y = torch.arange(classes, device=device).repeat(len(v))
        return self._listed(encode(v.repeat_interleave(classes, 0), y, classes), expand)

    def base_states(self, base: Tensor, num_chains: int, seed: int) -> Tensor:
        """Draws from independent inputs and labels with logits ``base``, keyed by ``seed``."""
        shape = Size((num_chains, *self.parameter_batch_shape, *self.event_shape))
        uniforms = source(seed, shape[:-1].numel(), 0, self.vbias, fast=True)
        visible = self.vbias.shape[-1]
        v = (
            uniforms(0, INITIAL, visible).view(*shape[:-1], visible)
            < base[..., :visible].sigmoid()
        )
        y = _draw_label(
            base[..., visible:].expand(*shape[:-1], -1), uniforms(0, LABEL + 1, 1).view(shape[:-1])
        )
        return torch.cat((v.to(y.dtype), y), -1)

    def pilot(self, num_chains: int, num_steps: int, seed: int) -> Tensor:
        """Short chains from the biases, keyed by ``seed``."""
        return self.sweep(
            self.base_states(self._joined()[1], num_chains, seed), num_steps, seed, 0
        )

    def anneal(
        self, states: Tensor, base: Tensor, betas: Tensor, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Not available: a class-RBM does not support AIS."""
        raise NotImplementedError("a class-RBM takes no AIS")

    def base_log_partition(self, base: Tensor) -> Tensor:
        """Not available: a class-RBM does not support AIS."""
        raise NotImplementedError("a class-RBM takes no AIS")

    def _joined(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight and bias of inputs and labels as one visible layer, and the hidden bias."""
        batch = torch.broadcast_shapes(self.weight.shape[:-2], self.label_weight.shape[:-2])
        weights = [w.expand(*batch, *w.shape[-2:]) for w in (self.weight, self.label_weight)]
        batch = torch.broadcast_shapes(self.vbias.shape[:-1], self.label_bias.shape[:-1])
        biases = [b.expand(*batch, -1) for b in (self.vbias, self.label_bias)]
        return torch.cat(weights, -2), torch.cat(biases, -1), self.hbias

    def _by_class(self) -> RBM:
        """The RBM of the inputs given each label: one more batch dimension, the classes."""
        if self.weight.dim() == 2:
            weight = self.weight
        else:
            weight = self.weight.unsqueeze(-3)
        if self.vbias.dim() == 1:
            vbias = self.vbias
        else:
            vbias = self.vbias.unsqueeze(-2)
        if isinstance(self.partition, Exact):
            partition = self.partition
        else:
            partition = None
        return RBM(
            weight,
            vbias,
            self.hbias.unsqueeze(-2) + self.label_weight,
            partition,
            validate_args=False,
        )

    def _sample_exactly(self, shape: Size) -> Tensor:
        """Labels from their marginal, inputs from the RBM of their label."""
        by_class = self._by_class()
        logits = (self.label_bias + by_class.log_sum()).expand(*shape, -1)
        y = dist.Categorical(logits=logits, validate_args=False).sample()
        draws = by_class.expand((*self.batch_shape, logits.shape[-1])).sample(
            shape[: len(shape) - len(self.batch_shape)]
        )
        index = y[..., None, None].expand(*shape, 1, draws.shape[-1])
        return encode(draws.gather(-2, index).squeeze(-2), y, logits.shape[-1])


def encode(v: Tensor, y: Tensor, classes: int) -> Tensor:
    """Inputs followed by their labels as one-hot vectors.

    Args:
        v: inputs (..., visible).
        y: class numbers (...).
        classes: number of classes.

    Returns:
        Shape (..., visible + classes) and the dtype of ``v``.

    Example:
        >>> encode(torch.zeros(2, 1), torch.tensor([0, 1]), 2)
        tensor([[0., 1., 0.],
                [0., 0., 1.]])
    """
    return torch.cat((v, one_hot(y, classes).to(v.dtype).expand(*v.shape[:-1], -1)), -1)


def label_logits(
    v: Tensor, weight: Tensor, label_weight: Tensor, label_bias: Tensor, hbias: Tensor
) -> Tensor:
    r"""Unnormalised log p(y | v) of a class-RBM: the hidden units summed out for each label.

    .. math:: c_y + \sum_j \log\bigl(1 + e^{\,b_j + U_{yj} + (v W)_j}\bigr)

    Args:
        v: inputs (..., visible).
        weight: (..., visible, hidden).
        label_weight: (..., classes, hidden).
        label_bias: (..., classes).
        hbias: (..., hidden).

    Returns:
        Logits (..., classes).
    """
    return label_bias + softplus(field(v, weight, hbias).unsqueeze(-2) + label_weight).sum(-1)


def _draw_label(logits: Tensor, uniform: Tensor) -> Tensor:
    """One-hot vectors with probabilities softmax(logits), by inversion of given uniforms."""
    cumulative = logits.softmax(-1).cumsum(-1)
    number = (cumulative < uniform.unsqueeze(-1) * cumulative[..., -1:]).sum(-1)
    return one_hot(number, logits.shape[-1]).to(logits.dtype)


def _check_labels(weight: Tensor, label_weight: Tensor, label_bias: Tensor) -> None:
    if (
        label_weight.dim() < 2
        or label_weight.shape[-1] != weight.shape[-1]
        or not label_weight.shape[-2]
    ):
        raise ValueError(
            f"`label_weight` must have shape (..., classes, {weight.shape[-1]}) to match "
            "`weight`, got "
            f"{tuple(label_weight.shape)}"
        )
    if label_bias.shape[-1:] != label_weight.shape[-2:-1]:
        raise ValueError(
            f"`label_bias` must have shape (..., {label_weight.shape[-2]}) to match "
            "`label_weight`, got "
            f"{tuple(label_bias.shape)}"
        )
    for name, x in (("label_weight", label_weight), ("label_bias", label_bias)):
        if (x.device, x.dtype) != (weight.device, weight.dtype):
            raise ValueError(
                f"`{name}` must be {weight.dtype} on {weight.device} like `weight`, got "
                f"{x.dtype} on {x.device}"
            )


__all__ = ["ClassRBM", "LabelledStates", "encode", "label_logits"]
