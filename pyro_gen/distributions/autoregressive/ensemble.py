"""Ensembles of autoregressive densities, usually over orders.

Probabilities are averaged, never logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Size, Tensor
from torch.distributions import constraints, register_kl

from pyro_gen.distributions.arguments import Shape
from pyro_gen.distributions.autoregressive.clamped import ClampedAutoregressive
from pyro_gen.distributions.autoregressive.completion import Completion
from pyro_gen.distributions.autoregressive.conditionals import Conditional
from pyro_gen.distributions.autoregressive.conditionals.discrete import inverted
from pyro_gen.distributions.autoregressive.density import Autoregressive, divergence_by_enumeration
from pyro_gen.distributions.autoregressive.order_agnostic import OrderAgnostic
from pyro_gen.distributions.estimate import Estimate
from pyro_gen.distributions.expansion import Expandable

Member = Autoregressive | ClampedAutoregressive


class AutoregressiveEnsemble(Expandable):
    r"""Mixture of autoregressive densities of the same events.

    They differ in their orders, weights or families.

    .. math:: p(x | c) = \sum_k \pi_k\, p_k(x | c), \qquad
              \log p(x | c) = \log \sum_k e^{\log \pi_k + \log p_k(x | c)}

    Normalised whenever the members are. A mean of logits, or of log
    probabilities, is no density.

    Args:
        members: the densities; their batch shapes broadcast.
        logits: log odds of the members, (..., members); None weighs them
            equally.
        validate_args: whether to check logits and values.

    Raises:
        ValueError: there are no members, their events differ, one gives only
            estimates (an order-agnostic network in training mode), or
            ``logits`` does not fit.

    References:
        Uria, Murray and Larochelle (2014), A deep and tractable density
        estimator, ICML (EoNADE).

    Example:
        >>> from pyro_gen import nn
        >>> density = AutoregressiveEnsemble([nn.FVSBN(3)(), nn.FVSBN(3, order=(2, 0, 1))()])
        >>> density.log_prob(density.enumerate_support()).exp().sum().item()
        1.0
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.real_vector
    }
    has_rsample = False

    def __init__(
        self,
        members: Sequence[Member],
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        _check_members(members)
        # Values are checked once, by the ensemble.
        self.members = tuple(_unchecked(member) for member in members)
        example = members[0].conditioner.example
        if logits is None:
            self.logits = example.new_zeros(len(members))
        else:
            self.logits = logits
        if self.logits.shape[-1:] != (len(members),):
            raise ValueError(
                f"`logits` must have shape (..., {len(members)}), one number for each member, "
                f"got {tuple(self.logits.shape)}"
            )
        batches = [tuple(member.batch_shape) for member in members]
        try:
            batch_shape = torch.broadcast_shapes(self.logits.shape[:-1], *batches)
        except RuntimeError as error:
            raise ValueError(
                f"the batch shapes of `members` and `logits` must broadcast, got {batches} and "
                f"{tuple(self.logits.shape[:-1])}"
            ) from error
        super().__init__(batch_shape, members[0].event_shape, validate_args=validate_args)

    @property
    def conditional(self) -> Conditional:
        """The family of the conditional distributions, of the first member."""
        return self.members[0].conditional

    @property
    def features(self) -> int:
        """Number of features of an event."""
        return self.event_shape.numel()

    @property
    def support(self) -> constraints.Constraint:
        """Constraint of the members' events."""
        return self.members[0].support

    def member_log_probs(self, value: Tensor) -> Tensor:
        """Log probability of each member and its value together, log pi_k + log p_k(x).

        Args:
            value: events of shape (...) + event_shape.

        Returns:
            Nats, (..., members).

        Raises:
            ValueError: ``value`` lies outside the support.
        """
        if self._validate_args:
            self._validate_sample(value)
        terms = torch.broadcast_tensors(*(member.log_prob(value) for member in self.members))
        result = torch.stack(terms, -1) + self.logits.log_softmax(-1)
        shape = torch.broadcast_shapes(result.shape[:-1], self.batch_shape)
        return result.expand(*shape, len(self.members))

    def log_prob(self, value: Tensor) -> Tensor:
        """Exact log probability in nats.

        The log of the weighted mean of the members' probabilities.

        Args:
            value: events of shape (...) + event_shape.

        Returns:
            Tensor of the broadcast shape of the value's and the distribution's
            batch.

        Raises:
            ValueError: ``value`` lies outside the support.
        """
        return self.member_log_probs(value).logsumexp(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Shape = Size()) -> Tensor:  # noqa: B008  # torch's own default
        """Exact draws: of a member first, then of an event from it.

        Args:
            sample_shape: of independent draws.

        Returns:
            Events of shape sample_shape + batch_shape + event_shape.
        """
        shape = self._extended_shape(sample_shape)[: -len(self.event_shape)]
        logits = self.logits.expand(*shape, len(self.members))
        member_index = inverted(
            logits, torch.rand(shape, dtype=logits.dtype, device=logits.device)
        ).flatten()
        plain = [member for member in self.members if isinstance(member, Autoregressive)]
        # Here rows cannot be told apart, or not be taken out.
        if member_index.is_meta or len(plain) < len(self.members):
            draws = [
                m.expand(shape).sample().reshape(shape.numel(), *self.event_shape)
                for m in self.members
            ]
            value = torch.stack(draws)[
                member_index, torch.arange(len(member_index), device=member_index.device)
            ]
        else:
            rows = [(member_index == k).nonzero().squeeze(-1) for k in range(len(plain))]
            member_draws = [
                _picked(member, shape, member_rows).sample()
                for member, member_rows in zip(plain, rows, strict=True)
            ]
            value = torch.cat(member_draws)[torch.cat(rows).argsort()]
        return value.view(*shape, *self.event_shape)

    @torch.no_grad()
    def sample_and_log_prob(
        self,
        sample_shape: Shape = Size(),  # noqa: B008  # torch's own default
    ) -> tuple[Tensor, Tensor]:
        """Draws and their log probabilities under the whole mixture.

        Returns:
            Events as :meth:`sample` gives them, and nats of shape sample_shape +
            batch_shape.
        """
        value = self.sample(sample_shape)
        return value, self.log_prob(value)

    def given(
        self, observed: Tensor, mask: Tensor, completion: Completion | None = None
    ) -> AutoregressiveEnsemble:
        """Distribution of the missing features given the observed ones.

        The members', weighted by their evidence.

        Args:
            observed: values (...) + event_shape; values of missing features are
                ignored, NaN included.
            mask: True where a feature is observed, same shape.
            completion: how each member sums over what is missing, see
                :meth:`Autoregressive.given`.

        Returns:
            An ensemble whose samples carry the observed features, of the same
            event shape.

        Raises:
            ValueError: the evidence does not fit, or a member has no way to
                complete it.
        """
        conditioned = [_with(member).given(observed, mask, completion) for member in self.members]
        evidence = [member.log_evidence() for member in conditioned]
        logits = self.logits.log_softmax(-1) + torch.stack(torch.broadcast_tensors(*evidence), -1)
        return AutoregressiveEnsemble(conditioned, logits, self._validate_args)

    def log_evidence(
        self, observed: Tensor, mask: Tensor, completion: Completion | None = None
    ) -> Tensor:
        """Log probability of the observed features, the others summed out.

        :meth:`evidence_estimate` has its error.

        Args:
            observed: values (...) + event_shape; values of missing features are
                ignored, NaN included.
            mask: True where a feature is observed, same shape; rows may differ.
            completion: as for :meth:`given`.

        Returns:
            Nats, of the broadcast batch shape, differentiable.

        Raises:
            ValueError: as :meth:`given`.
        """
        return self.evidence_estimate(observed, mask, completion).value

    def evidence_estimate(
        self, observed: Tensor, mask: Tensor, completion: Completion | None = None
    ) -> Estimate:
        """Log probability of the observed features, the missing ones summed out.

        Args:
            observed: values (...) + event_shape; values of missing features are
                ignored, NaN included.
            mask: True where a feature is observed, same shape.
            completion: as for :meth:`given`.

        Returns:
            Nats with their standard error, of the broadcast batch shape.
        """
        estimates = [
            _with(member).given(observed, mask, completion).evidence_estimate()
            for member in self.members
        ]
        values, errors, sizes = (
            torch.stack(torch.broadcast_tensors(*(part[i] for part in estimates)), -1)
            for i in range(3)
        )
        terms = values + self.logits.log_softmax(-1)
        share = terms.softmax(-1).detach()
        error = (share * errors).square().sum(-1).sqrt()
        size = 1 / (share.square() / sizes).sum(-1)
        value = terms.logsumexp(-1)
        return Estimate(value, error.expand_as(value), size.expand_as(value), estimates[0].method)

    @property
    def num_states(self) -> float:
        """Number of values that an event can take; may be infinite."""
        return self.members[0].num_states

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]  # a class attribute in torch
        """True if the states are few enough to be listed."""
        return self.members[0].has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All events, the last feature changing fastest.

        Args:
            expand: whether to repeat them over the batch.

        Returns:
            Shape (num_states,) + batch_shape + event_shape, with ones for the
            batch where ``expand`` is False.

        Raises:
            NotImplementedError: there are more than 2^20.
        """
        return self._listed(self.members[0].enumerate_support(expand=False), expand)

    def entropy(self) -> Tensor:
        """Entropy in nats, by enumeration.

        Raises:
            NotImplementedError: there are too many states to list.
        """
        log_prob = self.log_prob(self.enumerate_support())
        return -torch.special.xlogy(log_prob.exp(), log_prob.exp()).sum(0)

    @classmethod
    def infer_shapes(cls, **arg_shapes: Any) -> tuple[Size, Size]:
        """Not available: tensor shapes do not determine the event shape, the members do.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "the event shape of an autoregressive ensemble is that of its members"
        )


def _check_members(members: Sequence[Member]) -> None:
    """Raise unless there are densities, exact ones, of the same events."""
    if not members:
        raise ValueError("`members` must hold at least one density, got none")
    for member in members:
        if isinstance(member, OrderAgnostic) or not isinstance(member, Member):
            raise ValueError(
                f"`members` must be autoregressive densities, got {type(member).__name__}; "
                "an order-agnostic network "
                "gives one in eval() or when it is called with an order"
            )
    kinds = [
        (tuple(m.event_shape), m.conditional.num_states(m.event_shape.numel())) for m in members
    ]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(
            f"`members` must have the same events, got event shapes and numbers of values {kinds}"
        )


def _unchecked(member: Member) -> Member:
    """Copy of a density that does not validate values."""
    new: Member = member.expand(member.batch_shape)
    new._validate_args = False
    return new


def _with(member: Member) -> Autoregressive:
    """A member that can be conditioned, which checks its evidence."""
    if not isinstance(member, Autoregressive):
        raise ValueError(
            "`given` expects members that are not conditioned yet: give all observed "
            "features at once"
        )
    return Autoregressive(member.conditioner, member.context).expand(member.batch_shape)


def _picked(member: Autoregressive, shape: Size, rows: Tensor) -> Autoregressive:
    """A density for some of the rows, by their numbers, of its expansion to a shape."""
    context = member._context_rows(shape)
    if context is None:
        return Autoregressive(member.conditioner, validate_args=False).expand((len(rows),))
    return Autoregressive(member.conditioner, context[rows], validate_args=False)


register_kl(AutoregressiveEnsemble, AutoregressiveEnsemble)(divergence_by_enumeration)
register_kl(Autoregressive, AutoregressiveEnsemble)(divergence_by_enumeration)
register_kl(AutoregressiveEnsemble, Autoregressive)(divergence_by_enumeration)

__all__ = ["AutoregressiveEnsemble"]
