"""Effective sample size and systematic resampling of weighted chains."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_size(log_weights: Tensor) -> Tensor:
    r"""Effective sample size of chains along the first dimension.

    .. math:: \Bigl(\sum_i w_i\Bigr)^2 \Big/ \sum_i w_i^2

    Args:
        log_weights: (chains, ...), up to a constant.

    Returns:
        Between 1 and the number of chains, of shape (...).

    References:
        Kong, Liu, Wong (1994), Sequential imputations and Bayesian missing data
        problems.

    Example:
        >>> effective_size(torch.tensor([0.0, 0.0, -100.0]))
        tensor(2.)
    """
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()


def systematic(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """Systematic resampling: the number of copies of each chain is within one of its share.

    Args:
        log_weights: (chains, ...), up to a constant; each element of a batch is
            resampled separately.
        uniform: random offset in [0, 1), of shape (...).

    Returns:
        Indices of the resampled chains, (chains, ...), in ascending order.

    References:
        Kitagawa (1996), Monte Carlo filter and smoother for non-Gaussian
        nonlinear state space models.

    Example:
        >>> systematic(torch.tensor([0.6, 0.1, 0.3]).log(), torch.tensor(0.5))
        tensor([0, 0, 2])
    """
    count = len(log_weights)
    batch = log_weights.dim() - 1
    teeth = torch.arange(count, dtype=uniform.dtype, device=uniform.device).view(-1, *(1,) * batch)
    comb = ((teeth + uniform) / count).to(log_weights.dtype)
    cumulative = log_weights.softmax(0).cumsum(0).movedim(0, -1).contiguous()
    return (
        torch.searchsorted(cumulative, comb.movedim(0, -1).contiguous())
        .clamp(max=count - 1)
        .movedim(-1, 0)
    )


__all__ = ["effective_size", "systematic"]
