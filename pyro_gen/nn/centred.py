"""The distribution of a centred machine, whose plain biases follow its weights."""

from __future__ import annotations

from itertools import filterfalse
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from pyro_gen import distributions
from pyro_gen.kernels.contrastive.surrogate import can_fuse, surrogate

VERSION = attrgetter("_version")
"""Number of the changes in place of a tensor."""


class CentredRBM(distributions.RBM):
    r"""An RBM with the weights, biases and offsets of the centred energy, all of them
    kept as the tensors they are.

    .. math:: a = \tilde a - W \lambda, \qquad b = \tilde b - W^\top \mu

    The plain biases a and b are computed from them when they are asked for,
    without a gradient once for each state of these tensors: a change in place
    shows in all of them together.

    Args:
        weight: couplings W, (visible, hidden).
        centred: visible and hidden bias of the centred energy, visible offset
            and hidden offset.
        **settings: ``num_steps`` and the unit types.
    """

    def __init__(
        self, weight: Tensor, centred: tuple[Tensor, Tensor, Tensor, Tensor], **settings: Any
    ) -> None:
        self._centred = centred
        self.offsets = centred[2:]
        # inference tensors cannot change, and have no version
        self._watched = [*filterfalse(Tensor.is_inference, (weight, *centred))]
        self._plain: tuple[list[int], tuple[Tensor, Tensor]] | None = None
        super().__init__(weight, *centred[:2], **settings)

    def _hold(self, weight: Tensor, vbias: Tensor, hbias: Tensor) -> None:
        """Set the weight alone, from which the biases are computed."""
        self.weight = weight

    @property
    def vbias(self) -> Tensor:
        """Plain visible bias, (visible,)."""
        return self.uncentred[1]

    @vbias.setter
    def vbias(self, value: Tensor) -> None:
        raise _follows("vbias")

    @property
    def hbias(self) -> Tensor:
        """Plain hidden bias, (hidden,)."""
        return self.uncentred[2]

    @hbias.setter
    def hbias(self, value: Tensor) -> None:
        raise _follows("hbias")

    @property
    def uncentred(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight and biases as they stand in the energy, with the graph to the centred
        parameters where gradients are enabled.
        """
        if torch.is_grad_enabled():
            return self.weight, *plain_biases(self.weight, *self._centred)
        return self.weight, *self._detached()

    def _contrast(
        self, value: Tensor, particles: Tensor, shares: Tensor | None = None, paired: bool = False
    ) -> Tensor | None:
        biases = self._detached()
        if not (self._bernoulli_sides and can_fuse(value, self.weight, *biases)):
            return None
        parameters = (self.weight, *self._centred[:2])
        return surrogate(
            value,
            particles,
            parameters,
            shares=shares,
            paired=paired,
            plain_biases=biases,
            offsets=self.offsets,
        )

    def _detached(self) -> tuple[Tensor, Tensor]:
        """Both plain biases without a gradient, computed once for each state of the tensors."""
        versions = [*map(VERSION, self._watched)]
        if self._plain is None or self._plain[0] != versions:
            with torch.no_grad():
                self._plain = versions, plain_biases(self.weight, *self._centred)
        return self._plain[1]

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles compute the plain biases for themselves."""
        return super().__getstate__() | {"_plain": None}


def _follows(name: str) -> AttributeError:
    return AttributeError(
        f"`{name}` follows from the centred parameters; set those, or make an RBM(...)"
    )


def plain_biases(
    weight: Tensor, vbias: Tensor, hbias: Tensor, visible_offset: Tensor, hidden_offset: Tensor
) -> tuple[Tensor, Tensor]:
    """Visible and hidden bias of the energy without offsets.

    Args:
        weight: (visible, hidden).
        vbias: of the centred energy, (visible,).
        hbias: of the centred energy, (hidden,).
        visible_offset: (visible,).
        hidden_offset: (hidden,).
    """
    if torch.is_grad_enabled():  # the offsets may move in place before a gradient is asked for
        visible_offset = visible_offset.clone()
        hidden_offset = hidden_offset.clone()
    return vbias - weight @ hidden_offset, hbias - visible_offset @ weight


__all__ = ["CentredRBM", "plain_biases"]
