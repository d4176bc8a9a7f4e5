"""From evidence to answers: distinct rows, and the way back to the given ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Size, Tensor
from torch.nn.functional import one_hot

from pyro_gen.distributions.bayesian_network.elimination import EvidenceRows
from pyro_gen.distributions.bayesian_network.evidence import Observed
from pyro_gen.distributions.bayesian_network.messages import refuse_rows


@dataclass(frozen=True)
class EvidenceCase:
    """Evidence on its way through a query.

    Args:
        observed: as it was given.
        rows: the distinct rows.
        inverse: for each given row its distinct one; None where they are the same.
        log_scale: what likelihood vectors were divided by, as a logarithm.
    """

    observed: Observed
    rows: EvidenceRows
    inverse: Tensor | None
    log_scale: Tensor | float

    def check(self, log: Tensor) -> None:
        """Raise where the log probability of a distinct row is -inf; it names the rows."""
        impossible = log.detach() == -torch.inf
        if self.inverse is not None:
            impossible = impossible[self.inverse]
        refuse_rows(impossible, self.observed.rows is None)

    def finish(self, log: Tensor) -> Tensor:
        """Log probabilities of the given rows, or of the one case; checked."""
        self.check(log)
        return self.spread(log + self.log_scale)

    def spread(self, x: Tensor) -> Tensor:
        """From distinct rows, the first axis, to those given, or to no such axis for one case."""
        if self.observed.rows is None:
            return x[0]
        if self.inverse is None:
            return x
        return x[self.inverse]

    def number(self, i: int, device: torch.device) -> Tensor:
        """State of a node that every row observes, (rows,) in distinct rows."""
        value = self.rows.hard[i]
        if isinstance(value, Tensor):
            return value
        return torch.full((self.rows.count,), value, device=device)

    def one_hot(self, i: int, states: int, like: Tensor) -> Tensor:
        """The distribution of a node that every row observes, (states, rows) in distinct rows."""
        return one_hot(self.number(i, like.device), states).mT.to(like.dtype)

    def weigh(self, weights: Tensor | None, like: Tensor) -> Tensor:
        """Weights of the distinct rows: sums of those given, (rows,); None for one each."""
        count = self.observed.count
        if weights is None:
            weights = like.new_ones(count)
        weights = weights.to(like)
        if weights.shape != (count,):
            raise ValueError(f"`weights` must have shape ({count},), got {tuple(weights.shape)}")
        if self.inverse is None:
            return weights
        return like.new_zeros(self.rows.count).index_add(0, self.inverse, weights)


def stack(answers: list[Any], batch: Size, expanded: Size) -> Any:
    """Answers for each set of tables as one, with the batch in front and expanded."""
    if not expanded:
        return answers[0]
    if isinstance(answers[0], dict):
        return {
            key: stack([answer[key] for answer in answers], batch, expanded) for key in answers[0]
        }
    trailing = answers[0].shape
    return torch.stack(answers).view((*batch, *trailing)).expand((*expanded, *trailing))


__all__ = ["EvidenceCase", "stack"]
