"""The class-RBM as a module: p(y | v) to classify, p(v, y) to generate, and both to train on."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_gen import distributions
from pyro_gen._arguments import whole_number
from pyro_gen.distributions.arguments import check_bits, check_classes
from pyro_gen.distributions.energy.class_rbm import encode, label_logits
from pyro_gen.distributions.log_z.annealing import AIS
from pyro_gen.distributions.log_z.negative_phase import (
    NegativePhase,
    PersistentChains,
    check_plain_phase,
)
from pyro_gen.distributions.log_z.partition import Partition
from pyro_gen.nn.chains import ChainModule


class ClassRBM(ChainModule):
    r"""Weights and chains of a class-RBM.

    Calling it with inputs returns the distribution of their labels.

    ``class_rbm(v)`` is p(y | v), exact and differentiable, and
    ``class_rbm.joint()`` is p(v, y) under the negative phase (in ``eval()`` or
    under ``no_grad``: with the exact log Z, where it is small enough).
    Discriminative training observes the first, generative training the second,
    hybrid training both:

    .. math:: L = -\log p(y | v) - \alpha \log p(v, y)

    Args:
        visible: number of visible units.
        hidden: number of hidden units.
        classes: number of classes.
        negative_phase: how log Z is replaced in generative training:
            ``PersistentChains``, ``ContrastiveDivergence``, or a method that
            knows it (``Exact``, None).
        evaluation: how log Z of the joint distribution is known in ``eval()``:
            ``Exact`` or None.
        num_steps: Gibbs sweeps of the joint distribution's ``sample`` where no
            exact draw is possible.
        dropout: share of the hidden units that each row of ``class_rbm(v)`` is
            scored without while training, the others counting for them; none in
            ``eval()``.

    Raises:
        ValueError: a size is below 1, ``dropout`` outside [0, 1), or a setting
            does not serve.

    References:
        Larochelle, Mandel, Pascanu, Bengio (2012), Learning algorithms for the
        classification restricted Boltzmann machine, JMLR 13. Srivastava et al.
        (2014), Dropout, JMLR 15, section 8.

    Example:
        >>> import pyro
        >>> rbm = ClassRBM(6, 4, 3)
        >>> v, y = torch.ones(5, 6), torch.tensor([0, 1, 2, 0, 1])
        >>> def hybrid():
        ...     with pyro.plate("rows", 5):
        ...         pyro.sample("y", rbm(v), obs=y)
        ...         with pyro.poutine.scale(scale=0.01):
        ...             pyro.sample("joint", rbm.joint(), obs=rbm.encode(v, y))
        >>> pyro.poutine.trace(hybrid).get_trace().log_prob_sum().shape, rbm.step.item()
        (torch.Size([]), 1)
    """

    def __init__(
        self,
        visible: int,
        hidden: int,
        classes: int,
        negative_phase: Partition | None = PersistentChains(),  # noqa: B008  # an immutable setting
        evaluation: Partition | None = None,
        num_steps: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(negative_phase, evaluation, num_steps)
        visible = whole_number("visible", visible)
        hidden = whole_number("hidden", hidden)
        classes = whole_number("classes", classes)
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be at least 0 and below 1, got {dropout}")
        if isinstance(evaluation, NegativePhase | AIS):
            raise ValueError(f"`evaluation` must know log Z: Exact(...) or None, got {evaluation}")
        check_plain_phase(negative_phase)
        self.dropout = dropout
        self.classes = classes
        self.weight = nn.Parameter(torch.randn(visible, hidden) / visible**0.5)
        self.label_weight = nn.Parameter(torch.randn(classes, hidden) / visible**0.5)
        self.vbias, self.label_bias, self.hbias = (
            nn.Parameter(torch.zeros(n)) for n in (visible, classes, hidden)
        )
        v = torch.randint(2, (self.num_chains, visible))
        y = torch.randint(classes, (self.num_chains,))
        self._keep_chains(encode(v.to(self.weight.dtype), y, classes))

    def forward(self, v: Tensor) -> dist.Categorical:
        """The distribution of the labels given inputs, p(y | v); with dropout while training.

        Args:
            v: inputs (..., visible).

        Returns:
            A categorical distribution over the classes, exact up to the
            dropout.

        Raises:
            ValueError: ``v`` has another width or other values than 0 and 1.
        """
        check_bits("v", v, self.vbias.shape[-1])
        v = v.to(self.weight.dtype)
        if not (self.dropout and self.training):
            logits = label_logits(v, self.weight, self.label_weight, self.label_bias, self.hbias)
        else:
            hidden_field = (v @ self.weight + self.hbias).unsqueeze(-2) + self.label_weight
            keep = (
                torch.rand(*v.shape[:-1], 1, self.hbias.shape[-1], device=v.device) >= self.dropout
            )
            cumulants = nn.functional.softplus(hidden_field) * keep
            logits = self.label_bias + cumulants.sum(-1) / (1 - self.dropout)
        return dist.Categorical(logits=logits)

    def joint(self) -> distributions.ClassRBM:
        """The joint distribution p(v, y).

        In training mode with gradients its first log probability advances the
        phase.

        Returns:
            The distribution over inputs followed by one-hot labels, see
            :meth:`encode`.

        Raises:
            ValueError: the caller cannot work with a negative phase (HMC,
                traced ELBOs, importance weights).
            NotImplementedError: a negative phase is to advance in a process
                group of more than one rank.
        """
        partition = self.partition
        if isinstance(partition, NegativePhase):
            partition = self._defer(partition)
        return self._plain(partition)

    def encode(self, v: Tensor, y: Tensor) -> Tensor:
        """Value of the joint distribution: inputs (..., visible) followed by their labels
        (...) as one-hot vectors.

        Args:
            v: inputs (..., visible).
            y: class numbers (...).

        Raises:
            ValueError: ``v`` has another width or other values than 0 and 1, or
                ``y`` holds no class numbers.
        """
        check_bits("v", v, self.vbias.shape[-1])
        check_classes("y", y, self.classes)
        return encode(v.to(self.weight.dtype), y, self.classes)

    def features(self, v: Tensor) -> Tensor:
        """Hidden probabilities averaged over the labels, P(h_j = 1 | v).

        Args:
            v: inputs (..., visible).

        Returns:
            Probabilities of shape (..., hidden).

        Raises:
            ValueError: ``v`` has another width or other values than 0 and 1.
        """
        check_bits("v", v, self.vbias.shape[-1])
        v = v.to(self.weight.dtype)
        logits = label_logits(v, self.weight, self.label_weight, self.label_bias, self.hbias)
        given_label = torch.sigmoid(
            (v @ self.weight + self.hbias).unsqueeze(-2) + self.label_weight
        )
        return (logits.softmax(-1).unsqueeze(-1) * given_label).sum(-2)

    def _plain(self, partition: Partition | None = None) -> distributions.ClassRBM:
        parameters = self.weight, self.label_weight, self.vbias, self.label_bias, self.hbias
        return distributions.ClassRBM(*parameters, partition, self.num_steps)

    def extra_repr(self) -> str:
        """Sizes and settings."""
        visible, hidden = self.weight.shape
        sizes = (
            f"visible={visible}, hidden={hidden}, classes={self.classes}, dropout={self.dropout}"
        )
        return f"{sizes}, negative_phase={self.negative_phase}, evaluation={self.evaluation}"


__all__ = ["ClassRBM"]
