"""Pareto smoothing of importance weights and its diagnostic, the shape k-hat of
the largest weights.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pyro_gen._weights import ENOUGH_FOR_K, GOOD_K


def pareto_k(log_weight: Tensor) -> Tensor:
    """Shape of the generalised Pareto distribution of the largest weights, (draws,
    rows) -> (rows,).

    0 if no weights exceed the rest, as when all are equal; infinity if fewer
    than five do.

    Args:
        log_weight: logarithms of weights.

    References:
        Zhang and Stephens (2009), A new and efficient estimation method for the
        generalized Pareto distribution. Vehtari et al. (2024), Pareto smoothed
        importance sampling.
    """
    size = len(log_weight)
    if tail_length(size) >= size:
        return torch.full_like(log_weight[0], math.inf)
    largest = log_weight.detach().topk(tail_length(size) + 1, 0).values
    return k_of_largest(largest.mT)


def k_of_largest(largest: Tensor) -> Tensor:
    """Shape of the tail from the largest weights alone, so that a stream of weights
    needs no memory for the others.

    Args:
        largest: logarithms of the ``tail_length(draws) + 1`` largest weights of
            each row, (rows, weights), in any order.

    Returns:
        k-hat of each row, (rows,).
    """
    rows = np.sort(largest.detach().cpu().double().numpy(), 1)
    return torch.tensor([_shape_of_tail(row) for row in rows], dtype=torch.float64).to(largest)


def tail_length(size: int) -> int:
    """Number of weights that count as the tail.

    Args:
        size: number of weights.
    """
    return math.ceil(min(0.2 * size, 3 * math.sqrt(size)))


def pareto_smooth(log_weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Replace the largest weights by the expected order statistics of the distribution
    fitted to them.

    Args:
        log_weight: logarithms of weights, (draws,).

    Returns:
        Logarithms of weights that sum to 1, and k-hat; where the tail is too
        short for a fit, the weights as they are, and infinity.
    """
    smoothed = log_weight - log_weight.max()
    order = np.argsort(smoothed)
    length = tail_length(len(smoothed))
    k = math.inf
    if length < len(smoothed):
        cutoff = _cutoff(smoothed[order[-length - 1]])
        tail = order[smoothed[order] > cutoff]
        if len(tail) >= 5:
            k, scale = _fit(np.exp(smoothed[tail]) - math.exp(cutoff))
            smoothed[tail] = np.minimum(
                np.log(_quantiles(len(tail), k, scale) + math.exp(cutoff)), 0
            )
    return smoothed - np.log(np.exp(smoothed).sum()), k


def _cutoff(largest_of_the_rest: float) -> float:
    return max(float(largest_of_the_rest), math.log(np.finfo(float).tiny))


def _quantiles(size: int, k: float, scale: float) -> np.ndarray:
    """Quantiles of the generalised Pareto distribution at the middles of ``size`` equal parts."""
    log_survival = np.log1p(-(np.arange(size) + 0.5) / size)
    if abs(k) < 1e-12:
        return -scale * log_survival
    return scale * np.expm1(-k * log_survival) / k


def _shape_of_tail(largest: np.ndarray) -> float:
    x = largest - largest[-1]
    cutoff = _cutoff(x[0])
    tail = np.exp(x[x > cutoff + 1e-10]) - math.exp(cutoff)  # nearer than rounding is equal
    if len(tail) == 0:
        return 0.0
    if len(tail) < 5:
        return math.inf
    return _fit(tail)[0]


def _fit(x: np.ndarray) -> tuple[float, float]:
    """Shape and scale by Zhang and Stephens, with the weak prior of Vehtari et al.,
    for ascending exceedances.
    """
    size = len(x)
    count = 30 + int(math.sqrt(size))
    theta = 1 / x[-1] + (1 - np.sqrt(count / (np.arange(1, count + 1) - 0.5))) / (
        3 * x[int(size / 4 + 0.5) - 1]
    )
    shape = np.log1p(-theta[:, None] * x).mean(1)
    # at 0: exponential
    scale = np.where(theta == 0, x.mean(), -shape / np.where(theta == 0, 1.0, theta))
    log_likelihood = size * (-np.log(scale) - shape - 1)
    weight = np.exp(log_likelihood - log_likelihood.max())
    mean = float((theta * weight).sum() / weight.sum())
    raw = float(np.log1p(-mean * x).mean())
    k = (size * raw + 10 * 0.5) / (size + 10)
    return k, float(x.mean()) if mean == 0 else -raw / mean


__all__ = ["ENOUGH_FOR_K", "GOOD_K", "k_of_largest", "pareto_k", "pareto_smooth", "tail_length"]
