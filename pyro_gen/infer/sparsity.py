"""Penalty towards a target for the mean activity of hidden units."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_gen.distributions.units import BernoulliUnits
from pyro_gen.nn import RBM
from pyro_gen.nn.learning import check_states


def sparsity_penalty(rbm: RBM, batch: Tensor, target: float) -> Tensor:
    r"""Kullback-Leibler divergence of the hidden units' mean activities from a target, summed over the units.

    .. math:: \sum_j \rho \log \frac{\rho}{q_j} + (1 - \rho) \log \frac{1 - \rho}{1 - q_j}, \qquad
              q_j = \frac1n \sum_i P(h_j = 1 | v_i)

    Differentiable; add it to a loss, subtract it in ``pyro.factor``, or add its gradient to that of
    :func:`contrastive_gradient`.

    Args:
        rbm: the module, with Bernoulli hidden units.
        batch: visible states (rows, visible).
        target: target mean activity rho, between 0 and 1.

    Returns:
        Nats, a scalar.

    Raises:
        ValueError: ``target`` does not lie strictly between 0 and 1, the hidden units are not Bernoulli units, or
            ``batch`` holds no rows of states.

    References:
        Lee, Ekanadham, Ng (2008), Sparse deep belief net model for visual area V2; Hinton (2012), A practical guide to
        training restricted Boltzmann machines, Section 11 (cross entropy).

    Example:
        >>> import torch
        >>> rbm, off = RBM(4, 3, centring=False), torch.zeros(2, 4)
        >>> [round(sparsity_penalty(rbm, off, target).item(), 3) for target in (0.1, 0.2)]
        [1.104, 0.578]
    """
    if not 0 < target < 1:
        raise ValueError(f"`target` must lie strictly between 0 and 1, got {target}")
    if not isinstance(rbm.hidden_units, BernoulliUnits):
        raise ValueError(f"`rbm` must have Bernoulli hidden units, got {type(rbm.hidden_units).__name__}")
    check_states("batch", batch, rbm.visible_units, rbm.vbias.shape[-1])
    field = rbm.hidden_field(batch)
    on, off = (logsigmoid(sign * field).logsumexp(0) - math.log(len(batch)) for sign in (1, -1))
    entropy = target * math.log(target) + (1 - target) * math.log1p(-target)
    return (entropy - target * on - (1 - target) * off).sum()


__all__ = ["sparsity_penalty"]
