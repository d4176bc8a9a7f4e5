"""The noisy-OR: causes act independently."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from pyro_gen.nn.cpds.base import DiscreteCPD


class NoisyOrCPD(DiscreteCPD):
    r"""A node with two states that each present cause may switch on by itself.

    A leak may switch it on without any cause.

    .. math:: p(x = \mathrm{absent} | u)
              = (1 - \lambda_0) \prod_{i:\, u_i\ \mathrm{present}} (1 - \lambda_{i, u_i})

    A parent with more than two states has one link probability for each state
    but its absent one. The parameters are the logits of the :math:`\lambda`.

    Args:
        link_probs: for each parent the probability that it switches the node
            on: a number for one with two states, a tensor (states - 1,) for one
            with more, in the order of its states without the absent one.
        leak: probability that the node is on without any cause.
        present: index of the node's state "on", 0 or 1; with states ("yes",
            "no") it is 0.
        parents_absent: index of each parent's state "off"; None for 0 each. A
            parent with states ("yes", "no") has 1.
        dtype: of the parameters.

    Raises:
        ValueError: a probability is not from 0 to 1, or an index is no state.

    References:
        Pearl (1988), Probabilistic reasoning in intelligent systems, section
        4.3.2. Henrion (1989), the leak.

    Example:
        >>> cpd = NoisyOrCPD([0.8, 0.5], leak=0.1)
        >>> cpd.table()[1, 1]  # off with probability 0.9 * 0.2 * 0.5
        tensor([0.0900, 0.9100], dtype=torch.float64, grad_fn=<SelectBackward0>)
        >>> cpd.num_parameters
        3
    """

    present: int

    def __init__(
        self,
        link_probs: Sequence[float | Tensor],
        leak: float = 0.01,
        present: int = 1,
        parents_absent: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        links = [torch.as_tensor(p, dtype=dtype).flatten() for p in link_probs]
        for p in (*links, torch.as_tensor(leak)):
            if not ((p >= 0) & (p <= 1)).all():
                raise ValueError(
                    f"`link_probs` and `leak` must be probabilities, got {p.tolist()}"
                )
        super().__init__([len(p) + 1 for p in links], 2)
        if parents_absent is None:
            parents_absent = [0] * len(links)
        absent = list(parents_absent)
        if len(absent) != len(links) or any(
            not 0 <= a < k for a, k in zip(absent, self.parent_states, strict=True)
        ):
            raise ValueError(
                f"`parents_absent` must be a state of each parent {self.parent_states}, "
                f"got {absent}"
            )
        if present not in (0, 1):
            raise ValueError(f"`present` must be 0 or 1, got {present}")
        self.present = present
        self.parents_absent = tuple(absent)
        self.leak = nn.Parameter(torch.as_tensor(leak, dtype=dtype).logit())
        self.links = nn.ParameterList(nn.Parameter(p.logit()) for p in links)

    def log_absent(self, *parents: Tensor) -> Tensor:
        """Log probability of the state "off".

        Args:
            *parents: their state numbers; they broadcast.
        """
        result = logsigmoid(-self.leak)
        for link, off, state in zip(self.links, self.parents_absent, parents, strict=True):
            logs = logsigmoid(-link)  # log(1 - lambda) of each state but the absent one
            log_inhibitions = torch.cat((logs[:off], logs.new_zeros(1), logs[off:]))
            result = result + log_inhibitions[state]
        return result

    def logits(self, *parents: Tensor) -> Tensor:
        """Log probabilities of the two states."""
        off = self.log_absent(*parents)
        states = [off, log1mexp(off)]
        if self.present == 0:
            states.reverse()
        return torch.stack(states, -1)


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, accurate at both ends; -inf with gradient 0 at 0."""
    inside = torch.where(x < 0, x, -1.0)
    near = -torch.expm1(inside)
    return torch.where(
        x < 0, torch.where(inside > -0.693, near.log(), torch.log1p(-inside.exp())), -torch.inf
    )


__all__ = ["NoisyOrCPD", "log1mexp"]
