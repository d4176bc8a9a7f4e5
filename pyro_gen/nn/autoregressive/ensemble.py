"""Ensembles of autoregressive networks, as one module."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Size, Tensor, nn

from pyro_gen import distributions
from pyro_gen._module import Module
from pyro_gen.nn.autoregressive.base import AutoregressiveNetwork
from pyro_gen.nn.autoregressive.snapshot import separated


class AutoregressiveEnsemble(Module):
    r"""Networks of the same events, in several orders say, whose probabilities are averaged.

    Calling it returns :class:`pyro_gen.distributions.AutoregressiveEnsemble`,
    the normalised mixture. Trained as it is, its members learn to share the
    data; to average members that were trained one by one, train these and put
    them together afterwards.

    Args:
        members: the networks; all take the same context.
        learn_weights: whether the members' log odds ``logits`` are learned,
            from equal ones, or stay equal.

    Raises:
        ValueError: there is no network, or their events or contexts differ.

    Example:
        >>> from pyro_gen import nn
        >>> ensemble = AutoregressiveEnsemble([nn.FVSBN(3), nn.FVSBN(3, order=(2, 0, 1))])
        >>> ensemble.num_parameters
        12
        >>> ensemble().sample((5,)).shape
        torch.Size([5, 3])
    """

    logits: Tensor

    def __init__(
        self, members: Sequence[AutoregressiveNetwork], *, learn_weights: bool = False
    ) -> None:
        super().__init__()
        if not members:
            raise ValueError("`members` must hold at least one network, got none")
        kinds = [
            (tuple(m.event_shape), m.conditional.num_states(m.features), m.context)
            for m in members
        ]
        if any(kind != kinds[0] for kind in kinds):
            raise ValueError(
                "`members` must have the same events and contexts, got event shapes, "
                "numbers of values and widths of "
                f"the context {kinds}"
            )
        self.members = nn.ModuleList(separated(members))
        self.learn_weights = learn_weights
        logits = torch.zeros(
            len(members), dtype=members[0].example.dtype, device=members[0].example.device
        )
        if learn_weights:
            self.logits = nn.Parameter(logits)
        else:
            self.register_buffer("logits", logits)

    @property
    def networks(self) -> Iterator[AutoregressiveNetwork]:
        """The members."""
        return (member for member in self.members if isinstance(member, AutoregressiveNetwork))

    @property
    def event_shape(self) -> Size:
        """Shape of an event."""
        return next(self.networks).event_shape

    @property
    def features(self) -> int:
        """Number of features of an event."""
        return self.event_shape.numel()

    @property
    def context(self) -> int:
        """Width of the context, 0 for none."""
        return next(self.networks).context

    @property
    def num_parameters(self) -> int:
        """Numbers that are learned; of members that share them, those of the largest."""
        counts: dict[int, int] = {}
        for member in self.networks:
            weights = id(member.example)
            counts[weights] = max(member.num_parameters, counts.get(weights, 0))
        weights = len(self.logits) - 1 if self.learn_weights else 0
        return sum(counts.values()) + weights

    def forward(self, context: Tensor | None = None) -> distributions.AutoregressiveEnsemble:
        """The mixture over the weights' present values.

        Args:
            context: (..., context) where the networks take one.

        Raises:
            ValueError: a member gives an estimate only, being order-agnostic
                and in training mode.
        """
        return distributions.AutoregressiveEnsemble(
            [member(context) for member in self.networks], self.logits
        )


class AutoregressivePerClass(AutoregressiveEnsemble):
    r"""A network of its own for each class, the class being the context.

    .. math:: p(x | c) = \sum_y c_y\, p_y(x), \qquad
              c \text{ one-hot, or probabilities of the classes}

    Nothing is shared between the classes: each network may be trained by itself
    on the rows of its class, which costs the least, as a log probability given
    a context asks all networks.

    Args:
        members: the networks, which take no context.

    Raises:
        ValueError: there is no network, their events differ, or one takes a
            context.

    Example:
        >>> from pyro_gen import nn
        >>> digits = AutoregressivePerClass([nn.FVSBN(3) for _ in range(10)])
        >>> digits(torch.eye(10)[[7, 7, 1]]).sample().shape
        torch.Size([3, 3])
    """

    def __init__(self, members: Sequence[AutoregressiveNetwork]) -> None:
        super().__init__(members)
        if super().context:
            raise ValueError(
                "`members` must take no context, the class is their context, got "
                f"{super().context}"
            )

    @property
    def context(self) -> int:
        """One number for each class."""
        return len(self.members)

    def forward(self, context: Tensor | None = None) -> distributions.AutoregressiveEnsemble:
        """The densities of the classes.

        Args:
            context: one-hot rows, or probabilities of the classes, (...,
                classes).

        Raises:
            ValueError: there is no context, or one of another width.
        """
        if context is None or context.shape[-1:] != (self.context,):
            shape = None if context is None else tuple(context.shape)
            raise ValueError(f"`context` must have shape (..., {self.context}), got {shape}")
        return distributions.AutoregressiveEnsemble(
            [member() for member in self.networks], context.log()
        )


__all__ = ["AutoregressiveEnsemble", "AutoregressivePerClass"]
