"""CPDs that are no tables: logistic regression on the parents, and networks of any kind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad

from pyro_gen.nn.cpds.base import DiscreteCPD


class LogisticCPD(DiscreteCPD):
    r"""Logistic regression of a node on its parents.

    As many parameters as a table has for one parent, added up.

    .. math:: \operatorname{logit} p(x | u) = b + \sum_i W_{i, u_i}, \qquad W_{i, 0} = 0

    Each parent's first state and the node's own first state have weight zero,
    so that n parents with two states each take n + 1 parameters in place of the
    table's 2^n. It starts at equal probabilities.

    Args:
        parent_states: number of states of each parent.
        states: number of the node's own states.
        dtype: of the parameters.

    References:
        Neal (1992), Connectionist learning of belief networks.

    Example:
        >>> LogisticCPD([2, 2, 2], 2).num_parameters
        4
        >>> LogisticCPD([2, 3], 2).table().shape
        torch.Size([2, 3, 2])
    """

    def __init__(
        self, parent_states: Sequence[int], states: int, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__(parent_states, states)
        self.bias = nn.Parameter(torch.zeros(states - 1, dtype=dtype))
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(k - 1, states - 1, dtype=dtype)) for k in self.parent_states
        )

    def logits(self, *parents: Tensor) -> Tensor:
        """The linear predictor."""
        result: Tensor = self.bias
        for weight, state in zip(self.weights, parents, strict=True):
            result = result + pad(weight, (0, 0, 1, 0))[state]
        return pad(result, (1, 0))


class NeuralCPD(DiscreteCPD):
    """A network from the parents' states, one-hot beside one another, to the logits of
    the node's.

    Exact inference asks it for every configuration of the parents, sampling and
    complete rows only for those at hand.

    Args:
        parent_states: number of states of each parent.
        states: number of the node's own states.
        network: from (..., sum of the parents' states) to (..., states); None
            for one hidden layer of 32 units.
        dtype: of the network made for None; another one is taken as it is.

    Example:
        >>> cpd = NeuralCPD([2, 3], 4)
        >>> cpd(torch.tensor([0, 1]), torch.tensor([2, 2])).probs.shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        parent_states: Sequence[int],
        states: int,
        network: nn.Module | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(parent_states, states)
        width = sum(self.parent_states)
        if network is None:
            network = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, states))
            network = network.to(dtype)
        self.network = network
        # Stands in where all weights have priors.
        self.register_buffer("like", torch.empty(0, dtype=dtype), persistent=False)

    def logits(self, *parents: Tensor) -> Tensor:
        """The network's output."""
        together = torch.broadcast_tensors(*parents)
        codes = [one_hot(state, k) for state, k in zip(together, self.parent_states, strict=True)]
        if codes:
            x = torch.cat(codes, -1)
        else:
            x = torch.zeros(0, device=self.example.device)
        result: Tensor = self.network(x.to(self.example.dtype))
        if result.shape[-1:] != (self.states,):
            raise ValueError(
                f"`network` must give {self.states} logits, got shape {tuple(result.shape)}"
            )
        return result


__all__ = ["LogisticCPD", "NeuralCPD"]
